"""Chat answers, whole or as server-sent events, and how each of their ends is counted.

A stream is passed on as it comes, in our own envelope; its usage and `[DONE]` are kept back for the caller of this module,
who sends them once the call is captured.

A call with an Idempotency-Key does not end when its client leaves: the answer is finished and kept for who asks again, so
that a dropped connection and a retry are one charge.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson

from . import config, failpoints, guard
from .charging import Call, Outcome
from .chatting import Prepared
from .cycle import Cycle
from .errors import ApiError, upstream_failed, upstream_slow
from .events import chunk_of, delta_of, read_events
from .hearing import Heard
from .http_client import Failed, TooSlow
from .replies import Reply
from .upstreams import Upstream, Upstreams

_MALFORMED = (orjson.JSONDecodeError, LookupError, TypeError, AttributeError, ValueError)


def no_usage() -> ApiError:
    return ApiError(502, "The model did not say what it used. Nothing was charged.", code="usage_missing")


async def whole(upstreams: Upstreams, call: Call, prepared: Prepared, client: Cycle) -> Outcome:
    """Ask for a whole answer. A client that leaves without a key to come back pays the prompt, if it is counted in 2 s.

    Raises:
        ApiError: it failed.
    """
    comes_back = bool(call.idempotency_key)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(config.CALL_TIMEOUT_S) as limit:
            if not comes_back:
                client.when_left(lambda: _shorten(limit, loop))
            outcome = await _asked(upstreams, call, prepared)  # a failure is one, though nobody may wait for it
    except TimeoutError:
        if comes_back or not client.disconnected:
            raise upstream_slow() from None
        counted = prepared.counted_by(None)
        return _nothing_to_count() if counted is None else _left(call, prepared, None, prompt_tokens=counted)
    if client.disconnected and not comes_back:
        return _left(call, prepared, None, prompt_tokens=outcome.prompt_tokens)
    return outcome


async def _asked(upstreams: Upstreams, call: Call, prepared: Prepared) -> Outcome:
    try:
        with await upstreams.chat(prepared.upstreams, prepared.body) as served:
            data = orjson.loads(await served.answer.read())
            choice = data["choices"][0]
            message, reason = choice["message"], choice.get("finish_reason") or "stop"
            text = message.get("content") or ""
            if not isinstance(text, str):
                raise TypeError
    except TooSlow as error:
        raise upstream_slow() from error
    except (Failed, *_MALFORMED) as error:
        raise upstream_failed() from error
    usage = usage_within(data.get("usage"), prepared)
    counted = usage or await _counted(upstreams, prepared, served.upstream, text=text, pieces=0)
    if counted is None:
        raise no_usage()
    outcome = _succeeded(call, prepared, served.upstream, text, message.get("tool_calls"), reason, *counted)
    return outcome if usage else _told_who_counted(outcome)


async def stream(upstreams: Upstreams, call: Call, prepared: Prepared, reply: Reply, client: Cycle) -> Outcome:
    """Pass a stream on, all but its last two events.

    Raises:
        ApiError: it failed; what was sent costs nothing.
    """
    finishes = bool(call.idempotency_key)
    heard = Heard(finishes=finishes)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(config.CALL_TIMEOUT_S) as limit:
            if not finishes:
                client.when_left(lambda: _shorten(limit, loop))
            with await upstreams.chat(prepared.upstreams, prepared.body) as served:
                heard.upstream = served.upstream
                async for event in read_events(served.answer.chunks()):
                    await heard.take(event, call, reply, client)
                    if heard.stuck and not finishes:
                        _shorten(limit, loop)
                    failpoints.hit("in_stream")
                if heard.done:
                    served.answer.drain_later()
                if heard.reason is None:
                    raise Failed("The answer ended before its end.")
    except TimeoutError:
        if finishes:
            raise upstream_slow() from None
        # A client that reads slowly is no failure of ours: it leaves, and pays for what it took.
        if heard.sending_s > config.CALL_TIMEOUT_S / 2:
            heard.missed = True
        elif not client.disconnected and not heard.stuck:
            raise upstream_slow() from None
    except (Failed, *_MALFORMED) as error:
        if finishes or (not client.disconnected and not heard.stuck):
            raise upstream_slow() if isinstance(error, TooSlow) else upstream_failed() from error
    usage = usage_within(heard.usage, prepared)
    nobody_there = client.disconnected or heard.stuck
    if not finishes and (heard.missed or (nobody_there and heard.reason is None)):
        return await _left_stream(upstreams, call, prepared, heard, usage)
    assert heard.reason is not None, "an answer without its end has failed, or its client has left"
    counted = usage or await _counted(upstreams, prepared, heard.upstream, text=heard.text, pieces=heard.pieces)
    if counted is None:
        raise no_usage()
    outcome = _succeeded(call, prepared, heard.upstream, heard.text, heard.tool_calls(), heard.reason, *counted)
    outcome.delivered = not heard.missed
    return outcome if usage else _told_who_counted(outcome)


async def send_end(reply: Reply, call: Call, include_usage: bool, response: dict[str, Any]) -> None:
    """The last two events of a stream: usage with `open` (if asked for), and `[DONE]`."""
    if include_usage:
        await reply.event({**chunk_of(call), "choices": [], "usage": response["usage"], "open": response["open"]})
    await reply.end_events()


async def send_abstained(reply: Reply, call: Call, include_usage: bool, response: dict[str, Any]) -> None:
    """A stream without an answer: one event, which says why whether usage was asked for or not, and the end of any other."""
    await reply.start_events()
    choice = response["choices"][0]
    event = delta_of(call, choice.get("message") or {}, choice["finish_reason"])
    await reply.event({**event, "open": response["open"]})
    await send_end(reply, call, include_usage, response)


async def replay(reply: Reply, call: Call, include_usage: bool, response: dict[str, Any]) -> None:
    """A stored answer as a stream."""
    if "abstained" in response["open"]:
        await send_abstained(reply, call, include_usage, response)
        return
    await reply.start_events()
    choice = response["choices"][0]
    delta = choice.get("message") or {"content": choice.get("text", "")}
    await reply.event(delta_of(call, delta, None))
    await reply.event(delta_of(call, {}, choice["finish_reason"]))
    await send_end(reply, call, include_usage, response)


def abstained(call: Call, prepared: Prepared, abstention: guard.Abstention) -> Outcome:
    """No answer, in the form of one: nobody was asked, and nothing is counted. It costs one price, whatever the prompt was."""
    body = body_of(call, "", None, guard.FINISH_REASON, 0, 0)
    if "message" in body["choices"][0]:
        body["choices"][0]["message"]["refusal"] = abstention.message
    return Outcome(guard.STATUS, response=body, kept=prepared.kept("", None), told={"abstained": abstention.told()})


def _shorten(limit: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> None:
    try:
        limit.reschedule(loop.time() + config.DRAIN_S)
    except RuntimeError:  # it is over
        return


def usage_within(said: Any, prepared: Prepared) -> tuple[int, int] | None:
    """Prompt and answer tokens, never more than was reserved; None where they were not told."""
    if not isinstance(said, dict):
        return None
    prompt, completion = said.get("prompt_tokens"), said.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int or prompt < 0 or completion < 0:
        return None
    return min(prompt, prepared.prompt_tokens), min(completion, prepared.max_tokens)


async def _counted(
    upstreams: Upstreams, prepared: Prepared, upstream: Upstream | None, *, text: str, pieces: int
) -> tuple[int, int] | None:
    """Our own count of prompt and answer, within what was reserved. None: it cannot be counted.

    Exact by the tokenizer of the bundled model. Of another model's stream the pieces of the answer are counted, each of
    which is a token or more; its prompt is not estimated, and costs nothing.
    """
    prompt_tokens = prepared.counted_by(upstream)
    if prompt_tokens is None:
        return (0, min(pieces, prepared.max_tokens)) if pieces else None
    answer_tokens = await upstreams.count_tokens(text=text) if text else 0
    return prompt_tokens, min(answer_tokens, prepared.max_tokens)


def _told_who_counted(outcome: Outcome) -> Outcome:
    return replace(outcome, told={**outcome.told, "counted_by": "gateway"})


async def _left_stream(
    upstreams: Upstreams, call: Call, prepared: Prepared, heard: Heard, usage: tuple[int, int] | None
) -> Outcome:
    """What was sent, by our own count; never more than the model's server says of the whole."""
    counted = await _counted(upstreams, prepared, heard.upstream, text=heard.sent_text, pieces=heard.sent_pieces)
    if usage is None and counted is None:
        return _nothing_to_count()
    prompt_tokens, answer_tokens = counted or (0, 0)
    if usage is not None:
        prompt_tokens, answer_tokens = usage[0], min(answer_tokens, usage[1])
    return _left(
        call,
        prepared,
        heard.upstream,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        text=heard.sent_text,
    )


def _nothing_to_count() -> Outcome:
    """The client left, nothing was sent to it, and nobody said what was used."""
    return Outcome("failed", error_code="left_uncounted")


def _left(
    call: Call,
    prepared: Prepared,
    upstream: Upstream | None,
    *,
    prompt_tokens: int,
    answer_tokens: int = 0,
    text: str = "",
) -> Outcome:
    body = body_of(call, text, None, "left", prompt_tokens, answer_tokens)
    return Outcome("left", prompt_tokens, answer_tokens, response=body, kept=prepared.kept(text, upstream))


def _succeeded(
    call: Call,
    prepared: Prepared,
    upstream: Upstream | None,
    text: str,
    tools: Any,
    reason: str,
    prompt_tokens: int,
    answer_tokens: int,
) -> Outcome:
    if reason == "content_filter":
        raise ApiError(502, "The model's filter stopped this answer. Nothing was charged.", code="content_filter")
    response = body_of(call, text, tools, reason, prompt_tokens, answer_tokens)
    told: dict[str, Any] = {}
    if call.version.engine == "retrieval":
        told["citations"] = prepared.citations(text)
    if prepared.support is not None:
        told["support"] = prepared.support
    return Outcome(
        "succeeded", prompt_tokens, answer_tokens, response=response, kept=prepared.kept(text, upstream), told=told
    )


def body_of(call: Call, text: str, tools: Any, reason: str, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    """A whole answer, without `open`."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if call.endpoint == "completions":
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text or (None if tools else "")}
        if tools:
            choice["message"]["tool_calls"] = tools
    return {
        **call.envelope,
        "object": "text_completion" if call.endpoint == "completions" else "chat.completion",
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": answer_tokens,
            "total_tokens": prompt_tokens + answer_tokens,
        },
    }
