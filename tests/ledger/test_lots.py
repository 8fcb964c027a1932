"""Lots: earnings wait for their challenge window, and what is disputed waits longer."""

from __future__ import annotations

import pytest

from ledger import chart, sequencer, verify
from ledger import services as ledger
from tests.ledger.builders import ALICE, DAN, payment

PENDING = chart.pending(1)


def earn(books, amount_nano: int, *, vest_after_s: int = 0) -> ledger.Posting:
    """Alice earns; the credit is folded."""
    made = payment(DAN, PENDING, amount_nano, vest_after_s=vest_after_s)
    ledger.post_many([made])
    books.fold()
    return made


def test_earnings_vest_when_their_window_ends(books):
    books.deposit(DAN, 100)
    earn(books, 30)
    earn(books, 12)
    later = earn(books, 50, vest_after_s=3600)

    assert [lot.open_nano for lot in ledger.pending_of(PENDING)] == [30, 12, 50]
    assert sequencer.vest() == 2
    assert sequencer.vest() == 0, "a lot vests once"
    books.fold()

    assert ledger.balance_nano(ALICE) == 42
    assert ledger.balance_nano(PENDING) == 50
    assert [(lot.posting_id, lot.state) for lot in ledger.pending_of(PENDING)] == [(later.id, "pending")]
    vestings = {lot.vesting_id for lot in ledger.pending_of(PENDING, all=True) if lot.state == "vested"}
    assert [ledger.posting_of(id).moves for id in vestings] == [(ledger.Move(PENDING, ALICE, 42),)], "one per round"
    assert verify.failures() == []


def test_a_lot_on_hold_does_not_vest_until_released(books):
    books.deposit(DAN, 100)
    made = earn(books, 30)
    (lot,) = ledger.lots_of(made.id)

    assert ledger.hold_lot(lot.id, reason="theft dispute 7", by="user:5")
    (held,) = ledger.pending_of(PENDING)
    assert (held.state, held.hold_reason, held.held_by) == ("held", "theft dispute 7", "user:5")
    assert sequencer.vest() == 0
    assert ledger.release_lot(lot.id, by="user:5")
    assert not ledger.release_lot(lot.id, by="user:5")
    assert sequencer.vest() == 1
    assert not ledger.hold_lot(lot.id, reason="too late", by="user:5")
    books.fold()
    assert verify.failures() == []


def test_a_hold_on_a_lot_ends_by_itself_at_its_time(books):
    books.deposit(DAN, 100)
    (lot,) = ledger.lots_of(earn(books, 30).id)

    ledger.hold_lot(lot.id, reason="until noon", by="user:5", until=lot.due_at)

    assert ledger.pending_of(PENDING)[0].state == "pending"
    assert sequencer.vest() == 1


def test_a_refund_takes_from_the_lot_it_came_from(books):
    books.deposit(DAN, 100)
    made = earn(books, 30)
    ledger.post_many([payment(PENDING, DAN, 20, kind=ledger.Kind.REFUND, takes_from=made.id)])

    (lot,) = ledger.lots_of(made.id)
    assert (lot.open_nano, lot.taken_nano, lot.state) == (10, 20, "pending")
    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(PENDING, DAN, 11, kind=ledger.Kind.REFUND, takes_from=made.id)])
    sequencer.vest()
    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(PENDING, DAN, 1, kind=ledger.Kind.REFUND, takes_from=made.id)])
    books.fold()

    assert (ledger.balance_nano(ALICE), ledger.balance_nano(DAN), ledger.balance_nano(PENDING)) == (10, 90, 0)
    assert verify.failures() == []


def test_a_lot_that_was_taken_whole_never_vests(books):
    books.deposit(DAN, 100)
    made = earn(books, 30)
    refund = payment(PENDING, DAN, 30, kind=ledger.Kind.REFUND, takes_from=made.id)

    ledger.post_many([refund])
    ledger.post_many([refund])

    assert sequencer.vest() == 0
    assert ledger.pending_of(PENDING) == []
    assert [lot.state for lot in ledger.pending_of(PENDING, all=True)] == ["taken"]
    books.fold()
    assert verify.failures() == []


def test_nobody_takes_from_a_pending_account_past_its_lots(books):
    books.deposit(DAN, 100)
    made = earn(books, 30)

    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(PENDING, DAN, 5)])
    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(PENDING, ALICE, 5, kind=ledger.Kind.VESTING)])
    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(DAN, ALICE, 5, takes_from=made.id)])
    with pytest.raises(ledger.LotUnavailable):
        ledger.post_many([payment(PENDING, DAN, 5, takes_from=ledger.new_id())])


def test_a_batch_that_vests_nothing_due_does_nothing(books):
    books.deposit(DAN, 100)
    earn(books, 30, vest_after_s=7 * 86400)

    assert sequencer.vest() == 0
    assert ledger.balance_nano(PENDING) == 30
