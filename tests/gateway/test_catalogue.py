"""What is told of models, and of what a buyer has used, to who asks for it."""

from __future__ import annotations

from datetime import UTC, datetime

import openai

from marketplace import keys, listings, retiring
from marketplace.models import ApiKey
from tests.gateway import shop as shops
from tests.gateway.conftest import wait_until
from tests.gateway.shop import CALL_NANO, OPEN

METRICS = {"accuracy": 0.97, "judged_rows": 40}


def test_a_model_is_listed_with_all_that_a_buyer_decides_by(gateway, shop):
    # Given a model with two versions that will retire, and one that chats
    erin = shops.person("erin")
    model = listings.create_model(owner=erin, name="Lumps", slug="lumps", purpose="Tells lumps", engine="linear")
    datanet_version = shops.frozen_datanet("Lumps")
    for _ in range(2):
        shops.add_version(model, *shops.tumour_artifact(rows=40), datanet_versions=[datanet_version], metrics=METRICS)
    shops.listed(model, call=CALL_NANO)
    retiring.announce(model, by=erin, on=datetime(2040, 1, 31, tzinfo=UTC))
    wait_until(lambda: gateway.get("/v1/models/erin/lumps").json().get("retires_at"))

    # When somebody without a key looks
    told = {one["id"]: one for one in gateway.get("/v1/models").json()["data"]}
    lumps, chat = told["erin/lumps"], told["erin/fine"]

    # Then kind, price, score card, Datanets, versions and the end are there
    assert (lumps["kind"], lumps["endpoints"], lumps["context_length"]) == ("linear", ["/v1/classify"], None)
    assert lumps["price"] == {
        "price_version": listings.prices_of(model).sha256,
        "price_call_nano": CALL_NANO,
        "price_in_nano": 0,
        "price_out_nano": 0,
        "price_abstain_nano": 0,
    }
    assert lumps["require"] == ["licences", "datanets"]
    assert lumps["metrics"] == METRICS
    assert lumps["score_card"] == {"status": "not_yet_measured", "pays": "by_score"}
    assert lumps["datanets"] == [{"datanet": "carol/lumps", "version": "v1", "kind": "tabular", "licence": "CC-BY-4.0"}]
    assert (lumps["version"], lumps["versions"]) == ("v2", ["erin/lumps@v2", "erin/lumps@v1"])
    assert (lumps["retires_at"], chat["retires_at"]) == ("2040-01-31T00:00:00+00:00", None)
    assert (chat["kind"], chat["context_length"], chat["max_output_tokens"]) == ("connected", 2048, 512)
    assert chat["endpoints"] == ["/v1/chat/completions", "/v1/completions"]

    # And each version is found by its pinned name, which it keeps
    assert gateway.get("/v1/models/erin/lumps").json() == lumps
    assert gateway.get("/v1/models/erin/lumps@v2").json() == lumps | {"id": "erin/lumps@v2"}
    first = gateway.get("/v1/models/erin/lumps@v1").json()
    assert (first["id"], first["version"]) == ("erin/lumps@v1", "v1")
    assert gateway.get("/v1/models/erin/lumps@v3").status_code == 404

    # And so does OpenAI's own client
    _, key = shop.buyer("dan-looks")
    client: openai.OpenAI = gateway.openai(key)
    assert {"erin/lumps", "erin/fine"} <= {one.id for one in client.models.list()}
    assert client.models.retrieve("erin/lumps@v1").id == "erin/lumps@v1"


def test_usage_is_told_by_key(gateway, shop):
    dan, one = shop.buyer("dan-uses", OPEN)
    _, other = keys.create(owner=dan, name="other")
    for key in (one, one, other):
        assert gateway.classify(key).status_code == 200

    plain = gateway.get("/v1/usage", key=one).json()
    by_key = gateway.get("/v1/usage?by=key", key=other).json()

    assert [(row["calls"], "key_id" in row) for row in plain["data"]] == [(3, False)]
    ids = {key.name: str(key.pk) for key in ApiKey.objects.filter(owner=dan)}
    found = {row["key_id"]: (row["calls"], row["cost_nano"]) for row in by_key["data"]}
    assert found == {ids["test"]: (2, 2 * CALL_NANO), ids["other"]: (1, CALL_NANO)}
    assert by_key["cost_nano"] == plain["cost_nano"] == 3 * CALL_NANO
    wrong = gateway.get("/v1/usage?by=day", key=one)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "by")
