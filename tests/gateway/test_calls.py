"""Paid calls, as a buyer meets them."""

from __future__ import annotations

import uuid

import openai
import pytest
import requests

from attribution.models import Trace
from attribution.payloads import TOPIC
from ledger import chart, receipts
from ledger import services as ledger
from marketplace import listings
from marketplace.gateway import reading
from marketplace.models import Call
from tests.gateway.conftest import wait_until
from tests.gateway.shop import CALL_NANO, OPEN


def test_a_classification_is_charged_once_and_explains_itself(gateway, shop):
    # Given Dan with 1 OPEN
    dan, key = shop.buyer("dan", OPEN)

    # When he asks for a class
    answer = gateway.classify(key)

    # Then he gets it, with what it cost and who gets which part
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["label"] in ("benign", "malignant")
    assert told["open"]["cost_nano"] == CALL_NANO == sum(told["open"]["split"].values())
    assert answer.headers["x-receipt-id"] == told["open"]["receipt_id"]

    # And the books say the same
    call = Call.objects.get(pk=told["open"]["receipt_id"])
    posting = ledger.posting_of(call.pk)
    assert (call.status, call.cost_nano, call.buyer) == ("succeeded", CALL_NANO, dan)
    assert sum(move.amount_nano for move in posting.moves) == CALL_NANO
    assert {move.source for move in posting.moves} == {chart.wallet(dan.pk)}
    assert shop.balance_nano(dan) == OPEN - CALL_NANO

    # And attribution has all it needs
    payload = ledger.outbox_payload(TOPIC, f"call:{call.pk}")
    assert payload["context"]["features"]
    assert payload["data_nano"] == call.data_nano
    assert Trace.objects.filter(charge_id=call.pk).count() == 0


def test_a_chat_through_the_openai_client_costs_its_tokens(gateway, shop):
    dan, key = shop.buyer("dan-chats", OPEN)

    answer = gateway.openai(key).chat.completions.create(
        model="erin/fine", messages=[{"role": "user", "content": "What is the answer?"}], max_tokens=20
    )

    assert answer.choices[0].message.content == "The answer is forty-two."
    cost_nano = 1000 + 7 * 100 + 6 * 1000
    assert answer.model_extra["open"]["cost_nano"] == cost_nano
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 6)
    assert shop.balance_nano(dan) == OPEN - cost_nano


def test_models_are_public_and_tell_their_price(gateway, shop):
    listed = gateway.get("/v1/models").json()["data"]

    tumours = next(model for model in listed if model["id"] == "erin/tumours")
    assert tumours["price"]["price_call_nano"] == CALL_NANO
    assert tumours["kind"] == "linear"
    assert tumours["datanets"] == [
        {"datanet": "carol/tumours", "version": "v1", "kind": "tabular", "licence": "CC-BY-4.0"}
    ]
    assert gateway.get("/v1/models/erin/tumours@v1").json() == tumours | {"id": "erin/tumours@v1"}
    assert gateway.get("/v1/models/erin/nothing").json()["error"]["code"] == "model_not_found"


def test_a_wrong_key_is_refused_even_where_none_is_needed(gateway, shop):
    answer = gateway.get("/v1/models", key="open_sk_" + "A" * 36)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_errors_are_the_openai_clients_own_exceptions(gateway, shop):
    _, key = shop.buyer("dan-errs", OPEN)
    messages = [{"role": "user", "content": "?"}]

    with pytest.raises(openai.NotFoundError):
        gateway.openai(key).chat.completions.create(model="erin/none", messages=messages)
    with pytest.raises(openai.AuthenticationError):
        gateway.openai("sk-wrong").chat.completions.create(model="erin/fine", messages=messages)
    with pytest.raises(openai.BadRequestError) as refused:
        gateway.openai(key).chat.completions.create(model="erin/fine", messages=messages, temperature=9)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.InternalServerError):
        gateway.openai(key).chat.completions.create(model="erin/dead", messages=messages)


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("dead", 502, "upstream_error"),
        ("error", 502, "upstream_error"),
        ("breaks", 502, "upstream_error"),
        ("no-usage", 502, "usage_missing"),
        ("busy", 503, "model_busy"),
        ("headers", 502, "upstream_error"),
    ],
)
def test_a_call_that_fails_costs_nothing_and_leaves_a_row(gateway, shop, behaviour, status, code):
    dan, key = shop.buyer(f"dan-{behaviour}", OPEN)

    answer = gateway.post(
        "/v1/chat/completions",
        {"model": f"erin/{behaviour}", "messages": [{"role": "user", "content": "?"}], "max_tokens": 20},
        key=key,
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret internals" not in answer.text
    call = Call.objects.get(pk=answer.headers["x-receipt-id"])
    assert (call.status, call.cost_nano, call.error_code) == ("failed", 0, code)
    assert ledger.posting_of(call.pk) is None
    assert shop.balance_nano(dan) == OPEN


def test_a_model_server_that_never_ends_its_headers_is_cut_off(gateway, shop):
    _, key = shop.buyer("dan-headers", OPEN)
    before = shop.upstream.header_bytes

    answer = gateway.post(
        "/v1/chat/completions", {"model": "erin/headers", "messages": [{"role": "user", "content": "?"}]}, key=key
    )

    # What it got rid of lay in the buffers of the network for the most part
    assert answer.json()["error"]["code"] == "upstream_error"
    assert shop.upstream.header_bytes - before < 20_000_000


def test_a_model_server_that_overstates_its_use_is_paid_what_was_reserved_at_most(gateway, shop):
    _, key = shop.buyer("dan-greedy", OPEN)

    answer = gateway.openai(key).chat.completions.create(
        model="erin/greedy", messages=[{"role": "user", "content": "?"}], max_tokens=20
    )

    assert answer.usage.completion_tokens == 20
    assert answer.model_extra["open"]["cost_nano"] == 1000 + 7 * 100 + 20 * 1000


def test_the_upstream_gets_a_token_cap_and_its_own_key_but_not_the_buyers(gateway, shop):
    _, key = shop.buyer("dan-cap", OPEN)

    gateway.openai(key).chat.completions.create(
        model="erin/fine", messages=[{"role": "user", "content": "?"}], max_tokens=10**6
    )

    path, headers, body = shop.upstream.seen[-1]
    assert (path, body["max_tokens"]) == ("/v1/chat/completions", 512)
    assert headers["authorization"] == "Bearer upstream-secret"


def test_the_upstream_gets_another_key_once_its_developer_has_replaced_it(gateway, shop):
    _, key = shop.buyer("dan-hears", OPEN)
    model = shop.models["fine"]
    ask = {"model": "erin/fine", "messages": [{"role": "user", "content": "?"}], "max_tokens": 5}
    listings.replace_upstream_key(model, by=model.owner, key="another-secret")

    def heard() -> str:
        gateway.post("/v1/chat/completions", ask, key=key)
        return shop.upstream.seen[-1][1]["authorization"]

    wait_until(lambda: heard() == "Bearer another-secret")
    listings.replace_upstream_key(model, by=model.owner, key="upstream-secret")
    wait_until(lambda: heard() == "Bearer upstream-secret")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "erin/tumours"}, "input"),
        ({"model": "erin/tumours", "input": "radius"}, "input"),
        ({"model": "erin/tumours", "input": {"radius": 1}}, "input"),
        ({"model": "erin/tumours", "input": {"radius": "wide", "texture": 2}}, "input"),
        ({"model": "erin/tumours", "input": {"radius": 1, "texture": 2, "hue": 3}}, "input"),
        ({"model": "erin/tumours", "input": {"radius": 1, "texture": 2}, "colour": 1}, "colour"),
        ({"model": "erin/fine", "input": {"radius": 1}}, "model"),
        ({"model": 7, "input": {}}, "model"),
        ({"model": "erin/tumours", "input": {"radius": 1, "texture": 2}, "max_cost": 0.5}, "max_cost"),
        ({"model": "erin/tumours", "input": {"radius": 1, "texture": 2}, "max_cost_nano": -1}, "max_cost_nano"),
    ],
)
def test_a_body_that_cannot_be_used_names_its_field_and_leaves_no_row(gateway, shop, body, param):
    dan, key = shop.buyer("dan-bodies", OPEN)

    answer = gateway.post("/v1/classify", body, key=key)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert not Call.objects.filter(buyer=dan).exists()


def test_what_is_not_json_or_too_large_is_refused(gateway, shop):
    _, key = shop.buyer("dan-raw", OPEN)
    headers = {"authorization": f"Bearer {key}"}

    assert requests.post(f"{gateway.url}/v1/classify", data=b"[1]", headers=headers).status_code == 400
    assert requests.post(f"{gateway.url}/v1/classify", data=b"{", headers=headers).status_code == 400
    large = requests.post(f"{gateway.url}/v1/classify", data=b" " * (5 * 1024 * 1024), headers=headers)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
    assert gateway.get("/v1/classify", key=key).status_code == 405
    assert gateway.get("/v1/nothing", key=key).status_code == 404


def test_only_the_sites_own_pages_may_call_from_a_browser(gateway, shop):
    ours = requests.options(f"{gateway.url}/v1/classify", headers={"origin": "http://testserver"})
    foreign = requests.options(f"{gateway.url}/v1/classify", headers={"origin": "http://evil.example"})

    assert ours.headers["access-control-allow-origin"] == "http://testserver"
    assert "idempotency-key" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in foreign.headers


def test_a_prompt_is_answered_at_completions_too(gateway, shop):
    _, key = shop.buyer("dan-prompts", OPEN)

    answer = gateway.openai(key).completions.create(model="erin/fine", prompt="Say", max_tokens=3)

    assert answer.choices[0].text == "The answer is"
    assert answer.object == "text_completion"


def test_a_buyer_reads_calls_usage_credits_and_receipts_and_nobody_elses(gateway, shop):
    # Given a charged call of Dan's that is in the log
    dan, key = shop.buyer("dan-reads", OPEN)
    _, other_key = shop.buyer("frank", OPEN)
    receipt_id = gateway.classify(key).json()["open"]["receipt_id"]
    waiting = gateway.get(f"/v1/receipts/{receipt_id}", key=key)
    assert (waiting.status_code, waiting.json(), waiting.headers["retry-after"]) == (202, {"status": "waiting"}, "1")
    shop.books.fold()
    shop.books.log()

    # When he asks
    receipt = gateway.get(f"/v1/receipts/{receipt_id}", key=key)
    calls = gateway.get("/v1/calls", key=key).json()
    usage = gateway.get("/v1/usage?days=2", key=key).json()
    credits = gateway.get("/v1/credits", key=key).json()

    # Then the receipt proves the call, and the lists add up
    assert receipt.status_code == 200
    assert receipt.json() == ledger.receipt(uuid.UUID(receipt_id), with_openings=True).body
    steps = receipts.verify_receipt(receipt.json(), ledger.log_vkey(), [], 0)
    assert all(step.ok for step in steps), steps
    assert [call["id"] for call in calls["data"]] == [receipt_id]
    assert (usage["cost_nano"], usage["data"][0]["calls"]) == (CALL_NANO, 1)
    assert credits["available_nano"] + credits["held_nano"] == OPEN - CALL_NANO
    part = gateway.get(f"/v1/receipts/{receipt_id}?part=attribution", key=key)
    assert part.status_code == 202
    assert part.json()["epoch_ends_at"]

    # And nobody else sees any of it
    assert gateway.get(f"/v1/receipts/{receipt_id}", key=other_key).status_code == 404
    assert gateway.get("/v1/calls", key=other_key).json()["data"] == []
    assert gateway.get("/v1/receipts/zzz", key=key).status_code == 404


def test_a_receipt_stays_proved_however_many_heads_wait_for_witnesses(gateway, shop):
    # Given a charged call under a head that a witness has cosigned
    dan, key = shop.buyer("dan-proved", OPEN)
    call_id = uuid.UUID(gateway.classify(key).json()["open"]["receipt_id"])
    shop.books.fold()
    shop.books.log()
    size = ledger.head().size
    with shop.books.connect("DATABASE_SUPERUSER_URL") as session, session.cursor() as cursor:
        asked = {"call_id": call_id, "buyer_id": dan.pk, "made_by": dan.pk, "part": "", "quorum": 1, "epoch_s": 120}
        assert reading.receipt_of(cursor, **asked) == (202, {"status": "sequenced"})
        cursor.execute("SELECT ledger_cosign(%s, 'w', 'a line')", [size])
        before = reading.receipt_of(cursor, **asked)
        assert before[0] == 200

        # When the log grows for days without one, then it is still the newest that counts
        cursor.execute("INSERT INTO ledger_checkpoint (size, root, note) VALUES (%s, '', 'n')", [size + 200_000])
        assert reading.receipt_of(cursor, **asked) == before
        session.rollback()


def test_calls_come_in_pages(gateway, shop):
    _, key = shop.buyer("dan-pages", OPEN)
    made = [gateway.classify(key).json()["open"]["receipt_id"] for _ in range(3)]

    first = gateway.get("/v1/calls?limit=2", key=key).json()
    second = gateway.get(f"/v1/calls?limit=2&after={first['data'][-1]['id']}", key=key).json()

    assert [call["id"] for call in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert gateway.get("/v1/calls?limit=0", key=key).status_code == 400
