"""Answers for people: who was paid for a call and why, and what it all adds up to. Of records: explain_records.py.

Every amount comes with the whole numbers that reproduce it, so that a page can show the sum and a reader can do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, QuerySet, Sum

from attribution import methods, planning
from attribution.models import Epoch, Line, RecordEpoch, RecordFee, Reversal, Trace
from attribution.netting import amounts_of, weights_of
from attribution.shares import MILLION
from datanets.models import Record, Version
from ledger import services as ledger

#: Of RecordEpoch: what it earned, less what refunds of earlier calls took back from the plan of that epoch on.
KEPT = F("amount_nano") - F("given_back_nano")


@dataclass(frozen=True)
class RecordShare:
    """One record in one call, with what its amount is computed from.

    amount = floor(split * weight / weights) plus 1 nano where `got_remainder`; weight = max(score, 0) * phi.
    """

    record_id: int
    score: int
    phi: int
    weight: int
    amount_nano: int
    got_remainder: bool


@dataclass(frozen=True)
class CallExplanation:
    """A settled call, down to the record.

    Args:
        data_nano, curation_nano: Its parts of the charge.
        split_nano: floor(data_nano * causal_millionths / 1e6), which is split over records.
        weights_total: Sum of the weights.
        method: By which it was paid: that of its scores, or equal shares where its epoch fell below the floor.
        records: Largest amount first; everybody who took part, also with 0.
        lines: What was posted, per payee and role.
    """

    charge_id: UUID
    status: str
    reason: str
    method: str
    data_nano: int
    curation_nano: int
    causal_millionths: int
    split_nano: int
    weights_total: int
    records: list[RecordShare] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def lines_of_charge(charge_id: UUID) -> list[Line]:
    """What a charge pays, per payee and role; nothing before its epoch is planned."""
    return list(Line.objects.filter(source_id=charge_id).select_related("payee", "epoch").order_by("role", "pk"))


def why_call(charge_id: UUID, *, lines: list[Line] | None = None) -> CallExplanation | None:
    """Explain a call; None while it is not attributed. Lines and amounts appear once its epoch is planned.

    lines: `lines_of_charge`, for who has read them.
    """
    trace = Trace.objects.filter(charge_id=charge_id).first()
    if trace is None:
        return None
    lines = lines_of_charge(charge_id) if lines is None else lines
    epoch = lines[0].epoch if lines else None
    pays_equally = epoch is not None and epoch.pays_equally(trace.model_version_id)
    call = planning.epoch_call(trace, pays_equally=pays_equally)
    roster = planning.roster_of(trace.artifact_id)
    phi = planning.phi_in(epoch.pk if epoch else None, trace, roster)
    paid = amounts_of(call, phi, planning.is_gated_of(trace.artifact_id, pays_equally=pays_equally))
    weights = weights_of(call, phi)
    total = int(weights.sum())
    record_ids = roster.record_ids[call.places].tolist()
    numbers = (one.tolist() for one in (call.scores, phi[call.places], weights, paid.amounts))
    shares = [
        RecordShare(
            record_id=record_id,
            score=score,
            phi=factor,
            weight=weight,
            amount_nano=amount_nano,
            got_remainder=bool(total) and amount_nano > call.split_nano * weight // total,
        )
        for record_id, score, factor, weight, amount_nano in zip(record_ids, *numbers, strict=True)
    ]
    return CallExplanation(
        charge_id=charge_id,
        status=trace.status,
        reason=trace.reason,
        method=methods.EQUAL_BELOW_FLOOR if pays_equally else trace.method,
        data_nano=trace.data_nano,
        curation_nano=trace.curation_nano,
        causal_millionths=trace.causal_millionths,
        split_nano=call.split_nano,
        weights_total=total,
        records=sorted(shares, key=lambda share: (-share.amount_nano, -share.score, share.record_id)),
        lines=lines,
    )


def payees_of(call: CallExplanation) -> dict[int, int]:
    """Whom each record of a call pays: its contributor, or the author that a theft dispute gave it to."""
    record_ids = [share.record_id for share in call.records]
    payees = dict(Record.objects.filter(pk__in=record_ids).values_list("pk", "contributor_id"))
    if call.lines:
        payees |= paid_instead(RecordEpoch.objects.filter(epoch=call.lines[0].epoch_id))
    return payees


def paid_instead(paid: QuerySet[RecordEpoch] | QuerySet[RecordFee]) -> dict[int, int]:
    """Record -> author, of the rows that did not pay the record's contributor."""
    return dict(paid.filter(payee__isnull=False).values_list("record_id", "payee_id"))


# --- Sums


def posted_totals(*, since: datetime | None = None, until: datetime | None = None) -> dict[tuple[str, int | None], int]:
    """(role, payee) -> nano over every line of the epochs posted with since <= at < until; None: no such limit.

    Payee None is the unattributed account.
    """
    lines = Line.objects.filter(epoch__status=Epoch.Status.POSTED)
    if since:
        lines = lines.filter(epoch__posted_at__gte=since)
    if until:
        lines = lines.filter(epoch__posted_at__lt=until)
    rows = lines.values("role", "payee_id").annotate(total=Sum("amount_nano"))
    return {(row["role"], row["payee_id"]): row["total"] for row in rows}


def lines_of(user_id: int) -> QuerySet[Line]:
    """A payee's lines, newest first."""
    return Line.objects.filter(payee_id=user_id).select_related("epoch").order_by("-pk")


def contributors_of(versions: Iterable[Version]) -> list[Any]:
    """Which contributor earned what with the records of these versions' Datanets, largest first. Authors who were given
    records since are none: they sent nothing."""
    datanet_ids = {version.datanet_id for version in versions}
    return list(
        RecordEpoch.objects.filter(record__datanet_id__in=datanet_ids, payee=None)
        .values("record__contributor_id", "record__contributor__username", "record__contributor__display_name")
        .annotate(amount_nano=Sum(KEPT), records=Count("record_id", distinct=True))
        .order_by("-amount_nano")
    )


def model_totals(model_id: UUID) -> dict:
    """Public totals of a model: what its epochs paid, left unattributed, and how much of it was attributed."""
    found = Epoch.objects.filter(model_id=model_id).aggregate(
        pool=Sum("pool_nano"), paid=Sum("paid_nano"), unattributed=Sum("unattributed_nano"), last=Max("posted_at")
    )
    pool = found["pool"] or 0
    paid = found["paid"] or 0
    return {
        "pool_nano": pool,
        "paid_nano": paid,
        "unattributed_nano": found["unattributed"] or 0,
        "coverage_millionths": MILLION * paid // pool if pool else 0,
        "last_posted_at": found["last"],
    }


def unattributed_by_reason(model_id: UUID) -> dict[str, int]:
    """What nothing supported, per reason: public."""
    rows = (
        Line.objects.filter(epoch__model_id=model_id, payee__isnull=True)
        .values("reason")
        .annotate(total=Sum("amount_nano"))
        .order_by("-total")
    )
    return {row["reason"]: row["total"] for row in rows}


def status_of(charge_id: UUID, *, lines: Sequence[Line] | None = None, is_traced: bool | None = None) -> str:
    """Where a charge stands: waiting, attributed (has a trace), planned, posted; refunded: given back before its plan;
    no_data: none of it went into a pool, so nobody is to be found for it.

    lines, is_traced: `lines_of_charge`, and whether it has a trace, for who has read them.
    """
    one = Line.objects.filter(source_id=charge_id).select_related("epoch")
    # All are of one epoch; a charge that went back before its plan has none.
    line = one.first() if lines is None else next(iter(lines), None)
    if line is not None:
        return "posted" if line.epoch.status == Epoch.Status.POSTED else "planned"
    if Reversal.objects.filter(charge_id=charge_id, was_settled=False).exists():
        return "refunded"
    charge = ledger.posting_of(charge_id)
    if charge is not None and not any(move.target.startswith("pool:") for move in charge.moves):
        return "no_data"
    if is_traced is None:
        is_traced = Trace.objects.filter(charge_id=charge_id).exists()
    return "attributed" if is_traced else "waiting"
