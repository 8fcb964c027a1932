"""The end of a model: announced, paid back, settled, retired."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from ledger import chart, database
from ledger import services as ledger
from marketplace import access, errors, listings, retiring, training
from marketplace.models import ListedModel, Notification, PassRefund
from tests.marketplace.pages.world import call, fund, settle
from tests.shop import OPEN, measured, nothing_is_wrong, person, published, trained, wallet_nano

DAY = timedelta(days=1)


@pytest.fixture
def model(books, settings) -> ListedModel:
    """Devi's model: a pass of 10 days for 2 OPEN, which Dan bought; no calls are owed."""
    settings.REVIEW_UNDO_S = 0
    fund(books, person("devi"), 10)
    fund(books, person("dan"), 10)
    version = trained(
        books, published({"alice": measured(10)}), access_mode="pass", pass_price_nano=2 * OPEN, pass_days=10
    )
    access.buy_pass(version.model, buyer=person("dan"))
    books.fold()
    return version.model


def announce(model: ListedModel, **terms) -> ListedModel:
    return retiring.announce(model, by=person("devi"), **terms)


def carry_out(after: timedelta = timedelta(0)) -> int:
    return retiring.carry_out(timezone.now() + after)


LAST = timedelta(seconds=retiring.LAST_CALLS_S + 1)


def test_a_model_retires_once_its_last_epoch_is_paid_and_its_pools_are_empty(books, model):
    call(model.versions.get(), person("dan"))
    announce(model)

    assert carry_out(LAST) == 0, "its pools hold what a pass, a call and a training paid"
    settle(books, epochs_later=1)
    assert carry_out() == 0, "a call that began before may still be charged"
    assert carry_out(LAST) == 1
    assert carry_out(LAST) == 0

    model.refresh_from_db()
    assert (model.retired_at is not None, model.listed_at) == (True, None)
    for source in ("calls", "access", "training"):
        assert ledger.balance_nano(chart.pool(model.pk, source, "data")) == 0
    assert Notification.objects.filter(user=person("devi"), kind="model_retired").count() == 1
    assert nothing_is_wrong()


def test_a_running_pass_gets_back_the_part_of_its_time_that_is_left(books, model):
    sold = model.accesses.get()
    announce(model, on=sold.starts_at + 4 * DAY)
    assert ledger.balance(chart.wallet(person("devi").pk)).held_nano == 2 * OPEN * 6 // 10
    before = {name: wallet_nano(person(name)) for name in ("devi", "dan")}

    for _again in range(2):
        carry_out(4 * DAY)

    books.fold()
    books.log()
    assert PassRefund.objects.get().amount_nano == 1_200_000_000
    assert wallet_nano(person("dan")) - before["dan"] == 1_200_000_000
    assert wallet_nano(person("devi")) == before["devi"], "it was held from the announcement on"
    assert ledger.open_holds(chart.wallet(person("devi").pk)) == []
    sold.refresh_from_db()
    assert sold.ends_at == sold.starts_at + 4 * DAY
    assert nothing_is_wrong()


def test_from_its_day_on_a_retiring_model_takes_no_calls(books, model):

    announce(model)
    model.refresh_from_db()

    assert not access.may_call(person("dan"), model)
    assert not access.may_call(person("devi"), model)
    listed = "SELECT count(*) FROM gateway_models WHERE model_id = %s"
    assert database.value(listed, model.pk) == 0, "what the gateway does not know it does not answer"


def test_once_announced_no_pass_is_sold_and_nothing_is_trained(books, model):
    announce(model, on=timezone.now() + DAY)
    fund(books, person("zoe"), 10)

    with pytest.raises(errors.NotReady):
        access.buy_pass(model, buyer=person("zoe"))
    with pytest.raises(errors.NotReady):
        training.request(model=model, by=person("devi"), versions=list(model.training_runs.get().versions.all()))
    assert access.may_call(person("dan"), model), "until its day"


def test_an_announcement_needs_the_money_that_running_passes_get_back(books, model):
    poor = ledger.balance_nano(chart.wallet(person("devi").pk)) - OPEN
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.ADJUSTMENT,
        reference="spent",
        moves=[ledger.Move(chart.wallet(person("devi").pk), chart.FEES, poor)],
    )

    with pytest.raises(ledger.InsufficientFunds):
        announce(model)
    model.refresh_from_db()
    assert model.retire_from is None


def test_an_announcement_can_be_taken_back_until_its_day(books, model):
    announce(model, on=timezone.now() + DAY)
    with pytest.raises(errors.NotReady):
        announce(model)
    retiring.call_off(model, by=person("devi"))
    assert ledger.open_holds(chart.wallet(person("devi").pk)) == []

    announce(model)
    with pytest.raises(errors.NotReady):
        retiring.call_off(model, by=person("devi"))
    with pytest.raises(errors.NotReady):
        listings.list_model(ListedModel.objects.get(pk=model.pk), by=person("devi"))


def test_only_its_owner_retires_a_model_and_not_in_the_past(books, model):
    for act in (lambda: retiring.announce(model, by=person("dan")), lambda: retiring.call_off(model, by=person("dan"))):
        with pytest.raises(errors.NotAllowed):
            act()
    with pytest.raises(errors.Invalid):
        announce(model, on=timezone.now() - DAY)
    with pytest.raises(IntegrityError), transaction.atomic():
        ListedModel.objects.filter(pk=model.pk).update(retired_at=timezone.now())
