"""A connected model repeats a record: from the call through trace, settlement and replay to the pages of who may see what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from attribution import explain_records, forgetting, replay, traces
from attribution.models import Line, Trace
from datanets.models import Record
from marketplace import housekeeping, listings, privileges, publishing, training
from marketplace.gateway.charging import Outcome
from marketplace.models import CallContent, ListedModel
from tests.datanets import cast
from tests.gateway import shop as shops
from tests.gateway.conftest import running_gateway
from tests.marketplace.pages.world import captured
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person, published, settle, trained

WREN = "The wren is a small brown bird that weighs nine grams and sleeps in company when nights are cold."
HERON = "A heron stands in shallow water for hours before it catches a single fish and swallows it whole."
OWN = "Nobody ever wrote these words of mine in any record you could read"
FEE_NANO = 2 * OPEN


@pytest.fixture(scope="module")
def shop(books_of_module, upstream) -> Iterator[shops.Shop]:
    """Erin's connected model, said to have learned from texts of Alice and Zoe, and from Bob's copy of Alice's."""
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    before = settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S
    settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S = [f"127.0.0.1:{upstream.server_port}"], 0
    datanet = cast.make_datanet("Birds", kind="text")
    training.set_fee(datanet, by=datanet.owner, training_fee_nano=FEE_NANO)
    for name, text in {"alice": WREN, "bob": WREN.upper(), "zoe": HERON}.items():
        cast.approve_all(cast.send(datanet, text.encode(), by=name, name=f"{name}.txt"))
    version = publishing.publish_version(datanet, by=datanet.owner)
    fund(books_of_module, person("erin"), 10)
    found = trained(
        books_of_module,
        version,
        name="Repeats",
        owner="erin",
        engine="connected",
        upstream_url=f"http://127.0.0.1:{upstream.server_port}/v1",
        upstream_model="repeats",
    )
    yield shops.Shop(books_of_module, upstream, {"repeats": found.model})
    settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S = before


@pytest.fixture(scope="module")
def gateway(shop):
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]) as running:
        yield running


def ask(gateway, key: str, text: str) -> str:
    """Ask the model, which answers with what it is told. Returns the receipt's id."""
    body = {"model": "erin/repeats", "messages": [{"role": "user", "content": text}], "max_tokens": 200}
    answer = gateway.post("/v1/chat/completions", body, key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()["open"]["receipt_id"]


def page(person_, address: str) -> str:
    browser = Client()
    browser.force_login(person_)
    return browser.get(address).content.decode()


def test_who_wrote_what_a_connected_model_repeats_is_paid_for_it(gateway, shop):
    # Given an answer that repeats Alice's record, and goes on in its own words
    dan, key = shop.buyer("dan", OPEN)
    call_id = ask(gateway, key, f"{WREN} {OWN}")

    # When the epoch ends
    assert settle(shop.books) == 1

    # Then Alice has what the repeated words are of it, her copyist nothing, and the rest is nobody's, with its reason
    trace = Trace.objects.get(charge_id=call_id)
    records = {record.contributor.username: record for record in Record.objects.filter(datanet__name="Birds")}
    assert trace.method == "verbatim-spans/1"
    assert trace.scores == {str(records["alice"].pk): 10**9}
    assert 0 < trace.causal_millionths < 10**6
    lines = {line.payee: line for line in Line.objects.filter(source_id=call_id, role="data").select_related("payee")}
    assert set(lines) == {person("alice"), None}
    paid_nano = trace.data_nano * trace.causal_millionths // 10**6
    assert (lines[person("alice")].amount_nano, lines[None].amount_nano) == (paid_nano, trace.data_nano - paid_nano)
    assert lines[None].reason == "own_words"
    assert explain_records.why_record(records["bob"]).reason == "follower"

    # And the training fee was divided equally over who leads
    fees = Line.objects.filter(source="training", role="data", payee__isnull=False).values_list(
        "payee__username", "amount_nano"
    )
    assert dict(fees) == {"alice": FEE_NANO * 9 // 20, "zoe": FEE_NANO * 9 // 20}

    # And a replay finds the same, an erased author's words would be found, and everything adds up
    kept = CallContent.objects.get(pk=call_id)
    again = replay.of_charge(trace.charge_id, sealed=bytes(kept.sealed), sealed_key=bytes(kept.sealed_key))
    assert (again.differences, again.expired) == ([], [])
    of_alice = forgetting.charges_that_quote([records["alice"].pk], traced_since=trace.created_at)
    assert of_alice == [trace.charge_id]
    assert forgetting.charges_that_quote([records["zoe"].pk], traced_since=trace.created_at) == []
    assert nothing_is_wrong()

    # And Dan sees the words side by side, as long as they are kept
    why = reverse("call_why", args=[call_id])
    shown = page(dan, why)
    assert f'<mark class="a2">{WREN[:-1]}</mark>' in shown
    assert shown.count("<mark") == 3  # in the whole answer, in the span, in the record
    assert "provenance, not causation" in shown
    assert "stated by its developer, not verified" in shown
    CallContent.objects.filter(pk=call_id).update(expires_at=trace.created_at)
    housekeeping.forget_call_content()
    assert "wren" not in page(dan, why)
    assert "have expired" in page(dan, why)

    # And Alice sees how many words, and none of them
    line_page = page(person("alice"), reverse("earnings_why", args=[lines[person("alice")].pk]))
    assert f"{len(WREN.split())} words of the answer" in line_page
    assert "provenance, not causation" in line_page
    assert OWN[:12] not in line_page and "<mark" not in line_page


def test_an_answer_in_the_models_own_words_pays_no_record(gateway, shop):
    dan, key = shop.buyer("dan-own", OPEN)
    call_id = ask(gateway, key, OWN)

    assert settle(shop.books) == 1

    trace = Trace.objects.get(charge_id=call_id)
    assert (trace.scores, trace.causal_millionths) == ({}, 0)
    lines = Line.objects.filter(source_id=call_id).values_list("role", "payee", "reason", "amount_nano")
    assert set(lines) == {
        ("data", None, "own_words", trace.data_nano),
        ("curation", None, "own_words", trace.curation_nano),
    }
    shown = page(dan, reverse("call_why", args=[call_id]))
    assert "No six words in a row" in shown
    assert "in its own words" in shown


def test_a_record_that_was_withdrawn_before_the_call_is_paid_nothing_and_its_copy_takes_no_place(gateway, shop):
    dan, key = shop.buyer("dan-late", OPEN)
    early = ask(gateway, key, HERON)
    publishing.withdraw_record(Record.objects.get(contributor=person("zoe")), by=person("zoe"))
    late = ask(gateway, key, HERON)

    assert settle(shop.books) == 1

    # The call before is still paid, however late it is traced
    assert [line.payee for line in Line.objects.filter(source_id=early, role="data")] == [person("zoe")]
    assert [(line.payee, line.reason) for line in Line.objects.filter(source_id=late, role="data")] == [
        (None, "own_words")
    ]
    # And its words are no longer shown to the buyer where they stood in the record
    assert "You may not read this record" in page(dan, reverse("call_why", args=[early]))


def test_of_a_model_connected_to_rows_of_a_table_nothing_can_be_told(shop):
    version = trained(
        shop.books,
        published({"alice": measured(10)}),
        name="Rows",
        engine="connected",
        upstream_url=ListedModel.objects.get(name="Repeats").upstream_url,
        upstream_model="repeats",
    )
    dan, _key = shop.buyer("dan-rows", OPEN)
    outcome = Outcome("succeeded", 3, 9, kept={"answer": "radius texture diagnosis radius texture diagnosis"})
    call_id = captured(version, dan, outcome, endpoint="chat")
    shop.books.fold()

    trace = traces.trace(f"call:{call_id}")

    assert (trace.status, trace.reason, trace.scores, trace.causal_millionths) == ("done", "no_method_yet", {}, 0)


def test_a_models_page_says_what_its_method_is_and_is_not(shop):
    model = listings.visible_to(person("dan")).get(name="Repeats")
    shown = page(person("dan"), reverse("model", args=[model.owner.username, model.slug]))

    assert "Provenance, not causation" in shown
    assert "Stated by its developer, not verified" in shown
