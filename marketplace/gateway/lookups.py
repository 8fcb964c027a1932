"""What a program looks up for nothing: the models that can be called, and its buyer's calls, usage, credits and receipts."""

from __future__ import annotations

from urllib.parse import parse_qsl

from psycopg2.errors import LockNotAvailable, QueryCanceled

from . import offloop, reading
from .catalogue import MODEL_BYTES, Shelf, described, listed, uuid_of
from .database import DatabaseThread
from .errors import ApiError, invalid, too_slow, unknown_model
from .keyring import Key, Keyring
from .limits import Limits
from .replies import Reply, Scope, header

QUERY_FIELDS_MAX = 20
LISTS = {"/v1/calls": reading.calls_of, "/v1/usage": reading.usage_of}


class LookUps:
    """The addresses that cost nothing.

    Args:
        database: Its thread reads for buyers only.
        quorum: How many witnesses a receipt needs.
        epoch_s: How long an epoch takes: when the second part of a receipt may be there.
    """

    def __init__(
        self, *, keyring: Keyring, limits: Limits, shelf: Shelf, database: DatabaseThread, quorum: int, epoch_s: int
    ):
        self._keyring, self._limits, self._shelf, self._database = keyring, limits, shelf, database
        self._quorum, self._epoch_s = quorum, epoch_s

    async def models(self, scope: Scope, reply: Reply, name: str) -> None:
        """All that whoever asks may see, or the one of this name. Without a key too. Raises ApiError."""
        authorization = header(scope, b"authorization")
        key: Key | None = await self._keyring.authenticate(authorization) if authorization else None
        reply.allow_pages_of(key.allowed_origins if key else ())
        catalogue = self._shelf.now
        if name:
            version = catalogue.find(name)
            if version is None or not (version.listed or (key is not None and key.may_see(version))):
                raise unknown_model(name)
            await reply.json(200, described(version, catalogue, pinned="@" in name))
            return
        seen = [
            version
            for _, version in sorted(catalogue.newest.items())
            if version.listed or (key is not None and key.may_see(version))
        ]
        await reply.payload(200, await offloop.run(MODEL_BYTES * len(seen), listed, seen, catalogue))

    async def of_buyer(self, scope: Scope, reply: Reply, path: str, method: str) -> None:
        """What a key may read. Raises ApiError: 404 no such address, 401, 403, 429, 504 it takes too long."""
        known = path in LISTS or path == "/v1/credits" or path.startswith("/v1/receipts/")
        if not known:
            raise ApiError(404, "There is nothing at this address.", code="not_found")
        only(method, "GET")
        key = await self._keyring.authenticate(header(scope, b"authorization"))
        reply.allow_pages_of(key.allowed_origins)
        key.require("read")
        entered = await self._limits.enter(key)
        try:
            reply.add(self._limits.headers(key))
            await self._read(scope, reply, path, key)
        except (QueryCanceled, LockNotAvailable) as error:
            raise too_slow() from error
        finally:
            self._limits.leave(entered)

    async def _read(self, scope: Scope, reply: Reply, path: str, key: Key) -> None:
        try:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX))
        except ValueError:
            raise invalid(f"Send at most {QUERY_FIELDS_MAX} fields in the address.") from None
        if any("\x00" in value for value in query.values()):
            raise reading.not_found()
        if path in LISTS:
            page = LISTS[path]
            found = await self._database.run(
                lambda cursor: page(
                    cursor, buyer_id=key.owner_id, made_by=key.made_by, is_test=key.is_test, query=query
                )
            )
            await reply.json(200, found)
        elif path == "/v1/credits":
            found = await self._database.run(
                lambda cursor: reading.credits_of(cursor, buyer_id=key.owner_id, is_test=key.is_test)
            )
            await reply.json(200, found)
        else:
            await self._receipt(reply, path.removeprefix("/v1/receipts/"), key, query.get("part", ""))

    async def _receipt(self, reply: Reply, name: str, key: Key, part: str) -> None:
        call_id = uuid_of(name)
        if call_id is None:
            raise reading.not_found()
        if part not in ("", "attribution"):
            raise ApiError(400, "part can only be attribution.", code="invalid_value", param="part")
        status, body = await self._database.run(
            lambda cursor: reading.receipt_of(
                cursor,
                call_id=call_id,
                buyer_id=key.owner_id,
                made_by=key.made_by,
                part=part,
                quorum=self._quorum,
                epoch_s=self._epoch_s,
            )
        )
        if status == 202:
            reply.add({"retry-after": "1"})
        await reply.json(status, body)


def only(method: str, allowed: str) -> None:
    """Raises ApiError 405 for another method; HEAD is a GET without its body."""
    if method != allowed and not (allowed == "GET" and method == "HEAD"):
        raise ApiError(405, f"Use {allowed}.", code="method_not_allowed", headers={"allow": allowed})
