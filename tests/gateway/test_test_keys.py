"""Test keys: the whole path of a call, with test money, without a model, and without a trace in the real books."""

from __future__ import annotations

import uuid

import openai
import pytest
from django.db import IntegrityError, connection, transaction

from attribution.payloads import TOPIC
from ledger import chart
from ledger import services as ledger
from ledger import verify as ledger_verify
from ledger.models import LedgerAccount
from marketplace import models, revenue, testmoney
from marketplace import verify as shop_verify
from marketplace.errors import Invalid
from marketplace.models import Call
from tests.gateway import shop as shops
from tests.gateway.conftest import wait_until
from tests.gateway.shop import CALL_NANO, OPEN, ROW, make_key


def test_a_test_call_costs_test_money_and_touches_nothing_else(gateway, shop):
    # Given Dan with test money, no other, and a test key
    dan, key = shop.tester("dan")
    before = _real_books()

    # When he asks for the class of two different rows, and for the first one again
    first = gateway.classify(key, idempotency_key="one")
    other = gateway.classify(key, input={name: value + 9 for name, value in ROW.items()})
    again = gateway.classify(key, idempotency_key="one")

    # Then each answer has the form and the cost of a real one, says that it is a test, and tells nothing about the row
    assert [answer.status_code for answer in (first, other, again)] == [200, 200, 200], first.text
    told = first.json()["open"]
    assert (told["test"], told["cost_nano"], sum(told["split"].values())) == (True, CALL_NANO, CALL_NANO)
    assert first.json()["probabilities"] == other.json()["probabilities"]
    assert again.content == first.content

    # And test money paid them, once each
    shop.books.fold()
    money = testmoney.summary(dan)
    assert money.available_nano + money.held_nano == testmoney.GRANT_NANO - 2 * CALL_NANO
    call = models.TestCall.objects.get(pk=told["receipt_id"])
    assert (call.buyer, call.cost_nano, call.status) == (dan, CALL_NANO, "succeeded")
    assert [move[:2] for move in ledger.posting_of(call.pk).moves] == [(chart.test_wallet(dan.pk), chart.TEST_WORLD)]

    # And no other account, call, charge in the log, or attribution has heard of it
    assert _real_books() == before
    assert not Call.objects.filter(buyer=dan).exists()
    assert ledger.outbox_payload(TOPIC, f"call:{call.pk}") is None
    shop.books.log()
    assert ledger.entry_of(call.pk).type == "posting.made"
    assert gateway.get(f"/v1/receipts/{call.pk}", key=key).json()["error"]["code"] == "no_receipt"
    assert ledger_verify.failures() == shop_verify.failures() == []


def test_a_test_chat_is_streamed_without_asking_the_model(gateway, shop):
    _dan, key = shop.tester("dan-tests-chats")
    asked = len(shop.upstream.seen)
    messages = [{"role": "user", "content": "What is the answer?"}]
    client = gateway.openai(key).chat.completions

    whole = client.create(model="erin/fine", messages=messages)
    short = client.create(model="erin/fine", messages=messages, max_tokens=3)
    options = {"include_usage": True}
    stream = list(client.create(model="erin/fine", messages=messages, stream=True, stream_options=options))

    said = whole.choices[0].message.content
    assert said == "This is a test answer. No model was asked."
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("This is a ", "length")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == said
    assert stream[-1].model_extra["open"]["test"] is True
    assert stream[-1].usage.completion_tokens == whole.usage.completion_tokens == 9
    assert stream[-1].model_extra["open"]["cost_nano"] == 1000 + 100 * whole.usage.prompt_tokens + 9 * 1000
    assert len(shop.upstream.seen) == asked


def test_a_test_key_meets_the_errors_of_a_real_one(gateway, shop):
    # Given Dan with real money, and no test money
    dan, real = shop.buyer("dan-tests-errors", OPEN)
    _, key = shop.tester("dan-tests-errors", is_granted=False, spend_cap_nano=CALL_NANO)
    _, rare = shop.tester("dan-tests-errors", is_granted=False, requests_per_minute=1)

    # Then there is nothing for a test call, whatever there is in his wallet
    refused = gateway.classify(key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_balance")
    with pytest.raises(openai.NotFoundError):
        gateway.openai(key).chat.completions.create(model="erin/none", messages=[])

    # And with test money there is, once a day, up to the key's cap
    testmoney.top_up(dan)
    testmoney.top_up(dan)
    shop.books.fold()
    wait_until(lambda: gateway.classify(key).status_code == 200)
    assert gateway.classify(key).json()["error"]["code"] == "spend_cap_reached"
    credits = gateway.get("/v1/credits", key=key).json()
    assert (credits["test"], credits["available_nano"] + credits["held_nano"]) == (
        True,
        testmoney.GRANT_NANO - CALL_NANO,
    )
    assert shop.balance_nano(dan) == OPEN

    # And it is asked no faster than its rate, which every test key has
    limited = [gateway.get("/v1/credits", key=rare) for _ in range(2)][-1]
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    with pytest.raises(Invalid, match="at most 60"):
        make_key(dan, is_test=True, requests_per_minute=61)
    assert models.ApiKey.objects.filter(owner=dan, is_test=True).order_by("created_at")[0].requests_per_minute == 60
    with pytest.raises(IntegrityError, match="test_key_is_slow"), transaction.atomic():
        models.ApiKey.objects.filter(owner=dan, is_test=True).update(requests_per_minute=None)

    # And each key sees its own calls only
    assert gateway.get("/v1/calls", key=real).json()["data"] == []
    assert gateway.get("/v1/usage", key=real).json()["data"] == []


def test_a_test_answer_is_never_replayed_to_a_real_call(gateway, shop):
    dan, real = shop.buyer("dan-replays", OPEN)
    _, key = shop.tester("dan-replays")

    tested = gateway.classify(key, idempotency_key="order-7").json()
    paid = gateway.classify(real, idempotency_key="order-7").json()

    assert tested["open"]["test"] is True
    assert "test" not in paid["open"]
    assert shop.balance_nano(dan) == OPEN - CALL_NANO
    listed = gateway.get("/v1/calls", key=key).json()["data"]
    assert [call["id"] for call in listed] == [tested["open"]["receipt_id"]]


def test_free_calls_of_a_developer_are_not_for_tests(gateway, shop):
    # Given a model with a free call a day, and a developer who pays for it
    model = shops.linear_model("free-tumours", free_calls_per_day=1)
    promotion_of = chart.promotion(model.owner_id)
    shop.books.deposit(promotion_of, OPEN)
    dan, key = shop.tester("dan-tests-free")

    # When Dan asks for a quote, and calls, with a test key
    wait_until(lambda: gateway.get(f"/v1/models/{model.path}").status_code == 200)
    quote = gateway.post("/v1/quote", {"model": model.path, "input": ROW}, key=key).json()
    told = gateway.classify(key, model=model.path).json()["open"]

    # Then he pays himself, with test money
    assert (quote["test"], quote["paid_by"], quote["free_calls_left"]) == (True, "buyer", 0)
    assert (quote["max_cost_nano"], told["paid_by"]) == (CALL_NANO, "buyer")
    assert not models.FreeCall.objects.filter(buyer=dan).exists()
    assert ledger.balance_nano(promotion_of) == OPEN


def test_no_posting_moves_test_money_into_the_real_books_or_out_of_them(shop):
    dan = shop.tester("dan-mixes")[0].pk
    shop.books.deposit(f"wallet:{dan}", OPEN)
    for payer, payee in (
        ("testworld", f"wallet:{dan}"),
        (f"wallet:{dan}", f"test:{dan}"),
        ("world", f"test:{dan}"),
        (f"wallet:{dan}", "testworld"),
    ):
        with pytest.raises(ledger.Unbalanced), transaction.atomic():
            ledger.post(
                id=ledger.new_id(),
                kind=ledger.Kind.ADJUSTMENT,
                reference=f"adjustment:{uuid.uuid4()}",
                moves=[ledger.Move(payer, payee, 5)],
            )
    # Nor can somebody give a test account the number of another kind
    with pytest.raises(IntegrityError, match="ledger_test_accounts_are_apart"), transaction.atomic():
        LedgerAccount.objects.create(code="test:999")
    assert ledger_verify.failures() == []


def _real_books() -> dict[str, int]:
    """What every account but the test accounts has moved, and the revenue report."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.code, s.debited_nano FROM ledger_account a JOIN ledger_spend s ON s.account_id = a.id
               WHERE NOT starts_with(a.code, 'test')
               UNION ALL SELECT 'calls', count(*) FROM ledger_journal WHERE kind = 'call_charged'"""
        )
        return dict(cursor.fetchall()) | {"differences": len(revenue.differences())}
