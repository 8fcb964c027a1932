"""Curators decide: claim a submission, vote on records, undo, answer appeals. Nobody reviews their own or related work."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import Count, Exists, Func, IntegerField, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import states
from .appeals import appeal, decide_appeal, open_appeals
from .errors import Invalid, NotAllowed, NotReady, SelfReview
from .models import Appeal, Claim, Datanet, Record, Review, Submission
from .relations import may_review, require_reviewer
from .reports import open_reports
from .votes import Vote, outcome

__all__ = [
    "BulkResult",
    "appeal",
    "approve_clean",
    "claim",
    "counts",
    "decide",
    "decide_appeal",
    "may_review",
    "queue",
    "release",
    "undo",
    "votes_of",
]

RecordStatus = Record.Status
Decision = Review.Decision


@dataclass
class BulkResult:
    """What a bulk act did, submission by submission. skipped: (submission, why)."""

    done: list[Submission] = field(default_factory=list)
    skipped: list[tuple[Submission, str]] = field(default_factory=list)
    acts: list[uuid.UUID] = field(default_factory=list)


def queue(curator: User, *, datanet: Datanet | None = None, state: str = "open") -> QuerySet[Submission]:
    """The submissions a curator may work on: flagged ones first, then the oldest.

    state: "open" (records wait for this curator's vote), "mine" (claimed by them now), "disputed" (curators disagree, and
    this one has not voted), "done" (they voted and all is decided). Each row has waiting_count, flagged_count and
    claimed_by_id (somebody's running claim, or None).
    """
    waiting = Record.objects.filter(submission=OuterRef("pk"), status=RecordStatus.WAITING)
    votes = Review.objects.filter(record=OuterRef("pk"), undone_at=None)
    unvoted = waiting.exclude(Exists(votes.filter(curator=curator)))
    disputed = unvoted.filter(Exists(votes.filter(decision="approve")), Exists(votes.filter(decision="reject")))
    flagged = waiting.exclude(flags=[])
    found = _reviewable(curator, datanet).annotate(
        waiting_count=Count("records", filter=Q(records__status=RecordStatus.WAITING)),
        flagged_count=Count("records", filter=Q(records__status=RecordStatus.WAITING) & ~Q(records__flags=[])),
        is_flagged=Exists(flagged),
        claimed_by_id=_claim_holder(),
    )
    voted = Review.objects.filter(record__submission=OuterRef("pk"), curator=curator, undone_at=None)
    conditions = {
        "open": Q(Exists(unvoted), status=Submission.Status.IN_REVIEW),
        "mine": Q(claim__curator=curator, claim__until__gt=timezone.now(), status=Submission.Status.IN_REVIEW),
        "disputed": Q(Exists(disputed), status=Submission.Status.IN_REVIEW),
        "done": Q(Exists(voted), status=Submission.Status.DECIDED),
    }
    if state not in conditions:
        raise Invalid(_("There is no such queue."))
    newest_first = ("-decided_at", "pk") if state == "done" else ("-is_flagged", "sent_at", "pk")
    found = found.filter(conditions[state]).select_related("datanet__owner", "contributor", "claim__curator")
    return found.order_by(*newest_first)


def counts(curator: User, *, states: Iterable[str], datanet: Datanet | None = None) -> dict[str, int]:
    """How many submissions these queues hold, and as "appeals" and "reports" how many of those wait; in one query."""
    wanted: dict[str, QuerySet] = {state: queue(curator, datanet=datanet, state=state) for state in states}
    wanted["appeals"] = open_appeals(curator)
    wanted["reports"] = open_reports(curator)
    numbers = {
        name: Func(ArraySubquery(found.order_by().values("pk")), function="cardinality", output_field=IntegerField())
        for name, found in wanted.items()
    }
    found = User.objects.filter(pk=curator.pk).values_list(*numbers.values()).get()
    return dict(zip(numbers, found, strict=True))


@transaction.atomic
def claim(submission: Submission, *, curator: User) -> Claim:
    """Work on a submission alone for 30 minutes; claiming again starts them anew.

    Raises:
        NotAllowed, SelfReview. NotReady: not in review, or another curator works on it.
    """
    submission = states.locked(submission.pk)
    require_reviewer(submission, curator)
    if submission.status != Submission.Status.IN_REVIEW:
        raise NotReady(_("This submission is not in review."))
    _require_unclaimed(submission, curator)
    until = timezone.now() + timedelta(seconds=settings.REVIEW_LEASE_S)
    return Claim.objects.update_or_create(submission=submission, defaults={"curator": curator, "until": until})[0]


def release(submission: Submission, *, curator: User) -> None:
    """Give a claim back. Repeating changes nothing; somebody else's claim stays."""
    Claim.objects.filter(submission=submission, curator=curator).delete()


@transaction.atomic
def decide(
    records: Iterable[Record],
    *,
    curator: User,
    decision: Decision | str,
    reason: str = "",
    note: str = "",
    evidence: dict | None = None,
) -> uuid.UUID:
    """Vote on some records of one or several submissions; all or nothing. Returns the act, which `undo` takes back.

    Where a Datanet needs several approvals, a record is decided once enough votes agree; after a disagreement the next
    curator decides. decided_by is the first curator who voted for what was decided.

    Raises:
        SelfReview, NotAllowed: not a curator here, or related to the contributor.
        NotReady: not waiting for a decision, voted on already, or claimed by another curator.
        Invalid: no records; a rejection without a reason.
    """
    if decision not in Decision.values or (decision == Decision.REJECT and reason not in Review.Reason.values):
        raise Invalid(_("A rejection needs a reason from the list."))
    ids = sorted({record.pk for record in records})
    locked_submissions = _lock_submissions(ids)
    rows = list(
        Record.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("id").defer("signature", "bands")
    )
    if not rows or len(rows) != len(ids):
        raise Invalid(_("Choose at least one record."))
    for submission in locked_submissions.values():
        require_reviewer(submission, curator)
        _require_unclaimed(submission, curator)
    if any(
        row.status != RecordStatus.WAITING
        or locked_submissions[row.submission_id].status != Submission.Status.IN_REVIEW
        for row in rows
    ):
        raise NotReady(_("Some of these records no longer wait for a decision. Load the page again."))
    if Review.objects.filter(record__in=ids, curator=curator, undone_at=None).exists():
        raise NotReady(_("You have voted on some of these records already. Load the page again."))
    act = uuid.uuid4()
    now = timezone.now()
    Review.objects.bulk_create(
        Review(
            record_id=row.pk,
            contributor_id=row.contributor_id,
            curator=curator,
            decision=decision,
            reason=reason if decision == Decision.REJECT else "",
            note=note,
            evidence=evidence or {},
            act=act,
            decided_at=now,
        )
        for row in rows
    )
    _settle(rows, locked_submissions)
    return act


def approve_clean(submissions: Iterable[Submission], *, curator: User) -> BulkResult:
    """Approve whole submissions, but only those without an open flag; each is reported, none stops the others."""
    result = BulkResult()
    for submission in submissions:
        waiting = Record.objects.filter(submission=submission).awaiting_review()
        records = list(waiting.only("pk"))
        if not records:
            result.skipped.append((submission, _("Nothing in it waits for a decision.")))
        elif waiting.exclude(flags=[]).exists():
            result.skipped.append((submission, _("A check flagged some of its records. Look at them one by one.")))
        else:
            try:
                result.acts.append(decide(records, curator=curator, decision=Decision.APPROVE))
                result.done.append(submission)
            except (NotAllowed, NotReady, SelfReview) as error:
                result.skipped.append((submission, str(error)))
    return result


@transaction.atomic
def undo(act: uuid.UUID, *, by: User) -> int:
    """Take back everything one act decided. Returns the number of votes; a second time it is 0.

    Raises:
        NotAllowed: somebody else's act. NotReady: too late, a record has been frozen into a version, or what was
            decided on has been withdrawn.
    """
    votes = Review.objects.filter(act=act, undone_at=None)
    ids = list(votes.values_list("record_id", flat=True))
    locked_submissions = _lock_submissions(ids)
    rows = list(
        Record.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("id").defer("signature", "bands")
    )
    mine = list(votes.select_for_update(no_key=True))
    if not mine:
        return 0
    if any(vote.curator_id != by.pk for vote in mine):
        raise NotAllowed(_("Only the curator who decided can undo it."))
    late = timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S)
    frozen = any(row.added_in is not None for row in rows)
    # A record of a withdrawn submission would wait for ever: nobody can decide on it again.
    withdrawn = any(each.status == Submission.Status.WITHDRAWN for each in locked_submissions.values())
    withdrawn = withdrawn or any(row.status == RecordStatus.WITHDRAWN for row in rows)
    appealed = Appeal.objects.filter(record__in=ids).exists()
    if frozen or withdrawn or appealed or any(vote.decided_at < late for vote in mine):
        raise NotReady(_("It is too late to undo this decision."))
    votes.update(undone_at=timezone.now())
    _settle(rows, locked_submissions)
    return len(mine)


def votes_of(record: Record, *, viewer: User) -> QuerySet[Review]:
    """The votes a curator may see: all once the record is decided or they have voted, before that none (blind votes)."""
    standing = record.reviews.filter(undone_at=None).select_related("curator").order_by("decided_at", "id")
    if record.status in (RecordStatus.WAITING, RecordStatus.CHECKING) and not standing.filter(curator=viewer).exists():
        return standing.none()
    return standing


def _reviewable(curator: User, datanet: Datanet | None) -> QuerySet[Submission]:
    found = Submission.objects.filter(datanet__in=Datanet.objects.curated_by(curator)).exclude(contributor=curator)
    if curator.organisation.strip():
        found = found.exclude(contributor__organisation__iexact=curator.organisation.strip())
    return found.filter(datanet=datanet) if datanet is not None else found


def _claim_holder():
    running = Claim.objects.filter(submission=OuterRef("pk"), until__gt=timezone.now())
    return running.values("curator_id")[:1]


def _require_unclaimed(submission: Submission, curator: User) -> None:
    held = Claim.objects.filter(submission=submission, until__gt=timezone.now()).exclude(curator=curator)
    if holder := held.select_related("curator").first():
        raise NotReady(_("%(name)s works on this submission now.") % {"name": holder.curator.label})


def _lock_submissions(record_ids: Sequence[int]) -> dict[uuid.UUID, Submission]:
    of_records = Record.objects.filter(pk__in=record_ids).values("submission_id")
    rows = Submission.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=of_records).order_by("pk")
    return {row.pk: row for row in rows.select_related("datanet", "contributor")}


def _settle(rows: Sequence[Record], locked_submissions: dict[uuid.UUID, Submission]) -> None:
    """Bring records, and then their submissions, into the state their standing votes imply."""
    cast: dict[int, list[Review]] = defaultdict(list)
    standing = Review.objects.filter(record__in=[row.pk for row in rows], undone_at=None)
    for vote in standing.order_by("decided_at", "id"):
        cast[vote.record_id].append(vote)
    alike: dict[tuple, list[int]] = defaultdict(list)  # most records of an act end alike: one update for all of them
    for row in rows:
        needed = locked_submissions[row.submission_id].datanet.approvals_needed
        alike[_outcome_fields(cast[row.pk], needed)].append(row.pk)
    for (status, decided_by_id, decided_at, reason), ids in alike.items():
        Record.objects.filter(pk__in=ids).update(
            status=status, decided_by_id=decided_by_id, decided_at=decided_at, reject_reason=reason
        )
    for submission in locked_submissions.values():
        states.advance(submission)
        if submission.status == Submission.Status.DECIDED:
            Claim.objects.filter(submission=submission).delete()


def _outcome_fields(votes: Sequence[Review], needed: int) -> tuple:
    """(status, decided_by, decided_at, reject_reason) that the standing votes on a record imply."""
    decided = outcome([Vote(vote.curator_id, vote.decision) for vote in votes], needed=needed)
    if decided.choice is None:
        return RecordStatus.WAITING, None, None, ""
    first = next(vote for vote in votes if vote.decision == decided.choice)
    decided_at = max(vote.decided_at for vote in votes)
    if decided.choice == Decision.APPROVE:
        return RecordStatus.APPROVED, first.curator_id, decided_at, ""
    return RecordStatus.REJECTED, first.curator_id, decided_at, first.reason
