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
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum

from accounts.models import User
from attribution import explain, reversals
from attribution.models import Transfer
from ledger import chart
from ledger import services as ledger

from . import charges, pricing
from .models import Access, Call, ModelVersion, PassRefund, Payback, Refund, SplitRule, TrainingRun

CHARGES = (ledger.Kind.CALL_CHARGED, ledger.Kind.ACCESS_CHARGED, ledger.Kind.TRAINING_CHARGED)
Key = tuple[str, int | None]  # (role, user id); None for what belongs to nobody


class Period(NamedTuple):
    """since <= at < until. None: no such limit."""

    since: datetime | None = None
    until: datetime | None = None

    def of(self, rows: QuerySet, column: str) -> QuerySet:
        """The rows whose moment lies in it."""
        limits = {f"{column}__gte": self.since, f"{column}__lt": self.until}
        return rows.filter(**{name: at for name, at in limits.items() if at is not None})


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


@transaction.atomic
def report(period: Period | None = None) -> Report:
    """Derive both sides of a period, by default of all time, in one snapshot."""
    _freeze_snapshot()
    period = period or Period()
    books, charged_nano, refunded_nano = _from_books(period)
    business = _from_business(period)
    opening_nano = 0
    if period.since is not None:
        before = Period(until=period.since)
        opening_nano = _from_business(before)["pool", None]
        books["pool", None] += _pooled_by_books(before)
        business["pool", None] += opening_nano
    keys = {key for key in {*books, *business} if books[key] or business[key]}
    names = User.objects.in_bulk({user_id for _role, user_id in keys if user_id is not None})
    rows = [
        Row(
            role=role,
            payee=names[user_id].username if user_id in names else "",
            payee_id=user_id,
            books_nano=books[role, user_id],
            business_nano=business[role, user_id],
        )
        for role, user_id in sorted(keys, key=lambda key: (key[0], key[1] or 0))
    ]
    return Report(opening_nano=opening_nano, charged_nano=charged_nano, refunded_nano=refunded_nano, rows=rows)


def differences() -> list[Row]:
    """The rows on which the derivations disagree, and a row for the whole if only the totals do."""
    found = report()
    rows = [row for row in found.rows if row.difference_nano]
    if not rows and found.difference_nano:
        rows = [
            Row(
                "total",
                "",
                None,
                found.expected_nano,
                found.expected_nano - found.difference_nano,
            )
        ]
    return rows


def _from_books(period: Period) -> tuple[Counter[Key], int, int]:
    """Per role and payee, from the journal's legs alone."""
    found: Counter[Key] = Counter()
    charged = refunded = 0
    for leg in ledger.movements(kinds=CHARGES, **period._asdict()):
        if leg.account.startswith(("wallet:", "promotion:")):
            charged += leg.debited_nano
        elif leg.account == chart.FEES:
            found["platform", None] += leg.credited_nano
        elif leg.account.startswith("pending:"):
            found["developer", chart.user_of(leg.account)] += leg.credited_nano
    for source, role in (("data", "contributor"), ("curation", "curator")):
        settled = partial(ledger.movements, kinds=[ledger.Kind.SETTLEMENT], prefix="pending:", **period._asdict())
        for leg in settled(paid_from=f"pool:%:{source}"):
            found[role, chart.user_of(leg.account)] += leg.credited_nano
    for leg in ledger.movements(kinds=[ledger.Kind.SETTLEMENT], prefix="unattributed:", **period._asdict()):
        found["unattributed", None] += leg.credited_nano
    found["pool", None] = _pooled_by_books(period)
    for leg in ledger.movements(kinds=[ledger.Kind.REFUND], **period._asdict()):
        if leg.account.startswith(("wallet:", "promotion:")):
            refunded += leg.credited_nano
            # A retired model's passes, and calls after their window: their developer pays out of a wallet.
            found["developer", chart.user_of(leg.account)] -= leg.debited_nano
        elif leg.account == chart.FEES:
            found["platform", None] -= leg.debited_nano
        elif leg.account.startswith("unattributed:"):
            found["unattributed", None] -= leg.debited_nano
    moved = partial(ledger.movements, kinds=[ledger.Kind.ADJUSTMENT], prefix="pending:", **period._asdict())
    for leg in moved(earned_from="pool:%:data"):
        found["contributor", chart.user_of(leg.account)] += leg.credited_nano - leg.debited_nano
    # A lot is what a charge gave at once (its payer is a wallet), or what a pool was divided into.
    for pattern, role in (
        ("wallet:%", "developer"),
        ("promotion:%", "developer"),
        ("pool:%:data", "contributor"),
        ("pool:%:curation", "curator"),
        ("pending:%", "contributor"),  # what an author was given, out of a contributor's lot
    ):
        taken = partial(ledger.movements, kinds=[ledger.Kind.REFUND], prefix="pending:", **period._asdict())
        for leg in taken(earned_from=pattern):
            found[role, chart.user_of(leg.account)] -= leg.debited_nano
    return found, charged, refunded


def _pooled_by_books(period: Period) -> int:
    """What came into the pools less what went out."""
    return sum(leg.credited_nano - leg.debited_nano for leg in ledger.movements(prefix="pool:", **period._asdict()))


def _from_business(period: Period) -> Counter[Key]:
    """Per role and payee, from the shop's rows and attribution's lines alone."""
    found: Counter[Key] = Counter()
    pooled = 0
    calls = period.of(Call.objects.all(), "finished_at")
    for row in calls.values("model__owner_id").annotate(
        developer=Sum("developer_nano"),
        platform=Sum("platform_nano"),
        data=Sum("data_nano"),
        curation=Sum("curation_nano"),
    ):
        found["developer", row["model__owner_id"]] += row["developer"]
        found["platform", None] += row["platform"]
        pooled += row["data"] + row["curation"]
    owned: Counter[tuple[UUID, int]] = Counter()  # (version, owner's part of one charge) -> how many charges
    for one in calls.filter(owner_nano__gt=0).values("version_id", "owner_nano").annotate(count=Count("id")):
        owned[one["version_id"], one["owner_nano"]] += one["count"]
    for fee in _fees(period):
        parts = pricing.split_charge(fee.amount_nano, fee.rule.parts)
        found["developer", fee.developer_id] += parts["developer"] * fee.charges
        found["platform", None] += parts["platform"] * fee.charges
        pooled += (parts["data"] + parts["curation"]) * fee.charges
        if parts["owner"]:
            owned[fee.version_id, parts["owner"]] += fee.charges
    owner_ids = charges.owner_ids_by_version({version_id for version_id, _part in owned})
    for (version_id, owner_nano), count in owned.items():
        shares = pricing.split_equally(owner_nano, len(owner_ids[version_id]))
        for owner_id, share in zip(owner_ids[version_id], shares, strict=True):
            found["developer", owner_id] += share * count
    for (role, payee_id), amount_nano in explain.posted_totals(**period._asdict()).items():
        found[_payee_role(role, payee_id), payee_id] += amount_nano
        pooled -= amount_nano
    found["pool", None] = pooled
    moved = period.of(Transfer.objects.all(), "at").values_list("author_id", "payee_id")
    for author_id, payee_id, amount_nano in moved.annotate(Sum("amount_nano")):
        found["contributor", author_id] += amount_nano
        found["contributor", payee_id] -= amount_nano
    found.subtract(_given_back(period))
    return found


def _given_back(period: Period) -> Counter[Key]:
    """What the refunds of a period took back from each, by the calls they refund and the lines of those that were settled."""
    found: Counter[Key] = Counter()
    made = period.of(Refund.objects.filter(status=Refund.Status.MADE), "made_at").select_related("call__model")
    refunds = list(made)
    owner_ids = charges.owner_ids_by_version({one.call.version_id for one in refunds if one.call.owner_nano})
    for refund in refunds:
        call = refund.call
        found["developer", call.model.owner_id] += call.developer_nano
        found["platform", None] += call.platform_nano
        if not refund.was_settled:
            found["pool", None] += call.data_nano + call.curation_nano
        if call.owner_nano:
            owners = owner_ids[call.version_id]
            for owner_id, share in zip(owners, pricing.split_equally(call.owner_nano, len(owners)), strict=True):
                found["developer", owner_id] += share
    settled = [refund.call_id for refund in refunds if refund.was_settled]
    for (role, payee_id), amount_nano in reversals.totals_of(settled).items():
        found[_payee_role(role, payee_id), payee_id] += amount_nano
    for payee_id, amount_nano in reversals.moved_totals_of(settled).items():
        found["contributor", payee_id] += amount_nano
    # Paid by developers out of wallets: the rest of passes, and calls whose window was over.
    passes = period.of(PassRefund.objects.all(), "made_at").values_list("access__model__owner_id")
    calls = period.of(Payback.objects.all(), "made_at").values_list("call__model__owner_id")
    for owner_id, amount_nano in [*passes.annotate(Sum("amount_nano")), *calls.annotate(Sum("amount_nano"))]:
        found["developer", owner_id] += amount_nano
    return found


def _payee_role(role: str, payee_id: int | None) -> str:
    """The report's word for who a line pays."""
    return {"data": "contributor", "curation": "curator"}[role] if payee_id is not None else "unattributed"


class _Fee(NamedTuple):
    """Access or training charges that are split alike."""

    amount_nano: int
    rule: SplitRule
    developer_id: int
    version_id: UUID
    charges: int


def _fees(period: Period) -> list[_Fee]:
    """Every access and training charge, those that are split alike as one. A pass is of the newest version then."""
    then = ModelVersion.objects.filter(model=OuterRef("model"), created_at__lte=OuterRef("starts_at"))
    sold = period.of(Access.objects.filter(price_nano__gt=0), "starts_at").annotate(
        version_id=Subquery(then.order_by("-number").values("pk")[:1])
    )
    done = period.of(TrainingRun.objects.filter(status=TrainingRun.Status.DONE, fee_nano__gt=0), "finished_at")
    rows = [
        *sold.values_list("price_nano", "split_rule_id", "model__owner_id", "version_id").annotate(Count("pk")),
        *done.values_list("fee_nano", "split_rule_id", "model__owner_id", "model_version__pk").annotate(Count("pk")),
    ]
    rules = SplitRule.objects.in_bulk({row[1] for row in rows})
    return [_Fee(amount_nano, rules[rule_id], *rest) for amount_nano, rule_id, *rest in rows]


def _freeze_snapshot() -> None:
    """One snapshot for both sides. Inside an outer transaction (an approval) each query sees its own, under its locks."""
    with connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
