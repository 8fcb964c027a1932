"""One bell rings for many rows: each is done once, by itself, whoever dies, fails or comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from threading import Barrier

import pytest
from django.db import transaction

from ledger import outbox, sequencer
from ledger import services as ledger
from tests.books import at_once
from tests.processes import ROOT

TOPIC = "tests.deliver"
LONG_S = 60.0


@pytest.fixture
def bell(books) -> list[str]:
    """Four rows of one topic, and their bell."""
    references = [f"call:{number}" for number in range(4)]
    for reference in references:
        ledger.enqueue(topic=TOPIC, reference=reference, payload={})
    return references


@pytest.fixture
def rung(monkeypatch) -> list[list[str]]:
    """What is sent to the queue from within `ledger.outbox`, bell by bell."""
    sent: list[list[str]] = []
    monkeypatch.setattr(outbox, "ring", lambda topic, references: sent.append(list(references)))
    return sent


def waiting() -> list[str]:
    return sorted(row.reference for row in ledger.pending_outbox(TOPIC))


def finish(done: list[str], reference: str) -> None:
    """What every consumer does: look whether there is anything to do, do it, mark it in the transaction of its effect."""
    if ledger.outbox_payload(TOPIC, reference) is None:
        return
    with transaction.atomic():
        ledger.outbox_done(TOPIC, reference)
    done.append(reference)


def test_one_bell_rings_for_twenty_rows_of_one_topic(books):
    for number in range(45):
        ledger.enqueue(topic=TOPIC, reference=f"call:{number}", payload={})
    ledger.enqueue(topic="tests.other", reference="epoch:1", payload={})
    bells: list[tuple[str, list[str]]] = []

    assert sequencer.relay(ring=lambda topic, references: bells.append((topic, references))) == 46

    assert sorted((topic, len(references)) for topic, references in bells) == [
        *((TOPIC, count) for count in (5, 20, 20)),
        ("tests.other", 1),
    ]
    assert sorted(one for topic, references in bells if topic == TOPIC for one in references) == waiting()


def test_a_bell_rung_twice_does_nothing_twice(bell):
    done: list[str] = []

    for _ in range(2):
        assert ledger.consume(TOPIC, bell, partial(finish, done), share_after_s=LONG_S) == 4

    assert (done, waiting()) == (bell, [])


def test_two_workers_with_the_same_bell_share_its_rows(bell):
    """Fails without the lock of a row in consume (tests/mutations.py): both would be at the first one."""
    done: list[str] = []
    begun: list[str] = []
    both = Barrier(2)

    def act(reference: str) -> None:
        begun.append(reference)
        if len(begun) <= 2:
            both.wait(20)  # each is at a row before either ends one
        finish(done, reference)

    at_once(*[lambda: ledger.consume(TOPIC, bell, act, share_after_s=LONG_S)] * 2)

    assert len(set(begun[:2])) == 2, "both were at one row"
    assert (sorted(done), waiting()) == (bell, [])


def test_a_row_that_always_fails_keeps_no_other_waiting(bell):
    """Fails when consume lets what a row raises pass (tests/mutations.py)."""
    done: list[str] = []

    def act(reference: str) -> None:
        if reference == "call:1":
            with transaction.atomic():
                ledger.outbox_done(TOPIC, reference)
                raise RuntimeError("no such artifact")
        finish(done, reference)

    for _ in range(3):
        ledger.consume(TOPIC, bell, act, share_after_s=LONG_S)

    assert done == ["call:0", "call:2", "call:3"]
    [row] = ledger.pending_outbox(TOPIC)
    assert (row.reference, row.failures, row.last_failure) == ("call:1", 3, "RuntimeError: no such artifact")


def test_a_worker_killed_between_the_rows_of_a_bell_loses_none_of_them(books, bell):
    # Given a worker that is killed in the transaction of the third row's effect
    worker = """
import os, signal, sys
import django; django.setup()
from django.db import transaction
from ledger import services as ledger
def act(reference):
    with transaction.atomic():
        ledger.outbox_done("tests.deliver", reference)
        if reference == "call:2":
            os.kill(os.getpid(), signal.SIGKILL)
ledger.consume("tests.deliver", sys.argv[1:], act, share_after_s=60)
"""
    environment = {"DATABASE_URL": books.url("DATABASE_APP_URL"), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    ended = subprocess.run([sys.executable, "-c", worker, *bell], cwd=ROOT, env=os.environ | environment)
    assert ended.returncode == -signal.SIGKILL

    # Then what it had done is done, and the rest is done when the bell rings again
    assert waiting() == ["call:2", "call:3"]
    done: list[str] = []
    ledger.consume(TOPIC, bell, partial(finish, done), share_after_s=LONG_S)
    assert (done, waiting()) == (["call:2", "call:3"], [])


def test_a_bell_is_shared_out_after_a_row_that_took_long(bell, rung):
    done: list[str] = []

    def act(reference: str) -> None:
        if reference == "call:1":
            time.sleep(2)
        finish(done, reference)

    assert ledger.consume(TOPIC, bell, act, share_after_s=2) == 3

    assert (done, rung) == (["call:0", "call:1", "call:2"], [["call:3"]])


def test_rows_that_all_take_long_are_shared_out_before_the_first(bell, rung):
    assert ledger.consume(TOPIC, bell, partial(finish, []), share_after_s=0) == 1

    assert sorted(rung) == [["call:1"], ["call:2"], ["call:3"]]


def test_who_cannot_share_a_bell_out_does_it_all(bell, monkeypatch):
    def dead(topic: str, references: list[str]) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(outbox, "ring", dead)
    done: list[str] = []

    ledger.consume(TOPIC, bell, partial(finish, done), share_after_s=0)

    assert (done, waiting()) == (bell, [])
