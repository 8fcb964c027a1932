"""Records as vectors, for the checks that compare records with each other. Not the features of any model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from datanets.checks.shapes import Checked, Context
from datanets.kinds.image import pixels_of

SIDE = 16
_CATEGORIES_MAX = 50


def vectors(records: Sequence[Checked], context: Context) -> np.ndarray | None:
    """Standardised rows of shape (records, features), float64; None for text, which has no such simple vector.

    Tables: numbers by their robust spread, categories one column each (none with more than 50 values), missing values as
    the median. Images: grey, 16 x 16, by their own mean and spread.
    """
    if context.kind == "tabular":
        return _table(records, context)
    if context.kind == "image":
        return np.array([_picture(record.small_picture()) for record in records], dtype=np.float64)
    return None


def grey(media: bytes) -> Image.Image:
    """A stored picture in shades of grey, on white where it is transparent."""
    picture = pixels_of(media)
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("L")


def _picture(media: bytes) -> np.ndarray:
    small = grey(media).convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float64).ravel()
    return (pixels - pixels.mean()) / max(pixels.std(), 1.0)


def _table(records: Sequence[Checked], context: Context) -> np.ndarray:
    columns = []
    for column in context.schema.get("columns", []):
        if column["name"] == context.label_name:
            continue
        values = [record.body.get(column["name"]) for record in records]
        if column["type"] in ("number", "integer"):
            columns.append(_standardised(values))
        elif column["type"] in ("category", "boolean"):
            names = sorted({str(value) for value in values if value is not None})
            if len(names) <= _CATEGORIES_MAX:
                columns += [np.array([str(value) == name for value in values], dtype=np.float64) for name in names]
    return np.column_stack(columns) if columns else np.zeros((len(records), 0))


def _standardised(values: list) -> np.ndarray:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return np.zeros(len(numbers))
    middle = np.median(known)
    low, high = np.percentile(known, [25, 75])
    spread = (high - low) / 1.349 or known.std() or 1.0
    return np.clip((np.where(np.isnan(numbers), middle, numbers) - middle) / spread, -8, 8)
