"""Start a process of ours on a loopback port, and wait until it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from devstack.children import free_port

ROOT = Path(__file__).resolve().parent.parent
TRIES = 3


def start_on_a_port(
    arguments: list[str],
    *,
    environment: dict[str, str],
    is_up: Callable[[subprocess.Popen, int], bool],
    log: IO[bytes] | None = None,
) -> tuple[subprocess.Popen, int]:
    """Run `python -m <arguments> --port <one that is free>` until it is up.

    Between our look for a port and its bind somebody else may take it: a process that ends gets another one.
    """
    for _ in range(TRIES):
        port = free_port()
        command = [sys.executable, "-m", *arguments, "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=log)
        give_up_at = time.monotonic() + 90
        while process.poll() is None:
            if is_up(process, port):
                return process, port
            if time.monotonic() > give_up_at:
                process.kill()
                raise AssertionError(f"{arguments[0]} does not answer")
            time.sleep(0.02)
    raise AssertionError(f"{arguments[0]} ended at start, on {TRIES} ports")
