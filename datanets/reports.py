"""A record should not be there, says somebody; a curator who is no party to it decides."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import records, states
from .errors import Invalid, NotAllowed, NotReady, TooMany
from .models import Datanet, Record, Report
from .relations import are_colleagues, curators_of, require_reviewer

COUNTED_OVER = timedelta(days=1)


@transaction.atomic
def report(record: Record, *, by: User, reason: Report.Reason | str, text: str) -> Report:
    """Tell the curators why a record should not be there. Who may know of the record is for the caller to ask.

    Raises:
        NotAllowed: one's own record. NotReady: not approved, or reported by this person and not decided yet.
        Invalid: no reason, no text. TooMany: `REPORTS_PER_DAY_MAX` in a day.
    """
    if reason not in Report.Reason.values or not text.strip():
        raise Invalid(_("Choose a reason, and say what is wrong with the record."))
    # mutation: without this lock, reports sent at once would all pass the count of the day
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    record = Record.objects.select_for_update(no_key=True).defer("signature", "bands").get(pk=record.pk)
    if record.contributor_id == by.pk:
        raise NotAllowed(_("This record is yours: withdraw it instead."))
    if record.status != Record.Status.APPROVED:
        raise NotReady(_("Only approved records are reported. This one is not, or no longer."))
    mine = Report.objects.filter(reporter=by)
    if mine.filter(record=record, status=Report.Status.OPEN).exists():
        raise NotReady(_("You have reported this record already. A curator will decide."))
    if mine.filter(created_at__gte=timezone.now() - COUNTED_OVER).count() >= settings.REPORTS_PER_DAY_MAX:
        raise TooMany(
            _("You may report %(n)s records a day. Come back tomorrow.") % {"n": settings.REPORTS_PER_DAY_MAX}
        )
    return Report.objects.create(
        record=record, contributor_id=record.contributor_id, reporter=by, reason=reason, text=text.strip()
    )


def open_reports(curator: User) -> QuerySet[Report]:
    """The reports this curator may decide on, the oldest first."""
    reported = Report.objects.filter(record=OuterRef("record"), reporter=curator, status=Report.Status.OPEN)
    found = Report.objects.filter(status=Report.Status.OPEN, record__datanet__in=Datanet.objects.curated_by(curator))
    found = found.exclude(Exists(reported)).exclude(contributor=curator)
    if curator.organisation.strip():
        found = found.exclude(contributor__organisation__iexact=curator.organisation.strip())
    return found.select_related("record__datanet").order_by("created_at", "pk")


def deciders_of(report: Report) -> list[User]:
    """Who may decide on a report, and is told of it."""
    found = curators_of(report.record.datanet_id).exclude(pk__in=[report.contributor_id, report.reporter_id])
    return [user for user in found if not are_colleagues(user, report.contributor)]


@transaction.atomic
def decide(report: Report, *, curator: User, withdraw: bool, note: str) -> Report:
    """Dismiss a report, or withdraw its record, which settles every open report of it. The note goes to both parties.

    Versions that are frozen stay as they are; the next one leaves the record out (`records.withdraw`).

    Raises:
        SelfReview: one's own record. NotAllowed: no curator here, or reported by them. NotReady: decided already.
        Invalid: no note.
    """
    submission = states.locked(report.record.submission_id)
    record = Record.objects.select_for_update(no_key=True).defer("signature", "bands").get(pk=report.record_id)
    open_ones = record.reports.filter(status=Report.Status.OPEN)
    reporters = dict(open_ones.select_for_update(no_key=True).order_by("pk").values_list("pk", "reporter_id"))
    require_reviewer(submission, curator)
    if curator.pk == report.reporter_id or curator.pk in reporters.values():
        raise NotAllowed(_("You reported this record yourself. Another curator decides."))
    if report.pk not in reporters:
        raise NotReady(_("This report has been decided, or its record withdrawn."))
    if not note.strip():
        raise Invalid(_("Say why: the contributor and the person who reported are sent your note."))
    decided = open_ones if withdraw else open_ones.filter(pk=report.pk)
    decided.update(
        status=Report.Status.UPHELD if withdraw else Report.Status.DISMISSED,
        decided_by=curator,
        note=note.strip(),
        closed_at=timezone.now(),
    )
    if withdraw:
        records.withdraw(record, by=curator)
    return Report.objects.select_related("record__datanet").get(pk=report.pk)
