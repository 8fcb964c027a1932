"""Pictures: too small, blank, or blurred.

Blur is the variance of the Laplacian of the grey picture, brought to at most 512 pixels a side and divided by the picture's
own variance. Measured on scikit-learn's two photographs (640 x 427): sharp 0.52 and 0.14; after a Gaussian blur of 2 pixels
0.0027 and 0.0034, of 3 pixels 0.0008 and 0.0015 (flagged), of 4 pixels 0.0005 and 0.0010. It is not judged below 64 pixels a
side, where it means nothing.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from datanets.checks.features import grey
from datanets.checks.shapes import Checked, Context, Finding, summary

NAME, VERSION = "image_quality", "1"

_SIDE_MIN = 8
_SIDE_JUDGED = 64
_SIDE_USED = 512
_SPREAD_MIN = 2.0
_SHARPNESS_MIN = 0.002


def run(records: list[Checked], context: Context) -> list[Finding]:
    """A flag for each picture that shows little. number: its smaller side, its spread of grey, or its sharpness."""
    side_min = context.schema.get("side_min", _SIDE_MIN)
    findings = [each for record in records if record.media is not None for each in _judge(record, side_min=side_min)]
    return [summary(NAME, flagged=len({each.record_key for each in findings}), of=len(records)), *findings]


def sharpness(picture: Image.Image) -> float:
    """Variance of the Laplacian over the variance of the grey values; 0 for a picture of one shade."""
    small = picture.copy()
    small.thumbnail((_SIDE_USED, _SIDE_USED))
    pixels = np.asarray(small, dtype=np.float64)
    spread = pixels.var()
    if spread < _SPREAD_MIN**2:
        return 0.0
    middle = pixels[1:-1, 1:-1]
    laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * middle
    return float(laplacian.var() / spread)


def _judge(record: Checked, *, side_min: int) -> list[Finding]:
    picture = grey(record.picture())
    width, height = picture.size
    findings = []
    if min(width, height) < side_min:
        params = {"width": width, "height": height, "limit": side_min}
        findings.append(Finding(NAME, record.key, "flag", min(width, height), "image_quality.small", params))
    spread = float(np.asarray(picture, dtype=np.float64).std())
    if spread < _SPREAD_MIN:
        findings.append(Finding(NAME, record.key, "flag", spread, "image_quality.blank"))
    elif min(width, height) >= _SIDE_JUDGED and (sharp := sharpness(picture)) < _SHARPNESS_MIN:
        findings.append(Finding(NAME, record.key, "flag", sharp, "image_quality.blurred"))
    return findings
