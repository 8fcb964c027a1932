"""Short runs of bench/faults_gateway.py and bench/faults_workers.py, with servers of their own; the list of places killed at."""

from __future__ import annotations

import re

from marketplace.gateway import failpoints
from tests.ledger.test_broken_on_purpose import told_by
from tests.processes import ROOT


def test_whoever_is_killed_at_any_place_each_answer_is_charged_once_and_nothing_is_held():
    told = told_by("bench.faults_gateway", "--kills", "13", "--calls", "100", "--seed", "7", "--no-report")

    assert "13 kills (10 of gateway, 1 of postgres, 1 of sequencer, 1 of worker)" in told
    assert f"of a gateway at {len(failpoints.NAMES)} places" in told
    assert int(re.search(r"(\d+) calls", told)[1]) >= 100
    assert " 0 wrong" in told


def test_workers_and_their_supervisor_may_be_killed_at_any_moment():
    told = told_by(
        "bench.faults_workers", "--kills", "12", "--calls", "100", "--workers", "2", "--seed", "4", "--no-report"
    )

    assert "12 kills" in told and "'gateway':" in told and "'supervisor':" in told
    assert int(re.search(r"(\d+) calls", told)[1]) >= 100
    assert " 0 wrong" in told


def test_the_page_of_the_gateway_lists_each_place_where_it_can_be_killed():
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    listed = page.split("## Failpoints\n")[1].split("\n## ")[0]

    assert re.findall(r"^\| `(\w+)` \|", listed, flags=re.M) == list(failpoints.NAMES)
