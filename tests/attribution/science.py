"""Ground truths shared by the tests of the engines."""

from collections.abc import Callable
from itertools import permutations

import numpy as np


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
