"""Secrets: keys and passwords that open something. Known shapes, and random-looking values that are called a secret."""

from __future__ import annotations

import math
import re
from collections import Counter

from datanets.checks.shapes import Checked, Context, Finding, spans, summary, texts_of

NAME, VERSION = "secret_keys", "2"

_SHAPES = {
    "private_key": r"-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED |PGP )?PRIVATE KEY(?: BLOCK)?-----",
    "aws_key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github_token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b",
    "gitlab_token": r"\bglpat-[A-Za-z0-9_-]{20,}\b",
    "slack_token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "google_key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "stripe_key": r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}\b",
    "openai_key": r"\bsk-(?:proj-|ant-[a-z0-9]+-|or-v1-)?[A-Za-z0-9_-]{32,}\b",
    "openledger_key": r"\bopen_(?:sk|test)_[A-Za-z0-9]{30,}\b",
    "npm_token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "pypi_token": r"\bpypi-[A-Za-z0-9_-]{50,}\b",
    "huggingface_token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "sendgrid_key": r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\b",
    "telegram_token": r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b",
    "web_token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "address_with_password": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/@]{3,128}@[^\s/]{3,}",
}
_KNOWN = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items()))
_CALLED = re.compile(
    r"(?i)\b(?:api[_ -]?key|secret(?:[_ -]?key)?|access[_ -]?token|auth[_ -]?token|client[_ -]?secret|passwd|password|pwd)"
    r"[\"']?\s{0,3}(?:=|:|=>|:=)\s{0,3}[\"']?([A-Za-z0-9+/_.~!@#$%^&*-]{8,128})"
)
_BITS_MIN = 3.0  # per character; words have less, random values more


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each record that holds a secret; the evidence points at it without repeating it. number: how many."""
    findings = []
    for record in records:
        found = [(field, *place) for field, text in texts_of(record, context) for place in find(text)]
        if found:
            params = {"count": len(found), "kinds": ", ".join(sorted({what for *_, what in found}))}
            findings.append(Finding(NAME, record.key, "flag", len(found), "secret_keys.found", params, spans(found)))
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def find(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of every secret, in order."""
    found = [(*match.span(), match.lastgroup or "") for match in _KNOWN.finditer(text)]
    for match in _CALLED.finditer(text):
        value, (start, end) = match[1], match.span(1)
        apart = all(end <= other_start or start >= other_end for other_start, other_end, _ in found)
        if apart and _random_looking(value):
            found.append((start, end, "named_secret"))
    return sorted(found)


def _random_looking(value: str) -> bool:
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    kinds = sum(bool(re.search(each, value)) for each in (r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]"))
    return bits >= _BITS_MIN and kinds >= 3 or (bits >= 3.5 and kinds >= 2 and len(value) >= 20)
