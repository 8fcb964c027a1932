"""What the gateway stored is forgotten in time, and every answer can be named by its request id."""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests
from django.db.models import F
from django.utils import timezone

from attribution import content, traces
from marketplace import housekeeping
from marketplace.models import Call, CallContent, Idempotency
from tests.gateway.shop import CALL_NANO, OPEN, ROW

CHAT = {"model": "erin/fine", "messages": [{"role": "user", "content": "?"}], "max_tokens": 20}
OTHER_ROW = {"radius": 1.0, "texture": 2.0}


def test_an_idempotency_key_is_free_again_after_a_day(gateway, shop):
    # Given two keys, one used 23 hours ago and one 25
    dan, key = shop.buyer("dan-waits", OPEN)
    for name, age_h in (("young", 23), ("old", 25)):
        assert gateway.classify(key, idempotency_key=name).status_code == 200
        row = Idempotency.objects.filter(owner=dan, key=name)
        row.update(created_at=F("created_at") - timedelta(hours=age_h))

    # When both are used for another request
    young, old = (gateway.classify(key, input=OTHER_ROW, idempotency_key=name) for name in ("young", "old"))

    # Then only the old one is free: that is a new call, with its own charge
    assert (young.status_code, young.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert old.status_code == 200
    assert "x-idempotent-replay" not in old.headers
    assert Call.objects.filter(buyer=dan).count() == 3
    assert shop.balance_nano(dan) == OPEN - 3 * CALL_NANO

    # And the round of the house removes what is older than a day, and nothing else
    Idempotency.objects.filter(owner=dan, key="old").update(created_at=timezone.now() - timedelta(hours=25))
    assert housekeeping.forget_idempotency_keys() == 1
    assert list(Idempotency.objects.filter(owner=dan).values_list("key", flat=True)) == ["young"]


def test_the_content_of_a_call_is_erased_when_its_time_is_over(gateway, shop, settings):
    # Given two calls, the time of one of which is over
    dan, key = shop.buyer("dan-forgets", OPEN)
    kept, over = (gateway.classify(key, idempotency_key=name).headers["x-receipt-id"] for name in ("kept", "over"))
    row = CallContent.objects.get(call_id=over)
    assert row.expires_at - Call.objects.get(pk=over).finished_at > timedelta(days=29)
    opened = content.open_sealed(settings.CONTENT_KEY, row.call_id, bytes(row.sealed), bytes(row.sealed_key))
    assert b'"label"' in opened
    CallContent.objects.filter(call_id=over).update(expires_at=timezone.now() - timedelta(seconds=1))

    # When the house is kept, not before the call is attributed
    assert housekeeping.forget_call_content() == 0
    traces.trace(f"call:{over}")
    assert housekeeping.forget_call_content() == 1
    assert housekeeping.forget_call_content() == 0

    # Then its key and its words are gone, nobody can ask for them again, and the call and its charge stand
    row.refresh_from_db()
    assert (row.sealed_key, bytes(row.sealed)) == (None, b"")
    again = gateway.classify(key, idempotency_key="over")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_erased")
    assert gateway.classify(key, idempotency_key="kept").headers["x-receipt-id"] == kept
    assert Call.objects.get(pk=over).cost_nano == CALL_NANO
    assert shop.balance_nano(dan) == OPEN - 2 * CALL_NANO


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/classify", {"model": "erin/tumours", "input": ROW}, 200),
        ("POST", "/v1/classify", {"model": "erin/tumours"}, 400),
        ("POST", "/v1/chat/completions", CHAT, 200),
        ("POST", "/v1/chat/completions", CHAT | {"stream": True}, 200),
        ("POST", "/v1/chat/completions", CHAT | {"model": "erin/breaks", "stream": True}, 200),
        ("POST", "/v1/chat/completions", CHAT | {"model": "erin/error"}, 502),
        ("POST", "/v1/quote", CHAT, 200),
        ("GET", "/v1/models", None, 200),
        ("HEAD", "/v1/models/erin/tumours", None, 200),
        ("GET", "/v1/usage", None, 200),
        ("GET", "/v1/receipts/none", None, 404),
        ("GET", "/v1/nothing", None, 404),
        ("PUT", "/v1/classify", None, 405),
        ("OPTIONS", "/v1/classify", None, 204),
        ("GET", "/health", None, 200),
    ],
)
def test_every_answer_has_a_request_id(gateway, shop, method, path, body, status):
    _, key = shop.buyer("dan-names", OPEN)

    def ask(**headers: str) -> requests.Response:
        headers["authorization"] = f"Bearer {key}"
        return requests.request(method, gateway.url + path, json=body, headers=headers, timeout=30)

    named, unnamed, badly_named = (
        ask(**{"x-request-id": "0a1b2c3d-4e5f"}),
        ask(),
        ask(**{"x-request-id": "words-of-somebody"}),
    )

    assert {one.status_code for one in (named, unnamed, badly_named)} == {status}
    assert named.headers["x-request-id"] == "0a1b2c3d-4e5f"
    assert len({one.headers["x-request-id"] for one in (unnamed, badly_named)} - {"words-of-somebody"}) == 2
