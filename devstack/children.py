"""Starting and stopping children so that none outlives us, however we end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

_kept: list[IO[str]] = []  # one open file for each port that is ours

# Spinning thread pools made every process here 3-10 times slower.
QUIET_POOLS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def bound_to_parent(death_signal: int, user: pwd.struct_passwd | None = None) -> Callable[[], None]:
    """A `preexec_fn`: own session, optionally another user, and `death_signal` when our thread ends.

    The kernel ties the signal to the *thread* that forks, so start children from the main thread only.
    """
    parent = os.getpid()

    def run() -> None:
        os.setsid()  # its own group: Ctrl-C reaches the supervisor alone
        if user is not None:  # before prctl, because changing credentials clears the death signal
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
            if os.getppid() != parent:  # it died before prctl
                os._exit(1)

    return run


def stop(process: subprocess.Popen[bytes] | None, stop_signal: int, timeout_s: float = 15) -> None:
    """Ask a child to stop, wait, then kill its whole group. A child that has ended is fine."""
    if process is None:
        return
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(stop_signal)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            process.wait(5)
    kill_rest(process.pid)  # its workers, should they have survived it


def kill_rest(group: int) -> None:
    """Kill what is left of a group whose leader has ended and was waited for.

    As long as somebody of it lives its number is nobody else's. Where a process has that number again nobody does, and a
    group of that number is a stranger's.
    """
    if not Path(f"/proc/{group}").exists():
        kill_group(group)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def free_port(preferred: int = 0) -> int:
    """A loopback port nobody listens on: `preferred` if it is free, else any."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def take_port(port: int) -> bool:
    """Keep a loopback port for us until this process ends; False if somebody listens on it, or keeps it.

    Some seconds pass until our child listens: in these, a second site would find the same port free.
    """
    folder = Path(tempfile.gettempdir()) / f"openledger-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = (folder / str(port)).open("w")
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if free_port(port) == port:
            _kept.append(file)
            return True
    file.close()
    return False
