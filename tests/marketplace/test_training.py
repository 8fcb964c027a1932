from collections import Counter

import pytest

from attribution import explain
from attribution import verify as attribution_verify
from attribution.models import Epoch, Line
from datanets.models import Record
from ledger import chart
from ledger import services as ledger
from ledger import verify as ledger_verify
from marketplace import revenue, training
from marketplace import verify as shop_verify
from marketplace.errors import NotAllowed
from marketplace.models import TrainingRun
from tests.shop import OPEN, fund, make_model, measured, person, published, settle, trained, wallet_nano


@pytest.fixture
def version(books, settings):
    settings.REVIEW_UNDO_S = 0
    return published({"alice": measured(40), "bob": measured(40, start=40)}, fee_open=10)


def test_a_training_fee_is_held_and_then_charged_by_the_rule(books, version):
    # Given Devi with 100 OPEN and a Datanet that asks 10 for training
    devi = person("devi")
    fund(books, devi, 100)

    # When she trains a linear model on it
    model_version = trained(books, version)

    # Then she paid 10: 5 % to the platform, 90 % and 5 % wait for contributors and curators
    pools = {
        role: ledger.balance_nano(chart.pool(model_version.model_id, "training", role)) for role in ("data", "curation")
    }
    assert wallet_nano(devi) == 90 * OPEN
    assert ledger.balance_nano(chart.FEES) == OPEN // 2
    assert pools == {"data": 9 * OPEN, "curation": OPEN // 2}
    assert ledger.open_holds(chart.wallet(devi.pk)) == []


def test_the_fee_reaches_contributors_and_curators_at_the_next_epoch(books, version, settings):
    # Given a trained model whose fee waits in its pool
    fund(books, person("devi"), 100)
    model_version = trained(books, version)

    # When the charge is traced and its epoch ends
    settle(books)

    # Then every nano of it is paid or has a reason, and both derivations of the revenue report agree
    epoch = Epoch.objects.get(model_id=model_version.model_id)
    assert (epoch.status, epoch.pool_nano) == ("posted", 9 * OPEN + OPEN // 2)
    paid = {line.payee.username: line.amount_nano for line in Line.objects.filter(payee__isnull=False, role="data")}
    assert set(paid) == {"alice", "bob"}
    assert sum(paid.values()) == 9 * OPEN
    earned = Counter()
    for record in Record.objects.select_related("contributor"):
        earned[record.contributor.username] += explain.why_record(record).earned_nano
    assert earned == paid  # the pages of a contributor's records add up to the payment
    assert explain.posted_totals()["curation", person("carol").pk] == OPEN // 2
    assert revenue.differences() == []
    assert [*ledger_verify.failures(), *attribution_verify.failures(), *shop_verify.failures()] == []


def test_a_run_that_cannot_fit_releases_the_whole_fee(books, version):
    # Given a neighbours model and a setting that makes no sense
    devi = person("devi")
    fund(books, devi, 100)
    model = make_model(engine="neighbours")

    # When she trains it
    run = training.run(training.request(model=model, by=devi, versions=[version], settings={"k": 0}).pk)

    # Then the run says why, and nothing is held or charged
    assert run.status == TrainingRun.Status.FAILED
    assert "k must be" in run.error_detail
    assert wallet_nano(devi) == 100 * OPEN


def test_a_run_that_is_rung_twice_is_charged_once(books, version):
    fund(books, person("devi"), 100)
    model_version = trained(books, version)

    training.run(model_version.training_run_id)

    assert model_version.model.versions.count() == 1
    assert wallet_nano(person("devi")) == 90 * OPEN


def test_nobody_trains_on_a_datanet_they_may_not_read(books, version):
    version.datanet.access = "closed"
    version.datanet.save(update_fields=["access"])
    fund(books, person("devi"), 100)

    with pytest.raises(NotAllowed):
        training.request(model=make_model(), by=person("devi"), versions=[version])
