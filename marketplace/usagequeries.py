"""What a wallet paid for: sums by key, model and day, and the calls themselves. One query each.

Sums of cost are what the buyer paid: free calls, which developers paid, stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from accounts.models import User

from . import roles
from .models import Call

EXPORT_COLUMNS = (
    *("receipt_id", "started_at", "finished_at", "model", "key", "endpoint", "status", "error_code", "streamed"),
    *("prompt_tokens", "answer_tokens", "cost_nano", "cost_open", "paid_by", "receipt_url"),
)
_PAID = Sum("cost_nano", filter=Q(free=False), default=0)


def paid_by(account: User, *, seen_by: User) -> QuerySet[Call]:
    """The calls that a wallet paid and somebody may see: all of their own; of a shared one what `roles.bought_by` says."""
    found = Call.objects.filter(buyer=account)
    return found if account.pk == seen_by.pk else found.filter(roles.bought_by(seen_by))


def in_days(
    found: QuerySet[Call], *, since: date, until: date, key: UUID | None = None, model: UUID | None = None
) -> QuerySet[Call]:
    """Those that ended in these days, both included; only of one key or model, if their ids are given."""
    found = found.filter(finished_at__date__gte=since, finished_at__date__lte=until)
    if key:
        found = found.filter(key=key)
    return found.filter(model=model) if model else found


def total(found: QuerySet[Call]) -> dict[str, int]:
    """Counts per end of a call, tokens and cost."""
    sums = found.order_by().aggregate(
        calls=Count("pk"),
        failed=Count("pk", filter=Q(status=Call.Status.FAILED)),
        left=Count("pk", filter=Q(status=Call.Status.LEFT)),
        abstained=Count("pk", filter=Q(status=Call.Status.ABSTAINED)),
        refused=Count("pk", filter=Q(status=Call.Status.REFUSED)),
        prompt_tokens=Sum("prompt_tokens"),
        answer_tokens=Sum("answer_tokens"),
        free_calls=Count("pk", filter=Q(free=True)),
        free_nano=Sum("cost_nano", filter=Q(free=True)),
        cost_nano=_PAID,
    )
    return {name: value or 0 for name, value in sums.items()}


def by_key(found: QuerySet[Call]) -> list[Any]:
    return _grouped(found, "key__name", "key__prefix", "key__made_by__username")


def by_model(found: QuerySet[Call]) -> list[Any]:
    return _grouped(found, "model__owner__username", "model__slug", "model__name")


def _grouped(found: QuerySet[Call], *names: str) -> list[Any]:
    rows = found.order_by().values(*names)
    return list(rows.annotate(calls=Count("pk"), cost_nano=_PAID).order_by("-cost_nano", *names))


def per_day(found: QuerySet[Call], *, since: date, until: date) -> tuple[list[date], dict[str, list[int]]]:
    """(days, {model path: nano-OPEN per day}), dearest model first."""
    days = [since + timedelta(days=n) for n in range((until - since).days + 1)]
    places = {day: place for place, day in enumerate(days)}
    sums: dict[str, list[int]] = {}
    rows = found.order_by().values_list("model__owner__username", "model__slug", TruncDate("finished_at", tzinfo=UTC))
    for owner, slug, day, cost_nano in rows.annotate(cost=_PAID):
        sums.setdefault(f"{owner}/{slug}", [0] * len(days))[places[day]] += cost_nano
    return days, dict(sorted(sums.items(), key=lambda each: -sum(each[1])))


def export_rows(found: QuerySet[Call], *, site_url: str, exact) -> Iterator[list]:
    """The rows of the CSV, oldest first. exact: writes nano-OPEN as OPEN with nine places."""
    rows = found.select_related("model__owner", "version", "key").order_by("finished_at", "pk")
    for call in rows.iterator(chunk_size=1000):
        yield [
            call.pk,
            call.started_at.isoformat(),
            call.finished_at.isoformat(),
            f"{call.model.path}@v{call.version.number}",
            call.key.prefix if call.key else "",
            call.endpoint,
            call.status,
            call.error_code,
            "true" if call.streamed else "false",
            call.prompt_tokens,
            call.answer_tokens,
            call.cost_nano,
            exact(call.cost_nano),
            "developer" if call.free else "buyer",
            f"{site_url}/r/{call.pk}",
        ]
