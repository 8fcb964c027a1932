"""Locks of the ledger, each shown without luck: everybody waits behind one lock, then it is let go."""

from __future__ import annotations

from functools import partial

import pytest

from ledger import chart, database, sequencer, verify
from ledger import services as ledger
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
