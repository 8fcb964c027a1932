"""Killed anywhere, the gateway gives nothing away, charges nothing twice, and leaves no money behind.

20 calls are in flight: ten streams, one of which its client drops, five whole answers and five classifications by a
trained model. The process dies by its own `kill -9` at a named place. Afterwards every acknowledged call is charged
once, the sums are equal, nothing is held, repeating all 20 with their Idempotency-Keys on a fresh process ends in
exactly 20 charges, and each of them is attributed and paid out.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
import requests
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from attribution import explain
from attribution.payloads import TOPIC
from ledger import chart, sequencer
from ledger import services as ledger
from marketplace import reaping
from marketplace.gateway import failpoints
from marketplace.models import Call, Idempotency
from tests.gateway import shop as shops
from tests.gateway.conftest import open_connected_shop, running_gateway, wait_until
from tests.gateway.shop import OPEN
from tests.processes import ROOT
from tests.shop import fund, measured, nothing_is_wrong, person, published, settle, trained

IN_FLIGHT = 20
MESSAGES = [{"role": "user", "content": "What is the answer?"}]
SHORT = {"GATEWAY_LEASE_S": "2", "GATEWAY_LEASE_IDLE_S": "1"}
# Not the first time, so that some calls are done, some running and some waiting.
TIMES = {"in_stream": 33, "before_lease_close": 1, "before_capture": 2, "after_capture": 2}


@pytest.fixture(scope="module")
def shop(books_of_module, upstream):
    """Connected models, and Devi's that was trained on Alice's and Bob's records: what it earns can be paid out."""
    before = settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S
    opened = open_connected_shop(books_of_module, upstream)
    settings.REVIEW_UNDO_S = 0
    version = published({"alice": measured(20), "bob": measured(20, start=20)})
    fund(books_of_module, person("devi"), 10)
    trained(books_of_module, version)
    yield opened
    settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S = before


def environment(**more: str) -> dict[str, str]:
    return {"OUTBOUND_ALLOW": settings.OUTBOUND_ALLOW[0], **more}


def classify(gateway, key: str) -> requests.Response:
    return gateway.classify(key, model="devi/check")


def call_all(gateway, key: str, *, dropped: int | None = None) -> list[str]:
    """20 calls at once. Returns the receipt ids of those that were acknowledged: a whole body, or `[DONE]`.

    Args:
        dropped: The number of the call whose client closes the connection before its end.
    """
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        receipts = threads.map(lambda number: acknowledged(gateway, key, number, number == dropped), range(IN_FLIGHT))
        return [receipt for receipt in receipts if receipt]


def acknowledged(gateway, key: str, number: int, drops: bool) -> str | None:
    path, streamed = "/v1/chat/completions", number % 2 == 0
    body = {"model": "erin/slow", "messages": MESSAGES, "max_tokens": 20, "stream": streamed}
    if number % 4 == 3:
        path, body = "/v1/classify", {"model": "devi/check", "input": shops.ROW}
    headers = {"authorization": f"Bearer {key}", "idempotency-key": f"call-{number}"}
    try:
        answer = requests.post(gateway.url + path, json=body, headers=headers, timeout=30, stream=drops)
        if drops:
            answer.close()
            return None
    except requests.RequestException:
        return None
    if answer.status_code != 200:
        return None
    whole = answer.text.endswith("data: [DONE]\n\n") if streamed else bool(json.loads(answer.text)["usage"])
    return answer.headers["x-receipt-id"] if whole else None


@contextlib.contextmanager
def calling_all_the_time(gateway, key: str) -> Iterator[None]:
    """Somebody whose calls leave the process no quiet second."""
    enough = threading.Event()

    def call() -> None:
        while not enough.is_set():
            answer = classify(gateway, key)
            # 503: the database is away, or a thread of the gateway does not have its connection back yet
            assert answer.status_code == 200 or (answer.status_code == 503 and answer.headers["retry-after"])

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

    wait_until(ended, timeout_s=20)
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


def assert_all_are_charged_once_and_paid_out(shop, buyer, receipts: list[str]) -> None:
    """After the 20 calls were repeated: acknowledged = charged = attributed, and every invariant holds."""
    assert len(receipts) == IN_FLIGHT
    assert_the_books_agree(shop, buyer, receipts)
    assert sorted(charged(buyer)) == sorted(receipts)
    assert Idempotency.objects.filter(owner=buyer, status="done").count() == IN_FLIGHT
    settle(shop.books)
    assert {explain.status_of(receipt) for receipt in receipts} == {"posted"}
    assert nothing_is_wrong()


@pytest.mark.parametrize("place", failpoints.NAMES)
def test_killed_at_any_place_nothing_is_free_double_or_lost(shop, place):
    # Given 20 calls in flight, and a process that dies
    buyer, key = shop.buyer(f"dan-{place.replace('_', '-')}", OPEN)
    dies = {"FAILPOINTS": "1", "FAIL_AT": f"{place}@{TIMES.get(place, 7)}", "GATEWAY_LEASE_IDLE_S": "1"}
    with running_gateway(shop.books, **environment(**dies)) as gateway:
        receipts = call_all(gateway, key, dropped=6)
        wait_until(lambda: gateway.process.poll() is not None)
        assert gateway.process.returncode == -9
    wait_for_its_connections_to_end(shop)

    # Then what was acknowledged is charged, and nothing else is missing
    assert_the_books_agree(shop, buyer, receipts)

    # And the sequencer releases what the dead process held, long before its leases of 60 s expire
    reaping.Reaper(grace_s=0).reap()
    assert ledger.open_holds(chart.wallet(buyer.pk)) == []
    assert ledger.balance_nano(chart.wallet(buyer.pk)) == shop.balance_nano(buyer)

    # And a repetition on another process charges each call once
    with running_gateway(shop.books, **environment()) as gateway:
        again = call_all(gateway, key)
    assert set(receipts) <= set(again)
    assert_all_are_charged_once_and_paid_out(shop, buyer, again)


def test_a_crash_of_postgres_and_of_the_sequencer_loses_and_doubles_nothing(shop):
    # Given a database that keeps what it has committed (others of tests need not), calls in flight and a sequencer
    buyer, key = shop.buyer("dan-crash", OPEN)
    admin = shop.books.connect("DATABASE_SUPERUSER_URL")
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {shop.books.name} SET synchronous_commit = on")
        cursor.execute("CHECKPOINT")
    shop.upstream.delay_s = 1.5
    with (
        running_sequencer(shop) as loop,
        running_gateway(shop.books, **environment()) as gateway,
        ThreadPoolExecutor(1) as threads,
    ):
        calling = threads.submit(call_all, gateway, key)
        wait_until(lambda: any(ledger.leaf_of(call.pk) for call in Call.objects.filter(buyer=buyer)))

        # When both are killed: the sequencer wherever it is, Postgres by one of its processes, which ends them all
        loop.kill()
        with admin.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'gateway capture'")
            os.kill(cursor.fetchone()[0], signal.SIGKILL)
        receipts = calling.result()
        shop.upstream.delay_s = 0.3
        wait_until(database_is_back)
        wait_until(lambda: gateway.get("/health").status_code == 200)
        assert_the_books_agree(shop, buyer, receipts)
        wait_until(lambda: not Idempotency.objects.filter(owner=buyer, status="running").exists())

        # Then a repetition charges each call once, as if nothing had happened
        again = call_all(gateway, key)
    admin.close()
    assert set(receipts) <= set(again)
    assert_all_are_charged_once_and_paid_out(shop, buyer, again)
    assert ledger.open_holds(chart.wallet(buyer.pk)) == []


def database_is_back() -> bool:
    connection.close()
    with contextlib.suppress(OperationalError):
        connection.ensure_connection()
    return connection.is_usable() if connection.connection else False


@contextlib.contextmanager
def running_sequencer(shop) -> Iterator[subprocess.Popen]:
    """`manage.py sequencer`, the one loop that moves the books forward."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sequencer"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_SEQUENCER_URL": shop.books.url("DATABASE_SEQUENCER_URL"), "WITNESS_QUORUM": "0"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_leases_of_a_killed_process_expire_where_nobody_saw_it_die(shop):
    buyer, key = shop.buyer("dan-clock", OPEN)
    dies = {"FAILPOINTS": "1", "FAIL_AT": "after_lease", **SHORT}
    with running_gateway(shop.books, **environment(**dies)) as gateway, pytest.raises(requests.ConnectionError):
        classify(gateway, key)

    def expired() -> bool:
        sequencer.expire()
        return ledger.open_holds(chart.wallet(buyer.pk)) == []

    wait_until(expired)
    assert shop.balance_nano(buyer) == ledger.balance_nano(chart.wallet(buyer.pk)) == OPEN


def test_a_stopped_process_finishes_its_calls_and_gives_everything_back(shop):
    buyer, key = shop.buyer("dan-stops", OPEN)
    with running_gateway(shop.books, **environment()) as gateway, ThreadPoolExecutor(1) as threads:
        calling = threads.submit(call_all, gateway, key)
        wait_until(lambda: ledger.open_holds(chart.wallet(buyer.pk)) != [])
        gateway.stop()
        receipts = calling.result()

    assert receipts
    assert ledger.open_holds(chart.wallet(buyer.pk)) == []
    assert_the_books_agree(shop, buyer, receipts)


def test_a_lease_that_is_used_is_renewed_and_one_that_is_not_is_closed(shop):
    buyer, key = shop.buyer("dan-renews", 10 * OPEN)
    with running_gateway(shop.books, **environment(GATEWAY_LEASE_S="4", GATEWAY_LEASE_IDLE_S="2")) as gateway:
        assert classify(gateway, key).status_code == 200
        (lease,) = ledger.open_holds(chart.wallet(buyer.pk))

        # When it is used for longer than its first life, then it is still the same one
        while timezone.now() <= lease.expires_at:
            time.sleep(0.25)
            assert classify(gateway, key).status_code == 200
            sequencer.expire()
        assert [found.id for found in ledger.open_holds(chart.wallet(buyer.pk))] == [lease.id]

        # And when it is not, it is closed
        wait_until(lambda: ledger.open_holds(chart.wallet(buyer.pk)) == [])
    shop.books.fold()
    assert shop.balance_nano(buyer) == 10 * OPEN - sum(charged(buyer).values())


def test_without_a_database_calls_are_503_at_once_and_running_ones_cost_nothing(shop):
    # Given a slow call, somebody who calls all the time, and a database that goes away under them
    buyer, key = shop.buyer("dan-dark", OPEN)
    _, busy_key = shop.buyer("dan-busy", 1000 * OPEN)  # more than it can spend
    admin = psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"])
    admin.autocommit = True
    shop.upstream.delay_s = 2.0
    with (
        running_gateway(shop.books, **environment()) as gateway,
        calling_all_the_time(gateway, busy_key),
        admin.cursor() as cursor,
    ):
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(
                gateway.post, "/v1/chat/completions", {"model": "erin/slow", "messages": MESSAGES}, key=key
            )
            wait_until(lambda: ledger.open_holds(chart.wallet(buyer.pk)) != [])
            cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS false")
            try:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = %s",
                    [shop.books.name, settings.APP_DB_ROLE],
                )
                wait_until(lambda: gateway.get("/health").status_code == 503)

                assert gateway.get("/readyz").status_code == 503
                assert gateway.get("/livez").status_code == 200

                # When somebody calls, then they are told at once, and the running call is not delivered
                refused = classify(gateway, key)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
                assert refused.headers["retry-after"]
                assert not running.done()
                assert running.result().status_code == 503
                assert running.result().json()["error"]["code"] == "outcome_unknown"
                assert running.result().headers["x-should-retry"] == "false"
            finally:
                cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS true")
                shop.upstream.delay_s = 0.3

        # And once it is back, calls are answered, and the broken one is there as failed, at cost 0
        wait_until(lambda: classify(gateway, key).status_code == 200)
        wait_until(lambda: Call.objects.filter(buyer=buyer, status="failed").count() == 1)
    admin.close()
    assert Call.objects.get(buyer=buyer, status="failed").cost_nano == 0
    assert_the_books_agree(shop, buyer, [])
