"""Server-sent events of a chat: those that come from a model, and those that go to a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from .charging import Call
from .http_client import Failed

_EVENT_BYTES_MAX = 1024 * 1024


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any] | None]:
    """Server-sent events: JSON objects, and None for `[DONE]`. Raises Failed at a line that does not end."""
    begun = bytearray()  # of a line whose end has not come; each byte is looked at once, however they are cut
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line = bytes(begun + part) if begun else part
            begun.clear()
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                yield None
                return
            yield orjson.loads(data)
        begun += rest
        if len(begun) > _EVENT_BYTES_MAX:
            raise Failed("An event is too large.")


def chunk_of(call: Call) -> dict[str, Any]:
    """An event without its choices."""
    kind = "text_completion" if call.endpoint == "completions" else "chat.completion.chunk"
    return {**call.envelope, "object": kind}


def delta_of(call: Call, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """An event with a piece of the answer."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if call.endpoint == "completions":
        choice["text"] = delta.get("content") or ""
    else:
        choice["delta"] = {
            name: delta[name] for name in ("role", "content", "refusal", "tool_calls") if delta.get(name) is not None
        }
    return {**chunk_of(call), "choices": [choice]}
