from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from ledger import chart
from ledger import services as ledger
from marketplace import access, keyformat, keys, listings
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.listings import FallbackWanted
from marketplace.models import FALLBACKS_MAX, Access, ApiKey, AuditEvent, Fallback
from tests.books import at_once
from tests.shop import OPEN, fund, make_model, measured, person, published, trained, wallet_nano


@pytest.fixture
def pass_model(books, settings):
    """A listed model of Devi's that sells a week for 2 OPEN."""
    settings.REVIEW_UNDO_S = 0
    version = published({"alice": measured(20)})
    return trained(books, version, access_mode="pass", pass_price_nano=2 * OPEN, pass_days=7).model


def test_a_pass_is_charged_by_the_rule_and_opens_the_model(books, pass_model):
    dan = person("dan")
    fund(books, dan, 5)
    assert not access.may_call(dan, pass_model)

    access.buy_pass(pass_model, buyer=dan)
    books.fold()

    assert access.may_call(dan, pass_model)
    assert wallet_nano(dan) == 3 * OPEN
    assert ledger.balance_nano(chart.pool(pass_model.pk, "access", "data")) == 700_000_000
    assert ledger.balance_nano(chart.pending(person("devi").pk)) == 1_100_000_000


def test_a_double_click_on_buy_is_charged_once(books, pass_model):
    dan = person("dan")
    fund(books, dan, 10)

    results = at_once(*[lambda: access.buy_pass(pass_model, buyer=dan)] * 4)

    assert sum(isinstance(result, Access) for result in results) == 1
    assert wallet_nano(dan) == 8 * OPEN


def test_a_pass_ends_by_itself(books, pass_model):
    dan = person("dan")
    fund(books, dan, 5)
    bought = access.buy_pass(pass_model, buyer=dan)

    Access.objects.filter(pk=bought.pk).update(ends_at=timezone.now() - timedelta(seconds=1))

    assert not access.may_call(dan, pass_model)


def test_an_empty_wallet_buys_no_pass(books, pass_model):
    with pytest.raises(ledger.InsufficientFunds):
        access.buy_pass(pass_model, buyer=person("dan"))

    assert not Access.objects.exists()


def test_an_invitation_is_given_and_ended_by_the_owner_only(books):
    model = make_model(access_mode="invite")
    listings.ListedModel.objects.filter(pk=model.pk).update(listed_at=timezone.now())
    model.refresh_from_db()
    dan = person("dan")

    with pytest.raises(NotAllowed):
        access.invite(model, by=dan, buyer=dan)
    invitation = access.invite(model, by=model.owner, buyer=dan)
    assert access.invite(model, by=model.owner, buyer=dan) == invitation
    assert access.may_call(dan, model)
    access.revoke_invitation(invitation, by=model.owner)

    assert not access.may_call(dan, model)


def test_a_model_without_version_or_price_cannot_be_listed(books):
    model = make_model()

    with pytest.raises(NotReady):
        listings.list_model(model, by=model.owner)


def test_a_connected_model_may_not_point_into_the_private_network(books):
    with pytest.raises(Invalid):
        make_model(engine="connected", upstream_url="http://169.254.169.254/v1", upstream_model="x")


def test_an_upstream_key_is_stored_sealed(books, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(
        engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_model="x", upstream_key="sk-very-secret"
    )

    assert "very-secret" not in model.upstream_key_token
    assert listings.open_field(model.upstream_key_token) == "sk-very-secret"


def test_fallbacks_are_asked_in_their_order_and_keep_the_keys_that_are_not_given_anew(books, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_model="x")
    first, second = (
        FallbackWanted("http://127.0.0.1:9/a", "a", "secret-a"),
        FallbackWanted("https://8.8.8.8/b", "b", ""),
    )
    assert listings.set_fallbacks(model, by=model.owner, fallbacks=[first, second])

    # When the order is changed without saying the key again, and again
    known = [second, FallbackWanted(first.url, first.model_name)]
    assert listings.set_fallbacks(model, by=model.owner, fallbacks=known)
    assert not listings.set_fallbacks(model, by=model.owner, fallbacks=known)

    # Then the key went along with its address, and stays sealed
    stored = list(model.fallbacks.all())
    assert [(one.place, one.url, one.model_name) for one in stored] == [(1, second.url, "b"), (2, first.url, "a")]
    assert listings.open_field(stored[1].key_token) == "secret-a"
    assert "secret" not in stored[1].key_token
    assert [event.detail for event in AuditEvent.objects.filter(act="set_fallbacks")] == [{"fallbacks": 2}] * 2

    # And another address does not get it
    moved = FallbackWanted("https://8.8.8.8/v1", first.model_name)
    listings.set_fallbacks(model, by=model.owner, fallbacks=[moved])
    assert model.fallbacks.get().key_token == ""


def test_a_fallback_is_a_reachable_address_of_a_chat_model_and_there_are_few(books, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_model="x")
    fine = FallbackWanted("http://127.0.0.1:9/v1")

    with pytest.raises(Invalid):
        listings.set_fallbacks(model, by=model.owner, fallbacks=[fine, FallbackWanted("http://169.254.169.254/v1")])
    with pytest.raises(Invalid):
        listings.set_fallbacks(model, by=model.owner, fallbacks=[fine] * (FALLBACKS_MAX + 1))
    with pytest.raises(Invalid):
        listings.set_fallbacks(make_model("linear"), by=model.owner, fallbacks=[fine])
    with pytest.raises(NotAllowed):
        listings.set_fallbacks(model, by=person("mallory"), fallbacks=[fine])

    assert not model.fallbacks.exists()


@pytest.mark.parametrize(
    "wrong",
    [{"place": 0}, {"place": FALLBACKS_MAX + 1}, {"url": ""}, {"place": 1}],
    ids=["none", "many", "where", "twice"],
)
def test_the_database_keeps_one_fallback_at_each_of_few_places(books, wrong):
    model = make_model()
    Fallback.objects.create(model=model, place=1, url="https://8.8.8.8/v1")

    with pytest.raises(IntegrityError), transaction.atomic():
        Fallback.objects.create(**{"model": model, "place": 2, "url": "https://8.8.8.8/v1"} | wrong)


def test_two_savings_of_the_fallbacks_at_once_leave_one_whole_list(books, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_model="x")

    def save(name):
        wanted = [FallbackWanted("http://127.0.0.1:9/v1", f"{name}-{number}") for number in (1, 2, 3)]
        return lambda: listings.set_fallbacks(model, by=model.owner, fallbacks=wanted)

    results = at_once(*[save(name) for name in "abcd"])

    assert results == [True] * 4
    names = list(model.fallbacks.values_list("model_name", flat=True))
    assert names == [f"{names[0][0]}-{number}" for number in (1, 2, 3)]


def test_the_same_prices_again_are_the_same_price_list(books):
    model = make_model()
    first = listings.prices_of(model)

    again = listings.set_prices(model, by=model.owner, price_call_nano=24_000_000, price_in_nano=0, price_out_nano=0)
    other = listings.set_prices(model, by=model.owner, price_call_nano=1, price_in_nano=0, price_out_nano=0)

    assert again == first
    assert listings.prices_of(model) == other


def test_a_path_names_the_newest_version_or_a_pinned_one(books, settings):
    settings.REVIEW_UNDO_S = 0
    version = trained(books, published({"alice": measured(20)}))

    assert listings.resolve("devi/check") == (version.model, version)
    assert listings.resolve("devi/check@v1") == (version.model, version)
    assert listings.resolve("devi/check@v2") is None
    assert listings.resolve("devi/other") is None


def test_a_key_is_shown_once_and_stored_as_a_hash(db):
    key, secret = keys.create(owner=person("dan"), name="Server")

    assert keyformat.is_well_formed(secret)
    assert bytes(key.sha256) == keyformat.digest(secret)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) < 14


@pytest.mark.parametrize("scopes", [[], ["cal"], ["call", "pay"]])
def test_the_database_refuses_a_key_for_nothing_known(db, scopes):
    key, _secret = keys.create(owner=person("dan"), name="Server")

    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.filter(pk=key.pk).update(scopes=scopes)


def test_a_stranger_cannot_revoke_a_key(db):
    key, _secret = keys.create(owner=person("dan"), name="Server")

    with pytest.raises(NotAllowed):
        keys.revoke(key, by=person("bob"))
    keys.revoke(key, by=person("dan"))
    stopped = keys.revoke(key, by=person("dan")).revoked_at

    assert stopped is not None
