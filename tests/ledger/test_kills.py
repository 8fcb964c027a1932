"""Clients, the sequencer and Postgres are killed between any two statements, in a process of its own: see bench/faults.py."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.processes import ROOT

KILLS = 12


def test_kills_at_random_moments_lose_double_and_overdraw_nothing():
    # Without this run's own servers: it starts a cluster that keeps what it commits.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "PYTEST_"))}

    done = subprocess.run(
        [sys.executable, "-m", "bench.faults", "--kills", str(KILLS), "--seed", "7"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert f"{KILLS} kills" in done.stdout
    assert "0 wrong" in done.stdout
