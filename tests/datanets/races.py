"""Make a race certain: hold a lock until everybody waits behind it, then let go."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.books import Books, at_once


def race(books: Books, *acts: Callable[[], object], behind: str, wait_s: float = 10) -> list[object]:
    """Run the acts at once while another session holds the lock `behind` (one SQL statement), and let go when all of
    them wait for some lock, or after wait_s. Returns their results, or the exceptions they raised."""
    holder = books.connect()
    cursor = holder.cursor()
    cursor.execute(behind)

    def let_go() -> None:
        until = time.monotonic() + wait_s
        waiting = 0
        while waiting < len(acts) and time.monotonic() < until:
            time.sleep(0.02)
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            waiting = cursor.fetchone()[0]
        holder.commit()
        holder.close()

    return at_once(*acts, let_go)[: len(acts)]
