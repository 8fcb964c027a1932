"""From the scores of calls to amounts per record, an epoch of one model version at a time. Pure, exact integers.

Vectors have one entry per place of the version's `Roster`: equal remainders go to the earlier place.

    Sums         net and positive credit per record over all calls so far, in nano-OPEN times billionths
    net_factors  phi per record: which part of its positive credit is left after its negative one
    amounts_of   one call's part -> an amount per record and what goes to `unattributed`
    settle       the three above for one epoch of one model version
    curation_of  the curators' part of a call, by what the records that they approved were paid in it
    weigh        a curators' part by amount times accuracy
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from attribution.shares import BILLION, MILLION, largest_remainder, split

LIMB_BITS = 30  # a score times a limb of an amount stays below 2^60
LIMB_MASK = 2**LIMB_BITS - 1
VOLUME_NANO_MAX = 2**63  # through one model version: times a billion, and cut by 30 bits, it fits int64
NOBODY = 0  # no person has this id


class Unattributed(StrEnum):
    """Why a part of a call's money reached no record. Exactly one per amount."""

    OWN_WEIGHTS = "own_weights"  # the model answered from its own weights
    PROXY_CAP = "proxy_cap"  # scores are a proxy, which is trusted with half at most
    ALL_ZERO = "all_zero"  # every score is zero
    NO_POSITIVE = "no_positive"  # every score speaks against the answer
    NET_NEGATIVE = "net_negative"  # the records that supported this answer net to zero or less over all calls
    GATED = "gated"  # ... or all of them do harm on held-out data
    OWN_WORDS = "own_words"  # a connected model said it in words that stand in no record
    NO_METHOD_YET = "no_method_yet"  # a connected model on data that is not text
    NOT_ATTRIBUTABLE = "not_attributable"  # attribution failed three times, or never ran
    NO_HELP = "no_help"  # access and training: no record helped on held-out rows
    WITHDRAWN = "withdrawn"  # access and training: every record that did was taken back before
    ABSTAINED = "abstained"  # the model gave no answer, because what its caller required was not met
    NO_CURATOR = "no_curator"  # nobody who could be paid approved these records
    CURATOR_ACCURACY = "curator_accuracy"  # their measured accuracy took it from who approved these records


@dataclass(frozen=True, eq=False)
class EpochCall:
    """What settlement needs of one call.

    Args:
        call_id: Any key.
        data_nano: The contributors' part of the charge.
        places: Records with a score other than zero, ascending.
        scores: Their quantised scores, as `quantise` gave them.
        causal_millionths: C of a retrieval call; only floor(data_nano * C / 1e6) is split.
        withheld_reason: Why the rest of it is not.
    """

    call_id: Hashable
    data_nano: int
    places: np.ndarray
    scores: np.ndarray
    causal_millionths: int = MILLION
    withheld_reason: Unattributed = Unattributed.OWN_WEIGHTS

    def __post_init__(self) -> None:
        if self.data_nano < 0 or not 0 <= self.causal_millionths <= MILLION:
            raise ValueError("A call's part is not negative, and its causal fraction lies between 0 and a million.")
        if int(np.abs(self.scores).sum()) > 2 * BILLION:
            raise ValueError("Scores are billionths of their own sum.")

    @property
    def split_nano(self) -> int:
        """The part that is split over records."""
        return self.data_nano * self.causal_millionths // MILLION


class CallPaid(NamedTuple):
    """One call's part, divided: `amounts` of the call's places, and what is left for `unattributed`, with its reason."""

    amounts: np.ndarray
    left_nano: int
    reason: Unattributed

    @property
    def attributed_nano(self) -> int:
        return int(self.amounts.sum())


class Payees:
    """Who is paid for the record at each place, so that amounts are added up per person in one pass.

    Args:
        ids: Shape (n,), int64, by place.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self._index = np.unique(ids, return_inverse=True)

    def is_mine(self, person: int, places: np.ndarray) -> np.ndarray:
        """Which of these places are this person's."""
        return self.ids[self._index[places]] == person

    def sums(self, places: np.ndarray, amounts: np.ndarray) -> dict[int, int]:
        """Amounts above zero per person, by id."""
        totals = np.zeros(len(self.ids), dtype=np.int64)
        np.add.at(totals, self._index[places], amounts)
        return {person: total for person, total in zip(self.ids.tolist(), totals.tolist(), strict=True) if total}

    def counts(self, places: np.ndarray) -> dict[int, int]:
        """How many of these places are each person's."""
        found = np.bincount(self._index[places], minlength=len(self.ids))
        return {person: count for person, count in zip(self.ids.tolist(), found.tolist(), strict=True) if count}


class Desk(NamedTuple):
    """A curator in one Datanet, with their accuracy there in millionths, 0 to 1e6; 1e6 until measured."""

    curator_id: int
    accuracy: int = MILLION


class Weighed(NamedTuple):
    """A curators' part, divided: above zero by curator id; what accuracies took; what nobody approved."""

    amounts: dict[int, int]
    lost_nano: int
    nobody_nano: int


class Wide:
    """A vector of whole numbers up to 1e27, in two int64 limbs: value = high * 2^30 + low."""

    def __init__(self, values: Iterable[int]) -> None:
        known = list(values)
        self.high = np.array([value >> LIMB_BITS for value in known], dtype=np.int64)
        self.low = np.array([value & LIMB_MASK for value in known], dtype=np.int64)

    def add(self, places: np.ndarray, scores: np.ndarray, nano: int) -> None:
        """Add scores * nano at these places."""
        high, low = divmod(nano, 2**LIMB_BITS)
        sums = scores * low + self.low[places]
        self.low[places] = sums & LIMB_MASK
        self.high[places] += scores * high + (sums >> LIMB_BITS)

    def include(self, other: Wide) -> None:
        """Add another vector, entry by entry."""
        sums = self.low + other.low
        self.low = sums & LIMB_MASK
        self.high = self.high + other.high + (sums >> LIMB_BITS)

    def whole(self) -> list[int]:
        """The values, as Python's integers."""
        return [(high << LIMB_BITS) + low for high, low in zip(self.high.tolist(), self.low.tolist(), strict=True)]


class Sums:
    """Credit per record over all calls of a model version, in nano-OPEN times billionths: net, and its positive part.

    Adds up in any order and in any grouping into epochs.

    Args:
        net, positive: At the end of the epoch before, by place.

    Raises:
        OverflowError: more than VOLUME_NANO_MAX went through the version.
    """

    def __init__(self, net: Sequence[int], positive: Sequence[int]) -> None:
        largest = max((*map(abs, net), *positive), default=0)
        self._room_nano = VOLUME_NANO_MAX - largest // BILLION
        self._net, self._positive = Wide(net), Wide(positive)
        self.added_nano = 0  # what went through since

    @classmethod
    def zero(cls, records: int) -> Sums:
        return cls([0] * records, [0] * records)

    def add(self, call: EpochCall) -> None:
        self._make_room(call.split_nano)
        self._net.add(call.places, call.scores, call.split_nano)
        self._positive.add(call.places, np.maximum(call.scores, 0), call.split_nano)

    def include(self, part: Sums) -> None:
        """Add all calls that another worker added to zero. In how many parts they come changes nothing."""
        self._make_room(part.added_nano)
        self._net.include(part._net)
        self._positive.include(part._positive)

    def limbs(self) -> np.ndarray:
        """The vectors as they are computed with, shape (4, n), int64: what a worker hands over."""
        return np.stack([self._net.high, self._net.low, self._positive.high, self._positive.low])

    @classmethod
    def of_limbs(cls, limbs: np.ndarray, added_nano: int) -> Sums:
        """What `limbs` handed over."""
        found = cls.zero(limbs.shape[1])
        found._net.high, found._net.low, found._positive.high, found._positive.low = limbs
        found.added_nano = added_nano
        return found

    def _make_room(self, nano: int) -> None:
        self._room_nano -= nano
        self.added_nano += nano
        if self._room_nano < 0:
            raise OverflowError("More money went through this model version than its sums can hold.")

    def take_out(self, call: EpochCall) -> None:
        """Undo `add`: the call was given back."""
        self._room_nano += call.split_nano
        self._net.add(call.places, -call.scores, call.split_nano)
        self._positive.add(call.places, -np.maximum(call.scores, 0), call.split_nano)

    @property
    def net(self) -> list[int]:
        return self._net.whole()

    @property
    def positive(self) -> list[int]:
        return self._positive.whole()


@dataclass(frozen=True, eq=False)
class EpochResult:
    """One settled epoch of one model version.

    Args:
        paid: What became of each call's part, in the order given.
        net, positive: Sums including this epoch, for the next one; gating does not touch them.
        phi: Net factor in billionths, by place.
    """

    paid: list[CallPaid]
    net: list[int]
    positive: list[int]
    phi: np.ndarray


def settle(calls: Sequence[EpochCall], sums: Sums, is_gated: np.ndarray) -> EpochResult:
    """Settle one epoch of one model version.

    With k[i,c] = data_nano[c] s[i,c] summed over this epoch and all earlier ones: N[i] the sum, P[i] the sum of its
    positive terms, phi[i] = floor(1e9 max(N[i], 0) / P[i]); a gated record has N = 0. Each call's part is split by
    largest remainder with weights max(s[i,c], 0) phi[i].

    Args:
        calls: This epoch's, each once. Their order decides no amount.
        sums: Of the epochs before; they are added to.
        is_gated: By place: records whose validation score is negative beyond doubt.

    Returns:
        Amounts, unattributed parts, running sums, net factors. The amounts of a call and its unattributed part add up
        to its `data_nano`.

    Raises:
        ValueError: a call appears twice.
    """
    if len({call.call_id for call in calls}) != len(calls):
        raise ValueError("A call appears twice in one epoch.")
    for call in calls:
        sums.add(call)
    net, positive = sums.net, sums.positive
    phi = net_factors(net, positive, is_gated)
    return EpochResult([amounts_of(call, phi, is_gated) for call in calls], net, positive, phi)


def net_factors(net: Sequence[int], positive: Sequence[int], is_gated: np.ndarray) -> np.ndarray:
    """phi per record in billionths, 0 to 1e9; 0 for gated records and for those without positive credit."""
    found = [
        BILLION * max(n, 0) // p if p > 0 and not gated else 0
        for n, p, gated in zip(net, positive, is_gated.tolist(), strict=True)
    ]
    return np.array(found, dtype=np.int64)


def amounts_of(call: EpochCall, phi: np.ndarray, is_gated: np.ndarray) -> CallPaid:
    """Split one call's part. A receipt replays exactly this."""
    weights = weights_of(call, phi)
    nobody = np.zeros(len(weights), dtype=np.int64)
    if call.causal_millionths and not weights.any():
        return CallPaid(nobody, call.data_nano, _why_nobody(call, is_gated))
    split_nano = call.split_nano
    if not split_nano:
        return CallPaid(nobody, call.data_nano, call.withheld_reason)
    return CallPaid(split(split_nano, weights), call.data_nano - split_nano, call.withheld_reason)


def weights_of(call: EpochCall, phi: np.ndarray) -> np.ndarray:
    """max(s, 0) phi of each of the call's places: at most 2e18 together, which fits int64."""
    return np.maximum(call.scores, 0) * phi[call.places]


def curation_of(
    call: EpochCall, paid: CallPaid, curation_nano: int, approvers: Payees, desks: Sequence[Desk]
) -> tuple[dict[int, int], dict[Unattributed, int]]:
    """Pay curators for the attributed records that they approved.

    Of a call's curation part only the share that its data part attributed is paid: floor(curation * attributed / data).
    It is divided by `weigh`.

    Args:
        approvers: Desks by place, counted from 1; NOBODY: no one who could be paid.
        desks: The curators behind these numbers.

    Returns:
        Amounts above zero by curator id, and what is left by its reason. Together they are `curation_nano`.
    """
    approved = approvers.sums(call.places, paid.amounts)
    payable_nano = 0
    if any(desk != NOBODY for desk in approved):
        payable_nano = curation_nano * paid.attributed_nano // call.data_nano
    amounts, lost_nano, _nobody = weigh(payable_nano, approved, desks)
    left_nano = curation_nano - sum(amounts.values()) - lost_nano
    reason = paid.reason if paid.left_nano else Unattributed.NO_CURATOR
    left = {Unattributed.CURATOR_ACCURACY: lost_nano, reason: left_nano}
    return amounts, {why: nano for why, nano in left.items() if nano}


def weigh(total_nano: int, approved: Mapping[int, int], desks: Sequence[Desk]) -> Weighed:
    """Divide a curators' part by amount times accuracy.

    What the accuracy of one takes goes to nobody, never to the others: its weight stays among the weights. So nobody gains
    by another's mistakes, and a second account that is more careful wins nothing back.

    Args:
        total_nano: What is divided; 0 where nobody is to be paid.
        approved: By desk, counted from 1: what the records approved there were paid. NOBODY: those that no one approved.

    Returns:
        Parts by largest remainder that add up to `total_nano`; equal remainders go to the smaller curator id, then to what
        was lost, then to nobody.
    """
    weights: dict[int, int] = {}
    lost = 0
    for number, nano in sorted(approved.items()):
        if number != NOBODY:
            desk = desks[number - 1]
            weights[desk.curator_id] = weights.get(desk.curator_id, 0) + nano * desk.accuracy
            lost += nano * (MILLION - desk.accuracy)
    all_weights = [*weights.values(), lost, approved.get(NOBODY, 0) * MILLION]
    *parts, lost_nano, nobody_nano = largest_remainder(total_nano, all_weights)
    amounts = {curator_id: part for curator_id, part in zip(weights, parts, strict=True) if part}
    return Weighed(amounts, lost_nano, nobody_nano)


def largest(amounts: np.ndarray, record_ids: np.ndarray, count: int) -> list[int]:
    """Where the largest amounts above zero stand, largest first, equal ones by record."""
    some = np.flatnonzero(amounts)
    if len(some) > count:
        bar = np.partition(amounts[some], len(some) - count)[len(some) - count]
        some = some[amounts[some] >= bar]
    return some[np.lexsort((record_ids[some], -amounts[some]))[:count]].tolist()


def _why_nobody(call: EpochCall, is_gated: np.ndarray) -> Unattributed:
    if not call.scores.any():
        return Unattributed.ALL_ZERO
    supporters = call.places[call.scores > 0]
    if not len(supporters):
        return Unattributed.NO_POSITIVE
    return Unattributed.GATED if is_gated[supporters].all() else Unattributed.NET_NEGATIVE
