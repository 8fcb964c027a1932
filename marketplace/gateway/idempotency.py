"""`Idempotency-Key`: the second request with a key waits, gets the first one's answer, or is refused. Charged once."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extensions import cursor as Cursor

from attribution import content

from . import offloop
from .charging import Call
from .database import DatabaseThread
from .errors import ApiError, Unavailable, invalid

_FREE_AGAIN_S = 1.0
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True)
class Replay:
    """The stored answer of an earlier call with the same key and body."""

    call_id: UUID
    streamed: bool
    response: dict[str, Any]


class Idempotency:
    """Takes and frees keys of buyers. `process` is the name this process holds a lock on while it lives."""

    def __init__(self, database: DatabaseThread, *, process: str, kept_s: int, content_key: str):
        self._database, self._process, self._kept_s, self._content_key = database, process, kept_s, content_key
        self._freeing: set[asyncio.Task[None]] = set()

    async def take(self, call: Call, body_sha256: bytes) -> Replay | None:
        """Take the key of a call before any work; None: it is this call's.

        Raises:
            ApiError: 400 a key that cannot be one, 409 in progress, 422 another body.
        """
        if not _KEY.fullmatch(call.idempotency_key):
            raise invalid("Idempotency-Key must be 1 to 255 printable ASCII characters.", "Idempotency-Key")

        def act(cursor: Cursor) -> tuple[str, str, tuple | None]:
            cursor.execute(
                "SELECT outcome, answered_by::text FROM gateway_take_key(%s, %s, %s, %s, %s, %s)",
                [call.buyer_id, call.kept_as, body_sha256, str(call.id), self._process, self._kept_s],
            )
            outcome, answered_by = cursor.fetchone()
            stored = None
            if outcome == "done":
                cursor.execute(
                    "SELECT sealed, sealed_key FROM marketplace_callcontent WHERE call_id = %s AND sealed_key IS NOT NULL",
                    [answered_by],
                )
                stored = cursor.fetchone()
            return outcome, answered_by, stored

        try:
            outcome, answered_by, stored = await self._database.run(act)
        except Unavailable:
            self._free_later(call)  # it may have been taken, and nobody heard of it
            raise
        if outcome == "mine":
            return None
        if outcome == "running":
            raise ApiError(
                409,
                "A request with this Idempotency-Key is being answered. Ask again in a moment.",
                code="idempotency_in_progress",
                retry_after_s=1,
            )
        if outcome == "mismatch":
            raise ApiError(
                422,
                "This Idempotency-Key was used with another request. Use a new key.",
                code="idempotency_mismatch",
                retry=False,
            )
        if stored is None:
            raise ApiError(
                409,
                "A request with this Idempotency-Key was answered, and its answer is erased: it was kept as long as its API"
                " key says. Nothing is charged for this one. Its call is in /v1/calls; to ask again use a new key.",
                code="idempotency_erased",
                retry=False,
            )
        call_id = UUID(answered_by)
        kept = await offloop.run(len(stored[0]), self._opened, call_id, bytes(stored[0]), bytes(stored[1]))
        return Replay(call_id, bool(kept["streamed"]), kept["response"])

    def _opened(self, call_id: UUID, sealed: bytes, sealed_key: bytes) -> dict[str, Any]:
        return orjson.loads(content.open_sealed(self._content_key, call_id, sealed, sealed_key))

    async def free(self, call: Call) -> None:
        """Give the key back: the call was refused. While the database is away it is given back later.

        Raises:
            psycopg2.Error: it was refused; the key is free when this process ends.
        """
        try:
            await self._free(call)
        except Unavailable:
            self._free_later(call)

    async def _free(self, call: Call) -> None:
        def act(cursor: Cursor) -> None:
            cursor.execute("SELECT gateway_free_key(%s, %s, %s)", [call.buyer_id, call.kept_as, str(call.id)])

        await self._database.run(act)

    def _free_later(self, call: Call) -> None:
        async def until_done() -> None:
            while True:
                await asyncio.sleep(_FREE_AGAIN_S)
                with contextlib.suppress(Unavailable):
                    return await self._free(call)

        task = asyncio.ensure_future(until_done())
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)
