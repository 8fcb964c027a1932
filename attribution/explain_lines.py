"""One line of a payee, down to the whole numbers it was computed from. A page shows them and a reader redoes the sum.

    part      what the charge gave to this role: its data or its curation nano
    divided   floor(part * C / 1e6) for data, floor(curation * attributed / data) for curators, all of it for a fee
    amount    floor(divided * weight / weights), and 1 nano more for the largest remainders

The weights are, for data in a call, max(score, 0) * phi of each record; for a curator, the nano that the records they
approved were paid in this call; for an access or a training fee, the record's share measured on held-out rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attribution import explain, methods, planning
from attribution.models import Line, RecordFee, Source, Trace
from attribution.shares import split
from datanets.models import Record


@dataclass(frozen=True)
class Part:
    """One weight of the payee. `score` and `phi` stand for data in a call only; a curator's one part has no record.

    amount_nano = floor_nano + (1 if got_remainder else 0); floor_nano = divided * weight // weights.
    """

    record_id: int | None
    score: int | None
    phi: int | None
    weight: int
    floor_nano: int
    amount_nano: int

    @property
    def got_remainder(self) -> bool:
        return self.amount_nano > self.floor_nano


@dataclass(frozen=True)
class LineSum:
    """A line with all it is computed from.

    Args:
        mine: The payee's parts, largest first; they add up to `line.amount_nano`.
        others_weight, others_nano: Everybody else's, so that weights and amounts add up to the totals.
        left_nano: part - divided: what no record supported; `left_reason` says why.
        attributed_nano: For a curator in a call, what its data part paid to records; else None.
    """

    line: Line
    charge: Trace
    part_nano: int
    divided_nano: int
    weights_total: int
    mine: list[Part]
    others_weight: int
    others_nano: int
    left_nano: int
    left_reason: str
    attributed_nano: int | None = None

    @property
    def method(self) -> str:
        """By which the charge was paid; a code of methods.py."""
        equally = self.line.epoch.pays_equally(self.charge.model_version_id)
        return methods.EQUAL_BELOW_FLOOR if equally else self.charge.method


def sum_of(line: Line) -> LineSum | None:
    """Recompute a line to its parts; None when its trace is gone, or what it recomputes from, or it pays nobody."""
    charge = Trace.objects.filter(charge_id=line.source_id, forgotten_at=None).first()
    if charge is None or line.payee_id is None:
        return None
    part_nano = charge.data_nano if line.role == Line.Role.DATA else charge.curation_nano
    if line.source != Source.CALL:
        return _fee(line, charge, part_nano)
    return (_data if line.role == Line.Role.DATA else _curation)(line, charge, part_nano)


def _data(line: Line, charge: Trace, part_nano: int) -> LineSum:
    call = explain.why_call(line.source_id)
    assert call is not None  # the trace was just read
    payees = explain.payees_of(call)
    parts = [
        Part(
            record_id=one.record_id,
            score=one.score,
            phi=one.phi,
            weight=one.weight,
            floor_nano=call.split_nano * one.weight // call.weights_total if call.weights_total else 0,
            amount_nano=one.amount_nano,
        )
        for one in call.records
        if payees[one.record_id] == line.payee_id
    ]
    return _put_together(line, charge, part_nano, call.split_nano, call.weights_total, parts, call.lines)


def _curation(line: Line, charge: Trace, part_nano: int) -> LineSum:
    call = explain.why_call(line.source_id)
    assert call is not None  # the trace was just read
    paid = {one.record_id: one.amount_nano for one in call.records if one.amount_nano}
    approver = dict(Record.objects.filter(pk__in=paid).values_list("pk", "decided_by_id"))
    attributed_nano = sum(paid.values())
    divided_nano = part_nano * attributed_nano // charge.data_nano if charge.data_nano else 0
    weight = sum(nano for record_id, nano in paid.items() if approver[record_id] == line.payee_id)
    floor_nano = divided_nano * weight // attributed_nano if attributed_nano else 0
    parts = [Part(None, None, None, weight, floor_nano, line.amount_nano)]
    return _put_together(
        line, charge, part_nano, divided_nano, attributed_nano, parts, call.lines, attributed_nano=attributed_nano
    )


def _fee(line: Line, charge: Trace, part_nano: int) -> LineSum:
    places, weights = planning.fee_weights(charge, pays_equally=line.epoch.pays_equally(charge.model_version_id))
    roster = planning.roster_of(charge.artifact_id)
    fees = RecordFee.objects.filter(epoch=line.epoch_id, source=line.source)
    people = planning.people_of(roster, explain.paid_instead(fees))
    payees = people.contributors if line.role == Line.Role.DATA else people.approvers
    assert line.payee_id is not None  # lines without a payee are not explained
    mine = payees.is_mine(line.payee_id, places)
    total = int(weights.sum())
    numbers = (one[mine].tolist() for one in (roster.record_ids[places], weights, split(part_nano, weights)))
    parts = [
        Part(record_id, None, None, weight, part_nano * weight // total, amount_nano)
        for record_id, weight, amount_nano in zip(*numbers, strict=True)
    ]
    unpaid = Line.objects.filter(source_id=line.source_id, role=line.role, payee__isnull=True)
    return _put_together(line, charge, part_nano, part_nano, total, parts, unpaid)


def _put_together(
    line: Line,
    charge: Trace,
    part_nano: int,
    divided_nano: int,
    weights_total: int,
    parts: Iterable[Part],
    lines: Iterable[Line],
    *,
    attributed_nano: int | None = None,
) -> LineSum:
    mine = sorted(parts, key=lambda one: (-one.amount_nano, -(one.score or 0), one.record_id or 0))
    unpaid = next((one for one in lines if one.role == line.role and one.payee_id is None), None)
    return LineSum(
        line=line,
        charge=charge,
        part_nano=part_nano,
        divided_nano=divided_nano,
        weights_total=weights_total,
        mine=mine,
        others_weight=weights_total - sum(one.weight for one in mine),
        others_nano=divided_nano - sum(one.amount_nano for one in mine),
        left_nano=part_nano - divided_nano,
        left_reason=unpaid.reason if unpaid else "",
        attributed_nano=attributed_nano,
    )
