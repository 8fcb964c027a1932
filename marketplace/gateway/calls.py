"""A paid call from its first byte to its last: key, access, limits, idempotency, reserve, answer, capture.

Nothing is acknowledged before it is captured, and nothing that failed costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg2

from marketplace import pricing

from . import admission, bodies, embedding, failpoints, guard, offloop, standins, streaming
from .admission import CHATS, EMBEDDINGS, Prepared
from .catalogue import CHAT_ENGINES, EMBEDDING, Version
from .charging import Call, Charge, Outcome, request_digest
from .chatting import Prepared as PreparedChat
from .cycle import EXTENSION, Cycle
from .engines import Prepared as PreparedInput
from .errors import ApiError, ClientLeft, Unavailable, internal, unknown_model
from .idempotency import Replay
from .keyring import Key
from .leases import Reservation
from .limits import Pass
from .paying import Parts, note_refusal, store, store_failure
from .replies import Receive, Reply, Scope, header, json_object, read_body

logger = logging.getLogger("marketplace.gateway")
# Refusals of money, access and price. Others say nothing of a buyer's account, or come in floods.
_NOTED = {"insufficient_balance", "spend_cap_reached", "max_cost_exceeded", "no_access", "price_changed"}


class PaidCalls:
    """The endpoints that cost something, and the quote that tells how much."""

    def __init__(self, parts: Parts):
        self._parts = parts

    async def answer(self, scope: Scope, receive: Receive, reply: Reply, *, endpoint: str) -> None:
        """Serve a call. Raises ApiError, ClientLeft, Unavailable."""
        parts = self._parts
        record = reply.record
        record.endpoint = endpoint
        if parts.is_down():
            raise Unavailable
        key = await parts.keyring.authenticate(header(scope, b"authorization"))
        reply.allow_pages_of(key.allowed_origins)
        key.require("call")
        entered = await parts.limits.enter(key)
        try:
            reply.add(parts.limits.headers(key))
            record.stage("auth")
            raw = await read_body(scope, receive)
            record.stage("receive")
            fields = await offloop.run(len(raw), json_object, raw)
            version = self._find(key, bodies.model_name(fields))
            admission.check_endpoint(version, endpoint)
            terms = _terms(scope, fields)
            body_sha256 = await offloop.run(len(raw), request_digest, scope["path"], raw)
            call = Call(
                version=version,
                buyer_id=key.owner_id,
                key_id=key.id,
                endpoint=endpoint,
                streamed=endpoint in CHATS and fields.get("stream") is True,
                request_sha256=body_sha256.hex(),
                idempotency_key=header(scope, b"idempotency-key"),
                request_bytes=len(raw),
                is_test=key.is_test,
                content_days=key.content_days,
            )
            record.of(call)
            reply.headers[b"x-receipt-id"] = record.call_id.encode()
            try:
                admission.check_access(key, version)
            except ApiError as refusal:
                self._note_if_shown(call, entered, refusal)
                raise
            if call.idempotency_key:
                stored = await parts.idempotency.take(call, body_sha256)
                failpoints.hit("after_idempotency")
                if stored is not None:
                    record.end = "replayed"
                    await _send_stored(reply, call, stored, fields)
                    return
            await self._run(scope["extensions"][EXTENSION], reply, call, entered, fields, terms)
        finally:
            parts.limits.leave(entered)

    async def quote(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        """Tell the most that a call would cost, without making it."""
        parts = self._parts
        key = await parts.keyring.authenticate(header(scope, b"authorization"))
        reply.allow_pages_of(key.allowed_origins)
        key.require("call")
        entered = await parts.limits.enter(key)
        try:
            raw = await read_body(scope, receive)
            fields = await offloop.run(len(raw), json_object, raw)
            version = self._find(key, bodies.model_name(fields))
            admission.check_access(key, version)
            _terms(scope, fields)
            endpoint = "completions" if "prompt" in fields else "chat"
            if version.engine == EMBEDDING:
                endpoint = EMBEDDINGS
            elif version.engine not in CHAT_ENGINES:
                bundle = await parts.engines.bundle(version.artifact_sha256)
                endpoint = "predict" if bundle.artifact.settings.get("task") == "regression" else "classify"
            prepared = await self._prepare(version, fields, endpoint, size_bytes=len(raw))
        finally:
            parts.limits.leave(entered)
        worst_nano = admission.worst_nano(version, prepared)
        offer = await parts.free_calls.offer(version, key.owner_id, worst_nano, is_test=key.is_test)
        expires_at = datetime.now(UTC) + timedelta(seconds=parts.rules.quote_valid_s)
        await reply.json(
            200,
            {
                "object": "quote",
                "model": version.path,
                "price_version": version.price_list.sha256,
                "max_cost_nano": worst_nano,
                "max_cost": pricing.nano_to_open(worst_nano),
                "price_abstain_nano": version.price_list.prices.price_abstain_nano,
                **({"test": True} if key.is_test else {}),
                "paid_by": "developer" if offer.covers else "buyer",
                "free_calls_left": offer.left,
                "prompt_tokens_max": prepared.prompt_tokens,
                "answer_tokens_max": prepared.max_tokens,
                "expires_at": expires_at.isoformat(timespec="seconds"),
            },
        )

    def _find(self, key: Key, name: str) -> Version:
        version = self._parts.shelf.now.find(name)
        if version is None or not key.may_see(version):
            raise unknown_model(name)
        return version

    def _note_if_shown(self, call: Call, entered: Pass, refusal: ApiError) -> None:
        """What is refused for money, access or price is shown to the buyer among the calls, at cost 0."""
        if refusal.code in _NOTED and self._parts.limits.may_note(entered):
            note_refusal(self._parts, call, refusal.code)

    async def _run(
        self, cycle: Cycle, reply: Reply, call: Call, entered: Pass, fields: dict[str, Any], terms: bodies.Terms
    ) -> None:
        """Reserve, answer, capture. Until the reservation stands it is a refusal, afterwards a failure."""
        parts, record = self._parts, reply.record
        try:
            prepared = await self._prepare(call.version, fields, call.endpoint, size_bytes=call.request_bytes)
            record.stage("prepare")
            worst_nano = admission.worst_nano(call.version, prepared)
            admission.check_price(call.version, terms)
            await parts.limits.reserve_tokens(entered, prepared.prompt_tokens + prepared.max_tokens)
            reservation = await parts.free_calls.reserve(call, worst_nano)
            if reservation is None:
                admission.check_cost(terms, worst_nano)
                call.cap_id = await parts.limits.reserve_cost(entered, worst_nano)
                reservation = await parts.leases.reserve(call.payer, worst_nano)
        except ApiError as refusal:
            self._note_if_shown(call, entered, refusal)
            await self._free_key(call)
            raise
        except BaseException:
            await self._free_key(call)
            raise
        record.stage("reserve")
        record.end = "failed"
        outcome = await self._answered(call, prepared, reservation, reply, cycle)
        record.stage("upstream")
        done = await self._stored(call, entered, reservation, outcome)
        record.stage("capture")
        record.ended(outcome, done.cost_nano)
        tokens = outcome.prompt_tokens + outcome.answer_tokens
        parts.limits.leave(entered, cost_nano=0 if call.free else done.cost_nano, tokens=tokens)
        failpoints.hit("before_last_byte")
        if outcome.status not in ("succeeded", guard.STATUS) or not outcome.delivered:
            raise ClientLeft
        if isinstance(prepared, PreparedChat) and call.streamed and outcome.status == guard.STATUS:
            await streaming.send_abstained(reply, call, prepared.request.include_usage, done.response)
        elif isinstance(prepared, PreparedChat) and call.streamed:
            await streaming.send_end(reply, call, prepared.request.include_usage, done.response)
        else:
            reply.add(parts.limits.headers(entered.key))
            await reply.payload(200, done.response_bytes)
        record.stage("send")
        failpoints.hit("after_last_byte")

    async def _answered(
        self, call: Call, prepared: Prepared, reservation: Reservation, reply: Reply, client: Cycle
    ) -> Outcome:
        """Run the model. If it fails the call is stored as failed, at cost 0, before anybody is told."""
        parts = self._parts
        failpoints.hit("before_answer")
        try:
            if isinstance(prepared, PreparedInput):
                outcome = await parts.engines.answer(
                    call.version, prepared, endpoint=call.endpoint, call_id=call.name, is_test=call.is_test
                )
            elif isinstance(prepared, embedding.Prepared):
                outcome = await embedding.answer(parts.upstreams, call, prepared)
            elif prepared.abstention is not None:
                outcome = streaming.abstained(call, prepared, prepared.abstention)
            elif call.is_test:
                outcome = await standins.answer(call, prepared, reply)
            elif call.streamed:
                outcome = await streaming.stream(parts.upstreams, call, prepared, reply, client)
            else:
                outcome = await streaming.whole(parts.upstreams, call, prepared, client)
        except asyncio.CancelledError:  # this process stops
            parts.leases.release(reservation, drawn_nano=0)
            raise
        except Exception as error:
            known = error if isinstance(error, ApiError) else internal()
            if known is not error:
                # The traceback names code, not content: prompts are in no message of ours.
                logger.exception("call %s failed", call.id)
            await store_failure(parts, call, reservation, known.code)
            raise known from error
        failpoints.hit("after_answer")
        return outcome

    async def _stored(self, call: Call, entered: Pass, reservation: Reservation, outcome: Outcome) -> Charge:
        try:
            return await store(self._parts, call, reservation, outcome)
        except ApiError as error:
            if error.code == "outcome_unknown":
                self._parts.limits.leave_unknown(entered)
            raise

    async def _prepare(self, version: Version, fields: dict[str, Any], endpoint: str, *, size_bytes: int) -> Prepared:
        requirement = guard.take_requirement(fields, version)
        if endpoint in CHATS:
            request = await offloop.run(
                size_bytes,
                bodies.chat_request,
                fields,
                completion=endpoint == "completions",
                foreign=bool(version.upstream_url),
            )
            return await self._parts.chats.prepare(version, request, size_bytes=size_bytes, requirement=requirement)
        if endpoint == EMBEDDINGS:
            texts = await offloop.run(size_bytes, bodies.embedding_request, fields)
            return await embedding.prepare(self._parts.upstreams, texts)
        prepared = await self._parts.engines.prepare(version, fields, endpoint=endpoint, requirement=requirement)
        bodies.nothing_else(fields)
        return prepared

    async def _free_key(self, call: Call) -> None:
        if call.idempotency_key:
            with contextlib.suppress(psycopg2.Error):
                await asyncio.shield(self._parts.idempotency.free(call))


async def _send_stored(reply: Reply, call: Call, stored: Replay, fields: dict[str, Any]) -> None:
    """The answer of the first request with this key, byte for byte; a stream as a stream."""
    reply.add({"x-idempotent-replay": "true", "x-receipt-id": str(stored.call_id)})
    if stored.streamed:
        first = replace(call, id=stored.call_id)
        options = fields.get("stream_options")
        include_usage = isinstance(options, dict) and options.get("include_usage") is True
        await streaming.replay(reply, first, include_usage, stored.response)
    else:
        vectors = stored.response.get("data") or ()
        await reply.payload(
            200, await offloop.run(embedding.VECTOR_BYTES * len(vectors), orjson.dumps, stored.response)
        )


def _terms(scope: Scope, fields: dict[str, Any]) -> bodies.Terms:
    return bodies.terms(
        fields,
        max_cost_header=header(scope, b"x-max-cost"),
        price_version_header=header(scope, b"x-price-version"),
    )
