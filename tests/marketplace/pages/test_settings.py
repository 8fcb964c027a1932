"""What owners change later: a Datanet, a model, one's own API token and language."""

from __future__ import annotations

import os
import re
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from accounts.models import ApiToken, User
from datanets import reviews
from datanets import services as datanets
from datanets.errors import Invalid as DatanetInvalid
from datanets.errors import NotAllowed as DatanetNotAllowed
from ledger import services as ledger
from marketplace import listings, publishing, rules, tokens, training
from marketplace.errors import Invalid, NotAllowed
from marketplace.models import AuditEvent, Call, SplitRule
from tests.datanets.cast import make_datanet, person, send, table, waiting
from tests.marketplace.pages.test_build import sign_in
from tests.marketplace.pages.test_explore import here, page
from tests.marketplace.pages.world import call, small_shop
from tests.shop import OPEN, fund, make_model, measured, nothing_is_wrong


@pytest.fixture(autouse=True)
def _fresh(settings):
    cache.clear()
    settings.REVIEW_UNDO_S = 0


def of_datanet(**fields):
    """The form of Erin's Datanet as it is."""
    return {
        "purpose": "Tests",
        "topics": "",
        "guidelines": "",
        "attribution_note": "",
        "access": "open",
        "preview_rows": "200",
        "export_allowed": "on",
        "approvals_needed": "1",
        "training_fee": "",
    } | fields


def of_model(**fields):
    """The form of Devi's model as it is."""
    return {"name": "Check", "purpose": "Tests", "access_mode": "open", "card": "", "rule": "keep"} | fields


def percentages(**parts):
    return {f"rule-{role}": text for role, text in parts.items()} | {"rule": "own"}


# --- A Datanet


def test_an_owner_changes_a_datanet_and_its_fee(books, client):
    datanet = make_datanet()
    sign_in(client, "erin")
    address = f"{here(datanet)}settings/"

    changed = of_datanet(
        purpose="Measured cells",
        topics="cells, clinic",
        guidelines="# Rules",
        attribution_note="Name the clinic",
        access="on_request",
        preview_rows="7",
        approvals_needed="2",
        training_fee="1.5",
    )
    del changed["export_allowed"]
    answer = client.post(address, changed)

    assert (answer.status_code, answer["Location"]) == (302, address)
    datanet.refresh_from_db()
    assert (datanet.purpose, datanet.topics, datanet.guidelines) == ("Measured cells", ["cells", "clinic"], "# Rules")
    assert (datanet.attribution_note, datanet.access, datanet.preview_rows) == ("Name the clinic", "on_request", 7)
    assert (datanet.approvals_needed, datanet.export_allowed) == (2, False)
    assert training.fee_nano(datanet) == 1_500_000_000
    shown = page(client, address)
    assert 'value="1.5"' in shown
    assert 'value="cells, clinic"' in shown
    event = AuditEvent.objects.get(act="change_datanet")
    assert (event.actor, event.target) == (person("erin"), f"datanet:{datanet.pk}")
    assert event.detail["access"] == "on_request"


def test_an_owner_answers_the_questions_of_the_card(books, client):
    datanet = make_datanet()
    assert page(client, f"{here(datanet)}card/").count("Not answered yet.") == 6
    sign_in(client, "erin")

    client.post(f"{here(datanet)}settings/", of_datanet(answer_uses="Teaching.", answer_people=" "))

    datanet.refresh_from_db()
    assert datanet.answers == {"uses": "Teaching."}
    card = page(client, f"{here(datanet)}card/")
    assert ("Teaching." in card, card.count("Not answered yet.")) == (True, 5)
    assert "Teaching.</textarea>" in page(client, f"{here(datanet)}settings/")
    for wrong in ({"price": "None."}, {"uses": "x" * 4001}):
        with pytest.raises(DatanetInvalid):
            publishing.change_datanet(datanet, by=person("erin"), answers=wrong)


def test_every_fee_there_was_is_shown_and_the_same_one_again_is_none(books, client):
    datanet = make_datanet()
    sign_in(client, "erin")
    address = f"{here(datanet)}settings/"

    for fee in ("2", "2", "3", ""):
        client.post(address, of_datanet(training_fee=fee))

    fees = list(datanet.terms.order_by("pk").values_list("training_fee_nano", flat=True))
    assert fees == [2 * OPEN, 3 * OPEN, 0]
    shown = page(client, address)
    assert all(f'value="{fee}"' in shown for fee in fees)


def test_saving_a_datanet_as_it_is_changes_and_records_nothing(books, client):
    datanet = make_datanet()
    sign_in(client, "erin")

    answer = client.post(f"{here(datanet)}settings/", of_datanet(), follow=True)

    assert b"Nothing was different." in answer.content
    assert not AuditEvent.objects.filter(act__in=["change_datanet", "set_training_fee"]).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": " "},
        {"purpose": "x" * 301},
        {"access": "secret"},
        {"approvals_needed": "4"},
        {"preview_rows": "10001"},
        {"preview_rows": "-1"},
        {"training_fee": "much"},
        {"training_fee": "1000001"},
    ],
    ids=lambda wrong: f"{next(iter(wrong))}={str(next(iter(wrong.values())))[:9].strip()}",
)
def test_settings_of_a_datanet_that_do_not_hold_are_refused_as_a_whole(books, client, wrong):
    datanet = make_datanet()
    sign_in(client, "erin")

    answer = client.post(f"{here(datanet)}settings/", of_datanet(guidelines="New") | wrong)

    assert answer.status_code == 422
    assert b"Nothing was changed." in answer.content
    datanet.refresh_from_db()
    assert (datanet.purpose, datanet.guidelines) == ("Tests", "")
    assert not datanet.terms.exists()


@pytest.mark.parametrize("stranger", ["carol", "alice", "dan"])
def test_settings_of_a_datanet_are_there_for_its_owner_alone(books, client, stranger):
    datanet = make_datanet()
    address = f"{here(datanet)}settings/"
    assert client.get(address).status_code == 302
    sign_in(client, stranger)

    assert client.get(address).status_code == 404
    assert client.post(address, of_datanet(purpose="Mine")).status_code == 404
    assert address not in page(client, f"{here(datanet)}card/")
    sign_in(client, "erin")
    assert address in page(client, f"{here(datanet)}card/")


def test_only_the_owner_changes_a_datanet_and_never_its_licence(books):
    datanet = make_datanet()

    with pytest.raises(DatanetNotAllowed):
        publishing.change_datanet(datanet, by=person("carol"), purpose="Mine")
    for name in ("name", "slug", "kind", "schema", "licence", "rights_statement", "owner"):
        with pytest.raises(DatanetInvalid):
            publishing.change_datanet(datanet, by=person("erin"), **{name: "CC0-1.0"})
    with pytest.raises(DatanetInvalid):
        datanets.change_datanet(datanet, by=person("erin"), approvals_needed=0)

    datanet.refresh_from_db()
    assert (datanet.purpose, datanet.licence) == ("Tests", "CC-BY-4.0")
    assert not AuditEvent.objects.filter(act="change_datanet").exists()


def test_records_approved_before_stay_approved_when_more_approvals_are_needed(books):
    datanet = make_datanet()
    first = send(datanet, table(measured(2)))
    reviews.decide(waiting(first), curator=person("carol"), decision="approve")

    assert datanets.change_datanet(datanet, by=person("erin"), approvals_needed=2) == ["approvals_needed"]
    second = send(datanet, table(measured(2, start=10)), by="bob")
    reviews.decide(waiting(second), curator=person("carol"), decision="approve")

    assert set(first.records.values_list("status", flat=True)) == {"approved"}
    assert set(second.records.values_list("status", flat=True)) == {"waiting"}


# --- A model


def test_a_developer_changes_what_a_model_says_and_who_may_call_it(books, client):
    model = make_model()
    sign_in(client, "devi")
    address = f"/en/build/models/{model.pk}/settings/"

    changed = of_model(
        name="Second", purpose="Better", card="# Card", access_mode="pass", pass_price="2", pass_days="30"
    )
    answer = client.post(address, changed)

    assert (answer.status_code, answer["Location"]) == (302, address)
    model.refresh_from_db()
    assert (model.name, model.purpose, model.card, model.slug) == ("Second", "Better", "# Card", "check")
    assert (model.access_mode, model.pass_price_nano, model.pass_days) == ("pass", 2 * OPEN, 30)
    assert 'value="2"' in page(client, address)
    event = AuditEvent.objects.get(act="change_model")
    assert (event.actor, event.target, event.detail["pass_days"]) == (person("devi"), f"model:{model.pk}", "30")

    # And a model that sells no pass any more has neither price nor days of one
    client.post(address, changed | {"access_mode": "invite"})
    model.refresh_from_db()
    assert (model.access_mode, model.pass_price_nano, model.pass_days) == ("invite", None, None)


def test_a_developer_says_who_answers_in_place_of_the_upstream(books, client, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_model="x")
    sign_in(client, "devi")
    address = f"/en/build/models/{model.pk}/fallbacks/"
    assert address in page(client, f"/en/build/models/{model.pk}/settings/")

    # The first place may stay empty
    given = {"url_2": "http://127.0.0.1:9/b", "model_name_2": "b", "key_2": "sk-secret"}
    answer = client.post(address, given)

    assert (answer.status_code, answer["Location"]) == (302, address)
    stored = model.fallbacks.get()
    assert (stored.place, stored.url, stored.model_name) == (1, "http://127.0.0.1:9/b", "b")
    assert listings.open_field(stored.key_token) == "sk-secret"
    shown = page(client, address)
    assert 'value="http://127.0.0.1:9/b"' in shown
    assert "A key is stored." in shown
    assert "sk-secret" not in shown

    # And what cannot be reached, or has no address, is said at its place
    refused = client.post(address, {"url_1": "http://169.254.169.254/v1", "key_2": "alone"})
    assert refused.status_code == 422
    assert b"A fallback needs the address where it answers." in refused.content
    refused = client.post(address, {"url_1": "http://169.254.169.254/v1"})
    assert b"Only https addresses can be reached." in refused.content
    assert model.fallbacks.get() == stored


def test_saving_a_model_as_it_is_changes_and_records_nothing(books, client):
    model = make_model()
    sign_in(client, "devi")

    answer = client.post(f"/en/build/models/{model.pk}/settings/", of_model(), follow=True)

    assert b"Nothing was different." in answer.content
    assert not AuditEvent.objects.filter(act="change_model").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": " "}, b"This field is required."),
        ({"access_mode": "pass"}, b"A pass needs a price"),
        ({"access_mode": "pass", "pass_price": "1000001", "pass_days": "3"}, b"at most a million OPEN"),
        ({"access_mode": "pass", "pass_price": "much", "pass_days": "3"}, b"Write an amount in digits"),
        ({"access_mode": "secret"}, b"Select a valid choice"),
        ({"rule": "mine"}, b"Select a valid choice"),
        (
            percentages(developer="50", data="30", curation="5", platform="5", owner="0"),
            b"The parts must add up to 100 %.",
        ),
        (
            percentages(developer="60", data="35", curation="5", platform="0", owner="0"),
            b"and the platform has one",
        ),
        (
            percentages(developer="59.995", data="30", curation="5", platform="5", owner="0.005"),
            b"no more than 2 decimal places",
        ),
    ],
    ids=["no name", "no pass price", "dear pass", "no amount", "no mode", "no rule", "95 %", "no platform", "3 places"],
)
def test_settings_of_a_model_that_do_not_hold_are_refused_as_a_whole(books, client, wrong, sentence):
    model = make_model()
    sign_in(client, "devi")

    answer = client.post(f"/en/build/models/{model.pk}/settings/", of_model(card="New") | wrong)

    assert answer.status_code == 422
    assert sentence in answer.content
    assert b"Nothing was changed." in answer.content
    model.refresh_from_db()
    assert (model.name, model.card, model.split_rule) == ("Check", "", rules.default_rule())
    assert SplitRule.objects.count() == 1


def test_settings_of_a_model_are_there_for_its_owner_alone(books, client):
    model = make_model()
    address = f"/en/build/models/{model.pk}/settings/"
    assert client.get(address).status_code == 302
    sign_in(client, "dan")

    assert client.get(address).status_code == 404
    assert client.post(address, of_model(name="Mine")).status_code == 404
    with pytest.raises(NotAllowed):
        listings.change_model(model, by=person("dan"), **as_it_is(model) | {"name": "Mine"})
    with pytest.raises(Invalid):
        listings.change_model(model, by=person("devi"), **as_it_is(model) | {"access_mode": "secret"})


def test_a_changed_model_is_announced_to_the_gateways_and_an_unchanged_one_is_not(books):
    model = make_model()
    base = os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[0]
    with closing(psycopg2.connect(f"{base}/{connection.settings_dict['NAME']}")) as session:
        session.autocommit = True
        session.cursor().execute("LISTEN openledger_catalogue")

        listings.change_model(model, by=model.owner, **as_it_is(model))
        session.cursor().execute("SELECT 1")
        assert session.notifies == []

        assert listings.change_model(model, by=model.owner, **as_it_is(model) | {"purpose": "Better"}) == ["purpose"]
        session.cursor().execute("SELECT 1")
        assert [notice.channel for notice in session.notifies] == ["openledger_catalogue"]


def as_it_is(model):
    names = (
        "name",
        "purpose",
        "card",
        "access_mode",
        "pass_price_nano",
        "pass_days",
        "free_calls_per_day",
        "split_rule",
    )
    return {name: getattr(model, name) for name in names}


def test_a_new_rule_holds_for_later_calls_and_earlier_receipts_keep_theirs(books, client):
    # Given a model with a call under the default rule
    version = small_shop(books)
    model, dan = version.model, person("dan")
    fund(books, dan, 10)
    before = call(version, dan)
    sign_in(client, "devi")
    address = f"/en/build/models/{model.pk}/settings/"

    # When its owner enters five parts, one of them with two decimals, then the settings refuse: people rely on the model
    parts = percentages(developer="40.25", data="44.75", curation="5", platform="7.5", owner="2.5")
    assert b"This model is in use" in client.post(address, of_model() | parts).content
    # So they are proposed, and take effect with the next price list
    client.post(f"/en/build/models/{model.pk}/rule/", parts)
    listings.set_prices(model, by=model.owner, price_call_nano=24_000_000, price_in_nano=0, price_out_nano=0)
    after = call(version, dan)
    books.fold()
    books.log()

    # Then the later call is split by them, the earlier one as before, and the public log knows the rule
    earlier, later = Call.objects.get(pk=before), Call.objects.get(pk=after)
    assert earlier.split_rule == rules.default_rule()
    assert later.split_rule.parts == {"data": 4475, "curation": 500, "developer": 4025, "platform": 750, "owner": 250}
    assert later.developer_nano == later.cost_nano * 4025 // 10_000
    adopted = {row.id for row in ledger.entries(0, 99, types=["rule.adopted"])}
    assert adopted >= {earlier.split_rule_id, later.split_rule_id}
    assert nothing_is_wrong()


def test_a_long_name_still_names_its_rule(books, client):
    model = make_model()
    sign_in(client, "devi")
    parts = percentages(developer="40", data="50", curation="5", platform="5", owner="0")

    client.post(f"/en/build/models/{model.pk}/settings/", of_model(name="n" * 120) | parts)

    model.refresh_from_db()
    assert (len(model.name), len(model.split_rule.name)) == (120, 80)


# --- The API token

TOKEN = re.compile(r"Token ([\w-]{43})")


def test_a_token_is_shown_once_and_opens_the_api(books, client):
    alice = sign_in(client, "alice")
    assert "You have no token." in page(client, "/en/settings/token/")

    assert client.post("/en/settings/token/new/")["Location"] == "/en/settings/token/"
    assert TOKEN.search(str(dict(client.session))) is None
    first, second = page(client, "/en/settings/token/"), page(client, "/en/settings/token/")

    secret = TOKEN.search(first)[1]
    assert secret not in second
    kept = ApiToken.objects.get(user=alice)
    assert secret not in str(vars(kept))
    assert "curl" in second
    answer = client.__class__().get("/api/v1/me/", headers={"authorization": f"Token {secret}"})
    assert answer.json()["handle"] == "alice"


def test_a_token_ends_by_itself_and_says_when_it_was_used(books, client):
    alice = sign_in(client, "alice")
    token, secret = tokens.replace(alice)
    program = client.__class__(headers={"authorization": f"Token {secret}"})
    assert "Last used</dt><dd>never" in page(client, "/en/settings/token/")

    assert program.get("/api/v1/me/").status_code == 200
    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.expires_at - token.created_at >= timedelta(days=364)

    ApiToken.objects.update(expires_at=timezone.now())
    assert program.get("/api/v1/me/").status_code == 401
    assert "expired" in page(client, "/en/settings/token/")


def test_a_replaced_and_a_revoked_token_open_nothing(books, client):
    alice = sign_in(client, "alice")
    keys = []
    for _ in range(2):
        assert client.get("/en/settings/token/new/").status_code == 200
        client.post("/en/settings/token/new/")
        keys.append(TOKEN.search(page(client, "/en/settings/token/"))[1])

    def works(key):
        return client.__class__().get("/api/v1/me/", headers={"authorization": f"Token {key}"}).status_code == 200

    assert [works(key) for key in keys] == [False, True]
    client.post("/en/settings/token/revoke/")
    client.post("/en/settings/token/revoke/")
    assert [works(key) for key in keys] == [False, False]
    acts = AuditEvent.objects.filter(actor=alice).order_by("at").values_list("act", flat=True)
    assert list(acts) == ["create_token", "create_token", "revoke_token"]


def test_a_token_is_made_only_after_signing_in_again(books, client):
    alice = person("alice")
    alice.set_password("a long one, for tests")
    alice.save()
    client.force_login(alice)

    for answer in (client.get("/en/settings/token/new/"), client.post("/en/settings/token/new/")):
        assert answer.status_code == 302
        assert "reauthenticate" in answer["Location"]
    assert not ApiToken.objects.filter(user=alice).exists()

    client.post(answer["Location"], {"password": "a long one, for tests"}, follow=True)
    assert ApiToken.objects.filter(user=alice).count() == 1


def test_revoking_a_token_is_an_act_and_no_link(books, client):
    sign_in(client, "alice")

    assert client.get("/en/settings/token/revoke/").status_code == 405
    client.logout()
    assert client.get("/en/settings/token/").status_code == 302


# --- The language


def test_a_form_of_a_french_page_goes_on_after_the_password_whatever_the_profile_says(books, client, settings):
    alice = person("alice")  # whose profile is English
    alice.set_password("a long one, for tests")
    alice.save()
    client.force_login(alice)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "en"

    asked = client.post("/fr/settings/token/new/", follow=True)
    address, _status = asked.redirect_chain[-1]
    assert 'lang="fr"' in asked.content.decode()
    answer = client.post(address, {"password": "a long one, for tests", "next": "/fr/settings/token/new/"})

    assert answer.status_code == 302
    assert answer["Location"].startswith("/fr/settings/token/")
    assert ApiToken.objects.filter(user=alice).count() == 1


def test_the_site_goes_on_in_the_language_of_the_profile_at_once(books, client, settings):
    sign_in(client, "alice")
    given = {"display_name": "Alice", "organisation": "", "language": "fr"}

    answer = client.post("/en/settings/profile/", given)

    assert answer["Location"] == "/fr/settings/profile/"
    assert answer.cookies[settings.LANGUAGE_COOKIE_NAME].value == "fr"
    assert re.search(r'<html[^>]* lang="fr"', page(client, "/fr/settings/profile/"))
    assert User.objects.get(username="alice").language == "fr"


def test_the_key_of_an_upstream_is_replaced_and_shown_to_nobody(books, client, settings):
    # Given a connected model with a key, and one that this site answers itself
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
    model = make_model(engine="connected", upstream_url="http://127.0.0.1:9/v1", upstream_key="sk-old")
    plain = make_model("Plain")
    sign_in(client, "devi")
    address, page_of_it = f"/en/build/models/{model.pk}/upstream-key/", f"/en/build/models/{model.pk}/settings/"

    # When its developer gives another one
    assert client.post(address, {"upstream_key": "sk-new"}).status_code == 302

    # Then that one is stored, sealed, and remembered without its words
    model.refresh_from_db()
    assert listings.open_field(model.upstream_key_token) == "sk-new"
    shown = page(client, page_of_it)
    assert "A key is stored." in shown
    assert "sk-new" not in shown
    assert "sk-new" not in str(AuditEvent.objects.get(act="replace_upstream_key").detail)
    assert client.post(address, {"upstream_key": "two words"}).status_code == 422
    assert client.post(address, {"upstream_key": "x" * 301}).status_code == 422
    assert client.post(f"/en/build/models/{plain.pk}/upstream-key/", {"upstream_key": "x"}).status_code == 422
    assert client.post(address, {"upstream_key": ""}).status_code == 302
    assert "No key is stored" in page(client, page_of_it)
