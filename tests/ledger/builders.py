"""What the ledger's tests say often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import requests

from ledger import chart, keys, witness
from ledger import services as ledger
from tests.processes import start_on_a_port

ALICE, BOB, DAN = chart.wallet(1), chart.wallet(2), chart.wallet(4)


def payment(source: str, target: str, amount_nano: int, **more) -> ledger.Posting:
    """A posting of one move."""
    id = more.pop("id", None) or ledger.new_id()
    return ledger.Posting(
        id=id,
        kind=more.pop("kind", ledger.Kind.ADJUSTMENT),
        reference=more.pop("reference", f"test:{id}"),
        moves=[ledger.Move(source, target, amount_nano)],
        **more,
    )


def hold(account: str, amount_nano: int, **more):
    """A hold; returns its id."""
    id = ledger.new_id()
    ledger.hold(id=id, account=account, amount_nano=amount_nano, expires_in_s=more.pop("expires_in_s", 60), **more)
    return id


def charge_entry(price_nano: int, *, developer: str = ALICE) -> ledger.Entry:
    """A log entry with committed fields and a split."""
    parts = [("platform:fees", "platform", price_nano // 2), (developer, "developer", price_nano - price_nano // 2)]
    return ledger.Entry(
        type="access.charged",
        public=dict.fromkeys(_public_fields("access.charged"), "x"),
        private={"buyer": "user:4", "price": str(price_nano)},
        split=[{"payee": payee, "role": role, "item": "", "amount": str(part)} for payee, role, part in parts],
    )


def _public_fields(type: str) -> tuple[str, ...]:
    from ledger import commitments

    return commitments.ENTRY_TYPES[type].public


@contextmanager
def witnesses(folder: Path, count: int = 3) -> Iterator[list[dict]]:
    """Real witnesses on loopback ports; yields what settings.WITNESSES holds."""
    running, told = [], []
    for number in range(count):
        made = witness.Witness(state=folder / f"w{number}", name=f"witness{number}.example", log_vkeys=keys.log_vkeys())
        server = witness.serve(made, host="127.0.0.1", port=0)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((made, server, thread))
        told.append({"url": f"http://127.0.0.1:{server.server_address[1]}", "vkey": made.key.verifier.encode()})
    try:
        yield told
    finally:
        for made, server, thread in running:
            server.shutdown()
            server.server_close()
            thread.join(10)
            made.close()


@contextmanager
def witness_processes(folder: Path, count: int = 2) -> Iterator[list[dict]]:
    """The same, each as the process that a site runs."""
    running, told = [], []
    try:
        for number in range(count):
            name = f"witness{number}.example"
            arguments = ["--state", str(folder / name), "--name", name, "--log-vkey", *keys.log_vkeys()]
            process, port = start_on_a_port(["ledger.witness", *arguments], environment={}, is_up=_is_up)
            running.append(process)
            told.append({"url": f"http://127.0.0.1:{port}", "vkey": _health(port)["vkey"]})
        yield told
    finally:
        for process in running:
            process.terminate()
            process.wait(20)


def _is_up(_process: object, port: int) -> bool:
    try:
        return _health(port)["status"] == "ok"
    except requests.ConnectionError:
        return False


def _health(port: int) -> dict:
    return requests.get(f"http://127.0.0.1:{port}/health", timeout=10).json()
