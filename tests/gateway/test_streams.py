"""Answers that come as server-sent events."""

from __future__ import annotations

import json

import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from marketplace.gateway import streaming
from marketplace.gateway.chatting import Prepared
from marketplace.gateway.events import read_events
from marketplace.gateway.http_client import Failed
from marketplace.models import Call
from marketplace.pricing import Prices, cost_nano
from tests import asynchronous
from tests.gateway.conftest import wait_until
from tests.gateway.shop import OPEN

MESSAGES = [{"role": "user", "content": "What is the answer?"}]


def open_stream(gateway, key, model="erin/fine", *, idempotency_key=""):
    body = {"model": model, "messages": MESSAGES, "max_tokens": 20, "stream": True}
    headers = {"authorization": f"Bearer {key}"} | ({"idempotency-key": idempotency_key} if idempotency_key else {})
    return requests.post(
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers=headers,
        stream=True,
        timeout=30,
    )


def events_of(answer) -> list:
    lines = [line[6:] for line in answer.iter_lines() if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


def test_a_stream_through_the_openai_client_ends_with_its_cost(gateway, shop):
    dan, key = shop.buyer("dan-streams", OPEN)

    chunks = list(
        gateway.openai(key).chat.completions.create(
            model="erin/fine",
            messages=MESSAGES,
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "The answer is forty-two."
    assert chunks[-1].usage.completion_tokens == 6
    assert chunks[-1].model_extra["open"]["cost_nano"] == 1000 + 700 + 6000
    assert shop.balance_nano(dan) == OPEN - 7700


def test_the_last_event_comes_after_the_charge(gateway, shop):
    dan, key = shop.buyer("dan-last", OPEN)

    answer = open_stream(gateway, key)
    for line in answer.iter_lines():
        if line == b"data: [DONE]":
            break

    assert Call.objects.get(pk=answer.headers["x-receipt-id"]).status == "succeeded"


def test_without_include_usage_no_event_is_without_choices(gateway, shop):
    _, key = shop.buyer("dan-plain", OPEN)

    events = events_of(open_stream(gateway, key))

    assert events[-1] == "[DONE]"
    assert all(event["choices"] for event in events[:-1])


def test_a_stream_that_fails_ends_with_an_error_and_costs_nothing(gateway, shop):
    dan, key = shop.buyer("dan-s-breaks", OPEN)

    answer = open_stream(gateway, key, "erin/breaks")
    events = events_of(answer)

    assert events[0]["choices"]
    assert events[-1]["error"]["code"] == "upstream_error"
    assert Call.objects.get(pk=answer.headers["x-receipt-id"]).cost_nano == 0
    assert shop.balance_nano(dan) == OPEN
    with pytest.raises(openai.APIError):
        list(gateway.openai(key).chat.completions.create(model="erin/breaks", messages=MESSAGES, stream=True))


def test_a_stream_whose_use_nobody_told_costs_its_pieces_and_says_who_counted(gateway, shop):
    dan, key = shop.buyer("dan-s-no-usage", OPEN)

    chunks = list(
        gateway.openai(key).chat.completions.create(
            model="erin/no-usage",
            messages=MESSAGES,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    last = chunks[-1]
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (0, 5)
    assert last.model_extra["open"]["counted_by"] == "gateway"
    assert shop.balance_nano(dan) == OPEN - 1000 - 5000


def test_a_stream_that_fails_before_its_first_event_is_a_status(gateway, shop):
    _, key = shop.buyer("dan-first", OPEN)

    answer = open_stream(gateway, key, "erin/dead")

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")


def test_who_leaves_pays_for_the_prompt_and_what_was_sent(gateway, shop):
    # Given a slow stream
    shop.upstream.delay_s = 1.0
    dan, key = shop.buyer("dan-leaves", OPEN)
    answer = open_stream(gateway, key, "erin/slow")

    # When the client closes it after the second word
    seen = 0
    for line in answer.iter_lines():
        seen += b'"content":"' in line and b'"content":""' not in line
        if seen == 2:
            break
    answer.close()
    shop.upstream.delay_s = 0.3

    # Then the call is *left*, and costs less than all of it
    wait_until(lambda: Call.objects.filter(pk=answer.headers["x-receipt-id"]).exists())
    call = Call.objects.get(pk=answer.headers["x-receipt-id"])
    assert call.status == "left"
    assert call.prompt_tokens == 7
    assert 2 <= call.answer_tokens < 6
    assert call.cost_nano == 1000 + 700 + call.answer_tokens * 1000
    assert shop.balance_nano(dan) == OPEN - call.cost_nano


def test_who_leaves_before_a_whole_answer_pays_the_prompt(gateway, shop):
    shop.upstream.delay_s = 1.5
    dan, key = shop.buyer("dan-goes", OPEN)

    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "erin/slow", "messages": MESSAGES, "max_tokens": 20},
            headers={"authorization": f"Bearer {key}"},
            timeout=0.3,
        )
    wait_until(lambda: Call.objects.filter(buyer=dan).exists())
    shop.upstream.delay_s = 0.3

    call = Call.objects.get(buyer=dan)
    assert (call.status, call.prompt_tokens, call.answer_tokens) == ("left", 7, 0)
    assert shop.balance_nano(dan) == OPEN - 1700


def test_what_was_sent_is_paid_even_if_nobody_counted_the_prompt(gateway, shop):
    # Given a stream that goes on for long after the client has left
    shop.upstream.delay_s = 30.0
    dan, key = shop.buyer("dan-early", OPEN)
    answer = open_stream(gateway, key, "erin/slow")
    for line in answer.iter_lines():
        if b'"content":"The"' in line:
            break
    answer.close()
    shop.upstream.delay_s = 0.3

    # Then two seconds later it ends, and costs the word that was sent: a prompt is never estimated
    wait_until(lambda: Call.objects.filter(buyer=dan).exists())
    call = Call.objects.get(buyer=dan)
    assert (call.status, call.prompt_tokens, call.answer_tokens) == ("left", 0, 1)
    assert shop.balance_nano(dan) == OPEN - 2000


async def in_pieces(stream: bytes, places: list[int]):
    cuts = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    for begin, end in zip(cuts, cuts[1:], strict=False):
        yield stream[begin:end]


WHOLE = st.integers(0, 10**12)


@given(
    st.builds(Prices, WHOLE, WHOLE, WHOLE), WHOLE, st.integers(1, 10**9), st.integers(0, 10**20), st.integers(0, 10**20)
)
def test_no_call_costs_more_than_was_reserved_whatever_its_model_says_it_used(prices, bound, cap, prompt, answer):
    prepared = Prepared(None, [], {}, prompt_tokens=bound, max_tokens=cap, counted_tokens=None)  # type: ignore[arg-type]
    reserved_nano = cost_nano(prices, prompt_tokens=prepared.prompt_tokens, answer_tokens=prepared.max_tokens)

    used = streaming.usage_within({"prompt_tokens": prompt, "completion_tokens": answer}, prepared)

    assert cost_nano(prices, prompt_tokens=used[0], answer_tokens=used[1]) <= reserved_nano
    assert used == (min(prompt, bound), min(answer, cap))


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.text(max_size=8), max_size=2), max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n: still thinking\n\n"]),
    st.lists(st.integers(0, 500), max_size=30),
)
def test_events_are_the_same_however_the_network_cuts_them(said, between, places):
    lines = [b"data: " + json.dumps(event).encode() for event in said]
    stream = between.join([*lines, b"data: [DONE]", b"data: too late\n"])

    async def read():
        return [event async for event in read_events(in_pieces(stream, places))]

    assert asynchronous.run(read()) == [*said, None]


def test_a_line_that_does_not_end_is_cut_off_before_it_fills_the_memory():
    taken = []

    async def endless():
        while True:
            taken.append(65536)
            yield b"x" * 65536

    async def read():
        return [event async for event in read_events(endless())]

    with pytest.raises(Failed):
        asynchronous.run(read())
    assert sum(taken) <= 1024 * 1024 + 65536
