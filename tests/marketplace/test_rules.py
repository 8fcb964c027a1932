"""Split rules as public contracts: what another rule would have paid, and how a model comes to have one."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import psycopg2
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Sum
from django.test import override_settings
from django.utils import timezone

from attribution.models import Line
from attribution.shares import ROLES
from ledger import services as ledger
from marketplace import listings, proposals, refunds, rules, whatif
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import Call, ListedModel, Notification, RuleProposal, SplitRule
from marketplace.views.explanations import notification_sentence
from tests.datanets.cast import person
from tests.marketplace.pages.world import call, fund, settle, small_shop
from tests.shop import nothing_is_wrong, trained

GENEROUS = {"data": 6033, "curation": 967, "developer": 2500, "platform": 500, "owner": 0}
QUERY = {"rule-data": "60.33", "rule-curation": "9.67", "rule-developer": "25", "rule-platform": "5", "rule-owner": "0"}
ODD_PRICE = 24_000_007


@pytest.fixture(scope="module")
def shops(books_of_module):
    """Two models that are alike but for their rule, with the same calls over three epochs; a settled call of each went back."""
    books = books_of_module
    with override_settings(REVIEW_UNDO_S=0, CHALLENGE_WINDOW_S=7 * 86400):
        ours = small_shop(books)
        rule = rules.adopt(name="Generous", parts=GENEROUS, by=None)
        theirs = trained(books, ours.training_run.versions.get(), name="Generous", split_rule=rule)
        fund(books, person("dan"), 20)
        for version in (ours, theirs):
            listings.set_prices(
                version.model, by=person("devi"), price_call_nano=ODD_PRICE, price_in_nano=0, price_out_nano=3
            )
        settle(books, epochs_later=1)
        for number, radii in enumerate(((12.0, 22.0, 12.0), (13.0, 9.5), (14.0, 22.5)), start=2):
            for version in (ours, theirs):
                made = [call(version, person("dan"), radius=radius) for radius in radii]
                if number == 3:
                    went_back = made[0]
                    version.went_back = went_back
            settle(books, epochs_later=number)
            if number == 3:
                for version in (ours, theirs):
                    one = Call.objects.get(pk=version.went_back)
                    refunds.give_back(one, by=person("devi"), reason="It was cut.")
        yield ours, theirs


def booked(version, *, without=()) -> Counter:
    lines = Line.objects.filter(epoch__model_id=version.model_id, source="call").exclude(source_id__in=without)
    return Counter(dict(lines.order_by().values_list("payee").annotate(Sum("amount_nano"))))


def test_what_if_is_what_another_shop_with_that_rule_booked(shops):
    ours, theirs = shops

    found = whatif.by_person(ours.model, GENEROUS, now=timezone.now() + timedelta(days=5))

    kept, instead = booked(ours, without=[ours.went_back]), booked(theirs, without=[theirs.went_back])
    people = {payee for payee in kept | instead if payee is not None}
    assert {payee: found.changes[payee] for payee in people} == {
        payee: instead[payee] - kept[payee] for payee in people
    }
    assert found.unattributed_nano == instead[None] - kept[None]
    assert (found.charges, found.lose, found.gain) == (7 - 1, 0, 3)  # without the refund


def test_what_if_per_role_is_each_charge_split_again(shops):
    ours, theirs = shops

    found = whatif.by_role(ours.model, GENEROUS, now=timezone.now())

    def sums(version):
        calls = Call.objects.filter(model=version.model_id).exclude(pk=version.went_back)
        return calls.aggregate(**{role: Sum(f"{role}_nano") for role in ROLES})

    assert found.booked == sums(ours)
    assert found.instead == sums(theirs)
    assert found.charges == 6
    assert sum(found.booked.values()) == sum(found.instead.values()) == found.charged_nano


def test_the_rule_in_force_would_have_changed_nothing(shops):
    ours, _theirs = shops

    found = whatif.by_person(ours.model, ours.model.split_rule.parts, now=timezone.now() + timedelta(days=5))

    assert found.changes == {}
    assert found.same == 3


def test_a_page_tells_each_reader_their_own_difference_and_visitors_none(shops, client, settings):
    ours, _theirs = shops
    address = f"/en/models/{ours.model.path}/what-if/"

    visitor = client.get(address, QUERY).content.decode()
    assert "Sign in to see how many people" in visitor
    client.force_login(person("alice"))
    told = client.get(f"/api/v1/models/{ours.model.path}/what-if/", GENEROUS).json()
    alice = client.get(address, QUERY).content.decode()

    mine = whatif.by_person(ours.model, GENEROUS, now=timezone.now()).changes
    assert told["people"]["mine_nano"] == str(mine[person("alice").pk])
    assert f'value="{mine[person("alice").pk]}"' in alice
    others = [mine[person(name).pk] for name in ("bob", "carol")]
    assert not any(f'value="{nano}"' in alice or f'value="{nano}"' in visitor for nano in others if nano)
    assert "Propose this rule" not in alice
    assert client.get(address, QUERY | {"rule-data": "60"}).status_code == 422
    assert client.get(f"/api/v1/models/{ours.model.path}/what-if/", GENEROUS | {"data": 1}).status_code == 422


@pytest.mark.parametrize(("days", "said"), [(0, "next price list that you publish."), (1, "publish 1 day from now")])
def test_the_owner_reads_when_a_proposed_rule_would_take_effect(shops, client, settings, days, said):
    ours, _theirs = shops
    settings.RULE_LOCK_DAYS = days
    client.force_login(ours.model.owner)

    shown = client.get(f"/en/models/{ours.model.path}/what-if/", QUERY).content.decode()

    assert said in shown


def test_each_rule_has_a_public_page_with_the_models_that_use_it(shops, client):
    ours, theirs = shops
    rule = SplitRule.objects.get(models=theirs.model)

    shown = client.get(f"/en/rules/{rule.sha256}/").content.decode()

    assert rule.sha256 in shown
    assert theirs.model.path in shown
    assert ours.model.path not in shown
    assert client.get(f"/api/v1/rules/{rule.sha256}/").json()["parts"] == GENEROUS
    assert client.get("/en/rules/none/").status_code == 404


# --- A proposal


@pytest.fixture
def model(books, settings) -> ListedModel:
    """A model in use: listed, with a settled call."""
    settings.REVIEW_UNDO_S = 0
    settings.CHALLENGE_WINDOW_S = 7 * 86400
    settings.RULE_LOCK_DAYS = 7
    version = small_shop(books)
    fund(books, person("dan"), 10)
    call(version, person("dan"))
    settle(books, epochs_later=1)
    Notification.objects.all().delete()
    return version.model


def set_price(model: ListedModel, nano: int = 24_000_000):
    return listings.set_prices(model, by=model.owner, price_call_nano=nano, price_in_nano=0, price_out_nano=0)


def now_is_after_the_lock(model: ListedModel) -> None:
    RuleProposal.objects.filter(model=model).update(not_before=timezone.now() - timedelta(seconds=1))


def test_a_proposed_rule_holds_with_the_first_price_list_after_its_lock(model, books):
    before = call(model.versions.get(), person("dan"))
    proposal = proposals.propose(model, by=model.owner, parts=GENEROUS)
    assert proposal.not_before - proposal.proposed_at == timedelta(days=7)

    # A price list before the lock is over carries no rule
    set_price(model, 25_000_000)
    model.refresh_from_db()
    assert model.split_rule == rules.default_rule()

    # The first one after it does, also with the same prices
    now_is_after_the_lock(model)
    prices = set_price(model, 25_000_000)
    after = call(model.versions.get(), person("dan"))

    proposal.refresh_from_db()
    assert (proposal.price_list, proposal.adopted_at) == (prices, prices.effective_at)
    assert Call.objects.get(pk=before).split_rule == rules.default_rule()
    assert Call.objects.get(pk=after).split_rule.parts == GENEROUS
    assert model.terms.latest("adopted_at").split_rule.parts == GENEROUS
    books.fold()
    books.log()
    assert proposal.split_rule_id in {row.id for row in ledger.entries(0, 999, types=["rule.adopted"])}
    settle(books, epochs_later=2)
    assert nothing_is_wrong()
    with pytest.raises(NotReady):
        proposals.withdraw(proposal, by=model.owner)
    # And once it holds, the same price list is not published again
    assert set_price(model, 25_000_000) == prices


def test_those_whose_records_are_in_the_model_are_told_once_what_it_means_for_them(model):
    proposal = proposals.propose(model, by=model.owner, parts=GENEROUS)
    proposals.tell_waiting()
    proposals.tell_waiting()

    found = whatif.by_person(model, GENEROUS, now=timezone.now())
    lines = {line.user.username: line for line in Notification.objects.filter(kind="rule_proposed")}
    assert set(lines) == {"alice", "bob", "carol"}
    assert Notification.objects.count() == 3
    for line in lines.values():
        assert line.params["difference_nano"] == str(found.changes[line.user_id])
        assert line.params["old"] == rules.DEFAULT_PARTS
        said = notification_sentence(line)
        assert "contributors 35%" in said
        assert "contributors 60.33%" in said
    # And when it is withdrawn, they hear that
    proposals.withdraw(proposal, by=model.owner)
    proposals.withdraw(proposal, by=model.owner)
    assert Notification.objects.filter(kind="rule_withdrawn").count() == 3
    now_is_after_the_lock(model)
    set_price(model)
    model.refresh_from_db()
    assert model.split_rule == rules.default_rule()


def test_only_the_owner_proposes_one_other_rule_at_a_time(model, client):
    with pytest.raises(NotAllowed):
        proposals.propose(model, by=person("dan"), parts=GENEROUS)
    with pytest.raises(Invalid):
        proposals.propose(model, by=model.owner, parts=rules.DEFAULT_PARTS)
    with pytest.raises(Invalid):
        proposals.propose(model, by=model.owner, parts=GENEROUS | {"platform": 0})
    client.force_login(model.owner)
    client.post(f"/en/build/models/{model.pk}/rule/", QUERY)
    proposal = RuleProposal.objects.get()
    assert proposal.split_rule.parts == GENEROUS
    with pytest.raises(NotReady):
        proposals.propose(model, by=model.owner, parts=GENEROUS)
    with pytest.raises(NotAllowed):
        proposals.withdraw(proposal, by=person("dan"))
    shown = client.get(f"/en/models/{model.path}/rules/").content.decode()
    assert "Proposed split rule" in shown
    assert "Data contributors: 35% → 60.33%" in " ".join(re.sub(r"<[^>]+>", " ", shown).split())
    client.post(f"/en/build/models/{model.pk}/rule/", {"act": "withdraw", "proposal": proposal.pk})
    assert not RuleProposal.objects.open().exists()


def test_the_database_knows_when_a_rule_may_take_effect(model):
    proposal = proposals.propose(model, by=model.owner, parts=GENEROUS)
    prices = listings.prices_of(model)

    # Not before its lock is over, not without a price list, and not two at once
    for wrong in ({"adopted_at": timezone.now(), "price_list": prices}, {"price_list": prices}):
        with pytest.raises(IntegrityError, match="proposed_rule_takes_effect"), transaction.atomic():
            RuleProposal.objects.filter(pk=proposal.pk).update(**wrong)
    with pytest.raises(IntegrityError, match="model_has_one_open_rule_proposal"), transaction.atomic():
        RuleProposal.objects.create(
            model=model,
            split_rule=proposal.split_rule,
            instead_of=proposal.instead_of,
            proposed_by=model.owner,
            not_before=timezone.now(),
        )
    # And a rule stays what it is
    with pytest.raises(DatabaseError) as said, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE marketplace_splitrule SET data_bp = data_bp + 1, developer_bp = developer_bp - 1")
    assert isinstance(said.value.__cause__, psycopg2.Error)
