"""From the caller's features to the matrix an engine computes with. Shared by linear and neighbours.

Followers (weight 0) are taken out here, before any sum is formed: a copy that is added later then cannot change a
single bit of the leaders' numbers, not even by the order in which a matrix product adds them up.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

try:
    from threadpoolctl import threadpool_limits
except ImportError:  # it comes with scikit-learn; without it OPENBLAS_NUM_THREADS=1 does the same
    threadpool_limits = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run matrix products on one thread: with several, the order of additions, and so the last bit, changes."""
    with threadpool_limits(1, user_api="blas") if threadpool_limits else nullcontext():
        yield


def checked_matrix(features: Any) -> np.ndarray:
    """Features as a contiguous float64 matrix (rows, columns).

    Raises:
        ValueError: not a matrix, or a value is not finite.
    """
    matrix = np.ascontiguousarray(features, dtype=np.float64)
    if matrix.ndim != 2:
        raise ValueError(f"Features must be a matrix, not an array of {matrix.ndim} dimensions.")
    if not np.isfinite(matrix).all():
        raise ValueError("Features must be finite numbers.")
    return matrix


def checked_vector(features: Any, dimensions: int) -> np.ndarray:
    """One row of features, float64, of the expected length.

    Raises:
        ValueError: another length, or a value is not finite.
    """
    vector = np.asarray(features, dtype=np.float64)
    if vector.shape != (dimensions,):
        raise ValueError(f"Expected {dimensions} features, got an array of shape {vector.shape}.")
    if not np.isfinite(vector).all():
        raise ValueError("Features must be finite numbers.")
    return vector


def leaders_of(weights: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the records with weight > 0, shape (m,) int64, and their weights, shape (m,) float64.

    Raises:
        ValueError: wrong length, a negative weight, or no leader at all.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"Expected {rows} weights, got an array of shape {weights.shape}.")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("Weights must be finite and not negative.")
    index = np.flatnonzero(weights > 0).astype(np.int64)
    if not len(index):
        raise ValueError("At least one record must have a weight above zero.")
    return index, weights[index]


def standardisation(leaders: np.ndarray, weights: np.ndarray, *, wanted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each column over the leaders; (0, 1) where it is not wanted.

    A constant column gets scale 1. The scores hold these numbers fixed: they are part of the model, not of the loss.
    """
    columns = leaders.shape[1]
    if not wanted:
        return np.zeros(columns), np.ones(columns)
    share = weights / weights.sum()
    mean = share @ leaders
    spread = np.sqrt(share @ (leaders - mean) ** 2)
    # Rounding gives a constant column a spread of some 1e-16 of its value; dividing by that would make noise a feature.
    return mean, np.where(spread > 1e-9 * np.maximum(1.0, np.abs(mean)), spread, 1.0)


def design_matrix(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    out = np.ones((len(features), features.shape[1] + 1))
    out[:, :-1] = (features - mean) / scale
    return out


def scatter(scores: np.ndarray, record_index: np.ndarray, records: int) -> np.ndarray:
    """Scores of the leaders (..., m) in the record order of the fit (..., n); followers get exactly 0."""
    out = np.zeros((*scores.shape[:-1], records))
    out[..., record_index] = scores
    return out
