"""What changed between two periods of a person's earnings: signed whole parts, each with the numbers it comes from.

    chain   of each model and role, what its calls paid: attribution.changes splits the difference over five stages
    records of a contributor's: those that are not the same in both periods have a part of their own, outside the chain
    others  passes, training runs, refunds, and what theft disputes moved, each as it is

All parts together are the difference, to the nano. Earnings count in the period in which their epoch closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Case, Count, DecimalField, Exists, F, OuterRef, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Cast

from accounts.models import User
from attribution.changes import STAGES, parts_of
from attribution.models import Line, RecordEpoch, RecordFee, Source, Transfer, paid_to
from datanets.models import DisputedRecord, Record, VersionFollower

from . import pricing, statements
from .models import Call
from .periods import Period

COLUMNS = ("model", "role", "part", "earlier", "later", "change", "unit")
RECORD_PARTS = ("first_used", "withdrawn", "leadership", "authors")
FEE_PARTS = {"access": "passes", "training": "trainings"}
_WIDE = DecimalField(max_digits=40, decimal_places=0)  # a price times basis points can be more than 2^63


@dataclass(frozen=True)
class Scope:
    """Of which earnings; None: all. A Datanet or a record: of contributors, without what no single record carries."""

    model_id: UUID | None = None
    datanet_id: UUID | None = None
    record_id: int | None = None

    @property
    def is_of_records(self) -> bool:
        return self.datanet_id is not None or self.record_id is not None


EVERYTHING = Scope()


class Row(NamedTuple):
    """One part. `earlier`, `later`: of a stage of a chain its whole number, else the amounts whose difference it is."""

    model_id: UUID | None
    role: str
    part: str
    earlier: int
    later: int
    amount_nano: int


@dataclass(frozen=True)
class Comparison:
    """Two periods. The amounts of `rows` add up to `later_nano - earlier_nano`.

    Args:
        rows: By model and role, in the order of `STAGES`, then `RECORD_PARTS`, then the others.
        totals: The same by part, over all models and roles.
    """

    earlier: Period
    later: Period
    earlier_nano: int
    later_nano: int
    rows: list[Row]
    totals: dict[str, int]

    @property
    def difference_nano(self) -> int:
        return self.later_nano - self.earlier_nano


def compare(user: User, earlier: Period, later: Period, scope: Scope = EVERYTHING) -> Comparison:
    """Split the difference of what two periods earned a person. Swapped periods give the same parts with the other sign.

    In a fixed number of queries.
    """
    found = _Found(user, (earlier, later), scope)
    found.add_data()
    if not scope.is_of_records:
        found.add_lines()
    found.add_record_fees()
    found.add_transfers()
    rows = list(_rows(found.amounts, _market(found)))
    totals: dict[str, int] = defaultdict(int)
    for row in rows:
        totals[row.part] += row.amount_nano
    earned = [sum(amounts[side] for parts in found.amounts.values() for amounts in parts.values()) for side in (0, 1)]
    return Comparison(earlier, later, earned[0], earned[1], rows, {part: nano for part, nano in totals.items() if nano})


def values(row: Row, paths: Mapping[UUID, str]) -> dict[str, str]:
    """A part in the columns of every output. The change has nine decimals, the numbers it comes from are whole."""
    return {
        "model": "" if row.model_id is None else paths.get(row.model_id, str(row.model_id)),
        "role": row.role,
        "part": row.part,
        "earlier": str(row.earlier),
        "later": str(row.later),
        "change": pricing.nano_to_open(row.amount_nano),
        "unit": "OPEN",
    }


def as_csv(found: Comparison, paths: Mapping[UUID, str]) -> Iterator[str]:
    """The rows of the page, and a last one with the sums in nano and their difference."""
    yield statements.csv_line(COLUMNS)
    for row in found.rows:
        yield statements.csv_line([statements.neutral(value) for value in values(row, paths).values()])
    total = Row(None, "", "total", found.earlier_nano, found.later_nano, found.difference_nano)
    yield statements.csv_line(values(total, {}).values())


Amounts = dict[tuple[UUID, str], dict[str, list[int]]]


class _Found:
    """`amounts`: (model, role) -> part -> [earlier, later] nano, with their signs; what a chain explains is "paid"."""

    def __init__(self, user: User, sides: tuple[Period, Period], scope: Scope) -> None:
        self.user, self.scope, self.sides = user, scope, sides
        self.within = [Q(epoch__closed_at__gte=one.since, epoch__closed_at__lt=one.until) for one in sides]
        self.chosen = self.within[0] | self.within[1]
        if scope.model_id is not None:
            self.chosen &= Q(epoch__model_id=scope.model_id)
        if scope.datanet_id is not None:
            self.records = Q(record__datanet=scope.datanet_id)
        else:
            self.records = Q()
        if scope.record_id is not None:
            self.records &= Q(record=scope.record_id)
        self.amounts: Amounts = defaultdict(lambda: defaultdict(lambda: [0, 0]))

    def both(self, field: str, *, only: Q | None = None) -> dict[str, Sum]:
        """The sums of a field in either period, as annotations."""
        return {
            f"{field}_{side}": Sum(field, filter=within if only is None else within & only)
            for side, within in enumerate(self.within)
        }

    def add(self, model_id: UUID, role: str, part: str, *nano: int | None) -> None:
        if any(nano):
            known = self.amounts[model_id, role][part]
            for side, one in enumerate(nano):
                known[side] += int(one or 0)

    def add_data(self) -> None:
        """What calls paid for records, apart for those that were not the same in both periods."""
        first = min(self.sides, key=lambda one: one.since)
        end = max(one.until for one in self.sides)
        before = RecordEpoch.objects.filter(
            record=OuterRef("record"), epoch__model_id=OuterRef("epoch__model_id"), epoch__closed_at__lt=first.until
        )
        awarded = DisputedRecord.objects.filter(record=OuterRef("record"), state=DisputedRecord.State.AWARDED)
        follower = VersionFollower.objects.filter(record=OuterRef("record"), version__created_at__lt=end)
        fate = Case(
            When(Exists(awarded), then=Value("authors")),
            When(record__status=Record.Status.WITHDRAWN, record__withdrawn_at__lt=end, then=Value("withdrawn")),
            When(Exists(follower), then=Value("leadership")),
            When(~Exists(before), then=Value("first_used")),
            default=Value("paid"),
        )
        rows: QuerySet[RecordEpoch, Any] = (
            RecordEpoch.objects.filter(paid_to(self.user.pk), self.chosen, self.records)
            .annotate(fate=fate)
            .values_list("epoch__model_id", "fate")
            .annotate(**self.both("amount_nano"), **self.both("given_back_nano"))
        )
        for model_id, part, paid_0, paid_1, back_0, back_1 in rows:
            self.add(model_id, Line.Role.DATA, part, paid_0, paid_1)
            if self.scope.is_of_records:
                self.add(model_id, Line.Role.DATA, "refunds", -(back_0 or 0), -(back_1 or 0))

    def add_lines(self) -> None:
        """What curation earned in calls and from fees, and everything that went back."""
        lines = Line.objects.filter(self.chosen, payee=self.user).annotate(
            back=Case(When(statements.GIVEN_BACK, then=F("amount_nano")), default=0)
        )
        rows = lines.values_list("epoch__model_id", "role", "source").annotate(
            **self.both("amount_nano"), **self.both("back")
        )
        for model_id, role, source, paid_0, paid_1, back_0, back_1 in rows:
            if role == Line.Role.CURATION:
                self.add(model_id, role, FEE_PARTS.get(source, "paid"), paid_0, paid_1)
            self.add(model_id, role, "refunds", -(back_0 or 0), -(back_1 or 0))

    def add_record_fees(self) -> None:
        """What passes and training runs paid for records."""
        fees = RecordFee.objects.filter(paid_to(self.user.pk), self.chosen, self.records)
        for model_id, source, *paid in fees.values_list("epoch__model_id", "source").annotate(
            **self.both("amount_nano")
        ):
            self.add(model_id, Line.Role.DATA, FEE_PARTS[source], *paid)

    def add_transfers(self) -> None:
        """What theft disputes moved of it later, to this person or from them."""
        mine = Q(author=self.user) | Q(payee=self.user)
        signed = Transfer.objects.filter(mine, self.chosen, self.records).with_kept()
        signed = signed.annotate(signed=Case(When(author=self.user, then=F("kept_nano")), default=-F("kept_nano")))
        for model_id, *moved in signed.values_list("epoch__model_id").annotate(**self.both("signed")):
            self.add(model_id, Line.Role.DATA, "disputes", *moved)


class _Market(NamedTuple):
    """What a model's settled calls of a period cost, and what of it went to a role, by model."""

    calls: dict[UUID, int]
    price: dict[UUID, int]
    by_rule: dict[tuple[UUID, str], int]
    supported: dict[tuple[UUID, str], int]

    def stages(self, model_id: UUID, role: str, paid_nano: int) -> list[int]:
        key = model_id, role
        stages = [self.calls.get(model_id, 0), self.price.get(model_id, 0), self.by_rule.get(key, 0)]
        return [*stages, self.supported.get(key, 0), paid_nano]


def _market(found: _Found) -> list[_Market]:
    """Of either period, for the models that paid this person."""
    models = {model_id for model_id, _role in found.amounts}
    lines = Line.objects.filter(epoch__model_id__in=models, source=Source.CALL)
    markets = [_Market({}, {}, {}, {}) for _one in found.sides]
    for market, within in zip(markets, found.within, strict=True):
        sums = (
            Call.objects.filter(pk__in=lines.filter(within).values("source_id"))
            .order_by()
            .values_list("model_id")
            .annotate(
                calls=Count("pk"),
                price=Sum("cost_nano"),
                data=Sum(Cast("cost_nano", _WIDE) * F("split_rule__data_bp")),
                curation=Sum(Cast("cost_nano", _WIDE) * F("split_rule__curation_bp")),
            )
        )
        for model_id, calls, price_nano, data, curation in sums:
            market.calls[model_id], market.price[model_id] = calls, int(price_nano)
            market.by_rule[model_id, Line.Role.DATA] = int(data)
            market.by_rule[model_id, Line.Role.CURATION] = int(curation)
    paid = lines.filter(found.within[0] | found.within[1], payee__isnull=False)
    for model_id, role, *nano in paid.values_list("epoch__model_id", "role").annotate(**found.both("amount_nano")):
        for market, one in zip(markets, nano, strict=True):
            market.supported[model_id, role] = int(one or 0)
    return markets


def _rows(amounts: Amounts, market: list[_Market]) -> Iterator[Row]:
    others = (*RECORD_PARTS, *FEE_PARTS.values(), "refunds", "disputes")
    for model_id, role in sorted(amounts, key=str):
        parts = amounts[model_id, role]
        if "paid" in parts:
            earlier, later = (one.stages(model_id, role, nano) for one, nano in zip(market, parts["paid"], strict=True))
            changes = zip(STAGES, earlier, later, parts_of(earlier, later), strict=True)
            yield from (Row(model_id, role, *change) for change in changes)
        for part in others:
            if part in parts:
                before, after = parts[part]
                yield Row(model_id, role, part, before, after, after - before)
