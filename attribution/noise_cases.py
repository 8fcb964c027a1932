"""Rows that look like noise: what people say and decide. Their money is `marketplace.noise_cases`, which calls these inside
its own transactions.

A conviction is evidence, not a sentence. Who decides never learns here whose the rows are.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from attribution.models import NoiseCase, NoiseRecord
from attribution.models.noise import NoiseReport
from attribution.noise_judging import Convicted
from datanets import relations
from datanets import services as datanets
from datanets.errors import Invalid, NotAllowed, NotReady, SelfReview
from datanets.models import Datanet, Record, Review
from datanets.thefts import clock

TEXT_CHARS_MAX = 4000
Status = NoiseCase.Status


def open_case(report: NoiseReport, accused: Convicted) -> NoiseCase:
    """Open a case about rows of one contributor. The database refuses a row that was in a case of this model before."""
    now = clock()
    case = NoiseCase.objects.create(
        report=report,
        model_id=report.model_id,
        datanet_id=accused.datanet_id,
        contributor_id=accused.contributor_id,
        figures=accused.figures,
        opened_at=now,
        due_at=now + timedelta(seconds=settings.NOISE_DECISION_S),
    )
    NoiseRecord.objects.bulk_create(
        [NoiseRecord(case=case, model_id=case.model_id, record_id=record_id) for record_id in accused.record_ids]
    )
    return case


@transaction.atomic
def state(case: NoiseCase, *, by: User, text: str) -> NoiseCase:
    """The contributor's side, once, before the first decision. Raises NotAllowed, Invalid, NotReady."""
    case = _running(case)
    _require_contributor(case, by)
    if case.status != Status.OPEN or case.stated_at is not None:
        raise NotReady(_("You have answered already, or it was decided. Nothing was changed."))
    case.statement, case.stated_at = _checked(text), clock()
    case.save(update_fields=["statement", "stated_at"])
    return case


@transaction.atomic
def decide(case: NoiseCase, *, by: User, uphold: bool, note: str) -> NoiseCase:
    """Say whether the rows are noise, with a written reason: the first decision, or the answer to an appeal.

    The first, if it upholds, waits for an appeal; nothing is taken before. A second is another person's, and the last.

    Raises:
        SelfReview, NotAllowed: see `require_decider`. Invalid: no reason. NotReady: it waits for no decision.
    """
    case = _running(case)
    if case.status == Status.UPHELD:
        raise NotReady(_("This was decided. It waits for an appeal, and for no other decision. Nothing was changed."))
    require_decider(case, by)
    note, now = _checked(note), clock()
    if case.status == Status.APPEALED:
        case.second_by, case.second_note = by, note
        return _end(case, Status.RETURNED if uphold else Status.CLEARED)
    case.decided_by, case.decided_at, case.note = by, now, note
    if not uphold:
        return _end(case, Status.CLEARED)
    case.status, case.due_at = Status.UPHELD, now + timedelta(seconds=settings.NOISE_APPEAL_S)
    case.save(update_fields=["status", "due_at", "decided_by", "decided_at", "note"])
    return case


@transaction.atomic
def appeal(case: NoiseCase, *, by: User, text: str) -> NoiseCase:
    """The contributor asks for a second look by another person, in time. Raises NotAllowed, Invalid, NotReady."""
    case = _running(case)
    _require_contributor(case, by)
    if case.status != Status.UPHELD:
        raise NotReady(_("There is no decision to appeal against, or you have appealed. Nothing was changed."))
    now = clock()
    case.appeal, case.appealed_at = _checked(text), now
    case.status, case.due_at = Status.APPEALED, now + timedelta(seconds=settings.NOISE_DECISION_S)
    case.save(update_fields=["status", "due_at", "appeal", "appealed_at"])
    return case


@transaction.atomic
def end_overdue(case: NoiseCase) -> NoiseCase | None:
    """By the clock: not decided, it lapses; upheld and not appealed, it is final. None: it has ended, or is not due."""
    case = NoiseCase.objects.select_for_update(no_key=True).get(pk=case.pk)
    if case.ended_at is not None or clock() < case.due_at:
        return None
    return _end(case, Status.RETURNED if case.status == Status.UPHELD else Status.LAPSED)


# --- Who


def require_decider(case: NoiseCase, user: User) -> None:
    """Curators and the owner of the Datanet, and administrators; never the contributor or their organisation, who
    approved one of the rows, or who decided before. Raises SelfReview, NotAllowed."""
    if user.pk == case.contributor_id or relations.are_colleagues(user, case.contributor):
        raise SelfReview(_("This is about your own records, or your organisation’s. Others decide."))
    if not (user.is_staff or datanets.can_curate(user, case.datanet)):
        raise NotAllowed(_("Curators of the Datanet and administrators decide noise cases."))
    if user.pk == case.decided_by_id:
        raise NotAllowed(_("You have decided already. Somebody else answers the appeal."))
    if Review.objects.filter(_approved(), curator=user, record__noise__case=case).exists():
        raise NotAllowed(_("You approved one of these records. Somebody else decides."))


def to_decide(user: User) -> QuerySet[NoiseCase]:
    """What this person may decide on now, the oldest first."""
    found = NoiseCase.objects.filter(status__in=[Status.OPEN, Status.APPEALED], due_at__gt=clock())
    found = found.exclude(contributor=user).exclude(decided_by=user)
    mine = Review.objects.filter(_approved(), curator=user, record__noise__case=OuterRef("pk"))
    found = found.exclude(Exists(mine))
    if not user.is_staff:
        found = found.filter(datanet__in=Datanet.objects.curated_by(user))
    if ours := user.organisation.strip():
        found = found.exclude(contributor__organisation__iexact=ours)
    return found.select_related("datanet__owner").order_by("opened_at", "pk")


def deciders_of(case: NoiseCase) -> list[User]:
    """Who may decide on a case now, and is told so."""
    curators = relations.curators_of(case.datanet_id)
    found = User.objects.filter(Q(pk__in=curators) | Q(is_staff=True), is_active=True)
    approvers = Review.objects.filter(_approved(), record__noise__case=case).values("curator")
    found = found.exclude(pk__in=[case.contributor_id, case.decided_by_id or 0]).exclude(pk__in=approvers)
    return [user for user in found.order_by("pk") if not relations.are_colleagues(user, case.contributor)]


def of_contributor(user: User) -> QuerySet[NoiseCase]:
    """The cases about a person's records, the newest first."""
    found = NoiseCase.objects.filter(contributor=user).select_related("datanet__owner")
    return found.order_by("-opened_at", "pk")


def seen_by(user: User) -> QuerySet[NoiseCase]:
    """Every case a person may read: about their records, of Datanets they curate, and administrators all of them."""
    found = NoiseCase.objects.select_related("datanet__owner", "contributor", "report__epoch")
    if user.is_staff:
        return found
    return found.filter(Q(contributor=user) | Q(datanet__in=Datanet.objects.curated_by(user)))


def records_of(case: NoiseCase) -> QuerySet[Record]:
    """The rows, in an order that says nothing of when they were sent."""
    return Record.objects.filter(noise__case=case).select_related("body").order_by("identity")


def _approved() -> Q:
    return Q(decision=Review.Decision.APPROVE, undone_at=None)


def _require_contributor(case: NoiseCase, user: User) -> None:
    if user.pk != case.contributor_id:
        raise NotAllowed(_("Only the contributor of the records may do this."))


def _running(case: NoiseCase) -> NoiseCase:
    """The case as it stands, locked: whoever acts on it takes turns. Raises NotReady."""
    # mutation: without this lock, two who decide at once would both be the first
    locked = NoiseCase.objects.select_for_update(of=("self",), no_key=True)
    case = locked.select_related("datanet", "contributor").get(pk=case.pk)
    if case.ended_at is not None:
        raise NotReady(_("This case has ended. Nothing was changed."))
    if case.due_at <= clock():
        raise NotReady(_("The time for this is over. Nothing was changed."))
    return case


def _end(case: NoiseCase, status: NoiseCase.Status) -> NoiseCase:
    case.status, case.ended_at = status, clock()
    case.save(update_fields=["status", "ended_at", "decided_by", "decided_at", "note", "second_by", "second_note"])
    return case


def _checked(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TEXT_CHARS_MAX:
        raise Invalid(_("Write something, at most %(n)s characters.") % {"n": TEXT_CHARS_MAX})
    return text
