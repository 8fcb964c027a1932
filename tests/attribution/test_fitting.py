"""Data that nothing can be learned from is refused with the reason, and a question far from all data names its column."""

from __future__ import annotations

import numpy as np
import pytest

from attribution import features, fitting, methods, shares
from attribution.engines import linear, neighbours
from datanets.models import Record
from marketplace import publishing
from tests.datanets.cast import SCHEMA
from tests.shop import measured, person, published

NUMBERS = {
    "columns": [
        {"name": "radius", "type": "number", "required": True},
        {"name": "texture", "type": "number", "required": True},
        {"name": "diagnosis", "type": "number", "required": True},
    ],
    "label": "diagnosis",
    "label_type": "number",
}


@pytest.fixture(autouse=True)
def decided_at_once(settings):
    settings.REVIEW_UNDO_S = 0


def refusal(version, *, engine: str = "linear") -> str:
    with pytest.raises(fitting.CannotFit) as refused:
        fitting.fit(engine=engine, versions=[version], settings={})
    return refused.value.code


@pytest.mark.parametrize("engine", ["linear", "neighbours"])
@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row for row in measured(8) if row[2] == "benign"], "one_class"),
        ([("7", "7", label) for _radius, _texture, label in measured(8)], "no_feature"),
        (
            [(f"{10 ** (120 + i)}", texture, label) for i, (_radius, texture, label) in enumerate(measured(8))],
            "number_too_large",
        ),
    ],
    ids=["one class", "the same row", "numbers of 120 digits"],
)
def test_a_table_that_nothing_can_be_learned_from_is_refused_with_its_reason(books, engine, rows, code):
    assert refusal(published({"alice": rows}), engine=engine) == code


def test_labels_that_are_one_and_the_same_number_are_refused(books):
    """Their residuals are rounding noise, and would be paid as if they were influence."""
    rows = [(radius, texture, "5.3") for radius, texture, _label in measured(8)]

    assert refusal(published({"alice": rows}, schema=NUMBERS)) == "one_class"


def test_a_version_whose_records_are_all_taken_back_is_refused(books):
    version = published({"alice": measured(4)})
    for record in Record.objects.all():
        publishing.withdraw_record(record, by=person("alice"))

    assert {refusal(version, engine=engine) for engine in ("linear", "neighbours", "connected")} == {"no_records"}


def test_a_column_that_never_changes_moves_no_answer_and_no_score():
    random = np.random.default_rng(0)
    rows, labels, weights = random.normal(size=(40, 2)), ["ab"[i % 2] for i in range(40)], np.ones(40)
    for engine in (linear, neighbours):
        without = engine.fit(rows, labels, weights, {})
        model = engine.fit(np.column_stack([rows, np.full(40, 7.3)]), labels, weights, {})
        found, expected = engine.answer(model, np.append(rows[0], 7.3)), engine.answer(without, rows[0])

        assert found.outputs["label"] == expected.outputs["label"]
        assert np.allclose(engine.attribute(model, found), engine.attribute(without, expected), atol=1e-9)


def test_as_many_classes_as_records_can_be_learned(books):
    rows = [(radius, texture, f"kind {i}") for i, (radius, texture, _label) in enumerate(measured(5))]
    kinds = {"name": "diagnosis", "type": "category", "required": True, "values": [row[2] for row in rows]}
    schema = {**SCHEMA, "columns": [*SCHEMA["columns"][:2], kinds]}

    stored = fitting.fit(engine="linear", versions=[published({"alice": rows}, schema=schema)], settings={})

    assert len(stored.settings["classes"]) == 5


def test_rows_whose_class_nobody_else_has_judge_nobody(books):
    rows = [(radius, texture, f"kind {i}") for i, (radius, texture, _label) in enumerate(measured(fitting.JUDGED_MIN))]
    kinds = {"name": "diagnosis", "type": "category", "required": True, "values": [row[2] for row in rows]}
    version = published({"alice": rows}, schema={**SCHEMA, "columns": [*SCHEMA["columns"][:2], kinds]})

    stored = fitting.fit(engine="linear", versions=[version], settings={})

    assert stored.fee_method == methods.EQUAL_NO_MEASURE


@pytest.mark.parametrize("radius", [-50.0, 0.0, 500.0, 40_000.0])
def test_a_question_beyond_the_records_is_answered_by_extrapolation_and_attributed(radius):
    spec, vector = _asked(radius)
    for engine in (linear, neighbours):
        model = engine.fit(features.transform(spec, ROWS), [row["label"] for row in ROWS], np.ones(len(ROWS)), {})
        scores = shares.quantise(engine.attribute(model, engine.answer(model, vector)))
        assert abs(np.abs(scores).sum() - shares.BILLION) < len(ROWS)


def test_a_copy_with_a_number_very_far_away_keeps_nobody_from_training():
    spec, _vector = _asked(20.0)

    assert features.transform(spec, [{"radius": 1e90, "label": "a"}], far_allowed=True).shape == (1, 1)


@pytest.mark.parametrize("radius", [1e6, -1e12, 1e200, -1e308])
def test_a_question_very_far_from_all_records_is_refused_and_names_the_column(radius):
    with pytest.raises(ValueError, match=r"Column radius: .* is too far from the 10 to 49"):
        _asked(radius)


ROWS = [{"radius": 10.0 + i, "label": "ab"[i % 2]} for i in range(40)]


def _asked(radius: float):
    columns = [{"name": "radius", "type": "number", "required": True}]
    spec = features.fit_spec(ROWS, {"columns": columns, "label": "label", "label_type": "category"}, "tabular")
    return spec, features.transform(spec, [{"radius": radius}])[0]
