"""What a record earned, and why calls paid it nothing: one reason per model version and epoch, and one over all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet, Subquery, Sum

from attribution.models import Line, RecordEpoch, RecordFee
from attribution.netting import Unattributed
from attribution.reasons import Unpaid
from datanets import records as datanet_records
from datanets.models import Record, VersionFollower


@dataclass(frozen=True)
class Zero:
    """Settled calls of one model version that paid a record nothing for one reason, over the epochs they were in.

    Args:
        epochs: Numbers of these epochs, ascending.
        net, positive: Its sums at the end of the last of them.
    """

    model_id: UUID
    model_version_id: UUID
    reason: Unpaid
    epochs: list[int]
    call_count: int
    net: int
    positive: int


@dataclass(frozen=True)
class RecordExplanation:
    """What a record earned, and, if calls paid it nothing, the one reason.

    Args:
        earned_nano: From calls, passes and training runs.
        call_count: Settled calls that it has a score in.
        equal_nano: Of it: what passes and training runs paid in equal shares, because nothing was measured.
        reason: A code of `Unpaid`; empty when a call paid it something.
        net, positive: Its sums in the model version that it did worst in; 0 when a call paid it something.
        zeros: Where calls used it and paid nothing, also beside others that paid; by model version and reason.
    """

    earned_nano: int
    call_count: int
    reason: str
    equal_nano: int = 0
    leader_id: int | None = None
    net: int = 0
    positive: int = 0
    zeros: list[Zero] = field(default_factory=list)


class _Row(NamedTuple):
    """A record in an epoch of a model version."""

    version_id: UUID
    model_id: UUID
    epoch: int
    net: int
    positive: int
    gated: bool
    calls: int
    amount_nano: int
    given_back_nano: int
    own_weights: bool  # a call of its epoch was answered from the model's own weights


def why_record(record: Record) -> RecordExplanation:
    """Explain a record's earnings. A record that no call paid has exactly one reason, the first of `Unpaid` that applies."""
    rows = _rows_of(record)
    kept_nano = sum(row.amount_nano - row.given_back_nano for row in rows)
    fees = RecordFee.objects.filter(record=record).aggregate(total=Sum("amount_nano"), equal=Sum("equal_nano"))
    was_frozen = record.added_in is not None  # else no version and no model has it
    leader_id = _leader_of(record) if was_frozen else None
    newest = [list(group)[-1] for _version, group in groupby(rows, key=lambda row: row.version_id)]
    reason = "" if kept_nano else _reason(record, leader_id, newest)
    if not kept_nano and any(row.amount_nano for row in rows):
        reason = Unpaid.REFUNDED
    worst = None if kept_nano else min(newest, key=lambda row: row.net, default=None)
    return RecordExplanation(
        earned_nano=kept_nano + (fees["total"] or 0),
        equal_nano=fees["equal"] or 0,
        call_count=sum(row.calls for row in rows),
        reason=reason,
        leader_id=leader_id,
        net=worst.net if worst else 0,
        positive=worst.positive if worst else 0,
        zeros=_zeros(rows),
    )


def _rows_of(record: Record) -> list[_Row]:
    """Every epoch that touched the record, by model version and in the order of time."""
    left = Line.objects.filter(payee__isnull=True, role=Line.Role.DATA, reason=Unattributed.OWN_WEIGHTS)
    found: QuerySet[RecordEpoch, Any] = (
        RecordEpoch.objects.filter(record=record)
        .annotate(from_own_weights=Exists(left.filter(epoch=OuterRef("epoch"))))
        .order_by("model_version_id", "epoch__number")
        .values_list(
            "model_version_id",
            "epoch__model_id",
            "epoch__number",
            "net",
            "positive",
            "gated",
            "call_count",
            "amount_nano",
            "given_back_nano",
            "from_own_weights",
        )
    )
    return [_Row(*row)._replace(net=int(row[3]), positive=int(row[4])) for row in found]


def _leader_of(record: Record) -> int | None:
    """Whom it follows in the newest version that holds it: an earlier leader may have been withdrawn since."""
    newest = datanet_records.versions_with(record).reverse().values("pk")[:1]
    found = VersionFollower.objects.filter(record=record, version=Subquery(newest))
    return found.values_list("leader_id", flat=True).first()


def _reason(record: Record, leader_id: int | None, newest: Sequence[_Row]) -> Unpaid:
    if record.status in (Record.Status.CHECKING, Record.Status.WAITING):
        return Unpaid.WAITING
    if record.status == Record.Status.REJECTED:
        return Unpaid.REJECTED
    if record.status == Record.Status.WITHDRAWN and not newest:
        return Unpaid.WITHDRAWN
    if record.added_in is None:
        return Unpaid.NOT_IN_VERSION
    if leader_id is not None:
        return Unpaid.FOLLOWER
    if not newest:
        return Unpaid.NO_CALL
    found = {_why_nothing(row, before=(0, 0)) for row in newest}
    return found.pop() if len(found) == 1 else Unpaid.SEVERAL


def _why_nothing(row: _Row, *, before: tuple[int, int]) -> Unpaid:
    """Why calls paid a record nothing between two states of its sums. `before`: net and positive at the first."""
    if row.gated:
        return Unpaid.GATED
    if (row.net, row.positive) == before:
        # A rule may also leave the data no part at all.
        return Unpaid.OWN_WEIGHTS if row.own_weights else Unpaid.ROUNDS_TO_ZERO
    if row.net <= 0:
        return Unpaid.NET_NEGATIVE
    return Unpaid.ROUNDS_TO_ZERO if row.positive > before[1] else Unpaid.AGAINST


def _zeros(rows: Iterable[_Row]) -> list[Zero]:
    found: list[Zero] = []
    for version_id, group in groupby(rows, key=lambda row: row.version_id):
        of_reason: dict[Unpaid, list[_Row]] = {}
        before = (0, 0)
        for row in group:
            if row.calls and not row.amount_nano:
                of_reason.setdefault(_why_nothing(row, before=before), []).append(row)
            before = (row.net, row.positive)
        found += [
            Zero(
                model_id=zeros[-1].model_id,
                model_version_id=version_id,
                reason=reason,
                epochs=[row.epoch for row in zeros],
                call_count=sum(row.calls for row in zeros),
                net=zeros[-1].net,
                positive=zeros[-1].positive,
            )
            for reason, zeros in of_reason.items()
        ]
    return found
