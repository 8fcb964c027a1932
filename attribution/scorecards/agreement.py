"""Do the scores of records predict what a model trained without them answers? Subsets, and the correlation with its error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

GROUPS = 10  # of retrainings, each left out once for the standard error


class Unmeasurable(ValueError):
    """Nothing to correlate. `code` says why."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class Agreement(NamedTuple):
    """A mean correlation.

    Args:
        value: Between -1 and 1.
        standard_error: Over questions and over retrainings, both.
        retrainings: Models that were really trained.
        questions: Those whose answer some retraining changed; the others say nothing.
    """

    value: float
    standard_error: float
    retrainings: int
    questions: int


def subsets(seed: int, *, rows: int, share: float, count: int) -> np.ndarray:
    """Which rows each of `count` retrainings keeps: `share` of them, drawn evenly. Booleans, shape (count, rows)."""
    random = np.random.default_rng(seed)
    kept = int(rows * share)
    return np.array([random.permutation(rows) < kept for _ in range(count)])


def contributor_subsets(seed: int, owners: np.ndarray, *, count: int) -> np.ndarray:
    """The same by whole contributors: half of them each time.

    Args:
        owners: Shape (rows,): whose each row is.
    """
    people, index = np.unique(owners, return_inverse=True)
    return subsets(seed, rows=len(people), share=0.5, count=count)[:, index]


def every_contributor_subset(owners: np.ndarray) -> np.ndarray:
    """All subsets of whole contributors but none and all, shape (2^c - 2, rows). For few contributors."""
    people, index = np.unique(owners, return_inverse=True)
    numbers = np.arange(1, 2 ** len(people) - 1)
    return ((numbers[:, None] >> np.arange(len(people))) & 1).astype(bool)[:, index]


def linear_datamodeling_score(scores: np.ndarray, masks: np.ndarray, outputs: np.ndarray) -> Agreement:
    """LDS: Spearman's correlation between the summed scores of a subset and the output of a model trained on it.

    Args:
        scores: Shape (questions, rows). masks: which rows each retraining kept, shape (retrainings, rows). outputs: what
            each of these models answered, shape (retrainings, questions).

    Returns:
        The mean over questions. Its standard error adds the variance over questions to that of the jackknife over
        `GROUPS` groups of retrainings: all questions share the retrainings, so the first alone would be too small.

    Raises:
        Unmeasurable: no retraining changed an answer.

    Source:
        Park et al. 2023, TRAK, arXiv:2303.14186, section 2 (after Ilyas et al. 2022, arXiv:2202.00622). Theirs says nothing
        of outputs that never change, which are left out here; where only the scores never change, the correlation is 0.
    """
    changed = np.ptp(outputs, axis=0) > 0
    if len(outputs) < 3 or not changed.any():
        raise Unmeasurable("nothing_changes")
    predicted, real = masks @ scores[changed].T, outputs[:, changed]
    by_question = _rank_correlations(predicted, real)
    groups = np.arange(len(outputs)) % min(GROUPS, len(outputs))
    left = [_rank_correlations(predicted[groups != group], real[groups != group]).mean() for group in np.unique(groups)]
    spread = len(left) - 1
    variance = spread * float(np.var(left))
    if len(by_question) > 1:
        variance += float(by_question.var(ddof=1)) / len(by_question)
    return Agreement(float(by_question.mean()), float(np.sqrt(variance)), len(outputs), len(by_question))


def leave_one_out(scores: np.ndarray, without: np.ndarray, full: np.ndarray) -> Agreement:
    """Pearson's correlation between scores and what the removal of single records really takes from an answer.

    Args:
        scores: Of the removed records, shape (questions, removed). without: output after each removal, shape (removed,
            questions). full: output with all of them, shape (questions,).

    Returns:
        Over all pairs of question and record; standard error by the jackknife over groups of records.

    Raises:
        Unmeasurable: no removal changed an answer.
    """
    real = full[:, None] - without.T
    if real.shape[1] < 3 or not np.ptp(real) > 0:
        raise Unmeasurable("nothing_changes")
    groups = np.arange(real.shape[1]) % min(GROUPS, real.shape[1])
    left = [_pearson(scores[:, groups != group], real[:, groups != group]) for group in np.unique(groups)]
    error = float(np.sqrt((len(left) - 1) * np.var(left)))
    changed = int((np.ptp(real, axis=1) > 0).sum())
    return Agreement(_pearson(scores, real), error, real.shape[1], changed)


def _rank_correlations(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Of each column; 0 where one of the two never changes."""
    predicted, real = rankdata(predicted, axis=0), rankdata(real, axis=0)
    predicted -= predicted.mean(0)
    real -= real.mean(0)
    size = np.sqrt((predicted**2).sum(0) * (real**2).sum(0))
    return np.divide((predicted * real).sum(0), size, out=np.zeros(len(size)), where=size > 0)


def _pearson(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel() - one.mean(), other.ravel() - other.mean()
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size else 0.0
