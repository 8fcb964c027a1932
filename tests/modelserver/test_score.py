"""Scores of a given answer: what attribution is computed from."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from attribution.engines import retrieval
from modelserver import config, llama, scoring, tokens

from .conftest import wait_until

DOCUMENTS = [
    "Ferries leave the harbour at noon. ",
    "The capital of Zubrowka is Lutz. ",
    "Wrens build their nests in hedges. ",
]
SUBSETS_BODY = {
    "system": "Answer from these sources. ",
    "documents": DOCUMENTS,
    "user": "What is the capital of Zubrowka?",
    "answer": "The capital of Zubrowka is Lutz.",
}


def prompt_of(mask):
    chosen = "".join(document for i, document in enumerate(DOCUMENTS) if mask >> i & 1)
    return [
        {"role": "system", "content": SUBSETS_BODY["system"] + chosen},
        {"role": "user", "content": SUBSETS_BODY["user"]},
    ]


def values(answer):
    assert answer.status_code == 200, answer.text
    return [score["logprob"] for score in answer.json()["scores"]]


def test_the_document_that_holds_the_answer_raises_its_log_probability(server):
    answer = server.post("/score", SUBSETS_BODY).json()
    by_mask = dict(zip(answer["subsets"], [score["logprob"] for score in answer["scores"]], strict=True))

    assert answer["subsets"] == list(range(8))
    for mask in range(8):
        if not mask & 0b010:
            assert by_mask[mask | 0b010] > by_mask[mask] + 2
    assert all(value == round(value, 2) <= 0 for value in by_mask.values())


def test_a_score_depends_on_its_context_alone(server):
    # Each subset with all the others, in another order, and alone
    together = values(server.post("/score", SUBSETS_BODY))
    masks = [6, 0, 2]
    reordered = values(server.post("/score", {**SUBSETS_BODY, "subsets": masks}))
    alone = values(server.post("/score", {"prompts": [prompt_of(6)], "answer": SUBSETS_BODY["answer"]}))

    assert reordered == [together[mask] for mask in masks]
    assert alone == [together[6]]


def test_the_retrieval_prompt_is_scored_as_it_was_generated(server):
    # Given the prompt of the retrieval engine, with and without the record that holds the answer
    passages = [
        retrieval.Passage(record=i, passage=i, start=0, end=len(text), tokens=9, similarity=0.5, text=text)
        for i, text in enumerate(DOCUMENTS)
    ]
    question = [{"role": "user", "content": SUBSETS_BODY["user"]}]
    prompts = [retrieval.build_messages(question, passages, mask=mask) for mask in range(8)]

    scores = values(server.post("/score", {"prompts": prompts, "answer": SUBSETS_BODY["answer"]}))

    # Then the exact Shapley value names it
    assert np.argmax(retrieval.shapley(dict(enumerate(scores)), 3)) == 1


def test_a_mask_of_a_document_that_is_not_there_is_refused(server):
    answer = server.post("/score", {**SUBSETS_BODY, "subsets": [8]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "subsets")


@pytest.mark.parametrize("missing", ["answer", "user", "documents"])
def test_a_score_without_its_parts_is_refused(server, missing):
    body = {name: value for name, value in SUBSETS_BODY.items() if name != missing}
    answer = server.post("/score", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, missing)


def test_a_paid_call_overtakes_queued_background_work(server, threads):
    values(server.post("/score", {**SUBSETS_BODY, "subsets": [0]}))  # the scorer is loaded
    ended = []

    def score(number):
        prompts = [[{"role": "user", "content": f"{i} {number} {'sea ' * 250}"}] for i in range(2)]
        values(server.post("/score", {"prompts": prompts, "answer": "The sea is blue."}))
        ended.append(f"score {number}")

    # Given one score running and one waiting
    scores = [threads.submit(score, number) for number in (1, 2)]
    wait_until(lambda: server.queue("background") == 2)

    # When a paid call comes, then it ends before both
    server.chat("Name three primary colours.", max_tokens=5)
    ended.append("paid")
    for future in scores:
        future.result(timeout=120)
    assert ended[0] == "paid"
    assert len(ended) == 3


def test_background_work_waits_while_a_paid_answer_runs(server, threads):
    stream = server.chat("Write a long story.", stream=True, max_tokens=1500, temperature=1.5, seed=3)
    next(iter(stream))
    score = threads.submit(server.post, "/score", {**SUBSETS_BODY, "subsets": [0]})
    wait_until(lambda: server.queue("background") == 1)
    time.sleep(1)  # alone, this score takes a quarter of that
    assert not score.done()

    stream.close()
    assert score.result(timeout=60).status_code == 200


def test_a_full_background_queue_says_when_to_come_back(server, threads):
    stream = server.chat("Write a long story.", stream=True, max_tokens=1500, temperature=1.5, seed=3)
    next(iter(stream))
    body = {**SUBSETS_BODY, "subsets": [0]}
    held = [threads.submit(server.post, "/score", body) for _ in range(3)]
    wait_until(lambda: server.queue("background") == 3)

    refused = server.post("/score", body)

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    stream.close()
    assert [future.result(timeout=60).status_code for future in held] == [200] * 3


@pytest.fixture(scope="module")
def weights() -> Path:
    path = config.from_environment({"MODELS_API_KEY": "-"}).weights
    if path is None:
        pytest.skip("the chat model is not installed")
    return path


def test_our_log_probabilities_are_those_of_the_runtime(weights):
    # Given an answer that llama.cpp chose, with its own log-probabilities of every token
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.n_ctx, parameters.verbosity, parameters.ui, parameters.offline = 512, 0, False, True
    parameters.api_keys, parameters.cpuparams.n_threads = ["key"], 1
    runtime = xllamacpp.Server(parameters)
    tokenizer = tokens.Tokenizer(runtime.listening_address, "key")
    prompt = tokenizer.encode(tokens.chat_fragments([{"role": "user", "content": "What does the MIT licence permit?"}]))
    answer = runtime.handle_completions({"prompt": prompt, "max_tokens": 24, "temperature": 0, "logprobs": 1})
    chosen = answer["choices"][0]["logprobs"]["content"]
    ids = [token["id"] for token in chosen]

    # When we compute them from the same weights
    model = llama.load(weights)
    hidden = llama.extend(model, prompt + ids[:-1], llama.new_cache(model, 512), start=0)
    ours = llama.log_probabilities(model, hidden[len(prompt) - 1 :], ids)

    # Then they agree but for the runtime's rounding of activations to 8 bits (measured: .06 nats a token, .13 at most)
    difference = ours - [token["logprob"] for token in chosen]
    assert np.sqrt((difference**2).mean()) < 0.15
    assert abs(difference).max() < 0.5

    # And a score is their sum, whatever the steps
    total = scoring.score_contexts(model, [prompt], ids, before_step=lambda: None)[0]
    assert total == pytest.approx(ours.sum(), abs=0.011)


def test_every_distinct_prefix_is_computed_once():
    assert scoring.distinct_tokens([[1, 2, 3]], [9, 9]) == 4
    # shared [1, 2]; then [3] and its answer, then [4, 5] and its answer
    assert scoring.distinct_tokens([[1, 2, 4, 5], [1, 2, 3]], [9, 9]) == 2 + 2 + 3
    # the last token of a context is run again: it predicts the answer
    assert scoring.distinct_tokens([[1, 2, 3], [1, 2, 3]], [9, 9]) == 4 + 2
