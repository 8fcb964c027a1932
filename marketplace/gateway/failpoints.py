"""Places where a test kills a process, to see what is left: `FAILPOINTS=1 FAIL_AT=before_capture` or `..=name@7`.

`name@7` is the seventh time; then this process dies. Without FAILPOINTS=1 nothing here does anything.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

NAMES = (
    "after_idempotency",  # the key is taken, nothing is reserved
    "after_lease",  # money is held, nothing has run
    "before_answer",
    "in_stream",  # a part of the answer is at the client
    "after_answer",  # the answer is here, and not charged
    "before_capture",  # in the thread, before the statement
    "after_capture",  # charged, and nobody knows
    "before_last_byte",  # charged and known, not sent
    "after_last_byte",
    "before_lease_close",
)

Act = Callable[[], object]

_plan: list[tuple[str, int, Act]] = []
_armed, _left = "", 0


def arm(plan: Iterable[tuple[str, int, Act]]) -> None:
    """Each is a place, how many times it is passed until then, and what is done there; the next one follows after that."""
    global _armed, _left
    _plan[:] = plan
    _armed, _left = _plan[0][:2] if _plan else ("", 0)


def hit(name: str) -> None:
    """Die here, or do what else there is to do, if this is the place that was asked for."""
    global _left
    if name != _armed:
        return
    _left -= 1
    if _left <= 0:
        act = _plan[0][2]
        arm(_plan[1:])
        act()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("FAILPOINTS") == "1" and os.environ.get("FAIL_AT"):
    _name, _, _times = os.environ["FAIL_AT"].partition("@")
    arm([(_name, int(_times or 1), die)])
