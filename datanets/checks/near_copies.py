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
        code = f"near_copies.{context.kind}_{'site' if leader in context.elsewhere else 'here'}"
        params = _likeness(context.kind, distance)
        evidence = {"leader": leader, "distance": round(distance, 4), "limit": leaders.THRESHOLDS[context.kind]}
        findings.append(Finding(NAME, record.key, "flag", distance, code, params, evidence))
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def _likeness(kind: str, distance: float) -> dict:
    """What a distance means in percent: shared phrases of a text, correlation of two pictures; a row's has no such scale."""
    if kind == "text":
        return {"percent": round(100 * (1 - distance))}
    return {"percent": round(100 * (1 - distance**2 / 2), 1)} if kind == "image" else {}


def _assigned(records: list[Checked], context: Context) -> dict:
    sketches = (
        (record.key, leaders.signature(context.kind, record.body, record.picture() or None, schema=context.schema))
        for record in records
    )
    decided = leaders.assign(sketches, context.index if context.index is not None else leaders.Index())
    return {key: (leader, distance) for key, leader, distance in decided if leader is not None}
