"""Every step of an epoch does nothing the second time, also when two come at once; and copies earn nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings as site
from django.db import connection
from django.utils import timezone

from attribution import bundles, settlement, traces
from attribution.models import Cut, Epoch, Line, Trace
from datanets import storage
from ledger import chart
from ledger import services as ledger
from tests.datanets.races import race
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person, published, settle, trained


@pytest.fixture
def charged(books, settings):
    """A training fee of 10 OPEN in the log, traced: Alice sent 12 records, and Bob the same ones after her."""
    settings.REVIEW_UNDO_S = 0
    fund(books, person("devi"), 100)
    trained(books, published({"alice": measured(12), "bob": measured(12)}, fee_open=10))
    books.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    return books


def close() -> int:
    return settlement.close_due(timezone.now() + timedelta(seconds=site.EPOCH_S))


def test_copies_of_earlier_records_earn_nothing(charged):
    """Fails when a follower weighs anything (fitting._Pool.weights)."""
    assert settle(charged) == 1

    paid = {line.payee.username: line.amount_nano for line in Line.objects.filter(role="data", payee__isnull=False)}
    assert paid == {"alice": 9 * OPEN}
    assert nothing_is_wrong()


def test_two_sequencers_close_an_epoch_once(charged):
    """Fails without the test of `created` in settlement.close_due: the second makes the same epochs."""
    results = race(charged, close, close, behind="LOCK TABLE attribution_cut IN SHARE MODE")

    assert sorted(results, key=str) == [0, 1]
    assert (Cut.objects.count(), Epoch.objects.count()) == (1, 1)


def test_two_workers_plan_an_epoch_once(charged):
    """Fails without the second test of the status in settlement.plan_epoch: both have done the sums by then."""
    close()
    epoch_id = Epoch.objects.get().pk

    results = race(
        charged, *[lambda: settlement.plan_epoch(epoch_id)] * 2, behind="LOCK TABLE attribution_epoch IN SHARE MODE"
    )

    assert [result.status for result in results] == ["planned"] * 2
    assert nothing_is_wrong()


def test_the_sums_of_an_epoch_are_done_outside_a_transaction(charged):
    """An open one would hold back the fold and the log of the whole site."""
    close()
    open_while_reading = []

    def note(execute, sql, params, many, context):
        if sql.startswith("SELECT") and '"attribution_trace"' in sql:
            open_while_reading.append(connection.in_atomic_block)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        settlement.plan_epoch(Epoch.objects.get().pk)

    assert set(open_while_reading) == {False}


def test_an_epoch_that_is_planned_twice_has_its_lines_once(charged):
    """Fails without both tests of the status in settlement.plan_epoch."""
    close()
    epoch = settlement.plan_epoch(Epoch.objects.get().pk)
    before = set(epoch.lines.values_list("pk", flat=True))

    again = settlement.plan_epoch(epoch.pk)

    assert (again.lines_root, set(again.lines.values_list("pk", flat=True))) == (epoch.lines_root, before)


def test_an_epoch_whose_artifact_is_damaged_waits_until_its_files_are_back(charged, caplog):
    """Fails when settlement.plan catches nothing of it: the doorbell ends in an error that no outbox row tells."""
    close()
    [row] = ledger.pending_outbox(settlement.PLAN_TOPIC)
    key = f"artifacts/{Trace.objects.get().artifact_id}/serving.json"
    good = storage.get(key)
    storage.put(key, good + b" ")
    bundles.load.cache_clear()

    assert settlement.plan(row.reference) is None
    [waiting] = ledger.pending_outbox(settlement.PLAN_TOPIC)
    assert (Epoch.objects.get().status, waiting.failures) == ("closed", 1)
    assert "do not have the hash" in caplog.text

    storage.put(key, good)
    assert settlement.plan(row.reference).status == "planned"
    assert nothing_is_wrong()


def test_two_sequencers_post_an_epoch_once(charged):
    """Fails without the lock and the test of the status in settlement._post_locked: both say that they posted it."""
    close()
    settlement.plan_epoch(Epoch.objects.get().pk)

    posts = [settlement.post_planned] * 2
    results = race(charged, *posts, behind="LOCK TABLE attribution_epoch IN SHARE MODE")

    assert sorted(results, key=str) == [0, 1]
    charged.fold()
    assert ledger.balance_nano(f"pending:{person('alice').pk}") == 9 * OPEN


def test_a_plan_that_the_books_refuse_keeps_no_other_from_being_posted(charged):
    """Fails when settlement._post catches only what passes by itself."""
    trained(charged, published({"alice": measured(12, start=50)}, name="Cells", fee_open=10), name="Cells")
    charged.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    close()
    first, second = [settlement.plan_epoch(epoch.pk) for epoch in Epoch.objects.order_by("pk")]
    # Given the first plan's id is taken by another posting
    ledger.post(
        id=first.postings.first().pk,
        kind=ledger.Kind.ADJUSTMENT,
        reference="taken",
        moves=[ledger.Move(chart.wallet(person("devi").pk), chart.FEES, 1)],
    )

    assert settlement.post_planned() == 1
    assert list(Epoch.objects.filter(status=Epoch.Status.POSTED)) == [second]
