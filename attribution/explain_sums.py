"""What a record earned in an epoch, as the sum over the calls that it was computed from, each with its whole numbers.

    amount of the record = sum over calls of floor(split * weight / weights), plus 1 nano where it got a remainder
    split = floor(data part * C / 1e6); weight = max(score, 0) * phi; weights: of all records of the call

Where a call's weights are all 0 nothing of it is split. phi is the record's net factor of the epoch: one for all its calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import numpy as np

from attribution import planning
from attribution.models import Epoch, RecordEpoch, Reversal, Source, Trace
from attribution.netting import CallPaid, EpochCall, amounts_of, weights_of


class Settled(NamedTuple):
    """A call of an epoch as settlement saw it. Vectors are by place in `call.places`."""

    trace: Trace
    call: EpochCall
    record_ids: np.ndarray
    phi: np.ndarray
    weights: np.ndarray
    paid: CallPaid


class Share(NamedTuple):
    """One record in one call. amount_nano - floor_nano is 1 where it got one of the remainders, else 0."""

    charge_id: UUID
    data_nano: int
    split_nano: int
    score: int
    phi: int
    weight: int
    weights_total: int
    floor_nano: int
    amount_nano: int


def settled_calls(epoch: Epoch, model_version_id: UUID) -> Iterator[Settled]:
    """Every call of a model version in a planned epoch, computed again in the order of the log.

    In a fixed number of queries. Calls whose questions were erased are left out: their stored lines stand.

    Raises:
        bundles.Damaged, FileNotFoundError: the files of the artifact cannot be read.
    """
    calls = _calls_of(epoch, [model_version_id]).get(model_version_id, [])
    return _again(epoch, model_version_id, calls)


def _calls_of(epoch: Epoch, version_ids: list[UUID]) -> dict[UUID, list[Trace]]:
    """By version, in the order of the log. A version whose earlier calls were refunded only has none."""
    left_out = Reversal.objects.filter(charge_id__in=epoch.charge_ids, was_settled=False).values("charge_id")
    found = Trace.objects.filter(
        charge_id__in=epoch.charge_ids, source=Source.CALL, model_version_id__in=version_ids, forgotten_at=None
    ).exclude(charge_id__in=left_out)
    by_id = {str(trace.charge_id): trace for trace in found}
    calls: dict[UUID, list[Trace]] = {}
    for charge_id in epoch.charge_ids:
        if charge_id in by_id:
            calls.setdefault(by_id[charge_id].model_version_id, []).append(by_id[charge_id])
    return calls


def _again(epoch: Epoch, model_version_id: UUID, calls: list[Trace]) -> Iterator[Settled]:
    # Without an artifact nobody could be paid: what could not be traced in time.
    artifact_sha256 = planning.artifact_of(calls)
    if artifact_sha256 is None:
        return
    behind = planning.Behind(artifact_sha256, {}, {}, pays_equally=epoch.pays_equally(model_version_id))
    phi = np.zeros(len(behind.roster), dtype=np.int64)
    known = dict(
        RecordEpoch.objects.filter(epoch=epoch, model_version_id=model_version_id).values_list("record_id", "phi")
    )
    phi[behind.roster.places_of(known)] = list(known.values())
    for trace in calls:
        call = behind.call(trace)
        weights = weights_of(call, phi)
        paid = amounts_of(call, phi, behind.is_gated)
        yield Settled(trace, call, behind.roster.record_ids[call.places], phi[call.places], weights, paid)


def sum_of(record_id: int, epoch: Epoch) -> Iterator[Share]:
    """The calls of an epoch in which a record has a score; their amounts add up to what the epoch paid for it."""
    versions = RecordEpoch.objects.filter(epoch=epoch, record=record_id).values_list("model_version_id", flat=True)
    for version_id, calls in _calls_of(epoch, list(versions)).items():
        for one in _again(epoch, version_id, calls):
            for place in np.flatnonzero(one.record_ids == record_id).tolist():
                yield _share(one, place)


def _share(one: Settled, place: int) -> Share:
    total, weight = int(one.weights.sum()), int(one.weights[place])
    split_nano = one.call.split_nano if total else 0
    return Share(
        charge_id=one.trace.charge_id,
        data_nano=one.trace.data_nano,
        split_nano=split_nano,
        score=int(one.call.scores[place]),
        phi=int(one.phi[place]),
        weight=weight,
        weights_total=total,
        floor_nano=split_nano * weight // total if total else 0,
        amount_nano=int(one.paid.amounts[place]),
    )
