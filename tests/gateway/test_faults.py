"""Killed anywhere, the gateway gives nothing away, charges nothing twice, and leaves no money behind.

20 calls are in flight, half of them streams; the process dies by its own `kill -9` at a named place. Afterwards every
acknowledged call is charged once, the sums are equal, every charged call is on its way to attribution, the leases
expire, and repeating all 20 with their Idempotency-Keys on a fresh process ends in exactly 20 charges.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
import requests
from django.conf import settings

from attribution.payloads import TOPIC
from ledger import chart, sequencer
from ledger import services as ledger
from marketplace.gateway import failpoints
from marketplace.models import Call, Idempotency
from tests.gateway.conftest import running_gateway, wait_until
from tests.gateway.shop import CALL_NANO, OPEN

IN_FLIGHT = 20
MESSAGES = [{"role": "user", "content": "What is the answer?"}]
SHORT = {"GATEWAY_LEASE_S": "2", "GATEWAY_LEASE_IDLE_S": "1"}
# Not the first time, so that some calls are done, some running and some waiting.
TIMES = {"in_stream": 33, "before_lease_close": 1, "before_capture": 2, "after_capture": 2}


def environment(**more: str) -> dict[str, str]:
    return {"OUTBOUND_ALLOW": settings.OUTBOUND_ALLOW[0], **SHORT, **more}


def call_all(gateway, key: str) -> list[str]:
    """20 calls at once. Returns the receipt ids of those that were acknowledged: a whole body, or `[DONE]`."""
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        receipts = threads.map(lambda number: acknowledged(gateway, key, number), range(IN_FLIGHT))
        return [receipt for receipt in receipts if receipt]


def acknowledged(gateway, key: str, number: int) -> str | None:
    body = {"model": "erin/slow", "messages": MESSAGES, "max_tokens": 20, "stream": number % 2 == 0}
    headers = {"authorization": f"Bearer {key}", "idempotency-key": f"call-{number}"}
    try:
        answer = requests.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    except requests.RequestException:
        return None
    if answer.status_code != 200:
        return None
    whole = answer.text.endswith("data: [DONE]\n\n") if body["stream"] else bool(json.loads(answer.text)["usage"])
    return answer.headers["x-receipt-id"] if whole else None


@contextlib.contextmanager
def calling_all_the_time(gateway, key: str) -> Iterator[None]:
    """Somebody whose calls leave the process no quiet second."""
    enough = threading.Event()

    def call() -> None:
        while not enough.is_set():
            assert gateway.classify(key).status_code == 200

    with ThreadPoolExecutor(1) as threads:
        calling = threads.submit(call)
        try:
            yield
        finally:
            enough.set()
        calling.result()


def wait_for_its_connections_to_end(shop) -> None:
    """A statement that was sent is finished by Postgres, though nobody waits for it any more."""
    session = shop.books.connect("DATABASE_SUPERUSER_URL")
    session.autocommit = True

    def ended() -> bool:
        with session.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s",
                [shop.books.name, settings.APP_DB_ROLE],
            )
            return cursor.fetchone()[0] == 0

    wait_until(ended, timeout_s=10)
    session.close()


def charged(buyer) -> dict[str, int]:
    """Receipt id -> nano, from the journal."""
    rows = ledger.statement_of(chart.wallet(buyer.pk), limit=500)
    return {str(row.posting_id): -row.amount_nano for row in rows if row.kind == "call_charged"}


def assert_the_books_agree(shop, buyer, receipts: list[str]) -> None:
    shop.books.fold()
    paid = charged(buyer)
    calls = {str(call.pk): call for call in Call.objects.filter(buyer=buyer)}
    assert set(receipts) <= set(paid), "an acknowledged call was not charged"
    assert paid == {id: call.cost_nano for id, call in calls.items() if call.cost_nano}
    assert all(ledger.outbox_payload(TOPIC, f"call:{id}") for id in paid), "a charged call is not attributed"
    assert shop.balance_nano(buyer) == OPEN - sum(paid.values())


@pytest.mark.parametrize("place", failpoints.NAMES)
def test_killed_at_any_place_nothing_is_free_double_or_lost(shop, place):
    # Given 20 calls in flight, and a process that dies
    buyer, key = shop.buyer(f"dan-{place.replace('_', '-')}", OPEN)
    with running_gateway(
        shop.books, **environment(FAILPOINTS="1", FAIL_AT=f"{place}@{TIMES.get(place, 7)}")
    ) as gateway:
        receipts = call_all(gateway, key)
        wait_until(lambda: gateway.process.poll() is not None, timeout_s=10)
        assert gateway.process.returncode == -9
    wait_for_its_connections_to_end(shop)

    # Then what was acknowledged is charged, and nothing else is missing
    assert_the_books_agree(shop, buyer, receipts)

    # And its leases end by the clock
    def expired() -> bool:
        sequencer.expire()
        return ledger.open_holds(chart.wallet(buyer.pk)) == []

    wait_until(expired, timeout_s=5)
    assert ledger.balance_nano(chart.wallet(buyer.pk)) == shop.balance_nano(buyer)

    # And a repetition on another process charges each call once
    with running_gateway(shop.books, **environment()) as gateway:
        again = call_all(gateway, key)
    assert len(again) == IN_FLIGHT
    assert set(receipts) <= set(again)
    assert_the_books_agree(shop, buyer, again)
    assert sorted(charged(buyer)) == sorted(again)
    assert Idempotency.objects.filter(owner=buyer, status="done").count() == IN_FLIGHT


def test_a_stopped_process_finishes_its_calls_and_gives_everything_back(shop):
    buyer, key = shop.buyer("dan-stops", OPEN)
    with running_gateway(shop.books, **environment(GATEWAY_LEASE_S="60")) as gateway, ThreadPoolExecutor(1) as threads:
        calling = threads.submit(call_all, gateway, key)
        wait_until(lambda: ledger.open_holds(chart.wallet(buyer.pk)) != [])
        time.sleep(0.15)
        gateway.stop()
        receipts = calling.result()

    assert receipts
    assert ledger.open_holds(chart.wallet(buyer.pk)) == []
    assert_the_books_agree(shop, buyer, receipts)


def test_a_lease_that_is_used_is_renewed_and_one_that_is_not_is_closed(shop):
    buyer, key = shop.buyer("dan-renews", OPEN)
    with running_gateway(shop.books, **environment()) as gateway:
        gateway.classify(key)
        lease = ledger.open_holds(chart.wallet(buyer.pk))[0]
        for _ in range(6):  # longer than the lease, never idle
            time.sleep(0.5)
            assert gateway.classify(key).status_code == 200
            sequencer.expire()
        assert ledger.open_holds(chart.wallet(buyer.pk))[0].id == lease.id
        wait_until(lambda: ledger.open_holds(chart.wallet(buyer.pk)) == [], timeout_s=5)
    assert shop.balance_nano(buyer) == OPEN - 7 * CALL_NANO


def test_without_a_database_calls_are_503_at_once_and_running_ones_cost_nothing(shop):
    # Given a slow call, somebody who calls all the time, and a database that goes away under them
    buyer, key = shop.buyer("dan-dark", OPEN)
    _, busy_key = shop.buyer("dan-busy", OPEN)
    admin = psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"])
    admin.autocommit = True
    shop.upstream.delay_s = 1.0
    with running_gateway(shop.books, **environment(GATEWAY_LEASE_S="60")) as gateway, admin.cursor() as cursor:
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(
                gateway.post, "/v1/chat/completions", {"model": "erin/slow", "messages": MESSAGES}, key=key
            )
            time.sleep(0.4)
            cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS false")
            try:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = %s",
                    [shop.books.name, settings.APP_DB_ROLE],
                )
                time.sleep(0.2)

                # When somebody calls, then they are told at once
                began = time.monotonic()
                refused = gateway.classify(key)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
                assert refused.headers["retry-after"]
                assert time.monotonic() - began < 0.5
                assert running.result().status_code == 503
                assert running.result().json()["error"]["code"] == "outcome_unknown"
                assert running.result().headers["x-should-retry"] == "false"
            finally:
                cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS true")
                shop.upstream.delay_s = 0.3

        # And once it is back, calls are answered, and the broken one is there as failed, at cost 0
        wait_until(lambda: gateway.classify(key).status_code == 200, timeout_s=5)
        with calling_all_the_time(gateway, busy_key):
            wait_until(lambda: Call.objects.filter(buyer=buyer, status="failed").count() == 1, timeout_s=15)
    admin.close()
    assert Call.objects.get(buyer=buyer, status="failed").cost_nano == 0
    assert_the_books_agree(shop, buyer, [])
