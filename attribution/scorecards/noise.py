"""Are wrong labels found? Some are planted, the model is fitted again, and records are ranked as gating ranks them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

FLIPPED_SHARE = 0.1


def flipped(labels: list[Any], *, seed: int, share: float = FLIPPED_SHARE) -> tuple[list[Any], np.ndarray]:
    """Give a share of the rows a wrong label.

    A class becomes another one, each as likely; a number becomes the number of another row.

    Returns:
        The labels, and which of them are wrong, shape (rows,).
    """
    random = np.random.default_rng(seed)
    wrong = random.permutation(len(labels)) < max(1, int(len(labels) * share))
    values = sorted(set(labels)) if isinstance(labels[0], str) else labels
    noisy = list(labels)
    for i in np.flatnonzero(wrong):
        others = [value for value in values if value != labels[i]]
        noisy[i] = others[random.integers(len(others))]
    return noisy, wrong


def found(wrong: np.ndarray, mean: np.ndarray, error: np.ndarray) -> float:
    """Area under the curve for wrong rows, ranked by -mean / error as gating does: .5 is chance, 1 finds them all first.

    A row that no judge speaks of (error 0) ranks in the middle.
    """
    doubt = np.divide(-mean, error, out=np.zeros(len(mean)), where=error > 0)
    ranks = rankdata(doubt)
    count = int(wrong.sum())
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))
