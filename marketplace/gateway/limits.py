"""What one key may use: requests and tokens a minute, calls at once, and OPEN a day, a month and in all.

All of it holds over all gateway processes together: `rates` and `allowances` take parts of it from the database. A key and
those that replaced it share their limits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

from . import config
from .allowances import Allowances, Share, Short
from .database import DatabaseThread
from .errors import ApiError, spend_cap_reached
from .keyring import Key
from .rates import Exceeded, Rates

logger = logging.getLogger("marketplace.gateway")
_LOOK_S = 1.0


class Bucket:
    """A number per minute, refilled evenly. Starts full."""

    __slots__ = ("at", "left", "limit")

    def __init__(self, limit: int):
        self.limit, self.left, self.at = limit, float(limit), time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self.left = min(self.limit, self.left + (now - self.at) * self.limit / 60)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class Pass:
    """What a running call counts for; `leave` takes it back."""

    key: Key
    slot: Share
    cap: Share | None = None
    reserved_tokens: int = 0
    left: bool = field(default=False)


class Limits:
    """Per key, or the first of those that replaced each other. `process` owns what is leased."""

    def __init__(self, database: DatabaseThread, *, process: str):
        self._allowances = Allowances(database, process=process)
        self._rates = Rates(database)
        self._notes: defaultdict[str, Bucket] = defaultdict(lambda: Bucket(config.NOTES_PER_MINUTE))

    async def enter(self, key: Key) -> Pass:
        """Count a request. Raises ApiError 429, with the time to wait; Unavailable."""
        try:
            slot = await self._allowances.take((key.limits_id, "at_once"), 1)
        except Short:
            raise _too_many("calls at once", 1, self.headers(key)) from None
        if key.requests_per_minute:
            try:
                await self._rates.take((key.limits_id, "requests"), key.requests_per_minute, 1)
            except BaseException as error:
                self._allowances.give_back(slot, used=0)
                if isinstance(error, Exceeded):
                    raise _too_many("requests a minute", error.wait_s, self.headers(key)) from None
                raise
        return Pass(key, slot)

    async def reserve_tokens(self, entered: Pass, worst_tokens: int) -> None:
        """Count the worst case against tokens a minute. Raises ApiError 429, Unavailable."""
        key = entered.key
        if not key.tokens_per_minute:
            return
        try:
            await self._rates.take((key.limits_id, "tokens"), key.tokens_per_minute, worst_tokens)
        except Exceeded as error:
            raise _too_many("tokens a minute", error.wait_s, self.headers(key)) from None
        entered.reserved_tokens = worst_tokens

    async def reserve_cost(self, entered: Pass, worst_nano: int) -> str | None:
        """Count the worst case against the spend caps. Returns from which lease the capture counts the cost; None: of none.

        Raises:
            ApiError: 402, less than that is left. Unavailable: the database does not answer.
        """
        key = entered.key
        if not key.is_capped or not worst_nano:
            return None
        try:
            entered.cap = await self._allowances.take((key.limits_id, "spend"), worst_nano)
        except Short as short:
            raise spend_cap_reached(short.of) from None
        return entered.cap.lease_id

    def may_note(self, entered: Pass) -> bool:
        """Whether one more refusal of this key is stored: a program that goes on without money must not fill tables."""
        return self._notes[entered.key.limits_id].take()

    def leave(self, entered: Pass, *, cost_nano: int = 0, tokens: int = 0) -> None:
        """The call ended; `cost_nano` is what its key spent. Calling it twice counts once."""
        if entered.left:
            return
        entered.left = True
        self._allowances.give_back(entered.slot, used=0)
        if entered.cap is not None:
            self._allowances.give_back(entered.cap, used=cost_nano)
        if entered.reserved_tokens:
            self._rates.give_back((entered.key.limits_id, "tokens"), entered.reserved_tokens - tokens)

    def leave_unknown(self, entered: Pass) -> None:
        """The call may have been stored or not: all that was set aside counts as used until its lease ends."""
        self.leave(entered, cost_nano=entered.cap.amount if entered.cap else 0, tokens=entered.reserved_tokens)

    def headers(self, key: Key) -> dict[str, str]:
        """`x-ratelimit-*` of the limits that this key has, as far as this process knows what the others took."""
        told = {}
        for name in ("requests", "tokens"):
            rate = self._rates.known((key.limits_id, name))
            if rate is not None:
                left = rate.left()
                told[f"x-ratelimit-limit-{name}"] = str(rate.limit)
                told[f"x-ratelimit-remaining-{name}"] = str(max(0, int(left)))
                told[f"x-ratelimit-reset-{name}"] = f"{max(0.0, (rate.limit - left) * 60 / rate.limit):.1f}s"
        return told

    def forget(self, limits_id: str) -> None:
        """The limits of a key changed: take nothing more from what was leased under those before."""
        self._allowances.end_of(limits_id)

    async def look_after(self) -> None:
        """For ever: keep what is used, give back what is not."""
        while True:
            await asyncio.sleep(min(_LOOK_S, config.LEASE_S / 4))
            try:
                await self._allowances.look_after()
                await self._rates.look_after()
            except Exception:
                logger.exception("looking after the keys' limits failed")

    async def end_all(self) -> None:
        """Give back what is leased: this process stops."""
        await self._allowances.end_all()


def _too_many(what: str, wait_s: float, headers: dict[str, str]) -> ApiError:
    return ApiError(
        429,
        f"This key has reached its limit of {what}. Nothing was charged.",
        code="rate_limit_exceeded",
        retry_after_s=max(1, math.ceil(wait_s)),
        headers=headers,
    )
