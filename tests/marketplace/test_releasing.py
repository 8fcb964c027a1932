"""Unattributed money: public for its time, then the bounties' of the model's Datanets, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings as site
from django.utils import timezone

from attribution import settlement
from attribution.models import Epoch
from ledger import chart
from ledger import services as ledger
from marketplace import disputes, refunds, releasing
from marketplace.models import Call, UnattributedRelease
from tests.datanets.races import race
from tests.marketplace.pages.world import call, fund, settle
from tests.shop import measured, nothing_is_wrong, person, published, trained

LEFT = 9_600_000  # of a call of 24,000,000


@pytest.fixture
def one(books, settings) -> Call:
    """A call to a model of two Datanets, of 12 and 7 records, that nobody could attribute; its epoch is posted."""
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    fund(books, person("devi"), 10)
    fund(books, person("dan"), 10)
    larger = published({"alice": measured(12)}, name="Larger")
    smaller = published({"bob": measured(7, start=20)}, name="Smaller")
    version = trained(books, larger, smaller)
    settle(books, epochs_later=1)
    made = Call.objects.get(pk=call(version, person("dan")))
    books.fold()
    books.log()
    settings.TRACE_WAIT_S = -3 * 86400
    settlement.close_due(timezone.now() + timedelta(seconds=2 * site.EPOCH_S))
    settlement.plan_epoch(Epoch.objects.latest("number").pk)
    settlement.post_planned()
    books.fold()
    return made


def release() -> int:
    return releasing.release_due(timezone.now() + timedelta(seconds=site.UNATTRIBUTED_KEPT_S + 1))


def bounties() -> list[int]:
    return sorted(
        ledger.balance_nano(chart.bounty(one))
        for one in {part[0] for r in UnattributedRelease.objects.all() for part in r.parts}
    )


def test_it_goes_to_the_bounties_in_proportion_to_records_once(books, one):
    assert releasing.release_due() == 0, "its time is not over"

    assert release() == 1
    assert release() == 0

    books.fold()
    books.log()
    assert bounties() == [LEFT * 7 // 19, LEFT - LEFT * 7 // 19]
    assert ledger.balance_nano(chart.unattributed(one.model_id)) == 0
    assert releasing.released_nano(one.model_id) == LEFT
    assert nothing_is_wrong()


def test_two_that_come_at_once_release_it_once(books, one):
    """Fails without the lock in releasing._release: the second meets the unique epoch."""
    results = race(books, release, release, behind="LOCK TABLE marketplace_unattributedrelease IN SHARE MODE")

    assert sorted(results, key=str) == [0, 1]
    books.fold()
    assert sum(bounties()) == LEFT


def test_what_was_refunded_is_not_released(books, one):
    refunds.give_back(one, by=person("devi"), reason="Nothing supported it.")
    books.fold()
    books.log()

    assert release() == 1

    assert UnattributedRelease.objects.get().amount_nano == 0
    assert nothing_is_wrong()


def test_what_is_disputed_waits(books, one):
    opened = disputes.open_dispute(one, by=person("dan"), reason="It answered nothing.")
    assert release() == 0

    disputes.withdraw(opened, by=person("dan"))
    assert release() == 1
