"""Places where a test kills this process, to see what is left: `FAILPOINTS=1 FAIL_AT=before_capture` or `..=name@7`.

`name@7` dies at the seventh time. Without FAILPOINTS=1 nothing here does anything.
"""

from __future__ import annotations

import os
import signal

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

_armed, _, _times = (
    os.environ.get("FAIL_AT", "").partition("@") if os.environ.get("FAILPOINTS") == "1" else ("", "", "")
)
_left = int(_times or 1)


def hit(name: str) -> None:
    """Die here if this is the place that was asked for."""
    global _left
    if name != _armed:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
