"""Numbers of this process for Prometheus, on a port of their own that no buyer reaches.

Labels are few and known: stages, ends and error codes of this program. No model, key or buyer is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from . import config
from .leases import Leases

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
STAGES = ("auth", "receive", "prepare", "reserve", "upstream_first_byte", "upstream", "capture", "send")
ENDS = ("succeeded", "failed", "left", "refused", "replayed", "dropped")
_CODES_MAX = 100

_seconds = Histogram(
    "openledger_gateway_stage_seconds",
    "Time of each stage of a call.",
    ["stage"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
    registry=REGISTRY,
)
_calls = Counter("openledger_gateway_calls", "Calls by their end.", ["end"], registry=REGISTRY)
SECONDS = {stage: _seconds.labels(stage) for stage in STAGES}
CALLS = {end: _calls.labels(end) for end in ENDS}
RESPONSES = Counter("openledger_gateway_responses", "Answers by their HTTP status.", ["status"], registry=REGISTRY)
BATCH = Histogram(
    "openledger_gateway_capture_batch_calls",
    "Calls stored by one statement.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
    registry=REGISTRY,
)
LEASES = Gauge("openledger_gateway_leases", "Leases that this process holds.", registry=REGISTRY)
HELD = Gauge("openledger_gateway_held_nano", "nano-OPEN that these leases hold.", registry=REGISTRY)
RUNNING = Gauge("openledger_gateway_requests_running", "Requests that run now.", registry=REGISTRY)
READY = Gauge("openledger_gateway_ready", "1 if this process takes calls.", registry=REGISTRY)


class _Errors:
    """Errors by code. Codes stand in this program; should one be made up some day, it must not make a label."""

    def __init__(self) -> None:
        self._counter = Counter("openledger_gateway_errors", "Errors by their code.", ["code"], registry=REGISTRY)
        self._known: set[str] = set()

    def count(self, code: str) -> None:
        if code not in self._known:
            if len(self._known) >= _CODES_MAX:
                code = "other"
            self._known.add(code)
        self._counter.labels(code).inc()


ERRORS = _Errors()


def listen(number: int, *, leases: Leases, is_ready: Callable[[], bool]) -> Listener | None:
    """Serve the numbers of the process of this number, if a port is set for that."""
    LEASES.set_function(lambda: leases.held()[0])
    HELD.set_function(lambda: leases.held()[1])
    READY.set_function(is_ready)
    if not config.METRICS_PORT:
        return None
    return Listener(config.METRICS_HOST, config.METRICS_PORT + number, is_ready=is_ready)


class Listener:
    """Answers `/metrics` and `/readyz` from a thread, until the process has ended its last call.

    Args:
        is_ready: Whether this process takes calls.
    """

    def __init__(self, host: str, port: int, *, is_ready: Callable[[], bool]):
        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._send(200, generate_latest(REGISTRY), "text/plain; version=0.0.4; charset=utf-8")
                elif self.path == "/readyz":
                    ready = is_ready()
                    self._send(200 if ready else 503, b"ready\n" if ready else b"not ready\n", "text/plain")
                else:
                    self._send(404, b"", "text/plain")

            def _send(self, status: int, payload: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
