import inspect
import re
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Task
from django.utils import timezone, translation
from kombu.exceptions import OperationalError

from attribution import explain, explain_records, fitting
from attribution import verify as attribution_verify
from attribution.engines.linear import L2_DEFAULT
from attribution.engines.penalty import GRID
from attribution.models import Epoch, Line
from datanets.models import Record
from ledger import chart
from ledger import services as ledger
from ledger import verify as ledger_verify
from marketplace import revenue, training
from marketplace import verify as shop_verify
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import Notification, TrainingRun
from marketplace.views import explanations
from tests.datanets.cast import SCHEMA
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
        earned[record.contributor.username] += explain_records.why_record(record).earned_nano
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

    # Then nothing is held or charged, and the run and the inbox say why, in the language of who reads them
    assert run.status == TrainingRun.Status.FAILED
    assert wallet_nano(devi) == 100 * OPEN
    line = Notification.objects.get(user=devi, kind="training_failed")
    for language, why in {
        "en": "The setting k must be above zero.",
        "fr": "Le réglage k doit être supérieur à zéro.",
    }.items():
        with translation.override(language):
            assert why in explanations.training_sentence(run)
            assert why in explanations.notification_sentence(line)


def test_records_of_one_class_are_no_classification(books, settings):
    settings.REVIEW_UNDO_S = 0
    version = published({"alice": [row for row in measured(8) if row[2] == "benign"]})
    model = make_model()

    run = training.run(training.request(model=model, by=model.owner, versions=[version]).pk)

    assert (run.status, run.error_code) == ("failed", "one_class")


def test_a_run_that_names_no_l2_gets_the_one_that_held_out_rows_choose(books, settings):
    # Given records that the labels of some speak against, and a Datanet that is too small to judge anything
    settings.REVIEW_UNDO_S = 0
    wrong = [(*row[:2], "benign" if row[2] == "malignant" else "malignant") for row in measured(12)]
    noisy = published({"alice": [*wrong, *measured(48, start=12)]})
    small = published({"alice": measured(8)}, name="Small")

    chosen = fitting.fit(engine="linear", versions=[noisy], settings={})

    # Then the penalty is stronger than the engine's default, and naming it gives the same artifact
    assert chosen.settings["l2"] in GRID
    assert chosen.settings["l2"] > L2_DEFAULT
    assert fitting.fit(engine="linear", versions=[noisy], settings={}).sha256 == chosen.sha256
    assert (
        fitting.fit(engine="linear", versions=[noisy], settings={"l2": chosen.settings["l2"]}).sha256 == chosen.sha256
    )
    assert fitting.fit(engine="linear", versions=[noisy], settings={"l2": 2}).settings["l2"] == 2
    assert fitting.fit(engine="linear", versions=[small], settings={}).settings["l2"] == L2_DEFAULT


def test_every_reason_of_a_failed_run_is_a_sentence():
    source = Path(inspect.getfile(fitting)).read_text() + Path(inspect.getfile(training)).read_text()
    codes = set(re.findall(r'(?:CannotFit\(|_fail\(training, code=)"(\w+)"', source))

    assert codes == set(explanations.TRAINING_FAILURES)


def test_a_second_run_is_refused_while_the_first_is_not_over(books, version):
    fund(books, person("devi"), 100)
    model = make_model()
    training.request(model=model, by=person("devi"), versions=[version])

    with pytest.raises(NotReady):
        training.request(model=model, by=person("devi"), versions=[version])


def test_a_run_that_the_broker_lost_is_rung_again(books, version, monkeypatch):
    # Given a broker that is down while Devi asks for a run
    fund(books, person("devi"), 100)

    def refuse(*args, **kwargs):
        raise OperationalError("connection refused")

    with monkeypatch.context() as broker:
        broker.setattr(Task, "apply_async", refuse)
        asked = training.request(model=make_model(), by=person("devi"), versions=[version])

    # When beat looks a minute later
    TrainingRun.objects.update(created_at=timezone.now() - timedelta(seconds=training.RING_AGAIN_S + 1))

    # Then the worker is told
    assert training.ring_waiting() == 1
    training.run(asked.pk)
    assert training.ring_waiting() == 0


def test_a_run_that_another_worker_is_at_is_left_alone(books, version):
    fund(books, person("devi"), 100)
    asked = training.request(model=make_model(), by=person("devi"), versions=[version])

    with closing(books.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"openledger training:{asked.pk}"])
        assert training.run(asked.pk).status == "waiting"
        cursor.execute("SELECT pg_advisory_unlock_all()")

    assert training.run(asked.pk).status == "done"


def test_a_run_that_is_rung_twice_is_charged_once(books, version):
    fund(books, person("devi"), 100)
    model_version = trained(books, version)

    training.run(model_version.training_run_id)

    assert model_version.model.versions.count() == 1
    assert wallet_nano(person("devi")) == 90 * OPEN


def test_two_datanets_of_the_same_columns_make_a_model_however_their_values_spread(books, settings):
    # Given two Datanets, each with enough rows to know the spreads of its columns, and one whose rows may lack a value
    settings.REVIEW_UNDO_S = 0
    first = published({"alice": measured(24)}, name="First")
    wider = [(float(radius) * 3, texture, label) for radius, texture, label in measured(24)]
    second = published({"bob": wider}, name="Second")
    columns = [column | {"required": column["name"] != "texture"} for column in SCHEMA["columns"]]
    other = published({"max": measured(24, start=24)}, name="Other", schema=SCHEMA | {"columns": columns})
    first.datanet.refresh_from_db()
    second.datanet.refresh_from_db()
    assert first.datanet.schema != second.datanet.schema

    # Then the first two make a model, and the other is refused
    assert trained(books, first, second).number == 1
    with pytest.raises(Invalid, match="one schema"):
        training.request(model=make_model("Another"), by=person("devi"), versions=[first, other], settings={})


def test_nobody_trains_on_a_datanet_they_may_not_read(books, version):
    version.datanet.access = "closed"
    version.datanet.save(update_fields=["access"])
    fund(books, person("devi"), 100)

    with pytest.raises(NotAllowed):
        training.request(model=make_model(), by=person("devi"), versions=[version])
