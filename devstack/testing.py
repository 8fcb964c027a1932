"""`dev.py test`: pytest on servers of its own, so that it runs while a site runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from devstack import messages, native
from devstack.children import QUIET_POOLS, bound_to_parent, stop

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2


def run(arguments: list[str]) -> int:
    """Run pytest; returns its exit code. The whole suite is spread over two processes, named files run in one."""
    messages.compile_all(ROOT / "locale")
    named = any(Path(argument.split("::")[0]).exists() for argument in arguments if not argument.startswith("-"))
    chosen = any(argument.startswith(("-n", "--numprocesses", "--dist")) for argument in arguments)
    if not named and not chosen:
        # In the order of the folders: pytest-xdist would keep the files with the fewest tests for the end, which are the
        # longest stories, and one worker would wait for the other.
        # A worker that ends itself, as at faulthandler_timeout, ends the run: pytest-xdist would give the files that it had
        # finished to another one, and wait for them for ever.
        spread = ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "0"]
        arguments = [*spread, *arguments]
    folder = Path(tempfile.mkdtemp(prefix="openledger-tests-", dir=_memory()))
    folder.chmod(0o711)
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment |= (
        QUIET_POOLS
        | native.environment()
        | {"PYTEST_PLUGINS": "devstack.pytest_plugin", "DEVSTACK_TEST_DIR": str(folder)}
    )
    for caught in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, _interrupt)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        env=environment,
        cwd=ROOT,
        preexec_fn=bound_to_parent(signal.SIGTERM),
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        stop(process, signal.SIGINT, 30)
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    """Where files are kept in memory, if there is enough of it. Most tests get a copy of a database of a thousand files:
    that takes half a second on some disks, and a thirtieth of one in memory.
    """
    memory, least_bytes = Path("/dev/shm"), 6 * 1024**3  # noqa: S108 - only folders made by mkdtemp in it  # nosec B108
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < least_bytes:
        return None
    available = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    return memory if available and int(available[1]) * 1024 > least_bytes else None


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
