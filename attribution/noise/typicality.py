"""Whether new rows look like those that are known, class by class: percentiles that honest rows spread evenly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# With fewer incumbents of a class than this, rows of it are compared with all incumbents.
CLASS_ROWS_MIN = 10
ATYPICAL_Z = 3.0
# Rows of one hand do resemble each other; only a crowd of near-copies of one another is as far off as this.
SIBLING_Z = 5.0


class Typicality(NamedTuple):
    """Of one block, three z: how its mean percentile differs from one half, in standard errors.

    loss: of the incumbents' model on its rows; below 0: the model knows them too well, above: it contradicts them.
    likeness: to the nearest incumbent of the class. siblings: how much nearer its rows are to each other than to those.
    """

    loss: float
    likeness: float
    siblings: float

    @property
    def is_atypical(self) -> bool:
        return max(abs(self.loss), abs(self.likeness)) > ATYPICAL_Z or self.siblings > SIBLING_Z


class Percentiles(NamedTuple):
    """Of each new row, in [0, 1]; its class, and how many incumbents it was compared with. Shapes (m,)."""

    loss: np.ndarray
    likeness: np.ndarray
    siblings: np.ndarray
    labels: np.ndarray
    base: np.ndarray


def percentiles(
    *,
    known_losses: np.ndarray,
    new_losses: np.ndarray,
    known_labels: np.ndarray,
    new_labels: np.ndarray,
    known: np.ndarray,
    new: np.ndarray,
    rng: np.random.Generator,
) -> Percentiles:
    """Label-conditional mid-rank percentiles of new rows among incumbents of their class.

    Args:
        known_losses, new_losses: Calibrated loss under the model of the incumbents; of an incumbent without itself.
        known_labels, new_labels: Classes.
        known, new: Unit vectors, shape (rows, columns): likeness is their product.
        rng: Draws which incumbents stand for siblings.

    Source:
        Vovk, Gammerman, Shafer 2005, Algorithmic learning in a random world, section 4.5 (conditional conformal
        percentiles). Left out: exchangeability of the nearest-neighbour statistics holds by approximation only.
    """
    even = [np.full(len(new), 0.5) for _ in range(3)]
    out = Percentiles(even[0], even[1], even[2], new_labels, np.full(len(new), float(len(known))))
    for label in np.unique(new_labels):
        mine = np.flatnonzero(new_labels == label)
        base = np.flatnonzero(known_labels == label)
        if len(base) < CLASS_ROWS_MIN:
            base = np.arange(len(known))
        out.base[mine] = len(base)
        out.loss[mine] = _midrank(known_losses[base], new_losses[mine])
        out.likeness[mine] = _midrank(_nearest(known[base]), (new[mine] @ known[base].T).max(1))
        drawn = rng.permutation(base)
        siblings = min(len(mine), len(base) // 2)
        if siblings > 1 and len(mine) > 1:
            some, rest = known[drawn[:siblings]], known[drawn[siblings:]]
            usual = _nearest(some) - (some @ rest.T).max(1)
            others = known[rng.permutation(base)[: len(rest)]]
            out.siblings[mine] = _midrank(usual, _nearest(new[mine]) - (new[mine] @ others.T).max(1))
    return out


def of_block(found: Percentiles, block: np.ndarray) -> Typicality:
    """The three z of the rows at these places.

        z = (mean u - 1/2) / sqrt((1/m + sum_c (m_c/m)^2 / n_c) / 12)

    m_c of the m rows are of class c, and were compared with n_c incumbents: both samples are uneven by chance.
    """
    _labels, first, counts = np.unique(found.labels[block], return_index=True, return_counts=True)
    variance = (1 / len(block) + float(((counts / len(block)) ** 2 / found.base[block][first]).sum())) / 12
    return Typicality(*(float((each[block].mean() - 0.5) / np.sqrt(variance)) for each in found[:3]))


def unit(rows: np.ndarray) -> np.ndarray:
    """Each row at length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _midrank(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    ordered = np.sort(base)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(base))


def _nearest(rows: np.ndarray) -> np.ndarray:
    """Likeness of each row to the nearest other one."""
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -2.0)
    return likeness.max(1)
