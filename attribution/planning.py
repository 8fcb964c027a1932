"""The arithmetic of an epoch: traces in, lines out. Reads records and bundles; writes nothing.

Calls follow netting.settle, per model version, because a record's running sums belong to one version. Access and
training money follows the shares that held-out rows measured when the version was made. All vectors are by place of
the version's roster.

A version whose score card, as of the epoch's close, lies below a floor pays all of this equally over its leaders. Its
running sums stay as they are: nobody gains or loses by scores that were not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import numpy as np

from attribution import bundles, methods, traces
from attribution.models import Line, RecordEpoch, Source, Trace
from attribution.netting import (
    NOBODY,
    CallPaid,
    Desk,
    EpochCall,
    Payees,
    Sums,
    Unattributed,
    Weighed,
    amounts_of,
    curation_of,
    largest,
    net_factors,
    settle,
    weigh,
)
from attribution.planned import Part, Planned, PlannedLine, PlannedRecordEpoch, PlannedRecordFee, PlannedRecordLine
from attribution.roster import Roster
from attribution.shares import BILLION, MILLION, quantise, split
from datanets.models import Record

RECORDS_KEPT = 20


class Shards(Protocol):
    """Who shares the calls of a version out to workers. Both hand over the parts in the order of the calls."""

    def sums(self, version_id: UUID, found: Sequence[Trace]) -> Iterable[Sums]:
        """What the calls of each part add to the running sums of no call at all."""

    def parts(self, version_id: UUID, found: Sequence[Trace], phi: np.ndarray) -> Iterable[Part]:
        """`part_of` each part."""


#: Millionths by (curator, Datanet); who is not named counts in full.
Accuracy = Mapping[tuple[int, UUID], int]


class People(NamedTuple):
    """Who is behind the records of a roster.

    Args:
        approvers: The desk at which each record was approved, counted from 1, or NOBODY.
        desks: In the order of their curators' ids; `places` the (curator, Datanet) of each.
    """

    contributors: Payees
    approvers: Payees
    desks: list[Desk]
    places: list[tuple[int, UUID]]


def people_of(roster: Roster, authors: Mapping[int, int], accuracy: Accuracy) -> People:
    """Read who is behind these records, in one query. `authors`: whom a record pays instead of its contributor."""
    columns = ("pk", "contributor_id", "decided_by_id", "datanet_id")
    rows = list(Record.objects.filter(pk__in=roster.record_ids.tolist()).values_list(*columns))
    known = {(curator, datanet) for _pk, _contributor, curator, datanet in rows if curator is not None}
    at_desk = sorted(known, key=lambda one: (one[0], str(one[1])))
    numbers = {one: number for number, one in enumerate(at_desk, start=1)}
    found = np.array(
        [(pk, contributor, numbers.get((curator, datanet), NOBODY)) for pk, contributor, curator, datanet in rows],
        dtype=np.int64,
    )
    behind = np.zeros((len(roster), 2), dtype=np.int64)
    if len(found):
        behind[roster.places_of(found[:, 0])] = found[:, 1:]
    given = {record_id: author for record_id, author in authors.items() if record_id in roster}
    behind[roster.places_of(given), 0] = list(given.values())
    desks = [Desk(curator, accuracy.get((curator, datanet), MILLION)) for curator, datanet in at_desk]
    return People(Payees(behind[:, 0]), Payees(behind[:, 1]), desks, at_desk)


def epoch_call(
    trace: Trace, withdrawn_at: Mapping[int, datetime] | None = None, *, pays_equally: bool = False
) -> EpochCall:
    """What settlement needs of a call. One that could not be attributed leaves its whole part to `unattributed`.

    `withdrawn_at` as in `traces.scores_of`. `pays_equally`: every leader has the same score, whatever was measured.
    """
    if pays_equally:
        places = _leaders(trace, withdrawn_at)
        scores = quantise(np.ones(len(places)))
    else:
        places, scores = traces.scores_of(trace, withdrawn_at)
    return EpochCall(
        call_id=trace.charge_id,
        data_nano=trace.data_nano,
        places=places,
        scores=scores,
        causal_millionths=0 if trace.status == Trace.Status.FAILED else trace.causal_millionths,
        withheld_reason=Unattributed(trace.reason or Unattributed.OWN_WEIGHTS),
    )


def _leaders(trace: Trace, withdrawn_at: Mapping[int, datetime] | None) -> np.ndarray:
    """Places of the records that lead and were not taken back before the charge, ascending; nobody's if it failed."""
    if trace.status == Trace.Status.FAILED or trace.artifact_id is None:
        return traces.NO_SCORES
    bundle = bundles.load(trace.artifact_id)
    leads = bundle.leads.copy()
    leads[bundle.roster.places_of(i for i in traces.withdrawn_before(trace, withdrawn_at) if i in bundle.roster)] = (
        False
    )
    return np.flatnonzero(leads)


def phi_in(epoch_id: UUID | None, trace: Trace, roster: Roster) -> np.ndarray:
    """Net factors as of the epoch that paid a call, by place; all 0 before it is planned (None)."""
    phi = np.zeros(len(roster), dtype=np.int64)
    if epoch_id is not None:
        rows = RecordEpoch.objects.filter(epoch=epoch_id, model_version_id=trace.model_version_id)
        known = dict(rows.values_list("record_id", "phi"))
        phi[roster.places_of(known)] = list(known.values())
    return phi


def plan(
    found: Sequence[Trace],
    *,
    earlier: Mapping[UUID, Mapping[int, tuple[int, int]]],
    accuracy: Accuracy,
    taken_out: Sequence[Trace] = (),
    authors: Mapping[int, int] | None = None,
    shards: Shards | None = None,
    reading: Reading | None = None,
    equally: Collection[UUID] = (),
) -> Planned:
    """Split every charge of an epoch.

    Args:
        found: One trace per charge, in the order of the log.
        taken_out: Calls of earlier epochs that were given back since: the running sums lose them.
        earlier: (net, positive) per model version and record, from the epochs before.
        accuracy: As it was frozen for the epoch (`measured.of_epoch`).
        authors: Record -> whom it pays instead of its contributor.
        shards: Who shares the calls out; None: all here. The result is the same, to the nano and in its order.
        reading: What was read, for who plans several epochs with the same authors and accuracy; None: it is read.
        equally: Model versions that pay equally over their leaders in this epoch.

    Returns:
        Lines that, per charge, add up to its data and its curation part.
    """
    planned = Planned([], [], [], [])
    authors = authors or {}
    reading = reading or Reading(authors, accuracy)

    def behind(sha256: str | None, version_id: UUID) -> Behind:
        return reading.behind(sha256, pays_equally=version_id in equally)

    fees: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    by_version: dict[UUID, list[Trace]] = defaultdict(list)
    out_of_version: dict[UUID, list[Trace]] = defaultdict(list)
    for trace in taken_out:
        out_of_version[trace.model_version_id].append(trace)
    for trace in found:
        if trace.source == Source.CALL:
            by_version[trace.model_version_id].append(trace)
        else:
            _plan_fee(planned, trace, fees, behind(trace.artifact_id, trace.model_version_id))
    for version_id in dict.fromkeys((*by_version, *out_of_version)):
        calls, out = by_version[version_id], out_of_version[version_id]
        known = behind(artifact_of((*calls, *out)), version_id)
        sums = _sums_before(earlier.get(version_id, {}), known)
        _plan_calls(planned, version_id, calls, out, sums, known, shards)
    planned.record_fees.extend(
        PlannedRecordFee(source, record_id, amount_nano, equal_nano, authors.get(record_id))
        for (source, record_id), (amount_nano, equal_nano) in sorted(fees.items())
    )
    return planned


def again(
    trace: Trace, phi: np.ndarray | None, authors: Mapping[int, int], accuracy: Accuracy, *, pays_equally: bool = False
) -> Planned:
    """The lines of one charge as a plan makes them, for a replay. `phi`: net factors of a call, by place."""
    planned = Planned([], [], [], [])
    behind = Behind(trace.artifact_id, authors, accuracy, pays_equally=pays_equally)
    if phi is None:
        _plan_fee(planned, trace, defaultdict(lambda: [0, 0]), behind)
        return planned
    call = behind.call(trace)
    _add_call(planned, trace, call, amounts_of(call, phi, behind.is_gated), behind)
    return planned


class Behind:
    """What is read once per artifact of an epoch. Where it pays equally, nobody is gated."""

    def __init__(
        self, sha256: str | None, authors: Mapping[int, int], accuracy: Accuracy, *, pays_equally: bool = False
    ) -> None:
        self.pays_equally = pays_equally
        self.roster = roster_of(sha256)
        self.is_gated = is_gated_of(sha256, pays_equally=pays_equally)
        self.authors = authors
        self.people = people_of(self.roster, authors, accuracy)
        self.withdrawn_at = traces.withdrawals_of(sha256)

    def call(self, trace: Trace) -> EpochCall:
        return epoch_call(trace, self.withdrawn_at, pays_equally=self.pays_equally)


class Reading:
    """What plans with the same authors and accuracies have read: each artifact once."""

    def __init__(self, authors: Mapping[int, int], accuracy: Accuracy) -> None:
        self._authors, self._accuracy = authors, accuracy
        self._known: dict[tuple[str | None, bool], Behind] = {}

    def behind(self, sha256: str | None, *, pays_equally: bool) -> Behind:
        key = sha256, pays_equally
        if key not in self._known:
            self._known[key] = Behind(sha256, self._authors, self._accuracy, pays_equally=pays_equally)
        return self._known[key]


class TakenOut(NamedTuple):
    """A call of an earlier epoch that was given back since, as that epoch paid it."""

    call: EpochCall
    paid: CallPaid
    was_summed: bool

    @classmethod
    def of(cls, trace: Trace, behind: Behind) -> TakenOut:
        line = Line.objects.filter(source_id=trace.charge_id).select_related("epoch").first()
        equally = line is not None and line.epoch.pays_equally(trace.model_version_id)
        call = epoch_call(trace, behind.withdrawn_at, pays_equally=equally)
        phi = phi_in(line.epoch_id if line else None, trace, behind.roster)
        is_gated = is_gated_of(trace.artifact_id, pays_equally=equally)
        return cls(call, amounts_of(call, phi, is_gated), was_summed=not equally)


def artifact_of(found: Sequence[Trace]) -> str | None:
    """A version serves one artifact; a charge that nobody could trace names none."""
    return next((trace.artifact_id for trace in found if trace.artifact_id), None)


def roster_of(sha256: str | None) -> Roster:
    """The records that an artifact pays; nobody where there is none."""
    return bundles.load(sha256).roster if sha256 else Roster.of([], [])


def is_gated_of(sha256: str | None, *, pays_equally: bool = False) -> np.ndarray:
    """By place: records that held-out rows of the artifact speak against; none where it pays equally."""
    found = bundles.load(sha256).is_gated if sha256 else np.zeros(0, dtype=bool)
    return np.zeros_like(found) if pays_equally else found


def _sums_before(earlier: Mapping[int, tuple[int, int]], behind: Behind) -> Sums:
    before = [(0, 0)] * len(behind.roster)
    for place, sums in zip(behind.roster.places_of(earlier), earlier.values(), strict=True):
        before[place] = sums
    return Sums([net for net, _ in before], [positive for _, positive in before])


def _plan_calls(
    planned: Planned,
    version_id: UUID,
    found: Sequence[Trace],
    taken_out: Sequence[Trace],
    so_far: Sums,
    behind: Behind,
    shards: Shards | None,
) -> None:
    out = [TakenOut.of(trace, behind) for trace in taken_out]
    for one in out:
        if one.was_summed:
            so_far.take_out(one.call)
    if behind.pays_equally:
        net, positive, phi = so_far.net, so_far.positive, np.full(len(behind.roster), BILLION)
        parts: Iterable[Part] = shards.parts(version_id, found, phi) if shards else [part_of(found, phi, behind)]
    elif shards is None:
        calls = [behind.call(trace) for trace in found]
        result = settle(calls, so_far, behind.is_gated)
        net, positive, phi = result.net, result.positive, result.phi
        parts = [_part(found, calls, result.paid, behind)]
    else:
        for sums in shards.sums(version_id, found):
            so_far.include(sums)
        net, positive = so_far.net, so_far.positive
        phi = net_factors(net, positive, behind.is_gated)
        parts = shards.parts(version_id, found, phi)
    earned, used = (np.zeros(len(behind.roster), dtype=np.int64) for _ in range(2))
    for part in parts:
        planned.lines.extend(part.lines)
        planned.record_lines.extend(part.record_lines)
        earned += part.earned
        used += part.used
    _add_record_epochs(planned, version_id, earned, used, out, (net, positive, phi), behind)


def sums_of(found: Sequence[Trace], behind: Behind) -> Sums:
    """What these calls of a version add to its running sums."""
    sums = Sums.zero(len(behind.roster))
    for trace in found:
        sums.add(behind.call(trace))
    return sums


def part_of(found: Sequence[Trace], phi: np.ndarray, behind: Behind) -> Part:
    """What these calls of a version pay, with the net factors of the whole epoch."""
    calls = [behind.call(trace) for trace in found]
    return _part(found, calls, [amounts_of(call, phi, behind.is_gated) for call in calls], behind)


def _part(found: Sequence[Trace], calls: Sequence[EpochCall], paid: Sequence[CallPaid], behind: Behind) -> Part:
    planned = Planned([], [], [], [])
    earned, used = (np.zeros(len(behind.roster), dtype=np.int64) for _ in range(2))
    for trace, call, one in zip(found, calls, paid, strict=True):
        _add_call(planned, trace, call, one, behind)
        earned[call.places] += one.amounts
        used[call.places] += 1
    return Part(planned.lines, planned.record_lines, earned, used)


def _add_call(planned: Planned, trace: Trace, call: EpochCall, paid: CallPaid, behind: Behind) -> None:
    _add_data_lines(planned, trace.charge_id, call, paid, behind)
    people = behind.people
    amounts, left = curation_of(call, paid, trace.curation_nano, people.approvers, people.desks)
    _add_curation_lines(planned, "call", trace.charge_id, amounts, left)


def _add_data_lines(planned: Planned, call_id: UUID, call: EpochCall, paid: CallPaid, behind: Behind) -> None:
    _add_lines(planned, "call", call_id, call.places, paid.amounts, behind.people.contributors)
    if paid.left_nano:
        planned.lines.append(PlannedLine("call", call_id, "data", None, str(paid.reason), 0, paid.left_nano))
    _add_record_lines(planned, call_id, behind.roster.record_ids[call.places], call.scores, paid.amounts)


def _add_lines(planned: Planned, source: str, source_id: UUID, places, amounts, payees: Payees) -> None:
    """A line per contributor of amounts by place."""
    counts = payees.counts(places[amounts > 0])
    for payee_id, amount_nano in payees.sums(places, amounts).items():
        planned.lines.append(PlannedLine(source, source_id, "data", payee_id, "", counts.get(payee_id, 0), amount_nano))


def _add_record_lines(planned: Planned, source_id: UUID, record_ids, scores, amounts) -> None:
    planned.record_lines.extend(
        PlannedRecordLine(source_id, int(record_ids[i]), int(scores[i]), int(amounts[i]))
        for i in largest(amounts, record_ids, RECORDS_KEPT)
    )


def _add_curation_lines(
    planned: Planned, source: str, source_id: UUID, amounts: Mapping[int, int], left: Mapping[Unattributed, int]
) -> None:
    for curator_id, amount_nano in amounts.items():
        planned.lines.append(PlannedLine(source, source_id, "curation", curator_id, "", 0, amount_nano))
    for reason, left_nano in left.items():
        if left_nano:
            planned.lines.append(PlannedLine(source, source_id, "curation", None, str(reason), 0, left_nano))


def _add_record_epochs(
    planned: Planned,
    version_id: UUID,
    earned: np.ndarray,
    used: np.ndarray,
    taken_out: Sequence[TakenOut],
    sums: tuple[Sequence[int], Sequence[int], np.ndarray],
    behind: Behind,
) -> None:
    net, positive, phi = sums
    lost, given_back = (np.zeros(len(behind.roster), dtype=np.int64) for _ in range(2))
    for one in taken_out:
        given_back[one.call.places] += one.paid.amounts
        lost[one.call.places] += 1
    touched = np.flatnonzero(used + lost)
    for place in touched[np.argsort(behind.roster.record_ids[touched])].tolist():
        planned.record_epochs.append(
            PlannedRecordEpoch(
                model_version_id=version_id,
                record_id=int(behind.roster.record_ids[place]),
                net=net[place],
                positive=positive[place],
                phi=int(phi[place]),
                gated=bool(behind.is_gated[place]),
                call_count=int(used[place]),
                amount_nano=int(earned[place]),
                given_back_nano=int(given_back[place]),
                payee_id=behind.authors.get(int(behind.roster.record_ids[place])),
            )
        )


def _plan_fee(planned: Planned, trace: Trace, fees: dict[tuple[str, int], list[int]], behind: Behind) -> None:
    """An access or training charge: data by the version's shares, curation by the records each curator approved."""
    places, weights = fee_weights(trace, behind.withdrawn_at, pays_equally=behind.pays_equally)
    if not len(weights):
        reason = str(_why_no_fee(trace, behind.pays_equally))
        for role, amount_nano in (("data", trace.data_nano), ("curation", trace.curation_nano)):
            if amount_nano:
                planned.lines.append(PlannedLine(trace.source, trace.charge_id, role, None, reason, 0, amount_nano))
        return
    record_ids = behind.roster.record_ids[places]
    amounts = split(trace.data_nano, weights)
    is_equal = behind.pays_equally or trace.method in methods.EQUAL
    _add_lines(planned, trace.source, trace.charge_id, places, amounts, behind.people.contributors)
    for record_id, amount_nano in zip(record_ids.tolist(), amounts.tolist(), strict=True):
        if amount_nano:
            fees[trace.source, record_id][0] += amount_nano
            fees[trace.source, record_id][1] += amount_nano if is_equal else 0
    curators = weigh_fee(trace, places, weights, behind.people)
    left = {Unattributed.CURATOR_ACCURACY: curators.lost_nano, Unattributed.NO_CURATOR: curators.nobody_nano}
    _add_curation_lines(planned, trace.source, trace.charge_id, curators.amounts, left)
    _add_record_lines(planned, trace.charge_id, record_ids, weights, amounts)


def weigh_fee(trace: Trace, places: np.ndarray, weights: np.ndarray, people: People) -> Weighed:
    """The curators' part of a fee: what its records would earn of it, by accuracy."""
    approved = people.approvers.sums(places, split(trace.curation_nano, weights))
    return weigh(trace.curation_nano, approved, people.desks)


def _why_no_fee(trace: Trace, pays_equally: bool) -> Unattributed:
    if trace.status == Trace.Status.FAILED or trace.artifact_id is None:
        return Unattributed(trace.reason or Unattributed.NOT_ATTRIBUTABLE)
    had_one = pays_equally or bundles.load(trace.artifact_id).shares.any()
    return Unattributed.WITHDRAWN if had_one else Unattributed.NO_HELP


def fee_weights(
    trace: Trace, withdrawn_at: Mapping[int, datetime] | None = None, *, pays_equally: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Places with a whole weight above zero for access and training money, and the weights; empty if nobody is paid.

    A record that was withdrawn before the charge has none, even while the version still holds it. `pays_equally`: every
    leader has 1.
    """
    if pays_equally:
        places = _leaders(trace, withdrawn_at)
        return places, np.ones(len(places), dtype=np.int64)
    if trace.status == Trace.Status.FAILED or trace.artifact_id is None:
        return traces.NO_SCORES, traces.NO_SCORES
    bundle = bundles.load(trace.artifact_id)
    weights = bundle.shares.copy()
    withdrawn = traces.withdrawn_before(trace, withdrawn_at)
    weights[bundle.roster.places_of(i for i in withdrawn if i in bundle.roster)] = 0
    places = np.flatnonzero(weights)
    return places, weights[places]
