"""What is told of a call afterwards: one line of JSON, and numbers. Never a prompt, an answer, a key, or a quoted value."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from . import config, metrics
from .charging import Call, Outcome

logger = logging.getLogger("marketplace.gateway.calls")
_FRAMES_MAX = 30


class Record:
    """One request, from its head to its last byte. `endpoint` is empty for what is no call."""

    def __init__(self, request_id: str):
        self.request_id = request_id
        self.endpoint = self.call_id = self.model = self.code = ""
        self.end = "refused"
        self.streamed = self.is_test = False
        self.status = self.prompt_tokens = self.answer_tokens = self.cost_nano = 0
        self.stages: dict[str, float] = {}
        self.began = self.at = time.perf_counter()

    def of(self, call: Call) -> None:
        """It is this call."""
        self.call_id, self.model, self.streamed = call.name, call.version.path, call.streamed
        self.is_test = call.is_test

    def ended(self, outcome: Outcome, cost_nano: int) -> None:
        """It was captured like this."""
        self.end, self.cost_nano = outcome.status, cost_nano
        self.prompt_tokens, self.answer_tokens = outcome.prompt_tokens, outcome.answer_tokens

    def stage(self, name: str) -> None:
        """The stage of this name ends now; the next one begins."""
        now = time.perf_counter()
        self.stages[name] = now - self.at
        self.at = now

    def first_byte(self) -> None:
        """A stream brings its first event: a part of the stage `upstream`, which goes on."""
        if "reserve" in self.stages:  # else it is a replay, and no model was asked
            self.stages["upstream_first_byte"] = time.perf_counter() - self.at

    def finish(self) -> None:
        """Count it, and write its line if it was a call."""
        if self.status:
            metrics.RESPONSES.count(str(self.status))
        if self.code:
            metrics.ERRORS.count(self.code)
        if not self.endpoint:
            return
        metrics.CALLS.count(self.end)
        for name, took_s in self.stages.items():
            metrics.SECONDS.observe(name, took_s)
        if logger.isEnabledFor(logging.INFO):
            LINES.add(self._line())

    def _line(self) -> dict[str, Any]:
        return {
            **_header(time.time(), "INFO", logger.name, "call"),
            "request_id": self.request_id,
            "call_id": self.call_id,
            "endpoint": self.endpoint,
            "model": self.model,
            "streamed": self.streamed,
            "test": self.is_test,
            "end": self.end,
            "status": self.status,
            "code": self.code,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "cost_nano": self.cost_nano,
            "took_ms": _ms(time.perf_counter() - self.began),
            "stages_ms": {name: _ms(took_s) for name, took_s in self.stages.items()},
        }


class Lines:
    """The lines of calls, written some together: the machinery of `logging` took as long as a tenth of a call's work.

    They go where the others go, the standard error stream. Whoever kills the process loses those of LINES_S.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def add(self, line: dict[str, Any]) -> None:
        """Called on the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(config.LINES_S, self.write)
        self._waiting.append(orjson.dumps(line))

    def write(self) -> None:
        """Write what waits."""
        if self._waiting:
            sys.stderr.write(b"\n".join([*self._waiting, b""]).decode())
            sys.stderr.flush()
            self._waiting.clear()


LINES = Lines()


class JsonFormatter(logging.Formatter):
    """A line a record. Of an exception it tells types and places: its words may quote what somebody sent."""

    def format(self, record: logging.LogRecord) -> str:
        # Its first line: asyncio writes whole exceptions into the others.
        message = record.getMessage().split("\n", 1)[0][:500]
        line = _header(record.created, record.levelname, record.name, message)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _places(record.exc_info[1])
        return json.dumps(line)


def _header(at: float, level: str, name: str, message: str) -> dict[str, Any]:
    second, millisecond = divmod(int(at * 1000), 1000)
    return {
        "at": f"{_to_the_second(second)}.{millisecond:03d}+00:00",
        "level": level,
        "logger": name,
        "message": message,
    }


@lru_cache(maxsize=2)
def _to_the_second(second: int) -> str:
    """Remembered: hundreds of lines have the same one."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def configuration(site: dict[str, Any]) -> dict[str, Any]:
    """The site's logging, with lines of JSON."""
    changed = copy.deepcopy(site)
    changed["formatters"]["line"] = {"()": JsonFormatter}
    return changed


def _places(error: BaseException | None) -> list[str]:
    found: list[str] = []
    while error is not None and len(found) < _FRAMES_MAX:
        found.append(type(error).__name__)
        found += [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        error = error.__cause__ or error.__context__
    return found[:_FRAMES_MAX]


def _ms(took_s: float) -> float:
    return int(took_s * 100_000) / 100
