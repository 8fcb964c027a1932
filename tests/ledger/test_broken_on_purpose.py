"""Short runs of what breaks the books on purpose, each with a cluster of its own: bench/faults.py, bench/tampering.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.processes import ROOT


def told_by(module: str, *arguments: str) -> str:
    """Run it without this run's own servers: it starts a cluster that keeps what it commits. Returns what it printed.

    Its files stand where this run's do: in memory, which outlives every process that is killed here.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "PYTEST_"))}
    environment["TMPDIR"] = os.environ["DEVSTACK_TEST_DIR"]
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_kills_at_each_statement_and_at_random_moments_lose_double_and_overdraw_nothing():
    told = told_by("bench.faults", "--kills", "12", "--seed", "7", "--no-report")

    of_order, of_round = map(int, re.findall(r"(\d+) (?:statements of an order|of a round)", told))
    assert of_order >= 6, "an act of several statements, and what follows it"
    assert of_round >= 20, "every step of a round with witnesses"
    assert "12 kills" in told
    assert " 0 wrong" in told


def test_edits_at_random_places_are_found_and_what_leaves_no_trace_by_the_witnesses():
    told = told_by("bench.tampering", "--edits", "150", "--seed", "7", "--no-report")

    assert "150 edits" in told
    assert told.rstrip().endswith("0 not found")
