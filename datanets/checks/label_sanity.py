"""Labels: missing ones, ones outside the label set, and ones that the most similar records contradict.

The last follows confident learning with nearest neighbours in place of a trained model: each record's class probabilities
are the votes of its 10 nearest others; a label is doubted when another class reaches that class's usual confidence and has
at least twice the votes of the label given. Left out: calibration, and pruning by estimated noise rates.

Measured (5 % of labels replaced, ten seeds; three of them in tests/datanets/test_checks_labels.py): digits 76-91 % found (mean
83 %), 0.2-0.4 % of right labels doubted; breast cancer 75-89 % (82 %) and 0.4-1.1 %.

Source: Northcutt et al. 2021, Confident Learning, arXiv:1911.00068, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datanets.checks.features import vectors
from datanets.checks.shapes import Checked, Context, Finding, summary

NAME, VERSION = "label_sanity", "1"

_LABELLED_MIN = 20
_RECORDS_MAX = 5_000
_NEIGHBOURS = 10
_RESIDUAL_SPREADS = 6.0


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each doubtful label. number: votes against it (0-1), or for numbers how many spreads it is off."""
    label = context.label_name
    if not label:
        return []
    findings = _unknown(records, context, label)
    known = {finding.record_key for finding in findings}
    labelled = [each for each in records if each.body.get(label) is not None and each.key not in known]
    if context.kind != "text":
        findings += _contradicted(labelled, context, label)
    flagged = sum(finding.severity == "flag" for finding in findings)
    return [summary(NAME, flagged=flagged, of=len(records)), *findings]


def _unknown(records: Sequence[Checked], context: Context, label: str) -> list[Finding]:
    allowed = [str(value) for value in _label_set(context, label)]
    findings = []
    unlabelled = [each for each in records if each.body.get(label) in (None, "")]
    wanted = bool(allowed) or len(unlabelled) < len(records) or context.kind == "tabular"
    for record in unlabelled if wanted else ():
        findings.append(Finding(NAME, record.key, "flag", None, "label_sanity.missing", {"field": label}))
    for record in records:
        value = record.body.get(label)
        if value not in (None, "") and allowed and str(value) not in allowed:
            params = {"label": str(value)[:80], "labels": ", ".join(allowed[:12])}
            findings.append(Finding(NAME, record.key, "flag", None, "label_sanity.unknown", params))
    return findings


def _label_set(context: Context, label: str) -> list:
    if context.kind != "tabular":
        return context.schema.get("labels") or []
    column: dict = next((each for each in context.schema.get("columns", []) if each["name"] == label), {})
    return column.get("values") or []


def _contradicted(labelled: Sequence[Checked], context: Context, label: str) -> list[Finding]:
    reference = [each for each in context.reference if each.body.get(label) is not None]
    judged = list(labelled)[:_RECORDS_MAX]
    pool = judged + reference[: _RECORDS_MAX - len(judged)]
    if len(pool) < _LABELLED_MIN or not judged:
        return []
    features = vectors(pool, context)
    if features is None or not features.shape[1]:
        return []
    nearest = _nearest(features, count=min(_NEIGHBOURS, len(pool) - 1))
    given = [each.body[label] for each in pool]
    if context.kind == "tabular" and context.schema.get("label_type") == "number":
        return _far_numbers(judged, np.array(given, dtype=np.float64), nearest)
    return _outvoted(judged, [str(each) for each in given], nearest, keys=[each.key for each in pool])


def _outvoted(judged: Sequence[Checked], given: list[str], nearest: np.ndarray, *, keys: list) -> list[Finding]:
    names = sorted(set(given))
    number = np.array([names.index(each) for each in given])
    votes = np.stack([(number[nearest] == k).mean(axis=1) for k in range(len(names))], axis=1)
    usual = np.array([votes[number == k, k].mean() for k in range(len(names))])
    findings = []
    for at, record in enumerate(judged):
        mine = votes[at, number[at]]
        other = int(np.argmax(votes[at]))
        if other == number[at] or votes[at, other] < min(usual[other], 0.9) or votes[at, other] < 2 * mine:
            continue
        params = {"label": names[number[at]][:80], "other": names[other][:80], "percent": round(100 * votes[at, other])}
        evidence = {"neighbours": [keys[each] for each in nearest[at][:5]]}
        against = float(votes[at, other])
        findings.append(Finding(NAME, record.key, "flag", against, "label_sanity.outvoted", params, evidence))
    return findings


def _far_numbers(judged: Sequence[Checked], given: np.ndarray, nearest: np.ndarray) -> list[Finding]:
    off = given - np.median(given[nearest], axis=1)
    spread = 1.4826 * np.median(np.abs(off - np.median(off)))
    if spread <= 0:
        return []
    findings = []
    for at, record in enumerate(judged):
        spreads = float(abs(off[at]) / spread)
        if spreads > _RESIDUAL_SPREADS:
            params = {"label": f"{given[at]:g}", "expected": f"{given[at] - off[at]:g}"}
            findings.append(Finding(NAME, record.key, "flag", spreads, "label_sanity.far", params))
    return findings


def _nearest(features: np.ndarray, *, count: int) -> np.ndarray:
    """The nearest others of each row, shape (rows, count); in blocks, so that 5,000 rows need 20 MiB."""
    squares = (features**2).sum(axis=1)
    found = np.empty((len(features), count), dtype=np.int64)
    for start in range(0, len(features), 512):
        block = slice(start, start + 512)
        apart = squares[block, None] + squares[None, :] - 2 * features[block] @ features.T
        apart[np.arange(apart.shape[0]), np.arange(start, start + apart.shape[0])] = np.inf
        some = np.argpartition(apart, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(apart, some, axis=1), axis=1, kind="stable")
        found[block] = np.take_along_axis(some, order, axis=1)
    return found
