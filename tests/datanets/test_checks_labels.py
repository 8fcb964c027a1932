"""Labels and pictures: planted label errors are found on real data, bad pictures are flagged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_sample_images

from datanets.checks import Checked, Context, image_quality, label_sanity


def png(pixels) -> bytes:
    out = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    picture.save(out, "PNG")
    return out.getvalue()


def planted(count: int, seed: int) -> set[int]:
    return set(np.random.default_rng(seed).choice(count, count // 20, replace=False).tolist())


def shares(findings, wrong: set[int], count: int) -> tuple[float, float]:
    """(share of planted errors found, share of right labels doubted)"""
    marked = {finding.record_key for finding in findings if finding.record_key is not None}
    return len(marked & wrong) / len(wrong), len(marked - wrong) / (count - len(wrong))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_labels_of_digits_are_found(seed):
    data = load_digits()
    wrong = planted(len(data.target), seed)
    records = [
        Checked(at, {"label": str((label + 1 + at % 9) % 10 if at in wrong else label)}, png(pixels * 255 / 16))
        for at, (pixels, label) in enumerate(zip(data.images, data.target, strict=True))
    ]
    found, doubted = shares(label_sanity.run(records, Context("image")), wrong, len(records))
    assert found >= 0.7
    assert doubted <= 0.02


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_labels_of_a_medical_table_are_found(seed):
    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    wrong = planted(len(data.target), seed)
    columns = [{"name": name, "type": "number"} for name in names] + [{"name": "diagnosis", "type": "category"}]
    records = [
        Checked(at, {**dict(zip(names, map(float, row), strict=True)), "diagnosis": str(label ^ (at in wrong))})
        for at, (row, label) in enumerate(zip(data.data, data.target, strict=True))
    ]
    context = Context("tabular", {"columns": columns, "label": "diagnosis", "label_type": "category"})
    found, doubted = shares(label_sanity.run(records, context), wrong, len(records))
    assert found >= 0.7
    assert doubted <= 0.02


def test_a_value_far_from_those_of_similar_rows_is_found():
    data = load_diabetes()
    names = [str(name) for name in data.feature_names]
    columns = [{"name": name, "type": "number"} for name in [*names, "progression"]]
    values = data.target.astype(float)
    values[17] = 5_000.0
    records = [
        Checked(at, {**dict(zip(names, map(float, row), strict=True)), "progression": float(value)})
        for at, (row, value) in enumerate(zip(data.data, values, strict=True))
    ]
    context = Context("tabular", {"columns": columns, "label": "progression", "label_type": "number"})
    assert [finding.record_key for finding in label_sanity.run(records, context)[1:]] == [17]


def test_missing_and_unknown_labels_are_flagged():
    records = [Checked(0, {"label": "cat"}), Checked(1, {"label": "cta"}), Checked(2, {"label": None})]
    findings = label_sanity.run(records, Context("text", {"labels": ["cat", "dog"]}))
    assert {(f.record_key, f.code) for f in findings[1:]} == {(1, "label_sanity.unknown"), (2, "label_sanity.missing")}


def test_a_datanet_without_labels_asks_for_none():
    assert len(label_sanity.run([Checked(0, {"text": "a"}), Checked(1, {"text": "b"})], Context("text"))) == 1


def test_a_photograph_passes_and_its_blurred_copy_does_not():
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels)
        blurred = photograph.filter(ImageFilter.GaussianBlur(4))
        records = [Checked("sharp", {}, png(photograph)), Checked("blurred", {}, png(blurred))]
        findings = image_quality.run(records, Context("image"))
        assert [(f.record_key, f.code) for f in findings[1:]] == [("blurred", "image_quality.blurred")]


def test_small_and_blank_pictures_are_flagged():
    records = [
        Checked("small", {}, png(np.arange(16).reshape(4, 4) * 16)),
        Checked("blank", {}, png(np.full((50, 50), 9))),
    ]
    findings = image_quality.run(records, Context("image"))
    assert {(f.record_key, f.code) for f in findings[1:]} == {
        ("small", "image_quality.small"),
        ("blank", "image_quality.blank"),
    }


def test_pictures_are_read_one_at_a_time_and_compared_in_small():
    """A thousand photographs at once would fill the memory: Checked holds what reads them, and their thumbnails."""
    read = []

    def reader(name, pixels):
        return lambda: read.append(name) or png(pixels)

    shapes = [np.arange(16).reshape(4, 4) * (at + 1) for at in range(24)]
    records = [
        Checked(at, {"label": "a"}, reader("large", shape), None, reader("small", shape))
        for at, shape in enumerate(shapes)
    ]
    label_sanity.run(records[:12], Context("image", reference=records[12:]))
    assert read == ["small"] * 24

    image_quality.run(records[:3], Context("image"))
    assert read[24:] == ["large"] * 3
