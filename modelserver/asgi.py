"""The little HTTP that this process needs: bounded JSON bodies in, JSON or server-sent events out, errors as OpenAI's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "service_unavailable"}


class ApiError(Exception):
    """An answer that is not 200. `code` is for programs, the message for people, `param` names the wrong field."""

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after_s: int | None = None
    ):
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        kind = _TYPES.get(status, "invalid_request_error")
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(message: str, param: str | None = None) -> ApiError:
    """A 400 that names the field."""
    return ApiError(400, message, code="invalid_value", param=param)


class ClientLeft(Exception):
    """The caller closed the connection."""


class Reply:
    """One answer, started at most once."""

    def __init__(self, send: Send):
        self._send = send
        self._request_id = uuid.uuid4().hex
        self.started = False

    async def json(self, status: int, body: Any, *, retry_after_s: int | None = None) -> None:
        payload = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        if retry_after_s is not None:
            headers.append((b"retry-after", str(retry_after_s).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": payload})

    async def start_events(self) -> None:
        await self._start(200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])

    async def event(self, body: Any) -> None:
        await self._part(b"data: " + orjson.dumps(body) + b"\n\n")

    async def end_events(self) -> None:
        await self._part(b"data: [DONE]\n\n", more=False)

    async def error(self, error: ApiError) -> None:
        """Say what is wrong: as the answer, or, once a stream runs, as its last event (without `[DONE]`)."""
        if self.started:
            await self._part(b"data: " + orjson.dumps(error.body) + b"\n\n", more=False)
        else:
            await self.json(error.status, error.body, retry_after_s=error.retry_after_s)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        headers = [*headers, (b"x-request-id", self._request_id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _part(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def header(scope: Scope, name: bytes) -> str:
    """The first header of this lower-case name, or an empty string."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return ""


async def read_json(scope: Scope, receive: Receive, *, bytes_max: int) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ApiError: 413 beyond `bytes_max`, 400 if it is not a JSON object.
        ClientLeft: the connection closed before the end.
    """
    too_large = ApiError(413, f"The body is larger than {bytes_max} bytes.", code="body_too_large")
    length = header(scope, b"content-length")
    if length.isdigit() and int(length) > bytes_max:
        raise too_large
    parts = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts += message.get("body", b"")
        if len(parts) > bytes_max:
            raise too_large
        more = message.get("more_body", False)
    try:
        body = orjson.loads(bytes(parts))
    except orjson.JSONDecodeError:
        raise invalid("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    return body


async def while_connected(work: Awaitable[None], receive: Receive) -> None:
    """Await `work`, and cancel it when the client leaves. The body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = not task.done()
        gone.cancel()
        if left:
            task.cancel()
            await asyncio.wait([task])
    if left and task.cancelled():
        raise ClientLeft
    task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
