"""Whom to ask for an answer: the bundled models process, or a model's own OpenAI-compatible addresses, in their order.

A target is asked again, or the next one in its place, only before the first byte of an answer: afterwards a client may have
seen a part of it. However many are asked, it is one call, one reservation and at most one charge.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from marketplace import outbound

from . import config, offloop
from .breaker import Health, Visit
from .catalogue import Version
from .errors import ApiError, invalid, upstream_busy, upstream_failed, upstream_slow, upstream_unavailable
from .http_client import Answer, Client, Failed, Lost, Reported, TooSlow

logger = logging.getLogger("marketplace.gateway")

UPSTREAMS_KNOWN_MAX = 500
_RESOLVED_S = 30.0
_SMALL_TIMEOUT_S = 20.0
_RETRY_AFTER_DIGITS_MAX = 5


@dataclass(frozen=True)
class Upstream:
    """Where chat is answered. `bundled`: our own process, whose tokenizer counts exactly and whose answers are scorable."""

    url: str
    model: str
    key: str
    bundled: bool


class Served:
    """An answer that has begun, and who gives it. Read it within `with`: how that ends is what is known of the target."""

    def __init__(self, answer: Answer, upstream: Upstream, visit: Visit):
        self.answer, self.upstream, self._visit = answer, upstream, visit

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.answer.close()
        if error is None:
            self._visit.succeeded()
        elif isinstance(error, Exception):
            blame(self._visit, self.upstream, error)
        else:  # nobody waits for the rest of it
            self._visit.undecided()


class _NotServed(Exception):
    """A target did not begin an answer.

    Args:
        told: What the buyer hears if nobody else answers.
        at_fault: Whether it speaks against the target, and not only against this call or its number.
        is_final: The request itself is refused: nobody else is asked.
        retry_after_s: In how many seconds at least the same target may be asked again; None: not at all.
    """

    def __init__(
        self,
        told: ApiError,
        *,
        at_fault: bool = False,
        is_final: bool = False,
        is_busy: bool = False,
        retry_after_s: int | None = None,
    ):
        super().__init__(told.code)
        self.told, self.at_fault, self.is_final = told, at_fault, is_final
        self.is_busy, self.retry_after_s = is_busy, retry_after_s


class Upstreams:
    """The doors to other processes. Addresses are resolved in a thread, checked, and used as resolved."""

    def __init__(self, *, models_url: str, models_key: str, field_keys: Sequence[str], allow: Sequence[str]):
        self.client = Client()
        self._models_url, self._models_key = models_url, models_key
        self._fernet = MultiFernet([Fernet(key) for key in field_keys])
        # Of models that are called now: opening a key takes as long as much of the rest of a call.
        self._upstream = lru_cache(maxsize=UPSTREAMS_KNOWN_MAX)(self._read_upstream)
        parts = models_url.partition("://")[2]
        self._allow = (*allow, parts if ":" in parts else f"{parts}:80")
        self._resolved: dict[str, tuple[float, outbound.Target]] = {}
        self._health = Health(
            failures_max=config.UPSTREAM_FAILURES_MAX, open_s=config.UPSTREAM_OPEN_S, clock=time.monotonic
        )

    def of(self, version: Version) -> Sequence[Upstream]:
        """Who answers for a version, in the order of asking. Raises ApiError 502 if no stored key can be read."""
        if version.upstream_url:
            first = self._upstream(
                version.upstream_url, version.upstream_model, version.slug, version.upstream_key_token
            )
        else:
            first = Upstream(self._models_url + "/v1", config.CHAT_MODEL, self._models_key, bundled=True)
        further = [
            self._upstream(one["url"], one["model"], version.slug, one["key_token"])
            for one in version.upstream_fallbacks
        ]
        found = [upstream for upstream in (first, *further) if upstream is not None]
        if not found:
            raise upstream_failed("The model's developer must store its upstream key again.")
        return found

    def _read_upstream(self, url: str, model: str, slug: str, key_token: str) -> Upstream | None:
        """The target of this address; it knows the model by the name `model`, or else by its slug here."""
        key = self._open(key_token) if key_token else ""
        if key is None:
            return None
        bundled = url.rstrip("/") in (self._models_url, self._models_url + "/v1")
        return Upstream(
            url.rstrip("/"),
            model or slug,
            key or (self._models_key if bundled else ""),
            bundled=bundled and model in ("", config.CHAT_MODEL),
        )

    def _open(self, key_token: str) -> str | None:
        """The key that a token holds under seal, or None if it cannot be read or sent."""
        try:
            key = self._fernet.decrypt(key_token.encode()).decode()
        except InvalidToken:
            return None
        # A line break would start a header of its own.
        return key if key.isascii() and key.isprintable() else None

    async def count_tokens(self, *, messages: list | None = None, text: str | None = None) -> int:
        """Exact length in tokens of the bundled chat model: of a prompt, or of a piece of text. Raises ApiError."""
        body = {"messages": messages} if messages is not None else {"text": text}
        return int((await self._ask_models("/tokenize", body))["count"])

    async def embed(self, text: str, *, input_type: str) -> tuple[list[float], int]:
        """The embedding of a text, and its length in tokens. Raises ApiError."""
        body = {"model": config.EMBEDDING_MODEL, "input": text, "input_type": input_type}
        found = await self._ask_models("/v1/embeddings", body)
        return found["data"][0]["embedding"], int(found["usage"]["prompt_tokens"])

    async def count_embedded(self, texts: Sequence[str], *, input_type: str) -> int:
        """Exact length in tokens of the bundled embedding model, of all texts together. Raises ApiError."""
        found = await self._ask_models("/tokenize", {"input": texts, "input_type": input_type})
        return int(found["count"])

    async def embed_all(self, texts: Sequence[str], *, input_type: str, encoding: str) -> dict[str, Any]:
        """The embeddings of all texts as the models process says them, with what it counted. Raises ApiError."""
        body = {"model": config.EMBEDDING_MODEL, "input": texts, "input_type": input_type, "encoding_format": encoding}
        return await self._ask_models("/v1/embeddings", body, timeout_s=config.UPSTREAM_WHOLE_S)

    async def chat(self, upstreams: Sequence[Upstream], body: dict[str, Any]) -> Served:
        """Ask for a chat answer; returns at the first byte of the first one that begins. Raises ApiError."""
        told: ApiError | None = None
        for upstream in upstreams:
            visit = self._health.enter(upstream)
            if visit is None:
                continue
            is_last = upstream is upstreams[-1]
            try:
                answer = await self._asked(upstream, body, retries=not visit.is_probe, waits=is_last)
            except _NotServed as refusal:
                blame(visit, upstream, refusal)
                if refusal.is_final:
                    raise refusal.told from refusal
                told = refusal.told
            except BaseException:
                visit.undecided()
                raise
            else:
                visit.answered()
                if upstream is not upstreams[0]:
                    logger.info("upstream %s answers in place of %s", upstream.url, upstreams[0].url)
                return Served(answer, upstream, visit)
        raise told or upstream_unavailable(self._health.wait_s(upstreams))

    async def _asked(self, upstream: Upstream, body: dict[str, Any], *, retries: bool, waits: bool) -> Answer:
        """Ask one target, a few times if it may help. `waits`: for a busy one, since no other is left. Raises _NotServed."""
        for attempt in range(config.UPSTREAM_RETRIES + 1):
            try:
                return await self._asked_once(upstream, body)
            except _NotServed as refusal:
                pause_s = pause_before_retry_s(attempt, asked_s=refusal.retry_after_s)
                if pause_s is None or not retries or (refusal.is_busy and not waits):
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _asked_once(self, upstream: Upstream, body: dict[str, Any]) -> Answer:
        url = upstream.url if upstream.url.endswith("/chat/completions") else upstream.url + "/chat/completions"
        first_byte_s = config.UPSTREAM_FIRST_BYTE_S if body["stream"] else config.UPSTREAM_WHOLE_S
        try:
            answer = await self._post(url, upstream.key, {**body, "model": upstream.model}, first_byte_s=first_byte_s)
            if answer.status == 200:
                return answer
            raw = await _read(answer)
        except TooSlow as error:
            raise _NotServed(upstream_slow(), at_fault=not upstream.bundled) from error
        except Failed as error:
            retry_after_s = 0 if isinstance(error, Lost) else None
            raise _NotServed(upstream_failed(), at_fault=True, retry_after_s=retry_after_s) from error
        except outbound.OutboundRefused as refused:
            told = upstream_failed(f"The model's address cannot be reached: {refused}")
            raise _NotServed(told, at_fault=True) from refused
        raise _refusal(answer, raw, of_ours=upstream.bundled)

    async def _ask_models(
        self, path: str, body: dict[str, Any], *, timeout_s: float = _SMALL_TIMEOUT_S
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._post(self._models_url + path, self._models_key, body, first_byte_s=timeout_s)
                raw = await _read(answer)
        except (TimeoutError, TooSlow):
            raise upstream_slow() from None
        except (Failed, outbound.OutboundRefused) as error:
            raise upstream_failed() from error
        if answer.status != 200:
            raise _refusal(answer, raw, of_ours=True).told
        try:
            return await offloop.run(len(raw), orjson.loads, raw)
        except orjson.JSONDecodeError as error:
            raise upstream_failed() from error

    async def _post(self, url: str, key: str, body: dict[str, Any], *, first_byte_s: float) -> Answer:
        target = await self._target(url)
        return await self.client.post(target, orjson.dumps(body), key=key, first_byte_s=first_byte_s)

    async def _target(self, url: str) -> outbound.Target:
        until, target = self._resolved.get(url, (0.0, None))
        if target is None or until < time.monotonic():
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(config.UPSTREAM_CONNECT_S):
                    target = await loop.run_in_executor(None, lambda: outbound.resolve(url, allow=self._allow))
            except TimeoutError as error:
                raise TooSlow("The name was not resolved in time.") from error
            self._resolved[url] = (time.monotonic() + _RESOLVED_S, target)
        return target


def blame(visit: Visit, upstream: Upstream, error: Exception) -> None:
    """What a failed call says of its target. Our own is slow when many wait for it: nobody is kept out for that."""
    if isinstance(error, _NotServed):
        at_fault = error.at_fault
    else:
        at_fault = not isinstance(error, Reported) and not (upstream.bundled and isinstance(error, TooSlow))
    if not at_fault:
        visit.undecided()
    elif visit.failed():
        logger.warning("upstream %s is left alone for %s s", upstream.url, config.UPSTREAM_OPEN_S)


def pause_before_retry_s(attempt: int, *, asked_s: int | None) -> float | None:
    """How long to wait before a target is asked again, or None: not at all.

    At least what it asked for, if that is bearable; and never the same for all, or they would come back together.
    """
    if asked_s is None or asked_s > config.UPSTREAM_RETRY_AFTER_S_MAX or attempt >= config.UPSTREAM_RETRIES:
        return None
    return asked_s + config.UPSTREAM_RETRY_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5)


async def _read(answer: Answer) -> bytes:
    """The whole body. Raises Failed."""
    try:
        return await answer.read()
    finally:
        answer.close()


def _refusal(answer: Answer, raw: bytes, *, of_ours: bool) -> _NotServed:
    """What to make of an answer that is not 200. Foreign messages are not passed on: they may name keys and addresses."""
    status = answer.status
    if status in (429, 503):
        said = answer.headers.get(b"retry-after", b"").strip()
        wait_s = int(said) if said.isdigit() and len(said) <= _RETRY_AFTER_DIGITS_MAX else None
        # Too many at once is no fault: of our own process it only says that its queue is full.
        return _NotServed(upstream_busy(wait_s or 1), at_fault=status == 503, is_busy=True, retry_after_s=wait_s or 0)
    if of_ours and status == 413:
        told = ApiError(
            400, "The messages are longer than the model reads.", code="context_length_exceeded", param="messages"
        )
        return _NotServed(told, is_final=True)
    if of_ours and status == 400:
        try:
            error = orjson.loads(raw)["error"]
            told = ApiError(400, str(error["message"]), code=str(error["code"]), param=error.get("param"))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            told = invalid("The model refused this request.")
        return _NotServed(told, is_final=True)
    if status in (401, 403):
        return _NotServed(upstream_failed("The model's server does not accept its key. Nothing was charged."))
    if status in (400, 413, 422):
        told = upstream_failed("The model's server refused this request. Nothing was charged.")
        return _NotServed(told, is_final=True)
    if status == 502:
        return _NotServed(upstream_failed(), at_fault=True, retry_after_s=0)
    if status == 504:
        return _NotServed(upstream_slow(), at_fault=True)
    # A plain 500 may be one request's doing, as an error within a stream: who finds one must not keep the others out.
    return _NotServed(upstream_failed())
