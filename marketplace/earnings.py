"""The head of the earnings page: totals, and what each day earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Sum, Value, When

from accounts.models import User
from attribution.models import Epoch, Line, PlannedPosting, RecordEpoch, Reversal, Transfer
from datanets import services as datanets
from datanets.models import Datanet, DisputedRecord, Record
from ledger import services as ledger

from .models import ListedModel


def are_known_to(user: User | AnonymousUser, record: Record, *, curates: bool | None = None) -> bool:
    """Whether a person may know what a record earned, and in how many calls.

    Its contributor, the Datanet's curators and owner, and administrators. Strangers could compare the amounts before and after
    an epoch, and so learn which calls used the record.

    curates: `datanets.can_curate`, for who has asked already.
    """
    if not user.is_authenticated:
        return False
    if user.is_staff or user.pk == record.contributor_id:
        return True
    return datanets.can_curate(user, record.datanet) if curates is None else curates


@dataclass(frozen=True)
class Totals:
    """Earned so far, and in the last 30 days, over all settled epochs."""

    lifetime_nano: int
    last_30_days_nano: int
    charges: int


def totals(user: User, *, now: datetime) -> Totals:
    """What a person's lines add up to, less what went back with refunds, and what theft disputes moved to or from them."""
    given_back = Exists(Reversal.objects.filter(charge_id=OuterRef("source_id"), was_settled=True))
    lines, month_ago = Line.objects.filter(~given_back, payee=user), now - timedelta(days=30)
    found = lines.aggregate(
        all=Sum("amount_nano"),
        recent=Sum("amount_nano", filter=Q(epoch__closed_at__gte=month_ago)),
        charges=Count("source_id", distinct=True),
    )
    moved = Transfer.objects.filter(Q(author=user) | Q(payee=user)).with_kept()
    signed = moved.annotate(signed=Case(When(author=user, then=F("kept_nano")), default=-F("kept_nano")))
    by_disputes = signed.aggregate(all=Sum("signed"), recent=Sum("signed", filter=Q(epoch__closed_at__gte=month_ago)))
    return Totals(
        (found["all"] or 0) + (by_disputes["all"] or 0),
        (found["recent"] or 0) + (by_disputes["recent"] or 0),
        found["charges"],
    )


def earned_per_day(
    user: User, *, by: str, now: datetime, paths: Mapping[UUID, str], days: int = 30
) -> tuple[list[date], dict[str, list[int]]]:
    """What each of the last days earned, per model or per Datanet; the series add up to everything of that day.

    By Datanet, money that no single record carries (curation; access and training fees) is a series named "".

    paths: The models that ever paid this person, by id.
    """
    first = now.astimezone(UTC).date() - timedelta(days=days - 1)
    start = datetime.combine(first, datetime.min.time(), UTC)
    spans = [first + timedelta(days=n) for n in range(days)]
    found: dict[str, list[int]] = {}

    def add(name: str, at: datetime, amount_nano: int) -> None:
        found.setdefault(name, [0] * days)[(at.astimezone(UTC).date() - first).days] += amount_nano

    lines = Line.objects.filter(payee=user, epoch__closed_at__gte=start)
    if by == "model":
        sums = lines.values_list("epoch__model_id", "epoch__closed_at").annotate(total=Sum("amount_nano"))
        for model_id, at, total in sums:
            add(paths.get(model_id, str(model_id)), at, total)
        return spans, found
    everything = lines.values_list(Value(""), "epoch__closed_at").annotate(total=Sum("amount_nano"))
    # As contributor, and as author: apart, because each has an index of its own.
    as_one, as_other = (
        RecordEpoch.objects.filter(whose, epoch__closed_at__gte=start, amount_nano__gt=0)
        .values_list("record__datanet__name", "epoch__closed_at")
        .annotate(total=Sum("amount_nano"))
        for whose in (Q(payee=None, record__contributor=user), Q(payee=user))
    )
    for name, at, total in everything.union(as_one, as_other, all=True):
        add(name, at, total)
        if name:
            add("", at, -total)
    return spans, {name: amounts for name, amounts in found.items() if any(amounts)}


def pending_since(lots: list[ledger.LotRow]) -> date | None:
    """The first day of which something is still pending or held."""
    found = PlannedPosting.objects.filter(pk__in=[lot.posting_id for lot in lots]).order_by("epoch__closed_at")
    at = found.values_list("epoch__closed_at", flat=True).first()
    return at.astimezone(UTC).date() if at else None


def that_paid(user: User) -> tuple[dict[UUID, str], dict[UUID, str]]:
    """id -> path of every model that ever paid a person, and of every Datanet in which their records could earn.

    In the order of their paths, in one query.
    """
    epochs = Epoch.objects.filter(Exists(Line.objects.filter(payee=user, epoch=OuterRef("pk")))).values("model_id")
    awarded = DisputedRecord.objects.filter(state=DisputedRecord.State.AWARDED, dispute__claimant=user)
    mine = Q(contributor=user) | Q(pk__in=awarded.values("record_id"))
    pools = Record.objects.filter(mine, added_in__isnull=False).values("datanet_id")
    said = ("pk", "owner__username", "slug")
    models = ListedModel.objects.filter(pk__in=epochs).order_by().values_list(*said, Value("model"))
    datanets = Datanet.objects.filter(pk__in=pools).order_by().values_list(*said, Value("datanet"))
    found: dict[str, dict[UUID, str]] = {"model": {}, "datanet": {}}
    for pk, owner, slug, name in sorted(models.union(datanets, all=True), key=lambda row: row[1:3]):
        found[name][pk] = f"{owner}/{slug}"
    return found["model"], found["datanet"]
