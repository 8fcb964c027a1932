"""A real gateway process on a free port, on a database of its own, with a fake model server outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, TypeVar

import openai
import pytest
import requests
from django.conf import settings
from django.db import connection

from marketplace import privileges
from tests.gateway import shop as shops
from tests.gateway import upstream as fake_upstream
from tests.processes import start_on_a_port

Found = TypeVar("Found")


@dataclass
class Gateway:
    """A running process and the ways to call it."""

    process: subprocess.Popen
    port: int
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    def post(self, path: str, body, *, key: str = "", timeout_s: float = 60, **headers: str) -> requests.Response:
        return requests.post(self.url + path, json=body, headers=_headers(key, headers), timeout=timeout_s)

    def get(self, path: str, *, key: str = "", **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=_headers(key, headers), timeout=30)

    def classify(self, key: str, *, model: str = "erin/tumours", input=shops.ROW, **headers: str) -> requests.Response:
        return self.post("/v1/classify", {"model": model, "input": input}, key=key, **headers)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


def _headers(key: str, more: dict[str, str]) -> dict[str, str]:
    known = {"authorization": f"Bearer {key}"} if key else {}
    return known | {name.replace("_", "-"): value for name, value in more.items()}


def wait_for(look: Callable[[], Found], *, timeout_s: float = 20) -> Found:
    """Look until something is found, and return it."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.02)
    return found


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
    wait_for(condition, timeout_s=timeout_s)


def application_url(books) -> str:
    """The database, as the application's role."""
    return os.environ["DATABASE_APP_URL"].rsplit("/", 1)[0] + f"/{books.name}"


@contextlib.contextmanager
def running_gateway(
    books, *, module: str = "marketplace.gateway", log: IO[bytes] | None = None, **environment: str
) -> Iterator[Gateway]:
    """The process, connected as the application's role. `log`: a file for what it writes."""
    process, port = start_on_a_port(
        [module],
        environment={
            "DATABASE_URL": application_url(books),
            "WITNESS_QUORUM": "0",
            "SITE_URL": "http://testserver",
            **environment,
        },
        is_up=_is_up,
        log=log,
    )
    gateway = Gateway(process, port)
    try:
        yield gateway
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            gateway.stop()
        process.kill()


def _is_up(process: subprocess.Popen, port: int) -> bool:
    try:
        return Gateway(process, port).get("/health").status_code == 200
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="session")
def upstream() -> Iterator:
    server = fake_upstream.start()
    yield server
    server.shutdown()


def open_shop(books, upstream) -> shops.Shop:
    """A model with a made-up Datanet, and connected ones of every behaviour."""
    opened = open_connected_shop(books, upstream)
    opened.models["tumours"] = shops.linear_model(datanet_versions=[shops.frozen_datanet()])
    return opened


def open_connected_shop(books, upstream) -> shops.Shop:
    """Connected models of every behaviour, and the rights of the application's role."""
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    address = f"127.0.0.1:{upstream.server_port}"
    settings.OUTBOUND_ALLOW = [address]
    opened = shops.Shop(books, upstream)
    for behaviour in ("fine", "slow", "dead", "error", "busy", "breaks", "no-usage", "greedy", "headers"):
        opened.models[behaviour] = shops.connected_model(behaviour, f"http://{address}/v1")
    return opened


@pytest.fixture(scope="module")
def shop(books_of_module, upstream) -> Iterator[shops.Shop]:
    before = settings.OUTBOUND_ALLOW
    yield open_shop(books_of_module, upstream)
    settings.OUTBOUND_ALLOW = before


@pytest.fixture(scope="module")
def gateway(shop) -> Iterator[Gateway]:
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]) as running:
        yield running
