"""Calls that the developer's promotion wallet pays: as many as were promised, at list price, and not one more."""

from __future__ import annotations

import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from functools import partial

import pytest
from django.conf import settings
from django.db import IntegrityError, connection
from requests import RequestException

from ledger import chart
from ledger import services as ledger
from ledger import verify as ledger_verify
from marketplace import promotion, refunds
from marketplace import verify as shop_verify
from marketplace.models import Call, FreeCall, ListedModel
from marketplace.reaping import Reaper
from tests.books import at_once
from tests.datanets.races import race
from tests.gateway import shop as shops
from tests.gateway.conftest import running_gateway, wait_for, wait_until
from tests.gateway.shop import CALL_NANO, OPEN, person

QUESTION = {"messages": [{"role": "user", "content": "Who pays?"}], "max_tokens": 20}


def offered(shop, gateway, developer: str, *, per_day: int, funded_nano: int, behaviour: str = "") -> ListedModel:
    """A listed model of a developer with free calls and a promotion wallet, known to the gateway."""
    owner = person(developer)
    chats = {"upstream_url": shop.models["slow"].upstream_url, "upstream_model": behaviour} if behaviour else {}
    model = shops.listings.create_model(
        owner=owner,
        name=behaviour or "Try",
        purpose="Tests",
        engine="connected" if behaviour else "linear",
        free_calls_per_day=per_day,
        **chats,
    )
    shops.add_version(model, *(shops.connected_artifact() if behaviour else shops.tumour_artifact()))
    shops.listed(model, call=CALL_NANO)
    if funded_nano:
        shops.fund(shop.books, owner, funded_nano)
        promotion.fund(owner, amount_nano=funded_nano, reference=f"for {model.pk}")
        shop.books.fold()
    wait_until(lambda: gateway.get(f"/v1/models/{model.path}").status_code == 200)
    return model


def spent_nano(shop, owner) -> int:
    """What the promotion wallet has paid so far."""
    shop.books.fold()
    return ledger.balance(chart.promotion(owner.pk)).debited_nano


def payers(answers) -> dict[str, int]:
    told = [answer.json()["open"]["paid_by"] if answer.status_code == 200 else "nobody" for answer in answers]
    return {name: told.count(name) for name in sorted(set(told))}


def nothing_is_wrong() -> bool:
    assert [*ledger_verify.failures(), *shop_verify.failures()] == []
    return True


def test_free_calls_are_paid_by_the_developer_at_list_price_and_then_the_buyer_pays(gateway, shop):
    # Given two free calls a day, and a buyer whose key may spend one call
    model = offered(shop, gateway, "devi", per_day=2, funded_nano=OPEN)
    dan, key = shop.buyer("dan-tries", OPEN, spend_cap_nano=CALL_NANO)
    ask = partial(gateway.classify, key, model=model.path)
    quote = partial(gateway.post, "/v1/quote", {"model": model.path, "input": shops.ROW}, key=key)
    assert gateway.get(f"/v1/models/{model.path}").json()["free_calls_per_day"] == 2
    assert (quote().json()["paid_by"], quote().json()["free_calls_left"]) == ("developer", 2)

    # When they call four times, once repeating a key, and allow no cost for the first two
    first = ask(idempotency_key="one", x_max_cost="0")
    again = ask(idempotency_key="one", x_max_cost="0")
    second, third, fourth = ask(x_max_cost="0"), ask(), ask()

    # Then two are free in the shape of any other, the third is paid, and the key's cap counts only that
    assert [answer.status_code for answer in (first, again, second, third, fourth)] == [200, 200, 200, 200, 402]
    assert fourth.json()["error"]["code"] == "spend_cap_reached"
    told = [answer.json()["open"] for answer in (first, second, third)]
    assert [one["paid_by"] for one in told] == ["developer", "developer", "buyer"]
    assert [one["cost_nano"] for one in told] == [CALL_NANO] * 3
    assert told[0]["split"] == told[2]["split"]
    assert again.content == first.content
    assert (quote().json()["paid_by"], quote().json()["free_calls_left"]) == ("buyer", 0)
    assert (spent_nano(shop, model.owner), shop.balance_nano(dan)) == (2 * CALL_NANO, OPEN - CALL_NANO)

    # And it stands so in the buyer's lists, in the books and in the receipt
    listed = {call["id"]: call for call in gateway.get("/v1/calls?status=succeeded", key=key).json()["data"]}
    assert [listed[one["receipt_id"]]["paid_by"] for one in told] == ["developer", "developer", "buyer"]
    usage = gateway.get("/v1/usage", key=key).json()
    assert usage["cost_nano"] == CALL_NANO
    assert [row["free_calls"] for row in usage["data"] if row["status"] == "succeeded"] == [2]
    moves = ledger.posting_of(told[0]["receipt_id"]).moves
    assert {move.source for move in moves} == {chart.promotion(model.owner_id)}
    assert chart.pending(model.owner_id) in {move.target for move in moves}
    shop.books.log()
    receipt = gateway.get(f"/v1/receipts/{told[0]['receipt_id']}", key=key).json()
    opened = {name: receipt["openings"][name]["value"] for name in ("buyer", "paid_by", "price")}
    assert opened == {"buyer": chart.wallet(dan.pk), "paid_by": "developer", "price": str(CALL_NANO)}
    assert nothing_is_wrong()


def test_a_free_call_that_is_given_back_goes_back_to_the_promotion_wallet(shop):
    dan, key = shop.buyer("dan-given-back", OPEN)
    with running_gateway(shop.books, CHALLENGE_WINDOW_S="3600") as gateway:
        model = offered(shop, gateway, "rita", per_day=1, funded_nano=OPEN)
        receipt_id = gateway.classify(key, model=model.path).json()["open"]["receipt_id"]
    shop.books.fold()

    refunds.give_back(Call.objects.get(pk=receipt_id), by=model.owner, reason="It answered another question.")
    shop.books.fold()

    found = ledger.balance(chart.promotion(model.owner_id))
    assert (found.debited_nano, found.credited_nano) == (CALL_NANO, OPEN + CALL_NANO)
    assert shop.balance_nano(dan) == OPEN
    assert nothing_is_wrong()


def test_developers_pay_for_their_own_calls(gateway, shop):
    model = offered(shop, gateway, "dora", per_day=5, funded_nano=OPEN)
    _, key = shop.buyer("dora", CALL_NANO)

    quoted = gateway.post("/v1/quote", {"model": model.path, "input": shops.ROW}, key=key).json()
    answers = [gateway.classify(key, model=model.path) for _ in range(2)]

    assert (quoted["paid_by"], quoted["free_calls_left"]) == ("buyer", 0)
    assert payers(answers) == {"buyer": 1, "nobody": 1}
    assert not FreeCall.objects.filter(model=model).exists()


def test_many_calls_at_once_over_two_processes_are_free_as_often_as_was_promised(gateway, shop):
    # Given ten free calls, and a buyer without money
    model = offered(shop, gateway, "ron", per_day=10, funded_nano=OPEN)
    dan, key = shop.buyer("dan-storms")

    # When 64 threads call two processes at once
    with running_gateway(shop.books) as other, ThreadPoolExecutor(64) as threads:
        both = (gateway, other)
        answers = list(threads.map(lambda n: both[n % 2].classify(key, model=model.path), range(64)))

    # Then exactly ten are answered, and nothing else was paid
    assert payers(answers) == {"developer": 10, "nobody": 54}
    assert {answer.status_code for answer in answers} == {200, 402}
    assert sorted(FreeCall.objects.filter(buyer=dan, is_used=True).values_list("number", flat=True)) == [*range(1, 11)]
    assert spent_nano(shop, model.owner) == 10 * CALL_NANO
    assert nothing_is_wrong()


def test_a_promotion_wallet_for_three_calls_pays_exactly_three(gateway, shop):
    model = offered(shop, gateway, "thea", per_day=100, funded_nano=3 * CALL_NANO)
    dan, key = shop.buyer("dan-pays-the-rest", 5 * CALL_NANO)

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: gateway.classify(key, model=model.path), range(32)))

    assert payers(answers) == {"buyer": 5, "developer": 3, "nobody": 24}
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_balance")
    assert (spent_nano(shop, model.owner), shop.balance_nano(dan)) == (3 * CALL_NANO, 0)
    assert FreeCall.objects.filter(buyer=dan).count() == 3
    assert nothing_is_wrong()


def test_a_free_call_that_fails_is_free_again(gateway, shop):
    model = offered(shop, gateway, "fay", per_day=1, funded_nano=OPEN, behaviour="error")
    dan, key = shop.buyer("dan-fails")

    answers = [gateway.post("/v1/chat/completions", QUESTION | {"model": model.path}, key=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [502, 502]
    assert list(Call.objects.filter(buyer=dan).values_list("status", "free")) == [("failed", False)] * 2
    assert not FreeCall.objects.filter(buyer=dan).exists()
    assert spent_nano(shop, model.owner) == 0
    assert nothing_is_wrong()


def test_what_a_killed_gateway_took_for_free_calls_is_given_back(gateway, shop):
    # Given a process that is killed while it answers the only free call of the day
    model = offered(shop, gateway, "kim", per_day=1, funded_nano=OPEN, behaviour="slow")
    dan, key = shop.buyer("dan-killed")
    body = QUESTION | {"model": model.path}
    promoted = chart.promotion(model.owner_id)
    with (
        running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]) as dying,
        ThreadPoolExecutor(1) as threads,
    ):
        lost = threads.submit(dying.post, "/v1/chat/completions", body, key=key)
        wait_for(lambda: FreeCall.objects.filter(buyer=dan).first())
        dying.process.send_signal(signal.SIGKILL)
        assert lost.exception() is not None
    assert ledger.balance(promoted).held_nano > 0

    # When the sequencer looks who is dead
    wait_until(lambda: Reaper(grace_s=0).reap() == 1)

    # Then the money is back, and the next call is the free one
    assert ledger.balance(promoted).held_nano == 0
    assert payers([gateway.post("/v1/chat/completions", body, key=key) for _ in range(2)]) == {
        "developer": 1,
        "nobody": 1,
    }
    assert Call.objects.filter(buyer=dan, free=True).count() == FreeCall.objects.filter(buyer=dan).count() == 1
    assert nothing_is_wrong()


@pytest.mark.parametrize("place", ["before_capture", "after_capture"])
def test_a_free_call_is_charged_once_wherever_its_gateway_dies(gateway, shop, place):
    # Given a process that kills itself around the capture of the only free call, and a buyer without money
    name = place.replace("_", "-")
    model = offered(shop, gateway, f"dies-{name}", per_day=1, funded_nano=OPEN)
    dan, key = shop.buyer(f"dan-{name}")
    with running_gateway(shop.books, FAILPOINTS="1", FAIL_AT=f"{place}@1") as dying, pytest.raises(RequestException):
        dying.classify(key, model=model.path, idempotency_key="again")

    # When the call is repeated elsewhere with its key, and then another one is made
    answer = wait_for(lambda: _acknowledged(gateway.classify(key, model=model.path, idempotency_key="again")))
    refused = gateway.classify(key, model=model.path)

    # Then it was free, once
    assert answer.json()["open"]["paid_by"] == "developer"
    assert answer.headers.get("x-idempotent-replay") == ("true" if place == "after_capture" else None)
    assert refused.json()["error"]["code"] == "insufficient_balance"
    assert spent_nano(shop, model.owner) == CALL_NANO
    assert list(FreeCall.objects.filter(buyer=dan).values_list("number", "is_used")) == [(1, True)]
    assert nothing_is_wrong()


def _acknowledged(answer):
    """The answer, or None while the death of the other process is not known yet."""
    return answer if answer.status_code == 200 else None


# --- The numbers, in the database


def take(model: ListedModel, buyer, *, at_most: int = 1, process: str = "gateway:test") -> uuid.UUID | None:
    """Take a free call as a gateway does. Returns the id of the call that has it."""
    call_id = ledger.new_id()
    with connection.cursor() as cursor:
        asked = [buyer.pk, model.pk, at_most, call_id, process, 600]
        cursor.execute("SELECT gateway_take_free_call(%s, %s, %s, %s, %s, %s)", asked)
        return call_id if cursor.fetchone()[0] else None


@pytest.fixture
def alive(shop):
    """A process that lives as long as the test."""
    with closing(shop.books.connect()) as session:
        session.autocommit = True
        session.cursor().execute("SELECT pg_advisory_lock_shared(hashtextextended('gateway:test', 0))")
        yield


def test_of_two_that_meet_at_the_last_free_call_one_has_it(shop, alive):
    """Fails without the unique number: both see that it is free, and insert it."""
    dan, model = person("dan-meets"), shop.models["tumours"]

    results = race(
        shop.books,
        *[partial(take, model, dan)] * 2,
        behind="LOCK TABLE marketplace_freecall IN SHARE MODE",
    )

    assert sorted(type(result).__name__ for result in results) == ["NoneType", "UUID"]
    assert FreeCall.objects.filter(buyer=dan).count() == 1


def test_the_database_gives_no_free_call_twice(shop):
    given = {"buyer": person("dan-forges"), "model": shop.models["tumours"], "day": date(2026, 11, 22), "number": 1}
    FreeCall.objects.create(call_id=uuid.uuid4(), **given)

    with pytest.raises(IntegrityError, match="free_call_is_given_once"):
        FreeCall.objects.create(call_id=uuid.uuid4(), **given)


def test_what_a_dead_process_took_is_given_once_more_and_what_was_used_never(shop, alive):
    dan, model = person("dan-inherits"), shop.models["tumours"]
    take(model, dan, process="gateway:dead")

    results = at_once(*[partial(take, model, dan)] * 4)

    heir = next(result for result in results if result)
    assert [result for result in results if result] == [heir]
    assert FreeCall.objects.get(buyer=dan).call_id == heir
    FreeCall.objects.filter(buyer=dan).update(is_used=True, process="gateway:dead")
    assert take(model, dan) is None
