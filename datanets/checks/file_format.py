"""Format and schema: which rows or members could not be read, with their lines."""

from __future__ import annotations

from dataclasses import asdict

from datanets.checks.shapes import EVIDENCE_MAX, Checked, Context, Finding, Severity

NAME, VERSION = "file_format", "1"


def run(records: list[Checked], context: Context) -> list[Finding]:
    """One finding for the file; its evidence lists the broken rows. number: how many there are."""
    problems = [each if isinstance(each, dict) else asdict(each) for each in context.problems]
    if not problems:
        return [Finding(NAME, None, "pass", 0, "file_format.none", {"count": len(records)})]
    shown = [
        {key: each.get(key) for key in ("line", "column", "name", "code", "reason", "params")}
        for each in problems[:EVIDENCE_MAX]
    ]
    severity: Severity = "flag" if records else "fail"
    params = {"count": len(problems), "of": len(problems) + len(records)}
    return [Finding(NAME, None, severity, len(problems), "file_format.some", params, {"problems": shown})]
