import json

import numpy as np
import pytest

from attribution.engines.artifact import Artifact, from_files


def artifact(**changes):
    given = {
        "engine": "linear",
        "settings": {"l2": 0.1, "classes": ["malignant", "bénin"]},
        "arrays": {"theta": np.array([[0.1, -2.5e-300]]), "record_index": np.array([0, 3])},
    }
    return Artifact(**{**given, **changes})


def test_an_artifact_comes_back_from_its_files_bit_by_bit():
    first = artifact()

    second = from_files(first.to_files(), sha256=first.sha256)

    assert second.settings == first.settings
    assert second.engine == "linear"
    assert all(second.arrays[name].tobytes() == first.arrays[name].tobytes() for name in first.arrays)
    assert second.sha256 == first.sha256


def test_the_order_of_settings_and_arrays_does_not_change_the_hash():
    first = artifact()
    turned = artifact(
        settings=dict(reversed(first.settings.items())),
        arrays={"record_index": np.array([0, 3]), "theta": np.array([[0.1, -2.5e-300]])},
    )

    assert turned.sha256 == first.sha256


@pytest.mark.parametrize(
    "other",
    [
        {"engine": "neighbours"},
        {"settings": {"l2": 0.1000000001, "classes": ["malignant", "bénin"]}},
        {"arrays": {"theta": np.array([[0.1, -2.5e-300]]), "record_index": np.array([0, 4])}},
        {"arrays": {"theta": np.array([[np.nextafter(0.1, 1), -2.5e-300]]), "record_index": np.array([0, 3])}},
    ],
)
def test_any_other_content_has_another_hash(other):
    assert artifact(**other).sha256 != artifact().sha256


def test_an_artifact_without_arrays_can_be_stored():
    named = artifact(engine="connected", arrays={})

    assert from_files(named.to_files()).arrays == {}


def test_a_view_with_strides_is_stored_as_what_it_shows():
    matrix = np.arange(12.0).reshape(3, 4)

    stored = from_files(artifact(arrays={"theta": matrix.T[::2]}).to_files())

    assert (stored.arrays["theta"] == matrix.T[::2]).all()


@pytest.mark.parametrize("array", [np.zeros(2, np.float32), np.array([np.nan]), np.array([np.inf]), np.array(["a"])])
def test_single_precision_nan_and_objects_are_refused(array):
    with pytest.raises(ValueError, match="Array theta"):
        artifact(arrays={"theta": array})


def test_files_that_were_changed_are_refused_before_they_are_read():
    first = artifact()
    files = first.to_files()
    files["arrays.safetensors"] = files["arrays.safetensors"][:-1] + b"\x01"

    with pytest.raises(ValueError, match="hash"):
        from_files(files, sha256=first.sha256)


def stored_as(header, data: bytes) -> dict[str, bytes]:
    """The two files of an artifact, with arrays laid out as `header` says."""
    text = json.dumps(header).encode()
    arrays = len(text).to_bytes(8, "little") + text + data
    return {"artifact.json": artifact().to_files()["artifact.json"], "arrays.safetensors": arrays}


def test_an_artifacts_arrays_are_views_of_the_file_they_came_in():
    files = artifact().to_files()

    read = from_files(files).arrays["theta"]

    assert np.shares_memory(read, np.frombuffer(files["arrays.safetensors"], np.uint8))


def test_one_nan_among_millions_is_found():
    numbers = np.zeros((1025, 1025))
    numbers[-1, -1] = np.nan

    with pytest.raises(ValueError, match="Array theta"):
        artifact(arrays={"theta": numbers})


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"artifact.json": b"{}"},
        {"artifact.json": b"{}", "arrays.safetensors": b"no"},
        {"artifact.json": b"[1", "arrays.safetensors": artifact().to_files()["arrays.safetensors"]},
        {"artifact.json": b"{}", "arrays.safetensors": artifact().to_files()["arrays.safetensors"]},
        stored_as({"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 9),
        stored_as({"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 7),
        stored_as({"x": {"dtype": "F64", "shape": [1], "data_offsets": [8, 16]}}, b"\0" * 16),
        stored_as({"x": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        stored_as({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
        stored_as({name: {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]} for name in "xy"}, b"\0" * 8),
        stored_as(["x"], b""),
    ],
)
def test_malformed_files_are_a_value_error(files):
    with pytest.raises(ValueError):
        from_files(files)


def test_arrays_of_an_artifact_cannot_be_written_to():
    with pytest.raises(ValueError):
        artifact().arrays["theta"][0, 0] = 1.0
