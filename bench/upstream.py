"""A fast stand-in for a model's own server: OpenAI's chat completions, whole and as server-sent events, and no model.

    python -m bench.upstream --port P

The name of the model says what it does: `fast` answers at once, `slow` waits 50 ms first, the stream of `breaks` has no
`[DONE]`. A stream is PIECES events of one token and, if asked for, one with the usage; each is a write of its own, as from a
model that is still thinking.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import httptools
import orjson
import uvloop

WAITS_S = {"fast": 0.0, "slow": 0.05, "breaks": 0.0}
PIECES = 20
PROMPT_TOKENS = 7
_WORD = " word"
_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": PIECES, "total_tokens": PROMPT_TOKENS + PIECES}


def _json(body: dict) -> bytes:
    payload = orjson.dumps(body)
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    status = b"404 Not Found" if "error" in body else b"200 OK"
    return head % (status, len(payload)) + payload


def _event(choices: list[dict], **more: object) -> bytes:
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fast", "choices": choices}
    return _chunk(b"data: " + orjson.dumps(event | more) + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole() -> bytes:
    message = {"role": "assistant", "content": _WORD * PIECES}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fast"}
    return _json(answer | {"choices": [choice], "usage": _USAGE})


def _delta(delta: dict, reason: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "finish_reason": reason}])


# Made once: what is measured is whoever stands in front.
_WHOLE = _whole()
_NOTHING_HERE = _json({"error": {"message": "no such model", "type": "invalid_request_error"}})
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_PIECES = [_delta({"role": "assistant", "content": _WORD}), *[_delta({"content": _WORD})] * (PIECES - 1)]
_REASON, _STREAM_USAGE = _delta({}, "stop"), _event([], usage=_USAGE)
_DONE, _STREAM_END = _chunk(b"data: [DONE]\n\n"), _chunk(b"")


class Connection(asyncio.Protocol):
    """One connection, one request after the other."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = orjson.loads(self._body or b"{}"), b""
        wait_s = WAITS_S.get(body.get("model", ""))
        if wait_s is None:
            self._transport.write(_NOTHING_HERE)
        elif wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._answer, body)
        else:
            self._answer(body)

    def _answer(self, body: dict) -> None:
        if not body.get("stream"):
            self._transport.write(_WHOLE)
            return
        usage = [_STREAM_USAGE] if (body.get("stream_options") or {}).get("include_usage") else []
        self._transport.write(_STREAM_HEAD)
        end = _STREAM_END if body["model"] == "breaks" else _DONE + _STREAM_END
        self._go_on(iter([*_PIECES, _REASON, *usage, end]))

    def _go_on(self, writes) -> None:
        write = next(writes, None)
        if write is not None and not self._transport.is_closing():
            self._transport.write(write)
            asyncio.get_running_loop().call_soon(self._go_on, writes)


async def serve(port: int) -> asyncio.Server:
    """Listen on loopback; port 0 takes one that is free."""
    return await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=1024)


async def _run(port: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await serve(port)
    await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.upstream")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_run(parser.parse_args().port))
