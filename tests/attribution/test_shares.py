"""Arithmetic of money: every split adds up, and who pays or copies in whatever order changes nobody else's pay."""

import math
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
    EpochCall,
    EpochResult,
    Line,
    RunningSum,
    Unattributed,
    curation_lines,
    largest_remainder,
    quantise,
    settle,
    split_by_basis_points,
)

AMOUNTS = st.integers(0, 10**18)
WEIGHTS = st.lists(st.integers(0, 10**27), min_size=1, max_size=30).filter(any)
SCORES = st.dictionaries(st.integers(1, 12), st.integers(-BILLION, BILLION), max_size=12)
KEYS = {record: f"{record * 7919 % 13:02x}" for record in range(1, 101)}


@st.composite
def epochs(draw, calls_max=8):
    count = draw(st.integers(0, calls_max))
    return [
        EpochCall(
            call_id=f"call-{i}",
            data_nano=draw(AMOUNTS),
            scores=draw(SCORES),
            causal_millionths=draw(st.sampled_from([0, 1, 333_333, 500_000, 1_000_000])),
        )
        for i in range(count)
    ]


def paid(result):
    return {(line.call_id, line.record_id): line.amount_nano for line in result.lines}


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


@given(AMOUNTS, st.lists(st.integers(0, 10_000), min_size=4, max_size=4))
def test_every_charge_splits_exactly_under_every_rule(total, cuts):
    edges = [0, *sorted(cuts), 10_000]
    parts = {role: high - low for role, low, high in zip(ROLES, edges, edges[1:], strict=False)}

    assert sum(split_by_basis_points(total, parts).values()) == total


@pytest.mark.parametrize("parts", [{"data": 9999}, {"data": 9000, "bank": 1000}, {"data": 11_000, "platform": -1000}])
def test_a_rule_that_is_not_a_whole_is_refused(parts):
    with pytest.raises(ValueError):
        split_by_basis_points(100, parts)


# --- Quantising


FLOATS = st.floats(-1e100, 1e100, allow_nan=False)


@given(st.lists(FLOATS, max_size=40))
def test_quantised_scores_keep_their_signs_and_have_norm_one(scores):
    units = quantise(scores)

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

    units = quantise(mixed)

    before = quantise(scores)
    assert [units[places.index(i)] for i in range(len(scores))] == before
    assert units[len(scores) :] == [0] * followers


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError):
        quantise([1.0, bad])


# --- Settlement


@given(epochs(), st.sets(st.integers(1, 12)))
def test_the_lines_of_a_call_and_its_unattributed_part_add_up_to_its_charge(calls, gated):
    result = settle(calls, {}, gated, KEYS)

    for call in calls:
        lines = sum(line.amount_nano for line in result.lines if line.call_id == call.call_id)
        left, _ = result.unattributed.get(call.call_id, (0, None))
        assert lines + left == call.data_nano
    assert all(line.amount_nano > 0 for line in result.lines)


@given(epochs(), st.randoms(use_true_random=False))
def test_the_order_of_calls_and_of_records_changes_no_amount(calls, random):
    before = settle(calls, {}, set(), KEYS)
    shuffled = []
    for call in random.sample(calls, len(calls)):
        records = random.sample(sorted(call.scores), len(call.scores))
        scores = {record: call.scores[record] for record in records}
        shuffled.append(EpochCall(call.call_id, call.data_nano, scores, call.causal_millionths))

    after = settle(shuffled, {}, set(), KEYS)

    assert paid(after) == paid(before)
    assert after.unattributed == before.unattributed
    assert after.running == before.running


@given(epochs(), st.lists(st.integers(50, 100), max_size=9, unique=True))
def test_copies_added_by_anyone_change_nobodys_pay_by_one_nano(calls, copies):
    # Given an epoch, and the same one where followers with score 0 stand beside the leaders
    with_copies = [
        EpochCall(call.call_id, call.data_nano, {**dict.fromkeys(copies, 0), **call.scores}, call.causal_millionths)
        for call in calls
    ]

    # When both are settled
    before, after = settle(calls, {}, set(), KEYS), settle(with_copies, {}, set(), KEYS)

    # Then the copies got nothing and everybody else exactly the same
    assert paid(after) == paid(before)
    assert after.unattributed == before.unattributed


@given(epochs(), st.integers(0, 8))
def test_running_sums_do_not_care_how_calls_are_grouped_into_epochs(calls, cut):
    together = settle(calls, {}, set(), KEYS)
    first = settle(calls[:cut], {}, set(), KEYS)
    second = settle(calls[cut:], first.running, set(), KEYS)

    assert second.running == together.running
    assert second.phi == together.phi


@given(epochs())
def test_splitting_an_influence_between_two_names_gains_less_than_two_nano_a_call(calls):
    # Given Alice's record 1, and the same market where her two Sybils have half of its influence each
    alone = [
        EpochCall(c.call_id, c.data_nano, {r: 2 * s for r, s in c.scores.items()}, c.causal_millionths) for c in calls
    ]
    split = [
        EpochCall(
            c.call_id, c.data_nano, {**c.scores, 50: c.scores[1]} if 1 in c.scores else c.scores, c.causal_millionths
        )
        for c in alone
    ]
    split = [
        EpochCall(
            c.call_id, c.data_nano, {r: s // 2 if r in (1, 50) else s for r, s in c.scores.items()}, c.causal_millionths
        )
        for c in split
    ]

    # When both are settled
    one, two = paid(settle(alone, {}, set(), KEYS)), paid(settle(split, {}, set(), KEYS))

    # Then she gets the same but for the rounding of her two parts, and so does everybody else
    for call in calls:
        sybils = two.get((call.call_id, 1), 0) + two.get((call.call_id, 50), 0)
        assert abs(sybils - one.get((call.call_id, 1), 0)) < 2
        for record in range(2, 13):
            assert abs(two.get((call.call_id, record), 0) - one.get((call.call_id, record), 0)) <= 1


@given(epochs())
def test_a_record_that_nets_to_zero_or_less_earns_nothing_in_any_call(calls):
    result = settle(calls, {}, set(), KEYS)

    for line in result.lines:
        assert result.running[line.record_id].net > 0


def test_a_label_flipper_pays_with_one_call_for_what_it_gained_in_another():
    # Given record 1, which always helps, and record 2, which helped once and hurt twice as much later
    calls = [
        EpochCall("a", 1000, {1: 500_000_000, 2: 500_000_000}),
        EpochCall("b", 2000, {1: 500_000_000, 2: -500_000_000}),
    ]

    result = settle(calls, {}, set(), KEYS)

    assert paid(result) == {("a", 1): 1000, ("b", 1): 2000}
    assert result.phi == {1: BILLION, 2: 0}
    assert result.running[2] == RunningSum(net=-500_000_000_000, positive=500_000_000_000)


def test_the_price_of_a_call_matters_as_much_as_was_paid():
    # Given record 2, which helped in a dear call and hurt as much in a cheap one
    calls = [
        EpochCall("dear", 3000, {1: 500_000_000, 2: 500_000_000}),
        EpochCall("cheap", 1000, {1: 500_000_000, 2: -500_000_000}),
    ]

    result = settle(calls, {}, set(), KEYS)

    # Then a third of its credit is gone, and with weights 3 to 2 it still earns
    assert result.phi == {1: BILLION, 2: 666_666_666}
    assert paid(result) == {("dear", 1): 1800, ("dear", 2): 1200, ("cheap", 1): 1000}


def test_earlier_epochs_still_count_against_a_record():
    earlier = {2: RunningSum(net=-10 * BILLION, positive=0)}

    result = settle([EpochCall("a", 10, {1: 10**8, 2: 9 * 10**8})], earlier, set(), KEYS)

    assert paid(result) == {("a", 1): 10}


def test_a_gated_record_earns_nothing_and_its_sums_go_on():
    calls = [EpochCall("a", 100, {1: 400_000_000, 2: 600_000_000})]

    result = settle(calls, {}, {2}, KEYS)

    assert paid(result) == {("a", 1): 100}
    assert result.running[2] == RunningSum(60 * BILLION, 60 * BILLION)


@pytest.mark.parametrize(
    ("call", "gated", "reason"),
    [
        (EpochCall("a", 7, {}), set(), Unattributed.ALL_ZERO),
        (EpochCall("a", 7, {1: 0, 2: 0}), set(), Unattributed.ALL_ZERO),
        (EpochCall("a", 7, {1: -BILLION}), set(), Unattributed.NO_POSITIVE),
        (EpochCall("a", 7, {1: BILLION}), {1}, Unattributed.GATED),
        (EpochCall("a", 7, {3: BILLION}), set(), Unattributed.NET_NEGATIVE),
        (EpochCall("a", 7, {1: 500_000_000, 3: 500_000_000}), {1}, Unattributed.NET_NEGATIVE),
        (EpochCall("a", 7, {1: BILLION}, causal_millionths=0), set(), Unattributed.OWN_WEIGHTS),
    ],
)
def test_a_call_that_supports_nobody_pays_into_unattributed_with_one_reason(call, gated, reason):
    earlier = {3: RunningSum(net=-(10**15), positive=10)}

    result = settle([call], earlier, gated, KEYS)

    assert result.lines == []
    assert result.unattributed == {"a": (7, reason)}


def test_the_part_that_the_documents_do_not_explain_is_not_split():
    half = EpochCall("a", 101, {1: BILLION}, causal_millionths=500_000, withheld_reason=Unattributed.PROXY_CAP)

    result = settle([half], {}, set(), KEYS)

    assert paid(result) == {("a", 1): 50}
    assert result.unattributed == {"a": (51, Unattributed.PROXY_CAP)}


def test_ties_go_to_the_smaller_commitment_and_then_to_the_smaller_id():
    call = EpochCall("a", 1, {1: 10, 2: 10, 3: 10})

    assert paid(settle([call], {}, set(), {1: "cc", 2: "aa", 3: "bb"})) == {("a", 2): 1}
    assert paid(settle([call], {}, set(), {1: "aa", 2: "bb", 3: "aa"})) == {("a", 1): 1}


def test_a_call_cannot_be_settled_twice_in_one_epoch():
    with pytest.raises(ValueError, match="twice"):
        settle([EpochCall("a", 1, {}), EpochCall("a", 1, {})], {}, set(), KEYS)


# --- Curators


@given(
    epochs(),
    st.lists(AMOUNTS, min_size=8, max_size=8),
    st.dictionaries(st.integers(1, 12), st.lists(st.integers(1, 4), max_size=3)),
    st.dictionaries(st.integers(1, 4), st.integers(0, 1_000_000)),
)
def test_the_curators_part_of_every_call_adds_up(calls, curation, approvers, accuracy):
    result = settle(calls, {}, set(), KEYS)
    paired = list(zip(calls, curation, strict=False))

    lines, left = curation_lines(paired, result, approvers, accuracy)

    for call, curation_nano in paired:
        given_out = sum(line.amount_nano for line in lines if line.call_id == call.call_id)
        assert given_out + left.get(call.call_id, (0, None))[0] == curation_nano
        attributed = sum(line.amount_nano for line in result.lines if line.call_id == call.call_id)
        assert given_out * call.data_nano <= curation_nano * attributed


def curated(lines_nano, approvers, *, curation_nano=100, unattributed=0, accuracy=None):
    data_nano = sum(lines_nano.values()) + unattributed
    call = EpochCall("a", data_nano, {})
    result = EpochResult(
        lines=[Line("a", record, nano) for record, nano in lines_nano.items()],
        unattributed={"a": (unattributed, Unattributed.OWN_WEIGHTS)} if unattributed else {},
    )
    lines, left = curation_lines([(call, curation_nano)], result, approvers, accuracy)
    return {line.curator_id: line.amount_nano for line in lines}, left.get("a")


def test_curators_are_paid_by_what_the_records_they_approved_earned():
    assert curated({1: 600, 2: 400}, {1: [7], 2: [8]}) == ({7: 60, 8: 40}, None)


def test_two_approvers_of_a_record_share_its_line():
    assert curated({1: 600, 2: 400}, {1: [7, 9], 2: [8]}) == ({7: 30, 8: 40, 9: 30}, None)


def test_a_less_accurate_curator_weighs_less():
    assert curated({1: 500, 2: 500}, {1: [7], 2: [8]}, accuracy={8: 250_000}) == ({7: 80, 8: 20}, None)


def test_the_unattributed_share_of_the_data_part_is_withheld_from_curators_too():
    assert curated({1: 250}, {1: [7]}, unattributed=750) == ({7: 25}, (75, Unattributed.OWN_WEIGHTS))


def test_what_nobody_approved_goes_to_no_other_curator():
    assert curated({1: 600, 2: 400}, {1: [7]}) == ({7: 60}, (40, Unattributed.NO_CURATOR))
