"""The processes of a site, in the order they start. `up` and docker-compose.yml run exactly these commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

POSTGRES_MAJOR = 18
VALKEY_MAJOR = 9
CANARY_QUEUE = "canary"
#: Addresses of the database with rights that others must not have: only a process that names one receives it.
CLOSELY_HELD = ("DATABASE_OWNER_URL", "DATABASE_SEQUENCER_URL")


@dataclass(frozen=True)
class Process:
    """One process.

    Args:
        name: Of its log file and its compose service.
        command: Arguments after the Python interpreter, with {host}, {port}, {state} and {log_vkey}.
        health: A path that answers 200 once the process can work; empty for a process without a port.
        stop_s: Seconds it may take to end what it is doing.
        receives: Which CLOSELY_HELD addresses it needs.
    """

    name: str
    command: tuple[str, ...]
    health: str = ""
    stop_s: int = 10
    receives: tuple[str, ...] = ()

    def arguments(self, **values: object) -> list[str]:
        """The command with its places filled in."""
        return [part.format(**values) for part in self.command]

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """What it receives of an environment."""
        return {name: value for name, value in given.items() if name not in CLOSELY_HELD or name in self.receives}


def _witness(name: str) -> Process:
    address = ("--host", "{host}", "--port", "{port}")
    identity = ("--state", "{state}/" + name, "--name", name, "--log-vkey", "{log_vkey}")
    return Process(name, ("-m", "ledger.witness", *address, *identity), health="/health")


_WEB = ("-m", "gunicorn", "marketplace.wsgi", "--bind", "{host}:{port}", "--worker-class", "gthread")
_WEB_POOL = ("--workers", "2", "--threads", "4", "--timeout", "60", "--no-control-socket")
# What a browser sends is far below these; a process is renewed now and then, so that nothing grows in it for ever.
_WEB_LIMITS = ("--limit-request-line", "8190", "--limit-request-fields", "100", "--limit-request-field_size", "8190")
_WEB_RENEWAL = ("--max-requests", "20000", "--max-requests-jitter", "2000")
_CELERY = ("-m", "celery", "-A", "marketplace")
# The canary has a queue of its own: behind a hundred long tasks it would tell nothing.
_WORKER_POOL = ("--concurrency", "2", "--queues", f"celery,{CANARY_QUEUE}")

PROCESSES = (
    _witness("witness-1"),
    _witness("witness-2"),
    Process("models", ("-m", "modelserver", "--host", "{host}", "--port", "{port}"), health="/healthz"),
    Process("web", _WEB + _WEB_POOL + _WEB_LIMITS + _WEB_RENEWAL, health="/healthz"),
    # Its calls may end: the longest one, and its capture (END_S of marketplace/gateway/config.py).
    Process(
        "gateway", ("-m", "marketplace.gateway", "--host", "{host}", "--port", "{port}"), health="/healthz", stop_s=150
    ),
    Process("sequencer", ("manage.py", "sequencer"), receives=("DATABASE_SEQUENCER_URL",)),
    Process("worker", (*_CELERY, "worker", *_WORKER_POOL, "--loglevel", "WARNING"), stop_s=30),
    Process("beat", (*_CELERY, "beat", "--loglevel", "WARNING", "--schedule", "{state}/beat-schedule")),
)
