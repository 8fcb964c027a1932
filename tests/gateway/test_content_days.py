"""For how long what a call said is kept: as its key says, and with no days only until it is attributed."""

from __future__ import annotations

import io
import secrets
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from attribution import content, traces
from attribution.models import Line
from marketplace import housekeeping, keys
from marketplace.errors import Invalid
from marketplace.models import ApiKey, Call, CallContent
from tests.canaries import tables
from tests.gateway import shop as shops
from tests.gateway.conftest import wait_until
from tests.gateway.shop import OPEN
from tests.shop import settle


def chat(gateway, key: str, text: str, **headers: str):
    body = {"model": "erin/fine", "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    return gateway.post("/v1/chat/completions", body, key=key, **headers)


def opened(call_id: str, content_key: str) -> bytes | None:
    row = CallContent.objects.get(pk=call_id)
    if row.sealed_key is None:
        return None
    return content.open_sealed(content_key, row.call_id, bytes(row.sealed), bytes(row.sealed_key))


def test_with_no_days_a_prompt_is_kept_until_it_is_attributed_and_then_is_nowhere(gateway, shop, settings):
    # Given Dan, whose key keeps nothing, and a question with a word that stands nowhere else
    dan, key = shop.buyer("dan-discreet", OPEN, content_days=0)
    canary = f"canary{secrets.token_hex(8)}"
    answer = chat(gateway, key, canary, idempotency_key="discreet")
    call_id = answer.headers["x-receipt-id"]

    # When the house is kept before the call is attributed
    housekeeping.forget_call_content()

    # Then it is there, sealed, for attribution and for whoever lost the answer
    assert canary.encode() in opened(call_id, settings.CONTENT_KEY)
    again = chat(gateway, key, canary, idempotency_key="discreet")
    assert again.json() == answer.json()
    sealed_key = bytes(CallContent.objects.get(pk=call_id).sealed_key)
    assert _found_in_the_database(sealed_key)

    # When it is attributed, and the house is kept
    traces.trace(f"call:{call_id}")
    housekeeping.forget_call_content()

    # Then neither its words nor the key to them are anywhere in the database
    assert opened(call_id, settings.CONTENT_KEY) is None
    for secret in (canary.encode(), sealed_key):
        assert _found_in_the_database(secret) == []

    # And who asks again is told so and pays nothing; the call stands, is settled, and a replay says what it cannot do
    erased = chat(gateway, key, canary, idempotency_key="discreet")
    assert (erased.status_code, erased.json()["error"]["code"]) == (409, "idempotency_erased")
    assert shop.balance_nano(dan) == OPEN - answer.json()["open"]["cost_nano"]
    settle(shop.books)
    assert Line.objects.filter(source_id=call_id).exists()
    said = io.StringIO()
    call_command("replay", call_id, stdout=said)
    assert "Content expired, stored lines stand" in said.getvalue()


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_key_says_for_how_many_days_what_its_calls_say_is_kept(gateway, shop, settings, days):
    _, key = shop.buyer("dan-chooses", OPEN, content_days=days)
    call = Call.objects.get(pk=chat(gateway, key, "?").headers["x-receipt-id"])
    row = CallContent.objects.filter(pk=call.pk)
    assert abs(row.get().expires_at - call.finished_at - timedelta(days=days)) < timedelta(minutes=1)

    # Also one whose time is over is not erased before it is attributed
    row.update(expires_at=timezone.now() - timedelta(days=1))
    housekeeping.forget_call_content()
    assert opened(call.pk, settings.CONTENT_KEY)
    traces.trace(f"call:{call.pk}")
    housekeeping.forget_call_content()
    assert opened(call.pk, settings.CONTENT_KEY) is None


def test_what_is_attributed_to_nobody_is_erased_at_once(gateway, shop, settings):
    # Given a call that cost nothing, so that nothing of it will be attributed
    _, key = shop.buyer("dan-abstains", OPEN, content_days=0)
    body = {"model": "erin/tumours", "input": shops.ROW, "open": {"require": {"datanets": ["erin/birds"]}}}
    call_id = gateway.post("/v1/classify", body, key=key).headers["x-receipt-id"]

    housekeeping.forget_call_content()

    assert opened(call_id, settings.CONTENT_KEY) is None


def test_a_key_that_is_changed_or_replaced_keeps_content_as_it_says(gateway, shop):
    # Given a key that kept content for 30 days, and keeps none from now on
    dan, secret = shop.buyer("dan-changes-days", OPEN)
    key = ApiKey.objects.get(owner=dan)
    assert key.content_days == 30
    kept = {name: getattr(key, name) for name in (*keys.LIMITS, *("name", "expires_at", "scopes", "allowed_origins"))}
    assert keys.change(key, by=dan, models=[], content_days=0, **kept) == ["content_days"]

    # When another key takes its place
    new, new_secret = keys.replace(key, by=dan, overlap_s=3600)

    # Then both say so, of calls that begin within a second
    assert new.content_days == 0

    def is_kept_no_time(of_key: str) -> bool:
        call = Call.objects.get(pk=gateway.classify(of_key).headers["x-receipt-id"])
        return CallContent.objects.get(pk=call.pk).expires_at - call.finished_at < timedelta(seconds=1)

    assert is_kept_no_time(new_secret)
    wait_until(lambda: is_kept_no_time(secret), timeout_s=3)


@pytest.mark.parametrize("days", [-1, 31])
def test_no_key_keeps_content_longer_than_the_site(shop, days):
    dan = shops.person("dan-hoards")

    with pytest.raises(Invalid, match="0 to 30 days"):
        keys.create(owner=dan, name="hoards", content_days=days)


def _found_in_the_database(words: bytes) -> list[str]:
    return [name for name, dump in tables().items() if words in dump]
