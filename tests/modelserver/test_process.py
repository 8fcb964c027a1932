"""The process itself: who may call it, what it refuses, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import requests

from modelserver import config
from tests.processes import ROOT

from .conftest import KEY, running_server

PATHS = ["/v1/chat/completions", "/v1/embeddings", "/tokenize", "/score"]


@pytest.mark.parametrize("path", [*PATHS, "/nowhere"])
@pytest.mark.parametrize("key", ["", "wrong", KEY[:-1], "\u00e9"])
def test_nobody_is_served_without_the_key(server, path, key):
    headers = {"authorization": f"Bearer {key}".encode("latin-1")}
    answer = requests.post(server.url + path, json={}, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_health_is_public_and_the_list_of_models_is_not(server):
    health = requests.get(f"{server.url}/health", timeout=60).json()
    assert (health["status"], health["chat"], health["embeddings"]) == ("ok", "ready", "ready")
    assert requests.get(f"{server.url}/v1/models", timeout=60).status_code == 401
    assert [model.id for model in server.openai.models.list()] == [config.CHAT_MODEL, config.EMBEDDING_MODEL]


def test_wrong_addresses_and_methods_are_named(server):
    headers = {"authorization": f"Bearer {KEY}"}
    assert server.post("/nowhere", {}).status_code == 404
    assert requests.get(f"{server.url}/score", headers=headers, timeout=60).status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"a": "\\ud800"}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(server, body):
    headers = {"authorization": f"Bearer {KEY}"}
    answer = requests.post(f"{server.url}/tokenize", data=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_two_megabytes_is_refused(server, chunked):
    body = b"x" * (config.BODY_BYTES_MAX + 1)
    pieces = (body[i : i + 65536] for i in range(0, len(body), 65536))
    headers = {"authorization": f"Bearer {KEY}"}
    answer = requests.post(f"{server.url}/tokenize", data=pieces if chunked else body, headers=headers, timeout=60)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body", [{}, {"model": 1}, {"messages": "x", "model": config.CHAT_MODEL}, {"text": 1}, {"answer": ["x"]}]
)
def test_an_odd_body_is_refused_and_never_a_crash(server, path, body):
    assert server.post(path, body).status_code in (400, 404)


def test_without_weights_chat_says_what_is_missing_and_embeddings_work():
    with running_server(MODELS_WEIGHTS="/nonexistent") as server:
        assert requests.get(f"{server.url}/health", timeout=60).json()["chat"] == "missing"
        chat = {"model": config.CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        for path, body in (
            ("/v1/chat/completions", chat),
            ("/tokenize", {"text": "Hi"}),
            ("/score", {"prompts": [chat["messages"]], "answer": "Hi"}),
        ):
            answer = server.post(path, body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_missing")
            assert "requirements-models.txt" in answer.json()["error"]["message"]
        assert server.post("/v1/embeddings", {"model": config.EMBEDDING_MODEL, "input": "Hi"}).ok


def test_sigterm_ends_a_running_answer_and_the_process(server):
    with running_server() as other:
        stream = other.chat("Write a long story.", stream=True, max_tokens=1500, temperature=1.5, seed=3)
        next(iter(stream))
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(timeout=60) == 0


def test_it_does_not_start_without_a_key():
    ended = subprocess.run(
        [sys.executable, "-m", "modelserver", "--port", "1"],
        cwd=ROOT,
        env={**os.environ, "MODELS_API_KEY": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "MODELS_API_KEY" in ended.stderr
