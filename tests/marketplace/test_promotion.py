"""The promotion wallet: money set aside for free calls, once per reference, and what is left of it back."""

import pytest
from django.db import IntegrityError, transaction

from ledger import chart
from ledger import services as ledger
from marketplace import listings, promotion
from marketplace.errors import Invalid, NotReady
from marketplace.models import AuditEvent, ListedModel, PromotionTransfer
from tests.datanets.races import race
from tests.shop import OPEN, fund, make_model, nothing_is_wrong, person, wallet_nano


def test_money_is_set_aside_for_free_calls_and_what_is_left_comes_back(books):
    devi = person("devi")
    fund(books, devi, 10)

    promotion.fund(devi, amount_nano=6 * OPEN, reference="spring")
    books.fold()
    assert (wallet_nano(devi), promotion.summary(devi).available_nano) == (4 * OPEN, 6 * OPEN)
    promotion.take_back(devi, amount_nano=2 * OPEN, reference="spring is over")
    books.fold()

    assert (wallet_nano(devi), promotion.summary(devi).available_nano) == (6 * OPEN, 4 * OPEN)
    acts = AuditEvent.objects.filter(actor=devi).order_by("at").values_list("act", "detail__amount_nano")
    assert list(acts) == [("fund_promotion", str(6 * OPEN)), ("take_back_promotion", str(2 * OPEN))]
    assert nothing_is_wrong()


def test_a_transfer_counts_once_per_reference(books):
    devi, dan = person("devi"), person("dan")
    fund(books, devi, 10)
    fund(books, dan, 10)

    first = promotion.fund(devi, amount_nano=OPEN, reference="spring")
    again = promotion.fund(devi, amount_nano=OPEN, reference=" spring ")
    somebody_else = promotion.fund(dan, amount_nano=OPEN, reference="spring")
    for wrong in (
        lambda: promotion.fund(devi, amount_nano=2 * OPEN, reference="spring"),
        lambda: promotion.take_back(devi, amount_nano=OPEN, reference="spring"),
        lambda: promotion.fund(devi, amount_nano=OPEN, reference=" "),
        lambda: promotion.fund(devi, amount_nano=0, reference="nothing"),
    ):
        with pytest.raises(Invalid):
            wrong()
    books.fold()

    assert again == first != somebody_else
    assert (wallet_nano(devi), promotion.summary(devi).available_nano) == (9 * OPEN, OPEN)


def test_two_requests_with_one_reference_that_meet_move_once(books):
    """Fails without the unique reference: both are moved."""
    devi = person("devi")
    fund(books, devi, 10)
    clicks = [lambda: promotion.fund(devi, amount_nano=OPEN, reference="spring")] * 2

    results = race(books, *clicks, behind="LOCK TABLE marketplace_promotiontransfer IN SHARE MODE")

    books.fold()
    assert [type(result) for result in results] == [PromotionTransfer] * 2
    assert results[0] == results[1]
    assert promotion.summary(devi).available_nano == OPEN


def test_nothing_is_moved_that_is_not_there(books):
    devi = person("devi")
    fund(books, devi, 1)

    with pytest.raises(ledger.InsufficientFunds):
        promotion.fund(devi, amount_nano=2 * OPEN, reference="spring")
    promotion.fund(devi, amount_nano=OPEN, reference="spring")  # the name is free, as nothing came of it
    books.fold()
    ledger.hold(id=ledger.new_id(), account=chart.promotion(devi.pk), amount_nano=1, expires_in_s=60)
    with pytest.raises(NotReady, match="running calls may hold a part"):
        promotion.take_back(devi, amount_nano=OPEN, reference="back")

    assert promotion.take_back(devi, amount_nano=OPEN - 1, reference="back")
    assert promotion.summary(devi) == promotion.Summary(available_nano=0, held_nano=1)


def test_free_calls_of_a_model_are_said_within_bounds_and_remembered(books):
    model = make_model()
    names = ("name", "purpose", "card", "access_mode", "pass_price_nano", "pass_days", "split_rule")
    as_it_is = {name: getattr(model, name) for name in names}

    assert model.free_calls_per_day == 0
    changed = listings.change_model(model, by=model.owner, free_calls_per_day=10, **as_it_is)

    assert changed == ["free_calls_per_day"]
    assert AuditEvent.objects.get(act="change_model").detail == {"free_calls_per_day": "10"}
    with pytest.raises(Invalid):
        listings.change_model(model, by=model.owner, free_calls_per_day=1001, **as_it_is)
    with pytest.raises(IntegrityError, match="free_calls_per_day_are_bounded"), transaction.atomic():
        ListedModel.objects.filter(pk=model.pk).update(free_calls_per_day=1001)
