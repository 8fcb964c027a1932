"""Free calls: a buyer has some of a model each day (UTC), and the developer's promotion wallet pays them at list price.

The money is a lease on the promotion wallet, like any other. The number is a row of the database, taken before the model
runs: of many calls at once, over several processes, no more are free than the developer said.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from ledger import chart

from . import config
from .catalogue import Version
from .charging import Call
from .database import DatabaseThread
from .errors import ApiError
from .leases import Leases, Reservation

_NONE_LEFT_S = 1.0  # who had no free call a moment ago is not looked up again
_TAKE = "SELECT gateway_take_free_call(%s, %s, %s, %s, %s, %s)"
_TAKEN_TODAY = "SELECT count(*) FROM gateway_free_calls WHERE buyer_id = %s AND model_id = %s AND number <= %s"
_AVAILABLE = "SELECT available_nano FROM gateway_balances WHERE account = %s"


@dataclass(frozen=True)
class Offer:
    """What a buyer has left today, and whether the next call would be free."""

    left: int
    covers: bool


class FreeCalls:
    """Sets aside money and a number for calls that cost their buyer nothing."""

    def __init__(self, database: DatabaseThread, leases: Leases, *, process: str):
        self._database, self._leases, self._process = database, leases, process
        self._none_left: dict[tuple[int, str, int], float] = {}

    async def reserve(self, call: Call, worst_nano: int) -> Reservation | None:
        """Make a call free if its buyer has one left and the promotion wallet covers it; None: the buyer pays.

        A model without free calls costs no look-up here.

        Raises:
            Unavailable: the database does not answer.
        """
        version = call.version
        if call.is_test or not worst_nano or not may_be_free(version, call.buyer_id):
            return None
        place = (call.buyer_id, version.model_id, version.free_calls_per_day)
        if self._none_left.get(place, 0.0) > time.monotonic():
            return None
        try:
            reservation = await self._leases.reserve(chart.promotion(version.owner_id), worst_nano)
        except ApiError:  # the promotion wallet does not cover it
            return None
        is_taken = False
        try:
            is_taken = await self._database.run(lambda cursor: self._take(cursor, call))
        finally:
            if not is_taken:
                self._leases.release(reservation, drawn_nano=0)
        if not is_taken:
            if len(self._none_left) >= config.KEYS_CACHED_MAX:
                self._none_left.clear()
            self._none_left[place] = time.monotonic() + _NONE_LEFT_S
            return None
        call.free = True
        return reservation

    async def offer(self, version: Version, buyer_id: int, worst_nano: int, *, is_test: bool) -> Offer:
        """What `reserve` would find now. Raises Unavailable."""
        if is_test or not may_be_free(version, buyer_id):
            return Offer(0, covers=False)
        account = chart.promotion(version.owner_id)

        def act(cursor: Cursor) -> tuple[int, int]:
            cursor.execute(_TAKEN_TODAY, [buyer_id, version.model_id, version.free_calls_per_day])
            taken = cursor.fetchone()[0]
            cursor.execute(_AVAILABLE, [account])
            return taken, (cursor.fetchone() or (0,))[0]

        taken, available_nano = await self._database.run(act)
        left = version.free_calls_per_day - taken
        is_covered = 0 < worst_nano <= available_nano + self._leases.free_nano(account)
        return Offer(left, covers=left > 0 and is_covered)

    def _take(self, cursor: Cursor, call: Call) -> bool:
        at_most, abandoned_s = call.version.free_calls_per_day, config.FREE_CALL_ABANDONED_S
        cursor.execute(_TAKE, [call.buyer_id, call.version.model_id, at_most, str(call.id), self._process, abandoned_s])
        return bool(cursor.fetchone()[0])


def may_be_free(version: Version, buyer_id: int) -> bool:
    """Whether this buyer has free calls of this model at all: developers pay for the calls of others, not for their own."""
    return version.free_calls_per_day > 0 and version.owner_id != buyer_id
