"""These records are mine, says somebody. Two people who are no party to it let that be true; one lets it be false.

Data only: what it means for money is `marketplace.thefts`, which calls these inside its own transactions.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User

from . import relations, services
from .errors import Invalid, NotAllowed, NotReady, SelfReview, TooMany
from .models import Datanet, DisputedRecord, Record, TheftDispute

RECORDS_MAX = 50
TEXT_CHARS_MAX = 4000
Status, State = TheftDispute.Status, DisputedRecord.State


@transaction.atomic
def open_dispute(
    found: Collection[Record], *, by: User, statement: str, evidence: str, own_record: Record | None = None
) -> TheftDispute:
    """Say that records of one contributor, in one Datanet, are one's own. Who may know of them is for the caller to ask.

    Args:
        own_record: The claimant's own copy, where this site has one from before the disputed ones.

    Raises:
        Invalid: no record, too many, of several people or Datanets; no statement, no evidence; another `own_record`.
        NotAllowed: one's own. TooMany: `THEFT_DISPUTES_RUNNING_MAX` of this person run.
        NotReady: not approved, disputed or awarded already, or disputed by this person before.
    """
    statement, evidence = _checked(statement), _checked(evidence)
    if not 0 < len({record.pk for record in found}) <= RECORDS_MAX:
        raise Invalid(_("Name between 1 and %(n)s records.") % {"n": RECORDS_MAX})
    # mutation: without this lock, disputes opened at once would all pass the count
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    # mutation: without this lock, two people could dispute a record at once, and one meet the constraint instead of a reason
    locked = Record.objects.select_for_update(no_key=True).filter(pk__in=[record.pk for record in found])
    records = list(locked.order_by("pk").defer("signature", "bands"))
    if len({(record.contributor_id, record.datanet_id) for record in records}) != 1:
        raise Invalid(_("The records of one dispute are of one contributor, in one Datanet. Open one for each."))
    _check_open(records, by=by)
    if own_record is not None and (own_record.contributor_id != by.pk or own_record.pk >= records[0].pk):
        raise Invalid(_("Your own record must be yours, and older here than the ones you dispute."))
    if TheftDispute.objects.filter(claimant=by, ended_at=None).count() >= settings.THEFT_DISPUTES_RUNNING_MAX:
        raise TooMany(
            _("At most %(n)s of your theft disputes may run at once.") % {"n": settings.THEFT_DISPUTES_RUNNING_MAX}
        )
    now = clock()
    dispute = TheftDispute.objects.create(
        datanet_id=records[0].datanet_id,
        claimant=by,
        contributor_id=records[0].contributor_id,
        statement=statement,
        evidence=evidence,
        own_record=own_record,
        opened_at=now,
        decide_by=now + timedelta(seconds=settings.THEFT_DECISION_S),
    )
    DisputedRecord.objects.bulk_create([DisputedRecord(dispute=dispute, record=record) for record in records])
    return dispute


@transaction.atomic
def answer(dispute: TheftDispute, *, by: User, text: str) -> TheftDispute:
    """The contributor says their side, once, while it runs. Raises NotAllowed, Invalid, NotReady."""
    dispute = _running(dispute)
    if by.pk != dispute.contributor_id:
        raise NotAllowed(_("Only the contributor of the records answers."))
    if dispute.answered_at is not None:
        raise NotReady(_("You have answered already. Nothing was changed."))
    dispute.answer, dispute.answered_at = _checked(text), clock()
    dispute.save(update_fields=["answer", "answered_at"])
    return dispute


@transaction.atomic
def decide(dispute: TheftDispute, *, by: User, uphold: bool, note: str) -> TheftDispute:
    """Uphold a dispute, or dismiss it. One dismissal ends it; upholding takes a second person. Both parties read the note.

    Raises:
        SelfReview, NotAllowed: a party, of a party's organisation, neither curator here nor administrator, or the first
        one again. Invalid: no note. NotReady: it has ended, or its time is over.
    """
    dispute = _running(dispute)
    require_decider(dispute, by)
    note = _checked(note)
    if uphold and dispute.status == Status.OPEN:
        dispute.status, dispute.first_by, dispute.first_note = Status.UPHELD, by, note
        dispute.save(update_fields=["status", "first_by", "first_note"])
        return dispute
    if dispute.first_by_id == by.pk:
        raise NotAllowed(_("You have decided already. Somebody else gives the second decision."))
    dispute.decided_by, dispute.note = by, note
    return _end(dispute, Status.WON if uphold else Status.LOST)


@transaction.atomic
def withdraw(dispute: TheftDispute, *, by: User) -> TheftDispute:
    """The claimant takes a dispute back. Raises NotAllowed, NotReady."""
    dispute = _running(dispute)
    if by.pk != dispute.claimant_id:
        raise NotAllowed(_("Only the person who opened this dispute may take it back."))
    return _end(dispute, Status.WITHDRAWN)


@transaction.atomic
def lapse(dispute: TheftDispute) -> TheftDispute | None:
    """End a dispute that nobody decided in time; None if it has ended, or its time is not over."""
    dispute = TheftDispute.objects.select_for_update(no_key=True).get(pk=dispute.pk)
    if dispute.ended_at is not None or clock() < dispute.decide_by:
        return None
    return _end(dispute, Status.LAPSED)


# --- Who


def require_decider(dispute: TheftDispute, user: User) -> None:
    """Curators and the owner of the Datanet, and administrators; no party to it, and nobody of a party's organisation.

    Raises SelfReview, NotAllowed.
    """
    for party in (dispute.claimant, dispute.contributor):
        if user.pk == party.pk or relations.are_colleagues(user, party):
            raise SelfReview(_("You are a party to this dispute, or of a party’s organisation. Others decide."))
    if not (user.is_staff or services.can_curate(user, dispute.datanet)):
        raise NotAllowed(_("Curators of the Datanet and administrators decide theft disputes."))


def to_decide(user: User) -> QuerySet[TheftDispute]:
    """What this person may decide on now, the oldest first."""
    found = TheftDispute.objects.filter(status__in=TheftDispute.RUNNING, decide_by__gt=clock())
    found = found.exclude(claimant=user).exclude(contributor=user).exclude(status=Status.UPHELD, first_by=user)
    if not user.is_staff:
        found = found.filter(datanet__in=Datanet.objects.curated_by(user))
    if ours := user.organisation.strip():
        found = found.exclude(claimant__organisation__iexact=ours).exclude(contributor__organisation__iexact=ours)
    return found.select_related("datanet__owner", "claimant", "contributor").order_by("opened_at", "pk")


def deciders_of(dispute: TheftDispute) -> list[User]:
    """Who may decide on a dispute now, and is told so."""
    curators = relations.curators_of(dispute.datanet_id)
    found = User.objects.filter(Q(pk__in=curators) | Q(is_staff=True), is_active=True)
    found = found.exclude(pk__in=[dispute.claimant_id, dispute.contributor_id, dispute.first_by_id or 0])
    parties = (dispute.claimant, dispute.contributor)
    return [user for user in found if not any(relations.are_colleagues(user, party) for party in parties)]


def of_party(user: User) -> QuerySet[TheftDispute]:
    """The disputes that a person opened, or that are about their records, the newest first."""
    found = TheftDispute.objects.filter(Q(claimant=user) | Q(contributor=user))
    return found.select_related("datanet__owner", "claimant", "contributor").order_by("-opened_at", "pk")


def seen_by(user: User) -> QuerySet[TheftDispute]:
    """Every dispute that a person may read: as a party, as one who may decide or has, and administrators all of them."""
    found = TheftDispute.objects.select_related(
        "datanet__owner", "claimant", "contributor", "own_record", "first_by", "decided_by"
    )
    if user.is_staff:
        return found
    return found.filter(Q(claimant=user) | Q(contributor=user) | Q(datanet__in=Datanet.objects.curated_by(user)))


def about(record: Record, *, seen_by_user: User) -> TheftDispute | None:
    """The dispute that runs about a record, or that gave it to its author, if this person may read it."""
    standing = record.disputed.filter(state__in=[State.RUNNING, State.AWARDED]).values("dispute")
    return seen_by(seen_by_user).filter(pk__in=standing).first()


# --- For the money


def running_records() -> dict[int, datetime]:
    """Records under a running dispute, each with when that one lapses."""
    found = DisputedRecord.objects.filter(state=State.RUNNING, dispute__decide_by__gt=clock())
    return dict(found.values_list("record_id", "dispute__decide_by"))


def authors() -> dict[int, int]:
    """Record -> author, of the records that were given to their author: whom they pay instead of their contributor."""
    found = DisputedRecord.objects.filter(state=State.AWARDED)
    return dict(found.values_list("record_id", "dispute__claimant_id"))


def clock() -> datetime:
    """The database's clock, by which lots vest, too: times of disputes and of the books can be compared."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def _check_open(records: list[Record], *, by: User) -> None:
    for record in records:
        if record.contributor_id == by.pk:
            raise NotAllowed(_("This record is yours already."))
        if record.status not in (Record.Status.APPROVED, Record.Status.WITHDRAWN):
            raise NotReady(_("Only records that were approved can be disputed."))
    about = DisputedRecord.objects.filter(record__in=records)
    if about.filter(state__in=[State.RUNNING, State.AWARDED]).exists():
        raise NotReady(_("One of these records is disputed already, or was given to its author."))
    if about.filter(dispute__claimant=by).exclude(dispute__status=Status.LAPSED).exists():
        raise NotReady(_("You have disputed one of these records before. That was decided, or you took it back."))


def _running(dispute: TheftDispute) -> TheftDispute:
    """The dispute as it stands, locked: whoever acts on it takes turns. Raises NotReady."""
    # mutation: without this lock, two who uphold at once would both be the first
    locked = TheftDispute.objects.select_for_update(of=("self",), no_key=True)
    dispute = locked.select_related("datanet", "claimant", "contributor").get(pk=dispute.pk)
    if dispute.ended_at is not None:
        raise NotReady(_("This dispute has ended. Nothing was changed."))
    if dispute.decide_by <= clock():
        raise NotReady(_("The time to decide this dispute is over. Nothing was changed."))
    return dispute


def _end(dispute: TheftDispute, status: TheftDispute.Status) -> TheftDispute:
    dispute.status, dispute.ended_at = status, clock()
    dispute.save(update_fields=["status", "ended_at", "decided_by", "note"])
    dispute.records.update(state=State.AWARDED if status == Status.WON else State.KEPT)
    return dispute


def _checked(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TEXT_CHARS_MAX:
        raise Invalid(_("Write something, at most %(n)s characters.") % {"n": TEXT_CHARS_MAX})
    return text
