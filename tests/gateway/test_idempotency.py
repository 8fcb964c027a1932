"""`Idempotency-Key`: charged once, answered as often as asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from marketplace.models import Call, Idempotency
from tests.gateway.conftest import wait_for
from tests.gateway.shop import CALL_NANO, OPEN
from tests.gateway.test_streams import MESSAGES, events_of, open_stream

CHAT = {"model": "erin/fine", "messages": MESSAGES, "max_tokens": 20}


def test_a_repeated_request_gets_the_stored_answer_and_is_charged_once(gateway, shop):
    dan, key = shop.buyer("dan-repeats", OPEN)

    first = gateway.classify(key, idempotency_key="order-1")
    second = gateway.classify(key, idempotency_key="order-1")

    assert second.content == first.content
    assert second.headers["x-idempotent-replay"] == "true"
    assert second.headers["x-receipt-id"] == first.headers["x-receipt-id"]
    assert "x-idempotent-replay" not in first.headers
    assert shop.balance_nano(dan) == OPEN - CALL_NANO


def test_the_same_key_with_another_body_is_refused(gateway, shop):
    dan, key = shop.buyer("dan-mixes", OPEN)
    gateway.classify(key, idempotency_key="order-1")

    other = gateway.classify(key, input={"radius": 1.0, "texture": 2.0}, idempotency_key="order-1")

    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert Call.objects.filter(buyer=dan).count() == 1


def test_two_at_once_are_one_call(gateway, shop):
    dan, key = shop.buyer("dan-doubles", OPEN)
    body = CHAT | {"model": "erin/slow"}

    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda _: gateway.post("/v1/chat/completions", body, key=key, idempotency_key="a"), range(6))
        )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 409, 409, 409, 409, 409]
    waiting = next(answer for answer in answers if answer.status_code == 409)
    assert waiting.json()["error"]["code"] == "idempotency_in_progress"
    assert waiting.headers["retry-after"] == "1"
    assert Call.objects.filter(buyer=dan).count() == 1


def test_keys_are_each_buyers_own(gateway, shop):
    _, one = shop.buyer("dan-own", OPEN)
    _, other = shop.buyer("frank-own", OPEN)

    answers = [gateway.classify(key, idempotency_key="same") for key in (one, other)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "x-idempotent-replay" not in answers[1].headers


def test_a_failed_or_refused_call_frees_its_key(gateway, shop):
    dan, key = shop.buyer("dan-retries", OPEN)

    failed = gateway.post("/v1/chat/completions", CHAT | {"model": "erin/dead"}, key=key, idempotency_key="x")
    refused = gateway.classify(key, input={"radius": 1}, idempotency_key="x")
    done = gateway.classify(key, idempotency_key="x")

    assert [answer.status_code for answer in (failed, refused, done)] == [502, 400, 200]
    assert Idempotency.objects.get(owner=dan, key="x").status == "done"


def test_a_stream_is_replayed_as_a_stream(gateway, shop):
    dan, key = shop.buyer("dan-again", OPEN)
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}

    first, second = (gateway.post("/v1/chat/completions", body, key=key, idempotency_key="stream-1") for _ in range(2))

    texts = []
    for answer in (first, second):
        events = events_of(answer)
        assert events[-1] == "[DONE]"
        texts.append("".join(c["delta"].get("content", "") for e in events[:-1] for c in e["choices"]))
        assert events[-2]["open"]["receipt_id"] == first.headers["x-receipt-id"]
    assert texts[0] == texts[1] == "The answer is forty-two."
    assert second.headers["x-idempotent-replay"] == "true"
    assert Call.objects.filter(buyer=dan).count() == 1


def test_who_drops_a_call_and_asks_again_gets_its_answer_and_pays_once(gateway, shop):
    # Given a stream that its client drops after the first word, and a whole answer that it does not wait for
    dan, key = shop.buyer("dan-drops", OPEN)
    stream, whole = (CHAT | {"model": "erin/slow", "stream": streamed} for streamed in (True, False))
    shop.upstream.delay_s = 1.0
    dropped = open_stream(gateway, key, "erin/slow", idempotency_key="stream")
    next(line for line in dropped.iter_lines() if b'"content":"The"' in line)
    dropped.close()
    with pytest.raises(requests.ReadTimeout):
        gateway.post("/v1/chat/completions", whole, key=key, idempotency_key="whole", timeout_s=0.3)

    # When it asks again with the same key
    def again(body, name):
        answer = gateway.post("/v1/chat/completions", body, key=key, idempotency_key=name)
        if answer.status_code != 409:
            return answer
        assert answer.json()["error"]["code"] == "idempotency_in_progress"
        return None

    answers = [wait_for(partial(again, body, name)) for body, name in ((stream, "stream"), (whole, "whole"))]
    shop.upstream.delay_s = 0.3

    # Then it gets the whole answer, and each was charged once and in full
    assert [answer.headers["x-idempotent-replay"] for answer in answers] == ["true", "true"]
    told = "".join(c["delta"].get("content", "") for e in events_of(answers[0])[:-1] for c in e["choices"])
    assert told == answers[1].json()["choices"][0]["message"]["content"] == "The answer is forty-two."
    assert sorted(Call.objects.filter(buyer=dan).values_list("status", "cost_nano")) == [("succeeded", 7700)] * 2
    assert shop.balance_nano(dan) == OPEN - 2 * 7700


def test_a_key_that_cannot_be_one_is_refused(gateway, shop):
    _, key = shop.buyer("dan-strange", OPEN)

    assert gateway.classify(key, idempotency_key="x" * 256).status_code == 400
    assert open_stream(gateway, key).status_code == 200
