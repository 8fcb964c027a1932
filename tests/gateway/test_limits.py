"""What one key may use holds exactly, over several gateways at once, and over the death of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
import requests
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from marketplace import keys, listings
from marketplace import verify as shop_verify
from marketplace.errors import NotAllowed, NotReady
from marketplace.gateway.allowances import Allowances, Short
from marketplace.gateway.database import DatabaseThread
from marketplace.models import ApiKey, AuditEvent, Call, KeyLease, KeyRate, KeyUse
from marketplace.reaping import Reaper
from tests import asynchronous
from tests.books import as_role
from tests.datanets.races import race
from tests.gateway import shop as shops
from tests.gateway.conftest import application_url, running_gateway, wait_until
from tests.gateway.shop import CALL_NANO, OPEN

TALK = {"model": "erin/slow", "messages": [{"role": "user", "content": "?"}], "max_tokens": 20}
CAPS = {"total": "spend_cap_nano", "month": "spend_cap_month_nano", "day": "spend_cap_day_nano"}


@pytest.fixture(scope="module")
def other_gateway(shop):
    """A second process on the same books."""
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]) as running:
        yield running


def codes(answers) -> Counter:
    """How often each ending came: 200, or the code of the refusal."""
    return Counter(200 if one.status_code == 200 else one.json()["error"]["code"] for one in answers)


def used(key: ApiKey, kind: str = "total") -> tuple[int, int]:
    """What is used and what is leased of a limit."""
    row = KeyUse.objects.filter(key=key, kind=kind).order_by("-starts_on").first()
    return (row.used, row.leased) if row else (0, 0)


def end_leases(key: ApiKey) -> None:
    """As if nobody had called for a while."""
    with connection.cursor() as cursor:
        for lease in KeyLease.objects.filter(key=key):
            cursor.execute("SELECT gateway_end_key_lease(%s)", [lease.pk])


def test_what_calls_give_back_while_more_is_asked_for_is_not_given_to_other_processes_as_well(shop):
    # Given a key for ten calls at once, and a process where ten run
    dan, _ = shop.buyer("dan-gives-back", OPEN, calls_at_once=10)
    place = (str(ApiKey.objects.get(owner=dan).pk), "at_once")
    thread = DatabaseThread("limits", application_url(shop.books))
    thread.start()

    async def calls() -> None:
        ours, others = (Allowances(thread, process=f"gateway:{name}") for name in ("ours", "others"))
        running = [await ours.take(place, 1) for _ in range(10)]
        # When one more asks for room, and all ten end before it is asked for in the database, and nine begin
        eleventh = asyncio.ensure_future(ours.take(place, 1))
        await asyncio.sleep(0)
        for share in running:
            ours.give_back(share, used=0)
        await asyncio.sleep(0)
        running = [await ours.take(place, 1) for _ in range(9)]

        # Then those ten have all the room there is
        with pytest.raises(Short):
            await others.take(place, 1)
        running.append(await eleventh)
        for share in running:
            ours.give_back(share, used=0)
        await ours.end_all()

    try:
        asynchronous.run(calls())
    finally:
        thread.stop()
    assert used(ApiKey.objects.get(owner=dan), "at_once") == (0, 0)


@pytest.mark.parametrize("kind", ["total", "month", "day"])
def test_sixty_four_calls_on_a_key_with_room_for_ten_make_exactly_ten_on_two_processes(
    gateway, other_gateway, shop, kind
):
    # Given a key with room for ten calls and a bit, and wide other caps
    caps = dict.fromkeys(CAPS.values(), OPEN) | {CAPS[kind]: 10 * CALL_NANO + 5}
    dan, secret = shop.buyer(f"dan-cap-{kind}", OPEN, **caps)
    key = ApiKey.objects.get(owner=dan)

    # When 64 calls come at once, over two gateways
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda n: (gateway, other_gateway)[n % 2].classify(secret), range(64)))

    # Then ten are answered, the others are told why, and that is what is counted; another key is free
    assert codes(answers) == {200: 10, "spend_cap_reached": 54}
    refused = next(one for one in answers if one.status_code == 402)
    assert refused.headers["x-should-retry"] == "false"
    assert (f" of the {kind}" in refused.json()["error"]["message"]) == (kind != "total")
    wait_until(lambda: [used(key, each) for each in CAPS] == [(10 * CALL_NANO, 0)] * 3)
    assert gateway.classify(shops.make_key(dan)).status_code == 200
    assert shop_verify.failures() == []


def test_a_killed_gateway_leaves_room_for_exactly_what_was_not_spent(gateway, shop):
    # Given a key with room for ten calls, a process that is killed after four and in the middle of some,
    dan, secret = shop.buyer("dan-killed", OPEN, spend_cap_nano=10 * CALL_NANO)
    key = ApiKey.objects.get(owner=dan)
    with running_gateway(shop.books, FAILPOINTS="1", FAIL_AT="before_capture@5") as dying:
        done = [dying.classify(secret).status_code for _ in range(4)]
        with pytest.raises(Exception, match="onnection"):
            dying.classify(secret)
    assert done == [200] * 4
    assert used(key)[1] > 0

    # When the sequencer looks who is dead, and 64 calls come at once to a fresh process and an old one
    def reaped() -> bool:
        with as_role(settings.SEQUENCER_DB_ROLE):
            Reaper(grace_s=0).reap()
        return not KeyLease.objects.filter(key=key).exists()

    wait_until(reaped)
    assert used(key) == (4 * CALL_NANO, 0)
    with running_gateway(shop.books) as fresh, ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda n: (gateway, fresh)[n % 2].classify(secret), range(64)))

    # Then there was room for six
    assert codes(answers) == {200: 6, "spend_cap_reached": 58}
    wait_until(lambda: used(key) == (10 * CALL_NANO, 0))


def test_a_day_cap_begins_anew_at_midnight_utc_and_the_month_goes_on(gateway, shop):
    # Given a key that has spent its day, and a month with room for one call more
    dan, secret = shop.buyer("dan-night", OPEN, spend_cap_day_nano=2 * CALL_NANO, spend_cap_month_nano=3 * CALL_NANO)
    key = ApiKey.objects.get(owner=dan)
    assert codes(gateway.classify(secret) for _ in range(3)) == {200: 2, "spend_cap_reached": 1}

    # When that was yesterday, by the database's clock, of the same month
    yesterday = timezone.now().date() - timedelta(days=1)
    KeyLease.objects.filter(key=key, use="spend").update(day=yesterday)
    KeyUse.objects.filter(key=key, kind="day").update(starts_on=yesterday)
    KeyUse.objects.filter(key=key, kind="month").update(starts_on=timezone.now().date().replace(day=1))

    # Then today has room, until the month has none
    wait_until(lambda: gateway.classify(secret).status_code == 200)
    assert codes([gateway.classify(secret)]) == {"spend_cap_reached": 1}
    days = KeyUse.objects.filter(key=key, kind="day").order_by("starts_on")
    end_leases(key)
    assert list(days.values_list("used", flat=True)) == [2 * CALL_NANO, CALL_NANO]


def test_requests_a_minute_are_one_limit_over_two_processes(gateway, other_gateway, shop):
    _, secret = shop.buyer("dan-rpm", OPEN, requests_per_minute=12)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: (gateway, other_gateway)[n % 2].classify(secret), range(40)))

    counted = codes(answers)
    assert set(counted) == {200, "rate_limit_exceeded"}
    assert 12 <= counted[200] <= 14  # one more every five seconds
    refused = next(one for one in answers if one.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-limit-requests"] == "12"


def test_tokens_of_running_calls_count_before_they_are_spent(gateway, other_gateway, shop):
    # Given a key with tokens for three calls at their worst, each of which will use a fraction of it
    ask = TALK | {"max_tokens": 100}
    _, asking = shop.buyer("dan-asks", OPEN)
    quote = gateway.post("/v1/quote", ask, key=asking).json()
    worst = quote["prompt_tokens_max"] + quote["answer_tokens_max"]
    _, secret = shop.buyer("dan-tpm", OPEN, tokens_per_minute=3 * worst)

    # When eight come at once, over two gateways
    def call(n: int):
        return (gateway, other_gateway)[n % 2].post("/v1/chat/completions", ask, key=secret)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(8)))

    # Then three are answered, and what they did not use is free again
    assert codes(answers) == {200: 3, "rate_limit_exceeded": 5}
    refused = next(one for one in answers if one.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    wait_until(lambda: int(call(0).headers["x-ratelimit-remaining-tokens"]) > worst)
    assert refused.headers["x-ratelimit-limit-tokens"] == str(3 * worst)


def test_a_key_runs_as_many_calls_at_once_as_it_says_over_two_processes(gateway, other_gateway, shop):
    dan, secret = shop.buyer("dan-at-once", OPEN, calls_at_once=2)

    with ThreadPoolExecutor(6) as threads:
        ask = lambda n: (gateway, other_gateway)[n % 2].post("/v1/chat/completions", TALK, key=secret)  # noqa: E731
        answers = list(threads.map(ask, range(6)))

    assert codes(answers) == {200: 2, "rate_limit_exceeded": 4}
    assert "calls at once" in next(one for one in answers if one.status_code == 429).json()["error"]["message"]
    wait_until(lambda: used(ApiKey.objects.get(owner=dan), "at_once") == (0, 0))
    assert gateway.post("/v1/chat/completions", TALK, key=secret).status_code == 200


def test_a_replaced_key_works_until_its_end_and_shares_its_limits_with_the_new_one(gateway, other_gateway, shop):
    # Given a key with room for four calls, replaced with an hour of overlap
    dan, secret = shop.buyer("dan-rotates", OPEN, spend_cap_nano=4 * CALL_NANO)
    old = ApiKey.objects.get(owner=dan)
    assert gateway.classify(secret).status_code == 200
    new, new_secret = keys.replace(old, by=dan, overlap_s=3600)

    # When both are used, at two gateways
    answers = [gateway.classify(secret), other_gateway.classify(new_secret), gateway.classify(secret)]
    refused = [other_gateway.classify(new_secret), gateway.classify(secret)]

    # Then together they have what one had
    assert codes(answers) == {200: 3}
    assert codes(refused) == {"spend_cap_reached": 2}
    assert new.limits_of == old

    # And when the hour is over only the new one is known
    ApiKey.objects.filter(pk=old.pk).update(replaced_until=timezone.now())
    keys.revoke(ApiKey.objects.get(owner=dan, name="test", pk=shops_key(dan)), by=dan)
    wait_until(lambda: gateway.classify(secret).status_code == 401)
    assert gateway.classify(new_secret).status_code == 402


def shops_key(dan):
    """Another key of theirs, whose end makes the gateways read all keys again."""
    return keys.create(owner=dan, name="test")[0].pk


def lease_of(key: ApiKey, amount_nano: int) -> str:
    """SQL that leases a part of what a key may spend."""
    return (
        f"SELECT granted, short_of FROM gateway_lease_key(gen_random_uuid(), '{key.pk}', 'spend', 'gateway:x', 0, "
        f"{amount_nano}, {amount_nano}, 0, 60)"
    )


def rate_of(key: ApiKey, need: int) -> str:
    """SQL that takes requests from what a key has of 10 a minute."""
    return f"SELECT taken FROM gateway_take_rate('{key.pk}', 'requests', 10, 0, {need}, 0)"


def first_row(statement: str) -> tuple:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def test_of_two_processes_that_meet_at_the_end_of_a_limit_one_is_told_so(shop):
    # Given a key with room for ten, of a cap and of requests a minute
    dan, _ = shop.buyer("dan-meets", spend_cap_nano=10)
    key = ApiKey.objects.get(owner=dan)
    first_row(lease_of(key, 1))
    end_leases(key)
    first_row(rate_of(key, 0))

    # When a process takes six of it while another one does
    [leased] = race(shop.books, partial(first_row, lease_of(key, 6)), behind=lease_of(key, 6))
    [taken] = race(shop.books, partial(first_row, rate_of(key, 6)), behind=rate_of(key, 6))

    # Then it gets nothing
    assert leased == (0, "total")
    assert taken == (0,)
    end_leases(key)


TODAY = timezone.now().date()
BROKEN = {
    "more is used than there is": lambda key: KeyUse.objects.create(
        key=key, kind="day", starts_on=TODAY, most=10, used=6, leased=5
    ),
    "a lease gives more than it has": lambda key: KeyLease.objects.create(
        id=key.pk, key=key, use="spend", process="p", day=TODAY, granted=1, used=2, expires_at=timezone.now()
    ),
    "a limit is counted twice": lambda key: KeyUse.objects.bulk_create(
        KeyUse(key=key, kind="day", starts_on=TODAY, most=10) for _ in range(2)
    ),
    "a rate is counted twice": lambda key: KeyRate.objects.bulk_create(
        KeyRate(key=key, kind="tokens", left=1, at=timezone.now()) for _ in range(2)
    ),
    "no call may run": lambda key: ApiKey.objects.filter(pk=key.pk).update(calls_at_once=0),
    "calls without end may run": lambda key: ApiKey.objects.filter(pk=key.pk).update(calls_at_once=1001),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_database_refuses_limits_that_cannot_be(shop, what):
    dan, _ = shop.buyer("dan-facts")

    with pytest.raises(IntegrityError), transaction.atomic():
        BROKEN[what](ApiKey.objects.filter(owner=dan).first())


def test_a_page_calls_with_a_key_that_lists_its_origin_and_with_no_other(gateway, shop):
    # Given a key for the pages of one origin, and a key for none
    page, elsewhere = "https://app.example.org", "https://evil.example"
    dan, secret = shop.buyer("dan-page", OPEN, allowed_origins=["https://App.example.org:443/"])
    plain = shops.make_key(dan)
    allowed = "access-control-allow-origin"

    # When browsers ask beforehand, then the origins of keys and the site itself are allowed
    def preflight(origin: str):
        return requests.options(f"{gateway.url}/v1/classify", headers={"origin": origin}).headers

    wait_until(lambda: preflight(page).get(allowed) == page)  # it may have read the origins a moment ago
    assert "authorization" in preflight(page)["access-control-allow-headers"]
    assert preflight("http://testserver")[allowed] == "http://testserver"
    assert allowed not in preflight(elsewhere)

    # And of the answers a page reads only those of a key that lists it, refusals too
    read = [
        gateway.classify(secret, origin=page),
        gateway.classify(secret, model="erin/none", origin=page),
        gateway.get("/v1/credits", key=secret, origin=page),
        gateway.get("/v1/models", key=secret, origin=page),
        gateway.post("/v1/quote", {"model": "erin/tumours", "input": shops.ROW}, key=secret, origin=page),
    ]
    assert [answer.headers.get(allowed) for answer in read] == [page] * 5
    assert [answer.status_code for answer in read] == [200, 404, 200, 200, 200]
    hidden = [
        gateway.classify(plain, origin=page),
        gateway.classify(secret, origin=elsewhere),
        gateway.get("/v1/models", origin=page),
        gateway.classify("open_sk_wrong", origin=page),
    ]
    assert [answer.headers.get(allowed) for answer in hidden] == [None] * 4
    assert {answer.headers["vary"] for answer in [*read, *hidden]} == {"origin"}
    assert gateway.classify(plain, origin="http://testserver").headers[allowed] == "http://testserver"

    # And once the key ends, so does the preflight
    keys.revoke(ApiKey.objects.get(owner=dan, allowed_origins=[page]), by=dan)
    wait_until(lambda: allowed not in preflight(page))


def test_it_is_known_when_a_key_was_last_used(gateway, shop):
    dan, secret = shop.buyer("dan-used", OPEN)
    key = ApiKey.objects.get(owner=dan)
    assert key.last_used_at is None

    assert gateway.classify(secret).status_code == 200

    key.refresh_from_db()
    assert key.last_used_at >= Call.objects.get(buyer=dan).started_at


def changed(key: ApiKey, **limits) -> list[str]:
    """Change some of a key, and keep the rest."""
    key.refresh_from_db()
    kept = {
        name: getattr(key, name)
        for name in (*keys.LIMITS, *("name", "content_days", "expires_at", "scopes", "allowed_origins"))
    }
    return keys.change(key, by=key.owner, models=key.allowed_models.all(), **kept | limits)


def calls_until_refused(*gateways_and_secret) -> int:
    *gateways, secret = gateways_and_secret
    made = 0
    while gateways[made % len(gateways)].classify(secret).status_code == 200:
        made += 1
    return made


def test_a_cap_that_a_key_did_not_have_counts_what_it_spent_before(gateway, other_gateway, shop):
    # Given a key without caps that has made three calls, and one that replaces it
    dan, old_secret = shop.buyer("dan-gets-caps", OPEN)
    old = ApiKey.objects.get(owner=dan)
    assert [gateway.classify(old_secret).status_code for _ in range(2)] == [200, 200]
    new, secret = keys.replace(old, by=dan, overlap_s=3600)
    assert other_gateway.classify(secret).status_code == 200

    # When it gets caps with room for five in all, and both gateways have heard of it
    assert changed(new, spend_cap_nano=5 * CALL_NANO, spend_cap_day_nano=9 * CALL_NANO) == list(keys.CAPS[:2])
    wait_until(lambda: used(old)[0] == 3 * CALL_NANO)
    shop_is_heard(gateway, other_gateway)

    # Then two more are made, with either key; and a wider cap lets as many more through as it is wider
    assert calls_until_refused(gateway, other_gateway, secret) == 2
    assert gateway.classify(old_secret).status_code == 402
    changed(new, spend_cap_nano=8 * CALL_NANO)
    shop_is_heard(gateway, other_gateway)
    assert calls_until_refused(gateway, other_gateway, secret) == 3
    assert shop_verify.failures() == []

    # And without it the other cap holds; without any, none
    changed(new, spend_cap_nano=None)
    shop_is_heard(gateway, other_gateway)
    assert calls_until_refused(gateway, other_gateway, secret) == 1
    changed(new, spend_cap_day_nano=None)
    shop_is_heard(gateway, other_gateway)
    assert gateway.classify(secret).status_code == 200
    changed(new, spend_cap_month_nano=11 * CALL_NANO)
    shop_is_heard(gateway, other_gateway)
    assert calls_until_refused(gateway, other_gateway, secret) == 1
    wait_until(lambda: used(old, "month") == (11 * CALL_NANO, 0))
    assert shop_verify.failures() == []


def shop_is_heard(*gateways) -> None:
    """What was told the gateways before has reached them: an answer to what they were told after shows it."""
    heard = person_of_pages()
    origin = f"https://app{ApiKey.objects.count()}.example.org"
    keys.create(owner=heard, name="last", allowed_origins=[origin])
    listings.announce_catalogue()
    for one in gateways:
        ask = partial(requests.options, f"{one.url}/v1/classify", headers={"origin": origin})
        wait_until(lambda ask=ask: "access-control-allow-origin" in ask().headers)


def person_of_pages():
    return shops.person("nina")


def test_a_lower_cap_stops_what_gateways_had_leased_and_loses_nothing(gateway, other_gateway, shop):
    # Given a key with much room, of which two gateways have leased a part
    dan, secret = shop.buyer("dan-lowers", OPEN, spend_cap_nano=400 * CALL_NANO)
    key = ApiKey.objects.get(owner=dan)
    answers = [(gateway, other_gateway)[n % 2].classify(secret) for n in range(10)]
    assert codes(answers) == {200: 10}
    assert used(key)[1] > 12 * CALL_NANO

    # When the cap falls below what is used
    changed(key, spend_cap_nano=6 * CALL_NANO)
    shop_is_heard(gateway, other_gateway)

    # Then no more call is made, and what was used stands
    assert codes([gateway.classify(secret), other_gateway.classify(secret)]) == {"spend_cap_reached": 2}
    wait_until(lambda: used(key) == (10 * CALL_NANO, 0))
    changed(key, spend_cap_nano=11 * CALL_NANO)
    shop_is_heard(gateway, other_gateway)
    assert calls_until_refused(gateway, other_gateway, secret) == 1
    assert shop_verify.failures() == []


def test_a_call_that_began_before_its_key_had_a_cap_counts_when_it_ends(gateway, shop):
    # Given a call that runs, of a key without a cap
    dan, secret = shop.buyer("dan-runs", OPEN)
    key = ApiKey.objects.get(owner=dan)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(gateway.post, "/v1/chat/completions", TALK, key=secret)
        wait_until(lambda: KeyUse.objects.filter(key=key, kind="at_once", leased__gt=0).exists())

        # When its key gets one that is far too small for it
        changed(key, spend_cap_nano=1)
        assert running.result().status_code == 200

    # Then it is charged and counted, and no other follows
    cost_nano = Call.objects.get(buyer=dan).cost_nano
    assert used(key) == (cost_nano, 0)
    shop_is_heard(gateway)
    assert gateway.classify(secret).status_code == 402
    assert shop_verify.failures() == []


def test_caps_change_between_two_captures(gateway, shop):
    # Given a key whose call is just being captured (once more, which changes nothing)
    dan, secret = shop.buyer("dan-between", OPEN)
    key = ApiKey.objects.get(owner=dan)
    assert gateway.classify(secret).status_code == 200
    capturing = (
        "SELECT capture_calls(jsonb_build_object('calls', jsonb_build_array(to_jsonb(c)))) "
        f"FROM marketplace_call c WHERE key_id = '{key.pk}'"
    )

    # When its caps change, then they wait for the end of that
    [result] = race(shop.books, partial(changed, key, spend_cap_nano=5), behind=capturing)

    assert result == ["spend_cap_nano"]
    assert used(key) == (CALL_NANO, 0)


def test_other_limits_of_a_key_change_while_it_works(gateway, shop):
    dan, secret = shop.buyer("dan-changes", OPEN, requests_per_minute=1, calls_at_once=1)
    key = ApiKey.objects.get(owner=dan)
    assert codes(gateway.classify(secret) for _ in range(2)) == {200: 1, "rate_limit_exceeded": 1}

    changed(key, requests_per_minute=None, calls_at_once=2, scopes=["call"])
    shop_is_heard(gateway)

    with ThreadPoolExecutor(3) as threads:
        ask = lambda _n: gateway.post("/v1/chat/completions", TALK, key=secret)  # noqa: E731
        assert codes(threads.map(ask, range(3))) == {200: 2, "rate_limit_exceeded": 1}
    assert gateway.get("/v1/credits", key=secret).status_code == 403
    assert changed(key) == []
    assert AuditEvent.objects.filter(act="change_key", target=f"key:{key.pk}").count() == 1
    with pytest.raises(NotAllowed):
        keys.change(key, by=shops.person("erin"), models=[], **dict.fromkeys(keys.LIMITS[:5]), **REST)
    keys.revoke(key, by=dan)
    with pytest.raises(NotReady):
        changed(key, calls_at_once=3)


REST = {
    "name": "x",
    "calls_at_once": 1,
    "content_days": 30,
    "expires_at": None,
    "scopes": ["call"],
    "allowed_origins": [],
}
