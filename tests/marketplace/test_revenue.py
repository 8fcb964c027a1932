"""The revenue report: both sides agree whatever the rule and whenever the period begins, in a fixed number of queries."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace import access, revenue, rules
from marketplace.revenue import Period
from tests.marketplace.pages.world import call
from tests.shop import OPEN, fund, measured, person, published, settle, trained

PARTS = {"data": 3000, "curation": 1000, "developer": 4000, "platform": 1000, "owner": 1000}


@pytest.fixture
def version(books, settings):
    """Devi's model on Erin's Datanet, who gets an owner's part of calls and passes."""
    settings.REVIEW_UNDO_S = 0
    rule = rules.adopt(name="Shared", parts=PARTS, by=None)
    fund(books, person("devi"), 10)
    fund(books, person("dan"), 10)
    data = published({"alice": measured(10), "bob": measured(10, start=10)}, fee_open=2)
    sold = {"access_mode": "pass", "pass_price_nano": OPEN, "pass_days": 30}
    return trained(books, data, split_rule=rule, **sold)


def test_an_owners_part_of_passes_and_calls_is_in_both_derivations(books, version):
    access.buy_pass(version.model, buyer=person("dan"))
    call(version, person("dan"))
    settle(books)

    assert revenue.differences() == []
    owner = [row for row in revenue.report().rows if row.payee == "erin"]
    assert [row.business_nano for row in owner] == [OPEN // 10 + 2_400_000]


def test_a_period_opens_with_what_the_one_before_left_in_the_pools(books, version):
    # Given a call whose parts wait in the pools
    call(version, person("dan"))
    middle = timezone.now()

    # When the epoch ends and Dan calls again
    settle(books)
    call(version, person("dan"), radius=13.0)

    # Then the periods meet without a gap: one leaves in the pools what the other finds, and both add up
    before, after, whole = (revenue.report(one) for one in (Period(until=middle), Period(since=middle), Period()))
    assert before.total_nano("pool") == after.opening_nano > 0
    assert before.charged_nano + after.charged_nano == whole.charged_nano
    assert (before.total_nano("contributor"), after.total_nano("contributor")) == (0, whole.total_nano("contributor"))
    assert [one.difference_nano for one in (before, after, whole)] == [0, 0, 0]


def test_the_report_asks_as_often_for_many_prices_as_for_one(books, version):
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            revenue.report()
        return len(asked)

    access.buy_pass(version.model, buyer=person("dan"))
    call(version, person("dan"))
    few = queries()
    for price in range(3):
        again = trained(
            books, version.training_run.versions.get(), name=f"Other {price}", split_rule=version.model.split_rule
        )
        call(again, person("dan"))

    assert queries() == few
