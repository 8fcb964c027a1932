"""What people are told. The sentence of a kind is made by the page, in the reader's language.

News of the data side is read, not called up: `tell_news` looks at what was decided lately and tells each thing once. All
news come through `tell`, which also sends them on to webhooks: one transaction, one list of kinds (marketplace/eventtypes.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language

from accounts.models import User
from datanets.models import Appeal, Report, Submission

from . import webhooks
from .models import Notification, Role, WalletMember

NEWS_LASTS = timedelta(days=7)
#: What also goes to one's e-mail address: who does not look can lose money or calls by it.
MAILED = {
    *("balance_low", "balance_empty", "key_limit_near", "key_limit_reached", "key_expiring", "key_expired"),
    "webhook_paused",
    # Who does not answer or appeal in time can lose what is held.
    *("noise_opened", "noise_upheld"),
}


def notify(user: User, kind: str, *, url: str = "", **params) -> Notification:
    """Put one line into somebody's inbox, and send it on."""
    return tell([Notification(user=user, kind=kind, url=url, params=params)])[0]


def tell_users(users: QuerySet[User], kind: str, *, url: str = "", **params) -> int:
    """Put the same line into many inboxes. Returns how many."""
    return len(tell([Notification(user=user, kind=kind, url=url, params=params) for user in users.order_by("pk")]))


@transaction.atomic
def tell(lines: Sequence[Notification]) -> list[Notification]:
    """Put lines into inboxes, and send them on. One with a subject that was told before is left out. Nobody reads the
    inbox of a shared wallet: what is for it goes to its owners.

    Returns those that were new.
    """
    lines = list(_to_people(lines))
    for line in lines:
        line.wants_mail = line.kind in MAILED
    Notification.objects.bulk_create(lines, ignore_conflicts=True)
    new = list(Notification.objects.filter(event_id__in=[line.event_id for line in lines]))
    webhooks.send_on(new)
    return new


def _to_people(lines: Sequence[Notification]) -> Iterator[Notification]:
    owners: defaultdict[int, list[int]] = defaultdict(list)
    members = WalletMember.objects.filter(wallet__account__in={line.user_id for line in lines}, role=Role.OWNER)
    for account_id, owner_id in members.order_by("pk").values_list("wallet__account", "user"):
        owners[account_id].append(owner_id)
    for line in lines:
        if line.user_id not in owners:
            yield line
        for owner_id in owners.get(line.user_id, ()):
            yield Notification(
                user_id=owner_id,
                kind=line.kind,
                subject=line.subject,
                params=line.params,
                url=line.url,
                is_silent=line.is_silent,
            )


def mark_read(user: User) -> int:
    """Mark everything in an inbox as read; returns how many lines that were."""
    return Notification.objects.filter(user=user, read_at__isnull=True).update(read_at=timezone.now())


def tell_news() -> int:
    """Tell contributors what became of their work, and who reported a record what became of that.

    Repeating tells nothing twice; returns how many lines were new.
    """
    since = timezone.now() - NEWS_LASTS
    lines = []
    submissions = Submission.objects.filter(
        status__in=[Submission.Status.DECIDED, Submission.Status.NEEDS_AUTHOR],
        sent_at__isnull=False,
        status_at__gte=since,
    )
    for submission in submissions.select_related("datanet"):
        decided = submission.status == Submission.Status.DECIDED
        lines.append(
            Notification(
                user_id=submission.contributor_id,
                kind="submission_decided" if decided else "submission_needs_you",
                subject=f"{submission.pk} {submission.status_at.isoformat()}",
                params={"title": submission.title or submission.datanet.name, **submission.status_params},
                url=without_language(reverse("submission", args=[submission.pk])),
            )
        )
    answered = Appeal.objects.filter(decided_at__gte=since).select_related("record")
    for appeal in answered:
        lines.append(
            Notification(
                user_id=appeal.record.contributor_id,
                kind="appeal_answered",
                subject=str(appeal.pk),
                params={"title": appeal.record.title},
                url=without_language(reverse("record", args=[appeal.record_id])),
            )
        )
    lines += _of_reports(since)
    return len(tell(lines))


def forget_silent(limit: datetime) -> int:
    """Delete news of before `limit` that were for webhooks only. Returns how many rows went."""
    return Notification.objects.filter(is_silent=True, created_at__lt=limit).delete()[0]


def address_of(name: str, *args) -> str:
    """The address of a page, for a line that anybody may write: it leads its reader to their own language."""
    return without_language(reverse(name, args=args))


def without_language(url: str) -> str:
    """An address that leads its reader to their own language, whoever wrote the line."""
    return url.removeprefix(f"/{get_language()}")


def _of_reports(since: datetime) -> Iterator[Notification]:
    """What became of reports: to who filed them, and, without saying who that was, to the record's contributor."""
    for report in Report.objects.filter(closed_at__gte=since):
        told: dict[str, Any] = {
            "params": {"record": report.record_id, "note": report.note},
            "url": without_language(reverse("record", args=[report.record_id])),
        }
        dismissed = report.status == Report.Status.DISMISSED
        kind = "report_dismissed" if dismissed else "report_upheld" if report.decided_by_id else "report_lapsed"
        yield Notification(user_id=report.reporter_id, kind=kind, subject=str(report.pk), **told)
        if dismissed:
            yield Notification(user_id=report.contributor_id, kind="record_kept", subject=str(report.pk), **told)
        elif report.decided_by_id:  # once, however many had reported it
            subject = f"record:{report.record_id}"
            yield Notification(user_id=report.contributor_id, kind="record_taken_down", subject=subject, **told)
