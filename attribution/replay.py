"""Do the attribution of a call or of a whole epoch again, and compare it with what is stored. The receipt stays authoritative.

    of_charge  scores out of the trace (of a chat answer: out of its content, by asking a retrieval model again or by looking
               for a connected one's words again), net factors
               out of the stored running sums, and every line of the charge
    of_epoch   the same of every charge, and the running sums themselves, out of those of the epoch before

Another CPU may round the last unit of a quantised score the other way, so scores may differ by one. Lines are compared,
to the nano, where all scores agree. What is erased cannot be computed again: then stored lines stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from attribution import explain, planning, settlement, traces
from attribution.models import CuratorAccuracy, Epoch, Line, RecordEpoch, RecordFee, RecordLine, Reversal, Source, Trace
from attribution.netting import net_factors
from attribution.planned import Planned
from attribution.shares import BILLION

SCORE_UNITS_MAX = 1


@dataclass
class Outcome:
    """What a replay found.

    Args:
        differences: Each as a sentence; empty where all that was compared agrees.
        scores: How many scores were computed again.
        lines: How many lines were compared.
        one_off: Scores that are one unit off, which is allowed: lines of their charges were not compared.
        expired: Charges whose question or answer is erased.
    """

    differences: list[str] = field(default_factory=list)
    scores: int = 0
    lines: int = 0
    one_off: int = 0
    expired: list[UUID] = field(default_factory=list)


def of_charge(charge_id: UUID, *, sealed: bytes | None = None, sealed_key: bytes | None = None) -> Outcome:
    """Recompute one settled charge.

    Args:
        sealed, sealed_key: Its content, for an answer whose scores are stored; None: they stand as they are.

    Raises:
        Trace.DoesNotExist, Line.DoesNotExist: it is not settled.
        bundles.Damaged, FileNotFoundError: the files of its artifact cannot be read.
    """
    found = Outcome()
    trace = Trace.objects.get(charge_id=charge_id)
    epoch = Line.objects.filter(source_id=charge_id).select_related("epoch")[:1].get().epoch
    if trace.forgotten_at is not None:
        found.expired.append(charge_id)
        return found
    if trace.artifact_id and trace.scores:
        if sealed is None or sealed_key is None:
            found.expired.append(charge_id)
        else:
            again = traces.of_content(trace.charge_id, trace.artifact_id, sealed, sealed_key)["scores"]
            _compare_scores(
                found,
                {(charge_id, int(name)): score for name, score in trace.scores.items()},
                {(charge_id, int(name)): score for name, score in again.items()},
            )
    phi = _factors(found, epoch, trace) if trace.source == Source.CALL else None
    accuracy, pays_equally = _accuracy(found, epoch.pk), epoch.pays_equally(trace.model_version_id)
    planned = planning.again(trace, phi, _authors(epoch.pk), accuracy, pays_equally=pays_equally)
    _compare(found, planned, Line.objects.filter(source_id=charge_id), RecordLine.objects.filter(source_id=charge_id))
    return found


def of_epoch(epoch: Epoch) -> Outcome:
    """Recompute every line of a planned epoch, and its running sums out of those of the epoch before.

    Raises:
        bundles.Damaged, FileNotFoundError: the files of an artifact cannot be read.
    """
    found = Outcome()
    left_out = set(
        Reversal.objects.filter(charge_id__in=epoch.charge_ids, was_settled=False).values_list("pk", flat=True)
    )
    known = Trace.objects.in_bulk([UUID(charge_id) for charge_id in epoch.charge_ids])
    charges = [known[pk] for pk in map(UUID, epoch.charge_ids) if pk in known and pk not in left_out]
    taken_out = list(Trace.objects.filter(charge_id__in=epoch.netted.values("pk"), source=Source.CALL))
    found.expired = [trace.charge_id for trace in (*charges, *taken_out) if trace.forgotten_at is not None]
    if found.expired:
        # Their part of the running sums is gone with their questions: every other charge by the stored sums.
        for trace in charges:
            if trace.forgotten_at is None:
                _add(found, of_charge(trace.charge_id))
        return found
    earlier = settlement.earlier_sums(epoch, [*charges, *taken_out])
    planned = planning.plan(
        charges,
        earlier=earlier,
        accuracy=_accuracy(found, epoch.pk),
        taken_out=taken_out,
        authors=_authors(epoch.pk),
        equally=epoch.equal_versions,
    )
    _compare(found, planned, epoch.lines.all(), epoch.record_lines.all())
    if not found.one_off:
        sums = ("net", "positive", "phi", "gated", "call_count", "amount_nano", "given_back_nano")
        _compare_rows(found, planned.record_epochs, epoch.record_epochs.all(), ("model_version_id", "record_id"), sums)
        fees = ("amount_nano", "equal_nano")
        _compare_rows(found, planned.record_fees, epoch.record_fees.all(), ("source", "record_id"), fees)
    return found


def _factors(found: Outcome, epoch: Epoch, trace: Trace) -> np.ndarray:
    """Net factors by place, computed from the stored sums of an epoch; those that are stored otherwise are differences."""
    pays_equally = epoch.pays_equally(trace.model_version_id)
    roster = planning.roster_of(trace.artifact_id)
    is_gated = planning.is_gated_of(trace.artifact_id, pays_equally=pays_equally)
    rows = list(RecordEpoch.objects.filter(epoch=epoch, model_version_id=trace.model_version_id))
    places = roster.places_of(row.record_id for row in rows)
    if pays_equally:
        computed = np.full(len(rows), BILLION)
    else:
        computed = net_factors([int(row.net) for row in rows], [int(row.positive) for row in rows], is_gated[places])
    for row, place, factor in zip(rows, places.tolist(), computed.tolist(), strict=True):
        if (row.phi, row.gated) != (factor, bool(is_gated[place])):
            found.differences.append(f"record {row.record_id}: phi {row.phi} is stored, {factor} is computed")
    phi = np.zeros(len(roster), dtype=np.int64)
    phi[places] = computed
    return phi


def _accuracy(found: Outcome, epoch_id: UUID) -> planning.Accuracy:
    """Accuracies computed from the counts that were frozen with an epoch; those that are stored otherwise are differences."""
    rows = CuratorAccuracy.objects.filter(epoch=epoch_id)
    for row in rows:
        if row.accuracy_millionths != row.computed_millionths:
            found.differences.append(
                f"curator {row.curator_id} in {row.datanet_id}: accuracy {row.accuracy_millionths} is stored, "
                f"{row.computed_millionths} is computed"
            )
    return {(row.curator_id, row.datanet_id): row.computed_millionths for row in rows}


def _authors(epoch_id: UUID) -> dict[int, int]:
    """Whom records of an epoch paid instead of their contributors."""
    of_calls = explain.paid_instead(RecordEpoch.objects.filter(epoch=epoch_id))
    return of_calls | explain.paid_instead(RecordFee.objects.filter(epoch=epoch_id))


def _compare(found: Outcome, planned: Planned, lines, record_lines) -> None:
    """Kept scores and all lines. `lines`, `record_lines`: query sets of what is stored."""
    kept = {(row.source_id, row.record_id): row for row in record_lines}
    again = {(row.source_id, row.record_id): row for row in planned.record_lines}
    one_off = found.one_off
    _compare_scores(
        found, {key: row.score for key, row in kept.items()}, {key: row.score for key, row in again.items()}
    )
    if found.one_off > one_off:
        return
    _compare_amounts(
        found,
        "record",
        {key: row.amount_nano for key, row in kept.items()},
        {key: row.amount_nano for key, row in again.items()},
    )
    stored = {(row.source_id, row.role, row.payee_id, row.reason): row.amount_nano for row in lines}
    computed = {(row.source_id, row.role, row.payee_id, row.reason): row.amount_nano for row in planned.lines}
    found.lines += len(stored)
    _compare_amounts(found, "line", stored, computed)


def _compare_scores(found: Outcome, stored: Mapping[Any, int], computed: Mapping[Any, int]) -> None:
    for key in sorted({*stored, *computed}, key=str):
        was, is_now = stored.get(key, 0), computed.get(key, 0)
        found.scores += 1
        if abs(was - is_now) > SCORE_UNITS_MAX:
            found.differences.append(f"record {key[1]} in {key[0]}: score {was} is stored, {is_now} is computed")
        elif was != is_now:
            found.one_off += 1


def _compare_amounts(found: Outcome, what: str, stored: Mapping[Any, int], computed: Mapping[Any, int]) -> None:
    for key in sorted({*stored, *computed}, key=str):
        if stored.get(key, 0) != computed.get(key, 0):
            named = " ".join(str(part) for part in key if part)
            was, is_now = stored.get(key, 0), computed.get(key, 0)
            found.differences.append(f"{what} {named}: {was} nano are stored, {is_now} computed")


def _compare_rows(found: Outcome, planned, stored, key: Iterable[str], names: Iterable[str]) -> None:
    def by_key(rows) -> dict[tuple, Any]:
        return {tuple(getattr(row, name) for name in key): row for row in rows}

    was, is_now = by_key(stored), by_key(planned)
    for one in sorted({*was, *is_now}, key=str):
        for name in names:
            values = [getattr(rows[one], name) if one in rows else None for rows in (was, is_now)]
            if values[0] != values[1]:
                named = " ".join(map(str, one))
                found.differences.append(f"{name} of {named}: {values[0]} is stored, {values[1]} is computed")


def _add(found: Outcome, other: Outcome) -> None:
    found.differences += other.differences
    found.scores += other.scores
    found.lines += other.lines
    found.one_off += other.one_off
