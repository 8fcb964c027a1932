"""A large epoch is shared out to workers, in whatever number of shards: the same lines, to the nano and in their order."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings as site
from django.utils import timezone

from attribution import bundles, planning, settlement, sharding, tasks, traces
from attribution.models import Epoch, PlanShard, Trace
from attribution.planned import Planned
from datanets import storage
from ledger import services as ledger
from marketplace.models import ModelVersion
from tests.marketplace.pages.world import call
from tests.shop import fund, measured, measured_card, nothing_is_wrong, person, published, trained

CALLS = 7


@pytest.fixture
def closed(books, settings) -> Epoch:
    """An epoch of seven calls and a training fee, traced and closed."""
    return closed_epoch(books, sold_version(books, settings, rows=8))


@pytest.fixture
def closed_below(books, settings) -> Epoch:
    """The same of a version whose score card says that it pays equally."""
    settings.SCORE_CARD_LDS_MIN, settings.SCORE_CARD_WAIT_S = 1.01, 0
    version = sold_version(books, settings, rows=28)
    assert measured_card(version).below == ["lds_half"]
    return closed_epoch(books, version)


def sold_version(books, settings, *, rows: int) -> ModelVersion:
    settings.REVIEW_UNDO_S = 0
    for name in ("devi", "dan"):
        fund(books, person(name), 100)
    return trained(books, published({"alice": measured(rows), "bob": measured(rows, start=rows)}, fee_open=10))


def closed_epoch(books, version: ModelVersion) -> Epoch:
    for number in range(CALLS):
        call(version, person("dan"), radius=12.0 + 13 * number)
    books.fold()
    books.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    settlement.close_due(timezone.now() + timedelta(seconds=site.EPOCH_S))
    return Epoch.objects.get()


def ring() -> int:
    """What the relay and the workers do with the shards that wait; each bell rings twice."""
    waiting = ledger.pending_outbox(sharding.TOPIC)
    for row in [*waiting, *waiting]:
        sharding.compute(row.reference)
    return len(waiting)


def planned_by(epoch: Epoch, shards: sharding.OverWorkers | None) -> Planned:
    found = [Trace.objects.get(charge_id=charge_id) for charge_id in epoch.charge_ids]
    while True:
        try:
            return planning.plan(found, earlier={}, accuracy={}, shards=shards, equally=epoch.equal_versions)
        except sharding.Waiting:
            assert ring()


def test_a_plan_is_the_same_for_any_number_of_shards(closed):
    alone = planned_by(closed, None)

    for calls_each in range(1, CALLS + 2):
        assert planned_by(closed, sharding.OverWorkers(closed.pk, calls_each=calls_each, authors={})) == alone


def test_what_is_paid_equally_is_the_same_for_any_number_of_shards(closed_below):
    alone = planned_by(closed_below, None)
    paid = [row.amount_nano for row in alone.record_epochs]
    assert len(paid) == 56 and max(paid) - min(paid) <= 1 <= min(paid)

    for calls_each in range(1, CALLS + 2):
        shards = sharding.OverWorkers(closed_below.pk, calls_each=calls_each, authors={})
        assert planned_by(closed_below, shards) == alone


def test_every_doorbell_has_the_name_of_its_topic():
    names = {task.name for task in (tasks.trace_charge, tasks.plan_epoch, tasks.settle_shard)}

    assert names == {traces.TOPIC, settlement.PLAN_TOPIC, sharding.TOPIC}


def test_an_epoch_waits_for_its_shards_and_is_planned_once(closed, settings):
    settings.PLAN_SHARD_CALLS = 3
    reference = f"epoch:{closed.pk}"

    # Given a plan that was rung thrice before any worker had come
    for _ in range(3):
        assert settlement.plan(reference) is None
    [waiting] = ledger.pending_outbox(settlement.PLAN_TOPIC)
    assert waiting.last_failure == "3 of 3 shards of its sums are not done"

    # When workers come, for the sums and then for the lines
    assert [ring(), settlement.plan(reference), ring()] == [3, None, 3]
    planned = settlement.plan(reference)

    # Then it is planned, and nothing of the shards is left
    assert (planned.status, planned.lines.filter(source="call", role="data").exists()) == ("planned", True)
    assert (settlement.plan(reference), PlanShard.objects.count()) == (None, 0)
    assert (ledger.pending_outbox(sharding.TOPIC), ledger.pending_outbox(settlement.PLAN_TOPIC)) == ([], [])
    assert nothing_is_wrong()


def test_a_shard_whose_artifact_is_damaged_waits_with_its_reason(closed, settings):
    settings.PLAN_SHARD_CALLS = 4
    settlement.plan(f"epoch:{closed.pk}")
    key = f"artifacts/{Trace.objects.first().artifact_id}/serving.json"
    good = storage.get(key)
    storage.put(key, good + b" ")
    bundles.load.cache_clear()
    ring()
    assert all("do not have the hash" in row.last_failure for row in ledger.pending_outbox(sharding.TOPIC))

    storage.put(key, good)
    ring()
    assert ledger.pending_outbox(sharding.TOPIC) == []
