"""Locks and unique facts of the shop, each shown without luck."""

from __future__ import annotations

from ledger import chart
from ledger import services as ledger
from marketplace import access, training, wallets
from marketplace.models import Deposit
from tests.datanets.races import race
from tests.shop import OPEN, fund, make_model, measured, person, published, trained, wallet_nano


def test_two_clicks_on_buy_that_meet_before_either_is_stored_sell_one_pass(books, settings):
    """Fails without the row lock in access.buy_pass: both see that no pass is running."""
    settings.REVIEW_UNDO_S = 0
    sold = {"access_mode": "pass", "pass_price_nano": 2 * OPEN, "pass_days": 7}
    model = trained(books, published({"alice": measured(6)}), **sold).model
    dan = person("dan")
    fund(books, dan, 10)
    clicks = [lambda: access.buy_pass(model, buyer=dan)] * 2

    results = race(books, *clicks, behind="LOCK TABLE marketplace_access IN SHARE MODE")

    assert sorted(type(result).__name__ for result in results) == ["Access", "NotReady"]
    assert wallet_nano(dan) == 8 * OPEN


def test_two_clicks_on_train_hold_one_fee(books, settings):
    """Fails without the row lock in training.request: both see that no run is waiting."""
    settings.REVIEW_UNDO_S = 0
    version = published({"alice": measured(6)}, fee_open=2)
    devi, model = person("devi"), make_model()
    fund(books, devi, 10)
    clicks = [lambda: training.request(model=model, by=devi, versions=[version])] * 2

    results = race(books, *clicks, behind="LOCK TABLE marketplace_trainingrun IN SHARE MODE")

    assert sorted(type(result).__name__ for result in results) == ["NotReady", "TrainingRun"]
    assert [hold.amount_nano for hold in ledger.open_holds(chart.wallet(devi.pk))] == [2 * OPEN]


def test_one_payment_recorded_by_two_admins_at_once_counts_once(books):
    """Fails without the unique outside reference of a deposit: both record it."""
    dan, admins = person("dan"), [person(name, is_staff=True) for name in ("erin", "frank")]

    def record(admin):
        return wallets.record_deposit(user=dan, amount_nano=OPEN, external_reference="bank 1", by=admin)

    acts = [lambda admin=admin: record(admin) for admin in admins]
    results = race(books, *acts, behind="LOCK TABLE marketplace_deposit IN SHARE MODE")

    assert sorted(type(result).__name__ for result in results) == ["Deposit", "Invalid"]
    books.fold()
    assert (Deposit.objects.count(), wallet_nano(dan)) == (1, OPEN)
