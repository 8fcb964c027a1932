"""What the clients of bench/faults.py do: plans that follow from the seed, every statement repeatable.

Postings, batches of two payers, holds that are drawn and closed, a poor wallet that all of them want, and orders: a row of
the business, its posting and what must follow it, in one transaction; then the effect with its done mark, in another.
"""

from __future__ import annotations

import itertools
import os
import random
import time
import uuid
from pathlib import Path
from typing import NamedTuple

CLIENTS = 4
EXAMINED = CLIENTS  # one more, whose acts are all orders, each of which dies at another statement
WALLETS = 5  # per client
POOR, POOR_NANO = 99, 200
RICH_NANO = 10**12
AGAIN = 3  # acts that who starts again repeats
PLAN = uuid.UUID("8c3f57a2-3f4e-4d0e-9b39-0d1f0f8f5a11")
POOL = "pool:00000000-0000-0000-0000-000000000001:calls:data"
TOPIC = "faults.deliver"

# The business: its own table, which knows nothing of the books.
ORDERS = "CREATE TABLE faults_order (id uuid PRIMARY KEY, deliveries int NOT NULL DEFAULT 0)"
TORN = """SELECT reference, o.deliveries, j.id IS NOT NULL, b.is_done
          FROM (SELECT 'order:' || id AS reference, deliveries FROM faults_order) o
          FULL JOIN (SELECT reference, id FROM ledger_journal WHERE kind = 'access_charged') j USING (reference)
          FULL JOIN (SELECT reference, done_at IS NOT NULL AS is_done FROM ledger_outbox WHERE topic = %s) b USING (reference)
          WHERE j.id IS NULL OR o.deliveries IS NULL OR o.deliveries IS DISTINCT FROM b.is_done::int"""


class Act(NamedTuple):
    """One act of a plan: its postings, as {id: (payer, {target: nano})}, and the hold that they are drawn from, if any."""

    kind: str
    postings: dict[uuid.UUID, tuple[str, dict[str, int]]]
    hold_id: uuid.UUID | None


def act_of(seed: str, client: int, number: int) -> Act:
    """What a client does in its n-th act. The same again, whoever asks."""
    chance = random.Random(f"{seed}:{client}:{number}")
    made = (uuid.uuid5(PLAN, f"{seed}:{client}:{number}:{part}") for part in itertools.count())
    own = [f"wallet:{client * WALLETS + n + 1}" for n in range(WALLETS)]
    kind = chance.choices(["post", "batch", "hold", "poor", "order"], [50, 10, 20, 10, 10])[0]
    if client == EXAMINED:
        kind = "order"
    payers = chance.sample(own, 2) if kind == "batch" else [f"wallet:{POOR}" if kind == "poor" else chance.choice(own)]
    postings = {}
    for payer in payers:
        targets = {"platform:fees": chance.randrange(1, 50), POOL: chance.randrange(1, 500)}
        targets[f"pending:{chance.randrange(1, 20)}"] = chance.randrange(1, 500)
        postings[next(made)] = (payer, {"platform:fees": 1} if kind == "poor" else targets)
    return Act(kind, postings, next(made) if kind == "hold" else None)


def fill_wallets() -> None:
    """Give every wallet its money."""
    from ledger import chart, sequencer
    from ledger import services as ledger

    for number in (*range(1, (CLIENTS + 1) * WALLETS + 1), POOR):
        id, nano = ledger.new_id(), POOR_NANO if number == POOR else RICH_NANO
        moves = [ledger.Move(chart.WORLD, chart.wallet(number), nano)]
        ledger.post(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves)
    while sequencer.fold():
        pass


def do(act: Act) -> str:
    """One act, every statement of it under an id that makes it repeatable."""
    from ledger import services as ledger

    postings = [
        ledger.Posting(
            id=id,
            kind=ledger.Kind.ACCESS_CHARGED if act.kind == "order" else ledger.Kind.CALL_CHARGED,
            reference=f"order:{id}" if act.kind == "order" else f"call:{id}",
            moves=[ledger.Move(payer, target, nano) for target, nano in targets.items()],
            vest_after_s=int(act.kind != "order") if any(target.startswith("pending:") for target in targets) else None,
        )
        for id, (payer, targets) in act.postings.items()
    ]
    try:
        if act.kind == "order":
            _order(postings[0])
        elif act.hold_id is None:
            ledger.post_many(postings)
        else:
            payer = postings[0].moves[0].source
            ledger.hold(id=act.hold_id, account=payer, amount_nano=5000, expires_in_s=3600, owner="faults")
            ledger.draw([ledger.Draw(act.hold_id, postings[0])])
            ledger.close(act.hold_id)
    except ledger.InsufficientFunds:
        return "refused"
    return "posted"


def torn() -> list[str]:
    """Orders without all that stands or falls with them, in one snapshot: none, whenever this is asked."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(TORN, [TOPIC])
        return [
            f"{reference} was delivered {deliveries} times, {'' if is_paid else 'not '}paid, its bell is {is_done}"
            for reference, deliveries, is_paid, is_done in cursor.fetchall()
        ]


def work(seed: str, client: int, acks: Path, stop: Path) -> None:
    """Go on with a plan until there is a stop file, noting each act that is done."""
    from django.db import InterfaceError, OperationalError, connection

    done = len(acks.read_bytes().split(b"\n")) - 1 if acks.exists() else 0
    noted = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number, is_new = max(0, done - AGAIN), True
    while not stop.exists():
        try:
            if is_new:
                note(acks, torn())
                is_new = False
            outcome = do(act_of(seed, client, number))
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.05)
            continue
        if number >= done:
            os.write(noted, f"{outcome}\n".encode())
        number += 1


def note(acks: Path, wrong: list[str]) -> None:
    """Keep what is seen to be wrong before anybody repairs it."""
    with acks.with_suffix(".wrong").open("a") as file:
        file.writelines(f"{sentence}\n" for sentence in wrong)


def _order(posting) -> None:
    from django.db import connection, transaction

    from ledger import services as ledger

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO faults_order (id) VALUES (%s) ON CONFLICT DO NOTHING", [posting.id])
        ledger.post_many([posting])
        ledger.enqueue(topic=TOPIC, reference=posting.reference, payload={"order": str(posting.id)})
    with transaction.atomic(), connection.cursor() as cursor:
        if ledger.outbox_done(TOPIC, posting.reference):
            cursor.execute("UPDATE faults_order SET deliveries = deliveries + 1 WHERE id = %s", [posting.id])
    assert ledger.outbox_payload(TOPIC, posting.reference) is None
