"""Who runs a site: one lock file per state folder, held exactly as long as its supervisor lives."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from devstack.machine import Missing


def stop_running(state: Path) -> int:
    """`dev.py down`: ask a running `up` to end and wait until it has."""
    pid = running_pid(state)
    if pid is None:
        print(f"devstack: no site runs in {state}")
        return 0
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + 90
    while running_pid(state) is not None:
        if time.monotonic() > end:
            print(f"devstack: process {pid} does not end", file=sys.stderr)
            return 1
        time.sleep(0.1)
    return 0


def running_pid(state: Path) -> int | None:
    """The supervisor of the site in `state`, if it runs: the lock is held exactly as long as it lives."""
    try:
        file = (state / "lock").open("r+")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            words = file.read().split()
            return int(words[0]) if words else None
    return None


def lock(state: Path) -> IO[str]:
    """Take the lock of a state folder; it is held as long as the returned file is open.

    Raises:
        Missing: another supervisor holds it.
    """
    file = (state / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        _, _, address = file.read().strip().partition(" ")
        raise Missing(
            f"A site already runs in {state}{' at ' + address if address else ''}. "
            "Stop it with `dev.py down`, or start a second one with --state DIR."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()} \n")
    file.flush()
    return file
