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
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 3.0
DRAIN_S = 7.0


class Guard:
    """The supervisor's end of the pipe. A guardian that is killed itself is replaced, and told everything again."""

    def __init__(self, state: Path) -> None:
        self._state = state  # in its command line, for whoever lists processes
        self._groups: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def see_to_it(self) -> None:
        """Start the guardian unless it lives."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "devstack.guardian", str(self._state)],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            for group, verb in self._groups.items():
                self._tell(verb, group)

    def watch(self, group: int, *, drain: bool = False) -> None:
        """End this process group should we die; `drain` gives it the time a database needs."""
        self._groups[group] = "drain" if drain else "watch"
        self._tell(self._groups[group], group)

    def forget(self, group: int) -> None:
        """This group has ended; its number may belong to somebody else soon."""
        self._groups.pop(group, None)
        self._tell("forget", group)

    def end(self) -> None:
        """Let the guardian end, after what is still watched."""
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(30)

    def _tell(self, verb: str, group: int) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{verb} {group}\n".encode())
                self._process.stdin.flush()


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
