"""A stream while it is heard: what came from the model, and how much of it went to the client."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from . import config
from .charging import Call
from .cycle import Cycle
from .events import delta_of
from .http_client import Reported
from .replies import Reply
from .upstreams import Upstream


class Heard:
    """What came from the model, and how much of it went to the client. `finishes`: it is heard to its end in any case."""

    def __init__(self, *, finishes: bool) -> None:
        self._finishes = finishes
        self.upstream: Upstream | None = None
        self._pieces: list[str] = []  # joined at the end: adding each to a text would copy it each time
        self._sent: list[str] = []
        self.pieces = 0
        self.sent_pieces = 0
        self.missed = False
        self.reason: str | None = None
        self.usage: Any = None
        self.done = False
        self.stuck = False
        self.sending_s = 0.0
        self._tools: dict[int, dict[str, Any]] = {}
        self._arguments: dict[int, list[str]] = {}

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def sent_text(self) -> str:
        return "".join(self._sent)

    async def take(self, event: dict[str, Any] | None, call: Call, reply: Reply, client: Cycle) -> None:
        """Keep what an event says, and pass it on if somebody is there. Raises Failed."""
        if event is None:
            self.done = True
            return
        if "error" in event:
            raise Reported("The model's server reported an error.")
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices") or []
        if not choices:
            return
        delta, reason = choices[0].get("delta") or {}, choices[0].get("finish_reason")
        piece = delta.get("content") or ""
        if not isinstance(piece, str):
            raise TypeError
        self._pieces.append(piece)
        for part in delta.get("tool_calls") or []:
            self._tool(part)
        says_something = bool(piece or delta.get("tool_calls"))
        self.pieces += says_something
        self.reason = reason or self.reason
        if client.disconnected or self.stuck or not await self._pass_on(delta_of(call, delta, reason), reply, client):
            self.missed = self.missed or says_something
        elif says_something:
            self._sent.append(piece)
            self.sent_pieces += 1

    async def _pass_on(self, event: dict[str, Any], reply: Reply, client: Cycle) -> bool:
        if reply.started and not client.is_behind:  # nothing waits below: a limit of time was a fifth of a stream's CPU
            await reply.event(event)
            return True
        began = time.monotonic()
        try:
            async with asyncio.timeout(config.SEND_S):
                if not reply.started:  # not before the first event: an earlier failure can still be a status
                    await reply.start_events()
                await reply.event(event)
        except TimeoutError:
            self.stuck = True
        self.sending_s += time.monotonic() - began
        if self._finishes and self.sending_s > config.CALL_TIMEOUT_S / 2:
            self.stuck = True  # who reads this slowly would keep the answer from its end: a failure, and free
        return not self.stuck

    def tool_calls(self) -> list[dict[str, Any]] | None:
        for index, pieces in self._arguments.items():
            self._tools[index]["function"]["arguments"] = "".join(pieces)
        return [self._tools[index] for index in sorted(self._tools)] or None

    def _tool(self, part: dict[str, Any]) -> None:
        index = int(part.get("index", 0))
        known = self._tools.setdefault(index, {"type": "function", "function": {"arguments": ""}})
        if part.get("id"):
            known["id"] = part["id"]
        function = part.get("function") or {}
        if function.get("name"):
            known["function"]["name"] = function["name"]
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            raise TypeError
        self._arguments.setdefault(index, []).append(arguments)
