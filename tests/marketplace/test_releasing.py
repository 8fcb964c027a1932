"""Unattributed money: public for its time, then the bounties' of the model's Datanets, once."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.conf import settings as site
from django.utils import timezone

from attribution import bundles, settlement, traces
from attribution.models import Epoch, Line, Trace
from attribution.netting import Unattributed
from datanets import storage
from ledger import chart
from ledger import services as ledger
from marketplace import disputes, refunds, releasing
from marketplace.models import Call, UnattributedRelease
from tests.datanets.races import race
from tests.marketplace.pages.world import call, fund, settle, small_shop
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


def test_after_three_failed_attributions_a_call_is_paid_to_nobody_and_says_why(books, settings):
    # Given a call whose model's files cannot be read
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    version = small_shop(books)
    fund(books, person("dan"), 10)
    made = call(version, person("dan"))
    books.fold()
    books.log()
    lost = {key: storage.get(key) for key in storage.keys_in(f"artifacts/{version.artifact_sha256}")}
    storage.delete_all(lost)
    bundles.load.cache_clear()

    # When a worker has tried three times
    reference = f"call:{made}"
    for attempt in (1, 2):
        with pytest.raises(FileNotFoundError):
            traces.trace(reference)
        [row] = ledger.pending_outbox(traces.TOPIC)
        assert (row.reference, row.failures, Trace.objects.count()) == (reference, attempt, 0)
    traces.trace(reference)

    # Then it is settled without anybody, and nothing waits for it any more
    stored = Trace.objects.get(charge_id=made)
    assert (stored.status, stored.reason) == (Trace.Status.FAILED, Unattributed.NOT_ATTRIBUTABLE)
    assert ledger.pending_outbox(traces.TOPIC) == []
    for key, data in lost.items():
        storage.put(key, io.BytesIO(data))
    settle(books, epochs_later=1)
    assert ledger.balance_nano(chart.unattributed(version.model_id)) == LEFT
    lines = Line.objects.filter(source_id=made).values_list("payee", "reason", "amount_nano")
    assert {(payee, reason) for payee, reason, _nano in lines} == {(None, "not_attributable")}
    assert sum(nano for _payee, _reason, nano in lines) == LEFT
    assert nothing_is_wrong()


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
