"""Features: serving repeats training exactly, and a caller's mistake is named."""

import json

import numpy as np
import pytest
from PIL import Image

from attribution.features import fit_spec, labels_of, transform

SCHEMA = {
    "columns": [
        {"name": "firm", "type": "category", "required": True},
        {"name": "value", "type": "number", "required": True, "min": 0},
        {"name": "staff", "type": "integer", "required": False},
        {"name": "listed", "type": "boolean", "required": False},
        {"name": "remark", "type": "text", "required": False},
        {"name": "invest", "type": "number", "required": True},
    ],
    "label": "invest",
    "label_type": "number",
}
ROWS = [
    {"firm": "US Steel", "value": 10.0, "staff": 4, "listed": True, "remark": "x", "invest": 1.5},
    {"firm": "IBM", "value": "20", "staff": None, "listed": "no", "remark": "", "invest": "2"},
    {"firm": "IBM", "value": 30, "staff": 8, "listed": False, "invest": 3},
]


def test_a_table_becomes_numbers_levels_and_flags():
    spec = fit_spec(ROWS, SCHEMA, "tabular")

    assert spec["names"] == ["firm = IBM", "firm = US Steel", "value", "staff", "staff is missing", "listed"]
    assert transform(spec, ROWS).tolist() == [
        [0, 1, 10, 4, 0, 1],
        [1, 0, 20, 6, 1, 0],
        [1, 0, 30, 8, 0, 0],
    ]
    assert labels_of(spec, ROWS) == [1.5, 2.0, 3.0]


def test_a_stored_spec_gives_the_same_features_when_serving():
    spec = fit_spec(ROWS, SCHEMA, "tabular")
    stored = json.loads(json.dumps(spec))

    assert stored == spec
    assert transform(stored, ROWS[:1]).tobytes() == transform(spec, ROWS)[:1].tobytes()


def test_a_level_never_seen_is_no_level_and_a_missing_number_is_the_mean():
    spec = fit_spec(ROWS, SCHEMA, "tabular")

    assert transform(spec, [{"firm": "Chrysler", "value": 5}]).tolist() == [[0, 0, 5, 6, 1, pytest.approx(1 / 3)]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"firm": "IBM"}, "value is required"),
        ({"firm": "IBM", "value": "many"}, "'many' is not a number"),
        ({"firm": "IBM", "value": float("inf")}, "finite"),
        ({"firm": "IBM", "value": 1, "listed": "perhaps"}, "neither true nor false"),
        ({"firm": "IBM", "value": 1, "colour": "red"}, "Unknown column: colour"),
    ],
)
def test_a_mistake_in_a_question_is_named(row, message):
    with pytest.raises(ValueError, match=message):
        transform(fit_spec(ROWS, SCHEMA, "tabular"), [row])


def test_classes_are_text_however_the_file_wrote_them():
    schema = {"columns": [{"name": "x", "type": "number"}], "label": "class", "label_type": "category"}
    rows = [{"x": 1, "class": 1}, {"x": 2, "class": 1.0}, {"x": 3, "class": " 1 "}, {"x": 4, "class": "benign"}]

    assert labels_of(fit_spec(rows, schema, "tabular"), rows) == ["1", "1", "1", "benign"]


def test_a_row_without_a_label_cannot_be_trained_on():
    spec = fit_spec(ROWS, SCHEMA, "tabular")

    with pytest.raises(ValueError, match="invest"):
        labels_of(spec, [{"firm": "IBM", "value": 1}])


def test_a_table_of_remarks_gives_no_feature():
    with pytest.raises(ValueError, match="No column"):
        fit_spec([{"remark": "x"}], {"columns": [{"name": "remark", "type": "text"}]}, "tabular")


def test_embeddings_pass_through_in_double_precision():
    embeddings = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    spec = fit_spec(embeddings, {}, "text")

    assert transform(spec, embeddings).dtype == np.float64
    assert (transform(spec, embeddings) == embeddings).all()
    assert transform(spec, []).shape == (0, 8)
    with pytest.raises(ValueError, match="8 dimensions"):
        transform(spec, embeddings[:, :5])


def test_a_picture_is_the_same_in_every_form_it_can_have():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    spec = fit_spec([], {}, "image", image_side=8)
    forms = [
        grey,
        grey[:, :, None],
        np.repeat(grey[:, :, None], 3, 2),
        Image.fromarray(grey),
        Image.fromarray(grey).convert("RGBA"),
    ]

    features = transform(spec, forms)

    assert features.shape == (5, 64)
    assert (features == grey.reshape(-1) / 255.0).all()


def test_pictures_of_any_size_become_small_squares():
    spec = fit_spec([], {}, "image")

    features = transform(spec, [np.full((300, 40, 3), 255, np.uint8), np.zeros((2, 3), np.uint8)])

    assert features.shape == (2, 256)
    assert (features[0] == 1).all() and (features[1] == 0).all()


def test_what_is_transparent_shows_white_paper():
    hidden = np.zeros((4, 4, 4), np.uint8)

    assert (transform(fit_spec([], {}, "image", image_side=4), [hidden]) == 1).all()


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)])
def test_what_is_no_picture_is_refused(array):
    with pytest.raises(ValueError, match="image"):
        transform(fit_spec([], {}, "image"), [array])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="audio"):
        fit_spec([], {}, "audio")
