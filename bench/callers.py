"""Clients who ask again with their Idempotency-Key until they have an answer, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

_ANSWER_S, _ASKED_S, _PAUSE_S = 20.0, 120.0, 0.1
_AGAIN = frozenset((409, 429, 500, 502, 503, 504))


@dataclass(frozen=True)
class Call:
    """A request. One without a key of its own is dropped by its client as soon as a part of the answer is there."""

    path: str
    body: dict
    secret: str
    key: str = ""


class Answer(NamedTuple):
    """Its status if it came whole, else 0. `receipt` and `retry_after`: what its head says, or nothing."""

    status: int
    receipt: str
    retry_after: str
    took_s: float


@dataclass
class Heard:
    """What all clients heard: receipts of whole answers and of dropped ones, and how many calls were refused for money."""

    answered: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    refused: int = 0
    repeated: int = 0  # times that somebody had to ask again

    @property
    def calls(self) -> int:
        return len(self.answered) + len(self.dropped) + self.refused


async def work(
    ports: Sequence[int], call_of: Callable[[int], Call], heard: Heard, goes_on: Callable[[], bool], seed: str
) -> None:
    """Make call after call, each on any of the ports, as long as one goes on.

    Raises:
        TimeoutError: a call had no answer in two minutes. AssertionError: an answer that nobody expects.
    """
    chance, number = random.Random(seed), 0
    while goes_on():
        call = call_of(number)
        number += 1
        if call.key:
            await _until_answered(ports, call, heard, chance)
        elif receipt := (await ask(chance.choice(ports), call, drops=True)).receipt:
            heard.dropped.add(receipt)


async def _until_answered(ports: Sequence[int], call: Call, heard: Heard, chance: random.Random) -> None:
    give_up_at = time.monotonic() + _ASKED_S
    while True:
        status, receipt, _, _ = await ask(chance.choice(ports), call)
        if status == 200:
            heard.answered.append(receipt)
            return
        if status == 402:
            heard.refused += 1
            return
        assert status in _AGAIN or not status, f"{call.path} was answered with {status}"
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{call.path} has no answer, but {status}")
        heard.repeated += 1
        await asyncio.sleep(_PAUSE_S)


async def ask(port: int, call: Call, *, drops: bool = False) -> Answer:
    """Make a call on a connection of its own. `drops`: close it as soon as a part of a stream is there."""
    raw, began = bytearray(), time.perf_counter()
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_request(call))
                while part := await reader.read(65536):
                    raw += part
                    if drops and b"data: " in raw:
                        break
            finally:
                writer.close()
    except (OSError, TimeoutError):
        pass
    head, _, body = bytes(raw).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    is_whole = body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") or len(body) == int(
        headers.get(b"content-length", b"-1")
    )
    said = (headers.get(name, b"").decode() for name in (b"x-receipt-id", b"retry-after"))
    return Answer(int(lines[0].split()[1]) if is_whole else 0, *said, time.perf_counter() - began)


def _request(call: Call) -> bytes:
    payload = orjson.dumps(call.body)
    head = f"POST {call.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {call.secret}\r\ncontent-length: {len(payload)}\r\n"
    head += f"idempotency-key: {call.key}\r\n" if call.key else ""
    return f"{head}\r\n".encode() + payload
