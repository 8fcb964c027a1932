"""Numbers of this process for Prometheus, on a port of their own that no buyer reaches.

Labels are few and known: stages, ends and error codes of this program. No model, key or buyer is one.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from . import config
from .leases import Leases

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
STAGES = ("auth", "receive", "prepare", "reserve", "upstream_first_byte", "upstream", "capture", "send")
ENDS = ("succeeded", "failed", "left", "abstained", "refused", "replayed", "dropped")
LABELS_MAX = 100


class Tally(Collector):
    """A counter by one label, counted by the event loop only: without the library's locks it takes a third of the time.

    Args:
        known: Labels that are told from the start, at 0.
    """

    def __init__(self, name: str, help: str, label: str, known: Sequence[str] = ()):
        self._about, self._label = (name, help), label
        self._counts = dict.fromkeys(known, 0)
        REGISTRY.register(self)

    def count(self, value: str) -> None:
        """Should labels be made up some day, they must not fill the memory: beyond LABELS_MAX they are `other`."""
        if value not in self._counts and len(self._counts) >= LABELS_MAX:
            value = "other"
        self._counts[value] = self._counts.get(value, 0) + 1

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(*self._about, labels=[self._label])
        for value, count in self._counts.copy().items():
            family.add_metric([value], count)
        return [family]


class Durations(Collector):
    """A histogram of seconds by one label, counted by the event loop only."""

    def __init__(self, name: str, help: str, label: str, values: Sequence[str], bounds_s: Sequence[float]):
        self._about, self._label, self._bounds_s = (name, help), label, bounds_s
        self._counts = {value: [0] * (len(bounds_s) + 1) for value in values}
        self._sums_s = dict.fromkeys(values, 0.0)
        REGISTRY.register(self)

    def observe(self, value: str, took_s: float) -> None:
        self._counts[value][bisect_left(self._bounds_s, took_s)] += 1
        self._sums_s[value] += took_s

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(*self._about, labels=[self._label])
        names = [*map(floatToGoString, self._bounds_s), "+Inf"]
        for value, counts in self._counts.items():
            family.add_metric([value], list(zip(names, accumulate(counts), strict=True)), self._sums_s[value])
        return [family]


SECONDS = Durations(
    "openledger_gateway_stage_seconds",
    "Time of each stage of a call.",
    "stage",
    STAGES,
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
CALLS = Tally("openledger_gateway_calls", "Calls by their end.", "end", ENDS)
RESPONSES = Tally("openledger_gateway_responses", "Answers by their HTTP status.", "status")
ERRORS = Tally("openledger_gateway_errors", "Errors by their code.", "code")
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


def listen(number: int, *, leases: Leases, running: Callable[[], int], is_ready: Callable[[], bool]) -> Listener | None:
    """Serve the numbers of the process of this number, if a port is set for that. `running`: how many requests do."""
    LEASES.set_function(lambda: leases.held()[0])
    HELD.set_function(lambda: leases.held()[1])
    RUNNING.set_function(running)
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
