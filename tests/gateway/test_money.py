"""What a call may cost, who may make it, and how often."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.utils import timezone

from ledger import chart
from ledger import services as ledger
from marketplace import access, keys, listings
from marketplace.errors import Invalid
from marketplace.gateway import config
from marketplace.models import ApiKey, Call
from tests.gateway import shop as shops
from tests.gateway.conftest import running_gateway, wait_until
from tests.gateway.shop import CALL_NANO, OPEN


def test_sixty_four_threads_on_a_wallet_for_ten_calls_make_exactly_ten(gateway, shop):
    # Given a wallet for exactly ten calls
    dan, key = shop.buyer("dan-hot", 10 * CALL_NANO)

    # When 64 threads call at once
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: gateway.classify(key), range(64)))

    # Then ten succeed, the others are told why, and the wallet is empty to the last nano
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(402)) == (10, 54)
    refused = next(answer for answer in answers if answer.status_code == 402)
    assert refused.json()["error"]["code"] == "insufficient_balance"
    assert Call.objects.filter(buyer=dan, status="succeeded").count() == 10
    assert shop.balance_nano(dan) == 0


def test_no_call_reaches_the_model_for_which_the_money_is_promised_to_another(gateway, shop):
    # Given a wallet for two calls at their dearest, and a model that takes its time
    ask = {"model": "erin/slow", "messages": [{"role": "user", "content": "Who pays for this one?"}], "max_tokens": 20}
    _, asking = shop.buyer("dan-asks-for-the-price", OPEN)
    dearest_nano = gateway.post("/v1/quote", ask, key=asking).json()["max_cost_nano"]
    _, key = shop.buyer("dan-promises", 2 * dearest_nano)

    # When 16 threads call at once
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: gateway.post("/v1/chat/completions", ask, key=key), range(16)))

    # Then the model worked for those that were charged, and for nobody else
    charged = [answer.status_code for answer in answers].count(200)
    worked = [body for _, _, body in shop.upstream.seen if body["messages"][-1]["content"] == "Who pays for this one?"]
    assert len(worked) == charged >= 2


def test_an_empty_wallet_is_402_and_never_429(gateway, shop):
    _, key = shop.buyer("dan-poor")

    answer = gateway.classify(key)

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_balance")
    assert answer.headers["x-should-retry"] == "false"


def test_a_nearly_empty_wallet_gets_its_rest_back_at_once(gateway, shop):
    dan, key = shop.buyer("dan-near", CALL_NANO * 3 // 2)

    assert gateway.classify(key).status_code == 200

    wait_until(lambda: ledger.open_holds(chart.wallet(dan.pk)) == [])
    assert ledger.balance_nano(chart.wallet(dan.pk)) == CALL_NANO * 3 // 2 - CALL_NANO


def test_money_that_arrives_can_be_spent_at_once(gateway, shop):
    dan, key = shop.buyer("dan-late")
    assert gateway.classify(key).status_code == 402

    shops.fund(shop.books, dan, CALL_NANO)

    wait_until(lambda: gateway.classify(key).status_code == 200)


def test_a_revoked_key_stops_within_a_second(gateway, shop):
    dan, key = shop.buyer("dan-revokes", OPEN)
    assert gateway.classify(key).status_code == 200

    keys.revoke(ApiKey.objects.get(owner=dan), by=dan)

    wait_until(lambda: gateway.classify(key).status_code == 401, timeout_s=4)  # by itself it is read again after 5 s
    assert [gateway.classify(key).status_code for _ in range(20)] == [401] * 20


def test_a_key_works_the_moment_it_is_made_and_stops_when_it_expires(gateway, shop):
    _, key = shop.buyer("dan-expires", OPEN, expires_at=timezone.now() + timedelta(seconds=3))

    assert gateway.classify(key).status_code == 200
    wait_until(lambda: gateway.classify(key).status_code == 401)


def test_a_key_calls_only_the_models_it_names(gateway, shop):
    _, key = shop.buyer("dan-names", OPEN, models=[shop.models["fine"]])

    answer = gateway.classify(key)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "no_access")


def test_a_key_does_only_what_it_was_made_for(gateway, shop):
    dan, calls_only = shop.buyer("dan-scopes", OPEN, scopes=["call"])
    reads_only = shops.make_key(dan, scopes=["read"])

    called = [gateway.classify(key).status_code for key in (calls_only, reads_only)]
    quoted = gateway.post("/v1/quote", {"model": "erin/tumours", "input": shops.ROW}, key=reads_only)
    read = [gateway.get("/v1/credits", key=key) for key in (calls_only, reads_only)]

    assert called == [200, 403]
    assert quoted.status_code == 403
    assert [answer.status_code for answer in read] == [403, 200]
    assert read[0].json()["error"]["code"] == "no_access"
    with pytest.raises(Invalid):
        shops.make_key(dan, scopes=[])


def test_what_is_refused_for_money_access_or_price_is_listed_at_cost_0(gateway, shop):
    # Given calls that are refused: an empty wallet, a spend cap, max_cost, another model's key, a stale price
    dan, key = shop.buyer("dan-refused")
    capped = shops.make_key(dan, spend_cap_nano=1)
    elsewhere = shops.make_key(dan, models=[shop.models["fine"]])
    body = {"model": "erin/tumours", "input": shops.ROW}
    answers = [
        gateway.classify(key, idempotency_key="again"),
        gateway.classify(capped),
        gateway.classify(key, x_max_cost="0.000001"),
        gateway.classify(elsewhere),
        gateway.post("/v1/classify", body | {"price_version": "00"}, key=key),
    ]
    codes = ["insufficient_balance", "spend_cap_reached", "max_cost_exceeded", "no_access", "price_changed"]
    assert [answer.json()["error"]["code"] for answer in answers] == codes

    # Then each is there soon, with its reason, and cost nothing
    wait_until(lambda: Call.objects.filter(buyer=dan).count() == 5)
    rows = {str(call.pk): call for call in Call.objects.filter(buyer=dan)}
    assert [rows[answer.headers["x-receipt-id"]].error_code for answer in answers] == codes
    assert {(call.status, call.cost_nano) for call in rows.values()} == {("refused", 0)}
    listed = gateway.get("/v1/calls?status=refused", key=key).json()["data"]
    assert {call["id"] for call in listed} == set(rows)

    # And its Idempotency-Key is free
    shops.fund(shop.books, dan, CALL_NANO)
    wait_until(lambda: gateway.classify(key, idempotency_key="again").status_code == 200)


def test_a_program_that_goes_on_without_money_does_not_fill_the_lists(gateway, shop):
    dan, key = shop.buyer("dan-floods", requests_per_minute=100)
    statuses = [gateway.classify(key).status_code for _ in range(110)]
    assert {402, 429} == set(statuses)
    wait_until(lambda: Call.objects.filter(buyer=dan).count() >= config.NOTES_PER_MINUTE)

    other, other_key = shop.buyer("frank-floods")
    gateway.classify(other_key)
    wait_until(lambda: Call.objects.filter(buyer=other).exists())

    assert config.NOTES_PER_MINUTE <= Call.objects.filter(buyer=dan).count() < 100
    assert set(Call.objects.filter(buyer=dan).values_list("error_code", flat=True)) == {"insufficient_balance"}


def test_a_spend_cap_ends_a_key_and_no_other(gateway, shop):
    dan, key = shop.buyer("dan-capped", OPEN, spend_cap_nano=10 * CALL_NANO + 5)
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: gateway.classify(key), range(64)))

    assert [answer.status_code for answer in answers].count(200) == 10
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200} == {"spend_cap_reached"}
    assert gateway.classify(shops.make_key(dan)).status_code == 200


def test_a_spend_cap_holds_over_several_processes(gateway, shop):
    # Given a key that has reached its cap on one process
    _, key = shop.buyer("dan-two", OPEN, spend_cap_nano=2 * CALL_NANO)
    assert [gateway.classify(key).status_code for _ in range(3)] == [200, 200, 402]

    # When eight calls reach another one at once
    with running_gateway(shop.books) as other, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: other.classify(key), range(8)))

    # Then none of them is answered
    assert [answer.json()["error"]["code"] for answer in answers] == ["spend_cap_reached"] * 8


def test_requests_a_minute_are_counted_and_told(gateway, shop):
    _, key = shop.buyer("dan-fast", OPEN, requests_per_minute=3)

    answers = [gateway.classify(key) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"
    assert int(answers[3].headers["retry-after"]) > 1


def test_lists_count_as_requests_too(gateway, shop):
    _, key = shop.buyer("dan-lists", requests_per_minute=2)

    answers = [gateway.get("/v1/calls", key=key) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"


def test_a_spend_cap_does_not_wait_for_somebody_elses_slow_list(gateway, shop):
    # Given somebody who looks up a receipt, which takes for ever
    _, key = shop.buyer("dan-waits", OPEN, spend_cap_nano=OPEN)
    _, slow_key = shop.buyer("frank-slow", OPEN)
    receipt_id = gateway.classify(slow_key).json()["open"]["receipt_id"]
    session = shop.books.connect("DATABASE_SUPERUSER_URL")
    with ThreadPoolExecutor(1) as threads, session.cursor() as cursor:
        cursor.execute("LOCK TABLE ledger_leaf IN ACCESS EXCLUSIVE MODE")
        slow = threads.submit(gateway.get, f"/v1/receipts/{receipt_id}", key=slow_key)
        with shop.books.connect("DATABASE_SUPERUSER_URL") as other, other.cursor() as looking:
            wait_until(lambda: _somebody_waits(looking))

        # When Dan calls with a key whose cap has to be looked up, then he is answered first
        assert gateway.classify(key).status_code == 200
        assert not slow.done()

        # And the look-up ends as a time-out
        assert (slow.result().status_code, slow.result().json()["error"]["code"]) == (503, "unavailable")
    session.close()


def _somebody_waits(cursor) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ledger_leaf'::regclass")
    return cursor.fetchone()[0] == 1


def test_a_price_that_nobody_can_pay_is_402(gateway, shop):
    _, key = shop.buyer("dan-dear", OPEN)
    shops.linear_model("dear", call=10**15)
    shops.connected_model("dearer", shop.models["fine"].upstream_url, tokens_in=10**15, tokens_out=10**15)
    body = {"model": "erin/dearer", "messages": [{"role": "user", "content": "?" * 1000}]}
    wait_until(lambda: gateway.get("/v1/models/erin/dearer").status_code == 200)

    answers = [
        gateway.classify(key, model="erin/dear"),
        gateway.post("/v1/chat/completions", body, key=key),
        gateway.post("/v1/quote", body, key=key),
    ]

    assert [answer.json()["error"]["code"] for answer in answers] == ["insufficient_balance"] * 3


def test_tokens_a_minute_count_the_worst_case_first_and_the_truth_after(gateway, shop):
    _, key = shop.buyer("dan-talks", OPEN, tokens_per_minute=1000)
    body = {"model": "erin/fine", "messages": [{"role": "user", "content": "?"}], "max_tokens": 100}

    answers = [gateway.post("/v1/chat/completions", body, key=key) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert 940 < int(answers[2].headers["x-ratelimit-remaining-tokens"]) <= 1000


def test_a_quote_names_the_most_a_call_can_cost_and_max_cost_refuses_more(gateway, shop):
    _, key = shop.buyer("dan-quotes", OPEN)
    body = {"model": "erin/fine", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10}

    quote = gateway.post("/v1/quote", body, key=key).json()
    within = gateway.post("/v1/chat/completions", body | {"max_cost_nano": quote["max_cost_nano"]}, key=key)
    beyond = gateway.post("/v1/chat/completions", body, key=key, x_max_cost="0.000001")

    assert within.status_code == 200
    assert within.json()["open"]["cost_nano"] <= quote["max_cost_nano"]
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (402, "max_cost_exceeded")


def test_a_new_price_holds_for_calls_that_start_after_it_and_a_stale_quote_is_told(gateway, shop):
    # Given a quote, and then a higher price
    _, key = shop.buyer("dan-prices", OPEN)
    model = shops.linear_model("changing", call=100)
    body = {"model": "erin/changing", "input": shops.ROW}
    wait_until(lambda: gateway.post("/v1/classify", body, key=key).status_code == 200)
    quoted = gateway.post("/v1/quote", body, key=key).json()["price_version"]
    listings.set_prices(model, by=model.owner, price_call_nano=200, price_in_nano=0, price_out_nano=0)
    wait_until(lambda: gateway.post("/v1/quote", body, key=key).json()["price_version"] != quoted)

    # When the quoted price is asked for
    stale = gateway.post("/v1/classify", body | {"price_version": quoted}, key=key)

    # Then it is refused, and not repeated by the client
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "price_changed")
    assert stale.headers["x-should-retry"] == "false"
    assert gateway.post("/v1/classify", body, key=key).json()["open"]["cost_nano"] == 200


def test_a_pass_model_answers_who_bought_a_pass(gateway, shop):
    dan, key = shop.buyer("dan-passes", OPEN)
    model = shops.linear_model("passes", access_mode="pass", pass_price_nano=5000, pass_days=1)
    wait_until(lambda: gateway.get("/v1/models/erin/passes").status_code == 200)
    assert gateway.classify(key, model="erin/passes").json()["error"]["code"] == "no_access"

    access.buy_pass(model, buyer=dan)

    wait_until(lambda: gateway.classify(key, model="erin/passes").status_code == 200)


def test_an_unlisted_model_is_there_for_its_owner_only(gateway, shop):
    erin, owners_key = shop.buyer("erin", OPEN)
    _, key = shop.buyer("dan-peeks", OPEN)
    model = shops.linear_model("draft")
    listings.unlist_model(model, by=erin)
    wait_until(lambda: gateway.classify(owners_key, model="erin/draft").status_code == 200)

    assert gateway.classify(key, model="erin/draft").json()["error"]["code"] == "model_not_found"


def test_a_call_that_costs_nothing_is_a_row_without_a_posting(gateway, shop):
    _, key = shop.buyer("dan-free")
    shops.linear_model("gift", call=0)
    wait_until(lambda: gateway.classify(key, model="erin/gift").status_code == 200)

    answer = gateway.classify(key, model="erin/gift").json()

    assert answer["open"]["cost_nano"] == 0
    assert ledger.posting_of(answer["open"]["receipt_id"]) is None
    assert Call.objects.get(pk=answer["open"]["receipt_id"]).status == "succeeded"


@pytest.mark.parametrize(
    "parts", [{"data": 3000, "curation": 1000, "developer": 4000, "platform": 1000, "owner": 1000}]
)
def test_owners_of_the_datanets_get_their_part_where_the_rule_has_one(gateway, shop, parts):
    from marketplace import rules

    _, key = shop.buyer("dan-owners", OPEN)
    rule = rules.adopt(name="With owners", parts=parts, by=None)
    shops.linear_model("owned", split_rule=rule, datanet_versions=[shops.frozen_datanet("Owned")])
    wait_until(lambda: gateway.classify(key, model="erin/owned").status_code == 200)

    told = gateway.classify(key, model="erin/owned").json()["open"]

    carol = shops.person("carol")
    moves = {move.target: move.amount_nano for move in ledger.posting_of(told["receipt_id"]).moves}
    assert moves[chart.pending(carol.pk)] == told["split"]["owner"] > 0
