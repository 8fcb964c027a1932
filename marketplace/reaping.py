"""What dead gateways still hold of money and of keys' limits: released once they are surely dead, long before it expires."""

from __future__ import annotations

import logging
import time

from django.db import connection

from ledger import services as ledger

logger = logging.getLogger("marketplace.reaping")

#: A gateway whose connection broke looks dead until it has another one: it looks after that every 2 s. Should it still be
#: taken for dead, what it answers meanwhile is paid from the wallet.
GRACE_S = 10.0
EVERY_S = 2.0
_ALL_GENERATIONS = (1 << 63) - 1  # each life of a gateway has a name of its own


class Reaper:
    """Ends the holds and leases of gateways that died, and remembers since when each looks dead. One per sequencer."""

    def __init__(self, *, grace_s: float = GRACE_S, every_s: float = EVERY_S):
        self._grace_s, self._every_s = grace_s, every_s
        self._dead_since: dict[str, float] = {}
        self._next_look = 0.0

    def reap(self) -> int:
        """Look who is dead, if it is time to. Returns how many holds were closed."""
        now = time.monotonic()
        if now < self._next_look:
            return 0
        self._next_look = now + self._every_s
        dead = _dead_gateways()
        self._dead_since = {name: self._dead_since.get(name, now) for name in dead}
        closed = 0
        for name in [name for name, since in self._dead_since.items() if now - since >= self._grace_s]:
            closed += ledger.close_holds_of(owner=name, below_generation=_ALL_GENERATIONS)
            _end_key_leases_of(name)
            logger.info("released what the dead process %s held", name)
        return closed


def _dead_gateways() -> list[str]:
    """Gateways that hold something and are without the lock that says they live."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT gateway_key_lease_holders()")
        holders = sorted({*ledger.holders("gateway:"), *(row[0] for row in cursor.fetchall())})
        if not holders:
            return []
        cursor.execute("SELECT name FROM unnest(%s::text[]) AS name WHERE NOT gateway_lives(name)", [holders])
        return [row[0] for row in cursor.fetchall()]


def _end_key_leases_of(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT gateway_end_key_leases_of(%s)", [name])
