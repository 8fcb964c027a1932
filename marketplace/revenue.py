"""The revenue report: what buyers paid, and where it is. Two derivations that must agree to the nano.

    in pools before + charged - refunded = platform + developers + contributors + curators + unattributed + in pools after

For all time, which is what payout runs look at, nothing was in pools before. A period counts what stands in it by each
side's own clock: what happened within a second of its first or last midnight may be on either side of it.

(A Datanet owner's part of a charge, where a rule has one, counts with the developers: both are paid by the charge itself.)
What a refund takes back is taken from the row that had received it, in the period of the refund.

*Books*: legs of the journal, by the ledger. *Business*: calls, accesses and training runs by the shop, settled lines by
attribution. They share no row and no query; the page compares them per role and payee, and payout runs refuse approval
while any difference is not zero. Both sides are read in one snapshot, so a call that commits meanwhile is in neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum, Value

from accounts.models import User
from attribution import explain, reversals
from attribution.models import Transfer
from ledger import chart
from ledger import services as ledger

from . import charges, pricing
from .models import Access, Call, ModelVersion, PassRefund, Payback, Refund, SplitRule, TrainingRun

CHARGES = (ledger.Kind.CALL_CHARGED, ledger.Kind.ACCESS_CHARGED, ledger.Kind.TRAINING_CHARGED)
# Who earns a lot, by what paid it: a charge gave it at once (its payer is a wallet), a pool was divided, or a theft dispute
# gave it to the author out of a contributor's lot.
EARNER = {
    "wallet": "developer",
    "promotion": "developer",
    "pool:data": "contributor",
    "pool:curation": "curator",
    "pending": "contributor",
}
Key = tuple[str, int | None]  # (role, user id); None for what belongs to nobody


class Period(NamedTuple):
    """since <= at < until. None: no such limit."""

    since: datetime | None = None
    until: datetime | None = None

    def of(self, rows: QuerySet, column: str) -> QuerySet:
        """The rows whose moment lies in it."""
        limits = {f"{column}__gte": self.since, f"{column}__lt": self.until}
        return rows.filter(**{name: at for name, at in limits.items() if at is not None})

    def and_before(self, rows: QuerySet, column: str) -> QuerySet:
        """The rows whose moment lies in it or before it; `is_before` says which."""
        is_before = Value(False) if self.since is None else Q(**{f"{column}__lt": self.since})
        return Period(until=self.until).of(rows, column).annotate(is_before=is_before)


@dataclass(frozen=True)
class Row:
    """One role and payee, by both derivations."""

    role: str
    payee: str
    payee_id: int | None
    books_nano: int
    business_nano: int

    @property
    def difference_nano(self) -> int:
        return self.business_nano - self.books_nano


@dataclass(frozen=True)
class Report:
    """The report of a period. `rows` hold every role and payee; they add up to `opening + charged - refunded`.

    Args:
        opening_nano: In pools before the period, by the business side; 0 for all time. The row "pool" is what is in
            them after it.
    """

    opening_nano: int
    charged_nano: int
    refunded_nano: int
    rows: list[Row]

    @property
    def expected_nano(self) -> int:
        """What the rows must add up to."""
        return self.opening_nano + self.charged_nano - self.refunded_nano

    @property
    def difference_nano(self) -> int:
        """Zero when both derivations agree; the largest difference of a row otherwise, sign kept."""
        worst = max(self.rows, key=lambda row: abs(row.difference_nano), default=None)
        total = self.expected_nano - sum(row.business_nano for row in self.rows)
        return worst.difference_nano if worst is not None and worst.difference_nano else total

    def total_nano(self, role: str) -> int:
        return sum(row.business_nano for row in self.rows if row.role == role)


def days(first: date | None, last: date | None) -> Period:
    """The period from the first day to the last one, both included, in UTC. None: no such limit."""
    return Period(
        since=datetime.combine(first, time.min, UTC) if first else None,
        until=datetime.combine(last + timedelta(days=1), time.min, UTC) if last else None,
    )


def report(period: Period | None = None) -> Report:
    """Derive both sides of a period, by default of all time."""
    found = _compared(period or Period())
    return replace(found, rows=_named(found.rows))


def differences() -> list[Row]:
    """The rows on which the derivations disagree, and a row for the whole if only the totals do."""
    found = _compared(Period())
    rows = [row for row in found.rows if row.difference_nano]
    if not rows and found.difference_nano:
        business_nano = found.expected_nano - found.difference_nano
        rows = [Row("total", "", None, books_nano=found.expected_nano, business_nano=business_nano)]
    return _named(rows)


@transaction.atomic(savepoint=False)
def _compared(period: Period) -> Report:
    """Both sides in one snapshot, the payees without their names."""
    _freeze_snapshot()
    books, charged_nano, refunded_nano = _from_books(period)
    business, opening_nano = _from_business(period)
    if period.since is not None:
        books["pool", None] += _pooled_by_books(Period(until=period.since))
        business["pool", None] += opening_nano
    keys = {key for key in {*books, *business} if books[key] or business[key]}
    rows = [
        Row(
            role=role,
            payee="",
            payee_id=user_id,
            books_nano=books[role, user_id],
            business_nano=business[role, user_id],
        )
        for role, user_id in sorted(keys, key=lambda key: (key[0], key[1] or 0))
    ]
    return Report(opening_nano=opening_nano, charged_nano=charged_nano, refunded_nano=refunded_nano, rows=rows)


def _named(rows: list[Row]) -> list[Row]:
    users = User.objects.in_bulk({row.payee_id for row in rows if row.payee_id is not None})
    return [replace(row, payee=users[row.payee_id].username) if row.payee_id in users else row for row in rows]


def _from_books(period: Period) -> tuple[Counter[Key], int, int]:
    """Per role and payee, and what was charged and refunded, from the journal's legs alone."""
    found: Counter[Key] = Counter()
    charged = refunded = 0
    for leg in ledger.flows(**period._asdict()):
        sort, user_id = leg.account.partition(":")[0], chart.user_of(leg.account)
        if sort == "pool":
            found["pool", None] += leg.credited_nano - leg.debited_nano
        elif leg.kind in CHARGES:
            if sort in ("wallet", "promotion"):
                charged += leg.debited_nano
            elif leg.account == chart.FEES:
                found["platform", None] += leg.credited_nano
            elif sort == "pending":
                found["developer", user_id] += leg.credited_nano
        elif leg.kind == ledger.Kind.SETTLEMENT:
            if sort == "pending" and leg.paid_from in EARNER:
                found[EARNER[leg.paid_from], user_id] += leg.credited_nano
            elif sort == "unattributed":
                found["unattributed", None] += leg.credited_nano
        elif leg.kind == ledger.Kind.REFUND:
            if sort in ("wallet", "promotion"):
                refunded += leg.credited_nano
                # A retired model's passes, and calls after their window: their developer pays out of a wallet.
                found["developer", user_id] -= leg.debited_nano
            elif leg.account == chart.FEES:
                found["platform", None] -= leg.debited_nano
            elif sort == "unattributed":
                found["unattributed", None] -= leg.debited_nano
            elif sort == "pending" and leg.earned_from in EARNER:
                found[EARNER[leg.earned_from], user_id] -= leg.debited_nano
        elif leg.kind == ledger.Kind.ADJUSTMENT and sort == "pending" and leg.earned_from == "pool:data":
            found["contributor", user_id] += leg.credited_nano - leg.debited_nano
        elif leg.kind == ledger.Kind.ADJUSTMENT and sort == "unattributed":  # of noise cases
            found["unattributed", None] += leg.credited_nano
    return found, charged, refunded


def _pooled_by_books(period: Period) -> int:
    """What came into the pools less what went out."""
    return sum(leg.credited_nano - leg.debited_nano for leg in ledger.movements(prefix="pool:", **period._asdict()))


def _from_business(period: Period) -> tuple[Counter[Key], int]:
    """Per role and payee, and what was in pools before, from the shop's rows and attribution's lines alone."""
    found: Counter[Key] = Counter()
    opening_nano = 0
    owned: Counter[tuple[UUID, int]] = Counter()  # (version, owner's part of one charge) -> how many charges
    for one in [*_calls(period), *_fees(period)]:
        if one.is_before:
            opening_nano += one.pooled_nano
            continue
        found["developer", one.developer_id] += one.developer_nano
        found["platform", None] += one.platform_nano
        found["pool", None] += one.pooled_nano
        if one.owner_nano:
            owned[one.version_id, one.owner_nano] += one.charges
    owner_ids = charges.owner_ids_by_version({version_id for version_id, _part in owned})
    for (version_id, owner_nano), count in owned.items():
        shares = pricing.split_equally(owner_nano, len(owner_ids[version_id]))
        for owner_id, share in zip(owner_ids[version_id], shares, strict=True):
            found["developer", owner_id] += share * count
    for (role, payee_id), amount_nano in explain.posted_totals(**period._asdict()).items():
        found[_payee_role(role, payee_id), payee_id] += amount_nano
        found["pool", None] -= amount_nano
    if period.since is not None:
        opening_nano -= sum(explain.posted_totals(until=period.since).values())
    # Of a call that was settled, a refund takes the lines back instead of its part of the pools.
    settled = period.of(Refund.objects.filter(status=Refund.Status.MADE, was_settled=True), "made_at")
    moved = period.of(Transfer.objects.all(), "at")
    for (role, payee_id), amount_nano in reversals.changes(refunded=settled.values("call_id"), moved=moved).items():
        found[_payee_role(role, payee_id), payee_id] += amount_nano
    for developer_id, amount_nano in _paid_out_of_wallets(period):
        found["developer", developer_id] -= amount_nano
    return found, opening_nano


class _Charges(NamedTuple):
    """Charges that are split alike, and their parts in all; what was given back of such has all numbers negative."""

    is_before: bool
    developer_id: int
    version_id: UUID
    owner_nano: int  # of one of them
    charges: int
    developer_nano: int
    platform_nano: int
    pooled_nano: int


def _calls(period: Period) -> Iterable[_Charges]:
    """Every call, and every refund of one by the time of the refund."""
    made = (
        period.and_before(Call.objects.all(), "finished_at")
        .values_list(Value(1), "is_before", "model__owner_id", "version_id", "owner_nano")
        .annotate(
            count=Count("pk"),
            developer=Sum("developer_nano"),
            platform=Sum("platform_nano"),
            pooled=Sum(F("data_nano") + F("curation_nano")),
        )
    )
    in_pools = Q(was_settled=False)
    refunded = (
        period.and_before(Refund.objects.filter(status=Refund.Status.MADE), "made_at")
        .values_list(Value(-1), "is_before", "call__model__owner_id", "call__version_id", "call__owner_nano")
        .annotate(
            count=Count("pk"),
            developer=Sum("call__developer_nano"),
            platform=Sum("call__platform_nano"),
            pooled=Sum(F("call__data_nano") + F("call__curation_nano"), filter=in_pools, default=0),
        )
    )
    for sign, is_before, developer_id, version_id, owner_nano, *sums in made.union(refunded, all=True):
        yield _Charges(is_before, developer_id, version_id, owner_nano, *(sign * one for one in sums))


def _fees(period: Period) -> Iterable[_Charges]:
    """Every access and training charge. A pass is of the newest version then."""
    then = ModelVersion.objects.filter(model=OuterRef("model"), created_at__lte=OuterRef("starts_at"))
    rule = ("data_bp", "curation_bp", "developer_bp", "platform_bp", "owner_bp")
    of_rule = [f"split_rule__{part}" for part in rule]
    sold = (
        period.and_before(Access.objects.filter(price_nano__gt=0), "starts_at")
        .annotate(version_id=Subquery(then.order_by("-number").values("pk")[:1]))
        .values_list("is_before", "model__owner_id", "version_id", "price_nano", *of_rule)
        .annotate(count=Count("pk"))
    )
    done = (
        period.and_before(TrainingRun.objects.filter(status=TrainingRun.Status.DONE, fee_nano__gt=0), "finished_at")
        .values_list("is_before", "model__owner_id", "model_version__pk", "fee_nano", *of_rule)
        .annotate(count=Count("pk"))
    )
    for is_before, developer_id, version_id, amount_nano, *basis_points, count in sold.union(done, all=True):
        parts = pricing.split_charge(amount_nano, SplitRule(**dict(zip(rule, basis_points, strict=True))).parts)
        pooled_nano = parts["data"] + parts["curation"]
        sums = (count * one for one in (1, parts["developer"], parts["platform"], pooled_nano))
        yield _Charges(is_before, developer_id, version_id, parts["owner"], *sums)


def _paid_out_of_wallets(period: Period) -> QuerySet:
    """(developer, nano): the rest of passes of retired models, and calls that were given back after their window."""
    passes = period.of(PassRefund.objects.all(), "made_at").values_list("access__model__owner_id")
    calls = period.of(Payback.objects.all(), "made_at").values_list("call__model__owner_id")
    return passes.annotate(nano=Sum("amount_nano")).union(calls.annotate(nano=Sum("amount_nano")), all=True)


def _payee_role(role: str, payee_id: int | None) -> str:
    """The report's word for who a line pays."""
    return {"data": "contributor", "curation": "curator"}[role] if payee_id is not None else "unattributed"


def _freeze_snapshot() -> None:
    """One snapshot for both sides. Inside an outer transaction (an approval) each query sees its own, under its locks."""
    with connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
