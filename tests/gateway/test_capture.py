"""The capture statement and its thread, against the real database, without HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import psycopg2
import pytest
from django.db import connection

from attribution.payloads import TOPIC
from ledger import chart, errors
from ledger import services as ledger
from marketplace import promotion
from marketplace.gateway import capture as capturing
from marketplace.gateway import catalogue, config, database
from marketplace.gateway.capture import CapReached, Capture, FreeCallTaken, KeyTaken
from marketplace.gateway.charging import Call, Outcome, charge
from marketplace.gateway.errors import Unavailable
from marketplace.gateway.idempotency import Idempotency
from marketplace.models import ApiKey, CallContent, FreeCall, KeyLease, KeyUse
from marketplace.models import Call as StoredCall
from tests import asynchronous
from tests.datanets.races import race
from tests.gateway.conftest import open_shop, wait_until
from tests.gateway.shop import CALL_NANO, OPEN, fund, person

KEY = "22" * 32


@pytest.fixture(scope="module")
def shop(books_of_module, upstream):
    return open_shop(books_of_module, upstream)


def dsn_of(shop) -> str:
    return os.environ["DATABASE_APP_URL"].rsplit("/", 1)[0] + f"/{shop.books.name}"


def finished_call(shop, buyer, *, hold_id=None, idempotency_key="", free=False, **changes) -> dict:
    """A row as the gateway makes it."""
    with shop.books.connect("DATABASE_APP_URL").cursor() as cursor:
        version = catalogue.load(cursor).find("erin/tumours")
    key = ApiKey.objects.filter(owner=buyer).first()
    call = Call(version, buyer.pk, str(key.pk), "classify", False, "ab" * 32, idempotency_key, free)
    outcome = dataclasses.replace(Outcome("succeeded", response={"label": "benign"}, context={"x": 1}), **changes)
    done = charge(call, outcome, content_key=KEY, kept_s=60, vest_after_s=0, site_url="http://testserver")
    return {**done.row, "hold_id": str(hold_id) if hold_id else None}


def hold(buyer, amount_nano=OPEN // 2, expires_in_s=60):
    hold_id = ledger.new_id()
    ledger.hold(id=hold_id, account=chart.wallet(buyer.pk), amount_nano=amount_nano, expires_in_s=expires_in_s)
    return hold_id


def store(shop, *rows) -> list:
    """Store rows as one burst of the process; per row whether its lease was gone, or the exception."""
    capture = Capture(dsn_of(shop))

    async def burst():
        waiting = [asyncio.ensure_future(capture.store(row)) for row in rows]
        await asyncio.sleep(0)
        capture.start()
        return await asyncio.gather(*waiting, return_exceptions=True)

    results = asynchronous.run(burst())
    capture.stop()
    return results


def test_a_call_that_is_sent_twice_is_charged_once(shop):
    dan, _ = shop.buyer("dan-twice", OPEN)
    row = finished_call(shop, dan, hold_id=hold(dan))

    assert store(shop, row, row) == [False, False]
    assert store(shop, row) == [False]

    assert StoredCall.objects.filter(buyer=dan).count() == 1
    assert shop.balance_nano(dan) == OPEN - CALL_NANO
    assert ledger.outbox_payload(TOPIC, f"call:{row['call']['id']}") is not None
    assert CallContent.objects.filter(call_id=row["call"]["id"]).count() == 1


def test_one_bad_row_does_not_lose_the_others(shop):
    dan, _ = shop.buyer("dan-batch", OPEN)
    hold_id = hold(dan)
    good = [finished_call(shop, dan, hold_id=hold_id) for _ in range(4)]
    bad = finished_call(shop, dan, hold_id=hold_id)
    bad["call"]["version_id"] = str(uuid.uuid4())

    results = store(shop, good[0], good[1], bad, good[2], good[3])

    assert [result is False for result in results] == [True, True, False, True, True]
    assert isinstance(results[2], psycopg2.errors.ForeignKeyViolation)
    assert ledger.posting_of(bad["call"]["id"]) is None
    assert shop.balance_nano(dan) == OPEN - 4 * CALL_NANO


def test_a_call_whose_lease_is_gone_is_paid_from_the_wallet(shop):
    dan, _ = shop.buyer("dan-gone", OPEN)
    hold_id = hold(dan)
    ledger.close(hold_id)

    assert store(shop, finished_call(shop, dan, hold_id=hold_id)) == [True]

    assert shop.balance_nano(dan) == OPEN - CALL_NANO


def test_a_call_that_nothing_covers_is_refused_whole(shop):
    dan, _ = shop.buyer("dan-bare", 10)
    row = finished_call(shop, dan)

    (refused,) = store(shop, row)

    assert isinstance(refused, errors.InsufficientFunds)
    assert not StoredCall.objects.filter(pk=row["call"]["id"]).exists()


@pytest.fixture
def clock(monkeypatch):
    """The capture's clock, which moves as far as it sleeps."""
    clock = SimpleNamespace(now_s=1000.0)

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    monkeypatch.setattr(capturing, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=sleep))
    return clock


def test_calls_that_wait_behind_others_in_an_outage_are_told_when_those_are(monkeypatch, clock):
    # Given a database that does not answer, and batches of one call
    tried: list[float] = []

    def refused(_dsn: str, _name: str):
        tried.append(clock.now_s)
        raise psycopg2.OperationalError("connection refused")

    monkeypatch.setattr(config, "CAPTURE_BATCH_MAX", 1)
    capture = Capture("", open_connection=refused)

    async def burst():
        waiting = [asyncio.ensure_future(capture.store({"call": {"id": str(number)}})) for number in range(3)]
        await asyncio.sleep(0)
        capture.start()
        return await asyncio.gather(*waiting, return_exceptions=True)

    # When three calls end
    results = asynchronous.run(burst())

    # Then all are told that it is unknown, once the first of them has had its patience
    assert [type(result) for result in results] == [Unavailable] * 3
    assert tried[-1] - tried[0] == pytest.approx(config.CAPTURE_PATIENCE_S)
    capture.stop()


def test_a_call_after_an_outage_waits_for_a_connection_as_long_as_any_other(shop, clock):
    # Given a process that gave up a call, and a database that comes back and has no connection free for a moment
    dan, _ = shop.buyer("dan-after", OPEN)
    lost, kept = finished_call(shop, dan, hold_id=hold(dan)), finished_call(shop, dan, hold_id=hold(dan))
    back = SimpleNamespace(at_s=float("inf"))

    def opened(dsn: str, name: str):
        if clock.now_s < back.at_s:
            raise psycopg2.OperationalError("sorry, too many clients already")
        return database.connect(dsn, name)

    capture = Capture(dsn_of(shop), open_connection=opened)

    async def both():
        capture.start()
        with pytest.raises(Unavailable):
            await capture.store(lost)
        back.at_s = clock.now_s + config.CAPTURE_PATIENCE_S / 2
        return await capture.store(kept)

    # When another call ends
    assert asynchronous.run(both()) is False

    # Then it is stored, and charged; and the one before is a failure that cost nothing
    capture.stop()
    assert StoredCall.objects.get(pk=kept["call"]["id"]).status == "succeeded"
    assert StoredCall.objects.get(pk=lost["call"]["id"]).cost_nano == 0
    assert shop.balance_nano(dan) == OPEN - CALL_NANO


def lease_of_cap(key: ApiKey, amount_nano: int) -> str:
    """A gateway's lease on what a key may spend."""
    lease_id = str(ledger.new_id())
    asked = [lease_id, key.pk, "spend", "gateway:test", 0, amount_nano, amount_nano, 0, 60]
    with connection.cursor() as cursor:
        cursor.execute("SELECT granted FROM gateway_lease_key(%s, %s, %s, %s, %s, %s, %s, %s, %s)", asked)
        assert cursor.fetchone() == (amount_nano,)
    return lease_id


def end_lease_of_cap(lease_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT gateway_end_key_lease(%s)", [lease_id])


def test_a_call_that_is_sent_twice_counts_once_for_its_keys_cap(shop):
    dan, _ = shop.buyer("dan-caps", OPEN, spend_cap_nano=3 * CALL_NANO)
    key = ApiKey.objects.get(owner=dan)
    lease_id = lease_of_cap(key, 2 * CALL_NANO)
    row = finished_call(shop, dan) | {"cap_id": lease_id}

    assert store(shop, row, row) == [False, False]
    assert store(shop, row) == [False]

    assert KeyLease.objects.get(pk=lease_id).used == CALL_NANO
    end_lease_of_cap(lease_id)
    end_lease_of_cap(lease_id)
    assert KeyUse.objects.filter(key=key).values_list("used", "leased").get() == (CALL_NANO, 0)


def test_a_call_whose_lease_of_the_cap_is_gone_counts_all_the_same_or_is_refused(shop):
    # Given two calls on a lease that has ended, and a cap with room for one of them
    dan, _ = shop.buyer("dan-fenced", OPEN, spend_cap_nano=2 * CALL_NANO, spend_cap_day_nano=OPEN)
    key = ApiKey.objects.get(owner=dan)
    lease_id = lease_of_cap(key, 2 * CALL_NANO)
    end_lease_of_cap(lease_id)
    others = lease_of_cap(key, CALL_NANO)
    rows = [finished_call(shop, dan) | {"cap_id": lease_id} for _ in range(2)]

    # When both are stored at once
    results = store(shop, *rows)

    # Then one counts, and the other was never charged
    assert [type(result) for result in results] == [bool, CapReached]
    assert StoredCall.objects.filter(buyer=dan).count() == 1
    assert shop.balance_nano(dan) == OPEN - CALL_NANO
    end_lease_of_cap(others)
    uses = KeyUse.objects.filter(key=key).values_list("kind", "used", "leased")
    assert set(uses) == {("total", CALL_NANO, 0), ("day", CALL_NANO, 0)}


def take_key(buyer, row, process: str) -> str:
    """SQL that takes the row's Idempotency-Key for its call."""
    return (
        f"SELECT outcome FROM gateway_take_key({buyer.pk}, '{row['idempotency_key']}', 'abc', "
        f"'{row['call']['id']}', '{process}', 60)"
    )


def test_a_key_that_is_taken_over_while_its_call_is_stored_is_charged_to_one_of_them(shop):
    """Fails without the lock of the idempotency rows in capture_calls (tests/mutations.py): both would be charged."""
    # Given a finished call whose process is thought dead, and another process that takes its key at this moment
    dan, _ = shop.buyer("dan-taken", OPEN)
    first, second = (finished_call(shop, dan, idempotency_key="order-1") for _ in range(2))
    with connection.cursor() as cursor:
        cursor.execute(take_key(dan, first, "gateway:thought-dead"))
        assert cursor.fetchone() == ("mine",)

    # When the first one is stored
    [[refused]] = race(shop.books, partial(store, shop, first), behind=take_key(dan, second, "gateway:alive"))

    # Then it is refused, and only the one that has the key is charged
    assert isinstance(refused, KeyTaken)
    assert store(shop, second) == [False]
    assert [str(call.pk) for call in StoredCall.objects.filter(buyer=dan)] == [second["call"]["id"]]
    assert shop.balance_nano(dan) == OPEN - CALL_NANO


def take_free_call(buyer, row, process: str) -> str:
    """SQL that takes the buyer's only free call of the model for the row's call."""
    call = row["call"]
    return f"SELECT gateway_take_free_call({buyer.pk}, '{call['model_id']}', 1, '{call['id']}', '{process}', 600)"


def test_a_free_call_that_is_taken_over_while_it_is_stored_is_free_once(shop):
    """Fails without the look at the number in capture_calls (tests/mutations.py): both would be free."""
    # Given a free call whose process is thought dead, and another process that takes its number at this moment
    dan, erin = shop.buyer("dan-free-once")[0], person("erin")
    fund(shop.books, erin, 2 * CALL_NANO)
    promotion.fund(erin, amount_nano=2 * CALL_NANO, reference="free once")
    shop.books.fold()
    first, second = (finished_call(shop, dan, free=True) for _ in range(2))
    with connection.cursor() as cursor:
        cursor.execute(take_free_call(dan, first, "gateway:thought-dead"))
        assert cursor.fetchone() == (True,)

    # When the first one is stored
    [[refused]] = race(shop.books, partial(store, shop, first), behind=take_free_call(dan, second, "gateway:alive"))

    # Then it is refused, and only the one that has the number is paid by the developer
    assert isinstance(refused, FreeCallTaken)
    assert store(shop, second) == [False]
    assert list(FreeCall.objects.filter(buyer=dan).values_list("call_id", "is_used")) == [
        (uuid.UUID(second["call"]["id"]), True)
    ]
    shop.books.fold()
    assert promotion.summary(erin).available_nano == CALL_NANO


def test_a_failed_call_is_a_row_at_cost_0(shop):
    dan, _ = shop.buyer("dan-fails", OPEN)
    row = finished_call(shop, dan, status="failed", error_code="upstream_error")

    assert store(shop, row) == [False]

    assert StoredCall.objects.get(pk=row["call"]["id"]).cost_nano == 0
    assert "content" not in row
    assert shop.balance_nano(dan) == OPEN


def test_the_applications_role_may_capture_but_not_forge_an_entry(shop):
    session = shop.books.connect("DATABASE_APP_URL")

    with session.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute("INSERT INTO ledger_outbox (topic, reference, payload) VALUES ('a', 'b', '{}')")

    session.close()


def test_a_process_lives_as_long_as_its_connection(shop):
    session = database.connect(dsn_of(shop), "test")
    other = database.connect(dsn_of(shop), "test")
    with session.cursor() as one, other.cursor() as two:
        one.execute("SELECT pg_advisory_lock(hashtextextended('gateway:x', 0))")
        two.execute("SELECT gateway_lives('gateway:x'), gateway_lives('gateway:y')")
        assert two.fetchone() == (True, False)
        session.close()

        def is_dead() -> bool:
            two.execute("SELECT gateway_lives('gateway:x')")
            return two.fetchone() == (False,)

        wait_until(is_dead)
    other.close()


def test_a_key_that_cannot_be_freed_is_freed_when_the_database_is_back(shop):
    # Given a call that has taken its key
    dan, _ = shop.buyer("dan-frees", OPEN)
    call = Call(None, dan.pk, "", "classify", False, "ab" * 32, "order-1")  # type: ignore[arg-type]
    thread = database.DatabaseThread("test-keys", dsn_of(shop))
    thread.start()
    admin = psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"])
    admin.autocommit = True

    async def refuse_without_a_database() -> None:
        idempotency = Idempotency(thread, process="gateway:test", kept_s=60, content_key=KEY)
        await idempotency.take(call, b"body")
        with admin.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS false")
            try:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
                    ["gateway test-keys"],
                )
                # When it is refused while the database is away
                await idempotency.free(call)
            finally:
                cursor.execute(f"ALTER DATABASE {shop.books.name} ALLOW_CONNECTIONS true")

        # Then the key is free as soon as it is back
        while await asyncio.to_thread(key_is_taken):
            await asyncio.sleep(0.05)
        await thread.run(lambda cursor: None)  # acts end in their order: nothing is on its way any more

    def key_is_taken() -> bool:
        with closing(shop.books.connect()) as session, session.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM marketplace_idempotency WHERE owner_id = %s", [dan.pk])
            return cursor.fetchone()[0] == 1

    asynchronous.run(asyncio.wait_for(refuse_without_a_database(), 30))
    thread.stop()
    admin.close()


def test_both_sides_name_the_second_part_of_a_receipt_alike():
    from attribution import payloads, settlement

    call_id = uuid.uuid4()
    assert payloads.attributed_entry_id(call_id) == settlement.attributed_entry_id(call_id)
