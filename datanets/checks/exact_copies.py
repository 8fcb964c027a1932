"""Exact copies: records with the same canonical bytes as an earlier one, here or anywhere on the site."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from datanets.checks.shapes import Checked, Context, Finding, summary
from datanets.kinds import KINDS

NAME, VERSION = "exact_copies", "1"


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each record that repeats an earlier one; the evidence names it."""
    canonical = KINDS[context.kind].canonical
    seen: dict[bytes, Hashable] = {}
    findings = []
    for record in records:
        first = seen.setdefault(hashlib.sha256(canonical(record.body)).digest(), record.key)
        earlier = context.equal_to.get(record.key, None if first == record.key else first)
        if earlier is not None:
            place = "site" if earlier in context.elsewhere else "here"
            code = f"exact_copies.copy_{place}"
            findings.append(Finding(NAME, record.key, "flag", 1, code, {}, {"leader": earlier}))
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]
