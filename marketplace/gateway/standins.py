"""What answers a test call in the place of a chat model: the same few words, in the form of a real answer.

Test money pays nobody. So no developer's server is asked for it, and no record is read out: only its place is filled.
"""

from __future__ import annotations

from . import streaming
from .charging import Call, Outcome
from .chatting import Prepared
from .events import delta_of
from .replies import Reply

WORDS = ("This ", "is ", "a ", "test ", "answer. ", "No ", "model ", "was ", "asked.")  # a token each


async def answer(call: Call, prepared: Prepared, reply: Reply) -> Outcome:
    """Answer at the model's prices; a stream as a stream, all but its last two events."""
    words = WORDS[: prepared.max_tokens]
    reason = "stop" if len(words) == len(WORDS) else "length"
    text = "".join(words)
    if call.streamed:
        await reply.start_events()
        for word in words:
            await reply.event(delta_of(call, {"content": word}, None))
        await reply.event(delta_of(call, {}, reason))
    prompt_tokens = prepared.prompt_tokens if prepared.counted_tokens is None else prepared.counted_tokens
    told = {}
    if call.version.engine == "retrieval":
        citations = prepared.citations(text)
        told = {"citations": [citation | {"title": "Test", "excerpt": "".join(WORDS)} for citation in citations]}
    return Outcome(
        "succeeded",
        prompt_tokens,
        len(words),
        response=streaming.body_of(call, text, None, reason, prompt_tokens, len(words)),
        told=told,
    )
