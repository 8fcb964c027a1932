"""What the explore and build pages ask the database: each question is a fixed number of queries, whatever the size.

Lists go by key, not by offset: page 10,000 costs what page 1 costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Avg, Count, ExpressionWrapper, F, IntegerField, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Cast, Coalesce, TruncDate
from django.utils import timezone

from attribution import explain
from attribution.models import Epoch, Line
from datanets.models import Datanet, Membership, Record, Version
from ledger import services as ledger

from . import listings
from .keeping import kept
from .models import Call, DatanetTerms, ModelVersion, PriceList

Viewer = Any  # a User, an AnonymousUser or None: services ask for is_authenticated first

PAGE_ROWS = 20
BIGINT_MAX = 2**63 - 1
DAYS = 30
KEPT_S = 60  # how long the home page's totals may be old
SAMPLE_KEY = "home-sample"


# --- Pages by key


@dataclass(frozen=True)
class Page:
    """One page of a list. `previous` and `next` are the cursors of its neighbours, "" where there is none."""

    rows: list[Any]
    previous: str = ""
    next: str = ""


def page_by(found: QuerySet, key: str, *, after: str = "", before: str = "", limit: int = PAGE_ROWS) -> Page:
    """Read one page in the order of `key` (largest first, then the newest id).

    Args:
        key: A column or an annotation of whole numbers or of moments.
        after, before: A cursor of another page; one that cannot be read counts as none.
    """
    low, high = _cursor(after), _cursor(before)
    try:
        return _page_beyond(found, key, low=low, high=high, limit=limit)
    except (TypeError, ValidationError):
        # A cursor of another list: a number where this one has moments, or the other way round.
        return _page_beyond(found, key, low=None, high=None, limit=limit)


def _page_beyond(found: QuerySet, key: str, *, low: tuple | None, high: tuple | None, limit: int) -> Page:
    if high is not None and low is None:
        beyond = Q(**{f"{key}__gt": high[0]}) | Q(**{key: high[0], "pk__gt": high[1]})
        rows = list(found.filter(beyond).order_by(key, "pk")[: limit + 1])
        more = len(rows) > limit
        rows = rows[:limit][::-1]
        return Page(
            rows, _cursor_text(rows[0], key) if more and rows else "", _cursor_text(rows[-1], key) if rows else ""
        )
    if low is not None:
        found = found.filter(Q(**{f"{key}__lt": low[0]}) | Q(**{key: low[0], "pk__lt": low[1]}))
    rows = list(found.order_by(f"-{key}", "-pk")[: limit + 1])
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(
        rows,
        _cursor_text(rows[0], key) if low is not None and rows else "",
        _cursor_text(rows[-1], key) if more else "",
    )


def _cursor_text(row: Any, key: str) -> str:
    value = getattr(row, key)
    return f"{value.isoformat() if isinstance(value, datetime) else value}~{row.pk}"


def _cursor(text: str) -> tuple[Any, Any] | None:
    value, _sep, pk = text.partition("~")
    try:
        found = datetime.fromisoformat(value) if "T" in value else int(value)
        if isinstance(found, datetime) and found.tzinfo is None:
            return None
        place = UUID(pk) if "-" in pk else int(pk)
        if any(isinstance(number, int) and abs(number) > BIGINT_MAX for number in (found, place)):
            return None
        return found, place
    except ValueError:
        return None


# --- Datanets


DATANET_SORTS = {"used": "calls_30d", "newest": "created_at", "needs": "wanted", "quality": "quality_mean"}


def datanets_for(viewer: Viewer) -> QuerySet[Any]:
    """The Datanets a person may know of, with the figures of a list: records, contributors, calls in 30 days.

    `quality_mean`: of the checks' scores of approved records, rounded; 0 where none has a score.
    """
    newest = Version.objects.filter(datanet=OuterRef("pk")).order_by("-number")
    scored = Record.objects.filter(datanet=OuterRef("pk"), status=Record.Status.APPROVED, quality__isnull=False)
    quality = scored.order_by().values("datanet").annotate(mean=Avg("quality")).values("mean")
    contributors = (
        Membership.objects.filter(datanet=OuterRef("pk"), role=Membership.Role.CONTRIBUTOR)
        .order_by()
        .values("datanet")
        .annotate(n=Count("pk"))
        .values("n")
    )
    return (
        Datanet.objects.visible_to(viewer)
        .select_related("owner")
        .annotate(
            version_number=Subquery(newest.values("number")[:1]),
            record_count=Coalesce(Subquery(newest.values("record_count")[:1]), 0),
            contributor_count=Coalesce(Subquery(contributors, output_field=IntegerField()), 0),
            calls_30d=Coalesce(Subquery(_calls_of_datanet(), output_field=IntegerField()), 0),
            quality_mean=Coalesce(Cast(Subquery(quality), IntegerField()), 0),
        )
        .annotate(wanted=ExpressionWrapper(-F("record_count"), output_field=IntegerField()))
    )


def _calls_of_datanet() -> QuerySet:
    path = "version__training_run__versions__datanet"
    calls = (
        Call.objects.exclude(status=Call.Status.REFUSED)
        .filter(**{path: OuterRef("pk")}, finished_at__gte=_since())
        .order_by()
    )
    return calls.values(path).annotate(n=Count("pk")).values("n")


def calls_per_day(*, datanets: Iterable[UUID] = (), models: Iterable[UUID] = ()) -> dict[UUID, list[int]]:
    """Calls of each of the last 30 days, oldest first, of several Datanets or models; one query."""
    path = "version__training_run__versions__datanet" if (datanets := list(datanets)) else "model"
    wanted = datanets or list(models)
    since = _since()
    rows = (
        Call.objects.exclude(status=Call.Status.REFUSED)
        .filter(**{f"{path}__in": wanted}, finished_at__gte=since)
        .order_by()
        .values_list(path, TruncDate("finished_at", tzinfo=UTC))
        .annotate(n=Count("pk"))
    )
    found = {key: [0] * DAYS for key in wanted}
    for key, day, count in rows:
        place = (day - since.date()).days
        if 0 <= place < DAYS:
            found[key][place] += count
    return found


def days() -> list[date]:
    """The days of `calls_per_day`, oldest first."""
    return [_since().date() + timedelta(days=n) for n in range(DAYS)]


def _since() -> datetime:
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=DAYS - 1)


def facets(viewer: Viewer) -> dict[str, dict[str, int]]:
    """How many Datanets each filter would show: {field: {value: count}}."""
    found: dict[str, dict[str, int]] = {}
    for name in ("kind", "language", "licence", "access"):
        rows = Datanet.objects.visible_to(viewer).order_by(name).values_list(name).annotate(n=Count("pk"))
        found[name] = {value: count for value, count in rows if value}
    return found


def fees_of(datanet_ids: Iterable[UUID]) -> dict[UUID, int]:
    """What a training run on each Datanet costs now, in nano-OPEN."""
    rows = DatanetTerms.objects.filter(datanet__in=list(datanet_ids)).order_by("datanet_id", "-adopted_at", "-pk")
    return dict(rows.distinct("datanet_id").values_list("datanet_id", "training_fee_nano"))


def models_of_datanet(datanet: Datanet, viewer: Viewer) -> QuerySet[Any]:
    """The models with a version that learned from a Datanet, most called first."""
    return (
        listings.visible_to(viewer)
        .filter(versions__training_run__versions__datanet=datanet)
        .distinct()
        .annotate(calls_30d=Coalesce(Subquery(_calls_of_model(), output_field=IntegerField()), 0))
        .order_by("-calls_30d", "name")
    )


QUALITY_BANDS = ((90, 100, "ok"), (80, 89, "ok"), (60, 79, "warn"), (0, 59, "bad"))
_IN_BANDS = {f"from_{low}": Count("pk", filter=Q(quality__range=(low, high))) for low, high, _colour in QUALITY_BANDS}


def approved_by_contributor(datanet: Datanet) -> list[Any]:
    """Who gave how many approved records, and how many of each band of quality, most first."""
    return list(
        Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED)
        .order_by()
        .values("contributor_id", "contributor__username", "contributor__display_name")
        .annotate(records=Count("pk"), **_IN_BANDS)
        .order_by("-records", "contributor__username")
    )


ANSWERS_TIMED = 50


def answer_time_of(datanet: Datanet) -> timedelta | None:
    """How long requests for access wait for an answer: the median of the newest; None where none was answered."""
    answered = datanet.access_requests.filter(answered_at__isnull=False).order_by("-answered_at")
    times = answered.values_list("created_at", "answered_at")[:ANSWERS_TIMED]
    waits_s = [(end - start).total_seconds() for start, end in times if end is not None]
    return timedelta(seconds=median(waits_s)) if waits_s else None


def quality_of(given: list[Any]) -> list[dict]:
    """Approved records per band of the checks' score: [{low, high, colour, records, share}]; [] where none has a score.

    given: `approved_by_contributor`.
    """
    counts = {name: sum(row[name] for row in given) for name in _IN_BANDS}
    total = sum(counts.values())
    return [
        {
            "low": low,
            "high": high,
            "colour": colour,
            "records": counts[f"from_{low}"],
            "share": counts[f"from_{low}"] / total,
            "percent": round(100 * counts[f"from_{low}"] / total, 1),
        }
        for low, high, colour in QUALITY_BANDS
        if total
    ]


# --- Models


MODEL_SORTS = {"used": "calls_30d", "newest": "created_at", "cheap": "cheapness"}


def models_for(viewer: Viewer) -> QuerySet[Any]:
    """The models a person may see, with the price list in force and calls in 30 days."""
    prices = PriceList.objects.filter(model=OuterRef("pk"), effective_at__lte=timezone.now()).order_by("-effective_at")
    number = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-number")
    return (
        listings.visible_to(viewer)
        .annotate(
            price_call_nano=Subquery(prices.values("price_call_nano")[:1]),
            price_in_nano=Subquery(prices.values("price_in_nano")[:1]),
            price_out_nano=Subquery(prices.values("price_out_nano")[:1]),
            price_abstain_nano=Subquery(prices.values("price_abstain_nano")[:1]),
            version_number=Subquery(number.values("number")[:1]),
            calls_30d=Coalesce(Subquery(_calls_of_model(), output_field=IntegerField()), 0),
        )
        .annotate(
            cheapness=ExpressionWrapper(
                -Coalesce(F("price_call_nano") + 500 * F("price_in_nano") + 500 * F("price_out_nano"), 0),
                output_field=IntegerField(),
            )
        )
    )


def _calls_of_model() -> QuerySet:
    calls = (
        Call.objects.exclude(status=Call.Status.REFUSED)
        .filter(model=OuterRef("pk"), finished_at__gte=_since())
        .order_by()
    )
    return calls.values("model").annotate(n=Count("pk")).values("n")


def coverage_of(model_ids: Iterable[UUID]) -> dict[UUID, int | None]:
    """Attributed part of each model's settled money in basis points; None where nothing is settled yet."""
    wanted = list(model_ids)
    rows = Epoch.objects.filter(model_id__in=wanted).order_by().values_list("model_id")
    found: dict[UUID, int | None] = dict.fromkeys(wanted)
    for model_id, pool, paid in rows.annotate(pool=Sum("pool_nano"), paid=Sum("paid_nano")):
        found[model_id] = 10_000 * paid // pool if pool else None
    return found


# --- Home


@dataclass(frozen=True)
class Totals:
    """The four figures of the home page. `difference_nano`: all that settlements paid, by the lines less by the journal."""

    datanets: int
    records: int
    contributors: int
    paid_nano: int
    difference_nano: int
    at: datetime


def totals() -> Totals:
    """Site-wide totals, at most a minute old. What contributors were paid is derived twice: lines and journal."""
    return kept("home-totals", _totals, for_s=KEPT_S)


def _totals() -> Totals:
    paid = {key: nano for key, nano in explain.posted_totals().items() if key[1] is not None}
    contributors = {payee: nano for (role, payee), nano in paid.items() if role == "data"}
    booked = ledger.movements(kinds=[ledger.Kind.SETTLEMENT], prefix="pending:")
    return Totals(
        datanets=Datanet.objects.exclude(access=Datanet.Access.CLOSED).count(),
        records=Record.objects.filter(status=Record.Status.APPROVED).count(),
        contributors=len(contributors),
        paid_nano=sum(contributors.values()),
        difference_nano=sum(paid.values()) - sum(leg.credited_nano for leg in booked),
        at=timezone.now(),
    )


@dataclass(frozen=True)
class Sample:
    """A call whose buyer chose to show it, with who shares each part."""

    call: Call
    people: dict[str, int] = field(default_factory=dict)


def sample_call() -> Sample | None:
    """The newest published call of a listed model; at most a minute old."""
    return kept(SAMPLE_KEY, _sample_call, for_s=KEPT_S)


def _sample_call() -> Sample | None:
    call = (
        Call.objects.filter(published_at__isnull=False, cost_nano__gt=0, model__listed_at__isnull=False)
        .select_related("model__owner", "version", "split_rule")
        .order_by("-published_at")
        .first()
    )
    if call is None:
        return None
    rows = Line.objects.filter(source_id=call.pk, payee__isnull=False).order_by().values_list("role")
    return Sample(call, dict(rows.annotate(n=Count("payee", distinct=True))))
