"""Locks of the ledger, each shown without luck: everybody waits behind one lock, then it is let go."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import transaction

from ledger import chart, database, outbox, sequencer, verify
from ledger import services as ledger
from ledger.legs import batch
from ledger.models import LedgerAccount
from tests.datanets.races import race
from tests.ledger.builders import ALICE, BOB, DAN, hold, payment


@pytest.fixture
def books(books):
    """Books in which every account exists, so that nobody waits for an account to be opened."""
    database.rows("SELECT ledger_open(%s)", [ALICE, BOB, DAN, chart.FEES])
    return books


def test_who_waited_for_a_wallet_is_judged_by_what_is_left_in_it(books):
    """Fails when ledger_debit tests before it locks (tests/mutations.py): all four would have passed the test."""
    books.deposit(DAN, 21)
    ledger.post_many([payment(DAN, BOB, 1)])  # pulls the credit
    payments = [partial(ledger.post_many, [payment(DAN, ALICE, 10)]) for _ in range(4)]

    results = race(books, *payments, behind="SELECT FROM ledger_spend FOR UPDATE")

    assert sorted(type(result).__name__ for result in results) == ["InsufficientFunds"] * 2 + ["set"] * 2
    assert ledger.balance_nano(DAN) == 0
    books.fold()
    assert verify.failures() == []


def test_who_waited_for_a_hold_is_judged_by_what_is_left_of_it(books):
    """Fails without the row lock in ledger_draw (tests/mutations.py): all four would have read the whole hold."""
    books.deposit(DAN, 100)
    lease = hold(DAN, 20)
    draws = [partial(ledger.draw, [ledger.Draw(lease, payment(DAN, ALICE, 10))]) for _ in range(4)]

    results = race(books, *draws, behind="SELECT FROM ledger_hold FOR UPDATE")

    assert sorted(type(result).__name__ for result in results) == ["HoldExceeded"] * 2 + ["set"] * 2
    assert ledger.balance(DAN) == ledger.Balance(80, 0, 100, 20)


def test_two_folds_at_once_take_turns(books):
    """Fails without the lock of the cursor in ledger_fold (tests/mutations.py): both would fold the same posting."""
    books.deposit(DAN, 100)
    ledger.post_many([payment(DAN, ALICE, 10)])

    results = race(books, sequencer.fold, sequencer.fold, behind="SELECT FROM ledger_cursor FOR UPDATE")

    assert sorted(results, key=str) == [0, 1]
    assert verify.failures() == []


def test_batches_with_the_same_ids_in_another_order_wait_for_each_other(books):
    """Fails when ledger_book does not sort (tests/mutations.py): each would have booked what the other wants next."""
    for account in (DAN, BOB, ALICE):
        books.deposit(account, 10)
    low, middle, high = (payment(account, chart.FEES, 1) for account in (DAN, BOB, ALICE))

    results = race(
        books,
        partial(ledger.post_many, [low, middle, high]),
        partial(ledger.post_many, [high, middle, low]),
        behind=said("SELECT ledger_post('%s')", batch([middle.said()])),
    )

    assert sorted(results, key=len) == [set(), {low.id, high.id}]


@pytest.mark.parametrize("way", ["posted", "drawn"])
def test_batches_of_payers_that_others_pay_from_one_by_one_do_not_deadlock(books, way):
    """Fails without the order in which ledger_debit_many and ledger_draw lock payers (tests/mutations.py)."""
    low, high = BOB, DAN  # in the order of their ids
    for account in (low, high):
        books.deposit(account, 100)
    ledger.post_many([payment(high, chart.FEES, 1)])  # pulls; the other one's credit waits to be pulled
    if way == "drawn":
        leases = [(account, hold(account, 10)) for account in (low, high)]
        act = partial(ledger.draw, [ledger.Draw(lease, payment(account, ALICE, 1)) for account, lease in leases])
    else:
        act = partial(ledger.post_many, [payment(account, ALICE, 1) for account in (low, high)])

    def pay_one_by_one():
        with transaction.atomic():
            return ledger.post_many([payment(low, ALICE, 1)]) | ledger.post_many([payment(high, ALICE, 1)])

    results = race(
        books,
        act,
        partial(once_somebody_waits, pay_one_by_one),
        behind=f"SELECT FROM ledger_spend s JOIN ledger_account a ON a.id = s.account_id WHERE a.code = '{high}' FOR UPDATE OF s",
    )

    assert [len(result) for result in results] == [2, 2]
    assert (ledger.balance(low).debited_nano, ledger.balance(high).debited_nano) == (2, 3)


def test_a_lease_that_takes_what_there_is_waits_for_one_being_taken(books):
    """Fails when ledger_available only reads (tests/mutations.py): it would promise what is being taken."""
    books.deposit(DAN, 100)
    taken = f"SELECT ledger_hold('{ledger.new_id()}', '{DAN}', 60, 60, 60, '', 0)"
    asked = {"id": ledger.new_id(), "account": DAN, "amount_nano": 120, "at_least_nano": 1, "expires_in_s": 60}

    assert race(books, partial(ledger.hold, **asked), behind=taken) == [40]
    assert ledger.balance(DAN) == ledger.Balance(0, 100, 100, 0)


def test_who_raises_a_hold_twice_at_once_raises_it_once(books):
    """Fails without the row lock in ledger_extend (tests/mutations.py): both would add the difference to what they read."""
    books.deposit(DAN, 100)
    lease = hold(DAN, 20)

    results = race(
        books, *[partial(ledger.extend, lease, amount_nano=50)] * 2, behind="SELECT FROM ledger_hold FOR UPDATE"
    )

    assert results == [50, 50]
    assert ledger.balance(DAN) == ledger.Balance(50, 50, 100, 0)


def test_two_that_log_at_once_take_turns(books):
    """Fails without the lock of the cursor in ledger_next_entries (tests/mutations.py): both would make the same leaves."""
    books.deposit(DAN, 100)

    results = race(books, sequencer.log, sequencer.log, behind="SELECT FROM ledger_cursor FOR UPDATE")

    assert sorted(results, key=str) == [0, 1]
    assert verify.failures() == []


def test_two_that_sign_at_once_keep_one_head(books):
    """Fails without the lock of the cursor in ledger_sign (tests/mutations.py): both would find no head of this size."""
    books.deposit(DAN, 100)
    sequencer.log()

    results = race(books, *[sequencer.sign_and_witness] * 2, behind="LOCK TABLE ledger_checkpoint IN SHARE MODE")

    assert results == [0, 0]
    assert database.value("SELECT count(*) FROM ledger_checkpoint") == 1


def test_a_lot_that_is_being_taken_from_is_left_for_the_next_round(books):
    """Fails without the lock in ledger_vest (tests/mutations.py): the lot would vest as it was before."""
    books.deposit(DAN, 100)
    earned = payment(DAN, chart.pending(1), 10, vest_after_s=0)
    ledger.post_many([earned])
    books.fold()
    refund = payment(chart.pending(1), DAN, 4, kind=ledger.Kind.REFUND, takes_from=earned.id)

    with beside(books, said("SELECT ledger_post('%s')", batch([refund.said()]))):
        assert sequencer.vest() == 0

    assert sequencer.vest() == 1
    books.fold()
    assert ledger.balance_nano(ALICE) == 6
    assert verify.failures() == []


def test_two_relays_at_once_take_different_bells(books):
    """Fails without the lock in ledger_ring (tests/mutations.py): both would ring the same one."""
    for number in range(2):
        ledger.enqueue(topic="test", reference=f"call:{number}", payload={})

    with beside(books, "SELECT ledger_ring(1)"):
        assert outbox.take_due(2) == [("test", "call:1")]


def test_accounts_that_others_open_one_by_one_are_opened_once(books):
    """Fails when ledger_open does not sort, or finds an account that is being opened (tests/mutations.py)."""
    low, middle, high = (chart.wallet(number) for number in (50, 51, 52))
    open_ = "SELECT ledger_open(%s)"

    def open_one_by_one():
        with transaction.atomic():
            return [database.rows(open_, [account]) for account in (low, middle, high)]

    results = race(
        books,
        partial(database.rows, open_, [low, middle, high]),
        partial(once_somebody_waits, open_one_by_one),
        behind=f"SELECT ledger_open(ARRAY['{middle}'])",
    )

    assert [result for result in results if isinstance(result, Exception)] == []
    assert LedgerAccount.objects.filter(code__in=[low, middle, high]).count() == 3


# --- Arrangements


def said(statement: str, value: object) -> str:
    """A statement with a value as JSON in it."""
    return statement % database.as_json(value)


def once_somebody_waits(act):
    """Do something as soon as another session waits for a lock."""
    while not database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ):
        time.sleep(0.02)
    return act()


@contextmanager
def beside(books, statement: str):
    """Another session has done something and not committed it; whoever waits for it gets an error soon."""
    other = books.connect()
    other.cursor().execute(statement)
    database.rows("SET lock_timeout = '500ms'")
    try:
        yield
    finally:
        other.commit()
        other.close()
