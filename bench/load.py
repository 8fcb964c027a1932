"""A load of chat calls on one address: so many clients, each with a connection that it keeps and one call at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools
import orjson

_SILENCE_S = 60


@dataclass
class Load:
    """What came of it. `seconds` is until the last answer; an answer counts as `succeeded` if it is whole."""

    seconds: float = 0.0
    succeeded: int = 0
    failed: Counter[int] = field(default_factory=Counter)  # by status; 200: it was not whole
    latencies_s: list[float] = field(default_factory=list)  # of those that succeeded
    receipts: list[str] = field(default_factory=list)  # of those that succeeded, where they carry one

    @property
    def rate(self) -> float:
        return self.succeeded / self.seconds

    @property
    def p50_ms(self) -> float:
        return sorted(self.latencies_s)[len(self.latencies_s) // 2] * 1000


def request(model: str, *, key: str, stream: bool = False) -> bytes:
    """A chat call, ready to be sent."""
    body: dict = {"model": model, "messages": [{"role": "user", "content": "Tell me of the wren."}], "max_tokens": 64}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    payload = orjson.dumps(body)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {key}\r\ncontent-length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


async def put(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Load:
    """Let client n send `requests[n % len]` again and again for so long; what was begun is awaited.

    Raises:
        ConnectionError: the other side closed a connection. TimeoutError: no answer came in a minute.
    """
    loop, load = asyncio.get_running_loop(), Load()
    opened = [
        await loop.create_connection(lambda n=n: _Client(requests[n % len(requests)], load), "127.0.0.1", port)
        for n in range(clients)
    ]
    start = time.perf_counter()
    for _, client in opened:
        client.call_until(start + seconds)
    async with asyncio.timeout(seconds + _SILENCE_S):
        await asyncio.gather(*(client.done for _, client in opened))
    load.seconds = time.perf_counter() - start
    for transport, _ in opened:
        transport.close()
    return load


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, load: Load) -> None:
        self._request, self._load = request, load
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call_until(self, end: float) -> None:
        self._end = end
        self._call()

    def _call(self) -> None:
        self._body: list[bytes] = []
        self._receipt = ""
        self._parser = httptools.HttpResponseParser(self)
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the connection was closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-receipt-id":
            self._receipt = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        now, status, load = time.perf_counter(), self._parser.get_status_code(), self._load
        if status == 200 and self._is_whole(b"".join(self._body)):
            load.succeeded += 1
            load.latencies_s.append(now - self._began)
            if self._receipt:
                load.receipts.append(self._receipt)
        else:
            load.failed[status] += 1
        if now < self._end:
            self._call()
        elif not self.done.done():
            self.done.set_result(None)

    def _is_whole(self, body: bytes) -> bool:
        """Usage is in it; a stream goes on to its last event."""
        return b'"usage":{' in body.replace(b" ", b"") and (
            not body.startswith(b"data:") or body.rstrip().endswith(b"data: [DONE]")
        )
