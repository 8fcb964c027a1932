"""What people send in, honest and not, made of scikit-learn's digits: for the tests and the bench of noise."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from attribution import noise
from attribution.engines import linear

SETTINGS = {"l2": 1.0, "standardise": False}


def digits(
    kind: str, seed: int, *, incumbents: int, validation: int, entrants: int, classes: int = 10, called: int = 120
) -> tuple[noise.Task, np.ndarray]:
    """A task whose new rows are of one kind, and the score of each row summed over calls of the trained model.

    kind: "honest" (real, unseen), "one class" (real, of one class), "garbage" (random pixels and labels), "shuffled"
    (real pixels lightly moved, random labels), "pseudo" (heavily moved, labelled by the model of the incumbents),
    "augmented" (heavily moved, their own labels).
    """
    rng = np.random.default_rng(seed)
    data = load_digits()
    chosen = rng.permutation(np.flatnonzero(data.target < classes))
    X, y = data.data[chosen] / 16.0, data.target[chosen]
    old = slice(0, incumbents)
    judges = slice(incumbents, incumbents + validation)
    asked = slice(judges.stop, judges.stop + called)
    new_X, new_y = _entrants(kind, rng, X[old], y[old], X[asked.stop :], y[asked.stop :], entrants, classes)
    taught, labels = np.vstack([X[old], new_X]), np.concatenate([y[old], new_y])
    model = linear.fit(taught, labels, np.ones(len(taught)), SETTINGS)
    served = [linear.answer(model, one).outputs["label"] for one in X[asked]]
    scores = linear.midpoint_scores(model, X[asked], served)
    claims = (scores / np.abs(scores).sum(1, keepdims=True)).sum(0)
    blocks = max(1, round(len(new_y) / noise.BLOCK_ROWS))
    task = noise.Task(
        rows=np.column_stack([np.vstack([taught, X[judges]]), np.ones(len(taught) + validation)]),
        labels=np.concatenate([labels, y[judges]]),
        block=np.concatenate(
            [
                np.full(incumbents, noise.Task.INCUMBENT),
                np.arange(len(new_y)) % blocks,
                np.full(validation, noise.Task.VALIDATION),
            ]
        ),
        claims=np.concatenate([claims, np.zeros(validation)]),
        settings=model.settings,
    )
    return task, claims


def _entrants(kind, rng, old_X, old_y, unseen_X, unseen_y, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    source = rng.integers(0, len(old_X), count)
    width = old_X.shape[1]
    lightly, heavily = (
        np.clip(old_X[source] + spread * rng.standard_normal((count, width)), 0, 1) for spread in (0.08, 0.2)
    )
    if kind == "honest":
        return unseen_X[:count], unseen_y[:count]
    if kind == "one class":
        of_one = np.flatnonzero(unseen_y == unseen_y[0])[:count]
        return unseen_X[of_one], unseen_y[of_one]
    if kind == "garbage":
        return rng.random((count, width)), rng.integers(0, classes, count)
    if kind == "shuffled":
        return lightly, rng.integers(0, classes, count)
    if kind == "augmented":
        return heavily, old_y[source]
    if kind == "pseudo":
        model = linear.fit(old_X, old_y, np.ones(len(old_X)), SETTINGS)
        return heavily, np.array([int(linear.answer(model, one).outputs["label"]) for one in heavily])
    raise ValueError(kind)
