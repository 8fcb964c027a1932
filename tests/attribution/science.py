"""Ground truths shared by the tests of the engines."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
from scipy.stats import rankdata


def shapley_by_permutations(value: Callable[[frozenset[int]], float], players: int) -> np.ndarray:
    """The definition: the mean, over all orders, of what a player adds to those before it. Shape (players,)."""
    scores = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        before: frozenset[int] = frozenset()
        for player in order:
            after = before | {player}
            scores[player] += value(after) - value(before)
            before = after
    return scores / len(orders)


def linear_datamodeling_score(scores: np.ndarray, masks: np.ndarray, outputs: np.ndarray) -> float:
    """Mean over queries of the rank correlation between predicted and real outputs of retrained models.

    Args:
        scores: Shape (q, n). masks: which records each retraining kept, (m, n). outputs: f after it, (m, q).
    """
    predicted = rankdata(masks @ scores.T, axis=0)
    real = rankdata(outputs, axis=0)
    predicted -= predicted.mean(0)
    real -= real.mean(0)
    correlation = (predicted * real).sum(0) / np.sqrt((predicted**2).sum(0) * (real**2).sum(0))
    return float(correlation.mean())
