"""Make a race certain: hold a lock until everybody waits behind it, then let go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.books import Books, at_once

GIVE_UP_S = int(os.environ.get("RACE_GIVE_UP_S", "40"))  # without its safeguard a race waits as long, for nobody


def race(
    books: Books, *acts: Callable[[], object], behind: str, wait_s: float = GIVE_UP_S, at_least: int | None = None
) -> list[object]:
    """Run the acts at once while another session holds the lock `behind` (one SQL statement), and let go when all of
    them wait for some lock. Returns their results, or the exceptions they raised.

    at_least: how many come as far as to wait, if a safeguard turns the others away; let go wait_s after they do.
    """
    needed = len(acts) if at_least is None else at_least
    holder = books.connect()
    cursor = holder.cursor()
    cursor.execute(behind)

    def let_go() -> None:
        began = time.monotonic()
        waiting, waited_s = 0, 0.0
        while waiting < len(acts) and waited_s < (wait_s if waiting >= needed else GIVE_UP_S):
            time.sleep(0.02)
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # or this transaction sees what it saw first
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            waiting, waited_s = cursor.fetchone()[0], time.monotonic() - began
        holder.commit()
        holder.close()
        assert waiting >= needed, f"{waiting} of {needed} waited: there was no race"

    *results, let_go_result = at_once(*acts, let_go)
    if isinstance(let_go_result, BaseException):
        raise let_go_result
    return results
