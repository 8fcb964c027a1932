"""What records under a theft dispute earned and that is still pending: in which lots it lies, and how it gets to their author.

    while it runs   every lot with such money is held, those that exist and those that plans are about to make
    won             what is pending of the records moves from the contributor's lots into lots of the author; what is
                    planned from then on pays the author (`settlement`); what has vested stays where it is
    anything else   the lots are let go

A lot is held whole: its owner is paid by the record, but a lot vests as one. Moving takes the records' part alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet, Sum

from attribution import explain
from attribution.models import (
    Epoch,
    Line,
    PlannedPosting,
    RecordEpoch,
    RecordFee,
    Reversal,
    Source,
    Transfer,
    TransferReturn,
)
from datanets.models import TheftDispute
from ledger import chart
from ledger import services as ledger

SOURCE_OF_POOL = {"calls": Source.CALL, "access": Source.ACCESS, "training": Source.TRAINING}


class Unsettled(Exception):
    """Money of the records is between two accounts. A moment later it is in a lot."""


class Stake(NamedTuple):
    """What some records earned in one epoch from one source, in one lot of their contributor; lot None: not made yet."""

    epoch_id: UUID
    source: Source
    posting_id: UUID
    account: str
    lot: ledger.LotRow | None
    earned_nano: dict[int, int]


def stakes_of(record_ids: Collection[int], *, contributor_id: int) -> list[Stake]:
    """Where the pending money of a contributor's records lies: in open lots, and in plans that wait to be posted."""
    account = chart.pending(contributor_id)
    lots = {lot.posting_id: lot for lot in ledger.pending_of(account)}
    postings = PlannedPosting.objects.filter(Q(pk__in=lots) | Q(epoch__status=Epoch.Status.PLANNED))
    return stakes_in(postings, account, record_ids, lots)


def check_is_folded(contributor_id: int) -> None:
    """Make sure that no lot of a person is missing. Call it under `reversals.lock_every`. Raises Unsettled."""
    if ledger.awaits_fold(chart.pending(contributor_id)):
        raise Unsettled


def move_to_author(dispute: TheftDispute) -> int:
    """Move what is pending of the records of a won dispute to their author. Returns how much that was.

    Call it under `reversals.lock_every`. The author's lots wait a whole challenge window: the calls behind them can be
    refunded as long as any lot of theirs.

    Raises:
        Unsettled: a part is planned and not in a lot yet. ledger.LotUnavailable: it vested in this moment.
        Nothing was changed.
    """
    check_is_folded(dispute.contributor_id)
    record_ids = list(dispute.records.values_list("record_id", flat=True))
    postings: list[ledger.Posting] = []
    transfers: list[Transfer] = []
    for stake in stakes_of(record_ids, contributor_id=dispute.contributor_id):
        if stake.lot is None:
            raise Unsettled
        left_nano = left_of(stake, dispute.contributor_id)
        if not left_nano:
            continue
        posting = ledger.Posting(
            id=ledger.new_id(),
            kind=ledger.Kind.ADJUSTMENT,
            reference=f"theft:{dispute.pk}:{len(postings) + 1}",
            moves=[ledger.Move(stake.account, chart.pending(dispute.claimant_id), sum(left_nano.values()))],
            vest_after_s=settings.CHALLENGE_WINDOW_S,
            takes_from=stake.posting_id,
        )
        postings.append(posting)
        transfers += [
            Transfer(
                dispute=dispute,
                epoch_id=stake.epoch_id,
                source=stake.source,
                record_id=record_id,
                payee_id=dispute.contributor_id,
                author_id=dispute.claimant_id,
                amount_nano=amount_nano,
                settlement_id=stake.posting_id,
                posting_id=posting.id,
            )
            for record_id, amount_nano in left_nano.items()
        ]
    if postings:
        ledger.post_many(postings)
    Transfer.objects.bulk_create(transfers)
    return sum(transfer.amount_nano for transfer in transfers)


def moved_of_call(epoch: Epoch, charge_id: UUID) -> list[tuple[Transfer, int]]:
    """What of a settled call had moved to authors since: each transfer, and the call's part in it."""
    transfers = list(Transfer.objects.filter(epoch=epoch, source=Source.CALL))
    call = explain.why_call(charge_id) if transfers else None
    paid = {share.record_id: share.amount_nano for share in call.records} if call else {}
    return [(one, paid[one.record_id]) for one in transfers if paid.get(one.record_id)]


def give_back(charge_id: UUID, moved: Collection[tuple[Transfer, int]]) -> None:
    """Remember what went back, with the refund of a call, of what authors had been given."""
    TransferReturn.objects.bulk_create(
        [TransferReturn(transfer=one, charge_id=charge_id, amount_nano=amount_nano) for one, amount_nano in moved]
    )


def stakes_in(
    postings: QuerySet[PlannedPosting], account: str, record_ids: Collection[int], lots: dict[UUID, ledger.LotRow]
) -> list[Stake]:
    if not record_ids:
        return []
    # Each posting of a settlement empties one pool, "pool:<model>:<source>:<part>": its first leg names it.
    pool_of = {
        (epoch_id, SOURCE_OF_POOL[moves[0][0].split(":")[2]]): posting_id
        for posting_id, epoch_id, moves in postings.values_list("pk", "epoch_id", "moves")
        if moves[0][0].endswith(":data") and any(target == account for _source, target, _amount in moves)
    }
    earned: dict[tuple[UUID, Source], dict[int, int]] = defaultdict(dict)
    paid = {"epoch__in": {epoch_id for epoch_id, _source in pool_of}, "record__in": record_ids, "payee": None}
    calls = RecordEpoch.objects.filter(**paid).values_list("epoch_id", "record_id").annotate(total=Sum("amount_nano"))
    for epoch_id, record_id, total in calls:
        earned[epoch_id, Source.CALL][record_id] = total
    for epoch_id, source, record_id, total in RecordFee.objects.filter(**paid).values_list(
        "epoch_id", "source", "record_id", "amount_nano"
    ):
        earned[epoch_id, Source(source)][record_id] = total
    return [
        Stake(epoch_id, source, posting_id, account, lots.get(posting_id), by_record)
        for (epoch_id, source), posting_id in sorted(pool_of.items(), key=lambda one: one[1])
        if (by_record := {record_id: nano for record_id, nano in earned[epoch_id, source].items() if nano})
    ]


def left_of(stake: Stake, contributor_id: int) -> dict[int, int]:
    """What the records earned less what of it moved before, or went back with refunded calls; what is more than nothing."""
    moved = Transfer.objects.filter(epoch=stake.epoch_id, source=stake.source, record__in=stake.earned_nano)
    gone = set(moved.values_list("record_id", flat=True))
    left_nano = {record_id: nano for record_id, nano in stake.earned_nano.items() if record_id not in gone}
    if stake.source == Source.CALL:
        lines = Line.objects.filter(epoch=stake.epoch_id, payee=contributor_id, role=Line.Role.DATA, source=Source.CALL)
        given_back = Reversal.objects.filter(charge_id__in=lines.values("source_id"), was_settled=True)
        for charge_id in given_back.values_list("charge_id", flat=True):
            call = explain.why_call(charge_id)
            for share in call.records if call else ():
                if share.record_id in left_nano:
                    left_nano[share.record_id] -= share.amount_nano
    return {record_id: nano for record_id, nano in left_nano.items() if nano}
