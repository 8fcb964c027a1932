"""One request and its answer on a connection: uvicorn's cycle, with less work for an answer that is sent whole.

uvicorn writes an answer's head and its body in two system calls, and looks at each header with two patterns: together they
took a tenth of a call's time. And it tells that a client has left only to a task that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

if TYPE_CHECKING:
    from .protocol import Protocol

#: Where the scope names the cycle itself: for what ASGI cannot say.
EXTENSION = "openledger.cycle"


class Cycle(RequestResponseCycle):
    """An ASGI exchange. Answers carry a content-length, or are chunked."""

    def __init__(self, protocol: Protocol, scope: dict[str, Any]):
        scope["extensions"] = {EXTENSION: self}
        super().__init__(
            scope=scope,  # type: ignore[arg-type]
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=protocol.expect_100_continue,
            keep_alive=scope["http_version"] != "1.0" and protocol.parser.should_keep_alive(),
            on_response=protocol.on_response_complete,
        )
        self._head = b""  # of an answer whose body follows at once
        self._when_left: Callable[[], object] | None = None

    def take_body(self) -> bytes | None:
        """The body, if all of it came with its head, as it nearly always does; else None: `receive` waits for it."""
        if self.more_body or self.disconnected or self.waiting_for_100_continue:
            return None
        body = bytes(self.body)
        self.body.clear()
        return body

    def when_left(self, act: Callable[[], object]) -> None:
        """Call `act` once when the client closes the connection; at once if it has. The body must have been read."""
        self.flow.resume_reading()  # a connection that is not read never tells that it ended
        self._when_left = act
        if self.disconnected:
            act()

    @property
    def is_behind(self) -> bool:
        """Whether the client has yet to take what was sent before: then `send` waits for it."""
        return self.flow.write_paused

    def leave(self) -> None:
        """Let whoever works on this request see that its client has left."""
        self.disconnected = True
        self.message_event.set()
        if self._when_left is not None:
            self._when_left()

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message["status"], message["headers"])
        elif self.response_complete:
            raise RuntimeError("The answer is complete already.")
        else:
            self._write(message["body"], is_last=not message.get("more_body", False))

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        self.chunked_encoding = status != 204
        for name, value in headers:
            if name == b"content-length":
                self.chunked_encoding = False
                self.expected_content_length = int(value)
            lines += (name, b": ", value, b"\r\n")
        if self.chunked_encoding:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != 1 + len(headers) + self.chunked_encoding + (not self.keep_alive) or b"\0" in head:
            raise RuntimeError("A header holds a line break or a NUL.")
        if self.chunked_encoding:
            self.transport.write(head + b"\r\n")
        else:
            self._head = head + b"\r\n"

    def _write(self, body: bytes, *, is_last: bool) -> None:
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if is_last:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
        if body or self._head:
            self.transport.write(self._head + body)
            self._head = b""
        if not is_last:
            return
        if self.expected_content_length:
            raise RuntimeError("The answer has another length than its content-length.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
