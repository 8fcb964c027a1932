"""Who sees what on the public pages, and that lists cost the same at any size."""

import uuid
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.formats import date_format

from attribution import traces
from attribution.explain_records import RecordExplanation
from attribution.models import Epoch, RecordEpoch, RecordLine
from datanets import services as datanets
from datanets.models import AccessRequest, Datanet, Record
from ledger import chart
from ledger import services as ledger
from marketplace import access, listings, privileges, publishing, querysets
from marketplace.models import Access, ApiKey, Call
from marketplace.views.explanations import why_sentence
from tests.datanets.cast import RIGHTS, make_datanet, person, send, table
from tests.gateway.conftest import running_gateway
from tests.marketplace.pages.world import admin, call, small_shop, sold
from tests.shop import OPEN, approve_all, fund, make_model, measured, published, settle, trained


@pytest.fixture(autouse=True)
def _fresh(settings):
    cache.clear()
    settings.REVIEW_UNDO_S = 0
    settings.GATEWAY_URL = "http://127.0.0.1:9"  # nothing listens there


def page(client, address, *, status=200):
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:300]
    return answer.content.decode()


def here(datanet, tab=""):
    return f"/en/datanets/{datanet.owner.username}/{datanet.slug}/" + (f"{tab}/" if tab else "")


# --- Home and lists


def test_an_empty_site_has_an_honest_home_page(books, client):
    text = page(client, "/en/")

    assert "No call is shown yet" in text
    assert "No Datanet matches" in text


def test_home_totals_add_up_with_the_ledger(books, client):
    published({"alice": measured(3)})

    text = page(client, "/en/")

    assert "Equal to the ledger" in text
    assert querysets.totals().records == 3


def test_without_a_cache_pages_are_read_each_time_and_counted_limits_refuse(books, client, settings):
    published({"alice": measured(3)})
    settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": "redis://127.0.0.1:1/0"}}
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "5/5m/key"}

    assert "Equal to the ledger" in page(client, "/en/")
    page(client, "/en/status/")
    refused = client.post("/accounts/login/", {"login": "dan@example.org", "password": "a guess"})
    assert refused.status_code == 503
    assert refused["Retry-After"] == "30"
    page(client, "/api/schema/")


def test_filters_and_sort_stand_in_the_address(books, client):
    make_datanet("Tumours")
    make_datanet("Letters", kind="text", language="fr")

    text = page(client, "/en/datanets/?kind=text&sort=newest")

    assert "Letters" in text
    assert "Tumours" not in text
    assert 'aria-label="Remove filter Text"' in text


def test_a_language_is_named_in_the_language_of_the_page(books, client):
    make_datanet("Letters", kind="text", language="de")

    assert "German" in page(client, "/en/datanets/")
    assert "Allemand" in page(client, "/fr/datanets/")


def test_datanets_are_filtered_and_sorted_by_the_quality_of_their_records(books, client):
    published({"alice": measured(4)})
    make_datanet("Letters", kind="text")
    [tumours] = [one for one in querysets.datanets_for(None) if one.name == "Tumours"]
    assert tumours.quality_mean >= 60

    text = page(client, "/en/datanets/?quality=60")

    assert "Tumours" in text
    assert "Letters" not in text
    assert "Remove filter Quality from 60" in text
    best_first = page(client, "/en/datanets/?sort=quality")
    assert best_first.index(">Tumours<") < best_first.index(">Letters<")


def test_words_search_names_purposes_and_topics(books, client):
    make_datanet("Tumours", topics=["oncology"])
    make_datanet("Letters", kind="text")

    assert "Tumours" in page(client, "/en/datanets/?q=oncol")
    assert "Letters" not in page(client, "/en/datanets/?q=oncol")


def test_closed_datanets_exist_for_their_members_only(books, client):
    datanet = make_datanet("Secret", access="closed")

    page(client, here(datanet), status=404)
    assert "Secret" not in page(client, "/en/datanets/")

    client.force_login(person("carol"))
    assert "Secret" in page(client, here(datanet))


def test_lists_go_on_by_key_in_both_directions(books, client):
    for number in range(45):
        make_datanet(f"Pool {number:02}", kind="text")
    found = querysets.datanets_for(None)

    first = querysets.page_by(found, "created_at")
    second = querysets.page_by(found, "created_at", after=first.next)
    third = querysets.page_by(found, "created_at", after=second.next)
    back = querysets.page_by(found, "created_at", before=second.previous)

    assert [len(p.rows) for p in (first, second, third)] == [20, 20, 5]
    assert [row.pk for row in back.rows] == [row.pk for row in first.rows]
    assert not first.previous
    assert not third.next
    assert not back.previous


def test_the_list_of_datanets_asks_as_often_for_ten_as_for_a_thousand(books, client, django_assert_max_num_queries):
    make_datanet("One", kind="text")
    page(client, "/en/datanets/")
    with django_assert_max_num_queries(15) as few:
        page(client, "/en/datanets/")
    Datanet.objects.bulk_create(
        Datanet(
            owner=person("erin"),
            slug=f"d{n}",
            name=f"D{n}",
            purpose="p",
            kind="text",
            licence="CC0-1.0",
            rights_statement=RIGHTS,
        )
        for n in range(1000)
    )
    with django_assert_max_num_queries(15) as many:
        page(client, "/en/datanets/")

    assert len(few) == len(many)


def test_search_finds_datanets_models_and_people_and_goes_to_receipts(books, client):
    make_datanet("Tumours")
    person("alice")
    receipt = uuid.uuid4()

    assert "Tumours" in page(client, "/en/search/?q=tumo")
    assert "/en/people/alice/" in page(client, "/en/search/?q=alic")
    assert "Nothing found" in page(client, "/en/search/?q=zzz")
    assert client.get(f"/en/search/?q={receipt}")["Location"] == f"/r/{receipt}"


def test_a_profile_shows_approved_work_and_no_amounts(books, client):
    published({"alice": measured(4)})

    text = page(client, "/en/people/alice/")

    assert "Tumours" in text
    assert "OPEN" not in text.split("<main")[1].split("</main")[0]
    page(client, "/en/people/nobody/", status=404)


def test_documents_and_agreements_are_pages(books, client):
    for address in (
        "docs/",
        "docs/api/",
        "docs/payouts/",
        "docs/receipts/",
        "docs/accessibility/",
        "terms/",
        "privacy/",
    ):
        assert "<h1>" in page(client, f"/en/{address}")
    page(client, "/en/docs/nothing/", status=404)


def test_status_says_what_answers(books, client):
    text = page(client, "/en/status/")

    assert "does not answer" in text
    assert "nothing waits" in text


# --- A Datanet


def test_a_datanet_shows_its_records_with_statistics_over_all_rows(books, client):
    datanet = published({"alice": measured(30)}).datanet

    text = page(client, here(datanet))

    assert "30 records in v1" in text
    assert "Over all 30 rows of v1" in text
    assert "the first 200 approved records" in text
    assert "benign" in text
    assert "after=" in text  # 25 rows a page
    assert 'radius<span class="ty">Nombre</span>' in page(client, here(datanet).replace("/en/", "/fr/"))


def test_a_datanet_asks_as_often_for_three_records_as_for_sixty(books, client, django_assert_max_num_queries):
    few, many = published({"alice": measured(3)}), published({"bob": measured(60, start=90)}, name="Large")
    small_pool, large_pool = here(few.datanet), here(many.datanet)
    page(client, small_pool)
    with django_assert_max_num_queries(15) as small:
        page(client, small_pool)
    with django_assert_max_num_queries(15) as large:
        page(client, large_pool)

    assert len(small) == len(large)


def test_a_search_in_the_records_says_what_it_searched(books, client):
    datanet = published({"alice": measured(4)}).datanet

    assert "No record matches" in page(client, here(datanet) + "?q=zebra")
    assert "malignant</td>" not in page(client, here(datanet) + "?label=benign")


def test_every_tab_of_a_datanet_answers(books, client):
    datanet = published({"alice": measured(4)}).datanet

    for tab in ("card", "contributors", "submissions", "models", "versions", "payouts", "access"):
        page(client, here(datanet, tab))
    page(client, here(datanet, "nonsense"), status=404)


def test_records_of_an_on_request_datanet_are_for_its_readers(books, client):
    datanet = published({"alice": measured(4)}, access="on_request").datanet

    text = page(client, here(datanet))

    assert "The records are not public" in text
    assert "benign" not in text


def test_who_asks_for_access_is_told_how_long_an_answer_takes(books, client):
    datanet = make_datanet(access="on_request")
    client.force_login(person("zoe"))
    assert "Half of the requests" not in page(client, here(datanet, "access"))

    asked = datanets.request_access(datanet, user=person("dan"), purpose="A study")
    datanets.answer_access_request(asked, by=datanet.owner, grant=False, answer="Not now")

    assert "Half of the requests are answered within 1 hour." in page(client, here(datanet, "access"))


def test_access_is_asked_for_and_granted(books, client):
    datanet = make_datanet(access="on_request")
    dan = person("dan")
    client.force_login(dan)
    assert client.post(here(datanet) + "access/request/", {"purpose": ""}).status_code == 422
    client.post(here(datanet) + "access/request/", {"purpose": "A study"})
    asked = AccessRequest.objects.get()

    assert client.post(here(datanet) + "access/answer/", {"request": asked.pk, "act": "grant"}).status_code == 403

    client.force_login(datanet.owner)
    assert "A study" in page(client, here(datanet, "access"))
    client.post(here(datanet) + "access/answer/", {"request": asked.pk, "act": "grant"})
    assert datanets.can_read(dan, datanet)
    assert dan.notifications.get().kind == "access_granted"


def test_only_the_owner_publishes_a_version(books, client):
    datanet = make_datanet()
    send(datanet, table(measured(3)))
    approve_all(datanet)
    client.force_login(person("carol"))
    assert client.post(here(datanet) + "publish/").status_code == 403

    client.force_login(datanet.owner)
    assert client.post(here(datanet) + "publish/", {"note": "First"}).status_code == 302
    assert "First" in page(client, here(datanet, "versions"))


def test_the_owner_names_curators_by_handle(books, client):
    datanet, dan = make_datanet(), person("dan")
    client.force_login(datanet.owner)

    assert client.post(here(datanet) + "access/curators/", {"handle": "nobody"}).status_code == 422
    client.post(here(datanet) + "access/curators/", {"handle": "@dan"})
    assert datanets.can_curate(dan, datanet)
    client.post(here(datanet) + "access/curators/", {"handle": "dan", "act": "remove"})
    assert not datanets.can_curate(dan, datanet)


def test_the_owner_of_a_closed_datanet_names_its_readers_by_handle(books, client):
    datanet = make_datanet(access="closed")
    client.force_login(datanet.owner)

    assert "Add a reader" in page(client, here(datanet, "access"))
    assert client.post(here(datanet) + "access/readers/", {"handle": "nobody"}).status_code == 422
    dan = person("dan")
    client.post(here(datanet) + "access/readers/", {"handle": "@dan"})
    assert "access/readers/" in page(client, here(datanet, "access"))
    client.force_login(dan)
    page(client, here(datanet))
    assert client.post(here(datanet) + "access/readers/", {"handle": "dan"}).status_code == 403
    client.force_login(datanet.owner)
    client.post(here(datanet) + "access/readers/", {"handle": "dan", "act": "remove"})
    client.force_login(dan)
    page(client, here(datanet), status=404)


def test_exports_need_a_reader_and_a_permission(books, client):
    datanet = published({"alice": measured(4)}).datanet
    assert client.get(here(datanet) + "export.csv").status_code == 302  # sign in first

    client.force_login(person("dan"))
    rows = b"".join(client.get(here(datanet) + "export.csv").streaming_content).decode().splitlines()
    assert len(rows) == 5
    page(client, here(datanet) + "export.exe", status=404)

    Datanet.objects.update(export_allowed=False)
    assert client.get(here(datanet) + "export.csv").status_code == 403


def test_a_template_has_the_columns_and_a_sample_passes_the_schema(books, client):
    datanet = make_datanet()

    head = page(client, here(datanet) + "template/").strip()
    sample = client.get(here(datanet) + "template/?sample=1").content

    assert head == "radius,texture,diagnosis"
    assert send(datanet, sample).status == "in_review"


def column_fields(*names):
    rows = {"columns-TOTAL_FORMS": "8", "columns-INITIAL_FORMS": "0"}
    for number, name in enumerate(names):
        rows |= {f"columns-{number}-name": name, f"columns-{number}-type": "number"}
    for number in range(len(names), 8):
        rows[f"columns-{number}-type"] = "number"
    return rows


def given(**fields):
    return {
        "name": "Firms",
        "purpose": "Yearly figures",
        "kind": "tabular",
        "licence": "CC0-1.0",
        "rights_statement": RIGHTS,
        "access": "open",
        "approvals_needed": "1",
    } | fields


def test_a_datanet_is_made_with_its_schema_fee_and_curators(books, client):
    erin, _carol = person("erin"), person("carol")
    client.force_login(erin)
    marked = column_fields("value", "invest") | {"columns-1-is_label": "on"}

    answer = client.post("/en/datanets/new/", given(training_fee="2.5", curators="carol") | marked)

    assert answer.status_code == 302
    made = Datanet.objects.get(slug="firms")
    assert made.schema["label"] == "invest"
    assert made.schema["label_type"] == "number"
    assert made.terms.get().training_fee_nano == 2_500_000_000
    assert datanets.can_curate(person("carol"), made)


def test_a_datanet_that_cannot_be_made_keeps_what_was_typed(books, client):
    client.force_login(person("erin"))

    without_columns = client.post("/en/datanets/new/", given() | column_fields())
    unknown_person = client.post("/en/datanets/new/", given(curators="nobody") | column_fields("value"))
    more = client.post("/en/datanets/new/", given(more="1") | column_fields("value"))

    assert without_columns.status_code == unknown_person.status_code == 422
    assert b"Yearly figures" in without_columns.content
    assert b'name="columns-15-name"' in more.content
    assert not Datanet.objects.exists()


def test_guidelines_are_markdown_without_scripts(books, client):
    datanet = make_datanet(guidelines="# Rules\n<script>alert(1)</script> [x](javascript:alert(1)) **bold**")

    text = page(client, here(datanet, "card"))

    assert "<strong>bold</strong>" in text
    assert "<script>alert" not in text
    assert 'href="javascript' not in text


# --- Records


def test_a_record_says_why_it_earned_nothing(books, client):
    published({"alice": measured(4)})
    record = Record.objects.order_by("id").first()

    text = page(client, f"/en/records/{record.pk}/")

    assert "No settled call used it." in text


def test_a_record_that_only_a_training_fee_paid_says_why_no_call_did(books, client):
    fund(books, person("devi"), 10)
    trained(books, published({"alice": measured(10), "bob": measured(10, start=10)}, fee_open=2))
    settle(books)
    paid = RecordLine.objects.filter(amount_nano__gt=0).first()
    client.force_login(paid.record.contributor)

    text = page(client, f"/en/records/{paid.record_id}/")

    assert "Why nothing from calls:" in text
    assert "No settled call used it." in text


def test_what_a_record_earned_and_in_how_many_calls_is_no_strangers_business(books, client):
    # Given a record that a settled call paid
    version = sold(books, calls=1)[0]
    record = RecordEpoch.objects.filter(amount_nano__gt=0).first().record
    insiders = [record.contributor, person("carol"), record.datanet.owner, admin("fred")]

    # When its insiders and strangers look at its page, and ask the API
    seen = {}
    for who in [*insiders, None, person("dan"), version.model.owner]:
        client.logout()
        if who:
            client.force_login(who)
        text = page(client, f"/en/records/{record.pk}/")
        earned = client.get(f"/api/v1/records/{record.pk}/").json()["earned"]
        seen[who] = ("Settled calls it took part in" in text, earned["calls"], earned["earned_nano"] is not None)

    # Then only the insiders learn how much and how often
    assert seen == {who: (True, 1, True) if who in insiders else (False, None, False) for who in seen}


def test_strangers_read_why_a_record_earned_nothing_without_the_sums(books, client):
    published({"alice": measured(4)})
    record = Record.objects.order_by("id").first()
    why = RecordExplanation(earned_nano=0, call_count=7, reason="net_negative", net=-5, positive=3)

    assert why_sentence(why, record, in_figures=False) == "It spoke against the answers more than for them."
    assert "7 calls" in why_sentence(why, record, in_figures=True)


def test_the_payouts_of_a_datanet_are_its_own_and_name_no_model_that_is_not_listed(books, client):
    # Given a settled model that learned from two Datanets
    one, two = published({"alice": measured(10)}), published({"bob": measured(10, start=10)}, name="Second")
    fund(books, person("devi"), 10)
    version = trained(books, one, two)
    fund(books, person("dan"), 10)
    call(version, person("dan"))
    settle(books)
    paid = {
        pool: sum(RecordEpoch.objects.filter(record__datanet=pool).values_list("amount_nano", flat=True))
        for pool in (one.datanet, two.datanet)
    }
    epoch = Epoch.objects.get()

    for pool, nano in paid.items():
        text = page(client, here(pool, "payouts")).split("<tfoot>")[1]
        assert f'value="{nano}"' in text
    assert 0 < max(paid.values()) < epoch.paid_nano

    # And once the model is withdrawn from sale, nobody is sent to a page that is not there
    listings.unlist_model(version.model, by=version.model.owner)
    text = page(client, here(one.datanet, "payouts"))
    assert "A model that is not listed" in text
    assert "/models/devi/" not in text


def test_a_copy_names_its_leader(books, client):
    datanet = make_datanet()
    send(datanet, table(measured(4)), by="alice")
    send(datanet, table(measured(4)), by="bob")
    approve_all(datanet)
    publishing.publish_version(datanet, by=datanet.owner)
    copy = Record.objects.filter(contributor=person("bob")).order_by("id").first()

    text = page(client, f"/en/records/{copy.pk}/")

    assert f"merged with an earlier copy, record {copy.copy_of_id}" in text


def test_a_waiting_record_is_for_its_contributor_and_the_curators(books, client):
    send(make_datanet(), table(measured(2)))
    record = Record.objects.first()

    page(client, f"/en/records/{record.pk}/", status=404)
    client.force_login(person("dan"))
    page(client, f"/en/records/{record.pk}/", status=404)
    client.force_login(person("carol"))
    assert "No curator has decided yet." in page(client, f"/en/records/{record.pk}/")


def test_only_its_contributor_withdraws_a_record(books, client):
    published({"alice": measured(3)})
    record = Record.objects.order_by("id").first()
    client.force_login(person("dan"))
    assert client.post(f"/en/records/{record.pk}/withdraw/").status_code == 403

    client.force_login(person("alice"))
    client.post(f"/en/records/{record.pk}/withdraw/")
    record.refresh_from_db()
    assert record.status == "withdrawn"
    client.logout()
    assert "You may not read this record" in page(client, f"/en/records/{record.pk}/")
    assert "Its contributor took it back" in page(client, f"/en/records/{record.pk}/")


def test_a_record_that_its_owner_took_down_says_so(books, client):
    datanet = published({"alice": measured(3)}).datanet
    record = Record.objects.order_by("id").first()

    publishing.withdraw_record(record, by=datanet.owner)

    text = page(client, f"/en/records/{record.pk}/")
    assert "The owner of the Datanet or an administrator took it down" in text
    assert "took it back" not in text


# --- Models


@pytest.fixture
def model(books):
    version = published({"alice": measured(40), "bob": measured(40, start=40)})
    return trained(books, version).model


def test_models_are_compared_by_price(books, client, model):
    text = page(client, "/en/models/?sort=cheap&engine=linear")

    assert "devi/check" in text
    assert "0.0240" in text
    assert "devi/check" not in page(client, "/en/models/?engine=retrieval")


def test_a_model_shows_prices_data_figures_and_snippets(books, client, model):
    text = page(client, "/en/models/devi/check/")

    assert "Accuracy on rows it had not seen" in text
    assert "Regularisation (l2)" in text
    assert "Tumours" in text
    assert "/v1/classify" in text
    assert "Sign in to try this model" in text
    for tab in ("attribution", "versions", "usage"):
        page(client, f"/en/models/devi/check/{tab}/")
    page(client, "/en/models/devi/check/nonsense/", status=404)


def test_an_unlisted_model_is_its_owners(books, client):
    make_model("Draft")

    page(client, "/en/models/devi/draft/", status=404)
    client.force_login(person("devi"))
    assert "Not listed" in page(client, "/en/models/devi/draft/")


def test_the_playground_has_a_field_per_column_and_keeps_what_was_typed_when_the_gateway_is_down(books, client, model):
    dan = person("dan")
    client.force_login(dan)
    assert 'name="radius"' in page(client, "/en/models/devi/check/")

    answer = client.post("/en/models/devi/check/try/", {"radius": "12.5", "texture": "3", "act": "send", "nonce": "n"})

    assert answer.status_code == 422
    assert b"The gateway does not answer. Nothing was charged" in answer.content
    assert b'value="12.5"' in answer.content
    assert ApiKey.objects.get(owner=dan).spend_cap_nano == OPEN


def test_the_playground_asks_through_the_gateway_and_says_what_it_cost_and_why(books, client, model, settings):
    # Given Dan with 1 OPEN, and a running gateway
    dan = person("dan")
    fund(books, dan, 1)
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    client.force_login(dan)
    row = {"radius": "12.5", "texture": "18", "nonce": "one"}
    with running_gateway(books) as gateway:
        settings.GATEWAY_URL = gateway.url

        # When he asks what it would cost, and then sends it, twice by a double click
        quote = client.post("/en/models/devi/check/try/", row | {"act": "quote"})
        first = client.post("/en/models/devi/check/try/", row | {"act": "send"})
        again = client.post("/en/models/devi/check/try/", row | {"act": "send"})

        # And Zoe, who has nothing, in French
        poor = Client()
        poor.force_login(person("zoe"))
        refused = poor.post("/fr/models/devi/check/try/", row | {"act": "send"})

    assert refused.status_code == 422
    assert "Votre portefeuille ne couvre pas le coût maximal de cet appel." in refused.content.decode()

    # Then the quote charged nothing, the two clicks one call, and the page shows answer and cost
    assert b"at most 0.024000000 OPEN" in quote.content
    assert first.status_code == 303
    assert first["Location"] == again["Location"]
    call = Call.objects.get(status="succeeded")
    text = page(client, first["Location"].partition("#")[0])
    assert str(call.pk) in text
    assert 'value="24000000"' in text

    # And once the call is traced, its records have names and shares, each a part of the whole
    traces.trace(f"call:{call.pk}")
    panel = page(client, f"/en/calls/{call.pk}/why/?part=1")
    assert "/en/records/" in panel
    assert "amount at the end of the epoch" in panel
    assert "alice" in panel or "bob" in panel


def test_the_playground_key_is_made_once_per_session_for_one_model_and_a_few_hours(books, client, model):
    client.force_login(person("dan"))
    here = "/en/models/devi/check/key/"

    first = client.post(here).json()["key"]
    second = client.post(here).json()["key"]

    assert first == second
    key = ApiKey.objects.get(revoked_at=None)
    assert list(key.allowed_models.all()) == [model]
    assert key.expires_at < timezone.now() + timedelta(hours=3)
    client.logout()
    assert client.post(here).status_code == 302


def test_the_playground_spends_at_most_one_open_a_day_however_many_keys_it_makes(books, client):
    # Given Dan, who asked in a playground, and in another browser with another key
    version = small_shop(books)
    fund(books, person("dan"), 10)
    here = "/en/models/devi/check/key/"
    client.force_login(person("dan"))
    client.post(here)
    call(version, person("dan"))
    spent_nano = Call.objects.get().cost_nano
    other = Client()
    other.force_login(person("dan"))

    # When the other browser's page makes its key
    other.post(here)

    # Then the first key has ended, and the second may spend only what the first left
    assert ApiKey.objects.get(revoked_at=None).spend_cap_nano == OPEN - spent_nano < OPEN


def test_nobody_gets_a_playground_key_for_a_model_they_may_not_call(books, client):
    trained(books, published({"alice": measured(10)}), access_mode="invite")
    client.force_login(person("dan"))

    assert client.post("/en/models/devi/check/key/").status_code == 403
    assert not ApiKey.objects.exists()


def test_a_pass_is_bought_once_and_shown(books, client):
    version = published({"alice": measured(20), "bob": measured(20, start=40)})
    trained(books, version, access_mode="pass", pass_price_nano=3 * OPEN, pass_days=7)
    dan = person("dan")
    client.force_login(dan)
    assert client.post("/en/models/devi/check/pass/").status_code == 402
    fund(books, dan, 10)

    bought = client.post("/en/models/devi/check/pass/", follow=True)
    again = client.post("/en/models/devi/check/pass/")
    books.fold()

    assert again.status_code == 409
    assert ledger.balance_nano(chart.wallet(dan.pk)) == 7 * OPEN
    until = date_format(Access.objects.get().ends_at, "j M Y")
    assert f"Your pass runs until {until}. It does not renew itself." in bought.content.decode()
    assert "Your pass runs until" in page(client, "/en/models/devi/check/")


def make_call(model, buyer, **fields):
    """A call as the gateway leaves it: here only its row, for pages that show rows."""
    now = timezone.now()
    fields = {
        "status": "succeeded",
        "endpoint": "classify",
        "started_at": now - timedelta(milliseconds=12),
        "finished_at": now,
    } | fields
    if fields["status"] == "succeeded":
        parts = {
            "data_nano": 8_400_000,
            "curation_nano": 1_200_000,
            "developer_nano": 13_200_000,
            "platform_nano": 1_200_000,
        }
        fields = {"cost_nano": 24_000_000} | parts | fields
    return Call.objects.create(
        id=ledger.new_id(),
        buyer=buyer,
        model=model,
        version=model.versions.first(),
        price_list=model.price_lists.first(),
        split_rule=model.split_rule,
        **fields,
    )


def test_a_published_call_stands_on_the_home_page_with_parts_that_add_up(books, client, model):
    call = make_call(model, person("dan"), published_at=timezone.now())

    text = page(client, "/en/")

    assert str(call.pk) in text
    for amount in (24_000_000, 8_400_000, 13_200_000, 1_200_000):
        assert f'value="{amount}"' in text


def test_why_an_answer_is_for_its_buyer_alone(books, client, model):
    call = make_call(model, person("dan"))
    address = f"/en/calls/{call.pk}/why/"

    assert client.get(address).status_code == 302
    client.force_login(person("devi"))
    page(client, address, status=404)
    client.force_login(person("dan"))
    assert "Being measured" in page(client, address)
    assert "<h1" not in page(client, address + "?part=1")


def test_an_invitation_lets_somebody_try(books, client):
    version = published({"alice": measured(20), "bob": measured(20, start=40)})
    model = trained(books, version, access_mode="invite").model
    client.force_login(person("dan"))
    assert "by invitation" in page(client, "/en/models/devi/check/")
    assert client.post("/en/models/devi/check/try/", {"act": "send"}).status_code == 403

    access.invite(model, by=person("devi"), buyer=person("dan"))
    assert 'name="radius"' in page(client, "/en/models/devi/check/")


def test_the_list_of_models_asks_as_often_for_one_as_for_many(books, client, django_assert_max_num_queries):
    make_model("First")
    client.force_login(person("devi"))
    page(client, "/en/models/")
    with django_assert_max_num_queries(15) as few:
        page(client, "/en/models/")
    for number in range(30):
        make_model(f"M {number}")
    with django_assert_max_num_queries(15) as many:
        page(client, "/en/models/")

    assert len(few) == len(many)
