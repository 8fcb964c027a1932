"""The revenue report: what buyers paid, and where it is. Two derivations that must agree to the nano.

    charged - refunded = platform + developers + contributors + curators + unattributed + still in pools

(A Datanet owner's part of a charge, where a rule has one, counts with the developers: both are paid by the charge itself.)

*Books*: legs of the journal, by the ledger. *Business*: calls, accesses and training runs by the shop, settled lines by
attribution. They share no row and no query; the page compares them per role and payee, and payout runs refuse approval
while any difference is not zero. Both sides are read in one snapshot, so a call that commits meanwhile is in neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Count, Sum

from accounts.models import User
from attribution import explain
from ledger import chart
from ledger import services as ledger

from . import charges, pricing
from .models import Access, Call, TrainingRun

CHARGES = (ledger.Kind.CALL_CHARGED, ledger.Kind.ACCESS_CHARGED, ledger.Kind.TRAINING_CHARGED)
Key = tuple[str, int | None]  # (role, user id); None for what belongs to nobody


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
    """The report at one moment. `rows` hold every role and payee; the parts add up to `charged - refunded`."""

    charged_nano: int
    refunded_nano: int
    rows: list[Row]

    @property
    def difference_nano(self) -> int:
        """Zero when both derivations agree; the largest difference of a row otherwise, sign kept."""
        worst = max(self.rows, key=lambda row: abs(row.difference_nano), default=None)
        total = self.charged_nano - self.refunded_nano - sum(row.business_nano for row in self.rows)
        return worst.difference_nano if worst is not None and worst.difference_nano else total

    def total_nano(self, role: str) -> int:
        return sum(row.business_nano for row in self.rows if row.role == role)


@transaction.atomic
def report() -> Report:
    """Derive both sides in one snapshot."""
    _freeze_snapshot()
    books, charged_nano, refunded_nano = _from_books()
    business = _from_business()
    names = User.objects.in_bulk({user_id for _role, user_id in books | business if user_id is not None})
    rows = [
        Row(
            role=role,
            payee=names[user_id].username if user_id in names else "",
            payee_id=user_id,
            books_nano=books[role, user_id],
            business_nano=business[role, user_id],
        )
        for role, user_id in sorted(set(books) | set(business), key=lambda key: (key[0], key[1] or 0))
    ]
    return Report(charged_nano=charged_nano, refunded_nano=refunded_nano, rows=rows)


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
                found.charged_nano - found.refunded_nano,
                found.charged_nano - found.refunded_nano - found.difference_nano,
            )
        ]
    return rows


def _from_books() -> tuple[Counter[Key], int, int]:
    """Per role and payee, from the journal's legs alone."""
    found: Counter[Key] = Counter()
    charged = refunded = 0
    for leg in ledger.movements(kinds=CHARGES):
        if leg.account.startswith(("wallet:", "promotion:")):
            charged += leg.debited_nano
        elif leg.account == chart.FEES:
            found["platform", None] += leg.credited_nano
        elif leg.account.startswith("pending:"):
            found["developer", chart.user_of(leg.account)] += leg.credited_nano
    for source, role in (("data", "contributor"), ("curation", "curator")):
        for leg in ledger.movements(kinds=[ledger.Kind.SETTLEMENT], prefix="pending:", paid_from=f"pool:%:{source}"):
            found[role, chart.user_of(leg.account)] += leg.credited_nano
    for leg in ledger.movements(kinds=[ledger.Kind.SETTLEMENT], prefix="unattributed:"):
        found["unattributed", None] += leg.credited_nano
    for leg in ledger.movements(prefix="pool:"):
        found["pool", None] += leg.credited_nano - leg.debited_nano
    for leg in ledger.movements(kinds=[ledger.Kind.REFUND]):
        if leg.account.startswith(("wallet:", "promotion:")):
            refunded += leg.credited_nano
        elif leg.account == chart.FEES:
            found["platform", None] -= leg.debited_nano
    return _without_zeros(found), charged, refunded


def _from_business() -> Counter[Key]:
    """Per role and payee, from the shop's rows and attribution's lines alone."""
    found: Counter[Key] = Counter()
    pooled = 0
    for row in Call.objects.values("model__owner_id").annotate(
        developer=Sum("developer_nano"),
        platform=Sum("platform_nano"),
        data=Sum("data_nano"),
        curation=Sum("curation_nano"),
    ):
        found["developer", row["model__owner_id"]] += row["developer"]
        found["platform", None] += row["platform"]
        pooled += row["data"] + row["curation"]
    for one in Call.objects.filter(owner_nano__gt=0).values("version_id", "owner_nano").annotate(calls=Count("id")):
        owner_ids = charges.owner_ids_of(one["version_id"])
        for owner_id, share in zip(owner_ids, pricing.split_equally(one["owner_nano"], len(owner_ids)), strict=True):
            found["developer", owner_id] += share * one["calls"]
    for amount_nano, rule, developer_id in _fees():
        parts = pricing.split_charge(amount_nano, rule.parts)
        found["developer", developer_id] += parts["developer"]
        found["platform", None] += parts["platform"]
        pooled += parts["data"] + parts["curation"]
    for (role, payee_id), amount_nano in explain.posted_totals().items():
        name = {"data": "contributor", "curation": "curator"}[role] if payee_id is not None else "unattributed"
        found[name, payee_id] += amount_nano
        pooled -= amount_nano
    found["pool", None] = pooled
    return _without_zeros(found)


def _fees():
    """(amount, rule, developer) of every access and training charge."""
    for access in Access.objects.filter(price_nano__gt=0).select_related("split_rule", "model"):
        yield access.price_nano, access.split_rule, access.model.owner_id
    done = TrainingRun.objects.filter(status=TrainingRun.Status.DONE, fee_nano__gt=0)
    for training in done.select_related("split_rule", "model"):
        yield training.fee_nano, training.split_rule, training.model.owner_id


def _without_zeros(counter: Counter[Key]) -> Counter[Key]:
    return Counter({key: value for key, value in counter.items() if value})


def _freeze_snapshot() -> None:
    """One snapshot for both sides. Inside an outer transaction (an approval) each query sees its own, under its locks."""
    with connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
