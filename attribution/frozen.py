"""Which lots may not vest because of the records that earned them: a theft dispute about them runs, or a noise case.

One state per lot, made or to be made: it is held as long as one of them stands. A theft dispute lapses at a known time; a
noise case holds until somebody, or the clock, ends it.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q

from attribution import disputed
from attribution.models import Epoch, NoiseCase, NoiseRecord, PlannedPosting
from datanets import thefts
from datanets.models import Record
from ledger import chart
from ledger import services as ledger

BY_THEFT, BY_NOISE = "theft", "noise"  # what the ledger, and so the payee, is told of who holds
NOISE_STANDS = (*NoiseCase.RUNNING, NoiseCase.Status.RETURNED)


class Frozen(NamedTuple):
    """By whom a lot is frozen, and until when at the latest; None: until it is ended."""

    by: str
    until: datetime | None


def of(posting_id: UUID, account: str) -> Frozen | None:
    """What freezes a lot, made or to be made; None: nothing does."""
    ends = _theft_ends(posting_id, account)
    by_noise = _is_frozen_by_noise(posting_id, account)
    if ends:
        return Frozen(BY_THEFT, None if by_noise else max(ends))
    return Frozen(BY_NOISE, None) if by_noise else None


def hold_ahead(stake: disputed.Stake) -> None:
    """Have a lot that is not made yet held as long as something freezes it; if nothing does any more, not at all."""
    found = of(stake.posting_id, stake.account)
    by, until = found or ("", None)
    ledger.hold_ahead(stake.posting_id, stake.account, reason=by, by=by, until=until)


def hold_what_is_planned(epoch: Epoch) -> None:
    """Have the lots that a plan will make, and that hold money of such records, held from their first moment."""
    by_contributor: dict[int, set[int]] = defaultdict(set)
    disputed_now = Record.objects.filter(pk__in=thefts.running_records()).values_list("pk", "contributor_id")
    noise = NoiseRecord.objects.filter(case__status__in=NOISE_STANDS, model_id=epoch.model_id)
    for record_id, contributor_id in [*disputed_now, *noise.values_list("record_id", "case__contributor_id")]:
        by_contributor[contributor_id].add(record_id)
    for contributor_id, record_ids in by_contributor.items():
        for stake in disputed.stakes_in(epoch.postings.all(), chart.pending(contributor_id), record_ids, {}):
            hold_ahead(stake)


def _theft_ends(posting_id: UUID, account: str) -> list[datetime]:
    ends = thefts.running_records()
    if not ends:
        return []
    mine = Record.objects.filter(pk__in=ends, contributor=chart.user_of(account))
    record_ids = list(mine.values_list("pk", flat=True))
    found = disputed.stakes_in(PlannedPosting.objects.filter(pk=posting_id), account, record_ids, {})
    return [ends[record_id] for stake in found for record_id in stake.earned_nano]


def _is_frozen_by_noise(posting_id: UUID, account: str) -> bool:
    """Of a returned case what has moved freezes nothing any more: what other records earned in the lot goes on its way."""
    posting = PlannedPosting.objects.filter(pk=posting_id).select_related("epoch").first()
    contributor_id = chart.user_of(account)
    if posting is None or contributor_id is None:
        return False
    mine = NoiseRecord.objects.filter(
        Q(case__status__in=NOISE_STANDS), case__contributor=contributor_id, model_id=posting.epoch.model_id
    )
    runs: dict[bool, list[int]] = {True: [], False: []}
    for record_id, status in mine.values_list("record_id", "case__status"):
        runs[status in NoiseCase.RUNNING].append(record_id)
    this = PlannedPosting.objects.filter(pk=posting_id)
    if disputed.stakes_in(this, account, runs[True], {}):
        return True
    returned = disputed.stakes_in(this, account, runs[False], {})
    return any(disputed.left_of(stake, contributor_id) for stake in returned)
