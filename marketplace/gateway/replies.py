"""Requests in, answers out: bounded bodies, JSON, server-sent events, cross-origin headers for the pages of keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import orjson

from . import config
from .cycle import EXTENSION, Cycle
from .errors import ApiError, ClientLeft, invalid, too_slow_to_send
from .logs import Record

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_EXPOSED = (
    b"x-receipt-id, x-request-id, x-idempotent-replay, retry-after, x-ratelimit-limit-requests, "
    b"x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_ALLOWED = b"authorization, content-type, idempotency-key, x-max-cost, x-price-version"


class Reply:
    """One answer, started at most once. Headers may be added until then."""

    def __init__(self, send: Send, *, request_id: str, origin: str = "", without_body: bool = False):
        self._send = send
        self._origin = origin
        self._without_body = without_body
        self.record = Record(request_id)
        self.headers: dict[bytes, bytes] = {b"x-request-id": self.record.request_id.encode(), b"vary": b"origin"}
        self.started = False

    def allow_pages_of(self, origins: Collection[str]) -> None:
        """Let the page that asks read the answer, if its origin is one of these."""
        if self._origin in origins:
            self.headers[b"access-control-allow-origin"] = self._origin.encode()
            self.headers[b"access-control-expose-headers"] = _EXPOSED

    def add(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.headers[name.encode()] = value.encode("latin-1", "replace")

    async def json(self, status: int, body: Any) -> None:
        await self.payload(status, orjson.dumps(body))

    async def payload(self, status: int, payload: bytes) -> None:
        self.headers[b"content-type"] = b"application/json"
        self.headers[b"content-length"] = b"%d" % len(payload)
        await self._start(status)
        await self._send({"type": "http.response.body", "body": b"" if self._without_body else payload})

    async def start_events(self) -> None:
        self.headers[b"content-type"] = b"text/event-stream"
        self.headers[b"cache-control"] = b"no-store"
        self.record.first_byte()
        await self._start(200)

    async def event(self, body: Any) -> None:
        await self._part(b"data: " + orjson.dumps(body) + b"\n\n")

    async def end_events(self) -> None:
        await self._part(b"data: [DONE]\n\n", more=False)

    async def error(self, error: ApiError) -> None:
        """Say what is wrong: as the answer, or, once a stream runs, as its last event (without `[DONE]`)."""
        self.record.code = error.code
        if self.started:
            await self._part(b"data: " + orjson.dumps(error.body) + b"\n\n", more=False)
            return
        self.add(error.headers)
        if error.status == 401:
            self.headers[b"www-authenticate"] = b"Bearer"
        await self.json(error.status, error.body)

    async def preflight(self) -> None:
        self.headers[b"access-control-allow-methods"] = b"GET, POST, OPTIONS"
        self.headers[b"access-control-allow-headers"] = _ALLOWED
        self.headers[b"access-control-max-age"] = b"600"
        self.headers[b"content-length"] = b"0"
        await self._start(204)
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int) -> None:
        self.started = True
        self.record.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": list(self.headers.items())})

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def header(scope: Scope, name: bytes) -> str:
    """The first header of this lower-case name, or an empty string."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Read the body.

    Raises:
        ApiError: 413 beyond the limit, 408 if it takes too long. ClientLeft: the connection closed before the end.
    """
    length = header(scope, b"content-length")
    if length.isdigit() and int(length) > config.BODY_BYTES_MAX:
        raise _too_large()
    cycle: Cycle = scope["extensions"][EXTENSION]
    body = cycle.take_body()
    if body is None:
        try:
            async with asyncio.timeout(config.BODY_S):
                return await _rest(receive)
        except TimeoutError:
            raise too_slow_to_send() from None
    if len(body) > config.BODY_BYTES_MAX:
        raise _too_large()
    return body


async def _rest(receive: Receive) -> bytes:
    parts = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts += message["body"]
        if len(parts) > config.BODY_BYTES_MAX:
            raise _too_large()
        more = message["more_body"]
    return bytes(parts)


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than {config.BODY_BYTES_MAX} bytes.", code="body_too_large")


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ApiError 400."""
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets + raw.count(b",") > config.JSON_VALUES_MAX:  # parsing keeps everybody waiting, in a thread as well
        raise invalid(f"The body has more than {config.JSON_VALUES_MAX} values.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise invalid("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    if brackets > config.JSON_DEPTH_MAX and _is_deep(body):
        raise invalid(f"The body is nested more than {config.JSON_DEPTH_MAX} levels deep.")
    return body


def _is_deep(body: dict[str, Any]) -> bool:
    level: list[Any] = [body]
    for _ in range(config.JSON_DEPTH_MAX):
        inside = (one for each in level for one in (each.values() if isinstance(each, dict) else each))
        level = [one for one in inside if isinstance(one, dict | list)]
    return bool(level)
