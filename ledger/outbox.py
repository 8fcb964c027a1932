"""The outbox: work that must follow a commit.

A row is written in the transaction of its cause and marked done in the transaction of its effect; in between the
relay rings for it, again and again. Topics are names of tasks, constants of the app that consumes them; a task gets the
references of some rows and hands them to `consume`.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from kombu.exceptions import OperationalError as BrokerError

from ledger import database
from ledger.locks import only_one
from ledger.models import Outbox

logger = logging.getLogger(__name__)

#: One message of the queue rings for at most so many rows.
ROWS_A_BELL = 20
#: What `ring` raises while the broker does not answer.
BROKER_IS_AWAY = (BrokerError, OSError)


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
    # Not asked for `done_at IS NULL`: see `ledger_outbox_done`.
    found = Outbox.objects.filter(topic=topic, reference=reference).values_list("payload", "done_at").first()
    return None if found is None or found[1] else found[0]


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


def bells(due: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Put rows (topic, reference) into as few bells as there may be: of one topic each, ROWS_A_BELL rows at most."""
    by_topic: dict[str, list[str]] = defaultdict(list)
    for topic, reference in due:
        by_topic[topic].append(reference)
    for topic, references in by_topic.items():
        for first in range(0, len(references), ROWS_A_BELL):
            yield topic, references[first : first + ROWS_A_BELL]


def ring(topic: str, references: Sequence[str]) -> None:
    """Send the topic's task with these references. Raises BROKER_IS_AWAY."""
    from celery import current_app

    # Nobody reads a result; waiting for a place to put one would stop all money while Redis is away. To ask for no retry
    # is not enough: the connection of `retry=False` is tried for six seconds. A policy of none reaches it as well.
    current_app.send_task(topic, [list(references)], retry=True, retry_policy={"max_retries": 0}, ignore_result=True)


def consume(topic: str, references: Sequence[str], act: Callable[[str], object], *, share_after_s: float) -> int:
    """Do the rows of one bell, each by itself: what a task of the outbox does, and all it does.

    A row that somebody else is at is left to them. One that fails is counted with its reason and rung again by its
    back-off; the others are done. Who dies in between has done what was done: the rest is rung again. Rows may be done
    in any order, by whom and how often they are rung for.

    Args:
        references: What was rung for. Rows that are done or unknown are the act's to leave alone.
        act: Called with a reference, outside any transaction. It reads `outbox_payload` (None: there is nothing to do)
            and calls `outbox_done` in the transaction of its effect.
        share_after_s: After a row that took so long the bell is shared out: whoever is free gets what is left, a bell
            for each row. 0: every row takes long, so it is shared out before the first one.

    Returns:
        How many rows were tried.
    """
    waiting, tried, took_s, is_shared = list(references), 0, 0.0, False
    while waiting:
        if took_s >= share_after_s and len(waiting) > 1 and not is_shared:
            waiting, is_shared = _shared_out(topic, waiting), True
        reference, began = waiting.pop(0), time.monotonic()
        with only_one(f"outbox {topic} {reference}") as mine:
            if mine:
                tried += 1
                _try(topic, reference, act)
        took_s = time.monotonic() - began
    return tried


def _shared_out(topic: str, references: list[str]) -> list[str]:
    """Ring for each row but the first by itself. Returns what is left to do here: more, if the broker is away."""
    first, *others = references
    while others:
        try:
            ring(topic, [others[-1]])
        except BROKER_IS_AWAY as error:
            logger.warning("the broker does not answer (%s); %s rows of %s are done here", error, len(others), topic)
            break
        others.pop()
    return [first, *others]


def _try(topic: str, reference: str, act: Callable[[str], object]) -> None:
    try:
        act(reference)
    except Exception as problem:  # whatever it is, the rows behind it are not to blame
        logger.exception("%s failed with %s", topic, reference)
        outbox_failed(topic, reference, f"{type(problem).__name__}: {problem}")
