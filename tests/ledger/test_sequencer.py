"""The sequencer's relay and its own watch: nothing asked for is forgotten, and what lags is seen."""

from __future__ import annotations

import os
from contextlib import closing

import psycopg2
import pytest
from celery import Celery, current_app
from django.db import connection, transaction
from kombu.exceptions import OperationalError as BrokerError

from ledger import chart, database, sequencer, strict, verify
from ledger import services as ledger
from tests.books import at_once
from tests.ledger.builders import ALICE, DAN, hold, payment

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
        sequencer.relay(ring=lambda topic, references: None)
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

    def dead(topic, references):
        raise BrokerError("connection refused")

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
        *[lambda: [sequencer.relay(5, ring=lambda topic, references: rung.extend(references)) for _ in range(12)]] * 3
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


def test_an_open_write_in_another_database_is_reported_and_what_it_stalled_is_folded_after_it(books, caplog):
    books.deposit(DAN, 100)
    with closing(psycopg2.connect(os.environ["DATABASE_OWNER_URL"])) as elsewhere:
        elsewhere.cursor().execute("SELECT pg_current_xact_id()")  # what a first write takes
        ledger.post_many([payment(DAN, ALICE, 1)])
        _everything_was_booked_hours_ago(books)

        assert books.fold() == 0
        assert (sequencer.lag()["fold_rows"], ledger.balance_nano(ALICE)) == (1, 0)
        assert sequencer.report_late() == ["fold_s", "log_s"]
        assert "fold is late" in caplog.text

        elsewhere.rollback()
        assert books.fold() == 1
    books.log()
    assert (sequencer.report_late(), ledger.balance_nano(ALICE)) == ([], 1)
    assert verify.failures() == []


def test_after_hours_without_a_sequencer_some_rounds_do_all_of_it(books):
    """More than one round's work of each kind: credits, earnings that were due, holds that nobody closed."""
    people, leases = 1_200, 600
    books.deposit(DAN, 100_000)
    earnings = [
        ledger.Posting(
            id=ledger.new_id(),
            kind=ledger.Kind.ADJUSTMENT,
            reference=f"earned:{first}",
            moves=[ledger.Move(DAN, chart.pending(number), 5) for number in range(first, first + 100)],
            vest_after_s=60,
        )
        for first in range(10_000, 10_000 + people, 100)
    ]
    ledger.post_many([*earnings, *(payment(DAN, ALICE, 1) for _ in range(5_000))])
    for _ in range(leases):
        hold(DAN, 10)
    _everything_was_booked_hours_ago(books)
    left_nano = 100_000 - people * 5 - 5_000
    assert ledger.balance_nano(DAN) == left_nano - leases * 10

    rounds = [books.round() for _ in range(4)]

    assert {name: sum(one[name] for one in rounds) for name in ("expired", "vested")} == {
        "expired": leases,
        "vested": people,
    }
    assert rounds[0]["expired"] < leases and rounds[0]["folded"] < 5_000 + len(earnings), "one round was not enough"
    books.fold()
    books.log()
    wallets = ledger.balances([chart.wallet(number) for number in range(10_000, 10_000 + people)])
    assert {balance.available_nano for balance in wallets.values()} == {5}
    assert (ledger.balance_nano(ALICE), ledger.balance_nano(DAN), ledger.open_holds(DAN)) == (5_000, left_nano, [])
    assert sequencer.report_late() == []
    assert verify.failures() == []


def test_the_fold_goes_on_while_the_log_cannot(books):
    books.deposit(DAN, 100)
    books.log()
    ledger.record_fact(
        id=ledger.new_id(), reference="rule:1", entry=ledger.Entry("rule.adopted", {"rule": "r", "parts": []})
    )
    _edit(books, "UPDATE ledger_opening SET type = 'no.such.type' WHERE type = 'rule.adopted'")

    for paid_nano in (1, 2, 3):
        ledger.post_many([payment(DAN, ALICE, 1)])
        with pytest.raises(strict.Malformed, match="no entry type"):
            books.round()
        assert ledger.balance_nano(ALICE) == paid_nano
    assert (sequencer.lag()["fold_rows"], sequencer.lag()["log_rows"]) == (0, 4)

    _edit(books, "UPDATE ledger_opening SET type = 'rule.adopted' WHERE type = 'no.such.type'")
    assert books.round()["logged"] == 4
    assert verify.failures() == []


def _everything_was_booked_hours_ago(books) -> None:
    _edit(
        books,
        "UPDATE ledger_journal SET at = at - interval '6 hours';"
        "UPDATE ledger_hold SET opened_at = opened_at - interval '6 hours', expires_at = expires_at - interval '6 hours'",
    )


def _edit(books, statements: str) -> None:
    """As the superuser, whom no trigger stops."""
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute(f"SET LOCAL session_replication_role = replica; {statements}")


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
