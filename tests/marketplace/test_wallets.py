import pytest
from django.db import IntegrityError, transaction

from ledger import chart
from ledger import services as ledger
from marketplace import payouts, wallets
from marketplace import verify as shop_verify
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import Deposit, PayoutRun
from tests.books import at_once
from tests.shop import OPEN, fund, person, wallet_nano


def admin(name: str):
    return person(name, is_staff=True)


def ready_to_withdraw(books, handle: str = "alice", amount_open: int = 10):
    """Somebody with money and a place to send it."""
    user = person(handle)
    fund(books, user, amount_open)
    wallets.set_destination(user, kind="bank", details="DE89 3704 0044 0532 0130 00")
    return user


def sent_run(books) -> PayoutRun:
    """A run with one item of Alice's that two admins approved and sent."""
    run = payouts.create_run(by=admin("erin"))
    books.fold()
    payouts.approve_run(run, by=admin("erin"))
    payouts.approve_run(run, by=admin("frank"))
    return payouts.mark_sent(PayoutRun.objects.get(pk=run.pk), by=admin("erin"))


def test_a_deposit_recorded_by_an_admin_can_be_spent(books):
    wallets.record_deposit(user=person("dan"), amount_nano=5 * OPEN, external_reference="bank 1", by=admin("erin"))
    books.fold()

    assert wallet_nano(person("dan")) == 5 * OPEN


def test_an_outside_reference_counts_once(books):
    wallets.record_deposit(user=person("dan"), amount_nano=OPEN, external_reference="bank 1", by=admin("erin"))

    with pytest.raises(Invalid):
        wallets.record_deposit(user=person("dan"), amount_nano=OPEN, external_reference=" bank 1", by=admin("erin"))


def test_only_an_admin_records_deposits(books):
    with pytest.raises(NotAllowed):
        wallets.record_deposit(user=person("dan"), amount_nano=OPEN, external_reference="bank 1", by=person("dan"))


def test_a_large_deposit_waits_for_a_second_admin(books, settings):
    settings.DEPOSIT_SINGLE_MAX_NANO = OPEN
    deposit = wallets.record_deposit(
        user=person("dan"), amount_nano=2 * OPEN, external_reference="bank 1", by=admin("erin")
    )
    books.fold()
    assert wallet_nano(person("dan")) == 0

    with pytest.raises(NotAllowed):
        wallets.approve_deposit(deposit, by=admin("erin"))
    wallets.approve_deposit(deposit, by=admin("frank"))
    wallets.approve_deposit(deposit, by=admin("frank"))
    books.fold()

    assert wallet_nano(person("dan")) == 2 * OPEN


def test_the_database_refuses_a_deposit_approved_by_its_recorder(books):
    deposit = wallets.record_deposit(
        user=person("dan"), amount_nano=OPEN, external_reference="bank 1", by=admin("erin")
    )

    with pytest.raises(IntegrityError, match="deposit_is_approved_by_another"), transaction.atomic():
        Deposit.objects.filter(pk=deposit.pk).update(approved_by=admin("erin"))


def test_a_requested_withdrawal_is_held_and_comes_back_when_cancelled(books):
    alice = ready_to_withdraw(books)

    withdrawal = wallets.request_withdrawal(alice, amount_nano=4 * OPEN)
    assert (wallets.summary(alice).available_nano, wallets.summary(alice).held_nano) == (6 * OPEN, 4 * OPEN)
    wallets.cancel_withdrawal(withdrawal, by=alice)
    wallets.cancel_withdrawal(withdrawal, by=alice)

    assert (wallets.summary(alice).available_nano, wallets.summary(alice).held_nano) == (10 * OPEN, 0)


def test_nobody_withdraws_more_than_is_available(books):
    alice = ready_to_withdraw(books)
    wallets.request_withdrawal(alice, amount_nano=8 * OPEN)

    with pytest.raises(ledger.InsufficientFunds):
        wallets.request_withdrawal(alice, amount_nano=3 * OPEN)


def test_two_withdrawals_at_once_do_not_overdraw(books):
    alice = ready_to_withdraw(books)

    results = at_once(*[lambda: wallets.request_withdrawal(alice, amount_nano=6 * OPEN)] * 4)

    assert sum(isinstance(result, ledger.InsufficientFunds) for result in results) == 3
    assert wallets.summary(alice).held_nano == 6 * OPEN


def test_a_changed_destination_waits_before_it_counts(books, settings):
    settings.PAYOUT_CHANGE_WAIT_S = 86400
    alice = ready_to_withdraw(books)
    wallets.set_destination(alice, kind="bank", details="FR14 2004 1010 0505 0001 3M02 606")

    with pytest.raises(NotReady):
        wallets.request_withdrawal(alice, amount_nano=OPEN)


def test_a_payout_run_needs_two_different_admins(books):
    alice = ready_to_withdraw(books)
    wallets.request_withdrawal(alice, amount_nano=4 * OPEN)
    run = payouts.create_run(by=admin("erin"))
    books.fold()

    payouts.approve_run(run, by=admin("erin"))
    run = payouts.approve_run(run, by=admin("erin"))
    assert run.status == PayoutRun.Status.DRAFT
    with pytest.raises(NotReady):
        payouts.mark_sent(run, by=admin("erin"))
    run = payouts.approve_run(run, by=admin("frank"))

    assert run.status == PayoutRun.Status.APPROVED
    with pytest.raises(IntegrityError, match="two_different_approvers"), transaction.atomic():
        PayoutRun.objects.filter(pk=run.pk).update(second_approver=admin("erin"), first_approver=admin("erin"))


def test_a_withdrawal_in_a_run_cannot_be_cancelled(books):
    alice = ready_to_withdraw(books)
    withdrawal = wallets.request_withdrawal(alice, amount_nano=4 * OPEN)
    payouts.create_run(by=admin("erin"))

    with pytest.raises(NotReady):
        wallets.cancel_withdrawal(withdrawal, by=alice)


def test_a_confirmed_item_leaves_the_books_and_a_returned_one_comes_back(books):
    # Given two withdrawals in one sent run
    alice, bob = ready_to_withdraw(books), ready_to_withdraw(books, "bob")
    kept = wallets.request_withdrawal(alice, amount_nano=4 * OPEN)
    back = wallets.request_withdrawal(bob, amount_nano=3 * OPEN)
    run = sent_run(books)
    assert len(payouts.export_csv(run).splitlines()) == 3

    # When the first arrived, a second file for the bank pays only the other
    payouts.confirm_item(kept, by=admin("erin"))
    assert [line.split(",")[0] for line in payouts.export_csv(run).splitlines()[1:]] == [str(back.pk)]

    # When one arrives and one comes back, each reported twice
    for _twice in range(2):
        payouts.confirm_item(kept, by=admin("erin"))
        payouts.return_item(back, by=admin("erin"), reason="account closed")
        books.fold()

    # Then the run is closed and empty, and Bob has his money again
    run.refresh_from_db()
    assert run.status == PayoutRun.Status.CLOSED
    with pytest.raises(NotReady, match="nothing left to pay"):
        payouts.export_csv(run)
    assert ledger.balance_nano(chart.withdrawals(run.pk)) == 0
    assert (wallet_nano(alice), wallet_nano(bob)) == (6 * OPEN, 10 * OPEN)
    assert shop_verify.failures() == []
    with pytest.raises(NotReady):
        payouts.return_item(kept, by=admin("erin"), reason="too late")


def test_the_bank_file_holds_exact_amounts_and_no_formula(books):
    alice = person("alice")
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="wallet", details="=HYPERLINK(evil)")
    wallets.request_withdrawal(alice, amount_nano=1_234_567_891)
    run = sent_run(books)

    line = payouts.export_csv(run).splitlines()[1]

    assert "1.234567891,OPEN" in line
    assert ",'=HYPERLINK(evil)," in line
