"""What those who run a gateway see of it, and how it ends."""

from __future__ import annotations

import json
import logging
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from django.conf import settings

from devstack.children import free_port
from ledger import chart
from ledger import services as ledger
from marketplace.gateway import logs, metrics
from marketplace.models import Call
from tests.gateway import shop as shops
from tests.gateway import upstream as fake_upstream
from tests.gateway.conftest import Gateway, running_gateway, wait_until
from tests.gateway.shop import CALL_NANO, OPEN

TOLD = {
    "at", "level", "logger", "message", "request_id", "call_id", "endpoint", "model", "streamed", "test", "end", "status", "code",
    "prompt_tokens", "answer_tokens", "cost_nano", "took_ms", "stages_ms",
}  # fmt: skip


@pytest.fixture
def inner() -> str:
    """Where the numbers will be."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "gateway.log"


@pytest.fixture
def gateway(shop, inner, log) -> Iterator[Gateway]:
    numbers = {"GATEWAY_METRICS_PORT": inner.rsplit(":", 1)[1]}
    with (
        log.open("wb") as out,
        running_gateway(shop.books, log=out, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0], **numbers) as running,
    ):
        yield running


def chat(
    gateway: Gateway, key: str, *, model: str = "erin/fine", content: str = "Hello?", stream: bool = False, **headers
):
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 20, "stream": stream}
    return gateway.post("/v1/chat/completions", body, key=key, **headers)


def sample(text: str, name: str) -> float:
    """The value of one sample of the exposition."""
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])


def test_each_call_is_a_line_and_a_number_and_neither_quotes_anything(shop, gateway, inner, log, monkeypatch):
    # Given words that nobody else may read: in prompts, answers, keys, and what the model's own server says
    words = {
        name: f"kanari{name}"
        for name in ("prompt", "answer", "input", "model", "field", "idempotency", "json", "address")
    }
    monkeypatch.setattr(fake_upstream, "WORDS", [words["answer"], " is", " it."])
    dan, key = shop.buyer("dan-logs", OPEN)
    _, poor = shop.buyer("dan-poor")

    # When calls end in every way
    whole = chat(gateway, key, content=words["prompt"], idempotency_key=words["idempotency"])
    again = chat(gateway, key, content=words["prompt"], idempotency_key=words["idempotency"])
    streamed = chat(gateway, key, content=words["prompt"], stream=True, idempotency_key="stream")
    chat(gateway, key, content=words["prompt"], stream=True, idempotency_key="stream")
    classified = gateway.classify(key)
    failed = chat(gateway, key, model="erin/error", content=words["prompt"])
    refused = [
        chat(gateway, poor, content=words["prompt"]),
        chat(gateway, key, model=f"erin/{words['model']}"),
        chat(gateway, key[:-1], content=words["prompt"]),
        gateway.classify(key, input={"radius": words["input"], "texture": 1}),
        gateway.post("/v1/classify", {"model": "erin/tumours", "input": shops.ROW, words["field"]: 1}, key=key),
        requests.post(f"{gateway.url}/v1/classify", data=words["json"], headers={"authorization": f"Bearer {key}"}),
    ]
    gateway.get(f"/v1/{words['address']}?{words['address']}=1", key=key)
    numbers = requests.get(f"{inner}/metrics", timeout=10).text
    gateway.stop()
    written = log.read_text()

    # Then each has a line of its own, which says how it ended and what it cost
    assert [answer.status_code for answer in (whole, again, streamed, classified)] == [200] * 4
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    calls = [line for line in lines if line["message"] == "call"]
    assert all(set(line) == TOLD for line in calls)
    ends = ["succeeded", "replayed", "succeeded", "replayed", "succeeded", "failed"] + ["refused"] * len(refused)
    assert [line["end"] for line in calls] == ends
    assert calls[0]["call_id"] == whole.headers["x-receipt-id"]
    assert calls[0]["request_id"] == whole.headers["x-request-id"]
    assert [line["status"] for line in calls[5:]] == [answer.status_code for answer in [failed, *refused]]
    assert [line["code"] for line in calls[5:]] == [answer.json()["error"]["code"] for answer in [failed, *refused]]
    assert calls[4]["cost_nano"] == CALL_NANO
    assert sum(line["cost_nano"] for line in calls) == sum(call.cost_nano for call in dan.calls.all()) > CALL_NANO
    assert (calls[2]["prompt_tokens"], calls[2]["answer_tokens"]) == (7, 3)
    assert set(calls[2]["stages_ms"]) == set(metrics.STAGES)

    # And nobody finds in it what was said
    secrets = [*words.values(), key, poor, key[:-1], "upstream-secret", "secret internals", settings.CONTENT_KEY]
    assert [word for word in secrets if word in written or word in numbers] == []

    # And the numbers say the same
    for end in ("succeeded", "replayed", "failed", "refused"):
        assert sample(numbers, f'openledger_gateway_calls_total{{end="{end}"}}') == ends.count(end)
    assert sample(numbers, 'openledger_gateway_errors_total{code="insufficient_balance"}') == 1
    assert sample(numbers, 'openledger_gateway_stage_seconds_count{stage="capture"}') == 3
    assert sample(numbers, 'openledger_gateway_stage_seconds_count{stage="upstream_first_byte"}') == 1
    assert sample(numbers, "openledger_gateway_capture_batch_calls_count") >= 4
    assert sample(numbers, "openledger_gateway_leases") == 1
    assert sample(numbers, "openledger_gateway_held_nano") > 0
    assert sample(numbers, "openledger_gateway_ready") == 1


def test_of_an_error_the_log_tells_the_place_and_not_the_words():
    try:
        try:
            float("kanari")
        except ValueError as error:
            raise KeyError("kanari") from error
    except KeyError as error:
        about = {
            "name": "asyncio",
            "msg": "Task failed\n%s",
            "args": (repr(error),),
            "exc_info": (KeyError, error, None),
        }

    line = logs.JsonFormatter().format(logging.makeLogRecord(about))

    assert "kanari" not in line
    told = json.loads(line)
    assert told["message"] == "Task failed"
    assert [part for part in told["exception"] if part.endswith("Error")] == ["KeyError", "ValueError"]
    assert any(__file__ in part for part in told["exception"])


class Gate:
    """A delay of the fake server that ends when the test says so."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __float__(self) -> float:
        self.opened.wait(60)
        return 0.0


def test_a_process_that_is_told_to_end_takes_no_calls_and_ends_those_it_has(shop, gateway, inner):
    # Given calls that run, and are not answered yet
    dan, key = shop.buyer("dan-drains", OPEN)
    gate = shop.upstream.delay_s = Gate()
    seen = len(shop.upstream.seen)
    with ThreadPoolExecutor(8) as threads:
        calling = [threads.submit(chat, gateway, key, model="erin/slow", stream=number % 2 == 0) for number in range(8)]
        wait_until(lambda: len(shop.upstream.seen) == seen + 8)
        assert requests.get(f"{inner}/readyz", timeout=10).status_code == 200
        assert gateway.get("/readyz").status_code == 200

        # When it is told to end, then it takes nothing new
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: requests.get(f"{inner}/readyz", timeout=10).status_code == 503)
        wait_until(lambda: is_refused(gateway))
        assert not any(one.done() for one in calling)

        # And what it has ends as if nothing had happened
        gate.opened.set()
        answers = [one.result() for one in calling]

    shop.upstream.delay_s = 0.3
    assert gateway.stop() == 0
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers[::2])
    receipts = {answer.headers["x-receipt-id"] for answer in answers}
    assert {str(call.pk) for call in Call.objects.filter(buyer=dan, status="succeeded", cost_nano__gt=0)} == receipts
    assert ledger.open_holds(chart.wallet(dan.pk)) == []
    assert shop.balance_nano(dan) == OPEN - sum(call.cost_nano for call in dan.calls.all())


def is_refused(gateway: Gateway) -> bool:
    try:
        gateway.get("/livez")
    except requests.ConnectionError:
        return True
    return False
