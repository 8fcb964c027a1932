"""Test money: for calls with test keys. It is free, it buys nothing, and it never meets the other money (ledger.chart)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from django.db import transaction

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from .models import TestGrant

GRANT_NANO = 10 * 10**9


@dataclass(frozen=True)
class Summary:
    """A person's test money, a part of which gateways may hold for calls, and whether they have taken today's (UTC)."""

    available_nano: int
    held_nano: int
    is_granted_today: bool


def summary(user: User) -> Summary:
    """What a person can spend in tests now."""
    balance = ledger.balance(chart.test_wallet(user.pk))
    is_granted_today = TestGrant.objects.filter(user=user, day=_today()).exists()
    return Summary(balance.available_nano, balance.held_nano, is_granted_today)


@transaction.atomic
def top_up(user: User) -> TestGrant:
    """Give a person the test money of today (UTC). A repeat on the same day changes nothing."""
    day = _today()
    grant, _is_new = TestGrant.objects.get_or_create(
        user=user, day=day, defaults={"amount_nano": GRANT_NANO, "posting_id": ledger.new_id()}
    )
    ledger.post(
        id=grant.posting_id,
        kind=ledger.Kind.TEST_GRANTED,
        reference=f"test_grant:{grant.pk}",
        moves=[ledger.Move(chart.TEST_WORLD, chart.test_wallet(user.pk), grant.amount_nano)],
    )
    return grant


def _today() -> date:
    return datetime.now(UTC).date()
