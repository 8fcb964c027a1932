"""A small keep-alive HTTP/1.1 client on asyncio and httptools: half the CPU of the ready-made ones, measured.

It connects to the address that `outbound.resolve` checked and to no other, follows no redirect, and bounds time and size:
the connection, the first byte of the body and each silence after it have limits of their own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httptools

from marketplace.outbound import ANSWER_MAX_BYTES, Target

from . import config

_QUEUED_BYTES_MAX = 256 * 1024
_HEAD_BYTES_MAX = 64 * 1024  # and of whatever else is no body: interim answers, chunk extensions, trailers
_IDLE_MAX = 256
HEADS_MAX = 500
_TLS = ssl.create_default_context()


class Failed(Exception):
    """The other side could not be reached, broke off, or did not speak HTTP."""


class Lost(Failed):
    """There was no connection, or it was closed before the end."""


class Reported(Failed):
    """It said itself, within its answer, that it failed on this request."""


class TooSlow(Failed):
    """It did not connect, begin or go on in its time."""


class _Connection(asyncio.Protocol):
    """A connection to a target. `idle`: where those to the same one wait for the next request."""

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._answer: Answer | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._since_body = 0

    def begin(self, answer: Answer) -> None:
        self._answer = answer
        self._parser = httptools.HttpResponseParser(self)
        self._since_body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer is not None:
            self._answer.broken(Lost("The connection was closed before the end of the answer."))

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._parser is None:
            self.abort()  # nobody asked
            return
        answer = self._answer
        answer.any_byte = True
        self._since_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            answer.broken(Failed("The answer is not HTTP."))
            self.abort()
        if self._since_body > _HEAD_BYTES_MAX:
            answer.broken(Failed("The headers are too large."))
            self.abort()

    def abort(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def keep(self) -> None:
        """Its answer is complete: it can take another request."""
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(self)
        elif self.transport is not None:
            self.transport.close()

    # httptools calls these

    def on_status(self, _status: bytes) -> None:
        return

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._answer is not None and self._parser is not None:
            self._answer.started(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        self._since_body = 0
        if self._answer is not None:
            self._answer.more(body)

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and self._parser is not None:
            answer.ended(reusable=bool(self._parser.should_keep_alive()) and not self.closed)


class Answer:
    """An answer that is arriving: `status` and `headers` are there, the body is read once, with `read` or `chunks`."""

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.any_byte = False
        self._connection = connection
        self._chunks: list[bytes] = []
        self._queued = 0
        self._total = 0
        self._paused = False
        self._complete = False
        self._error: Failed | None = None
        self._news: asyncio.Future[None] | None = None  # what the one reader waits for
        self._draining: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._silence_s = 0.0
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None

    async def begun(self, *, within_s: float) -> None:
        """Wait for the first byte of the body, or for the end of an empty one. Raises Failed."""
        self._silence_s, self._heard_at = within_s, self._loop.time()
        while not self._chunks and not self._complete:
            await self._wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes: at each time all that is there. Raises Failed."""
        while True:
            if self._chunks:
                yield self._taken()
            elif self._complete:
                return
            else:
                await self._wait()

    async def read(self) -> bytes:
        """The whole body. Raises Failed."""
        parts = [self._taken()]
        while not self._complete:
            await self._wait()
            parts.append(self._taken())
        return b"".join(parts)

    def drain_later(self) -> None:
        """Its end is near and says nothing new: wait for it in the background, so that the connection can be kept."""
        self._draining = asyncio.ensure_future(self._drain())

    def close(self) -> None:
        """Done with it, read or not: a connection with an unread rest is closed, not kept."""
        if not self._complete and self._draining is None:
            self._connection.abort()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(1):
                async for _ in self.chunks():
                    pass
        except (TimeoutError, Failed):
            self._connection.abort()

    def _taken(self) -> bytes:
        chunk = b"".join(self._chunks)
        self._chunks.clear()
        self._queued = 0
        if self._paused and self._connection.transport:
            self._paused = False
            self._heard_at = self._loop.time()
            self._connection.transport.resume_reading()
        return chunk

    async def _wait(self) -> None:
        """Until something is new. From now on the answer breaks if nothing of its body comes for `_silence_s`."""
        if self._error is not None:
            raise self._error
        if self._watch is None:
            self._watch = self._loop.call_at(self._heard_at + self._silence_s, self._look)
        self._news = self._loop.create_future()
        await self._news
        if self._error is not None and not self._chunks:
            raise self._error

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _look(self) -> None:
        # One timer for the whole answer instead of one for each piece of it: it looks how long ago the last one came.
        now = self._loop.time()
        if self._paused or self._chunks:  # it is we who are slow
            self._heard_at = now
        left_s = self._heard_at + self._silence_s - now
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look)
        else:
            self.broken(TooSlow(f"Nothing came for {self._silence_s:g} s."))
            self._connection.abort()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def started(self, status: int) -> None:
        if 100 <= status < 200:
            return
        self.status = status

    def more(self, body: bytes) -> None:
        self._heard_at = self._loop.time()
        if not self._total:  # from here on pieces follow each other: whoever waits for one watches anew
            self._silence_s = config.UPSTREAM_IDLE_S
            self._stop_watching()
        self._total += len(body)
        if self._total > ANSWER_MAX_BYTES:
            self.broken(Failed("The answer is too large."))
            self._connection.abort()
            return
        self._chunks.append(body)
        self._queued += len(body)
        if self._queued > _QUEUED_BYTES_MAX and not self._paused and self._connection.transport:
            self._paused = True
            self._connection.transport.pause_reading()
        self._tell()

    def ended(self, *, reusable: bool) -> None:
        self._complete = True
        self._stop_watching()
        if self._paused and self._connection.transport and not self._connection.closed:
            self._paused = False
            self._connection.transport.resume_reading()
        if reusable:
            self._connection.keep()
        elif self._connection.transport is not None:
            self._connection.transport.close()
        self._tell()

    def broken(self, why: Failed) -> None:
        self._stop_watching()
        if not self._complete and self._error is None:
            self._error = why
            self._tell()


class Client:
    """Connections by target. One event loop only."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str, str, int], list[_Connection]] = {}

    async def post(self, target: Target, body: bytes, *, key: str, first_byte_s: float) -> Answer:
        """Send JSON and return when the first byte of the answer's body is here. `key`: for its bearer, or empty.

        A kept connection that the other side closed in the meantime is replaced, if not a byte came back.

        Raises:
            Failed: no connection, or it broke before that. TooSlow: it took longer than `first_byte_s`.
        """
        request = b"%b%d\r\n\r\n%b" % (_head(target, key), len(body), body)
        while True:
            connection, was_kept = await self._connection(target)
            answer = Answer(connection)
            connection.begin(answer)
            connection.transport.write(request)  # type: ignore[union-attr]
            try:
                await answer.begun(within_s=first_byte_s)
            except TooSlow:
                raise
            except Failed:
                if was_kept and not answer.any_byte:
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            return answer

    async def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()

    async def _connection(self, target: Target) -> tuple[_Connection, bool]:
        idle = self._idle.setdefault(_key(target), [])
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection, True
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {"ssl": _TLS, "server_hostname": target.host} if target.scheme == "https" else {}
        try:
            async with asyncio.timeout(config.UPSTREAM_CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: _Connection(idle), target.address, target.port, **secure
                )
        except TimeoutError as error:
            raise TooSlow("No connection in time.") from error
        except OSError as error:  # ssl.SSLError is one
            raise Lost(f"No connection: {type(error).__name__}.") from error
        return connection, False


@lru_cache(maxsize=HEADS_MAX)
def _head(target: Target, key: str) -> bytes:
    """A request up to the length of its body."""
    fields = {"host": target.authority, "content-type": "application/json", "accept": "application/json"}
    if key:
        fields["authorization"] = f"Bearer {key}"
    path = quote(target.path, safe="/%?=&:@!$'()*+,;~")
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}content-length: ".encode("latin-1")


def _key(target: Target) -> tuple[str, str, str, int]:
    return target.scheme, target.host, target.address, target.port
