"""Embeddings with the real models process: an operator model, listed, called, charged and proved like any other."""

from __future__ import annotations

import base64
import html
import re
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import requests
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from attribution.models import Epoch
from ledger import chart, receipts
from ledger import services as ledger
from marketplace import access, keys, listings, operators, privileges, refunds, rules, training
from marketplace import models as shop_models
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import Call, ListedModel, ModelVersion
from tests import asynchronous
from tests.gateway import shop as shops
from tests.gateway.conftest import Gateway, running_gateway, wait_until
from tests.gateway.shop import OPEN, person
from tests.modelserver.conftest import KEY, Server, running_server
from tests.shop import nothing_is_wrong, settle

CALL_NANO, TOKEN_NANO = 100_003, 1_009
MODEL = "erin/texts"
TEXTS = ["The wren is a small brown bird.", "Der Zaunkönig ist ein kleiner Vogel.", "An invoice is due in thirty days."]


@pytest.fixture(scope="module")
def models() -> Iterator[Server]:
    """One text is embedded, one request waits."""
    with running_server(MODELS_WEIGHTS="/nonexistent", MODELS_EMBEDDINGS_WAITING="1") as server:
        yield server


@pytest.fixture(scope="module")
def shop(books_of_module) -> shops.Shop:
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    version = _listed(person("erin"))
    return shops.Shop(books_of_module, None, {"texts": version.model})


@pytest.fixture(scope="module")
def gateway(shop, models) -> Iterator[Gateway]:
    with running_gateway(shop.books, MODELS_URL=models.url, MODELS_API_KEY=KEY, CHALLENGE_WINDOW_S="3600") as running:
        yield running


def _admin():
    admin = person("ada")
    admin.is_staff = True
    admin.save(update_fields=["is_staff"])
    return admin


def _listed(owner, *, slug: str = "texts", artifact: str = "ab" * 32, call: int = CALL_NANO) -> ModelVersion:
    return operators.list_embedding_model(
        owner=owner,
        by=_admin(),
        name=slug,
        slug=slug,
        purpose="Vectors",
        artifact_sha256=artifact,
        price_call_nano=call,
        price_in_nano=TOKEN_NANO,
    )


def embed(gateway, key, input=TEXTS, *, model: str = MODEL, headers: dict | None = None, **more) -> requests.Response:
    return gateway.post("/v1/embeddings", {"model": model, "input": input, **more}, key=key, **(headers or {}))


def cost_of(usage: dict) -> int:
    return CALL_NANO + TOKEN_NANO * usage["prompt_tokens"]


def floats(encoded: str) -> list[float]:
    return list(struct.unpack("<384f", base64.b64decode(encoded)))


def test_both_official_clients_embed_texts_and_pay_by_the_token(gateway, shop):
    # Given Dan with money, and the official clients
    dan, key = shop.buyer("dan", OPEN)

    async def ask() -> openai.types.CreateEmbeddingResponse:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
            return await client.embeddings.create(model=MODEL, input=TEXTS[0])

    # When he embeds three texts, and one of them with the other client
    together = gateway.openai(key).embeddings.create(model=MODEL, input=TEXTS)
    alone = asynchronous.run(ask())

    # Then each vector has 384 numbers, and the same text has the same one
    assert [len(one.embedding) for one in together.data] == [384] * 3
    assert [one.index for one in together.data] == [0, 1, 2]
    assert together.data[0].embedding == alone.data[0].embedding
    assert together.model == "erin/texts@v1"

    # And each call cost its tokens, to the nano, of which the platform and Erin got all
    costs = [cost_of(answer.usage.model_dump()) for answer in (together, alone)]
    assert [answer.open["cost_nano"] for answer in (together, alone)] == costs
    split = together.open["split"]
    assert sum(split.values()) == costs[0]
    assert (split["data"], split["curation"]) == (0, 0)
    assert split["platform"] == round(costs[0] * 500 / 10_000)
    assert shop.balance_nano(dan) == OPEN - sum(costs)
    call = Call.objects.get(pk=together.open["receipt_id"])
    assert (call.endpoint, call.status, call.answer_tokens) == ("embeddings", "succeeded", 0)


def test_vectors_are_numbers_or_base64_and_a_query_differs_from_a_passage(gateway, shop):
    _, key = shop.buyer("dan-encodings", OPEN)

    as_numbers = embed(gateway, key, TEXTS[0], encoding_format="float", dimensions=384, user="u").json()
    as_base64 = embed(gateway, key, TEXTS[0], encoding_format="base64").json()
    as_query = embed(gateway, key, TEXTS[0], input_type="query").json()

    numbers = as_numbers["data"][0]["embedding"]
    assert floats(as_base64["data"][0]["embedding"]) == pytest.approx(numbers, abs=1e-7)
    assert sum(number * number for number in numbers) == pytest.approx(1, abs=1e-4)
    assert as_query["data"][0]["embedding"] != numbers


def test_a_call_costs_exactly_what_its_quote_said_and_stale_terms_are_refused(gateway, shop):
    dan, key = shop.buyer("dan-quote", OPEN)

    quote = gateway.post("/v1/quote", {"model": MODEL, "input": TEXTS}, key=key).json()
    answer = embed(gateway, key, price_version=quote["price_version"], max_cost_nano=quote["max_cost_nano"])

    assert (answer.status_code, quote["answer_tokens_max"]) == (200, 0)
    assert answer.json()["open"]["cost_nano"] == quote["max_cost_nano"] == cost_of(answer.json()["usage"])
    assert quote["prompt_tokens_max"] == answer.json()["usage"]["total_tokens"]
    dear = embed(gateway, key, max_cost_nano=quote["max_cost_nano"] - 1)
    assert (dear.status_code, dear.json()["error"]["code"]) == (402, "max_cost_exceeded")
    stale = embed(gateway, key, price_version="00")
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "price_changed")
    assert shop.balance_nano(dan) == OPEN - quote["max_cost_nano"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["x", ""]}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": 7}, 400, "input"),
        ({"input": {"text": "x"}}, 400, "input"),
        ({"input": [1, 2, 3]}, 400, "input"),
        ({"input": [[1, 2], [3]]}, 400, "input"),
        ({"input": ["x", None]}, 400, "input"),
        ({"input": "a\x00b"}, 400, "input"),
        ({"input": ["x"] * 257}, 400, "input"),
        ({"input": "x" * (128 * 1024 + 1)}, 400, "input"),
        ({"input": "a b c " * 8000}, 400, "input"),  # 48,000 bytes, and more tokens than one call may have
        ({}, 400, "input"),
        ({"input": "x", "dimensions": 256}, 400, "dimensions"),
        ({"input": "x", "dimensions": 384.0}, 400, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "x", "encoding_format": ["float"]}, 400, "encoding_format"),
        ({"input": "x", "input_type": "title"}, 400, "input_type"),
        ({"input": "x", "stream": True}, 400, "stream"),
        ({"input": "x", "model": "erin/none"}, 404, "model"),
        ({"input": "x" * 10_000_000}, 413, None),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name_and_nothing_stays_held(gateway, shop, body, status, param):
    dan, key = shop.buyer("dan-refused")
    if not shop.balance_nano(dan):
        shops.fund(shop.books, dan, OPEN)

    answer = gateway.post("/v1/embeddings", {"model": MODEL, **body}, key=key)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert ledger.open_holds(chart.wallet(dan.pk)) == []
    assert not Call.objects.filter(buyer=dan).exists()


@pytest.mark.parametrize(
    "raw", [b'{"model": "erin/texts", "input": "\xff"}', b'{"model": "erin/texts", "input": "\\ud800"}']
)
def test_text_that_is_no_utf8_is_refused(gateway, shop, raw):
    _, key = shop.buyer("dan-bytes")
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    answer = requests.post(f"{gateway.url}/v1/embeddings", data=raw, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_tokens_are_refused_with_a_sentence_that_says_what_to_send(gateway, shop):
    _, key = shop.buyer("dan-tokens")
    with pytest.raises(openai.BadRequestError, match="send text"):
        gateway.openai(key).embeddings.create(model=MODEL, input=[[1, 2], [3]])


def test_keys_are_limited_for_embeddings_as_for_anything_else(gateway, shop):
    dan, key = shop.buyer("dan-keys", OPEN)
    other = _listed(person("erin"), slug="other").model
    elsewhere = shops.make_key(dan, models=[other])
    reads = shops.make_key(dan, scopes=["read"])
    capped = shops.make_key(dan, spend_cap_nano=CALL_NANO)
    once = shops.make_key(dan, requests_per_minute=1)
    few = shops.make_key(dan, tokens_per_minute=10)
    revoked, secret = keys.create(owner=dan, name="revoked")
    assert embed(gateway, secret).status_code == 200
    keys.revoke(revoked, by=dan)
    _, poor = shop.buyer("dan-poor")
    wait_until(lambda: embed(gateway, secret).status_code == 401)

    def refused(secret: str) -> tuple[int, str]:
        answer = embed(gateway, secret)
        return answer.status_code, answer.json()["error"]["code"]

    assert refused(secret) == (401, "invalid_api_key")
    assert refused(elsewhere)[0] == 403
    assert refused(reads)[0] == 403
    assert refused(capped) == (402, "spend_cap_reached")
    assert embed(gateway, few).status_code == 200
    assert refused(few) == (429, "rate_limit_exceeded")
    assert embed(gateway, once).status_code == 200
    assert refused(once) == (429, "rate_limit_exceeded")
    assert refused(poor) == (402, "insufficient_balance")
    assert gateway.get("/v1/embeddings", key=key).status_code == 405


def test_a_repeated_request_is_answered_from_the_books_and_charged_once(gateway, shop):
    dan, key = shop.buyer("dan-again", OPEN)

    first = embed(gateway, key, headers={"idempotency_key": "one"})
    again = embed(gateway, key, headers={"idempotency_key": "one"})
    other = embed(gateway, key, ["Other"], headers={"idempotency_key": "one"})

    assert again.content == first.content
    assert again.headers["x-idempotent-replay"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert shop.balance_nano(dan) == OPEN - cost_of(first.json()["usage"])


def test_a_test_key_gets_a_vector_that_says_nothing_at_the_real_price(gateway, shop):
    tina, key = shop.tester("tina")

    answer = embed(gateway, key).json()

    assert [one["embedding"] for one in answer["data"]] == [[1.0] + [0.0] * 383] * 3
    assert (answer["open"]["test"], answer["open"]["cost_nano"]) == (True, cost_of(answer["usage"]))
    assert shop_models.TestCall.objects.get(buyer=tina).cost_nano == cost_of(answer["usage"])
    encoded = embed(gateway, key, encoding_format="base64").json()["data"][0]["embedding"]
    assert floats(encoded) == [1.0] + [0.0] * 383


def test_what_is_called_is_listed_with_its_kind_price_and_calls(gateway, shop):
    dan, key = shop.buyer("dan-lists", OPEN)
    embed(gateway, key)

    listed = gateway.get("/v1/models/erin/texts").json()
    assert (listed["kind"], listed["endpoints"], listed["dimensions"]) == ("embedding", ["/v1/embeddings"], 384)
    assert (listed["datanets"], listed["attribution"], listed["records"]) == ([], None, 0)
    assert listed["price"]["price_in_nano"] == TOKEN_NANO
    assert listed["split_rule"]["parts_bp"]["data"] == listed["split_rule"]["parts_bp"]["curation"] == 0
    assert MODEL in [one["id"] for one in gateway.get("/v1/models").json()["data"]]
    (call,) = gateway.get("/v1/calls", key=key).json()["data"]
    assert (call["endpoint"], call["model"], call["data_nano"]) == ("embeddings", "erin/texts@v1", 0)
    (used,) = gateway.get("/v1/usage", key=key).json()["data"]
    assert (used["calls"], used["cost_nano"]) == (1, call["cost_nano"])


def test_each_model_answers_at_its_own_address_only(gateway, shop):
    _, key = shop.buyer("dan-addresses", OPEN)
    shops.linear_model("tumours-beside")
    wait_until(lambda: gateway.get("/v1/models/erin/tumours-beside").status_code == 200)

    for path, body in (
        ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/classify", {"model": MODEL, "input": "x"}),
        ("/v1/embeddings", {"model": "erin/tumours-beside", "input": "x"}),
    ):
        answer = gateway.post(path, body, key=key)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model"), path
    assert "/v1/classify" in answer.json()["error"]["message"]


def test_a_full_queue_is_told_to_come_back_and_costs_nothing(gateway, shop, models):
    dan, key = shop.buyer("dan-busy", OPEN)
    long = ["word " * 80] * 8  # about a second of one core

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(embed, gateway, key, long) for _ in range(2)]
        wait_until(lambda: models.queue("embeddings") == 2)
        refused = embed(gateway, key)
        answers = [one.result() for one in running]

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_busy")
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in answers] == [200, 200]
    failed = Call.objects.get(buyer=dan, status="failed")
    assert (failed.cost_nano, failed.error_code) == (0, "model_busy")
    assert shop.balance_nano(dan) == OPEN - sum(cost_of(answer.json()["usage"]) for answer in answers)


def test_a_models_process_that_dies_costs_nothing_and_leaves_no_hold(shop):
    dan, key = shop.buyer("dan-dead", OPEN)
    long = ["word " * 80] * 8
    with (
        running_server(MODELS_WEIGHTS="/nonexistent") as models,
        running_gateway(shop.books, MODELS_URL=models.url, MODELS_API_KEY=KEY) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(embed, gateway, key, long)
        wait_until(lambda: models.queue("embeddings") == 1)
        models.process.kill()
        answer = running.result()
        # And with none there, it is refused before anything is held
        gone = embed(gateway, key)

    assert [one.status_code for one in (answer, gone)] == [502, 502]
    assert "Nothing was charged" in answer.json()["error"]["message"]
    assert Call.objects.get(buyer=dan).status == "failed"
    assert shop.balance_nano(dan) == OPEN
    assert ledger.open_holds(chart.wallet(dan.pk)) == []


def test_nobodys_data_is_paid_the_books_are_right_and_the_receipt_says_so(gateway, shop, client):
    # Given a call, and one that is refunded
    dan, key = shop.buyer("dan-receipt", OPEN)
    kept, given_back = (embed(gateway, key).json()["open"] for _ in range(2))
    shop.books.fold()
    refund = refunds.give_back(
        Call.objects.get(pk=given_back["receipt_id"]), by=shop.models["texts"].owner, reason="A wrong model."
    )

    # When the epoch ends
    settle(shop.books)

    # Then no epoch is settled for the model, no pool or unattributed account of it has money, and all invariants hold
    model = shop.models["texts"]
    assert not Epoch.objects.filter(model_id=model.pk).exists()
    assert ledger.balance_nano(chart.unattributed(model.pk)) == 0
    assert refund.status == "made"
    assert shop.balance_nano(dan) == OPEN - kept["cost_nano"]
    assert nothing_is_wrong()

    # And the charge has its receipt, without a second part
    receipt = gateway.get(f"/v1/receipts/{kept['receipt_id']}", key=key)
    assert receipt.status_code == 200, receipt.text
    steps = receipts.verify_receipt(receipt.json(), ledger.log_vkey(), [], 0)
    assert all(step.ok for step in steps), steps
    second = gateway.get(f"/v1/receipts/{kept['receipt_id']}?part=attribution", key=key)
    assert (second.status_code, second.json()["error"]["code"]) == (404, "no_receipt")

    client.force_login(dan)
    page = client.get(f"/r/{kept['receipt_id']}").content.decode()
    assert "No Datanet shaped this model; nobody’s data is paid." in page
    assert "not settled yet" not in page
    why = client.get(f"/en/calls/{kept['receipt_id']}/why/").content.decode()
    assert "No Datanet shaped this model" in why
    assert client.get(f"/r/{kept['receipt_id']}.json?part=attribution").status_code == 404


def test_the_models_page_has_programs_and_says_that_no_datanet_shaped_it(shop, client):
    client.force_login(person("dan"))

    page = html.unescape(re.sub("<[^>]+>", "", client.get("/en/models/erin/texts/").content.decode()))

    assert "No Datanet shaped this model; nobody’s data is paid." in page
    assert "There is no playground for this kind of model" in page
    for part in ("client.embeddings.create(", "/v1/embeddings", "openai"):
        assert part in page
    for tab in ("attribution", "versions", "rules", "usage"):
        assert client.get(f"/en/models/erin/texts/{tab}/").status_code == 200
    assert client.post("/en/models/erin/texts/try/", {}).status_code == 403
    (version,) = client.get("/api/v1/models/erin/texts/versions/").json()["results"]
    assert (version["datanet_versions"], version["method"], version["method_about"]) == ([], None, None)
    client.force_login(person("erin"))
    mine = f"/en/build/models/{shop.models['texts'].pk}/"
    assert client.get(mine).status_code == 200
    assert client.get(f"{mine}settings/").status_code == 200
    assert client.get(f"{mine}train/").status_code == 409


# --- How it comes to be


def test_only_an_admin_lists_it_and_repeating_changes_prices_and_weights_only(books):
    erin = person("erin")
    with pytest.raises(NotAllowed):
        operators.list_embedding_model(
            owner=erin,
            by=erin,
            name="x",
            slug="x",
            purpose="x",
            artifact_sha256="ab" * 32,
            price_call_nano=1,
            price_in_nano=1,
        )
    with pytest.raises(NotAllowed):
        listings.create_model(owner=erin, name="x", purpose="x", engine="embedding", split_rule=rules.operator_rule())

    first = _listed(erin)
    same = _listed(erin, call=5)
    newer = _listed(erin, artifact="cd" * 32, call=5)

    assert (same, newer.number, newer.model) == (first, 2, first.model)
    assert listings.prices_of(first.model).price_call_nano == 5
    assert ledger.entry_of(first.pk).public["versions"] == []


def test_the_command_lists_the_bundled_weights(books, capsys):
    person("devi")
    _admin()
    command = ["list_embedding_model", "--owner", "devi", "--price-call-nano", "1", "--price-in-nano", "2"]

    call_command(*command, "--by", "ada")

    model = ListedModel.objects.get(owner__username="devi", slug="text-embeddings")
    assert model.versions.get().artifact_sha256 == operators.weights_sha256()
    assert model.listed_at is not None
    with pytest.raises(CommandError, match="Only an admin"):
        call_command(*command, "--by", "devi")


def test_the_database_keeps_data_out_of_an_operator_model(books):
    version = _listed(person("erin"))
    model = version.model
    linear = shops.linear_model("linear")

    def refused(act) -> str:
        with pytest.raises(IntegrityError) as error, transaction.atomic():
            act()
        return error.value.__cause__.diag.constraint_name

    def of(model: ListedModel, **fields):
        return lambda: ListedModel.objects.filter(pk=model.pk).update(**fields)

    run = {
        "requested_by": model.owner,
        "fee_nano": 0,
        "posting_id": ledger.new_id(),
        "split_rule": rules.training_rule(),
    }
    assert [
        refused(of(model, split_rule=rules.default_rule())),
        refused(of(model, engine="connected", upstream_url="https://example.org")),
        refused(of(linear, engine="embedding")),
        refused(lambda: shop_models.TrainingRun.objects.create(model=model, **run)),
        refused(lambda: ModelVersion.objects.filter(pk=version.pk).update(training_run=linear.training_runs.get())),
        refused(lambda: linear.versions.update(training_run=None)),
    ] == [
        "operator_model_pays_no_data",
        "operator_model_stays_one",
        "operator_model_stays_one",
        "operator_model_binds_no_version",
        "only_operator_versions_have_no_run",
        "only_operator_versions_have_no_run",
    ]


def test_its_owner_manages_it_but_gives_data_no_part_and_trains_it_on_nothing(books):
    model = _listed(person("erin")).model
    fields = {"access_mode": "pass", "pass_price_nano": OPEN, "pass_days": 30, "free_calls_per_day": 0, "card": ""}
    change = {"by": model.owner, "name": "Texts", "purpose": "Vectors", **fields}

    with pytest.raises(Invalid, match="No Datanet shaped this model"):
        listings.change_model(model, split_rule=rules.default_rule(), **change)
    with pytest.raises(NotReady):
        training.request(model=model, by=model.owner, versions=[])

    # A pass of it pays Erin and the platform, and leaves nothing to be traced
    listings.change_model(model, split_rule=model.split_rule, **change)
    dan = person("dan")
    shops.fund(books, dan, 2 * OPEN)
    access.buy_pass(model, buyer=dan)
    settle(books)
    assert nothing_is_wrong()
    assert not Epoch.objects.exists()
