"""Theft disputes and their money: who says that records are theirs, and what is pending of them meanwhile and afterwards.

    opened      what the records earned and is pending is held: lots that exist, and lots that plans are about to make
    won         what is pending of the records goes to the author, out of those lots; the rest of each goes on its way.
                From the next plan on the records pay the author; the next version leaves them out
    lost, taken back, not decided in time: the lots are let go, and vest when they are due

What has vested is nobody's to take back. Who decides is `datanets.thefts`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from django.db import transaction
from django.db.models import Q, Sum
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import disputed, frozen, reversals
from attribution.models import Transfer
from datanets import thefts
from datanets.models import Record, TheftDispute

from . import audit, holds, notifications
from .errors import NotBookedYet
from .models import ERASED

logger = logging.getLogger(__name__)

Status = TheftDispute.Status


@transaction.atomic
def open_dispute(
    found: Collection[Record], *, by: User, statement: str, evidence: str, own_record: Record | None = None
) -> TheftDispute:
    """Open a theft dispute, hold what is pending of its records, and tell the contributor and who may decide.

    Raises what `datanets.thefts.open_dispute` raises; NotBookedYet: earnings of theirs are between two accounts.
    """
    dispute = thefts.open_dispute(found, by=by, statement=statement, evidence=evidence, own_record=own_record)
    # mutation: without this lock, a plan that is stored meanwhile would make a lot that nobody holds
    reversals.lock_every()
    try:
        disputed.check_is_folded(dispute.contributor_id)
    except disputed.Unsettled as moving:
        raise _moving() from moving
    stakes = _stakes(dispute)
    holds.hold_for_theft(dispute, [stake.lot for stake in stakes if stake.lot])
    for stake in stakes:
        if stake.lot is None:
            frozen.hold_ahead(stake)
    # What vested before this moment is not disputed; what is held from it on does not vest.
    dispute.opened_at = thefts.clock()
    dispute.save(update_fields=["opened_at"])
    audit.record(by, "open_theft_dispute", _target(dispute), records=_numbers(dispute))
    _tell(dispute, dispute.contributor, "theft_opened")
    _tell_deciders(dispute)
    return dispute


@transaction.atomic
def answer(dispute: TheftDispute, *, by: User, text: str) -> TheftDispute:
    """The contributor's side. Raises what `datanets.thefts.answer` raises."""
    dispute = thefts.answer(dispute, by=by, text=text)
    audit.record(by, "answer_theft_dispute", _target(dispute))
    _tell(dispute, dispute.claimant, "theft_answered")
    return dispute


@transaction.atomic
def decide(dispute: TheftDispute, *, by: User, uphold: bool, note: str) -> TheftDispute:
    """Uphold a dispute or dismiss it. The second who upholds moves what is pending of the records to their author.

    Raises what `datanets.thefts.decide` raises; NotBookedYet: earnings of theirs are between two accounts.
    """
    dispute = thefts.decide(dispute, by=by, uphold=uphold, note=note)
    audit.record(by, "decide_theft_dispute", _target(dispute), decision=dispute.status)
    if dispute.status == Status.UPHELD:
        _tell_deciders(dispute)
    elif dispute.status == Status.WON:
        moved_nano = _ended(dispute)
        _tell(dispute, dispute.claimant, "theft_won", amount_nano=str(moved_nano))
        _tell(dispute, dispute.contributor, "theft_records_given", amount_nano=str(moved_nano))
    else:
        _ended(dispute)
        _tell(dispute, dispute.claimant, "theft_lost")
        _tell(dispute, dispute.contributor, "theft_records_kept")
    return dispute


@transaction.atomic
def withdraw(dispute: TheftDispute, *, by: User) -> TheftDispute:
    """The claimant takes a dispute back: what it held is let go. Raises as `decide`, of `datanets.thefts.withdraw`."""
    dispute = thefts.withdraw(dispute, by=by)
    _ended(dispute)
    audit.record(by, "withdraw_theft_dispute", _target(dispute))
    _tell(dispute, dispute.contributor, "theft_records_kept")
    return dispute


def moved_nano(dispute: TheftDispute) -> int:
    """What the author was given, less what went back with calls that were refunded since."""
    return Transfer.objects.filter(dispute=dispute).with_kept().aggregate(total=Sum("kept_nano"))["total"] or 0


def held_nano(dispute: TheftDispute) -> int:
    """What the lots hold now that a running dispute freezes; with all that is in them, of other records, too."""
    return sum(stake.lot.open_nano for stake in _stakes(dispute) if stake.lot) if dispute.ended_at is None else 0


def forget_words_of(user: User) -> None:
    """Erase what was written in a person's disputes, also of them: it may quote what they sent in. What was decided stands."""
    party = TheftDispute.objects.filter(Q(claimant=user) | Q(contributor=user))
    party.update(statement=ERASED, evidence=ERASED)
    party.exclude(answer="").update(answer=ERASED)
    TheftDispute.objects.filter(Q(pk__in=party) | Q(first_by=user)).exclude(first_note="").update(first_note=ERASED)
    TheftDispute.objects.filter(Q(pk__in=party) | Q(decided_by=user)).exclude(note="").update(note=ERASED)


# --- By the clock


def hold_new_lots() -> int:
    """Remember the lots that came in, held, while a dispute runs. Returns how many."""
    held = 0
    for pk in list(TheftDispute.objects.filter(ended_at=None).values_list("pk", flat=True)):
        with transaction.atomic():
            dispute = TheftDispute.objects.select_for_update(no_key=True).get(pk=pk)
            if dispute.ended_at is None and thefts.clock() < dispute.decide_by:
                held += holds.hold_for_theft(dispute, [stake.lot for stake in _stakes(dispute) if stake.lot])
    return held


def lapse_overdue() -> int:
    """End the disputes that nobody decided in time. Returns how many; one that must wait lapses the next time."""
    lapsed = 0
    for overdue in list(TheftDispute.objects.filter(ended_at=None, decide_by__lte=thefts.clock())):
        try:
            with transaction.atomic():
                dispute = thefts.lapse(overdue)
                if dispute is not None:
                    _ended(dispute)
                    audit.record(None, "lapse_theft_dispute", _target(dispute))
                    for party in (dispute.claimant, dispute.contributor):
                        _tell(dispute, party, "theft_lapsed")
                    lapsed += 1
        except NotBookedYet:
            logger.info("theft dispute %s waits for a settlement", overdue.pk)
    return lapsed


def _ended(dispute: TheftDispute) -> int:
    """Move what is the author's, if it is won, and let everything else go. Returns how much moved."""
    # mutation: without this lock, a plan that is stored meanwhile would pay the contributor once more
    reversals.lock_every()
    try:
        disputed.check_is_folded(dispute.contributor_id)
        moved = disputed.move_to_author(dispute) if dispute.status == Status.WON else 0
    except disputed.Unsettled as moving:
        raise _moving() from moving
    holds.let_go(dispute)
    for stake in _stakes(dispute):
        if stake.lot is None:
            frozen.hold_ahead(stake)
        else:
            holds.apply(stake.lot.id)
    return moved


def _stakes(dispute: TheftDispute) -> list[disputed.Stake]:
    record_ids = list(dispute.records.values_list("record_id", flat=True))
    return disputed.stakes_of(record_ids, contributor_id=dispute.contributor_id)


def _moving() -> NotBookedYet:
    return NotBookedYet(
        _("Earnings of these records are being booked at this moment. Nothing was changed; try again in a minute.")
    )


def _tell_deciders(dispute: TheftDispute) -> None:
    for person in thefts.deciders_of(dispute):
        _tell(dispute, person, "theft_to_decide")


def _tell(dispute: TheftDispute, user: User, kind: str, **params: str) -> None:
    url = notifications.without_language(reverse("theft", args=[dispute.pk]))
    notifications.notify(user, kind, url=url, datanet=dispute.datanet.path, **params)


def _target(dispute: TheftDispute) -> str:
    return f"theft:{dispute.pk}"


def _numbers(dispute: TheftDispute) -> list[int]:
    return list(dispute.records.order_by("record_id").values_list("record_id", flat=True))
