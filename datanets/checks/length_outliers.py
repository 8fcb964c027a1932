"""Length: texts that are much shorter or longer than the others, and texts that repeat themselves."""

from __future__ import annotations

import zlib

import numpy as np

from datanets.checks.shapes import Checked, Context, Finding, summary

NAME, VERSION = "length_outliers", "1"

_CHARS_MIN = 20
_JUDGED_MIN = 20
_SPREADS = 5.0
_REPEATED_CHARS_MIN = 1_000
_REPEATED_RATIO = 12.0  # prose packs 2-4 times; licences, which repeat their phrases, up to 5


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each text that stands out. number: its length in characters, or how much it repeats itself."""
    lengths = np.array([len(record.body.get("text", "")) for record in records], dtype=np.float64)
    findings = []
    judged = len(records) >= _JUDGED_MIN
    logs = np.log1p(lengths)
    middle = float(np.median(logs)) if judged else 0.0
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), 0.3) if judged else 1.0
    for record, length, log in zip(records, lengths, logs, strict=True):
        off = (log - middle) / spread
        text = record.body.get("text", "")
        typical = {"chars": int(length), "typical": round(float(np.expm1(middle)))}
        if length < _CHARS_MIN:
            found = Finding(NAME, record.key, "flag", int(length), "length_outliers.tiny", {"chars": int(length)})
        elif judged and abs(off) > _SPREADS:
            code = "length_outliers.long" if off > 0 else "length_outliers.short"
            found = Finding(NAME, record.key, "flag", int(length), code, typical)
        elif (ratio := _repetition(text)) > _REPEATED_RATIO:
            found = Finding(NAME, record.key, "flag", ratio, "length_outliers.repeats", {"times": round(ratio)})
        else:
            continue
        findings.append(found)
    return [summary(NAME, flagged=len(findings), of=len(records)), *findings]


def _repetition(text: str) -> float:
    """How many times smaller a text gets when packed; long texts are judged by their first 200,000 characters."""
    if len(text) < _REPEATED_CHARS_MIN:
        return 0.0
    packed = text[:200_000].encode("utf-8", "replace")
    return round(len(packed) / len(zlib.compress(packed, 6)), 2)
