"""The outbox: work that must follow a commit.

A row is written in the transaction of its cause and marked done in the transaction of its effect; in between the
relay rings for it, again and again. Topics are names of tasks, constants of the app that consumes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger import database
from ledger.models import Outbox


@dataclass(frozen=True)
class OutboxRow:
    """A row that is not done. `rung` counts deliveries, `failures` what the consumer reported."""

    topic: str
    reference: str
    payload: dict
    created_at: datetime
    due_at: datetime
    rung: int
    failures: int
    last_failure: str


def enqueue(*, topic: str, reference: str, payload: dict) -> bool:
    """Ask for work after this transaction's commit. Returns False if it was asked for before, even if done since."""
    said = database.as_json([{"topic": topic, "reference": reference, "payload": payload}])
    return database.value("SELECT ledger_enqueue(%s)", said) == 1


def outbox_payload(topic: str, reference: str) -> dict | None:
    """Read what the work needs; None if it is unknown or done: then there is nothing to do."""
    found = Outbox.objects.filter(topic=topic, reference=reference, done_at=None)
    return found.values_list("payload", flat=True).first()


def outbox_done(topic: str, reference: str) -> bool:
    """Mark work as done; call it in the transaction of its effect. Returns False if it was done before.

    The row is locked until that transaction ends, so of two consumers of one row the second waits and gets False.
    """
    return database.value("SELECT ledger_outbox_done(%s, %s)", topic, reference)


def outbox_failed(topic: str, reference: str, reason: str) -> int:
    """Count a failure and keep its reason (1,000 characters). Returns the failures so far."""
    return database.value("SELECT ledger_outbox_failed(%s, %s, %s)", topic, reference, reason)


def pending_outbox(topic: str | None = None) -> list[OutboxRow]:
    """List what is not done, oldest first."""
    found = Outbox.objects.filter(done_at=None, **({"topic": topic} if topic else {})).order_by("created_at", "id")
    return [
        OutboxRow(o.topic, o.reference, o.payload, o.created_at, o.due_at, o.rung, o.failures, o.last_failure)
        for o in found
    ]


def take_due(limit: int) -> list[tuple[str, str]]:
    """For the relay: take (topic, reference) of what is due, and set when it is due again."""
    return database.rows("SELECT topic, reference FROM ledger_ring(%s)", limit)
