"""Paid calls, as a buyer meets them."""

from __future__ import annotations

from attribution.models import Trace
from attribution.payloads import TOPIC
from ledger import chart
from ledger import services as ledger
from marketplace.models import Call
from tests.gateway.shop import CALL_NANO, OPEN


def test_a_classification_is_charged_once_and_explains_itself(gateway, shop):
    # Given Dan with 1 OPEN
    dan, key = shop.buyer("dan", OPEN)

    # When he asks for a class
    answer = gateway.classify(key)

    # Then he gets it, with what it cost and who gets which part
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["label"] in ("benign", "malignant")
    assert told["open"]["cost_nano"] == CALL_NANO == sum(told["open"]["split"].values())
    assert answer.headers["x-receipt-id"] == told["open"]["receipt_id"]

    # And the books say the same
    call = Call.objects.get(pk=told["open"]["receipt_id"])
    posting = ledger.posting_of(call.pk)
    assert (call.status, call.cost_nano, call.buyer) == ("succeeded", CALL_NANO, dan)
    assert sum(move.amount_nano for move in posting.moves) == CALL_NANO
    assert {move.source for move in posting.moves} == {chart.wallet(dan.pk)}
    assert shop.balance_nano(dan) == OPEN - CALL_NANO

    # And attribution has all it needs
    payload = ledger.outbox_payload(TOPIC, f"call:{call.pk}")
    assert payload["context"]["features"]
    assert payload["data_nano"] == call.data_nano
    assert Trace.objects.filter(charge_id=call.pk).count() == 0


def test_a_chat_through_the_openai_client_costs_its_tokens(gateway, shop):
    dan, key = shop.buyer("dan-chats", OPEN)

    answer = gateway.openai(key).chat.completions.create(
        model="erin/fine", messages=[{"role": "user", "content": "What is the answer?"}], max_tokens=20
    )

    assert answer.choices[0].message.content == "The answer is forty-two."
    cost_nano = 1000 + 7 * 100 + 6 * 1000
    assert answer.model_extra["open"]["cost_nano"] == cost_nano
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 6)
    assert shop.balance_nano(dan) == OPEN - cost_nano
