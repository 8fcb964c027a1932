"""The arithmetic of an epoch: traces in, lines out. Reads records and bundles; writes nothing.

Calls follow shares.settle, per model version, because a record's running sums belong to one version. Access and
training money follows the shares that held-out rows measured when the version was made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from attribution import bundles, traces
from attribution.models import Source, Trace
from attribution.shares import (
    EpochCall,
    EpochResult,
    RunningSum,
    Unattributed,
    curation_lines,
    largest_remainder,
    settle,
)
from datanets.models import Record

RECORDS_KEPT = 20


class PlannedLine(NamedTuple):
    """A payment to a payee, or to nobody with a reason."""

    source: str
    source_id: UUID
    role: str
    payee_id: int | None
    reason: str
    record_count: int
    amount_nano: int


class PlannedRecordLine(NamedTuple):
    """What one record earned in one charge."""

    source_id: UUID
    record_id: int
    score: int
    amount_nano: int


class PlannedRecordEpoch(NamedTuple):
    """A record's running sums after this epoch."""

    model_version_id: UUID
    record_id: int
    net: int
    positive: int
    phi: int
    gated: bool
    call_count: int
    amount_nano: int


class PlannedRecordFee(NamedTuple):
    """What one record earned from the fees of the epoch."""

    record_id: int
    amount_nano: int


class Planned(NamedTuple):
    """All rows of an epoch."""

    lines: list[PlannedLine]
    record_lines: list[PlannedRecordLine]
    record_epochs: list[PlannedRecordEpoch]
    record_fees: list[PlannedRecordFee]


class People(NamedTuple):
    """Who is behind the records: contributor, approver, commitment."""

    contributor: dict[int, int]
    approver: dict[int, int | None]
    identity: dict[int, str]


def people_of(record_ids) -> People:
    """Read who is behind these records, in one query."""
    rows = list(
        Record.objects.filter(pk__in=list(record_ids)).values_list("pk", "contributor_id", "decided_by_id", "identity")
    )
    return People(
        contributor={row[0]: row[1] for row in rows},
        approver={row[0]: row[2] for row in rows},
        identity={row[0]: row[3] for row in rows},
    )


def epoch_call(trace: Trace, withdrawn_at: Mapping[int, datetime] | None = None) -> EpochCall:
    """What settlement needs of a call. One that could not be attributed leaves its whole part to `unattributed`.

    `withdrawn_at` as in `traces.scores_of`.
    """
    failed = trace.status == Trace.Status.FAILED
    return EpochCall(
        call_id=trace.charge_id,
        data_nano=trace.data_nano,
        scores={} if failed else traces.scores_of(trace, withdrawn_at),
        causal_millionths=0 if failed else trace.causal_millionths,
        withheld_reason=Unattributed(trace.reason or Unattributed.OWN_WEIGHTS),
    )


def plan(
    found: Sequence[Trace],
    *,
    earlier: Mapping[UUID, Mapping[int, tuple[int, int]]],
    accuracy: Mapping[int, int],
) -> Planned:
    """Split every charge of an epoch.

    Args:
        found: One trace per charge, in the order of the log.
        earlier: (net, positive) per model version and record, from the epochs before.
        accuracy: Millionths per curator; who is not named counts in full.

    Returns:
        Lines that, per charge, add up to its data and its curation part.
    """
    planned = Planned([], [], [], [])
    withdrawn_at = {sha256: traces.withdrawals_of(sha256) for sha256 in {trace.artifact_id for trace in found}}
    fees: dict[int, int] = defaultdict(int)
    by_version: dict[UUID, list[Trace]] = defaultdict(list)
    for trace in found:
        if trace.source == Source.CALL:
            by_version[trace.model_version_id].append(trace)
        else:
            _plan_fee(planned, trace, fees, withdrawn_at[trace.artifact_id])
    for version_id, calls in by_version.items():
        _plan_calls(planned, version_id, calls, earlier.get(version_id, {}), accuracy, withdrawn_at)
    planned.record_fees.extend(PlannedRecordFee(record_id, fees[record_id]) for record_id in sorted(fees))
    return planned


def _plan_calls(planned: Planned, version_id: UUID, found: Sequence[Trace], earlier, accuracy, withdrawn_at) -> None:
    calls = [epoch_call(trace, withdrawn_at[trace.artifact_id]) for trace in found]
    people = people_of({record_id for call in calls for record_id in call.scores})
    is_gated = gated_of(found)
    sums = {record_id: RunningSum(*values) for record_id, values in earlier.items()}
    result = settle(calls, sums, is_gated, people.identity)
    approvers = {record_id: [curator] if curator else [] for record_id, curator in people.approver.items()}
    paired = [(call, trace.curation_nano) for call, trace in zip(calls, found, strict=True)]
    curators, uncurated = curation_lines(paired, result, approvers, accuracy)
    _add_data_lines(planned, calls, result, people)
    _add_curation_lines(planned, curators, uncurated)
    _add_record_epochs(planned, version_id, calls, result, is_gated)


def gated_of(found: Sequence[Trace]) -> set[int]:
    """Records that held-out rows of the version's artifact speak against."""
    sha256 = next((trace.artifact_id for trace in found if trace.artifact_id), None)
    return set(bundles.load(sha256).serving["gated"]) if sha256 else set()


def _add_data_lines(planned: Planned, calls: Sequence[EpochCall], result: EpochResult, people: People) -> None:
    by_call: dict[Any, list] = defaultdict(list)
    for line in result.lines:
        by_call[line.call_id].append(line)
    for call in calls:
        call_id = UUID(str(call.call_id))
        lines = by_call[call_id]
        amounts: dict[int, int] = defaultdict(int)
        counts: dict[int, int] = defaultdict(int)
        for line in lines:
            payee_id = people.contributor[line.record_id]
            amounts[payee_id] += line.amount_nano
            counts[payee_id] += 1
        for payee_id in sorted(amounts):
            planned.lines.append(
                PlannedLine("call", call_id, "data", payee_id, "", counts[payee_id], amounts[payee_id])
            )
        left_nano, reason = result.unattributed.get(call.call_id, (0, ""))
        if left_nano:
            planned.lines.append(PlannedLine("call", call_id, "data", None, str(reason), 0, left_nano))
        largest = sorted(lines, key=lambda line: (-line.amount_nano, line.record_id))[:RECORDS_KEPT]
        planned.record_lines.extend(
            PlannedRecordLine(call_id, line.record_id, call.scores[line.record_id], line.amount_nano)
            for line in largest
        )


def _add_curation_lines(planned: Planned, curators, uncurated) -> None:
    for line in curators:
        planned.lines.append(PlannedLine("call", line.call_id, "curation", line.curator_id, "", 0, line.amount_nano))
    for call_id, (left_nano, reason) in uncurated.items():
        planned.lines.append(PlannedLine("call", call_id, "curation", None, str(reason), 0, left_nano))


def _add_record_epochs(planned: Planned, version_id: UUID, calls, result: EpochResult, is_gated: set[int]) -> None:
    earned: dict[int, int] = defaultdict(int)
    for line in result.lines:
        earned[line.record_id] += line.amount_nano
    used: dict[int, int] = defaultdict(int)
    for call in calls:
        for record_id in call.scores:
            used[record_id] += 1
    for record_id, count in sorted(used.items()):
        one = result.running[record_id]
        planned.record_epochs.append(
            PlannedRecordEpoch(
                model_version_id=version_id,
                record_id=record_id,
                net=one.net,
                positive=one.positive,
                phi=result.phi[record_id],
                gated=record_id in is_gated,
                call_count=count,
                amount_nano=earned[record_id],
            )
        )


def _plan_fee(planned: Planned, trace: Trace, fees: dict[int, int], withdrawn_at: Mapping[int, datetime]) -> None:
    """An access or training charge: data by the version's shares, curation by the records each curator approved."""
    weights = fee_weights(trace, withdrawn_at)
    if not weights:
        reason = trace.reason or "not_attributable"
        for role, amount_nano in (("data", trace.data_nano), ("curation", trace.curation_nano)):
            if amount_nano:
                planned.lines.append(PlannedLine(trace.source, trace.charge_id, role, None, reason, 0, amount_nano))
        return
    people = people_of(weights)
    order = sorted(weights, key=lambda record_id: (people.identity[record_id], record_id))
    amounts = dict(zip(order, largest_remainder(trace.data_nano, [weights[i] for i in order]), strict=True))
    _add_fee_lines(planned, trace, "data", amounts, people.contributor)
    for record_id, amount_nano in amounts.items():
        if amount_nano:
            fees[record_id] += amount_nano
    approved = {record_id: people.approver[record_id] for record_id in order}
    curation = dict(zip(order, largest_remainder(trace.curation_nano, [weights[i] for i in order]), strict=True))
    _add_fee_lines(planned, trace, "curation", curation, approved)
    largest = sorted(order, key=lambda record_id: (-amounts[record_id], record_id))[:RECORDS_KEPT]
    planned.record_lines.extend(
        PlannedRecordLine(trace.charge_id, record_id, weights[record_id], amounts[record_id])
        for record_id in largest
        if amounts[record_id]
    )


def fee_weights(trace: Trace, withdrawn_at: Mapping[int, datetime] | None = None) -> dict[int, int]:
    """Whole weights per record for access and training money; empty where nothing can be paid.

    A record that was withdrawn before the charge has none, even while the version still holds it.
    """
    if trace.status == Trace.Status.FAILED or trace.artifact_id is None:
        return {}
    serving = bundles.load(trace.artifact_id).serving
    withdrawn = traces.withdrawn_before(trace, withdrawn_at)
    found = zip(serving["records"], serving["shares"], strict=True)
    return {i: weight for i, weight in found if weight and i not in withdrawn}


def _add_fee_lines(planned: Planned, trace: Trace, role: str, amounts: Mapping[int, int], payee_of: Mapping) -> None:
    totals: dict[int | None, int] = defaultdict(int)
    counts: dict[int | None, int] = defaultdict(int)
    for record_id, amount_nano in amounts.items():
        if amount_nano:
            totals[payee_of[record_id]] += amount_nano
            counts[payee_of[record_id]] += 1
    for payee_id in sorted(totals, key=lambda one: (one is None, one)):
        reason = str(Unattributed.NO_CURATOR) if payee_id is None else ""
        count = counts[payee_id] if role == "data" and payee_id is not None else 0
        planned.lines.append(
            PlannedLine(trace.source, trace.charge_id, role, payee_id, reason, count, totals[payee_id])
        )
