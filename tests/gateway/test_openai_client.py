"""The official `openai` client: both of its kinds, its exceptions, and what it asks again by itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from marketplace.models import Call
from tests import asynchronous
from tests.gateway import shop as shops
from tests.gateway.conftest import Gateway, wait_until
from tests.gateway.shop import CALL_NANO, OPEN
from tests.gateway.test_streams import MESSAGES

COST_NANO = 1000 + 7 * 100 + 6 * 1000
CHAT = {"model": "erin/fine", "messages": MESSAGES, "max_tokens": 20}


class Line(httpx2.HTTPTransport):
    """The network between client and gateway: it counts requests, and loses answers if it is told to."""

    def __init__(self, *, loses: int = 0) -> None:
        super().__init__()
        self.requests, self._loses = 0, loses

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        response = super().handle_request(request)
        if self.requests <= self._loses:
            response.read()
            raise httpx2.ReadError("the answer was lost")
        return response


def client_on(line: Line, gateway: Gateway, key: str, *, max_retries: int = 2) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=key,
        max_retries=max_retries,
        timeout=30,
        http_client=httpx2.Client(transport=line),
    )


def test_the_asynchronous_client_chats_streams_and_classifies(gateway, shop):
    dan, key = shop.buyer("dan-async", OPEN)

    async def ask() -> tuple[str, str, dict]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            whole, stream, row = await asyncio.gather(
                client.chat.completions.create(**CHAT),
                client.chat.completions.create(**CHAT, stream=True),
                client.post("/classify", cast_to=object, body={"model": "erin/tumours", "input": shops.ROW}),
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content, "".join(pieces), row

    whole, streamed, row = asynchronous.run(ask())

    assert whole == streamed == "The answer is forty-two."
    assert row["label"] in ("benign", "malignant")
    assert shop.balance_nano(dan) == OPEN - 2 * COST_NANO - CALL_NANO


def test_the_asynchronous_client_that_leaves_a_stream_pays_for_what_it_was_sent(gateway, shop):
    shop.upstream.delay_s = 1.0
    dan, key = shop.buyer("dan-async-leaves", OPEN)

    async def leave() -> None:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            stream = await client.chat.completions.create(**CHAT | {"model": "erin/slow"}, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()

    asynchronous.run(leave())
    shop.upstream.delay_s = 0.3

    wait_until(lambda: Call.objects.filter(buyer=dan).exists())
    call = Call.objects.get(buyer=dan)
    assert call.status == "left"
    assert 0 < call.cost_nano < COST_NANO


def test_each_refusal_is_the_clients_own_exception(gateway, shop):
    dan, key = shop.buyer("dan-exceptions", OPEN)
    _, poor = shop.buyer("dan-without")
    elsewhere = shops.make_key(dan, models=[shop.models["fine"]])
    client = gateway.openai(key)

    def raised(kind: type[openai.APIStatusError], ask) -> tuple[int, str | None]:
        with pytest.raises(kind) as refused:
            ask()
        assert type(refused.value) is kind
        assert refused.value.request_id
        return refused.value.status_code, refused.value.code

    def classify(secret: str = key, **more):
        body = {"model": "erin/tumours", "input": shops.ROW} | more
        return lambda: gateway.openai(secret).post("/classify", cast_to=object, body=body)

    def chat(**more):
        return lambda: client.chat.completions.create(**CHAT | more)

    long = [{"role": "user", "content": "x" * 5_000_000}]
    keyed = {"Idempotency-Key": "exceptions"}
    client.chat.completions.create(**CHAT, extra_headers=keyed)
    assert [
        raised(openai.BadRequestError, chat(temperature=9)),
        raised(openai.AuthenticationError, classify("sk-wrong")),
        raised(openai.APIStatusError, classify(poor)),
        raised(openai.PermissionDeniedError, classify(elsewhere)),
        raised(openai.NotFoundError, chat(model="erin/none")),
        raised(openai.ConflictError, classify(price_version="00")),
        raised(openai.APIStatusError, chat(messages=long)),
        raised(openai.UnprocessableEntityError, chat(max_tokens=1, extra_headers=keyed)),
        raised(openai.InternalServerError, chat(model="erin/dead")),
        raised(openai.InternalServerError, chat(model="erin/busy")),
    ] == [
        (400, "invalid_value"),
        (401, "invalid_api_key"),
        (402, "insufficient_balance"),
        (403, "no_access"),
        (404, "model_not_found"),
        (409, "price_changed"),
        (413, "body_too_large"),
        (422, "idempotency_mismatch"),
        (502, "upstream_error"),
        (503, "model_busy"),
    ]


@pytest.mark.parametrize("refusal", ["insufficient_balance", "price_changed", "invalid_api_key", "no_access"])
def test_the_client_does_not_ask_again_where_that_cannot_help(gateway, shop, refusal):
    dan, key = shop.buyer(f"dan-once-{refusal.partition('_')[0]}", OPEN if refusal == "price_changed" else 0)
    secrets = {"invalid_api_key": "sk-wrong"}
    if refusal == "no_access":
        secrets[refusal] = shops.make_key(dan, models=[shop.models["fine"]])
    body = {"model": "erin/tumours", "input": shops.ROW} | (
        {"price_version": "00"} if refusal == "price_changed" else {}
    )
    line = Line()

    with pytest.raises(openai.APIStatusError) as refused:
        client_on(line, gateway, secrets.get(refusal, key)).post("/classify", cast_to=object, body=body)

    assert refused.value.code == refusal
    assert line.requests == 1


def test_the_client_asks_again_when_too_many_run_at_once_and_is_answered(gateway, shop):
    # Given a key for one call at once, and one that runs
    shop.upstream.delay_s = 1.0
    dan, key = shop.buyer("dan-one-by-one", OPEN, calls_at_once=1)
    slow = CHAT | {"model": "erin/slow"}
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(gateway.post, "/v1/chat/completions", slow, key=key)
        wait_until(lambda: any(body["model"] == "slow" for _, _, body in shop.upstream.seen[-1:]))

        # When the client calls, then it hears 429, waits as it is told, and is answered
        line = Line()
        answer = client_on(line, gateway, key, max_retries=5).chat.completions.create(**CHAT)
        assert running.result().status_code == 200
    shop.upstream.delay_s = 0.3

    assert answer.choices[0].message.content == "The answer is forty-two."
    assert line.requests >= 2
    assert Call.objects.filter(buyer=dan, status="succeeded").count() == 2


def test_the_client_asks_a_model_again_that_does_not_answer(gateway, shop):
    dan, key = shop.buyer("dan-insists", OPEN)
    line = Line()

    with pytest.raises(openai.InternalServerError):
        client_on(line, gateway, key, max_retries=1).chat.completions.create(**CHAT | {"model": "erin/dead"})

    assert line.requests == 2
    assert shop.balance_nano(dan) == OPEN


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_lost_is_asked_for_again_with_its_key_and_charged_once(gateway, shop, streamed):
    # Given a network that loses the first answer, which is charged
    dan, key = shop.buyer(f"dan-loses-{streamed:d}", OPEN)
    line = Line(loses=1)

    # When the client asks again by itself, with the same Idempotency-Key
    answer = client_on(line, gateway, key).chat.completions.create(
        **CHAT, stream=streamed, extra_headers={"Idempotency-Key": "lost"}
    )
    text = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if streamed
        else answer.choices[0].message.content
    )

    # Then it has the whole answer, for the price of one
    assert text == "The answer is forty-two."
    assert line.requests == 2
    assert shop.balance_nano(dan) == OPEN - COST_NANO
