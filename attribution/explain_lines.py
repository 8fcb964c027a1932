"""One line of a payee, down to the whole numbers it was computed from. A page shows them and a reader redoes the sum.

    part      what the charge gave to this role: its data or its curation nano
    divided   floor(part * C / 1e6) for data, floor(curation * attributed / data) for curators, all of it for a fee
    amount    floor(divided * weight / weights), and 1 nano more for the largest remainders

The weights are, for data in a call, max(score, 0) * phi of each record; for data in an access or a training fee, the
record's share measured on held-out rows; for a curator, by Datanet, the nano that the records they approved were paid in
this call (of a fee: would be paid of the curators' part) times their accuracy in millionths. What accuracies take stays
among the weights, for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from attribution import explain, measured, methods, planning
from attribution.models import CuratorAccuracy, Line, RecordFee, Source, Trace
from attribution.netting import NOBODY, Unattributed, weigh
from attribution.shares import MILLION, split
from datanets.models import Datanet


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
class DeskShare:
    """What a curator approved in one Datanet, and how far they were trusted there when the epoch closed.

    weight = approved_nano * accuracy_millionths. measured: with its counts; None: nothing was observed of them, or too early.
    """

    datanet: Datanet
    approved_nano: int
    accuracy_millionths: int
    measured: CuratorAccuracy | None

    @property
    def weight(self) -> int:
        return self.approved_nano * self.accuracy_millionths


@dataclass(frozen=True)
class LineSum:
    """A line with all it is computed from.

    Args:
        mine: The payee's parts, largest first; they add up to `line.amount_nano`.
        others_weight, others_nano: Everybody else's, so that weights and amounts add up to the totals.
        left_nano: part - divided: what no record supported; `left_reason` says why.
        attributed_nano: For a curator in a call, what its data part paid to records; else None.
        desks: For a curator, where they approved what was paid.
        lost_nano: Of what is divided, what accuracies took from the curators of this charge, the payee among them.
        full_nano: What the line would be if the payee's accuracy were 1 and everything else as it was.
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
    desks: list[DeskShare] = field(default_factory=list)
    lost_nano: int = 0
    full_nano: int = 0

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
    if line.role == Line.Role.CURATION:
        return _curation(line, charge, part_nano)
    return (_data if line.source == Source.CALL else _fee)(line, charge, part_nano)


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
    """Of calls and fees alike: one part, out of as many weights as Datanets in which the payee approved what was paid."""
    assert line.payee_id is not None  # lines without a payee are not explained
    roster = planning.roster_of(charge.artifact_id)
    people = planning.people_of(roster, {}, measured.of_epoch(line.epoch_id))
    attributed_nano = None
    if line.source == Source.CALL:
        call = explain.why_call(line.source_id)
        assert call is not None  # the trace was just read
        paid = {one.record_id: one.amount_nano for one in call.records if one.amount_nano}
        attributed_nano = sum(paid.values())
        amounts = np.array(list(paid.values()), dtype=np.int64)
        approved = people.approvers.sums(roster.places_of(paid), amounts)
        divided_nano = part_nano * attributed_nano // charge.data_nano if charge.data_nano else 0
    else:
        places, weights = planning.fee_weights(charge, pays_equally=line.epoch.pays_equally(charge.model_version_id))
        approved = people.approvers.sums(places, split(part_nano, weights))
        divided_nano = part_nano
    lost_nano = weigh(divided_nano, approved, people.desks).lost_nano
    mine = {
        number: nano
        for number, nano in approved.items()
        if number != NOBODY and people.desks[number - 1].curator_id == line.payee_id
    }
    trusted = [desk._replace(accuracy=MILLION) if desk.curator_id == line.payee_id else desk for desk in people.desks]
    desks = _desk_shares(line, people, mine)
    weight, all_weights = sum(one.weight for one in desks), sum(approved.values()) * MILLION
    floor_nano = divided_nano * weight // all_weights if all_weights else 0
    lines = Line.objects.filter(source_id=line.source_id, role=line.role).exclude(reason=Unattributed.CURATOR_ACCURACY)
    parts = [Part(None, None, None, weight, floor_nano, line.amount_nano)]
    told = _put_together(
        line, charge, part_nano, divided_nano, all_weights, parts, lines, attributed_nano=attributed_nano
    )
    full_nano = weigh(divided_nano, approved, trusted).amounts.get(line.payee_id, 0)
    return replace(told, desks=desks, lost_nano=lost_nano, full_nano=full_nano)


def _desk_shares(line: Line, people: planning.People, mine: Mapping[int, int]) -> list[DeskShare]:
    """Where the payee approved what was paid. `mine`: nano by the number of the desk."""
    datanets = Datanet.objects.select_related("owner").in_bulk([people.places[number - 1][1] for number in mine])
    rows = CuratorAccuracy.objects.filter(epoch=line.epoch_id, curator=line.payee_id)
    known = {row.datanet_id: row for row in rows}
    return [
        DeskShare(
            datanet=datanets[people.places[number - 1][1]],
            approved_nano=nano,
            accuracy_millionths=people.desks[number - 1].accuracy,
            measured=known.get(people.places[number - 1][1]),
        )
        for number, nano in mine.items()
    ]


def _fee(line: Line, charge: Trace, part_nano: int) -> LineSum:
    places, weights = planning.fee_weights(charge, pays_equally=line.epoch.pays_equally(charge.model_version_id))
    roster = planning.roster_of(charge.artifact_id)
    fees = RecordFee.objects.filter(epoch=line.epoch_id, source=line.source)
    payees = planning.people_of(roster, explain.paid_instead(fees), {}).contributors
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
