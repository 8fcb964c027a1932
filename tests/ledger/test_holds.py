"""Holds: set aside, draw, close. A call's hold is drawn once, a gateway's lease thousands of times."""

from __future__ import annotations

import pytest

from ledger import chart, sequencer, verify
from ledger import services as ledger
from tests.ledger.builders import ALICE, BOB, DAN, hold, payment


def test_what_is_held_cannot_be_spent_otherwise(books):
    books.deposit(DAN, 100)
    lease = hold(DAN, 70)

    with pytest.raises(ledger.InsufficientFunds):
        ledger.post_many([payment(DAN, ALICE, 31)])
    with pytest.raises(ledger.InsufficientFunds):
        hold(DAN, 31)

    assert ledger.balance(DAN) == ledger.Balance(30, 70, 100, 0)
    assert [(h.id, h.amount_nano, h.drawn_nano) for h in ledger.open_holds(DAN)] == [(lease, 70, 0)]
    assert verify.failures() == []


def test_a_lease_is_drawn_many_times_and_the_rest_released(books):
    books.deposit(DAN, 100)
    lease = hold(DAN, 70)

    ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 10)), ledger.Draw(lease, payment(DAN, BOB, 20))])
    ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 5))])

    assert ledger.close(lease) == 35
    assert ledger.close(lease) == 0, "closing twice releases once"
    assert ledger.balance(DAN) == ledger.Balance(65, 0, 100, 35)
    books.fold()
    assert (ledger.balance_nano(ALICE), ledger.balance_nano(BOB)) == (15, 20)
    assert verify.failures() == []


def test_a_calls_hold_is_drawn_and_closed_in_one_statement(books):
    books.deposit(DAN, 100)
    reserve = hold(DAN, 70)
    call = payment(DAN, ALICE, 40)

    assert ledger.draw([ledger.Draw(reserve, call, close=True)]) == {call.id}

    assert ledger.open_holds(DAN) == []
    assert ledger.balance(DAN) == ledger.Balance(60, 0, 100, 40)
    assert ledger.draw([ledger.Draw(reserve, call, close=True)]) == set(), "a repeat after the close draws nothing"
    assert ledger.balance(DAN) == ledger.Balance(60, 0, 100, 40)


def test_nothing_is_drawn_above_the_hold(books):
    books.deposit(DAN, 100)
    lease = hold(DAN, 50)
    ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 30))])

    with pytest.raises(ledger.HoldExceeded) as refused:
        ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 15)), ledger.Draw(lease, payment(DAN, ALICE, 6))])

    assert refused.value.detail["left_nano"] == 20
    assert ledger.balance(DAN) == ledger.Balance(50, 20, 100, 30)
    assert ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 20))])


def test_a_hold_pays_only_for_its_own_account_and_only_while_open(books):
    books.deposit(DAN, 100)
    books.deposit(BOB, 100)
    lease = hold(DAN, 50)

    with pytest.raises(ledger.NotAccountOfHold):
        ledger.draw([ledger.Draw(lease, payment(BOB, ALICE, 1))])
    with pytest.raises(ledger.HoldUnknown):
        ledger.draw([ledger.Draw(ledger.new_id(), payment(DAN, ALICE, 1))])
    ledger.close(lease)
    with pytest.raises(ledger.HoldClosed):
        ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 1))])
    with pytest.raises(ledger.HoldUnknown):
        ledger.close(ledger.new_id())

    assert ledger.balance_nano(BOB) == ledger.balance_nano(DAN) == 100


def test_a_draw_is_repeated_without_harm_two_days_later(books):
    books.deposit(DAN, 100)
    lease = hold(DAN, 50)
    draws = [ledger.Draw(lease, payment(DAN, ALICE, 10)) for _ in range(3)]
    ledger.draw(draws[:2])
    ledger.close(lease)

    assert ledger.draw(draws[:2]) == set()
    with pytest.raises(ledger.HoldClosed):
        ledger.draw(draws)
    assert ledger.post_many([draws[2].posting]) == {draws[2].posting.id}, "what was not drawn is posted"

    assert ledger.balance(DAN) == ledger.Balance(70, 0, 100, 30)
    assert verify.failures() == []


def test_a_lease_takes_what_there_is_if_that_is_enough(books):
    books.deposit(DAN, 60)
    id = ledger.new_id()
    wanted = {"id": id, "account": DAN, "amount_nano": 100, "at_least_nano": 50, "expires_in_s": 60}

    assert ledger.hold(**wanted) == 60
    assert ledger.hold(**wanted) == 60, "a repeat returns the first result"
    with pytest.raises(ledger.PayloadMismatch):
        ledger.hold(**{**wanted, "amount_nano": 101})
    with pytest.raises(ledger.InsufficientFunds):
        ledger.hold(**{**wanted, "id": ledger.new_id()})

    assert ledger.balance(DAN) == ledger.Balance(0, 60, 60, 0)


def test_a_hold_grows_and_lives_longer(books):
    books.deposit(DAN, 100)
    lease = hold(DAN, 40)
    before = ledger.open_holds(DAN)[0].expires_at

    assert ledger.extend(lease, amount_nano=90, expires_in_s=600) == 90
    assert ledger.extend(lease, amount_nano=90) == 90, "the amount is a total, so a repeat changes nothing"
    with pytest.raises(ledger.InsufficientFunds):
        ledger.extend(lease, amount_nano=101)
    with pytest.raises(ledger.BadAmount):
        ledger.extend(lease, amount_nano=89)

    assert ledger.open_holds(DAN)[0].expires_at > before
    assert ledger.balance(DAN) == ledger.Balance(10, 90, 100, 0)
    ledger.close(lease)
    with pytest.raises(ledger.HoldClosed):
        ledger.extend(lease, amount_nano=95)


def test_expired_holds_are_released_by_the_servers_clock(books):
    books.deposit(DAN, 100)
    hold(DAN, 40, expires_in_s=1)
    living = hold(DAN, 30)
    with books.connect("DATABASE_SUPERUSER_URL") as session:
        session.cursor().execute("UPDATE ledger_hold SET expires_at = clock_timestamp() WHERE amount_nano = 40")

    assert sequencer.expire() == 1
    assert sequencer.expire() == 0

    assert [h.id for h in ledger.open_holds(DAN)] == [living]
    assert ledger.balance(DAN) == ledger.Balance(70, 30, 100, 0)


def test_a_dead_process_is_fenced(books):
    books.deposit(DAN, 100)
    dead = hold(DAN, 10, owner="gateway-1", generation=1)
    living = hold(DAN, 10, owner="gateway-1", generation=2)
    other = hold(DAN, 10, owner="gateway-2", generation=1)

    assert ledger.close_holds_of(owner="gateway-1", below_generation=2) == 1

    assert {h.id for h in ledger.open_holds(DAN)} == {living, other}
    with pytest.raises(ledger.HoldClosed):
        ledger.draw([ledger.Draw(dead, payment(DAN, ALICE, 1))])


@pytest.mark.parametrize(
    "wrong", [{"amount_nano": 0}, {"amount_nano": -1}, {"expires_in_s": 0}, {"at_least_nano": 11}, {"at_least_nano": 0}]
)
def test_holds_that_make_no_sense_are_refused(books_of_module, wrong):
    books_of_module.deposit(DAN, 10)
    with pytest.raises(ledger.BadAmount):
        ledger.hold(**{"id": ledger.new_id(), "account": DAN, "amount_nano": 10, "expires_in_s": 5, **wrong})


def test_nothing_is_held_of_an_account_that_is_not_in_the_chart_or_that_is_made_of_lots(books_of_module):
    with pytest.raises(ledger.UnknownAccount):
        hold("walet:4", 1)
    with pytest.raises(ledger.LotUnavailable):
        hold(chart.pending(4), 1)
    with pytest.raises(ledger.InsufficientFunds):
        hold(chart.wallet(99), 1)
