"""Kill -9 clients, the sequencer and Postgres at random moments; afterwards nothing is lost, doubled or overdrawn.

    .venv/bin/python -m bench.faults --kills 300 --seed 1

Clients work through plans that follow from the seed: postings, batches of two payers, holds that are drawn and closed, and a
poor wallet that all of them want. They note what was acknowledged. Who was killed starts again and repeats its last acts
under their ids. At the end each acknowledged posting is in the journal once and as planned, no refused one is, nothing else
is there, `verify` finds nothing, and every posting has its leaf. Exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from bench.books import ROOT, Books, books

CLIENTS = 4
WALLETS = 5  # per client
POOR, POOR_NANO = 99, 200
RICH_NANO = 10**12
AGAIN = 3  # acts that who starts again repeats
PLAN = uuid.UUID("8c3f57a2-3f4e-4d0e-9b39-0d1f0f8f5a11")
POOL = "pool:00000000-0000-0000-0000-000000000001:calls:data"


class Act(NamedTuple):
    """One act of a plan: its postings, as {id: (payer, {target: nano})}, and the hold that they are drawn from, if any."""

    postings: dict[uuid.UUID, tuple[str, dict[str, int]]]
    hold_id: uuid.UUID | None


def act_of(seed: str, client: int, number: int) -> Act:
    """What a client does in its n-th act. The same again, whoever asks."""
    chance = random.Random(f"{seed}:{client}:{number}")
    made = (uuid.uuid5(PLAN, f"{seed}:{client}:{number}:{part}") for part in itertools.count())
    own = [f"wallet:{client * WALLETS + n + 1}" for n in range(WALLETS)]
    kind = chance.choices(["post", "batch", "hold", "poor"], [60, 10, 20, 10])[0]
    payers = chance.sample(own, 2) if kind == "batch" else [f"wallet:{POOR}" if kind == "poor" else chance.choice(own)]
    postings = {}
    for payer in payers:
        targets = {"platform:fees": chance.randrange(1, 50), POOL: chance.randrange(1, 500)}
        targets[f"pending:{chance.randrange(1, 20)}"] = chance.randrange(1, 500)
        postings[next(made)] = (payer, {"platform:fees": 1} if kind == "poor" else targets)
    return Act(postings, next(made) if kind == "hold" else None)


# --- A client


def work(seed: str, client: int, acks: Path, stop: Path) -> None:
    """Go on with a plan until there is a stop file, noting each act that is done."""
    import django

    django.setup()
    from django.db import InterfaceError, OperationalError, connection

    done = len(acks.read_bytes().split(b"\n")) - 1 if acks.exists() else 0
    noted = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = max(0, done - AGAIN)
    while not stop.exists():
        try:
            outcome = do(act_of(seed, client, number))
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.05)
            continue
        if number >= done:
            os.write(noted, f"{outcome}\n".encode())
        number += 1


def do(act: Act) -> str:
    """One act, every statement of it under an id that makes it repeatable."""
    from ledger import services as ledger

    postings = [
        ledger.Posting(
            id=id,
            kind=ledger.Kind.CALL_CHARGED,
            reference=f"call:{id}",
            moves=[ledger.Move(payer, target, nano) for target, nano in targets.items()],
            vest_after_s=1 if any(target.startswith("pending:") for target in targets) else None,
        )
        for id, (payer, targets) in act.postings.items()
    ]
    try:
        if act.hold_id is None:
            ledger.post_many(postings)
        else:
            payer = postings[0].moves[0].source
            ledger.hold(id=act.hold_id, account=payer, amount_nano=5000, expires_in_s=3600, owner="faults")
            ledger.draw([ledger.Draw(act.hold_id, postings[0])])
            ledger.close(act.hold_id)
    except ledger.InsufficientFunds:
        return "refused"
    return "posted"


# --- The run


class Run:
    """The processes, and who is killed."""

    def __init__(self, site: Books, folder: Path, seed: str) -> None:
        self.site, self.folder, self.seed = site, folder, seed
        self.stop = folder / "stop"
        self.environment = os.environ | {"DATABASE_URL": site.postgres.url(), "PYTHONPATH": str(ROOT)}
        self.clients = [self._client(number) for number in range(CLIENTS)]
        self.sequencer = self._sequencer()

    def acks(self, client: int) -> Path:
        return self.folder / f"acks{client}"

    def _client(self, number: int) -> subprocess.Popen:
        told = [self.seed, str(number), str(self.acks(number)), str(self.stop)]
        return subprocess.Popen([sys.executable, "-m", "bench.faults", "client", *told], cwd=ROOT, env=self.environment)

    def _sequencer(self) -> subprocess.Popen:
        command = [sys.executable, "manage.py", "sequencer"]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL)

    def kill_someone(self, chance: random.Random) -> str:
        victim = chance.choices(["client", "sequencer", "postgres"], [60, 25, 15])[0]
        if victim == "client":
            number = chance.randrange(CLIENTS)
            _kill(self.clients[number])
            self.clients[number] = self._client(number)
        elif victim == "sequencer":
            _kill(self.sequencer)
            self.sequencer = self._sequencer()
        else:
            _kill(self.site.postgres.process)
            self.site.postgres.restart()
        return victim

    def end(self) -> None:
        """Let the clients finish their acts and the sequencer everything that waits."""
        from django.db import connection

        from ledger import sequencer

        self.stop.touch()
        for one in self.clients:
            if one.wait(timeout=120):
                raise SystemExit("a client ended by an error")
        connection.close()  # of before the last crash
        give_up_at = time.monotonic() + 120
        while any(sequencer.lag()[name] for name in ("fold_rows", "log_rows")):
            if time.monotonic() > give_up_at:
                raise SystemExit("the sequencer does not come to an end")
            time.sleep(0.2)

    def kill_all(self) -> None:
        for one in (*self.clients, self.sequencer):
            _kill(one)


def judge(run: Run) -> tuple[list[str], int]:
    """Everything that is wrong, as sentences, and how many postings there are."""
    from ledger import verify
    from ledger.models import Hold, Journal, Leaf, LedgerAccount

    codes = dict(LedgerAccount.objects.values_list("id", "code"))
    journal = {
        row.id: (codes[row.accounts[0]], {codes[a]: n for a, n in zip(row.accounts[1:], row.amounts[1:], strict=True)})
        for row in Journal.objects.filter(kind="call_charged").iterator()
    }
    wrong, planned = [], set()
    for client in range(CLIENTS):
        outcomes = run.acks(client).read_text().split()
        for number, outcome in enumerate(outcomes):
            for id, posting in act_of(run.seed, client, number).postings.items():
                planned.add(id)
                if outcome == "posted" and journal.get(id) != posting:
                    wrong.append(f"{id} was acknowledged, the journal has {journal.get(id)}")
                if outcome == "refused" and id in journal:
                    wrong.append(f"{id} was refused, and stands in the journal")
        planned |= set(act_of(run.seed, client, len(outcomes)).postings)  # done, and killed before it was noted
    wrong += [f"{id} is in the journal, and in no plan" for id in journal.keys() - planned]
    spent_nano = sum(sum(targets.values()) for payer, targets in journal.values() if payer == f"wallet:{POOR}")
    if spent_nano > POOR_NANO:
        wrong.append(f"the poor wallet had {POOR_NANO} and paid {spent_nano}")
    wrong += [f"{hold} of a finished act is open" for hold in _open_holds(run, Hold)]
    wrong += [failure.sentence for failure in verify.failures()]
    if Leaf.objects.count() != Journal.objects.count():
        wrong.append(f"{Journal.objects.count()} postings have {Leaf.objects.count()} leaves")
    return wrong, len(journal)


def _open_holds(run: Run, holds) -> set[uuid.UUID]:
    finished = {
        act_of(run.seed, client, number).hold_id
        for client in range(CLIENTS)
        for number in range(len(run.acks(client).read_text().split()))
    }
    return finished & set(holds.objects.filter(closed_at=None).values_list("id", flat=True))


def fill_wallets() -> None:
    from ledger import chart, sequencer
    from ledger import services as ledger

    for number in (*range(1, CLIENTS * WALLETS + 1), POOR):
        id, nano = ledger.new_id(), POOR_NANO if number == POOR else RICH_NANO
        moves = [ledger.Move(chart.WORLD, chart.wallet(number), nano)]
        ledger.post(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves)
    while sequencer.fold():
        pass


def _kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", default="1")
    given = parser.parse_args()
    chance, killed = random.Random(given.seed), {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, books() as site, contextlib.ExitStack() as ended:
        fill_wallets()
        run = Run(site, Path(folder), given.seed)
        ended.callback(run.kill_all)
        time.sleep(2)
        for _ in range(given.kills):
            time.sleep(chance.uniform(0.0, 0.6))
            victim = run.kill_someone(chance)
            killed[victim] = killed.get(victim, 0) + 1
        run.end()
        wrong, count = judge(run)
    told = ", ".join(f"{number} of {victim}" for victim, number in sorted(killed.items()))
    print(f"seed {given.seed}: {given.kills} kills ({told}), {count} postings, {len(wrong)} wrong")
    print("\n".join(wrong[:20]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["client"]:
        work(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
    else:
        main()
