"""What changed between two periods: the parts of a difference, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.changes import STAGES, parts_of

_NUMBERS = st.integers(1, 10**18)
_CHAINS = st.lists(_NUMBERS, min_size=len(STAGES), max_size=len(STAGES))


@st.composite
def chains(draw) -> list[int]:
    """Stages of a period; some have nothing from one of them on."""
    found = draw(_CHAINS)
    nothing_from = draw(st.integers(0, 3 * len(found)))
    return [0 if k >= nothing_from else number for k, number in enumerate(found)]


@given(chains(), chains())
def test_the_parts_add_up_to_the_difference(earlier, later):
    assert sum(parts_of(earlier, later)) == later[-1] - earlier[-1]


@given(chains(), chains())
def test_swapped_periods_give_the_same_parts_with_the_other_sign(earlier, later):
    assert parts_of(later, earlier) == [-part for part in parts_of(earlier, later)]


@given(_CHAINS, st.integers(0, len(STAGES) - 1), st.fractions(min_value="1/9", max_value=9))
def test_a_stage_that_is_the_same_part_of_the_one_before_has_no_part(earlier, k, ratio):
    # Given a later period in which everything before k grew together, and so did k
    later = [number * ratio.numerator for number in earlier]
    earlier = [number * ratio.denominator for number in earlier]
    if k:
        assert parts_of(earlier, later)[k] == 0
    else:
        assert parts_of(earlier, [earlier[0], *later[1:]])[0] == 0


@given(chains())
def test_equal_periods_changed_nothing(stages):
    assert parts_of(stages, stages) == [0] * len(stages)


def test_twice_the_calls_are_the_whole_difference():
    assert parts_of([10, 1000, 350, 350, 70], [20, 2000, 700, 700, 140]) == [70, 0, 0, 0, 0]


def test_twice_the_calls_at_half_the_price_change_nothing_in_all():
    parts = parts_of([10, 1000, 350, 350, 70], [20, 1000, 350, 350, 70])

    assert parts == [52, -52, 0, 0, 0]  # the mean of 70 and 35, cut off


def test_what_was_never_called_before_came_with_its_calls():
    assert parts_of([0, 0, 0, 0, 0], [5, 500, 175, 175, 35]) == [35, 0, 0, 0, 0]


def test_records_that_had_no_influence_before_came_with_it():
    assert parts_of([5, 500, 175, 175, 0], [5, 500, 175, 175, 35]) == [0, 0, 0, 0, 35]


@pytest.mark.parametrize(("earlier", "later"), [([1], [1, 2]), ([], []), ([1, -1], [1, 1]), ([0, 1], [1, 1])], ids=str)
def test_stages_that_are_no_chain_are_refused(earlier, later):
    with pytest.raises(ValueError):
        parts_of(earlier, later)
