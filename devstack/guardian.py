"""Outlives a supervisor that is killed, for as long as it takes to end what the supervisor started.

`kill -9` of the supervisor makes the kernel signal its direct children only; their workers are in the same
process groups, which this process knows. It reads `watch GROUP` and `forget GROUP` from a pipe whose other end
the supervisor alone holds; when the pipe ends, so does everything still watched. `watch` names groups that
may be killed after GRACE_S; `drain` names databases, which get longer because killing them costs a recovery.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

GRACE_S = 3.0
DRAIN_S = 7.0


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, str] = {}
    for line in sys.stdin:
        verb, _, group = line.partition(" ")
        if verb == "forget":
            groups.pop(int(group), None)
        else:
            groups[int(group)] = verb
    started = time.monotonic()
    for group, verb in groups.items():
        _signal(group, signal.SIGINT if verb == "drain" else signal.SIGTERM)
    while groups and time.monotonic() - started < DRAIN_S:
        time.sleep(0.1)
        for group, verb in list(groups.items()):
            if verb == "watch" and time.monotonic() - started > GRACE_S:
                _signal(group, signal.SIGKILL)
            if not _lives(group):
                del groups[group]
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main()
