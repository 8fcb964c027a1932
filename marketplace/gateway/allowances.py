"""Limits of a key that all gateway processes share exactly: what it may spend, and how many of its calls run at once.

As with money, this process leases a part of a limit (marketplace/sql/limits.sql) and gives it to calls from memory, on one
event loop, with no await between the test and the decrement. Where little is left a lease gets what the next call needs,
and ends as soon as no call runs. At midnight UTC, by the database's clock, leases of what may be spent end, so that a
call counts for the day on which it began.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg2
from psycopg2.extensions import cursor as Cursor

from . import config
from .database import DatabaseThread
from .errors import Unavailable

_LEASE = "SELECT granted, day_left_s, short_of FROM gateway_lease_key(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
_REFUSED_S = 0.1  # a limit that was reached a moment ago is not asked for again
Place = tuple[str, str]  # the key whose limit it is, and what of: "spend" or "at_once"


class Short(Exception):
    """The limit is reached. `of`: day, month, total or at_once."""

    def __init__(self, of: str):
        super().__init__(of)
        self.of = of


class Lease:
    """A part of a limit. `free` is neither used nor promised to a running call."""

    __slots__ = ("day_ends_at", "expires_at", "free", "granted", "id", "over", "place", "running", "scarce", "used_at")

    def __init__(self, place: Place):
        self.id, self.place = uuid4(), place
        self.granted = self.free = self.running = 0
        self.used_at = time.monotonic()
        self.expires_at = self.day_ends_at = self.used_at
        self.scarce = False
        self.over = False  # no further call gets anything of it


@dataclass
class Share:
    """What one running call has of a lease."""

    lease: Lease
    amount: int

    @property
    def lease_id(self) -> str:
        return str(self.lease.id)


class Allowances:
    """All leases of this process on keys' limits: at most one per key and use gives to new calls."""

    def __init__(self, database: DatabaseThread, *, process: str):
        self._database, self._process = database, process
        self._leases: dict[Place, Lease] = {}
        self._ending: set[Lease] = set()
        self._sizes: dict[Place, int] = {}
        self._asking: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refused: dict[Place, tuple[float, int, str]] = {}
        self._acts: set[asyncio.Future[None]] = set()

    async def take(self, place: Place, amount: int) -> Share:
        """Set aside what a call can use at most.

        Raises:
            Short: less than that is left. Unavailable: the database does not answer.
        """
        while True:
            if (share := self._from_memory(place, amount)) is not None:
                return share
            async with self._asking[place]:
                if not self._has(place, amount):
                    self._refuse_again(place, amount)
                    # Whoever asked may leave; what is granted is known to the lease all the same.
                    await asyncio.shield(self._keep(asyncio.ensure_future(self._fill(place, amount))))

    def give_back(self, share: Share, *, used: int) -> None:
        """The call ended and used this much. Of what may be spent, the capture has counted it."""
        lease = share.lease
        lease.free += share.amount - used
        lease.running -= 1
        lease.used_at = time.monotonic()
        self._refused.pop(lease.place, None)
        if not lease.running and (lease.over or (lease.scarce and not self._asking[lease.place].locked())):
            self._end(lease)

    async def look_after(self) -> None:
        """Keep the leases that are used, end those that are not. To be called every second or so."""
        now = time.monotonic()
        for lease in list(self._leases.values()):
            if not lease.running and now - lease.used_at >= config.LEASE_IDLE_S:
                self._end(lease)
        if len(self._asking) > config.KEYS_CACHED_MAX:
            self._forget()
        ageing = [
            lease for lease in (*self._leases.values(), *self._ending) if lease.expires_at - now < config.LEASE_S / 2
        ]
        if ageing:
            await self._renew(ageing, now + config.LEASE_S)

    def end_of(self, key_id: str) -> None:
        """End what is leased of a key's limits, and forget which were reached; running calls keep their shares."""
        for place in ((key_id, "spend"), (key_id, "at_once")):
            self._refused.pop(place, None)
            if (lease := self._leases.get(place)) is not None:
                self._end(lease)

    async def end_all(self) -> None:
        """End every lease: this process stops."""
        for lease in [*self._leases.values(), *self._ending]:
            lease.running = 0
            self._end(lease)
        if self._acts:
            await asyncio.wait(self._acts, timeout=5)

    def _from_memory(self, place: Place, amount: int) -> Share | None:
        if not self._has(place, amount):
            return None
        lease = self._leases[place]
        lease.free -= amount
        lease.running += 1
        lease.used_at = time.monotonic()
        return Share(lease, amount)

    def _has(self, place: Place, amount: int) -> bool:
        lease = self._leases.get(place)
        if lease is not None and min(lease.expires_at, lease.day_ends_at) <= time.monotonic():
            self._end(lease)
            return False
        return lease is not None and lease.free >= amount

    def _refuse_again(self, place: Place, amount: int) -> None:
        refused_at, least, of = self._refused.get(place, (0.0, 0, ""))
        if time.monotonic() - refused_at < _REFUSED_S and amount >= least:
            raise Short(of)

    async def _fill(self, place: Place, amount: int) -> None:
        """Lease what a call lacks, and some calls' worth more while there is plenty."""
        lease = self._leases.get(place) or Lease(place)
        lacking = amount - lease.free
        if lacking <= 0:
            return  # a call that ended meanwhile gave back enough
        size = min(self._sizes.get(place, config.LEASE_CALLS_MIN // 2) * 2, config.LEASE_CALLS_MAX)
        asked = [str(lease.id), *place, self._process, lease.granted, lacking, amount, size - 1, config.LEASE_S]
        now = time.monotonic()

        def act(cursor: Cursor) -> tuple[int | None, float, str | None]:
            cursor.execute(_LEASE, asked)
            return cursor.fetchone()

        granted, day_left_s, short_of = await self._database.run(act)
        if lease.over:
            return  # it ended meanwhile, and so will all that it was granted
        if granted is None:
            self._drop(lease)
            return
        if short_of is not None:
            self._refused[place] = (time.monotonic(), amount, short_of)
            lease.scarce = (
                True  # what is left of it is too little for this call, and may be enough with the rest of others
            )
            if self._leases.get(place) is lease and not lease.running:
                self._end(lease)
            raise Short(short_of)
        more = granted - lease.granted
        lease.scarce = more < lacking + amount * (size - 1)
        lease.granted, lease.free = granted, lease.free + more
        lease.expires_at, lease.day_ends_at = now + config.LEASE_S, now + day_left_s
        self._leases[place], self._sizes[place] = lease, size

    async def _renew(self, ageing: list[Lease], expires_at: float) -> None:
        ids = [str(lease.id) for lease in ageing]

        def act(cursor: Cursor) -> set[UUID | str]:
            cursor.execute("SELECT gateway_keep_key_leases(%s::uuid[], %s)", [ids, config.LEASE_S])
            return {str(row[0]) for row in cursor.fetchall()}

        try:
            alive = await self._database.run(act)
        except (Unavailable, psycopg2.Error):
            return  # they end by the database's clock
        for lease in ageing:
            if str(lease.id) in alive:
                lease.expires_at = expires_at
            else:
                self._drop(lease)

    def _end(self, lease: Lease) -> None:
        """Give a lease's rest back once its calls have ended; new calls take from another one."""
        lease.over = True
        if self._leases.get(lease.place) is lease:
            del self._leases[lease.place]
            self._sizes.pop(lease.place, None)
        if lease.running:
            self._ending.add(lease)
            return
        self._ending.discard(lease)
        self._keep(asyncio.ensure_future(self._tell_end(lease.id)))

    async def _tell_end(self, lease_id: UUID) -> None:
        def act(cursor: Cursor) -> None:
            cursor.execute("SELECT gateway_end_key_lease(%s)", [str(lease_id)])

        try:
            await self._database.run(act)
        except (Unavailable, psycopg2.Error):
            return  # it is not kept any more: the next one who asks for this limit ends it

    def _drop(self, lease: Lease) -> None:
        """The database has ended this lease."""
        lease.over = True
        self._ending.discard(lease)
        if self._leases.get(lease.place) is lease:
            del self._leases[lease.place]
            self._sizes.pop(lease.place, None)

    def _forget(self) -> None:
        for place in [place for place, lock in self._asking.items() if place not in self._leases and not lock.locked()]:
            del self._asking[place]
            self._refused.pop(place, None)

    def _keep(self, act: asyncio.Future[None]) -> asyncio.Future[None]:
        self._acts.add(act)
        act.add_done_callback(self._acts.discard)
        return act
