"""Requests and tokens a minute, over all gateway processes: each takes small parts of what a key has left in the database.

What is given to calls was taken from the one row of the key before, so however many processes there are, a key gets its
limit once. What a process took and does not use goes back within about two seconds.
"""

from __future__ import annotations

import asyncio
import time

import psycopg2
from psycopg2.extensions import cursor as Cursor

from .database import DatabaseThread
from .errors import Unavailable

_TAKE = "SELECT taken, remaining, wait_s FROM gateway_take_rate(%s, %s, %s, %s, %s, %s)"
_PART = 32  # a process takes this part of a limit at once, or what a call needs if that is more
_KEPT_S = 2.0  # for how long it keeps what it does not use
_REFUSED_S = 0.25  # a limit that was reached a moment ago is not asked for again
Place = tuple[str, str]  # the key whose limit it is, and what of: "requests" or "tokens"


class Exceeded(Exception):
    """Too little is left now, for `wait_s`."""

    def __init__(self, wait_s: float):
        super().__init__(wait_s)
        self.wait_s = wait_s


class Rate:
    """What this process has taken of one limit and not given to calls, and what it last heard was left for all."""

    __slots__ = (
        *("asking", "limit", "remaining", "remaining_at", "stock", "stocked_at"),
        *("refused_at", "refused_need", "free_at"),
    )

    def __init__(self, limit: int):
        self.limit, self.remaining = limit, float(limit)
        self.stock = 0.0
        self.stocked_at = self.remaining_at = time.monotonic()
        self.refused_at = self.refused_need = self.free_at = 0.0
        self.asking = asyncio.Lock()

    def left(self) -> float:
        """An estimate of what all processes have left: only what others took since we asked is missing."""
        filled = self.remaining + (time.monotonic() - self.remaining_at) * self.limit / 60
        return min(self.limit, filled + self.stock)


class Rates:
    """All rates of this process."""

    def __init__(self, database: DatabaseThread):
        self._database = database
        self._rates: dict[Place, Rate] = {}

    async def take(self, place: Place, limit: int, need: float) -> None:
        """Count requests or tokens before the call. A call larger than the whole limit waits for a full minute's worth.

        Raises:
            Exceeded: too little is left. Unavailable: the database does not answer.
        """
        rate = self._rates.setdefault(place, Rate(limit))
        rate.limit = limit
        if rate.stock >= need and time.monotonic() - rate.stocked_at < _KEPT_S:
            rate.stock -= need
            return
        async with rate.asking:
            now = time.monotonic()
            if rate.stock < need or now - rate.stocked_at >= _KEPT_S:
                if now - rate.refused_at < _REFUSED_S and need >= rate.refused_need:
                    raise Exceeded(rate.free_at - now)
                await self._ask(place, rate, need)
            # From the answer to here nothing was awaited: what was taken for this call is still there.
            rate.stock -= need

    def give_back(self, place: Place, amount: float) -> None:
        """A call used less than was taken for it."""
        if (rate := self._rates.get(place)) is not None:
            rate.stock += amount
            rate.refused_at = 0.0

    def known(self, place: Place) -> Rate | None:
        return self._rates.get(place)

    async def look_after(self) -> None:
        """Give back what lies idle. To be called every second or so."""
        now = time.monotonic()
        for place, rate in list(self._rates.items()):
            if rate.asking.locked() or now - rate.stocked_at < _KEPT_S:
                continue
            if rate.stock > 0:
                async with rate.asking:
                    try:
                        await self._ask(place, rate, 0)
                    except (Unavailable, psycopg2.Error):
                        return  # it is for a minute only
            elif now - rate.remaining_at > 60:
                del self._rates[place]

    async def _ask(self, place: Place, rate: Rate, need: float) -> None:
        """Give the stock back and take what is needed, or a part of the limit."""
        given_back, rate.stock = rate.stock, 0.0
        more = rate.limit / _PART if need else 0
        asked = [*place, rate.limit, given_back, need, more]

        def act(cursor: Cursor) -> tuple[float, float, float]:
            cursor.execute(_TAKE, asked)
            return cursor.fetchone()

        taken, rate.remaining, wait_s = await self._database.run(act)
        rate.remaining_at = rate.stocked_at = now = time.monotonic()
        rate.stock += taken
        if wait_s > 0:
            rate.refused_at, rate.free_at, rate.refused_need = now, now + wait_s, need
            raise Exceeded(wait_s)
