"""Ten thousand calls: what each record, payee and pool got is the sum of the explanations, to the nano."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db.models import Sum

from attribution import bundles, explain_sums, features
from attribution.engines import ENGINES
from attribution.models import Epoch, Line, RecordEpoch, Trace
from attribution.settlement import plan_epoch
from datanets.models import Record
from tests.attribution.at_once import closed_epoch
from tests.datanets.cast import measured, person
from tests.shop import fund, published, trained

CALLS, QUESTIONS = 10_000, 200


@pytest.fixture
def epoch(books, settings) -> Epoch:
    """A planned epoch of ten thousand calls to a model on four records, at prices that leave remainders."""
    settings.REVIEW_UNDO_S = 0
    settings.PLAN_SHARD_CALLS = CALLS
    fund(books, person("devi"), 1)
    version = trained(books, published({"alice": measured(3), "bob": measured(1, start=3)}))
    bundle = bundles.load(version.artifact_sha256)
    asked = [{"radius": 9.0 + number / 8, "texture": 11.0 + number % 89 / 5} for number in range(QUESTIONS)]
    rows = features.transform(bundle.serving["spec"], asked)
    contexts = [ENGINES["linear"].answer(bundle.artifact, inputs).context for inputs in rows]
    closed = closed_epoch(version, [contexts[number % QUESTIONS] for number in range(CALLS)])
    return plan_epoch(closed.pk)


def test_ten_thousand_explanations_add_up_to_the_nano(epoch):
    version_id = RecordEpoch.objects.filter(epoch=epoch).values_list("model_version_id", flat=True).first()
    people = dict(Record.objects.values_list("pk", "contributor_id"))
    of_record, of_line = Counter(), Counter()
    calls = 0

    for one in explain_sums.settled_calls(epoch, version_id):
        calls += 1
        amounts, weights = one.paid.amounts.tolist(), one.weights.tolist()
        total, split_nano = sum(weights), one.call.split_nano
        remainders = 0
        for record_id, score, phi, weight, nano in zip(
            one.record_ids.tolist(), one.call.scores.tolist(), one.phi.tolist(), weights, amounts, strict=True
        ):
            # Each factor reproduces the amount, up to the remainders of the call
            assert weight == max(score, 0) * phi
            floor = split_nano * weight // total if total else 0
            assert nano - floor in (0, 1)
            remainders += nano - floor
            of_record[record_id] += nano
            of_line[one.trace.charge_id, people[record_id]] += nano
        assert sum(amounts) + one.paid.left_nano == one.trace.data_nano
        assert remainders < len(amounts)

    assert calls == CALLS
    # What the records are said to have earned, what the payees' lines pay, and what went into the pool, are these sums
    stored = dict(RecordEpoch.objects.filter(epoch=epoch).values_list("record_id", "amount_nano"))
    assert {pk: nano for pk, nano in of_record.items() if nano} == {pk: nano for pk, nano in stored.items() if nano}
    lines = Line.objects.filter(epoch=epoch, role="data", payee__isnull=False)
    assert {key: nano for key, nano in of_line.items() if nano} == {
        (source_id, payee): nano for source_id, payee, nano in lines.values_list("source_id", "payee", "amount_nano")
    }
    assert epoch.pool_nano == epoch.paid_nano + epoch.unattributed_nano
    assert epoch.pool_nano == Trace.objects.aggregate(all=Sum("data_nano") + Sum("curation_nano"))["all"]

    # And one record's own sum, call by call, is its part of them
    record_id = max(stored, key=stored.__getitem__)
    shares = list(explain_sums.sum_of(record_id, epoch))
    assert sum(share.amount_nano for share in shares) == stored[record_id]
    assert len(shares) == CALLS
    assert {share.phi for share in shares} == {RecordEpoch.objects.get(epoch=epoch, record=record_id).phi}
