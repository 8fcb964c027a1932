"""HTTP/1.1 as this gateway takes it: uvicorn's parser, with bounds, deadlines, and refusals in our own form.

What uvicorn leaves open, and is closed here: a head without an end, a connection that says nothing, a client that sends a
body nobody reads or reads no answer, headers that two readers could understand differently, and errors as plain text.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from . import config, metrics
from .cycle import Cycle
from .errors import ApiError, malformed, too_slow_to_send

# Two of them would let a proxy and this process see two different requests, or two payers.
_ONCE = frozenset(
    (
        b"authorization",
        b"content-length",
        b"host",
        b"idempotency-key",
        b"transfer-encoding",
        b"x-max-cost",
        b"x-price-version",
    )
)


class _Refused(Exception):
    """Raised inside a callback of the parser."""

    def __init__(self, error: ApiError):
        super().__init__(error)
        self.error = error


def head_too_large() -> ApiError:
    return ApiError(
        431,
        f"Send at most {config.HEADERS_MAX} headers, of {config.HEAD_BYTES_MAX} bytes together with the address.",
        code="headers_too_large",
    )


def too_many_connections() -> ApiError:
    return ApiError(503, "The gateway has too many connections. Try again.", code="gateway_busy", retry_after_s=1)


class Protocol(HttpToolsProtocol):
    """One connection. A request is read in two parts, its head and its body; each has an end by the clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._answering: Cycle | None = None  # the first of those that wait; `cycle` is the last
        super().connection_made(transport)
        if len(self.connections) > config.CONNECTIONS_MAX:
            self._refuse(too_many_connections())
        else:
            self._arm(config.HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._stop_write_timer()
        if self._answering is not None:
            self._answering.leave()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing():
            piece = data
            if self._in_head:
                piece = data[: max(1, config.HEAD_BYTES_MAX - self._head_bytes)]
                self._head_bytes += len(piece)
            data = data[len(piece) :]
            if not self._parse(piece):
                return
            if self._in_head and self._head_bytes >= config.HEAD_BYTES_MAX:
                self._refuse(head_too_large())
                return
        if self._in_head and self._head_bytes and self._timer is None:
            self._arm(config.HEAD_S, self._head_is_late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if len(self.headers) >= config.HEADERS_MAX or self._size > config.HEAD_BYTES_MAX:
            raise _Refused(head_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= config.PIPELINED_MAX:  # each answer lets more be read: the queue would grow for ever
            raise _Refused(malformed("Too many requests at once on one connection."))
        self._check_head()
        self._in_head, self._head_bytes = False, 0
        self._disarm()
        before, self.cycle = self.cycle, Cycle(self, self._addressed())
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._disarm()
        if self.cycle.response_complete and not self.pipeline:  # the rest of a body that nobody waited for
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._stop_writing_soon()
        elif not self._in_head:
            # Answered before its body was here: it may be sent to its end, or its sender would not see our answer.
            self._arm(config.LINGER_S, self._close)
        elif self._head_bytes and not self.pipeline:
            self._arm(config.HEAD_S, self._head_is_late)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._stop_writing_soon()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_writing_soon()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cast(Cycle, cycle)
        super()._start_asgi_task(cycle, app)

    def _parse(self, piece: bytes) -> bool:
        """Whether the connection goes on."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # no other protocol is spoken here: it is answered in this one
            self.cycle.keep_alive = False
        except httptools.HttpParserError as problem:
            cause = problem.__context__
            self._refuse(cause.error if isinstance(cause, _Refused) else malformed())
            return False
        return True

    def _addressed(self) -> dict[str, Any]:
        """The ASGI scope, with the request line in it."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        url = httptools.parse_url(self.url)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        scope["raw_path"] = url.path
        scope["path"] = unquote(url.path.decode("ascii"))
        scope["query_string"] = url.query or b""
        return scope

    def _check_head(self) -> None:
        names = [name for name, _ in self.headers]
        if len(names) > len(set(names)):
            for name in _ONCE:
                if names.count(name) > 1:
                    raise _Refused(malformed(f"The header {name.decode()} may stand once only."))
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _Refused(malformed("This server speaks HTTP/1.1."))
        if version == "1.1" and b"host" not in names:
            raise _Refused(malformed("The header host is missing."))
        if b"transfer-encoding" not in names:
            return
        coding = dict(self.headers)[b"transfer-encoding"]
        if coding.lower() != b"chunked" or b"content-length" in names or version == "1.0":
            raise _Refused(malformed("transfer-encoding can only be chunked, and without content-length."))

    def _head_is_late(self) -> None:
        self._timer = None
        if self._running():  # of the request before: what comes behind it has time until that is answered
            return
        if self._head_bytes:
            self._refuse(too_slow_to_send())
        else:  # it never began one
            self._close()

    def _running(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be read as a request, and close the connection."""
        if self.transport.is_closing():
            return
        metrics.ERRORS.count(error.code)
        if self._running():
            if self._in_head:  # the request before it is whole: its answer comes first, and is the last one
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if self.cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            cast(Cycle, self.cycle).leave()  # its body will not come to its end
        self.transport.write(refusal(error))
        self._close()

    def _close(self) -> None:
        self._disarm()
        self.transport.close()
        self._stop_writing_soon()

    def _stop_writing_soon(self) -> None:
        """A client that does not take what is written keeps its connection, and our memory, for so long only."""
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(config.SEND_S, self.transport.abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _arm(self, after_s: float, act: Callable[[], Any]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(after_s, act)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def refusal(error: ApiError) -> bytes:
    """A whole answer, for where there is no request to answer."""
    payload = orjson.dumps(error.body)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(payload)),
        "connection": "close",
        "x-request-id": uuid.uuid4().hex,
        **error.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[error.status] + lines.encode() + b"\r\n" + payload
