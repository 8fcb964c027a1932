"""Settlement: every call adds up, and who pays or copies in whatever order changes nobody else's pay."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution import netting
from attribution.netting import NOBODY, VOLUME_NANO_MAX, CallPaid, Desk, EpochCall, Payees, Sums, Unattributed
from attribution.roster import Roster
from attribution.shares import BILLION, MILLION, largest_remainder, quantise

AMOUNTS = st.integers(0, 10**18)
RECORDS = range(1, 101)
KEYS = {record: f"{record * 7919 % 13:02x}" for record in RECORDS}
ROSTER = Roster.of(RECORDS, list(KEYS.values()))


class Asked(NamedTuple):
    """A call by record ids, as a person would write it down."""

    call_id: str
    data_nano: int
    scores: dict[int, int]
    causal_millionths: int = MILLION
    withheld_reason: Unattributed = Unattributed.OWN_WEIGHTS

    def by_place(self, roster: Roster) -> EpochCall:
        places = roster.places_of(self.scores)
        order = np.argsort(places)
        scores = np.array(list(self.scores.values()), dtype=np.int64)[order]
        return EpochCall(
            self.call_id, self.data_nano, places[order], scores, self.causal_millionths, self.withheld_reason
        )


class Settled(NamedTuple):
    """What became of an epoch, by record ids."""

    paid: dict[tuple[str, int], int]
    unattributed: dict[str, tuple[int, Unattributed]]
    running: dict[int, tuple[int, int]]
    phi: dict[int, int]


def settle(calls, earlier=None, gated=(), roster=ROSTER) -> Settled:
    sums = [(earlier or {}).get(record, (0, 0)) for record in roster.record_ids.tolist()]
    is_gated = np.isin(roster.record_ids, list(gated))
    by_place = [call.by_place(roster) for call in calls]
    result = netting.settle(by_place, Sums([net for net, _ in sums], [positive for _, positive in sums]), is_gated)
    records = roster.record_ids.tolist()
    return Settled(
        paid={
            (call.call_id, records[place]): amount
            for call, one in zip(by_place, result.paid, strict=True)
            for place, amount in zip(call.places.tolist(), one.amounts.tolist(), strict=True)
            if amount
        },
        unattributed={
            call.call_id: (one.left_nano, one.reason)
            for call, one in zip(calls, result.paid, strict=True)
            if one.left_nano
        },
        running={
            record: sums
            for record, sums in zip(records, zip(result.net, result.positive, strict=True), strict=True)
            if sums != (0, 0)
        },
        phi=dict(zip(records, result.phi.tolist(), strict=True)),
    )


def quantised(scores: dict[int, int]) -> dict[int, int]:
    return dict(zip(scores, quantise(scores.values()).tolist(), strict=True))


SCORES = st.dictionaries(st.integers(1, 12), st.integers(-BILLION, BILLION), max_size=12).map(quantised)


@st.composite
def epochs(draw, calls_max=8):
    count = draw(st.integers(0, calls_max))
    return [
        Asked(
            call_id=f"call-{i}",
            data_nano=draw(AMOUNTS),
            scores=draw(SCORES),
            causal_millionths=draw(st.sampled_from([0, 1, 333_333, 500_000, 1_000_000])),
        )
        for i in range(count)
    ]


@given(epochs(), st.sets(st.integers(1, 12)))
def test_an_epoch_is_settled_as_the_rule_says_in_whole_numbers_of_any_size(calls, gated):
    # Given net and positive credit of each record, and its factor, as the rule writes them
    net, positive = dict.fromkeys(RECORDS, 0), dict.fromkeys(RECORDS, 0)
    for call in calls:
        split_nano = call.data_nano * call.causal_millionths // MILLION
        for record, score in call.scores.items():
            net[record] += split_nano * score
            positive[record] += max(split_nano * score, 0)
    phi = {i: BILLION * max(net[i], 0) // positive[i] if positive[i] and i not in gated else 0 for i in RECORDS}

    result = settle(calls, {}, gated)

    # Then sums and factors are these, and every call is split by largest remainder with their weights
    assert result.running == {i: (net[i], positive[i]) for i in RECORDS if (net[i], positive[i]) != (0, 0)}
    assert result.phi == phi
    for call in calls:
        weights = {i: max(score, 0) * phi[i] for i, score in call.scores.items() if max(score, 0) * phi[i]}
        order = sorted(weights, key=lambda i: (KEYS[i], i))
        total = call.data_nano * call.causal_millionths // MILLION if weights else 0
        parts = dict(zip(order, largest_remainder(total, [weights[i] for i in order], range(len(order))), strict=True))
        assert {i: nano for (name, i), nano in result.paid.items() if name == call.call_id} == {
            i: part for i, part in parts.items() if part
        }


@given(epochs(), st.sets(st.integers(1, 12)))
def test_the_lines_of_a_call_and_its_unattributed_part_add_up_to_its_charge(calls, gated):
    result = settle(calls, {}, gated)

    for call in calls:
        lines = sum(nano for (name, _record), nano in result.paid.items() if name == call.call_id)
        left, _ = result.unattributed.get(call.call_id, (0, None))
        assert lines + left == call.data_nano
    assert all(nano > 0 for nano in result.paid.values())


@given(epochs(), st.randoms(use_true_random=False))
def test_the_order_of_calls_and_of_records_changes_no_amount(calls, random):
    before = settle(calls)
    shuffled = []
    for call in random.sample(calls, len(calls)):
        records = random.sample(sorted(call.scores), len(call.scores))
        scores = {record: call.scores[record] for record in records}
        shuffled.append(Asked(call.call_id, call.data_nano, scores, call.causal_millionths))

    after = settle(shuffled)

    assert after.paid == before.paid
    assert after.unattributed == before.unattributed
    assert after.running == before.running


@given(epochs(), epochs(), st.integers(1, 9), st.sets(st.integers(1, 12)), st.randoms(use_true_random=False))
def test_an_epoch_in_any_number_of_shards_is_the_same_to_the_nano(before, calls, count, gated, random):
    # Given the sums of an epoch before, and this one in one piece
    earlier = settle(before).running
    whole = settle(calls, earlier, gated)

    # When its calls are dealt out to workers, whose sums come back in any order
    is_gated = np.isin(ROSTER.record_ids, list(gated))
    by_place = [call.by_place(ROSTER) for call in calls]
    sums = [earlier.get(record, (0, 0)) for record in ROSTER.record_ids.tolist()]
    so_far = Sums([net for net, _ in sums], [positive for _, positive in sums])
    handed_over = []
    for number in range(count):
        part = Sums.zero(len(ROSTER))
        for call in by_place[number::count]:
            part.add(call)
        handed_over.append((part.limbs(), part.added_nano))
    for limbs, added_nano in random.sample(handed_over, count):
        so_far.include(Sums.of_limbs(limbs, added_nano))
    phi = netting.net_factors(so_far.net, so_far.positive, is_gated)

    # Then sums, factors and amounts are the same
    records = ROSTER.record_ids.tolist()
    running = zip(records, zip(so_far.net, so_far.positive, strict=True), strict=True)
    assert {record: both for record, both in running if both != (0, 0)} == whole.running
    assert dict(zip(records, phi.tolist(), strict=True)) == whole.phi
    for call in by_place:
        amounts = netting.amounts_of(call, phi, is_gated).amounts
        paid = {
            records[place]: nano for place, nano in zip(call.places.tolist(), amounts.tolist(), strict=True) if nano
        }
        assert paid == {record: nano for (name, record), nano in whole.paid.items() if name == call.call_id}


@given(epochs(), st.lists(st.integers(50, 100), max_size=9, unique=True))
def test_copies_added_by_anyone_change_nobodys_pay_by_one_nano(calls, copies):
    # Given an epoch, and the same one where followers with score 0 stand beside the leaders
    with_copies = [
        Asked(call.call_id, call.data_nano, {**dict.fromkeys(copies, 0), **call.scores}, call.causal_millionths)
        for call in calls
    ]

    # When both are settled
    before, after = settle(calls), settle(with_copies)

    # Then the copies got nothing and everybody else exactly the same
    assert after.paid == before.paid
    assert after.unattributed == before.unattributed


@given(epochs(), st.integers(0, 8))
def test_running_sums_do_not_care_how_calls_are_grouped_into_epochs(calls, cut):
    together = settle(calls)
    first = settle(calls[:cut])
    second = settle(calls[cut:], first.running)

    assert second.running == together.running
    assert second.phi == together.phi


@given(epochs())
def test_splitting_an_influence_between_two_names_gains_less_than_two_nano_a_call(calls):
    # Given Alice's record 1, and the same market where her two Sybils have half of its influence each
    alone = [
        Asked(c.call_id, c.data_nano, {r: s // 2 * 2 for r, s in c.scores.items()}, c.causal_millionths) for c in calls
    ]
    split = [
        Asked(
            c.call_id,
            c.data_nano,
            c.scores | {1: c.scores[1] // 2, 50: c.scores[1] // 2} if 1 in c.scores else c.scores,
            c.causal_millionths,
        )
        for c in alone
    ]

    # When both are settled
    one, two = settle(alone).paid, settle(split).paid

    # Then she gets the same but for the rounding of her two parts, and so does everybody else
    for call in calls:
        sybils = two.get((call.call_id, 1), 0) + two.get((call.call_id, 50), 0)
        assert abs(sybils - one.get((call.call_id, 1), 0)) < 2
        for record in range(2, 13):
            assert abs(two.get((call.call_id, record), 0) - one.get((call.call_id, record), 0)) <= 1


@given(epochs())
def test_a_record_that_nets_to_zero_or_less_earns_nothing_in_any_call(calls):
    result = settle(calls)

    for _call_id, record in result.paid:
        assert result.running[record][0] > 0


def test_a_label_flipper_pays_with_one_call_for_what_it_gained_in_another():
    # Given record 1, which always helps, and record 2, which helped once and hurt twice as much later
    calls = [
        Asked("a", 1000, {1: 500_000_000, 2: 500_000_000}),
        Asked("b", 2000, {1: 500_000_000, 2: -500_000_000}),
    ]

    result = settle(calls)

    assert result.paid == {("a", 1): 1000, ("b", 1): 2000}
    assert (result.phi[1], result.phi[2]) == (BILLION, 0)
    assert result.running[2] == (-500_000_000_000, 500_000_000_000)


def test_the_price_of_a_call_matters_as_much_as_was_paid():
    # Given record 2, which helped in a dear call and hurt as much in a cheap one
    calls = [
        Asked("dear", 3000, {1: 500_000_000, 2: 500_000_000}),
        Asked("cheap", 1000, {1: 500_000_000, 2: -500_000_000}),
    ]

    result = settle(calls)

    # Then a third of its credit is gone, and with weights 3 to 2 it still earns
    assert (result.phi[1], result.phi[2]) == (BILLION, 666_666_666)
    assert result.paid == {("dear", 1): 1800, ("dear", 2): 1200, ("cheap", 1): 1000}


def test_earlier_epochs_still_count_against_a_record():
    earlier = {2: (-10 * BILLION, 0)}

    result = settle([Asked("a", 10, {1: 10**8, 2: 9 * 10**8})], earlier)

    assert result.paid == {("a", 1): 10}


def test_a_gated_record_earns_nothing_and_its_sums_go_on():
    calls = [Asked("a", 100, {1: 400_000_000, 2: 600_000_000})]

    result = settle(calls, {}, {2})

    assert result.paid == {("a", 1): 100}
    assert result.running[2] == (60 * BILLION, 60 * BILLION)


@pytest.mark.parametrize(
    ("call", "gated", "reason"),
    [
        (Asked("a", 7, {}), set(), Unattributed.ALL_ZERO),
        (Asked("a", 7, {1: 0, 2: 0}), set(), Unattributed.ALL_ZERO),
        (Asked("a", 7, {1: -BILLION}), set(), Unattributed.NO_POSITIVE),
        (Asked("a", 7, {1: BILLION}), {1}, Unattributed.GATED),
        (Asked("a", 7, {3: BILLION}), set(), Unattributed.NET_NEGATIVE),
        (Asked("a", 7, {1: 500_000_000, 3: 500_000_000}), {1}, Unattributed.NET_NEGATIVE),
        (Asked("a", 7, {1: BILLION}, causal_millionths=0), set(), Unattributed.OWN_WEIGHTS),
    ],
)
def test_a_call_that_supports_nobody_pays_into_unattributed_with_one_reason(call, gated, reason):
    earlier = {3: (-(10**15), 10)}

    result = settle([call], earlier, gated)

    assert result.paid == {}
    assert result.unattributed == {"a": (7, reason)}


def test_the_part_that_the_documents_do_not_explain_is_not_split():
    half = Asked("a", 101, {1: BILLION}, causal_millionths=500_000, withheld_reason=Unattributed.PROXY_CAP)

    result = settle([half])

    assert result.paid == {("a", 1): 50}
    assert result.unattributed == {"a": (51, Unattributed.PROXY_CAP)}


def test_ties_go_to_the_smaller_commitment_and_then_to_the_smaller_id():
    call = Asked("a", 1, {1: 10, 2: 10, 3: 10})

    assert settle([call], roster=Roster.of([1, 2, 3], ["cc", "aa", "bb"])).paid == {("a", 2): 1}
    assert settle([call], roster=Roster.of([1, 2, 3], ["aa", "bb", "aa"])).paid == {("a", 1): 1}


def test_a_call_cannot_be_settled_twice_in_one_epoch():
    with pytest.raises(ValueError, match="twice"):
        settle([Asked("a", 1, {}), Asked("a", 1, {})])


def test_scores_that_are_not_parts_of_their_own_sum_are_refused():
    with pytest.raises(ValueError, match="billionths"):
        settle([Asked("a", 1, {1: BILLION, 2: BILLION, 3: 1})])


def test_more_money_than_the_sums_can_hold_is_refused_before_they_wrap_around():
    earlier = {1: (0, VOLUME_NANO_MAX * BILLION)}

    with pytest.raises(OverflowError):
        settle([Asked("a", 1, {1: BILLION})], earlier)


def test_a_record_that_is_not_in_the_artifact_has_no_place():
    with pytest.raises(KeyError, match="record 101"):
        ROSTER.places_of([1, 101])
    assert 100 in ROSTER
    assert 101 not in ROSTER


# --- Curators


APPROVERS = st.dictionaries(st.integers(1, 12), st.integers(1, 4))


def approved_by(approvers: dict[int, int]) -> Payees:
    return Payees(np.array([approvers.get(record, NOBODY) for record in ROSTER.record_ids.tolist()], dtype=np.int64))


@given(
    epochs(),
    st.lists(AMOUNTS, min_size=8, max_size=8),
    APPROVERS,
    st.lists(st.integers(0, 1_000_000), min_size=4, max_size=4),
)
def test_the_curators_part_of_every_call_adds_up(calls, curation, approvers, accuracies):
    desks = [Desk(10 + number, accuracy) for number, accuracy in enumerate(accuracies)]
    by_place = [call.by_place(ROSTER) for call in calls]
    result = netting.settle(by_place, Sums.zero(len(ROSTER)), np.zeros(len(ROSTER), dtype=bool))

    for call, one, curation_nano in zip(by_place, result.paid, curation, strict=False):
        amounts, left = netting.curation_of(call, one, curation_nano, approved_by(approvers), desks)
        assert sum(amounts.values()) + sum(left.values()) == curation_nano
        assert sum(amounts.values()) * call.data_nano <= curation_nano * one.attributed_nano
        assert all(nano > 0 for nano in (*amounts.values(), *left.values()))


def curated(lines_nano, approvers, *, curation_nano=100, unattributed=0, accuracy=None):
    places = np.sort(ROSTER.places_of(lines_nano))
    amounts = np.array([lines_nano[record] for record in ROSTER.record_ids[places].tolist()], dtype=np.int64)
    call = EpochCall("a", int(amounts.sum()) + unattributed, places, np.ones_like(places))
    paid = CallPaid(amounts, unattributed, Unattributed.OWN_WEIGHTS)
    desks = [Desk(number, (accuracy or {}).get(number, 1_000_000)) for number in range(1, 9)]
    return netting.curation_of(call, paid, curation_nano, approved_by(approvers), desks)


def test_curators_are_paid_by_what_the_records_they_approved_earned():
    assert curated({1: 600, 2: 400}, {1: 7, 2: 8}) == ({7: 60, 8: 40}, {})


def test_what_a_curators_accuracy_takes_goes_to_no_other_curator():
    lost = {Unattributed.CURATOR_ACCURACY: 37}
    assert curated({1: 500, 2: 500}, {1: 7, 2: 8}, accuracy={8: 250_000}) == ({7: 50, 8: 13}, lost)
    assert curated({1: 500}, {1: 7}, accuracy={7: 250_000}) == ({7: 25}, {Unattributed.CURATOR_ACCURACY: 75})
    assert curated({1: 500}, {1: 7}, accuracy={7: 0}) == ({}, {Unattributed.CURATOR_ACCURACY: 100})


def test_a_curator_of_two_datanets_is_paid_by_their_accuracy_in_each():
    desks = [Desk(7, 1_000_000), Desk(7, 500_000), Desk(8, 1_000_000)]
    assert netting.weigh(1000, {1: 500, 2: 200, 3: 300}, desks) == ({7: 600, 8: 300}, 100, 0)


ACCURACY = st.integers(0, 1_000_000)


@given(
    st.integers(0, 10**12),
    st.dictionaries(st.integers(0, 4), st.integers(1, 10**12), min_size=1),
    st.lists(ACCURACY, min_size=4, max_size=4),
    st.integers(1, 4),
    ACCURACY,
)
def test_more_accuracy_never_pays_a_curator_less_and_moves_others_by_a_nano_at_most(
    total_nano, approved, accuracies, chosen, other
):
    desks = [Desk(number, accuracy) for number, accuracy in enumerate(accuracies, start=1)]
    changed = [desk._replace(accuracy=other) if desk.curator_id == chosen else desk for desk in desks]

    before, after = (netting.weigh(total_nano, approved, each) for each in (desks, changed))

    for each in (before, after):
        assert sum(each.amounts.values()) + each.lost_nano + each.nobody_nano == total_nano
    mine = (before.amounts.get(chosen, 0), after.amounts.get(chosen, 0))
    assert mine == tuple(sorted(mine, reverse=accuracies[chosen - 1] > other))
    for curator in {1, 2, 3, 4} - {chosen}:
        assert abs(before.amounts.get(curator, 0) - after.amounts.get(curator, 0)) <= 1


def test_the_unattributed_share_of_the_data_part_is_withheld_from_curators_too():
    assert curated({1: 250}, {1: 7}, unattributed=750) == ({7: 25}, {Unattributed.OWN_WEIGHTS: 75})


def test_what_nobody_approved_goes_to_no_other_curator():
    assert curated({1: 600, 2: 400}, {1: 7}) == ({7: 60}, {Unattributed.NO_CURATOR: 40})
