"""Money before work: every call reserves its worst case from a lease, a ledger hold that this process draws on.

A lease is decremented in memory, on one event loop, with no await between the test and the decrement: that is why 64
simultaneous calls on a wallet for ten make exactly ten. Beyond what a call needs, a lease takes at most a quarter of what is
left, so that no process has what another one's callers are refused. Where that was little, or too little for a call, the
rest goes back as soon as no call runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from uuid import UUID

import psycopg2
from psycopg2.extensions import cursor as Cursor

from ledger import errors as ledger_errors
from ledger import ids

from . import config, failpoints
from .database import DatabaseThread
from .errors import Unavailable, insufficient

logger = logging.getLogger("marketplace.gateway")
SUPPLY_NANO = 10**18  # all the OPEN there is
_REFUSED_S = 0.1  # a wallet that was too small a moment ago is not asked again
_AVAILABLE = "SELECT available_nano FROM gateway_balances WHERE account = %s"


class Lease:
    """One open hold on one account. `free_nano` is neither drawn nor reserved by a running call."""

    __slots__ = (
        "account",
        "amount_nano",
        "closing",
        "expires_at",
        "free_nano",
        "id",
        "running",
        "scarce",
        "size",
        "used_at",
    )

    def __init__(self, id: UUID, account: str, amount_nano: int, expires_at: float):
        self.id, self.account, self.amount_nano, self.free_nano = id, account, amount_nano, amount_nano
        self.expires_at = expires_at
        self.used_at = time.monotonic()
        self.running = 0
        self.scarce = False
        self.size = config.LEASE_CALLS_MIN
        self.closing: asyncio.Future[None] | None = None


@dataclass
class Reservation:
    """A part of a lease that one call may draw. A call that cannot cost anything has none."""

    lease: Lease | None
    amount_nano: int

    @property
    def hold_id(self) -> str | None:
        return str(self.lease.id) if self.lease else None


class Leases:
    """All leases of this process: at most one per account."""

    def __init__(self, database: DatabaseThread, *, owner: str, generation: int):
        self._database, self._owner, self._generation = database, owner, generation
        self._leases: dict[str, Lease] = {}
        self._filling: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, tuple[float, int]] = {}
        self._closings: set[asyncio.Future[None]] = set()

    async def reserve(self, account: str, amount_nano: int) -> Reservation:
        """Set aside what a call can cost at most.

        Raises:
            ApiError: 402, the wallet does not cover it. Unavailable: the database does not answer.
        """
        if amount_nano == 0:
            return Reservation(None, 0)
        while True:
            lease = self._leases.get(account)
            if lease is not None and lease.closing is not None:
                await asyncio.shield(lease.closing)
                continue
            if lease is not None and lease.expires_at <= time.monotonic():
                del self._leases[account]  # not renewed in time; what runs on it is charged without it if need be
                lease = None
            if lease is not None and lease.free_nano >= amount_nano:
                lease.free_nano -= amount_nano
                lease.running += 1
                lease.used_at = time.monotonic()
                failpoints.hit("after_lease")
                return Reservation(lease, amount_nano)
            filling = self._filling.get(account)
            if filling is not None:
                await asyncio.wait([filling])
                continue
            refused_at, refused_nano = self._refused.get(account, (0.0, 0))
            if time.monotonic() - refused_at < _REFUSED_S and amount_nano >= refused_nano:
                raise insufficient()
            filling = asyncio.ensure_future(self._fill(account, lease, amount_nano))
            self._filling[account] = filling
            filling.add_done_callback(lambda _: self._filling.pop(account, None))
            await asyncio.shield(filling)

    def free_nano(self, account: str) -> int:
        """What this process has set aside on an account and not promised to a call."""
        lease = self._leases.get(account)
        return lease.free_nano if lease is not None and lease.closing is None else 0

    def held(self) -> tuple[int, int]:
        """How many leases there are, and the nano-OPEN they hold. For any thread."""
        leases = list(self._leases.values())
        return len(leases), sum(lease.amount_nano for lease in leases)

    def release(self, reservation: Reservation, *, drawn_nano: int) -> None:
        """Give back what a call did not draw."""
        lease = reservation.lease
        if lease is None:
            return
        reservation.lease = None
        lease.free_nano += reservation.amount_nano - drawn_nano
        lease.running -= 1
        lease.used_at = time.monotonic()
        self._refused.pop(lease.account, None)
        if lease.scarce and not lease.running and lease.account not in self._filling:
            self._begin_close(lease)

    def drop(self, reservation: Reservation) -> None:
        """The ledger has closed this lease (it expired): no further call uses it."""
        lease = reservation.lease
        if lease is not None and self._leases.get(lease.account) is lease:
            del self._leases[lease.account]

    async def look_after(self) -> None:
        """For ever: renew the leases that are used, close those that are not."""
        while True:
            await asyncio.sleep(min(1.0, config.LEASE_S / 4))
            now = time.monotonic()
            for lease in list(self._leases.values()):
                if lease.closing is not None or lease.account in self._filling:
                    continue
                if not lease.running and now - lease.used_at >= config.LEASE_IDLE_S:
                    self._begin_close(lease)
                elif lease.expires_at - now < config.LEASE_S / 2:
                    await self._renew(lease)

    async def close_all(self) -> None:
        """End every lease: this process stops."""
        for lease in list(self._leases.values()):
            if lease.closing is None:
                self._begin_close(lease)
        if self._closings:
            await asyncio.wait(self._closings, timeout=5)

    async def _fill(self, account: str, lease: Lease | None, need_nano: int) -> None:
        """Take a hold, or raise the one there is: by several calls' worth, else by exactly what is missing."""
        missing_nano = need_nano - (lease.free_nano if lease else 0)
        if missing_nano <= 0:
            return  # a call that ended meanwhile gave back enough
        size = min(lease.size * 2, config.LEASE_CALLS_MAX) if lease else config.LEASE_CALLS_MIN
        wanted_nano = max(missing_nano, min(need_nano * size, SUPPLY_NANO))
        expires_at = time.monotonic() + config.LEASE_S
        try:
            if lease is None:
                await self._take(account, missing_nano, wanted_nano, expires_at)
            else:
                await self._raise(lease, missing_nano, wanted_nano, expires_at)
                lease.size = size
        except psycopg2.Error as error:
            refused = ledger_errors.of(error)
            if isinstance(refused, ledger_errors.InsufficientFunds):
                self._refused[account] = (time.monotonic(), need_nano)
                if len(self._refused) > config.KEYS_CACHED_MAX:
                    self._refused.clear()
                if lease is not None:  # too little for this call, and perhaps enough with what others give back
                    lease.scarce = True
                    if not lease.running:
                        self._begin_close(lease)
                raise insufficient() from None
            if isinstance(refused, ledger_errors.HoldClosed) and lease is not None:
                if self._leases.get(account) is lease:
                    del self._leases[account]
                return  # the caller looks again, and takes a fresh one
            raise

    async def _take(self, account: str, least_nano: int, wanted_nano: int, expires_at: float) -> None:
        hold_id = ids.new_id()
        asked_nano = 0

        def act(cursor: Cursor) -> int:
            nonlocal asked_nano  # what is repeated after a lost connection asks for the same
            asked_nano = asked_nano or _within_a_quarter(cursor, account, least_nano, wanted_nano)
            cursor.execute(
                "SELECT ledger_hold(%s, %s, %s, %s, %s, %s, %s)",
                [str(hold_id), account, asked_nano, least_nano, config.LEASE_S, self._owner, self._generation],
            )
            return int(cursor.fetchone()[0])

        granted_nano = await self._database.run(act)
        lease = Lease(hold_id, account, granted_nano, expires_at)
        lease.scarce = granted_nano < wanted_nano
        self._leases[account] = lease

    async def _raise(self, lease: Lease, least_nano: int, wanted_nano: int, expires_at: float) -> None:
        before_nano = lease.amount_nano
        asked_nano = 0

        def act(cursor: Cursor) -> int:
            nonlocal asked_nano
            asked_nano = asked_nano or _within_a_quarter(cursor, lease.account, least_nano, wanted_nano)
            for more_nano in (asked_nano, least_nano):
                try:
                    cursor.execute(
                        "SELECT ledger_extend(%s, %s, %s)", [str(lease.id), before_nano + more_nano, config.LEASE_S]
                    )
                except psycopg2.Error as error:
                    short = isinstance(ledger_errors.of(error), ledger_errors.InsufficientFunds)
                    if short and more_nano > least_nano:
                        continue
                    raise
                return more_nano
            raise AssertionError("unreachable")

        more_nano = await self._database.run(act)
        lease.amount_nano += more_nano
        lease.free_nano += more_nano
        lease.expires_at = expires_at
        lease.scarce = more_nano < wanted_nano

    async def _renew(self, lease: Lease) -> None:
        expires_at = time.monotonic() + config.LEASE_S

        def act(cursor: Cursor) -> None:
            cursor.execute("SELECT ledger_extend(%s, NULL, %s)", [str(lease.id), config.LEASE_S])

        try:
            await self._database.run(act)
            lease.expires_at = expires_at
        except Unavailable:
            return
        except psycopg2.Error:
            if self._leases.get(lease.account) is lease:
                del self._leases[lease.account]

    def _begin_close(self, lease: Lease) -> None:
        lease.closing = asyncio.ensure_future(self._close(lease))
        self._closings.add(lease.closing)
        lease.closing.add_done_callback(self._closings.discard)

    async def _close(self, lease: Lease) -> None:
        failpoints.hit("before_lease_close")

        def act(cursor: Cursor) -> None:
            cursor.execute("SELECT ledger_close(%s)", [str(lease.id)])

        # If it cannot be closed now the ledger's clock will: it is not renewed any more.
        with contextlib.suppress(Unavailable, psycopg2.Error):
            await self._database.run(act)
        if self._leases.get(lease.account) is lease:
            del self._leases[lease.account]


def _within_a_quarter(cursor: Cursor, account: str, least_nano: int, wanted_nano: int) -> int:
    """What is wanted, or the least and a quarter of what is left beyond it."""
    if wanted_nano == least_nano:
        return least_nano
    cursor.execute(_AVAILABLE, [account])
    left_nano = (cursor.fetchone() or (0,))[0] - least_nano
    return least_nano + max(0, min(wanted_nano - least_nano, left_nano // 4))
