"""Near copies: records that differ from an earlier leader by less than the calibrated threshold (datanets.leaders)."""

from __future__ import annotations

from datanets import leaders
from datanets.checks.shapes import Checked, Context, Finding, summary

NAME, VERSION = "near_copies", "1"


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each near copy, with its leader to be shown beside it. number: the distance; 0 is an exact copy's, and is
    reported here only where labels or titles differ."""
    found = context.copies if context.copies is not None else _assigned(records, context)
    findings = []
    for record in records:
        if record.key not in found or record.key in context.equal_to:
            continue
        leader, distance = found[record.key]
        likeness = max(0, round(100 * (1 - distance / leaders.THRESHOLDS[context.kind] / 2)))
        code = f"near_copies.copy_{'site' if leader in context.elsewhere else 'here'}"
        evidence = {"leader": leader, "distance": round(distance, 4), "limit": leaders.THRESHOLDS[context.kind]}
        findings.append(Finding(NAME, record.key, "flag", distance, code, {"likeness": likeness}, evidence))
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def _assigned(records: list[Checked], context: Context) -> dict:
    sketches = (
        (record.key, leaders.signature(context.kind, record.body, record.media, schema=context.schema))
        for record in records
    )
    decided = leaders.assign(sketches, context.index if context.index is not None else leaders.Index())
    return {key: (leader, distance) for key, leader, distance in decided if leader is not None}
