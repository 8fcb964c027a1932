"""Whom to ask for an answer: the bundled models process, or a model's own OpenAI-compatible address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from marketplace import outbound

from . import config
from .catalogue import Version
from .errors import ApiError, invalid, upstream_busy, upstream_failed, upstream_slow
from .http_client import Answer, Client, Failed, closing

_RESOLVED_S = 30.0
_SMALL_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Upstream:
    """Where chat is answered. `bundled`: our own process, whose tokenizer counts exactly and whose answers are scorable."""

    url: str
    model: str
    key: str
    bundled: bool


class Upstreams:
    """The doors to other processes. Addresses are resolved in a thread, checked, and used as resolved."""

    def __init__(self, *, models_url: str, models_key: str, field_keys: Sequence[str], allow: Sequence[str]):
        self.client = Client()
        self._models_url, self._models_key = models_url, models_key
        self._field_keys = field_keys
        parts = models_url.partition("://")[2]
        self._allow = (*allow, parts if ":" in parts else f"{parts}:80")
        self._resolved: dict[str, tuple[float, outbound.Target]] = {}

    def of(self, version: Version) -> Upstream:
        """Who answers for a version. Raises ApiError 502 if its stored key cannot be read."""
        if not version.upstream_url:
            return Upstream(self._models_url + "/v1", config.CHAT_MODEL, self._models_key, bundled=True)
        key = ""
        if version.upstream_key_token:
            try:
                fernet = MultiFernet([Fernet(key) for key in self._field_keys])
                key = fernet.decrypt(version.upstream_key_token.encode()).decode()
            except InvalidToken:
                key = "\n"
            if not key.isascii() or not key.isprintable():  # a line break would start a header of its own
                raise upstream_failed("The model's developer must store its upstream key again.") from None
        bundled = version.upstream_url.rstrip("/") in (self._models_url, self._models_url + "/v1")
        return Upstream(
            version.upstream_url.rstrip("/"),
            version.upstream_model or version.slug,
            key or (self._models_key if bundled else ""),
            bundled=bundled and version.upstream_model in ("", config.CHAT_MODEL),
        )

    async def chat(self, upstream: Upstream, body: dict[str, Any]) -> Answer:
        """Ask for a chat answer; returns at its headers, status 200. Raises ApiError."""
        url = upstream.url if upstream.url.endswith("/chat/completions") else upstream.url + "/chat/completions"
        try:
            answer = await self._post(url, upstream.key, body)
            if answer.status == 200:
                return answer
            async with closing(answer):
                raw = await answer.read()
        except Failed as error:
            raise upstream_failed() from error
        raise _refusal(answer, raw, of_ours=upstream.bundled)

    async def count_tokens(self, *, messages: list | None = None, text: str | None = None) -> int:
        """Exact length in tokens of the bundled chat model: of a prompt, or of a piece of text. Raises ApiError."""
        body = {"messages": messages} if messages is not None else {"text": text}
        return int((await self._ask_models("/tokenize", body))["count"])

    async def embed(self, text: str, *, input_type: str) -> tuple[list[float], int]:
        """The embedding of a text, and its length in tokens. Raises ApiError."""
        body = {"model": config.EMBEDDING_MODEL, "input": text, "input_type": input_type}
        found = await self._ask_models("/v1/embeddings", body)
        return found["data"][0]["embedding"], int(found["usage"]["prompt_tokens"])

    async def _ask_models(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_SMALL_TIMEOUT_S):
                answer = await self._post(self._models_url + path, self._models_key, body)
                async with closing(answer):
                    raw = await answer.read()
        except Failed as error:
            raise upstream_failed() from error
        except TimeoutError:
            raise upstream_slow() from None
        if answer.status != 200:
            raise _refusal(answer, raw, of_ours=True)
        return orjson.loads(raw)

    async def _post(self, url: str, key: str, body: dict[str, Any]) -> Answer:
        target = await self._target(url)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return await self.client.post(target, orjson.dumps(body), headers)

    async def _target(self, url: str) -> outbound.Target:
        until, target = self._resolved.get(url, (0.0, None))
        if target is None or until < time.monotonic():
            loop = asyncio.get_running_loop()
            try:
                target = await loop.run_in_executor(None, lambda: outbound.resolve(url, allow=self._allow))
            except outbound.OutboundRefused as refused:
                raise upstream_failed(f"The model's address cannot be reached: {refused}") from refused
            self._resolved[url] = (time.monotonic() + _RESOLVED_S, target)
        return target


def _refusal(answer: Answer, raw: bytes, *, of_ours: bool) -> ApiError:
    """What a buyer is told when the model's server did not answer 200. Foreign messages are not passed on."""
    if answer.status in (429, 503):
        wait = answer.headers.get(b"retry-after", b"1")
        return upstream_busy(int(wait) if wait.isdigit() else 1)
    if of_ours and answer.status == 413:
        return ApiError(
            400, "The messages are longer than the model reads.", code="context_length_exceeded", param="messages"
        )
    if of_ours and answer.status == 400:
        try:
            said = orjson.loads(raw)["error"]
            return ApiError(400, str(said["message"]), code=str(said["code"]), param=said.get("param"))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return invalid("The model refused this request.")
    return upstream_failed()
