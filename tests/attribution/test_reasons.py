"""Whatever gets nothing says why in words, in each language; a code that has none cannot be stored."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone, translation

from attribution import reasons
from attribution.models import REASONS, Trace
from attribution.netting import Unattributed


@pytest.mark.parametrize("code", Unattributed)
def test_every_code_of_unattributed_money_has_a_sentence_in_each_language(code):
    said = reasons.unattributed_sentence(code.value)
    with translation.override("fr"):
        in_french = reasons.unattributed_sentence(code.value)

    assert said.endswith(".") and in_french.endswith(".") and said != in_french
    assert code.value not in said and code.value not in in_french


@pytest.mark.parametrize("code", reasons.Unpaid)
def test_every_reason_of_a_record_has_a_sentence_in_each_language(code):
    with translation.override("fr"):
        in_french = str(reasons.UNPAID[code])

    assert in_french.endswith(".") and in_french != str(reasons.UNPAID[code])


def test_a_part_that_was_paid_needs_no_reason_and_an_unknown_code_is_an_error():
    assert reasons.unattributed_sentence("") == ""
    with pytest.raises(ValueError):
        reasons.unattributed_sentence("no_such_code")


@pytest.mark.django_db
def test_no_code_without_a_sentence_can_be_stored():
    def store(reason: str) -> None:
        ids = {name: uuid.uuid4() for name in ("charge_id", "model_id", "model_version_id")}
        amounts = {"data_nano": 1, "curation_nano": 0, "charged_at": timezone.now()}
        with transaction.atomic():
            Trace.objects.create(**ids, **amounts, status="failed", reason=reason, method="none/1")

    for code in REASONS:
        store(code)
    with pytest.raises(IntegrityError, match="trace_reason_is_known"):
        store("no_such_code")
