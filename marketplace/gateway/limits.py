"""What one key may use: requests and tokens a minute, calls at once, and OPEN in all.

Minutes are counted by each gateway process for itself; with several, a key gets its limit from each. The spend cap holds
over all of them, up to what the other processes took in the last 5 s.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

from psycopg2.extensions import cursor as Cursor

from . import config
from .database import DatabaseThread
from .errors import ApiError
from .keyring import Key

_SPENT = "SELECT coalesce(sum(cost_nano), 0) FROM gateway_spent WHERE key_id = %s"


class Bucket:
    """A number per minute, refilled evenly. Starts full."""

    __slots__ = ("at", "left", "limit")

    def __init__(self, limit: int):
        self.limit, self.left, self.at = limit, float(limit), time.monotonic()

    def refill(self, limit: int) -> None:
        now = time.monotonic()
        if limit != self.limit:
            self.left, self.limit = min(self.left, limit), limit
        self.left = min(self.limit, self.left + (now - self.at) * self.limit / 60)
        self.at = now

    def wait_s(self, wanted: float) -> float:
        return max(0.0, (min(wanted, self.limit) - self.left) * 60 / self.limit)


@dataclass
class _Usage:
    running: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None
    notes: Bucket | None = None
    spent_nano: int = 0
    reserved_nano: int = 0
    since_read_nano: int = 0
    read_at: float = -math.inf
    reading: asyncio.Future[None] | None = None


@dataclass
class Pass:
    """What a running call counts for; `leave` takes it back."""

    key: Key
    usage: _Usage
    reserved_nano: int = 0
    reserved_tokens: int = 0
    left: bool = field(default=False)


class Limits:
    """Per key id. Memory only."""

    def __init__(self, database: DatabaseThread):
        self._database = database
        self._usage: dict[str, _Usage] = defaultdict(_Usage)

    def enter(self, key: Key) -> Pass:
        """Count a request. Raises ApiError 429, with the time to wait."""
        usage = self._usage[key.id]
        if key.requests_per_minute:
            usage.requests = usage.requests or Bucket(key.requests_per_minute)
            usage.requests.refill(key.requests_per_minute)
            if usage.requests.left < 1:
                raise _too_many("requests a minute", usage.requests.wait_s(1), self.headers(key))
        if usage.running >= config.KEY_CALLS_MAX:
            raise _too_many("calls at once", 1, self.headers(key))
        if usage.requests:
            usage.requests.left -= 1
        usage.running += 1
        return Pass(key, usage)

    def reserve_tokens(self, entered: Pass, worst_tokens: int) -> None:
        """Count the worst case against tokens a minute. Raises ApiError 429."""
        key, usage = entered.key, entered.usage
        if key.tokens_per_minute:
            usage.tokens = usage.tokens or Bucket(key.tokens_per_minute)
            usage.tokens.refill(key.tokens_per_minute)
            # A call larger than the whole limit waits for a full bucket, and then goes.
            if usage.tokens.left < min(worst_tokens, usage.tokens.limit):
                raise _too_many("tokens a minute", usage.tokens.wait_s(worst_tokens), self.headers(key))
        if usage.tokens:
            usage.tokens.left -= worst_tokens
            entered.reserved_tokens = worst_tokens

    async def reserve_cost(self, entered: Pass, worst_nano: int) -> None:
        """Count the worst case against the spend cap. Raises ApiError 402."""
        key, usage = entered.key, entered.usage
        if key.spend_cap_nano is not None and time.monotonic() - usage.read_at > config.KEY_CACHED_S:
            if usage.reading is None:
                usage.reading = asyncio.ensure_future(self._read_spent(key, usage))
            await asyncio.shield(usage.reading)  # everybody waits: before it is read the sum would be 0
        # From here on nothing is awaited: what is looked at is what is taken from.
        if key.spend_cap_nano is not None:
            taken_nano = usage.spent_nano + usage.since_read_nano + usage.reserved_nano
            if taken_nano + worst_nano > key.spend_cap_nano:
                raise ApiError(
                    402,
                    "This key has reached its spend cap. Raise the cap, or use another key.",
                    code="spend_cap_reached",
                    retry=False,
                )
        usage.reserved_nano += worst_nano
        entered.reserved_nano = worst_nano

    def may_note(self, entered: Pass) -> bool:
        """Whether one more refusal of this key is stored: a program that goes on without money must not fill tables."""
        usage = entered.usage
        usage.notes = usage.notes or Bucket(config.NOTES_PER_MINUTE)
        usage.notes.refill(config.NOTES_PER_MINUTE)
        if usage.notes.left < 1:
            return False
        usage.notes.left -= 1
        return True

    def leave(self, entered: Pass, *, cost_nano: int = 0, tokens: int = 0) -> None:
        """The call ended; `cost_nano` is what its key spent. Calling it twice counts once."""
        if entered.left:
            return
        entered.left = True
        usage = entered.usage
        usage.running -= 1
        usage.reserved_nano -= entered.reserved_nano
        usage.since_read_nano += cost_nano
        if usage.tokens and entered.reserved_tokens:
            usage.tokens.left += entered.reserved_tokens - tokens

    def headers(self, key: Key) -> dict[str, str]:
        """`x-ratelimit-*` of the limits that this key has."""
        usage, told = self._usage[key.id], {}
        for name, bucket in (("requests", usage.requests), ("tokens", usage.tokens)):
            if bucket is not None:
                told[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
                told[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left)))
                told[f"x-ratelimit-reset-{name}"] = f"{max(0.0, (bucket.limit - bucket.left) * 60 / bucket.limit):.1f}s"
        return told

    async def _read_spent(self, key: Key, usage: _Usage) -> None:
        def act(cursor: Cursor) -> int:
            cursor.execute(_SPENT, [key.id])
            return int(cursor.fetchone()[0])

        before_nano = usage.since_read_nano
        try:
            usage.spent_nano = await self._database.run(act)
            # What ended while it was read may be in the sum, and counts twice until the next reading: never too little.
            usage.since_read_nano -= before_nano
            usage.read_at = time.monotonic()
        finally:
            usage.reading = None


def _too_many(what: str, wait_s: float, headers: dict[str, str]) -> ApiError:
    return ApiError(
        429,
        f"This key has reached its limit of {what}. Nothing was charged.",
        code="rate_limit_exceeded",
        retry_after_s=max(1, math.ceil(wait_s)),
        headers=headers,
    )
