"""From scores to money, in exact integers. Pure, and the only place where a float becomes a share.

All amounts are nano-OPEN. Scores are whole billionths (1e-9) of a call's L1 norm and keep their signs. Python integers
throughout, because credits go up to 1e27 and plain int64 overflows at 9.2 OPEN; one split has a proof that it fits.

    quantise          floats -> scores of a call
    running_sums      net and positive credit per record over all calls so far
    net_factors       phi per record: which part of its positive credit is left after its negative one
    call_lines        one call's part -> lines (call, record, amount) and what goes to `unattributed`
    settle            the three above for one epoch of one model
    curation_lines    the curators' part, by the lines of the records they approved
"""

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

BILLION = 1_000_000_000
MILLION = 1_000_000
BASIS_POINTS = 10_000
INT64_TOTAL_MAX = 2**49  # 562,949 OPEN
INT64_WHOLE_MAX = 2**61
# Ties of every split in the product go to the earlier of these.
ROLES = ("data", "curation", "developer", "platform", "owner")


class Unattributed(StrEnum):
    """Why a part of a call's money reached no record. Exactly one per amount."""

    OWN_WEIGHTS = "own_weights"  # the model answered from its own weights
    PROXY_CAP = "proxy_cap"  # scores are a proxy, which is trusted with half at most
    ALL_ZERO = "all_zero"  # every score is zero
    NO_POSITIVE = "no_positive"  # every score speaks against the answer
    NET_NEGATIVE = "net_negative"  # the records that supported this answer net to zero or less over all calls
    GATED = "gated"  # ... or all of them do harm on held-out data
    NO_METHOD_YET = "no_method_yet"  # a connected model, until spans exist
    NOT_ATTRIBUTABLE = "not_attributable"  # attribution failed three times, or never ran
    NO_CURATOR = "no_curator"  # nobody who could be paid approved these records


@dataclass(frozen=True)
class EpochCall:
    """What settlement needs of one call.

    Args:
        call_id: Any key; lines refer to it.
        data_nano: The contributors' part of the charge.
        scores: Quantised score per record id, as `quantise` gave them; a withdrawn record is left out.
        causal_millionths: C of a retrieval call; only floor(data_nano * C / 1e6) is split.
        withheld_reason: Why the rest of it is not.
    """

    call_id: Hashable
    data_nano: int
    scores: Mapping[int, int]
    causal_millionths: int = MILLION
    withheld_reason: Unattributed = Unattributed.OWN_WEIGHTS

    def __post_init__(self) -> None:
        if self.data_nano < 0 or not 0 <= self.causal_millionths <= MILLION:
            raise ValueError("A call's part is not negative, and its causal fraction lies between 0 and a million.")

    @property
    def split_nano(self) -> int:
        """The part that is split over records."""
        return self.data_nano * self.causal_millionths // MILLION


class RunningSum(NamedTuple):
    """A record's credit over all calls of a model version so far, in nano-OPEN times billionths."""

    net: int = 0
    positive: int = 0


class Line(NamedTuple):
    """A payment: so much for this record in this call."""

    call_id: Hashable
    record_id: int
    amount_nano: int


class CuratorLine(NamedTuple):
    """A payment: so much for this curator in this call."""

    call_id: Hashable
    curator_id: int
    amount_nano: int


@dataclass(frozen=True)
class EpochResult:
    """One settled epoch of one model.

    Args:
        lines: Amounts above zero, by call in the order given, then by record in tie order.
        unattributed: (amount, reason) per call where something is left. Lines + this = `data_nano`, for every call.
        running: Sums including this epoch, for the next one; gating does not touch them.
        phi: Net factor in billionths, of every record in `running`.
    """

    lines: list[Line] = field(default_factory=list)
    unattributed: dict[Hashable, tuple[int, Unattributed]] = field(default_factory=dict)
    running: dict[int, RunningSum] = field(default_factory=dict)
    phi: dict[int, int] = field(default_factory=dict)


def largest_remainder(total: int, weights: Sequence[int], ties: Sequence[Any] | None = None) -> list[int]:
    """Split a whole amount in proportion to whole weights; the parts add up to it.

    Args:
        total: Amount, not negative.
        weights: Not negative, at least one above zero (unless total is 0).
        ties: Sort keys, one per weight, all different: equal remainders go to the smaller key. Default: position.

    Returns:
        One part per weight: floor(total * weight / sum), plus 1 for the largest remainders.

    Raises:
        ValueError: something is negative, or there is money and nobody to give it to.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("Amounts and weights must not be negative.")
    whole = sum(weights)
    if total == 0:
        return [0] * len(weights)
    if whole == 0:
        raise ValueError("There is an amount to split, but every weight is zero.")
    if ties is None and total < INT64_TOTAL_MAX and whole < INT64_WHOLE_MAX:
        return _largest_remainder_in_int64(total, weights, whole)
    parts, remainders = [], []
    for weight in weights:
        part, remainder = divmod(total * weight, whole)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    if left:
        keys = range(len(weights)) if ties is None else ties
        order = sorted(range(len(weights)), key=lambda i: (-remainders[i], keys[i]))
        for i in order[:left]:
            parts[i] += 1
    return parts


def _largest_remainder_in_int64(total: int, weights: Sequence[int], whole: int) -> list[int]:
    """The same parts as by Python's integers, a hundred times as fast for many records.

    A float guesses each part: below INT64_TOTAL_MAX it is at most 1 off. total * weight - part * whole is then between
    -whole and 2 whole, so that int64, which wraps around, has it exactly, and says which guesses to correct.
    """
    w = np.array(weights, dtype=np.int64)
    parts = np.floor(w / whole * total).astype(np.int64)
    remainders = w * np.int64(total) - parts * np.int64(whole)
    step = (remainders >= whole).astype(np.int64) - (remainders < 0)
    parts += step
    remainders -= step * np.int64(whole)
    left = total - int(parts.sum())
    if left:
        parts[np.argsort(-remainders, kind="stable")[:left]] += 1
    return parts.tolist()


def split_by_basis_points(total_nano: int, parts: Mapping[str, int]) -> dict[str, int]:
    """Split a charge by a rule. The one function for every split by roles in the product.

    Args:
        total_nano: The charge.
        parts: Basis points by role of `ROLES`; together 10,000.

    Returns:
        Amount by role, in the order of `ROLES`, which is also the order of ties.

    Raises:
        ValueError: an unknown role, a negative part, or another sum.
    """
    if unknown := set(parts) - set(ROLES):
        raise ValueError(f"Unknown roles: {', '.join(sorted(unknown))}.")
    if sum(parts.values()) != BASIS_POINTS:
        raise ValueError("The parts of a split rule must add up to 10,000 basis points.")
    roles = [role for role in ROLES if role in parts]
    return dict(zip(roles, largest_remainder(total_nano, [parts[role] for role in roles]), strict=True))


def quantise(scores: Iterable[float]) -> list[int]:
    """Scores of one call as whole billionths of their L1 norm, signs kept; all zero stays all zero.

    The norm is summed exactly, so zeros (followers) in between and the order of records change nothing.

    Raises:
        ValueError: a score is not finite, or they are too large to be added.
    """
    values = np.array(scores if isinstance(scores, np.ndarray) else list(scores), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("A score is not a finite number.")
    try:
        norm = math.fsum(np.abs(values).tolist())
    except OverflowError as error:
        raise ValueError("The scores are too large.") from error
    if norm == 0.0:
        return [0] * len(values)
    # Division first: a tiny norm would turn BILLION / norm into infinity.
    return np.rint(values / norm * BILLION).astype(np.int64).tolist()


def settle(
    calls: Sequence[EpochCall],
    earlier: Mapping[int, RunningSum],
    gated: Collection[int],
    record_order_key: Mapping[int, Any],
) -> EpochResult:
    """Settle one epoch of one model version.

    With k[i,c] = data_nano[c] s[i,c] summed over this epoch and all earlier ones: N[i] the sum, P[i] the sum of its
    positive terms, phi[i] = floor(1e9 max(N[i], 0) / P[i]); a gated record has N = 0. Each call's part is split by
    largest remainder with weights max(s[i,c], 0) phi[i].

    Args:
        calls: This epoch's, each once. Their order decides the order of lines and no amount.
        earlier: `EpochResult.running` of the epoch before.
        gated: Records whose validation score is negative beyond doubt.
        record_order_key: The record's commitment; equal remainders go to the smaller one, then to the smaller id.

    Returns:
        Lines, unattributed parts, running sums, net factors. The lines of a call and its unattributed part add up to
        its `data_nano`.

    Raises:
        ValueError: a call appears twice.
    """
    if len({call.call_id for call in calls}) != len(calls):
        raise ValueError("A call appears twice in one epoch.")
    running = running_sums(calls, earlier)
    phi = net_factors(running, gated)
    result = EpochResult(running=running, phi=phi)
    for call in calls:
        lines, (left, reason) = call_lines(call, phi, gated, record_order_key)
        result.lines.extend(lines)
        if left:
            result.unattributed[call.call_id] = (left, reason)
    return result


def running_sums(calls: Iterable[EpochCall], earlier: Mapping[int, RunningSum]) -> dict[int, RunningSum]:
    """Net and positive credit per record after these calls. Adds up in any order and in any grouping into epochs."""
    net = {record: one.net for record, one in earlier.items()}
    positive = {record: one.positive for record, one in earlier.items()}
    for call in calls:
        nano = call.split_nano
        for record, score in call.scores.items():
            credit = nano * score
            net[record] = net.get(record, 0) + credit
            positive[record] = positive.get(record, 0) + max(credit, 0)
    return {record: RunningSum(net[record], positive[record]) for record in net}


def net_factors(running: Mapping[int, RunningSum], gated: Collection[int]) -> dict[int, int]:
    """phi per record in billionths, 0 to 1e9; 0 for gated records and for those without positive credit."""
    return {
        record: BILLION * max(one.net, 0) // one.positive if one.positive > 0 and record not in gated else 0
        for record, one in running.items()
    }


def call_lines(
    call: EpochCall, phi: Mapping[int, int], gated: Collection[int], record_order_key: Mapping[int, Any]
) -> tuple[list[Line], tuple[int, Unattributed]]:
    """Split one call's part. A receipt replays exactly this.

    Returns:
        Lines above zero in tie order, and (amount, reason) of what goes to `unattributed` (the amount may be 0).
    """
    weights = {record: max(score, 0) * phi.get(record, 0) for record, score in call.scores.items()}
    records = sorted((record for record in weights if weights[record]), key=lambda i: (record_order_key[i], i))
    split_nano = call.split_nano
    if call.causal_millionths and not records:
        return [], (call.data_nano, _why_nobody(call.scores, gated))
    if not split_nano:
        return [], (call.data_nano, call.withheld_reason)
    amounts = largest_remainder(split_nano, [weights[record] for record in records])
    lines = [Line(call.call_id, record, amount) for record, amount in zip(records, amounts, strict=True) if amount]
    return lines, (call.data_nano - split_nano, call.withheld_reason)


def curation_lines(
    calls: Iterable[tuple[EpochCall, int]],
    result: EpochResult,
    approvers_of: Mapping[int, Sequence[int]],
    accuracy_millionths: Mapping[int, int] | None = None,
) -> tuple[list[CuratorLine], dict[Hashable, tuple[int, Unattributed]]]:
    """Pay curators for the attributed records they approved.

    Of a call's curation part only the share that its data part attributed is paid: floor(curation * lines / data). It
    is split by line amount times accuracy; several approvers of one record share its line equally. Records without
    an approver weigh in full, for `unattributed`.

    Args:
        calls: Each call with its `curation_nano`.
        result: What `settle` made of these calls.
        approvers_of: Curator ids by record id.
        accuracy_millionths: Measured accuracy by curator, 0 to 1e6; 1e6 until measured.

    Returns:
        Lines above zero, by call and then by curator id, and (amount, reason) per call of what is left. Both add up
        to `curation_nano` for every call.
    """
    accuracy = accuracy_millionths or {}
    # A common multiple lets a line be shared by 2 or 3 approvers in whole numbers.
    common = math.lcm(*(len(set(curators)) for curators in approvers_of.values() if curators), 1)
    by_call: dict[Hashable, list[Line]] = {}
    for line in result.lines:
        by_call.setdefault(line.call_id, []).append(line)
    out: list[CuratorLine] = []
    unattributed: dict[Hashable, tuple[int, Unattributed]] = {}
    for call, curation_nano in calls:
        weights: dict[int, int] = {}
        nobody = attributed_nano = 0
        for line in by_call.get(call.call_id, ()):
            attributed_nano += line.amount_nano
            curators = sorted(set(approvers_of.get(line.record_id, ())))
            if not curators:
                nobody += line.amount_nano * common * MILLION
            for curator in curators:
                weight = line.amount_nano * (common // len(curators)) * accuracy.get(curator, MILLION)
                weights[curator] = weights.get(curator, 0) + weight
        left_nano = curation_nano
        payees = sorted(weights)
        if sum(weights.values()):
            payable_nano = curation_nano * attributed_nano // call.data_nano
            # `nobody` comes last, so a tie never goes past a curator.
            amounts = largest_remainder(payable_nano, [*(weights[curator] for curator in payees), nobody])
            lines = [
                CuratorLine(call.call_id, curator, amount)
                for curator, amount in zip(payees, amounts, strict=False)
                if amount
            ]
            left_nano -= sum(line.amount_nano for line in lines)
            out.extend(lines)
        if left_nano:
            _, reason = result.unattributed.get(call.call_id, (0, Unattributed.NO_CURATOR))
            unattributed[call.call_id] = (left_nano, reason)
    return out, unattributed


def _why_nobody(scores: Mapping[int, int], gated: Collection[int]) -> Unattributed:
    if not any(scores.values()):
        return Unattributed.ALL_ZERO
    supporters = [record for record, score in scores.items() if score > 0]
    if not supporters:
        return Unattributed.NO_POSITIVE
    return Unattributed.GATED if all(record in gated for record in supporters) else Unattributed.NET_NEGATIVE
