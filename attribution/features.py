"""From records and from a caller's inputs to rows of numbers. The spec is JSON: serving repeats training exactly.

A spec belongs to a model version, is fitted on its *leaders* only (a copy must not move a mean) and is stored beside
the artifact. `standardise` in it is the setting the engine is to be trained with.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

IMAGE_SIDE = 16
LEVELS_MAX = 50
NUMERIC_TYPES = ("number", "integer", "boolean")
NUMBER_MAX = 1e100  # its square, and the sum of very many of them, is still a number
# A question may lie outside of what the records span: the model extrapolates. So many spans away it says nothing any more,
# and what it would say could not be attributed.
SPANS_MAX = 1000.0


class NoFeature(ValueError):
    """No column gives a feature."""


class TooLarge(ValueError):
    """A column holds numbers that cannot be computed with."""


def fit_spec(rows: Sequence[Any], schema: Mapping[str, Any], kind: str, *, image_side: int = IMAGE_SIDE) -> dict:
    """Learn how to turn inputs of a Datanet into features.

    Args:
        rows: The leaders of the version. tabular: one mapping by column name each. text: embeddings, shape (n, d).
            image: not looked at.
        schema: tabular: `{"columns": [{"name", "type", "required", ...}], "label", "label_type"}`. Columns of the type
            text carry no feature and are ignored.
        kind: The Datanet's: "tabular", "text" or "image".
        image_side: Images become squares of this many pixels.

    Returns:
        A JSON object for `transform`, with `names`, one per feature.

    Raises:
        ValueError: an unknown kind, a value that does not fit its column; NoFeature, TooLarge.
    """
    if kind == "tabular":
        return _fit_table(rows, schema)
    if kind == "text":
        dimensions = int(np.asarray(rows).shape[1])
        names = [f"dimension {i + 1}" for i in range(dimensions)]
        return {"kind": kind, "standardise": True, "names": names, "dimensions": dimensions}
    if kind == "image":
        names = [f"row {i + 1}, column {j + 1}" for i in range(image_side) for j in range(image_side)]
        return {"kind": kind, "standardise": False, "names": names, "side": image_side}
    raise ValueError(f"Unknown kind of data: {kind}.")


def transform(spec: Mapping[str, Any], inputs: Sequence[Any], *, far_allowed: bool = False) -> np.ndarray:
    """Features, float64, shape (len(inputs), len(spec["names"])).

    Args:
        spec: From `fit_spec`.
        inputs: tabular: mappings by column name; a missing value becomes the column's mean and raises its flag, and a
            level never seen has all zeros. text: embeddings. image: PIL images or uint8 arrays (h, w), (h, w, 1, 3 or 4).
        far_allowed: Records: a copy of one must not keep everybody from training. A question must not lie very far from
            the numbers learned from (`SPANS_MAX`); up to there it is answered by extrapolation.

    Raises:
        ValueError: an unknown column, a missing required one, a value of another type, a wrong shape. The message
            names the column and is fit for the caller's eyes.
    """
    if spec["kind"] == "tabular":
        known = {column["name"] for column in spec["columns"]} | set(spec["ignored"]) | {spec["label"]}
        out = np.zeros((len(inputs), len(spec["names"])))
        for row, features in zip(inputs, out, strict=True):
            if unknown := sorted(str(name) for name in set(row) - known):
                raise ValueError(f"Unknown column: {', '.join(unknown)}.")
            _fill_row(spec["columns"], row, features, far_allowed=far_allowed)
        return out
    if spec["kind"] == "text":
        if len(inputs) == 0:
            return np.zeros((0, spec["dimensions"]))
        out = np.array(inputs, dtype=np.float64)
        if out.shape[1:] != (spec["dimensions"],):
            raise ValueError(f"Expected embeddings of {spec['dimensions']} dimensions, got {out.shape[1:]}.")
        return out
    rows = [_pixels(one, spec["side"]) for one in inputs]
    return np.array(rows).reshape(len(rows), len(spec["names"]))


def labels_of(spec: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str] | list[float]:
    """The label of each row of a table: text for classification, a number for regression.

    Raises:
        ValueError: the schema has no label, or a row's label is missing or not a number.
    """
    name = spec["label"]
    if name is None:
        raise ValueError("This Datanet's schema has no label column.")
    if any(_missing(row.get(name)) for row in rows):
        raise ValueError(f"A row has no value in the label column {name}.")
    if spec["label_type"] == "number":
        return [_number(row[name], {"name": name, "type": "number"}) for row in rows]
    return [_level(row[name]) for row in rows]


def _fit_table(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> dict:
    label = schema.get("label")
    columns: list[dict[str, Any]] = []
    ignored: list[str] = []
    names: list[str] = []
    for column in schema["columns"]:
        name, kind = column["name"], column["type"]
        if name == label:
            continue
        present = [row[name] for row in rows if not _missing(row.get(name))]
        fitted = {"name": name, "type": kind, "required": bool(column.get("required"))}
        if kind in NUMERIC_TYPES and present:
            values = [_number(value, fitted) for value in present]
            if max(map(abs, values)) > NUMBER_MAX:
                raise TooLarge(f"Column {name} holds numbers above {NUMBER_MAX:g}.")
            fitted["mean"] = math.fsum(values) / len(values)
            fitted["low"], fitted["high"] = min(values), max(values)
            names.append(name)
        elif kind == "category" and present:
            counts: dict[str, int] = {}
            for value in present:
                counts[_level(value)] = counts.get(_level(value), 0) + 1
            common = sorted(counts, key=lambda level: (-counts[level], level))[:LEVELS_MAX]
            fitted["levels"] = sorted(common)
            names.extend(f"{name} = {level}" for level in fitted["levels"])
        else:
            # Free text has no feature here, and a column without a single value can teach nothing.
            ignored.append(name)
            continue
        fitted["flag"] = len(present) < len(rows)
        if fitted["flag"]:
            names.append(f"{name} is missing")
        columns.append(fitted)
    if not columns:
        raise NoFeature("No column of this table gives a feature.")
    return {
        "kind": "tabular",
        "standardise": True,
        "names": names,
        "columns": columns,
        "ignored": ignored,
        "label": label,
        "label_type": schema.get("label_type"),
    }


def _fill_row(
    columns: Sequence[Mapping[str, Any]], row: Mapping[str, Any], features: np.ndarray, *, far_allowed: bool
) -> None:
    place = 0
    for column in columns:
        value = row.get(column["name"])
        missing = _missing(value)
        if missing and column["required"]:
            raise ValueError(f"Column {column['name']} is required.")
        if column["type"] == "category":
            if not missing and (level := _level(value)) in column["levels"]:
                features[place + column["levels"].index(level)] = 1.0
            place += len(column["levels"])
        else:
            number = column["mean"] if missing else _number(value, column)
            if not far_allowed:
                _check_is_near(number, column)
            features[place] = number
            place += 1
        if column["flag"]:
            features[place] = float(missing)
            place += 1


def _missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def _number(value: Any, column: Mapping[str, Any]) -> float:
    if column["type"] == "boolean" and isinstance(value, str):
        word = value.strip().lower()
        if word in ("true", "yes", "1"):
            return 1.0
        if word in ("false", "no", "0"):
            return 0.0
        raise ValueError(f"Column {column['name']}: {value[:40]!r} is neither true nor false.")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"Column {column['name']}: {str(value)[:40]!r} is not a number.") from error
    if not math.isfinite(number):
        raise ValueError(f"Column {column['name']}: the number must be finite.")
    return number


def _check_is_near(number: float, column: Mapping[str, Any]) -> None:
    low, high = column["low"], column["high"]
    reach = SPANS_MAX * max(high - low, abs(low), abs(high), 1.0)
    if not low - reach <= number <= high + reach:
        raise ValueError(
            f"Column {column['name']}: {number:g} is too far from the {low:g} to {high:g} that the model learned from."
        )


def _level(value: Any) -> str:
    # A file may say 1, "1" or 1.0 for the same class.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _pixels(picture: Any, side: int) -> np.ndarray:
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError("An image must be an array of bytes: height, width, and colours if any.")
        picture = Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        # What is transparent shows paper; its hidden colour must not become a feature.
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    grey = picture.convert("L")
    if grey.size != (side, side):
        # Pillow resizes bytes in integer arithmetic: the same picture gives the same features everywhere.
        grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(grey, dtype=np.float64).reshape(-1) / 255.0
