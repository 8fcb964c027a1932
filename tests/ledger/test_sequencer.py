"""The sequencer's relay and its own watch: nothing asked for is forgotten, and what lags is seen."""

from __future__ import annotations

import pytest
from celery import Celery, current_app
from django.db import connection, transaction

from ledger import database, sequencer, verify
from ledger import services as ledger
from tests.books import at_once
from tests.ledger.builders import ALICE, DAN, payment

TOPIC = "attribution.tasks.trace_call"


def make_due(books) -> None:
    """Let the back-off pass."""
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute("UPDATE ledger_outbox SET due_at = clock_timestamp()")


def test_the_relay_rings_until_the_work_is_done(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={"artifact": "abc"})

    assert books.round()["relayed"] == 1
    assert books.round()["relayed"] == 0, "not again before the back-off"
    make_due(books)
    assert books.round()["relayed"] == 1
    assert books.rung == [(TOPIC, "call:1")] * 2
    (row,) = ledger.pending_outbox(TOPIC)
    assert (row.rung, row.payload) == (2, {"artifact": "abc"})

    assert ledger.outbox_done(TOPIC, "call:1")
    assert not ledger.outbox_done(TOPIC, "call:1")
    make_due(books)
    assert books.round()["relayed"] == 0
    assert ledger.outbox_payload(TOPIC, "call:1") is None
    assert not ledger.enqueue(topic=TOPIC, reference="call:1", payload={}), "done is done, a late replay asks in vain"


def test_the_back_off_grows_from_seconds_to_half_an_hour(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})
    waits = []
    for _ in range(7):
        sequencer.relay(ring=lambda topic, reference: None)
        waits.append(database.value("SELECT extract(epoch FROM due_at - clock_timestamp())::float FROM ledger_outbox"))
        make_due(books)

    assert waits == pytest.approx([5, 30, 120, 600, 1800, 1800, 1800], abs=2)


def test_an_effect_and_its_done_mark_stand_or_fall_together(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})

    with pytest.raises(RuntimeError), transaction.atomic():
        ledger.outbox_done(TOPIC, "call:1")
        raise RuntimeError("the worker was killed")

    assert ledger.outbox_payload(TOPIC, "call:1") == {}


def test_failures_are_counted_with_their_reason(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})

    assert [ledger.outbox_failed(TOPIC, "call:1", f"reason {number}") for number in range(3)] == [1, 2, 3]
    assert ledger.pending_outbox()[0].last_failure == "reason 2"
    assert ledger.outbox_failed(TOPIC, "call:2", "unknown") == 0


def test_a_row_of_a_transaction_that_rolled_back_is_never_rung(books):
    with pytest.raises(RuntimeError), transaction.atomic():
        ledger.enqueue(topic=TOPIC, reference="call:1", payload={})
        raise RuntimeError

    assert books.round()["relayed"] == 0


def test_a_dead_broker_loses_nothing(books):
    for number in range(3):
        ledger.enqueue(topic=TOPIC, reference=f"call:{number}", payload={})

    def dead(topic, reference):
        raise sequencer.BrokerError("connection refused")

    assert sequencer.relay(ring=dead) == 0
    assert len(ledger.pending_outbox()) == 3
    make_due(books)
    assert books.round()["relayed"] == 3


def test_a_broker_that_is_away_is_not_waited_for(books, monkeypatch):
    # The loop that rings also folds, vests and signs: it once stood still for six seconds a round.
    def refuse(seconds):
        raise AssertionError(f"it waits {seconds} s for the broker")

    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})
    monkeypatch.setattr("kombu.utils.functional.sleep", refuse)
    ours = current_app._get_current_object()
    Celery("away", broker="redis://127.0.0.1:1/0").set_current()
    try:
        assert sequencer.relay() == 0
    finally:
        ours.set_current()
    assert len(ledger.pending_outbox()) == 1


def test_two_relays_ring_each_row_once(books):
    for number in range(60):
        ledger.enqueue(topic=TOPIC, reference=f"call:{number}", payload={})
    rung = []

    at_once(
        *[lambda: [sequencer.relay(5, ring=lambda topic, reference: rung.append(reference)) for _ in range(12)]] * 3
    )

    assert sorted(rung) == sorted(f"call:{number}" for number in range(60))


def test_what_finished_work_needed_is_forgotten(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={"sealed": "a question", "sealed_key": "its key"})

    ledger.outbox_done(TOPIC, "call:1")

    with connection.cursor() as cursor:
        cursor.execute("SELECT payload::text FROM ledger_outbox")
        assert cursor.fetchall() == [("{}",)]


def test_two_consumers_of_one_row_cannot_both_finish_it(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})

    assert sorted(at_once(*[lambda: ledger.outbox_done(TOPIC, "call:1")] * 6)) == [False] * 5 + [True]


def test_the_lag_of_every_step_is_seen(books):
    books.deposit(DAN, 100)
    ledger.post_many([payment(DAN, ALICE, 1) for _ in range(3)])
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})

    lag = sequencer.lag()

    assert (lag["fold_rows"], lag["log_rows"], lag["outbox_rows"]) == (3, 4, 1)
    assert min(lag["fold_s"], lag["log_s"], lag["outbox_s"]) > 0
    books.round()
    ledger.outbox_done(TOPIC, "call:1")
    assert set(sequencer.lag().values()) == {0}


def test_what_is_late_is_an_error_in_the_log(books, caplog):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})
    assert sequencer.report_late() == []
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute("UPDATE ledger_outbox SET created_at = created_at - interval '11 minutes'")

    assert sequencer.report_late() == ["outbox_s"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "outbox is late" in caplog.text


def test_a_task_nobody_finishes_for_an_hour_is_a_failure(books):
    ledger.enqueue(topic=TOPIC, reference="call:1", payload={})
    assert verify.failures() == []
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute("UPDATE ledger_outbox SET created_at = created_at - interval '61 minutes'")

    (failure,) = verify.failures()

    assert (failure.invariant, failure.row) == ("I8", f"{TOPIC} call:1")


def test_an_idle_round_uses_up_no_transaction_id(books):
    books.deposit(DAN, 100)
    books.round()

    with transaction.atomic():
        for step in (sequencer.expire, sequencer.fold, sequencer.vest, sequencer.log, sequencer.relay):
            assert step() == 0
        assert database.value("SELECT pg_current_xact_id_if_assigned()::text") is None
