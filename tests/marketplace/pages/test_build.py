"""What developers and buyers do on their pages: models, training, keys, usage, their own data."""

import csv
import io
import json
import re
import time
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone, translation

from ledger import chart
from ledger import services as ledger
from marketplace import access, forms_explore, keyformat, keys, notifications, people, pricing, training
from marketplace.models import ApiKey, ListedModel, TrainingRun
from tests.datanets.cast import person
from tests.marketplace.pages.test_explore import make_call, page
from tests.shop import OPEN, fund, make_model, measured, published, trained


@pytest.fixture(autouse=True)
def _fresh(settings):
    cache.clear()
    settings.REVIEW_UNDO_S = 0


def sign_in(client, handle, *, fresh=True):
    """As after a password: fresh sign-ins need no second one."""
    user = person(handle)
    client.force_login(user)
    if fresh:
        session = client.session
        session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
        session.save()
    return user


def new_model(**fields):
    return {
        "name": "Tumour check",
        "purpose": "Benign or malignant",
        "engine": "linear",
        "access_mode": "open",
        "price_call": "0.024",
        "price_in": "",
        "price_out": "",
    } | fields


# --- Models


def test_work_pages_ask_visitors_to_sign_in(books, client):
    for address in ("build/models/", "build/models/new/", "build/keys/", "build/usage/", "inbox/", "settings/profile/"):
        assert client.get(f"/en/{address}").status_code == 302


def test_a_model_is_created_with_its_prices(books, client):
    sign_in(client, "devi")

    answer = client.post("/en/build/models/new/", new_model(price_in="10", price_out="0.5"))

    model = ListedModel.objects.get()
    prices = model.price_lists.get()
    assert answer["Location"] == f"/en/build/models/{model.pk}/train/"
    assert (prices.price_call_nano, prices.price_in_nano, prices.price_out_nano) == (24_000_000, 10_000, 500)
    assert 'value="0.024"' in page(client, f"/en/build/models/{model.pk}/")


def test_a_model_has_a_price_for_abstaining_of_at_most_a_call(books, client):
    # Given a developer who asks more for no answer than for one
    sign_in(client, "devi")
    answer = client.post("/en/build/models/new/", new_model(price_abstain="0.025"))
    assert answer.status_code == 422
    assert b"costs at most what every call costs" in answer.content

    # When they ask for less
    client.post("/en/build/models/new/", new_model(price_abstain="0.001"))

    # Then it stands in the price list, whose hash it changes, on its pages and in its form
    model = ListedModel.objects.get()
    prices = model.price_lists.get()
    assert prices.price_abstain_nano == 1_000_000
    without = pricing.Prices(prices.price_call_nano, prices.price_in_nano, prices.price_out_nano)
    assert prices.sha256 != pricing.price_sha256(without)
    assert 'value="0.001"' in page(client, f"/en/build/models/{model.pk}/")
    assert "When it abstains" in page(client, f"/en/models/devi/{model.slug}/")
    assert "When it abstains" in page(client, f"/en/models/devi/{model.slug}/rules/")


def test_a_price_that_is_no_whole_nano_per_token_is_refused(books, client):
    sign_in(client, "devi")

    answer = client.post("/en/build/models/new/", new_model(price_in="0.0001", price_call="abc"))

    assert answer.status_code == 422
    assert b"multiple of 0.001 OPEN" in answer.content
    assert b"Write an amount in digits" in answer.content
    assert not ListedModel.objects.exists()


def test_an_amount_is_typed_in_the_language_of_the_page():
    with translation.override("fr"):
        assert forms_explore.OpenField().clean("0,024") == forms_explore.OpenField().clean("0.024") == 24_000_000
        assert forms_explore.OpenField().clean("1 204,5") == 1_204_500_000_000
        assert forms_explore.amount_text(1_204_500_000_000) == "1204,5"
    assert forms_explore.OpenField().clean("1,204.5") == 1_204_500_000_000
    for wrong in ("1,5", "1,2045", "1.2.3", "-1", "1 2", "0,024", "1,204"):
        with pytest.raises(ValidationError, match="nine places"):
            forms_explore.OpenField().clean(wrong)


def test_a_split_rule_of_ones_own_adds_up_to_the_whole(books, client):
    sign_in(client, "devi")
    parts = {"developer": "40", "data": "50", "curation": "5", "platform": "5", "owner": "1"}
    rule = {f"rule-{role}": value for role, value in parts.items()} | {"own_rule": "1"}
    assert client.post("/en/build/models/new/", new_model() | rule).status_code == 422

    rule["rule-owner"] = "0"
    client.post("/en/build/models/new/", new_model() | rule)

    assert ListedModel.objects.get().split_rule.parts["data"] == 5000


def test_connected_and_pass_models_say_what_is_missing(books, client):
    sign_in(client, "devi")

    answer = client.post("/en/build/models/new/", new_model(engine="connected", access_mode="pass"))

    assert answer.status_code == 422
    for sentence in (b"needs the address where it answers", b"A pass needs a price", b"A pass needs a number of days"):
        assert sentence in answer.content


def test_other_peoples_models_are_not_found(books, client):
    model = make_model()
    sign_in(client, "dan")

    for tail in ("", "train/", "runs/"):
        page(client, f"/en/build/models/{model.pk}/{tail}", status=404)
    assert client.post(f"/en/build/models/{model.pk}/prices/", {"price_call": "1"}).status_code == 404


def test_the_fee_is_shown_before_it_is_held_and_charged_after(books, client):
    # Given a version that costs 10, and Devi with 50
    version = published({"alice": measured(40), "bob": measured(40, start=40)}, fee_open=10)
    devi, model = sign_in(client, "devi"), make_model()
    fund(books, devi, 50)
    address = f"/en/build/models/{model.pk}/train/"

    # When she looks at the fee
    review = client.post(address, {"versions": str(version.pk), "act": "review"})

    # Then nothing is held; once she confirms it is, and the run's page says so
    assert review.status_code == 200
    assert b"What will happen" in review.content
    assert b'value="10000000000"' in review.content
    assert not TrainingRun.objects.exists()
    client.post(address, {"versions": str(version.pk), "act": "confirm"})
    books.fold()
    run = TrainingRun.objects.get()
    assert ledger.balance(chart.wallet(devi.pk)).held_nano == 10 * OPEN
    assert "Waits for a worker" in page(client, f"/en/build/models/{model.pk}/")
    assert "List it" not in page(client, f"/en/build/models/{model.pk}/runs/")
    training.run(run.pk)
    books.fold()
    ended = page(client, f"/en/build/models/{model.pk}/runs/")
    assert "Done. The fee was charged" in ended

    # And now it can be listed, on a page that stayed open, too
    assert 'id="shop" hx-swap-oob="true"' in ended
    assert "needs a version" not in ended
    assert 'id="versions" hx-swap-oob="true"' in ended
    client.post(f"/en/build/models/{model.pk}/listing/", {"act": "list"})
    model.refresh_from_db()
    assert model.listed_at is not None
    client.post(f"/en/build/models/{model.pk}/listing/", {"act": "unlist"})
    model.refresh_from_db()
    assert model.listed_at is None


def test_a_training_that_cannot_be_paid_says_so_on_the_form(books, client):
    version = published({"alice": measured(4)}, fee_open=10)
    sign_in(client, "devi")
    model = make_model()

    answer = client.post(f"/en/build/models/{model.pk}/train/", {"versions": str(version.pk), "act": "confirm"})
    nothing = client.post(f"/en/build/models/{model.pk}/train/", {"act": "review"})

    assert answer.status_code == nothing.status_code == 422
    assert b"Choose one to five versions." in nothing.content
    assert not TrainingRun.objects.exists()


def test_a_failed_run_gives_its_reason_and_that_the_fee_is_back(books, client):
    version = published({"alice": measured(6)})
    devi, model = sign_in(client, "devi"), make_model(engine="neighbours")
    training.run(training.request(model=model, by=devi, versions=[version], settings={"k": 0}).pk)

    text = page(client, f"/en/build/models/{model.pk}/")

    assert "Failed:" in text
    assert "The fee was released, nothing was charged." in text


def test_only_versions_one_may_read_are_offered(books, client):
    published({"alice": measured(3)}, name="Closed ones", access="on_request")
    published({"bob": measured(3, start=9)}, name="Open ones")
    sign_in(client, "devi")
    model = make_model()

    text = page(client, f"/en/build/models/{model.pk}/train/")

    assert "Open ones" in text
    assert "Closed ones" not in text


def test_an_invitation_is_given_and_ended(books, client):
    sign_in(client, "devi")
    model, dan = make_model(access_mode="invite"), person("dan")
    ListedModel.objects.update(listed_at=timezone.now())
    address = f"/en/build/models/{model.pk}/invite/"
    assert client.post(address, {"handle": "nobody"}).status_code == 422

    client.post(address, {"handle": "dan"})
    model.refresh_from_db()
    assert access.may_call(dan, model)
    client.post(address, {"act": "revoke", "access": model.accesses.get().pk})
    assert not access.may_call(dan, model)


# --- Keys


def test_making_a_key_asks_for_a_fresh_sign_in(books, client):
    dan = sign_in(client, "dan", fresh=False)
    dan.set_password("a long one, for tests")
    dan.save()
    client.force_login(dan)

    answer = client.get("/en/build/keys/new/")

    assert answer.status_code == 302
    assert "/accounts/" in answer["Location"]


def test_a_key_is_shown_once_and_revoked(books, client):
    sign_in(client, "dan")
    tomorrow = (timezone.now() + timedelta(days=1)).date().isoformat()

    client.post("/en/build/keys/new/", {"name": "Shop", "spend_cap": "1.5", "expires_on": tomorrow, "may": "read"})
    first, second = page(client, "/en/build/keys/"), page(client, "/en/build/keys/")

    key = ApiKey.objects.get()
    shown = first.split('data-copy="')[1].split('"')[0]
    assert keyformat.digest(shown) == bytes(key.sha256)
    assert shown not in second
    assert key.spend_cap_nano == 1_500_000_000
    assert key.scopes == ["read"]
    assert "reads only" in first
    client.post(f"/en/build/keys/{key.pk}/revoke/")
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "Revoked" in page(client, "/en/build/keys/")


def test_a_key_is_replaced_by_one_with_the_same_limits(books, client):
    # Given a key with limits
    dan = sign_in(client, "dan")
    client.post("/en/build/keys/new/", {"name": "Shop", "spend_cap": "1.5", "requests_per_minute": "7"})
    page(client, "/en/build/keys/")
    old = ApiKey.objects.get()

    # When its owner replaces it, twice by a double click
    client.post(f"/en/build/keys/{old.pk}/replace/")
    again = client.post(f"/en/build/keys/{old.pk}/replace/")

    # Then one key works: another secret, the same limits, shown once
    new = ApiKey.objects.get(owner=dan, revoked_at=None)
    assert again.status_code == 409
    assert ApiKey.objects.count() == 2
    assert bytes(new.sha256) != bytes(old.sha256)
    assert (new.name, new.spend_cap_nano, new.requests_per_minute) == ("Shop", 1_500_000_000, 7)
    shown = page(client, "/en/build/keys/").split('data-copy="')[1].split('"')[0]
    assert keyformat.digest(shown) == bytes(new.sha256)


def test_a_key_says_for_how_many_days_its_content_is_kept(books, client):
    # Given keys for all the time there is, for a week, and for none
    sign_in(client, "dan")
    for name, days in (("Thirty", ""), ("Week", "7"), ("None", "0")):
        client.post("/en/build/keys/new/", {"name": name, "content_days": days})

    # Then each has its days, and the page says where they are fewer
    assert dict(ApiKey.objects.values_list("name", "content_days")) == {"Thirty": 30, "Week": 7, "None": 0}
    shown = page(client, "/en/build/keys/")
    assert shown.count("content kept") == 2
    assert all(words in shown for words in ("content kept 7 days", "content kept until attributed"))

    # And its form shows and changes them; more than the site keeps is refused
    key = ApiKey.objects.get(name="None")
    change = f"/en/build/keys/{key.pk}/change/"
    assert 'value="0"' in page(client, change)
    assert client.post(change, {"name": "None", "content_days": "31"}).status_code == 422
    client.post(change, {"name": "None", "content_days": "2"})
    key.refresh_from_db()
    assert key.content_days == 2


def test_a_replaced_key_works_for_as_long_as_its_owner_says_and_the_page_says_until_when(books, client):
    # Given a key with every limit, for the pages of one origin
    dan = sign_in(client, "dan")
    caps = {"spend_cap_day": "0.5", "spend_cap_month": "1.5", "calls_at_once": "5"}
    client.post("/en/build/keys/new/", {"name": "Page", "allowed_origins": "https://App.example.org\r\n"} | caps)
    shown = page(client, "/en/build/keys/")
    assert all(words in shown for words in ("a day", "a month", "5 calls at once", "https://app.example.org"))
    old = ApiKey.objects.get()

    # When it is replaced in a way that does not exist, then for a week
    assert client.post(f"/en/build/keys/{old.pk}/replace/", {"overlap_s": "5"}).status_code == 422
    client.post(f"/en/build/keys/{old.pk}/replace/", {"overlap_s": "604800"})

    # Then both work, with the same limits, and it is shown how long
    new = ApiKey.objects.get(replaced_until=None)
    assert set(ApiKey.objects.filter(owner=dan).working()) == {old, new}
    same = ("spend_cap_day_nano", "spend_cap_month_nano", "calls_at_once", "allowed_origins", "scopes")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]
    assert new.limits_of == old
    assert "works until" in page(client, "/en/build/keys/")

    # And afterwards it is shown as replaced, and may be revoked before its time
    client.post(f"/en/build/keys/{old.pk}/revoke/")
    assert list(ApiKey.objects.filter(owner=dan).working()) == [new]


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example.org", "https://a.org/x", "https://u@a.org", "ftp://a.org"]
)
def test_what_is_no_origin_of_a_page_is_refused_with_the_form(books, client, origin):
    sign_in(client, "dan")

    answer = client.post("/en/build/keys/new/", {"name": "Page", "allowed_origins": f"https://a.org\n{origin}"})

    assert answer.status_code == 422
    assert "is no origin of a page" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_is_changed_on_its_page_and_keeps_what_is_not_touched(books, client):
    # Given a key whose end a program has set to the second, for a model that its owner does not see any more
    dan = sign_in(client, "dan")
    model = make_model("Hidden")
    ends_at = timezone.now() + timedelta(days=9, seconds=7)
    key, _secret = keys.create(
        owner=dan, name="Shop", spend_cap_nano=1_500_000_000, expires_at=ends_at, models=[model], scopes=["call"]
    )
    address = f"/en/build/keys/{key.pk}/change/"
    assert 'value="1.5"' in page(client, address)

    # When the form is saved as it is shown, but for the limit and the name
    form = client.get(address).context["form"]
    shown = {field.name: field.value() for field in form if field.value() not in (None, "")}
    shown |= {"models": [model.pk], "spend_cap": "2", "name": "Other"}
    assert client.post(address, shown).status_code == 302

    # Then only these are different
    key.refresh_from_db()
    assert (key.name, key.spend_cap_nano) == ("Other", 2 * OPEN)
    assert (key.expires_at, key.scopes, list(key.allowed_models.all())) == (ends_at, ["call"], [model])
    assert client.post(address, shown | {"name": " "}).status_code == 422
    keys.revoke(key, by=dan)
    assert client.post(address, shown).status_code == 409


def test_a_replaced_key_may_do_no_more_than_the_one_before(books):
    dan = person("dan")
    old, _secret = keys.create(owner=dan, name="Reports", scopes=["read"])

    new, _secret = keys.replace(old, by=dan)

    assert new.scopes == ["read"]


def test_a_key_with_impossible_limits_is_refused_with_the_form(books, client):
    sign_in(client, "dan")

    answer = client.post("/en/build/keys/new/", {"name": "Shop", "spend_cap": "0", "expires_on": "2020-01-01"})

    assert answer.status_code == 422
    assert b'value="Shop"' in answer.content
    assert not ApiKey.objects.exists()


def test_somebody_elses_key_is_not_found(books, client):
    sign_in(client, "dan")
    client.post("/en/build/keys/new/", {"name": "Shop"})
    sign_in(client, "devi")

    for act in ("revoke", "replace"):
        assert client.post(f"/en/build/keys/{ApiKey.objects.get().pk}/{act}/").status_code == 404


# --- Usage


@pytest.fixture
def model(books):
    return trained(books, published({"alice": measured(30), "bob": measured(30, start=40)})).model


def test_usage_shows_every_end_of_a_call_with_sums_that_agree(books, client, model):
    dan = sign_in(client, "dan")
    call = make_call(model, dan)
    make_call(model, dan)
    make_call(model, dan, status="failed", error_code="upstream_timeout")
    make_call(model, person("devi"))

    text = page(client, "/en/build/usage/")
    rows = list(
        csv.DictReader(io.StringIO(b"".join(client.get("/en/build/usage/export.csv").streaming_content).decode()))
    )

    assert 'value="48000000"' in text
    assert "upstream_timeout" in text
    assert len(rows) == 3
    assert sum(int(row["cost_nano"]) for row in rows) == 48_000_000
    assert {row["status"] for row in rows} == {"succeeded", "failed"}
    assert rows[0]["cost_open"] == "0.024000000"
    assert rows[0]["receipt_url"].endswith(f"/r/{call.pk}")
    assert rows[0]["model"] == "devi/check@v1"
    # The screen has the same rows, the newest first
    shown = re.findall(r"<tr>(<td>.*?)</tr>", text.rsplit('class="table dense"', 1)[1].split("</table>")[0], flags=re.S)
    assert [row_of(line) for line in shown] == [
        (
            row["model"].partition("/")[2],
            row["error_code"],
            row["prompt_tokens"],
            row["answer_tokens"],
            row["cost_nano"],
        )
        for row in reversed(rows)
    ]


def row_of(line: str) -> tuple[str, ...]:
    """What one row of the screen says: model, error, tokens in and out, cost in nano-OPEN."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", line, flags=re.S)
    error = re.search(r'class="sub mono">(\w+)<', cells[3])
    return cells[1], error[1] if error else "", cells[4], cells[5], re.search(r'value="(\d+)"', cells[6])[1]


def test_usage_is_narrowed_by_days_and_model(books, client, model):
    dan = sign_in(client, "dan")
    make_call(model, dan)

    assert "No call in these days" in page(client, "/en/build/usage/?since=2020-01-01&until=2020-01-31")
    assert "No call in these days" not in page(client, f"/en/build/usage/?model={model.pk}")
    page(client, "/en/build/usage/?since=nonsense&key=nonsense&after=nonsense")


def test_a_buyer_shows_a_call_and_hides_it_again(books, client, model):
    call = make_call(model, sign_in(client, "dan"))
    failed = make_call(model, person("dan"), status="failed")

    client.post(f"/en/build/usage/{call.pk}/show/", {"shown": "1", "next": "https://elsewhere.example/"})
    call.refresh_from_db()
    assert call.published_at is not None
    assert str(call.pk) in page(client, "/en/")
    client.post(f"/en/build/usage/{call.pk}/show/", {"shown": "0"})
    call.refresh_from_db()
    assert call.published_at is None
    assert str(call.pk) not in page(client, "/en/")
    assert client.post(f"/en/build/usage/{failed.pk}/show/", {"shown": "1"}).status_code == 409
    sign_in(client, "devi")
    assert client.post(f"/en/build/usage/{call.pk}/show/", {"shown": "1"}).status_code == 404


def test_usage_asks_as_often_for_ten_calls_as_for_many(books, client, model, django_assert_max_num_queries):
    dan = sign_in(client, "dan")
    for _ in range(3):
        make_call(model, dan)
    page(client, "/en/build/usage/")
    with django_assert_max_num_queries(15) as few:
        page(client, "/en/build/usage/")
    for _ in range(60):
        make_call(model, dan)
    with django_assert_max_num_queries(15) as many:
        page(client, "/en/build/usage/")

    assert len(few) == len(many)


# --- Oneself


def test_a_profile_is_changed(books, client):
    alice = sign_in(client, "alice")

    client.post("/en/settings/profile/", {"display_name": "Alice A.", "organisation": "Clinic", "language": "fr"})
    refused = client.post("/en/settings/profile/", {"display_name": "A", "language": "xx"})

    alice.refresh_from_db()
    assert (alice.display_name, alice.language) == ("Alice A.", "fr")
    assert refused.status_code == 422


def test_my_data_holds_my_records_and_nobody_elses(books, client):
    published({"alice": measured(2), "bob": measured(3, start=50)})
    alice = sign_in(client, "alice")
    people.give_consent(alice, "contributor")

    copy = client.get("/en/settings/data/export.json").json()

    assert copy["profile"]["username"] == "alice"
    assert len(copy["records"]) == 2
    assert "radius" in copy["records"][0]["content"]
    assert "contributor" in page(client, "/en/settings/data/").lower()
    given_at = json.loads(DjangoJSONEncoder().encode(alice.consents.get(document="contributor").given_at))
    assert list(copy["consents"][0]) == ["document", "version", "text_sha256", "given_at"]
    assert (copy["consents"][0]["document"], copy["consents"][0]["given_at"]) == ("contributor", given_at)


def test_an_account_with_money_is_not_closed(books, client):
    dan = sign_in(client, "dan")
    fund(books, dan, 3)
    assert client.post("/en/settings/close/", {"confirmation": "somebody"}).status_code == 422

    answer = client.post("/en/settings/close/", {"confirmation": "dan"})

    dan.refresh_from_db()
    assert answer.status_code == 422
    assert b"3.000000000 OPEN" in answer.content
    assert dan.is_active


def test_a_closed_account_cannot_be_used_and_its_keys_stop(books, client):
    dan = sign_in(client, "dan")
    client.post("/en/build/keys/new/", {"name": "Shop"})

    client.post("/en/settings/close/", {"confirmation": "dan"})

    dan.refresh_from_db()
    assert not dan.is_active
    assert ApiKey.objects.get().revoked_at is not None
    assert client.get("/en/inbox/").status_code == 302


def test_the_inbox_says_sentences_and_is_marked_as_read(books, client):
    dan = sign_in(client, "dan")
    notifications.notify(dan, "deposit_posted", amount_nano="1500000000")
    notifications.notify(dan, "invited", model="devi/check")
    notifications.notify(dan, "something_new")

    text = page(client, "/en/inbox/")

    assert "1.5000 OPEN arrived in your wallet." in text
    assert "You may call devi/check now." in text
    assert "Something new" in text
    client.post("/en/inbox/")
    assert not dan.notifications.filter(read_at=None).exists()
