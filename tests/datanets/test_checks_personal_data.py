"""Personal data, measured on labelled samples. All addresses, accounts, cards and numbers are invented."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from pathlib import Path

import pytest

from datanets.checks import Checked, Context, personal_data

SAMPLES = Path(__file__).parent / "samples"
KINDS = ("card", "email", "iban", "phone")


def sample(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


def recall(rows: list[dict]) -> dict[str, float]:
    """By kind, the share of marked places that are found as that kind, to within one character."""
    found, of = Counter(), Counter()
    for row in rows:
        if row["kind"] is None:
            continue
        start = row["text"].index(row["value"])
        end = start + len(row["value"])
        of[row["kind"]] += 1
        found[row["kind"]] += any(
            kind == row["kind"] and first <= start + 1 and last >= end - 1
            for first, last, kind in personal_data.find(row["text"])
        )
    return {kind: found[kind] / of[kind] for kind in of}


def licence_texts() -> list[str]:
    texts = {}
    for package in importlib.metadata.distributions():
        for file in package.files or []:
            named = any(word in file.name.lower() for word in ("licen", "copying"))
            if named and ".dist-info" in str(file) and file.locate().is_file():
                texts[file.locate().read_text(encoding="utf-8", errors="replace")] = None
    return list(texts)


@pytest.mark.parametrize("name", ["personal_data.jsonl", "personal_data_odd.jsonl"])
def test_95_percent_of_each_kind_are_found_in_the_samples_the_patterns_were_written_for(name):
    rows = sample(name)
    assert {kind for kind, share in recall(rows).items() if share >= 0.95} == set(KINDS)


def test_formats_the_patterns_were_never_changed_for_are_found_four_times_out_of_five():
    assert min(recall(sample("personal_data_fresh.jsonl")).values()) >= 0.8


def test_the_sample_has_120_positives_of_four_kinds():
    counts = Counter(row["kind"] for row in sample("personal_data.jsonl"))
    assert sum(counts[kind] for kind in KINDS) >= 120
    assert min(counts[kind] for kind in KINDS) >= 30


def test_numbers_that_are_no_personal_data_raise_no_alarm():
    negatives = [
        row["text"] for path in SAMPLES.glob("personal_data*.jsonl") for row in sample(path.name) if row["kind"] is None
    ]
    assert [text for text in negatives if personal_data.find(text)] == []


def test_at_most_two_percent_of_licence_texts_raise_a_false_alarm():
    # Authors' addresses stand in many licences and are found rightly; anything else found in a licence is wrong.
    texts = licence_texts()
    wrong = [
        text[start:end]
        for text in texts
        for start, end, kind in personal_data.find(text)
        if kind != "email" or text[start:end].count("@") != 1
    ]
    assert len(texts) >= 50
    assert len(wrong) <= 0.02 * len(texts), wrong


def test_a_finding_points_at_its_places_and_counts_them():
    text = "Write to ada@example.org or call +33 6 12 34 56 78."
    whole, one = personal_data.run([Checked("a", {"text": text}), Checked("b", {"text": "Nothing."})], Context("text"))
    assert (whole.severity, whole.number, whole.params) == ("flag", 1, {"count": 1, "of": 2})
    assert (one.record_key, one.number, one.params["kinds"]) == ("a", 2, "email, phone")
    assert [text[each["start"] : each["end"]] for each in one.evidence["spans"]] == [
        "ada@example.org",
        "+33 6 12 34 56 78",
    ]


@pytest.mark.parametrize("text", ["DE00370400440532013000", "4111 1111 1111 1112", "0000 0000 0000 0000"])
def test_wrong_check_digits_are_no_account(text):
    assert personal_data.find(text) == []
