"""API keys: who calls, with which limits. Read by hash, kept for 5 s, forgotten at once when one is revoked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor

from marketplace import keyformat

from . import config
from .catalogue import Version
from .database import DatabaseThread
from .errors import ApiError, unknown_key

CHANNEL = "openledger_keys"

_KEY = """SELECT k.key_id::text, k.owner_id, k.limits_id::text, k.is_capped, k.requests_per_minute, k.tokens_per_minute,
  k.expires_at, k.is_test, k.made_by_id, k.content_days, k.scopes::text[], k.allowed_model_ids::text[],
  k.allowed_origins::text[], (SELECT jsonb_object_agg(a.model_id, extract(epoch FROM a.ends_at)) FROM
     (SELECT model_id, CASE WHEN bool_or(ends_at IS NULL) THEN NULL ELSE max(ends_at) END AS ends_at
      FROM gateway_accesses WHERE buyer_id = k.owner_id GROUP BY model_id) a)
FROM gateway_keys k WHERE k.sha256 = %s"""

_ORIGINS = "SELECT DISTINCT unnest(k.allowed_origins)::text FROM gateway_keys k WHERE k.allowed_origins <> '{}'"


@dataclass(frozen=True)
class Key:
    """A key that works, its owner's accesses (model id -> end, None: without end) and its limits.

    Limits are counted by `limits_id`: the key's own, or that of the first key which it replaced. One that `is_test` spends
    test money, and no model answers it. Of a shared wallet it reads what the keys of who made it (`made_by`) did. What its
    calls say is kept for `content_days`, 0: until it is attributed.
    """

    id: str
    owner_id: int
    limits_id: str
    is_capped: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    expires_at: datetime | None
    is_test: bool
    made_by: int
    content_days: int
    scopes: frozenset[str]
    allowed_models: frozenset[str]
    allowed_origins: frozenset[str]
    accesses: Mapping[str, float | None]

    def require(self, scope: str) -> None:
        """Raises ApiError 403 if the key was not made for this: `call` models, or `read` calls, credits and receipts."""
        if scope not in self.scopes:
            other = "reads only: it makes no calls" if scope == "call" else "makes calls only: it reads nothing"
            raise ApiError(403, f"This key {other}. Use another key.", code="no_access", retry=False)

    def may_call(self, version: Version) -> bool:
        """Whether this key may call a model now: by its own list, and by the model's access mode."""
        if self.allowed_models and version.model_id not in self.allowed_models:
            return False
        if version.owner_id == self.owner_id:
            return True
        if not version.listed:
            return False
        if version.access_mode == "open":
            return True
        if version.model_id not in self.accesses:
            return False
        ends_at = self.accesses[version.model_id]
        return ends_at is None or ends_at > time.time()

    def may_see(self, version: Version) -> bool:
        return version.listed or version.owner_id == self.owner_id


class Keyring:
    """The keys of the last seconds. Revocation is a notification; the clock is only for when that is lost."""

    def __init__(self, database: DatabaseThread):
        self._database = database
        self._known: dict[bytes, tuple[float, Key | None]] = {}
        self._asked: dict[bytes, asyncio.Future[Key | None]] = {}
        self._generation = 0
        self._origins: frozenset[str] = frozenset()
        self._origins_until = 0.0
        self._reading_origins = asyncio.Lock()

    def forget(self) -> None:
        """Something changed: read every key again. Called on the event loop."""
        self._generation += 1
        self._known.clear()
        self._asked.clear()
        self._origins_until = 0.0

    async def origins(self, asked: str, *, known: Set[str]) -> Set[str]:
        """Of which pages a preflight may be answered, which carries no key: `known` ones, or any that some key lists.

        However many origins are asked for, the database is read once in 5 s. Raises Unavailable.
        """
        if not asked or asked in known:
            return known
        async with self._reading_origins:
            if self._origins_until < time.monotonic():
                self._origins = await self._database.run(_read_origins)
                self._origins_until = time.monotonic() + config.KEY_CACHED_S
        return self._origins

    async def authenticate(self, authorization: str) -> Key:
        """The key of an `Authorization: Bearer` header. Raises ApiError 401, Unavailable."""
        scheme, _, secret = authorization.partition(" ")
        if not authorization:
            raise ApiError(
                401, "Send your key as `Authorization: Bearer open_sk_...`.", code="invalid_api_key", retry=False
            )
        secret = secret.strip()
        if scheme.lower() != "bearer":
            raise unknown_key()
        digest = keyformat.digest(secret)
        until, key = self._known.get(digest, (0.0, None))
        if until < time.monotonic():
            if not keyformat.is_well_formed(secret):  # the database is not asked for what cannot be one
                raise unknown_key()
            key = await self._ask(digest)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            raise unknown_key()
        return key

    async def _ask(self, digest: bytes) -> Key | None:
        asked = self._asked.get(digest)
        if asked is None:
            asked = self._asked[digest] = asyncio.ensure_future(self._read(digest))
            asked.add_done_callback(
                lambda done: self._asked.pop(digest, None) if self._asked.get(digest) is done else 0
            )
        return await asyncio.shield(asked)

    async def _read(self, digest: bytes) -> Key | None:
        generation = self._generation
        key = await self._database.run(lambda cursor: read_key(cursor, digest))
        if generation == self._generation:  # else it may have been revoked while it was read
            if len(self._known) >= config.KEYS_CACHED_MAX:
                self._known.clear()
            kept_s = config.KEY_CACHED_S if key else config.UNKNOWN_KEY_CACHED_S
            self._known[digest] = (time.monotonic() + kept_s, key)
        return key


def read_key(cursor: Cursor, digest: bytes) -> Key | None:
    """Read one key by the hash of its secret."""
    cursor.execute(_KEY, [digest])
    row = cursor.fetchone()
    if row is None:
        return None
    return Key(*row[:10], frozenset(row[10]), frozenset(row[11] or ()), frozenset(row[12]), row[13] or {})  # type: ignore[call-arg]  # the columns, in order


def _read_origins(cursor: Cursor) -> frozenset[str]:
    cursor.execute(_ORIGINS)
    return frozenset(row[0] for row in cursor.fetchall())
