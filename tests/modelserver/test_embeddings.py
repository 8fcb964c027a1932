"""Embeddings through the official client."""

from __future__ import annotations

import numpy as np
import pytest

from modelserver.config import EMBEDDING_MODEL

from .conftest import wait_until

TEXTS = [
    "The licence permits redistribution in source and binary form.",
    "Wrens build their nests in hedges.",
    "Heart disease is diagnosed from a blood sample.",
]


def embed(server, texts, **options):
    answer = server.openai.embeddings.create(model=EMBEDDING_MODEL, input=texts, **options)
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], np.float32)


def test_embeddings_are_unit_vectors_of_384_numbers(server):
    vectors = embed(server, TEXTS)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_question_is_closest_to_the_passage_that_answers_it(server):
    passages = embed(server, TEXTS)
    questions = [
        "May I pass the program on to others?",
        "Where do small birds live?",
        "How do doctors recognise a cardiac illness?",
    ]
    similarity = embed(server, questions, extra_body={"input_type": "query"}) @ passages.T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_text_has_one_vector_however_it_is_sent(server):
    together = embed(server, TEXTS)
    alone = embed(server, TEXTS[1])
    as_numbers = embed(server, TEXTS, encoding_format="float")
    background = server.post("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": TEXTS}, background=True).json()

    assert (alone[0] == together[1]).all()
    assert (as_numbers == together).all()
    assert (np.array([item["embedding"] for item in background["data"]], np.float32) == together).all()


def test_a_query_and_a_passage_of_the_same_words_differ(server):
    assert (embed(server, TEXTS) != embed(server, TEXTS, extra_body={"input_type": "query"})).any()


@pytest.mark.parametrize("given", [[], [""], [1, 2], "a\x00b", None, ["x"] * 257])
def test_an_input_without_meaning_is_refused(server, given):
    answer = server.post("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


def test_usage_counts_the_tokens_that_were_read(server):
    usage = server.post("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": ["sea", "sea " * 100]}).json()["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > 100


def test_a_text_of_the_one_character_that_becomes_eighteen_does_no_harm(server):
    together = embed(server, ["\ufdfa" * 400, TEXTS[0]])

    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert (embed(server, TEXTS[0])[0] == together[1]).all()


def test_the_tokens_of_texts_are_counted_before_they_are_embedded(server):
    texts = {"input": TEXTS, "input_type": "query"}
    counted = server.post("/tokenize", texts).json()
    assert counted == {"count": embed_usage(server, **texts)}
    assert server.post("/tokenize", {"input": "a b c " * 8000}).status_code == 400
    assert server.post("/tokenize", {"input": [1]}).status_code == 400


def test_a_short_request_waits_for_one_text_of_a_long_one_and_not_for_all(server, threads):
    # Given a request of many texts that is being embedded
    long = threads.submit(embed, server, ["word " * 60] * 16)
    wait_until(lambda: server.queue("embeddings") == 1)

    # When a short one comes
    short = embed(server, TEXTS[:1])

    # Then it is answered while the long one goes on, and that one is whole in the end
    assert not long.done()
    assert np.allclose(np.linalg.norm(long.result(), axis=1), 1, atol=1e-5)
    assert len(short) == 1 and len(long.result()) == 16


def embed_usage(server, **body) -> int:
    return server.post("/v1/embeddings", {"model": EMBEDDING_MODEL, **body}).json()["usage"]["prompt_tokens"]
