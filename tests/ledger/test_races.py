"""Races, with real connections released together by a barrier, on rows that exist.

docs/ledger.md names, for each of these tests, the line of SQL without which it fails.
"""

from __future__ import annotations

from functools import partial

import pytest
from django.db import OperationalError, connection, transaction

from ledger import chart, database, locks, sequencer, verify
from ledger import services as ledger
from ledger.legs import batch
from tests.books import at_once
from tests.ledger.builders import ALICE, BOB, DAN, hold, payment


@pytest.fixture
def books(books):
    """Books in which every account exists: opening one makes all who want it wait, and nothing would race."""
    database.rows("SELECT ledger_open(%s)", [ALICE, BOB, DAN, chart.FEES, chart.pending(1)])
    return books


def new_ones(results) -> int:
    """How many postings were new; anything but a result or a refusal fails the test."""
    unexpected = [
        result for result in results if isinstance(result, Exception) and not isinstance(result, ledger.LedgerError)
    ]
    assert unexpected == []
    return sum(len(result) for result in results if isinstance(result, set))


@pytest.mark.parametrize("warm", [True, False], ids=["granted", "to be pulled"])
def test_two_payers_of_one_wallet_cannot_both_spend_its_last_money(books, warm):
    books.deposit(DAN, 101)
    if warm:  # the credit was pulled before, so only the short way is taken
        ledger.post_many([payment(DAN, BOB, 1)])
    else:
        books.deposit(BOB, 1)
    payments = [payment(DAN, ALICE, 10) for _ in range(16)]

    results = at_once(*(partial(ledger.post_many, [one]) for one in payments))

    assert new_ones(results) == 10, "a wallet for 10 calls pays exactly 10"
    assert ledger.balance_nano(DAN) == (0 if warm else 1)
    books.fold()
    assert verify.failures() == []


def test_one_posting_sent_by_many_at_once_is_booked_once(books):
    books.deposit(DAN, 1000)
    once = payment(DAN, ALICE, 10)

    results = at_once(*[partial(ledger.post_many, [once])] * 12)

    assert new_ones(results) == 1
    assert not any(isinstance(result, Exception) for result in results)
    assert ledger.balance_nano(DAN) == 990


def test_one_reference_under_two_ids_is_booked_once(books):
    books.deposit(DAN, 1000)

    results = at_once(*(partial(ledger.post_many, [payment(DAN, ALICE, 10, reference="call:7")]) for _ in range(8)))

    assert new_ones(results) == 1
    assert sum(isinstance(result, ledger.ReferenceTaken) for result in results) == 7
    assert ledger.balance_nano(DAN) == 990


def test_batches_with_the_same_ids_in_another_order_do_not_deadlock(books):
    books.deposit(DAN, 1000)
    books.deposit(BOB, 1000)
    postings = [payment(account, ALICE, 1).said() for account in (DAN, BOB) for _ in range(400)]
    # Written beforehand: what Python does for a batch would let the sessions start one after the other.
    orders = [database.as_json(batch(order)) for order in (postings, postings[::-1]) * 3]

    results = at_once(*(partial(database.rows, "SELECT ledger_post(%s)", order) for order in orders))

    assert [result for result in results if isinstance(result, Exception)] == []
    assert sum(len(result) for result in results) == 800
    assert (ledger.balance_nano(DAN), ledger.balance_nano(BOB)) == (600, 600)


def test_leases_taken_at_once_never_exceed_the_wallet(books):
    books.deposit(DAN, 100)

    results = at_once(*[partial(hold, DAN, 30)] * 8)

    assert sum(isinstance(result, ledger.InsufficientFunds) for result in results) == 5
    assert len(ledger.open_holds(DAN)) == 3
    assert ledger.balance(DAN) == ledger.Balance(10, 90, 100, 0)


def test_leases_that_take_what_there_is_share_the_wallet(books):
    books.deposit(DAN, 100)
    asked = {"account": DAN, "amount_nano": 60, "at_least_nano": 1, "expires_in_s": 60}

    results = at_once(*(partial(ledger.hold, id=ledger.new_id(), **asked) for _ in range(8)))

    assert sorted(result for result in results if isinstance(result, int)) == [40, 60]
    assert ledger.balance_nano(DAN) == 0


def test_one_hold_asked_for_twice_at_once_is_taken_once(books):
    books.deposit(DAN, 100)
    asked = {"id": ledger.new_id(), "account": DAN, "amount_nano": 30, "expires_in_s": 60}

    assert at_once(*[partial(ledger.hold, **asked)] * 6) == [30] * 6
    assert ledger.balance(DAN) == ledger.Balance(70, 30, 100, 0)


def test_draws_at_once_never_exceed_the_hold(books):
    books.deposit(DAN, 1000)
    lease = hold(DAN, 50)

    results = at_once(*(partial(ledger.draw, [ledger.Draw(lease, payment(DAN, ALICE, 10))]) for _ in range(9)))

    assert new_ones(results) == 5
    assert sum(isinstance(result, ledger.HoldExceeded) for result in results) == 4
    assert ledger.balance(DAN) == ledger.Balance(950, 0, 1000, 50)
    books.fold()
    assert verify.failures() == []


def test_batches_that_draw_for_the_same_payers_do_not_deadlock(books):
    # Four gateways, each with leases of its own on the same two wallets, taken in either order.
    books.deposit(DAN, 1000)
    books.deposit(BOB, 1000)
    leases = [[(account, hold(account, 100)) for account in order] for order in ((DAN, BOB), (BOB, DAN)) * 2]

    def draw_often(own):
        return [
            ledger.draw([ledger.Draw(lease, payment(account, ALICE, 1)) for account, lease in own]) for _ in range(40)
        ]

    results = at_once(*(partial(draw_often, own) for own in leases))

    assert [result for result in results if isinstance(result, Exception)] == []
    assert (ledger.balance(DAN).held_nano, ledger.balance(BOB).held_nano) == (240, 240)


@pytest.mark.parametrize("end", ["expire", "close", "fence"])
def test_a_hold_is_drawn_or_ended_never_both_ways(books, end):
    books.deposit(DAN, 100)
    leases = [hold(DAN, 10, owner="gateway", generation=1) for _ in range(6)]
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute("UPDATE ledger_hold SET expires_at = clock_timestamp()")
    ends = {
        "expire": [sequencer.expire] * 6,
        "close": [partial(ledger.close, lease) for lease in leases],
        "fence": [partial(ledger.close_holds_of, owner="gateway", below_generation=2)] * 6,
    }[end]

    results = at_once(*(partial(ledger.draw, [ledger.Draw(lease, payment(DAN, ALICE, 10))]) for lease in leases), *ends)
    sequencer.expire()

    drawn = new_ones(results[:6])
    assert drawn + sum(isinstance(result, ledger.HoldClosed) for result in results[:6]) == 6
    assert ledger.balance(DAN) == ledger.Balance(100 - 10 * drawn, 0, 100, 10 * drawn)
    books.fold()
    assert verify.failures() == []


def test_two_pulls_at_once_grant_a_credit_once(books):
    # Under REPEATABLE READ two concurrent pulls once granted 2000 of 1000.
    books.deposit(DAN, 1000)

    def spend_all(one):
        with transaction.atomic():
            database.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            ledger.balance(DAN)  # takes the snapshot before the barrier's other side commits
            return ledger.post_many([one])

    results = at_once(*(partial(spend_all, payment(DAN, ALICE, 1000)) for _ in range(4)))

    refused = [result for result in results if isinstance(result, ledger.InsufficientFunds | OperationalError)]
    assert (sum(isinstance(result, set) for result in results), len(refused)) == (1, 3)
    assert ledger.balance(DAN) == ledger.Balance(0, 0, 1000, 1000)
    books.fold()
    assert verify.failures() == []


def test_an_account_opened_by_many_at_once_is_opened_once(books):
    books.deposit(DAN, 1000)
    new = [chart.wallet(number) for number in range(50, 56)]

    def pay(order):
        return ledger.post_many([payment(DAN, account, 1) for account in order])

    results = at_once(*(partial(pay, order) for order in (new, new[::-1]) * 4))

    assert new_ones(results) == 48
    books.fold()
    assert [ledger.balance_nano(account) for account in new] == [8] * 6
    assert verify.failures() == []


def test_a_late_committer_is_not_skipped_by_the_fold(books):
    # A writer takes its transaction id first and commits last; a cut at the largest id would lose its legs.
    books.deposit(DAN, 100)
    early = books.connect()
    early.cursor().execute("SELECT pg_current_xact_id()")
    try:
        ledger.post_many([payment(DAN, ALICE, 10)])
        fact = ledger.Entry("rule.adopted", {"rule": "r", "parts": []})
        ledger.record_fact(id=ledger.new_id(), reference="rule:1", entry=fact)
        assert sequencer.fold() == sequencer.log() - 1 == 0, "the deposit is logged, nothing else while it is open"
        early.cursor().execute("SELECT ledger_post(%s)", [database.as_json(batch([payment(DAN, BOB, 20).said()]))])
        assert sequencer.fold() == sequencer.log() == 0
        early.commit()
    finally:
        early.close()

    assert (sequencer.fold(), sequencer.log()) == (2, 3)
    assert (ledger.balance_nano(ALICE), ledger.balance_nano(BOB)) == (10, 20)
    assert verify.failures() == []


def test_two_sequencers_at_once_fold_and_log_everything_once(books):
    books.deposit(DAN, 1000)
    for _ in range(5):
        ledger.post_many([payment(DAN, chart.pending(1), 1, vest_after_s=0) for _ in range(20)])

    def work():
        return [(sequencer.fold(7), sequencer.log(7), sequencer.vest(7)) for _ in range(8)]

    results = at_once(*[work] * 4)
    assert [result for result in results if isinstance(result, Exception)] == []
    books.fold()
    while sequencer.vest() + books.fold() + books.log():
        pass

    assert ledger.balance_nano(ALICE) == 100
    assert verify.failures() == []


def test_heads_signed_at_once_never_differ(books):
    books.deposit(DAN, 1000)
    sequencer.log()

    results = at_once(*[sequencer.sign_and_witness] * 4)

    assert results == [0] * 4
    assert database.value("SELECT count(*) FROM ledger_checkpoint") == 1


def test_a_lot_is_vested_or_taken_never_both(books):
    books.deposit(DAN, 1000)
    made = [payment(DAN, chart.pending(1), 10, vest_after_s=0) for _ in range(8)]
    ledger.post_many(made)
    books.fold()
    refunds = [payment(chart.pending(1), DAN, 10, kind=ledger.Kind.REFUND, takes_from=one.id) for one in made]

    results = at_once(*(partial(ledger.post_many, [refund]) for refund in refunds), *[sequencer.vest] * 4)
    sequencer.vest()
    books.fold()

    assert all(isinstance(result, int) for result in results[8:]), "two rounds at once share the lots"
    taken = new_ones(results[:8])
    assert ledger.balance_nano(ALICE) == 80 - 10 * taken
    assert ledger.balance_nano(chart.pending(1)) == 0
    assert verify.failures() == []


def test_only_one_sequencer_has_the_lock(books):
    with locks.only_one("sequencer") as first:
        (second,) = at_once(lambda: locks.only_one("sequencer").__enter__())
        assert (first, second) == (True, False)
    (third,) = at_once(lambda: locks.only_one("sequencer").__enter__())
    assert third
    assert connection.connection is not None
