"""The support guard: callers require something of the data behind an answer, and models abstain where it is not met."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import features, replay
from attribution import verify as attribution_verify
from attribution.engines import neighbours
from attribution.models import Line, Trace
from datanets.models import Record
from ledger import services as ledger
from ledger import verify as ledger_verify
from marketplace import listings, pricing, publishing
from marketplace import verify as shop_verify
from marketplace.gateway import catalogue
from marketplace.gateway.catalogue import PriceList
from marketplace.gateway.charging import Call as CallOnItsWay
from marketplace.gateway.charging import Outcome, charge
from marketplace.gateway.database import connect
from marketplace.gateway.errors import ApiError
from marketplace.gateway.guard import take_requirement
from marketplace.models import Call
from tests.datanets import cast
from tests.gateway import shop as shops
from tests.gateway.conftest import application_url, wait_until
from tests.gateway.shop import OPEN
from tests.gateway.test_streams import MESSAGES, events_of
from tests.shop import settle

CALL_NANO, ABSTAIN_NANO = 10_007, 1_003
BENIGN, MALIGNANT = {"radius": 14.0, "texture": 20.0}, {"radius": 104.0, "texture": 20.0}


@pytest.fixture(scope="module")
def guarded(shop, gateway):
    """A neighbours model on two Datanets: what is benign is in erin/clinic under CC-BY-4.0, what is malignant in erin/ward."""
    versions, rows = [], []
    for name, licence, place in (("Clinic", "CC-BY-4.0", 0), ("Ward", "CC0-1.0", 1)):
        datanet = cast.make_datanet(name, licence=licence)
        measured = cast.measured(80)[place::2]
        submission = cast.send(datanet, cast.table(measured))
        cast.approve_all(submission)
        Record.objects.filter(datanet=datanet).update(decided_at="2020-01-01T00:00Z")  # long past the time to undo
        versions.append(publishing.publish_version(datanet, by=cast.person("erin")))
        rows += zip(Record.objects.filter(datanet=datanet).order_by("id"), measured, strict=True)
    Record.objects.filter(datanet__slug="ward").update(created_at="2025-06-01T00:00Z")
    model = listings.create_model(owner=cast.person("erin"), name="Sorts", purpose="Sorts tumours", engine="neighbours")
    values = [{"radius": float(radius), "texture": float(texture)} for _, (radius, texture, _) in rows]
    spec = features.fit_spec(values, cast.SCHEMA, "tabular")
    labels = [label for _, (_, _, label) in rows]
    artifact = neighbours.fit(features.transform(spec, values), labels, np.ones(len(rows)), {})
    serving = {
        "kind": "tabular",
        "versions": [],
        "records": [record.pk for record, _ in rows],
        "identities": [record.identity for record, _ in rows],
        "spec": spec,
        "gated": [],
        "shares": [1] * len(rows),
    }
    shops.add_version(model, artifact, serving, datanet_versions=versions)
    shops.listed(model, call=CALL_NANO, abstain=ABSTAIN_NANO)
    wait_until(lambda: gateway.get("/v1/models/erin/sorts").status_code == 200)
    return model


@pytest.fixture(scope="module")
def version(shop, guarded):
    """As the gateway knows it."""
    with contextlib.closing(connect(application_url(shop.books), "test")) as session, session.cursor() as cursor:
        return catalogue.load(cursor).newest["erin/sorts"]


def require(gateway, key, input=BENIGN, *, model="erin/sorts", headers=None, **conditions):
    body = {"model": model, "input": input, "open": {"require": conditions}}
    return gateway.post("/v1/classify", body, key=key, **headers or {})


@pytest.mark.parametrize(
    ("input", "conditions", "reason"),
    [
        (BENIGN, {"support": 1}, None),
        (BENIGN, {"licences": ["CC-BY-4.0"], "support": 0.6}, None),
        (BENIGN, {"licences": ["CC-BY-4.0", "CC0-1.0"]}, None),
        (BENIGN, {"licences": ["CC0-1.0"]}, "no_records"),
        (MALIGNANT, {"licences": ["CC0-1.0"]}, None),
        (MALIGNANT, {"datanets": ["erin/ward"]}, None),
        (MALIGNANT, {"datanets": ["erin/clinic"]}, "no_records"),
        (BENIGN, {"datanets": ["erin/elsewhere"]}, "no_records"),
        (BENIGN, {"data_newer_than": "2025-07-01"}, None),
        (BENIGN, {"max_age_days": 1}, None),
        (MALIGNANT, {"data_newer_than": "2025-07-01"}, "no_records"),
        (MALIGNANT, {"data_newer_than": "2025-05-31T12:00:00+02:00"}, None),
        (MALIGNANT, {"max_age_days": 1}, "no_records"),
        (MALIGNANT, {"max_age_days": 36_500}, None),
    ],
)
def test_an_answer_stands_on_records_that_meet_what_is_required_or_there_is_none(
    gateway, shop, guarded, input, conditions, reason
):
    dan, key = shop.buyer(f"dan-{uuid.uuid4().hex[:12]}", OPEN)

    answer = require(gateway, key, input, **conditions)

    assert answer.status_code == 200, answer.text
    told = answer.json()
    if reason is None:
        assert told["label"] == ("benign" if input is BENIGN else "malignant")
        assert told["open"]["support"] == 1
        assert "abstained" not in told["open"]
        cost_nano = CALL_NANO
    else:
        assert (told["label"], told["probabilities"], told["neighbours"]) == (None, {}, [])
        why = told["open"]["abstained"]
        assert (why["reason"], why["found"], why["asked"]) == (reason, {"support": 0, "records": 0}, conditions)
        assert why["message"]
        cost_nano = ABSTAIN_NANO
    assert told["open"]["cost_nano"] == cost_nano == sum(told["open"]["split"].values())
    call = Call.objects.get(pk=answer.headers["x-receipt-id"])
    assert (call.status, call.cost_nano) == ("abstained" if reason else "succeeded", cost_nano)
    assert shop.balance_nano(dan) == OPEN - cost_nano


def test_low_support_is_told_with_what_was_found(gateway, shop, guarded):
    # Given an input halfway, whose five votes are not all of one kind
    _, key = shop.buyer("dan-halfway", OPEN)
    supports = {
        radius: gateway.classify(key, model="erin/sorts", input={"radius": radius, "texture": 20.0}).json()
        for radius in (54.0, 57.0, 58.0, 59.0, 60.0, 61.0, 62.0, 65.0)
    }
    radius, mixed = next((at, told) for at, told in supports.items() if max(told["probabilities"].values()) < 1)
    support = max(mixed["probabilities"].values())

    # When more is required than there is, or just that
    input = {"radius": radius, "texture": 20.0}
    less, enough = (require(gateway, key, input, support=asked).json() for asked in (1.0, support))

    # Then the model abstains, or answers
    assert less["label"] is None
    assert less["open"]["abstained"]["reason"] == "low_support"
    assert less["open"]["abstained"]["found"]["support"] == pytest.approx(support)
    assert enough["label"] == mixed["label"]
    assert enough["open"]["support"] == pytest.approx(support)


def test_an_abstained_charge_pays_no_record_and_says_so(gateway, shop, guarded):
    # Given a call at which the model abstained, for a price
    _, key = shop.buyer("dan-settles", OPEN)
    call = Call.objects.get(pk=require(gateway, key, licences=["CC0-1.0"]).headers["x-receipt-id"])

    # When its epoch is settled
    settle(shop.books)

    # Then the parts of data and curation are nobody's, by name, and a replay finds the same
    lines = set(Line.objects.filter(source_id=call.pk).values_list("role", "payee", "reason", "amount_nano"))
    assert lines == {
        ("data", None, "abstained", call.data_nano),
        ("curation", None, "abstained", call.curation_nano),
    }
    trace = Trace.objects.get(charge_id=call.pk)
    assert (trace.scores, trace.context, trace.method) == ({}, {}, "abstained/1")
    again = replay.of_charge(call.pk)
    assert (again.differences, again.lines) == ([], 2)
    assert [*ledger_verify.failures(), *attribution_verify.failures(), *shop_verify.failures()] == []


def test_an_abstained_call_is_free_where_its_price_is_zero(gateway, shop, guarded):
    dan, key = shop.buyer("dan-free", OPEN)

    answer = require(gateway, key, shops.ROW, model="erin/tumours", datanets=["erin/birds"])

    told = answer.json()
    assert told["label"] is None
    assert told["open"]["abstained"] == {
        "reason": "other_data",
        "message": "The model was made of data that you do not allow, so there is no answer.",
        "found": {"licences": ["CC-BY-4.0"], "datanets": ["carol/tumours"]},
        "asked": {"datanets": ["erin/birds"]},
    }
    assert told["open"]["cost_nano"] == 0
    call_id = uuid.UUID(told["open"]["receipt_id"])
    assert Call.objects.get(pk=call_id).status == "abstained"
    assert ledger.posting_of(call_id) is None
    assert shop.balance_nano(dan) == OPEN
    listed = gateway.get("/v1/calls", key=key).json()["data"][0]
    assert (listed["status"], listed["cost_nano"]) == ("abstained", 0)


def test_a_linear_model_is_judged_by_all_the_data_it_was_made_of(gateway, shop, guarded):
    _, key = shop.buyer("dan-linear", OPEN)

    met = require(gateway, key, shops.ROW, model="erin/tumours", licences=["CC-BY-4.0"], datanets=["carol/tumours"])

    assert met.json()["label"] in ("benign", "malignant")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_chat_abstains_through_the_openai_client_without_asking_its_model(gateway, shop, guarded, streamed):
    dan, key = shop.buyer(f"dan-chat-{streamed:d}", OPEN)
    asked_before = len(shop.upstream.seen)

    answer = gateway.openai(key).chat.completions.create(
        model="erin/fine",
        messages=MESSAGES,
        max_tokens=20,
        stream=streamed,
        extra_body={"open": {"require": {"licences": ["CC0-1.0"]}}},
    )
    if streamed:
        chunks = list(answer)
        assert len(chunks) == 1
        choice, message, told = chunks[0].choices[0], chunks[0].choices[0].delta, chunks[0].model_extra["open"]
    else:
        choice, message, told = answer.choices[0], answer.choices[0].message, answer.model_extra["open"]
        assert answer.usage.total_tokens == 0

    assert choice.finish_reason == "content_filter"
    assert (message.content, message.refusal) == ("", told["abstained"]["message"])
    assert told["abstained"]["reason"] == "other_data"
    assert len(shop.upstream.seen) == asked_before
    assert shop.balance_nano(dan) == OPEN


def test_a_stream_that_abstains_is_one_event_and_the_end_and_so_is_its_replay(gateway, shop, guarded):
    dan, key = shop.buyer("dan-replays", OPEN)
    body = {
        "model": "erin/fine",
        "messages": MESSAGES,
        "stream": True,
        "open": {"require": {"datanets": ["erin/ward"]}},
    }

    first, again = (
        gateway.post("/v1/chat/completions", body, key=key, idempotency_key="abstains") for _time in range(2)
    )

    events = events_of(first)
    assert len(events) == 2
    assert events[1] == "[DONE]"
    assert events == events_of(again)
    assert again.headers["x-idempotent-replay"] == "true"
    assert Call.objects.filter(buyer=dan).count() == 1


def test_a_classification_that_abstains_is_replayed_as_it_was(gateway, shop, guarded):
    dan, key = shop.buyer("dan-again", OPEN)

    first, again = (
        require(gateway, key, headers={"idempotency_key": "one"}, licences=["CC0-1.0"]) for _time in range(2)
    )

    assert first.json() == again.json()
    assert again.headers["x-idempotent-replay"] == "true"
    assert shop.balance_nano(dan) == OPEN - ABSTAIN_NANO


def test_a_test_key_meets_an_abstention_as_well(gateway, shop, guarded):
    _, key = shop.tester("tess-requires")

    told = require(gateway, key, licences=["CC-BY-SA-4.0"]).json()

    assert told["label"] is None
    assert (told["open"]["test"], told["open"]["cost_nano"]) == (True, ABSTAIN_NANO)


@pytest.mark.parametrize(
    ("model", "given", "param"),
    [
        ("erin/sorts", "all", "open"),
        ("erin/sorts", {"requires": {}}, "open.requires"),
        ("erin/sorts", {"require": {}}, "open.require"),
        ("erin/sorts", {"require": [1]}, "open.require"),
        ("erin/sorts", {"require": {"licenses": ["CC0-1.0"]}}, "open.require.licenses"),
        ("erin/sorts", {"require": {"support": 1.5}}, "open.require.support"),
        ("erin/sorts", {"require": {"support": True}}, "open.require.support"),
        ("erin/sorts", {"require": {"support": None}}, "open.require.support"),
        ("erin/sorts", {"require": {"licences": []}}, "open.require.licences"),
        ("erin/sorts", {"require": {"licences": "CC0-1.0"}}, "open.require.licences"),
        ("erin/sorts", {"require": {"licences": ["CC0 \u0000"]}}, "open.require.licences"),
        ("erin/sorts", {"require": {"datanets": ["birds"]}}, "open.require.datanets"),
        ("erin/sorts", {"require": {"datanets": [f"erin/{i}" for i in range(51)]}}, "open.require.datanets"),
        ("erin/sorts", {"require": {"data_newer_than": "yesterday"}}, "open.require.data_newer_than"),
        ("erin/sorts", {"require": {"data_newer_than": 2026}}, "open.require.data_newer_than"),
        ("erin/sorts", {"require": {"data_newer_than": "0001-01-01T00:00+14:00"}}, "open.require.data_newer_than"),
        ("erin/sorts", {"require": {"max_age_days": -1}}, "open.require.max_age_days"),
        ("erin/sorts", {"require": {"max_age_days": 1, "data_newer_than": "2026-01-01"}}, "open.require.max_age_days"),
        ("erin/tumours", {"require": {"support": 0.5}}, "open.require.support"),
        ("erin/tumours", {"require": {"max_age_days": 5}}, "open.require.max_age_days"),
    ],
)
def test_what_cannot_be_required_is_refused_by_name(gateway, shop, guarded, model, given, param):
    dan, key = shop.buyer("dan-wrong", OPEN)

    answer = gateway.post("/v1/classify", {"model": model, "input": BENIGN, "open": given}, key=key)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert not Call.objects.filter(buyer=dan).exists()


def test_nothing_can_be_required_of_a_model_without_a_datanet(version):
    with pytest.raises(ApiError, match="no Datanet is behind it") as refused:
        take_requirement({"open": {"require": {"support": 0.5}}}, replace(version, engine="embedding"))

    assert (refused.value.status, refused.value.code) == (400, "invalid_value")


def test_the_openai_client_raises_its_own_exception_for_what_cannot_be_required(gateway, shop, guarded):
    _, key = shop.buyer("dan-client", OPEN)

    with pytest.raises(openai.BadRequestError, match="does not offer support"):
        gateway.openai(key).chat.completions.create(
            model="erin/fine", messages=MESSAGES, extra_body={"open": {"require": {"support": 0.5}}}
        )


def test_models_and_quotes_tell_the_price_of_abstaining_and_what_can_be_required(gateway, shop, guarded):
    _, key = shop.buyer("dan-asks", OPEN)
    told = gateway.get("/v1/models/erin/sorts").json()
    body = {"model": "erin/sorts", "input": BENIGN, "open": {"require": {"licences": ["CC0-1.0"]}}}

    quote = gateway.post("/v1/quote", body, key=key).json()

    assert told["price"]["price_abstain_nano"] == ABSTAIN_NANO
    assert told["require"] == ["support", "licences", "datanets", "data_newer_than", "max_age_days"]
    assert [one["licence"] for one in told["datanets"]] == ["CC-BY-4.0", "CC0-1.0"]
    assert (quote["max_cost_nano"], quote["price_abstain_nano"]) == (CALL_NANO, ABSTAIN_NANO)


@given(
    call=st.integers(0, 10**12),
    share=st.integers(0, 10**6),
    tokens=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    prices=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_no_call_that_abstains_costs_more_than_was_reserved_for_its_answer(version, call, share, tokens, prices):
    # Given any price list that may be published, and the worst case of any call
    listed = pricing.Prices(call, *prices, price_abstain_nano=call * share // 10**6)
    reserved_nano = pricing.cost_nano(listed, prompt_tokens=tokens[0], answer_tokens=tokens[1])

    # Then the call costs the price of abstaining, which is never more, and its parts add up to it
    charged = charge(
        CallOnItsWay(replace(version, price_list=PriceList("", "", listed)), 1, "", "classify", False, ""),
        Outcome("abstained", *tokens),
        content_key="00" * 32,
        kept_s=1,
        vest_after_s=0,
        site_url="",
    )
    assert charged.cost_nano == listed.price_abstain_nano <= reserved_nano
    assert ("posting" in charged.row) is bool(charged.cost_nano)
    assert sum(charged.response["open"]["split"].values()) == charged.cost_nano
