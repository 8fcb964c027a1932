"""What accuracy a curator's counts give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datanets.accuracy import MEASURED_MIN, MILLION, Counts, millionths

COUNTS = st.builds(Counts, *[st.integers(0, 10**6)] * 4)


@given(COUNTS)
def test_accuracy_lies_between_nothing_and_one(counts):
    assert 0 <= millionths(counts) <= MILLION


@given(COUNTS, st.sampled_from(["gold_wrong", "overturned"]))
def test_one_more_wrong_decision_never_raises_it(counts, name):
    worse = counts._replace(**{name: getattr(counts, name) + 1})
    assert millionths(worse) <= millionths(counts)


@given(COUNTS, st.sampled_from(["gold_right", "stood"]))
def test_one_more_right_decision_never_lowers_it_once_it_is_measured(counts, name):
    better = counts._replace(**{name: getattr(counts, name) + 1})
    assert counts.measured < MEASURED_MIN or millionths(better) >= millionths(counts)


@given(COUNTS)
def test_one_more_decision_moves_a_measured_accuracy_by_little(counts):
    for name in Counts._fields:
        more = counts._replace(**{name: getattr(counts, name) + 1})
        assert counts.measured < MEASURED_MIN or abs(millionths(more) - millionths(counts)) <= MILLION // 30


def test_who_was_never_wrong_has_exactly_one_and_who_was_seldom_looked_at_too():
    assert millionths(Counts(gold_right=500)) == MILLION
    assert millionths(Counts(gold_wrong=MEASURED_MIN - 1)) == MILLION
    assert millionths(Counts(gold_right=5, gold_wrong=4, overturned=1)) == 833_333
    assert millionths(Counts(gold_wrong=80)) == 200_000


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError):
        millionths(Counts(stood=-1))
