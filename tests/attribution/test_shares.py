"""Splitting amounts: parts add up, whatever the weights, the order and the size of the numbers."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.shares import (
    BILLION,
    INT64_TOTAL_MAX,
    INT64_WHOLE_MAX,
    ROLES,
    largest_remainder,
    quantise,
    split,
    split_by_basis_points,
    sums_by_basis_points,
)

AMOUNTS = st.integers(0, 10**18)
WEIGHTS = st.lists(st.integers(0, 10**27), min_size=1, max_size=30).filter(any)


# --- Largest remainder


@given(AMOUNTS, WEIGHTS)
def test_the_parts_of_a_split_add_up_to_the_whole(total, weights):
    assert sum(largest_remainder(total, weights)) == total


@given(AMOUNTS, WEIGHTS)
def test_no_part_is_a_whole_nano_away_from_its_fair_share(total, weights):
    for part, weight in zip(largest_remainder(total, weights), weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
        assert weight or not part


@given(AMOUNTS, WEIGHTS, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_its_parts(total, weights, random):
    keys = list(range(len(weights)))
    before = dict(zip(keys, largest_remainder(total, weights, keys), strict=True))
    random.shuffle(keys)

    after = dict(zip(keys, largest_remainder(total, [weights[i] for i in keys], keys), strict=True))

    assert after == before


@given(
    st.integers(1, INT64_TOTAL_MAX - 1),
    st.lists(st.integers(0, INT64_WHOLE_MAX // 40) | st.sampled_from([1, 2, 3, 10**9]), min_size=1, max_size=40).filter(
        any
    ),
)
def test_the_fast_split_gives_what_whole_numbers_of_any_size_give(total, weights):
    assert largest_remainder(total, weights) == largest_remainder(total, weights, ties=range(len(weights)))


def test_the_fast_split_holds_at_its_edges():
    random = np.random.default_rng(0)
    for total in (1, 2, 8_400_000, INT64_TOTAL_MAX - 1):
        for largest in (1, 3, 10**9, INT64_WHOLE_MAX // 1000 - 1):
            weights = random.integers(0, largest, size=1000, endpoint=True).tolist()
            weights[0] = largest
            assert largest_remainder(total, weights) == largest_remainder(total, weights, ties=range(1000))


@given(
    AMOUNTS | st.integers(0, 100), st.lists(st.integers(0, INT64_WHOLE_MAX // 40), min_size=1, max_size=40).filter(any)
)
def test_an_array_is_split_as_a_list_is_and_the_earlier_place_wins_a_tie(total, weights):
    parts = split(total, np.array(weights, dtype=np.int64))

    assert parts.tolist() == largest_remainder(total, weights, ties=range(len(weights)))


def test_equal_remainders_go_to_the_smaller_key():
    assert largest_remainder(10, [1, 1, 1]) == [4, 3, 3]
    assert largest_remainder(10, [1, 1, 1], ["c", "a", "b"]) == [3, 4, 3]
    assert largest_remainder(11, [1, 1, 1], ["c", "a", "b"]) == [3, 4, 4]


def test_the_total_supply_is_split_without_a_float():
    supply = 10**18

    assert largest_remainder(supply, [1, 2]) == [333333333333333333, 666666666666666667]


def test_money_without_a_receiver_is_an_error_and_nothing_needs_none():
    with pytest.raises(ValueError):
        largest_remainder(1, [0, 0])
    with pytest.raises(ValueError):
        largest_remainder(-1, [1])
    with pytest.raises(ValueError):
        largest_remainder(1, [2, -1])
    assert largest_remainder(0, [0, 0]) == [0, 0]
    assert largest_remainder(0, []) == []


# --- The split rule


def test_the_default_rule_splits_a_charge():
    parts = {"platform": 500, "developer": 5500, "data": 3500, "curation": 500}

    assert split_by_basis_points(24_000_000, parts) == {
        "data": 8_400_000,
        "curation": 1_200_000,
        "developer": 13_200_000,
        "platform": 1_200_000,
    }


def test_the_last_nano_goes_to_data_before_curation_developer_platform_and_owner():
    equal = dict.fromkeys(reversed(ROLES), 2000)

    assert split_by_basis_points(3, equal) == {"data": 1, "curation": 1, "developer": 1, "platform": 0, "owner": 0}


@st.composite
def split_rules(draw):
    edges = [0, *sorted(draw(st.lists(st.integers(0, 10_000), min_size=4, max_size=4))), 10_000]
    return {role: high - low for role, low, high in zip(ROLES, edges, edges[1:], strict=False)}


@given(AMOUNTS, split_rules())
def test_every_charge_splits_exactly_under_every_rule(total, parts):
    assert sum(split_by_basis_points(total, parts).values()) == total


@given(st.lists(st.integers(0, 30_000) | st.integers(0, 10**40), max_size=30), split_rules())
def test_many_charges_add_up_to_what_each_of_them_splits_into(charges, parts):
    each = [split_by_basis_points(charge, parts) for charge in charges]

    together = sums_by_basis_points(Counter(charge % 10_000 for charge in charges), sum(charges), parts)

    assert together == {role: sum(one[role] for one in each) for role in ROLES}


@pytest.mark.parametrize("total_nano", [10_001, 1])
def test_charges_that_cannot_have_that_total_are_refused(total_nano):
    with pytest.raises(ValueError, match="do not add up"):
        sums_by_basis_points({2: 1}, total_nano, {"data": 10_000})


@pytest.mark.parametrize("parts", [{"data": 9999}, {"data": 9000, "bank": 1000}, {"data": 11_000, "platform": -1000}])
def test_a_rule_that_is_not_a_whole_is_refused(parts):
    with pytest.raises(ValueError):
        split_by_basis_points(100, parts)


# --- Quantising


FLOATS = st.floats(-1e100, 1e100, allow_nan=False)


@given(st.lists(FLOATS, max_size=40))
def test_quantised_scores_keep_their_signs_and_have_norm_one(scores):
    units = quantise(scores).tolist()

    assert all(unit * score >= 0 for unit, score in zip(units, scores, strict=True))
    if any(units):
        assert abs(sum(map(abs, units)) - BILLION) <= len(units)
    else:
        assert math.fsum(map(abs, scores)) == 0 or len(scores) == 0


@given(st.lists(FLOATS, max_size=20), st.integers(0, 20), st.randoms(use_true_random=False))
def test_followers_with_score_zero_and_the_order_change_no_quantised_score(scores, followers, random):
    places = list(range(len(scores)))
    random.shuffle(places)
    mixed = [scores[i] for i in places] + [0.0] * followers

    units = quantise(mixed).tolist()

    before = quantise(scores).tolist()
    assert [units[places.index(i)] for i in range(len(scores))] == before
    assert units[len(scores) :] == [0] * followers


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError):
        quantise([1.0, bad])
