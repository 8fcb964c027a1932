"""Chat answers, whole or as server-sent events, and how each of their ends is counted.

A stream is passed on as it comes, in our own envelope; its usage and `[DONE]` are kept back for the caller of this module,
who sends them once the call is captured.

A call with an Idempotency-Key does not end when its client leaves: the answer is finished and kept for who asks again, so
that a dropped connection and a retry are one charge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson

from . import config, failpoints
from .catalogue import Version
from .charging import Call, Outcome
from .chatting import Prepared
from .errors import ApiError, upstream_failed, upstream_slow
from .http_client import Failed, closing
from .replies import Reply
from .upstreams import Upstreams


def no_usage() -> ApiError:
    return ApiError(502, "The model did not say what it used. Nothing was charged.", code="usage_missing")


async def whole(upstreams: Upstreams, call: Call, prepared: Prepared, gone: asyncio.Future) -> Outcome:
    """Ask for a whole answer. A client that leaves without a key to come back pays the prompt, if it is counted in 2 s.

    Raises:
        ApiError: it failed.
    """
    asked = asyncio.ensure_future(_asked(upstreams, call, prepared))
    try:
        async with asyncio.timeout(config.CALL_TIMEOUT_S):
            awaited = [asked] if call.idempotency_key else [asked, gone]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        await asyncio.wait([asked], timeout=config.DRAIN_S)
    except TimeoutError:
        raise upstream_slow() from None
    finally:
        if not asked.done():
            asked.cancel()
    if asked.done() and not asked.cancelled():  # a failure is one, though nobody waits for it
        return _left(call, prepared, prompt_tokens=asked.result().prompt_tokens)
    if not prepared.counted:  # nothing was sent, and nothing can be counted
        return Outcome("failed", error_code="left_uncounted")
    return _left(call, prepared, prompt_tokens=prepared.prompt_tokens)


async def _asked(upstreams: Upstreams, call: Call, prepared: Prepared) -> Outcome:
    answer = await upstreams.chat(prepared.upstream, prepared.body)
    try:
        async with closing(answer):
            data = orjson.loads(await answer.read())
        choice = data["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason") or "stop"
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError
    except (Failed, orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        raise upstream_failed() from error
    usage = _usage(data.get("usage"), prepared)
    if usage is None:
        raise no_usage()
    return _succeeded(call, prepared, text, message.get("tool_calls"), reason, *usage)


async def stream(upstreams: Upstreams, call: Call, prepared: Prepared, reply: Reply, gone: asyncio.Future) -> Outcome:
    """Pass a stream on, all but its last two events.

    Raises:
        ApiError: it failed; what was sent costs nothing.
    """
    finishes = bool(call.idempotency_key)
    heard = _Heard(finishes=finishes)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(config.CALL_TIMEOUT_S) as limit:
            if not finishes:
                gone.add_done_callback(lambda _: _shorten(limit, loop))
            answer = await upstreams.chat(prepared.upstream, prepared.body)
            async with closing(answer):
                async for event in _events(answer.chunks()):
                    await heard.take(event, call, reply, client_left=gone.done())
                    if heard.stuck and not finishes:
                        _shorten(limit, loop)
                    failpoints.hit("in_stream")
                if heard.done:
                    answer.drain_later()
    except TimeoutError:
        if finishes:
            raise upstream_slow() from None
        # A client that reads slowly is no failure of ours: it leaves, and pays for what it took.
        if heard.sending_s > config.CALL_TIMEOUT_S / 2:
            heard.missed = True
        elif not gone.done() and not heard.stuck:
            raise upstream_slow() from None
    except (Failed, orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
        if finishes or (not gone.done() and not heard.stuck):
            raise upstream_failed() from error
    usage = _usage(heard.usage, prepared)
    nobody_there = gone.done() or heard.stuck
    if not finishes and (heard.missed or (nobody_there and heard.reason is None)):
        return await _left_stream(upstreams, call, prepared, heard, usage)
    if heard.reason is None:
        raise upstream_failed("The model's answer broke off. Nothing was charged.")
    if usage is None:
        raise no_usage()
    outcome = _succeeded(call, prepared, heard.text, heard.tool_calls(), heard.reason, *usage)
    outcome.delivered = not heard.missed
    return outcome


async def send_end(reply: Reply, call: Call, include_usage: bool, response: dict[str, Any]) -> None:
    """The last two events of a stream: usage with `open` (if asked for), and `[DONE]`."""
    if include_usage:
        await reply.event({**_chunk(call), "choices": [], "usage": response["usage"], "open": response["open"]})
    await reply.end_events()


async def replay(reply: Reply, call: Call, include_usage: bool, response: dict[str, Any]) -> None:
    """A stored answer as a stream."""
    await reply.start_events()
    choice = response["choices"][0]
    delta = choice.get("message") or {"content": choice.get("text", "")}
    await reply.event(_delta(call, delta, None))
    await reply.event(_delta(call, {}, choice["finish_reason"]))
    await send_end(reply, call, include_usage, response)


class _Heard:
    """What came from the model, and how much of it went to the client. `finishes`: it is heard to its end in any case."""

    def __init__(self, *, finishes: bool) -> None:
        self._finishes = finishes
        self.text = ""
        self.sent_text = ""
        self.sent_pieces = 0
        self.missed = False
        self.reason: str | None = None
        self.usage: Any = None
        self.done = False
        self.stuck = False
        self.sending_s = 0.0
        self._tools: dict[int, dict[str, Any]] = {}

    async def take(self, event: dict[str, Any] | None, call: Call, reply: Reply, *, client_left: bool) -> None:
        """Keep what an event says, and pass it on if somebody is there. Raises Failed."""
        if event is None:
            self.done = True
            return
        if "error" in event:
            raise Failed("The model's server reported an error.")
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices") or []
        if not choices:
            return
        delta, reason = choices[0].get("delta") or {}, choices[0].get("finish_reason")
        piece = delta.get("content") or ""
        self.text += piece
        for part in delta.get("tool_calls") or []:
            self._tool(part)
        says_something = bool(piece or delta.get("tool_calls"))
        self.reason = reason or self.reason
        if client_left or self.stuck or not await self._pass_on(_delta(call, delta, reason), reply):
            self.missed = self.missed or says_something
        elif says_something:
            self.sent_text += piece
            self.sent_pieces += 1

    async def _pass_on(self, event: dict[str, Any], reply: Reply) -> bool:
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
        return [self._tools[index] for index in sorted(self._tools)] or None

    def _tool(self, part: dict[str, Any]) -> None:
        known = self._tools.setdefault(int(part.get("index", 0)), {"type": "function", "function": {"arguments": ""}})
        if part.get("id"):
            known["id"] = part["id"]
        function = part.get("function") or {}
        if function.get("name"):
            known["function"]["name"] = function["name"]
        known["function"]["arguments"] += function.get("arguments") or ""


def _shorten(limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
    try:
        limit.reschedule(loop.time() + config.DRAIN_S)
    except RuntimeError:  # it is over
        return


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any] | None]:
    """Server-sent events: JSON objects, and None for `[DONE]`."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                yield None
                return
            yield orjson.loads(data)


def _usage(said: Any, prepared: Prepared) -> tuple[int, int] | None:
    """Prompt and answer tokens, never more than was reserved; None where they were not told."""
    if not isinstance(said, dict):
        return None
    prompt, completion = said.get("prompt_tokens"), said.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return None
    return min(prompt, prepared.prompt_tokens), min(completion, prepared.max_tokens)


async def _left_stream(
    upstreams: Upstreams, call: Call, prepared: Prepared, heard: _Heard, usage: tuple[int, int] | None
) -> Outcome:
    """Count what was sent: exactly where we have the tokenizer, else the pieces, each of which is a token or more."""
    answer_tokens = heard.sent_pieces
    if prepared.counted and heard.sent_text:
        answer_tokens = await upstreams.count_tokens(text=heard.sent_text)
    answer_tokens = min(answer_tokens, usage[1] if usage else prepared.max_tokens)
    # A prompt that nobody counted is not estimated: it costs nothing.
    prompt_tokens = usage[0] if usage else prepared.prompt_tokens if prepared.counted else 0
    return _left(call, prepared, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, text=heard.sent_text)


def _left(call: Call, prepared: Prepared, *, prompt_tokens: int, answer_tokens: int = 0, text: str = "") -> Outcome:
    body = _body(call, text, None, "left", prompt_tokens, answer_tokens)
    return Outcome("left", prompt_tokens, answer_tokens, response=body, kept=prepared.kept(text))


def _succeeded(
    call: Call, prepared: Prepared, text: str, tools: Any, reason: str, prompt_tokens: int, answer_tokens: int
) -> Outcome:
    if reason == "content_filter":
        raise ApiError(502, "The model's filter stopped this answer. Nothing was charged.", code="content_filter")
    response = _body(call, text, tools, reason, prompt_tokens, answer_tokens)
    told = {"citations": prepared.citations(text)} if call.version.engine == "retrieval" else {}
    return Outcome("succeeded", prompt_tokens, answer_tokens, response=response, kept=prepared.kept(text), told=told)


def _body(call: Call, text: str, tools: Any, reason: str, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if call.endpoint == "completions":
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text or (None if tools else "")}
        if tools:
            choice["message"]["tool_calls"] = tools
    return {
        **_envelope(call),
        "object": "text_completion" if call.endpoint == "completions" else "chat.completion",
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }


def _envelope(call: Call) -> dict[str, Any]:
    version: Version = call.version
    prefix = "cmpl" if call.endpoint == "completions" else "chatcmpl"
    return {"id": f"{prefix}-{call.id.hex}", "created": int(call.started_at.timestamp()), "model": version.path}


def _chunk(call: Call) -> dict[str, Any]:
    kind = "text_completion" if call.endpoint == "completions" else "chat.completion.chunk"
    return {**_envelope(call), "object": kind}


def _delta(call: Call, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if call.endpoint == "completions":
        choice["text"] = delta.get("content") or ""
    else:
        choice["delta"] = {
            name: delta[name] for name in ("role", "content", "tool_calls") if delta.get(name) is not None
        }
    return {**_chunk(call), "choices": [choice]}
