"""Money of passes and training runs: split by what held-out rows said, or equally, and then every page says so."""

from __future__ import annotations

import json

import pytest
from django.utils import translation

from attribution import bundles, fitting, methods, planning
from attribution.engines import ENGINES, retrieval
from attribution.models import Artifact, Line, RecordFee, Trace
from datanets.models import Record
from marketplace import access, publishing
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person, published, settle, trained

SOLD = {"access_mode": "pass", "pass_price_nano": OPEN, "pass_days": 30}


@pytest.fixture
def small(books, settings):
    """A model on a dozen records, which are too few to be judged, and its training fee, paid."""
    settings.REVIEW_UNDO_S = 0
    fund(books, person("devi"), 100)
    fund(books, person("dan"), 100)
    version = trained(books, published({"alice": measured(12)}, fee_open=10), **SOLD)
    settle(books)
    return version


def test_every_engine_and_every_way_of_splitting_fees_is_in_the_registry():
    used = {engine.METHOD for engine in ENGINES.values()} | {retrieval.PROXY_METHOD, methods.NONE, *methods.EQUAL}
    used.add(methods.ABSTAINED)

    assert used | {methods.VALIDATION_SHARES} == set(methods.METHODS)
    for code in methods.METHODS:
        said = methods.shown(code)
        with translation.override("fr"):
            in_french = methods.shown(code)
        assert all([said.name, said.statement, said.source, said.is_not])
        assert said.statement != in_french.statement and said.is_not != in_french.is_not


def test_equal_shares_are_announced_wherever_they_pay(small, client):
    about = methods.shown(methods.EQUAL_TOO_FEW)

    # The books say it of the charge, and of each record
    assert Trace.objects.get(source="training").method == about.code
    assert all(fee.equal_nano == fee.amount_nano > 0 for fee in RecordFee.objects.all())

    # So do the model's page and its API
    page = client.get(f"/en/models/{small.model.path}/").content.decode()
    [version] = client.get(f"/api/v1/models/{small.model.path}/versions/").json()["results"]
    assert about.name in page and about.statement in page
    assert version["fee_method_about"] == json.loads(json.dumps(about._asdict()))

    # And what the contributor reads of a record, and of a line
    client.force_login(person("alice"))
    line = Line.objects.filter(payee=person("alice"), source="training").get()
    record = Record.objects.earliest("pk")
    assert "equal shares" in client.get(f"/en/records/{record.pk}/").content.decode()
    assert about.statement in client.get(f"/en/earnings/lines/{line.pk}/").content.decode()
    assert client.get(f"/api/v1/earnings/lines/{line.pk}/").json()["method"]["code"] == about.code


def test_a_pass_of_a_model_whose_records_are_all_taken_back_pays_nobody_and_says_why(books, small):
    for record in Record.objects.all():
        publishing.withdraw_record(record, by=record.contributor)
    access.buy_pass(small.model, buyer=person("dan"))
    settle(books)

    left = Line.objects.filter(source="access")
    assert {(line.payee, line.reason) for line in left} == {(None, "withdrawn")}
    assert nothing_is_wrong()


def test_where_no_record_helped_on_held_out_rows_fees_go_to_nobody(small):
    # Given an artifact as a fit leaves it whose judges found no record helpful
    known = bundles.load(small.artifact_sha256)
    judged = {**known.serving, "shares": [0] * len(known.record_ids), "fee_method": methods.VALIDATION_SHARES}
    bundle, files = bundles.pack(known.artifact, judged)
    bundles.save(files, bundle.sha256)
    stored = Artifact.objects.get()
    stored.pk, stored.fee_method = bundle.sha256, methods.VALIDATION_SHARES
    stored.save(force_insert=True)
    trace = Trace.objects.get(source="training")
    trace.artifact_id, trace.method = bundle.sha256, methods.VALIDATION_SHARES

    planned = planning.plan([trace], earlier={}, accuracy={})

    assert {(line.payee_id, line.reason) for line in planned.lines} == {(None, "no_help")}
    assert sum(line.amount_nano for line in planned.lines) == trace.data_nano + trace.curation_nano


def test_a_version_that_is_large_enough_is_split_by_what_was_measured(books, settings):
    settings.REVIEW_UNDO_S = 0
    fund(books, person("devi"), 100)
    version = trained(books, published({"alice": measured(fitting.JUDGED_MIN)}, fee_open=10))
    settle(books)

    assert Artifact.objects.get(pk=version.artifact_sha256).fee_method == methods.VALIDATION_SHARES
    assert Trace.objects.get(source="training").method == methods.VALIDATION_SHARES
    assert sum(RecordFee.objects.values_list("equal_nano", flat=True)) == 0
