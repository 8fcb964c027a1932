"""A second look at a rejection, by a curator who has not voted on it and does not see who did."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import services, states
from .errors import Invalid, NotAllowed, NotReady, SelfReview
from .models import Appeal, Datanet, Record, Review, Submission
from .relations import may_review

ANSWERED_WITHIN = timedelta(days=7)


@transaction.atomic
def appeal(record: Record, *, by: User, text: str) -> Appeal:
    """Ask for a second look at a rejected record, once.

    Raises:
        NotAllowed: not its contributor. NotReady: not rejected, or appealed before. Invalid: no text.
    """
    record = Record.objects.select_for_update(no_key=True).get(pk=record.pk)
    if record.contributor_id != by.pk:
        raise NotAllowed(_("Only its contributor may appeal."))
    if not text.strip():
        raise Invalid(_("Say why the record should be looked at again."))
    if record.status != Record.Status.REJECTED or record.appeals.exists():
        raise NotReady(_("A rejected record is appealed once."))
    return Appeal.objects.create(record=record, text=text.strip(), due_at=timezone.now() + ANSWERED_WITHIN)


def open_appeals(curator: User) -> QuerySet[Appeal]:
    """The appeals this curator may answer, those due first."""
    voted = Review.objects.filter(record=OuterRef("record"), curator=curator)
    found = Appeal.objects.filter(status=Appeal.Status.OPEN, record__datanet__in=Datanet.objects.curated_by(curator))
    found = found.exclude(Exists(voted)).exclude(record__contributor=curator)
    if curator.organisation.strip():
        found = found.exclude(record__contributor__organisation__iexact=curator.organisation.strip())
    return found.select_related("record__datanet").order_by("due_at")


@transaction.atomic
def decide_appeal(appeal: Appeal, *, curator: User, overturn: bool, note: str = "") -> Appeal:
    """Approve the record after all, or let its rejection stand. Overturning makes this curator its approver.

    Raises:
        SelfReview, NotAllowed: no curator here, related to the contributor, or voted on it before.
        NotReady: answered already, or withdrawn meanwhile.
    """
    submission = states.locked(appeal.record.submission_id)
    record = Record.objects.select_for_update(no_key=True).get(pk=appeal.record_id)
    appeal = Appeal.objects.select_for_update(no_key=True).get(pk=appeal.pk)
    _require_blind(record, submission, curator)
    if appeal.status != Appeal.Status.OPEN or record.status != Record.Status.REJECTED:
        raise NotReady(_("This appeal has been answered, or its record withdrawn."))
    now = timezone.now()
    appeal.status = Appeal.Status.OVERTURNED if overturn else Appeal.Status.UPHELD
    appeal.decided_by, appeal.decided_at, appeal.note = curator, now, note
    appeal.save(update_fields=["status", "decided_by", "decided_at", "note"])
    Review.objects.create(
        record=record,
        contributor_id=record.contributor_id,
        curator=curator,
        decision=Review.Decision.APPROVE if overturn else Review.Decision.REJECT,
        reason="" if overturn else record.reject_reason,
        note=note,
        act=uuid.uuid4(),
        decided_at=now,
    )
    if overturn:
        record.status, record.reject_reason, record.decided_by, record.decided_at = (
            Record.Status.APPROVED,
            "",
            curator,
            now,
        )
        record.save(update_fields=["status", "reject_reason", "decided_by", "decided_at"])
        states.advance(submission)
    return appeal


def _require_blind(record: Record, submission: Submission, curator: User) -> None:
    if record.contributor_id == curator.pk:
        raise SelfReview
    if not services.can_curate(curator, submission.datanet) or not may_review(submission, curator):
        raise NotAllowed(_("Only an unrelated curator of this Datanet answers appeals."))
    if Review.objects.filter(record=record, curator=curator).exists():
        raise NotAllowed(_("You have voted on this record. Another curator answers its appeal."))
