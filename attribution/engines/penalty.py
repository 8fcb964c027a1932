"""How strong the penalty of a linear model should be: judged on held-out rows, before it is trained."""

from typing import Any

import numpy as np

from .design import checked_matrix, design_matrix, leaders_of, one_blas_thread, standardisation
from .linear import L2_DEFAULT
from .objective import Objective, softmax

# From the strongest to the weakest. No weaker one: held-out loss of clean data may ask for it, but then influence no
# longer predicts retraining (rank correlation on digits: .98 at 1, .93 at .3, .88 at .1). In units of one record's
# loss, so it need not grow with their number; features are standardised, or pixels between 0 and 1.
GRID = (100.0, 30.0, 10.0, 3.0, 1.0)
# The loss is compared by its standard error, some per cent: the fits of the search need not be as exact as the model.
GRADIENT_MAX = 1e-3
CG_TOLERANCE = 0.1


def choose_l2(features: np.ndarray, targets: Any, weights: np.ndarray, folds: np.ndarray, settings: dict) -> float:
    """The strongest penalty of `GRID` whose held-out loss lies within one standard error of the least.

    Each fold's leaders judge fits on the leaders of the others, each fit starting from the one with the next stronger
    penalty; no attribution is computed. The loss is the cross entropy of the probabilities that would be served, or
    the squared error. Ties, and what the rows cannot tell apart, go to the stronger penalty: it is what makes
    influence faithful.

    Args:
        features, targets, weights: As for `linear.fit`; followers (weight 0) neither teach nor judge.
        folds: Number of each record's fold, shape (n,).
        settings: `task` and `standardise` as for `linear.fit`.

    Returns:
        A penalty of `GRID`; the engine's default where no fold can be judged.

    Raises:
        ArithmeticError: a fit did not converge.

    Source:
        Breiman, Friedman, Olshen, Stone 1984, Classification and Regression Trees, section 3.4.3 (the rule of one
        standard error). Here the standard error is over rows instead of folds.
    """
    features = checked_matrix(features)
    index, w = leaders_of(weights, len(features))
    targets = np.array([(float if settings["task"] == "regression" else str)(targets[i]) for i in index])
    with one_blas_thread():
        judged = [
            _held_out_losses(features[index], targets, w, folds[index] == fold, settings)
            for fold in np.unique(folds[index])
        ]
    losses = np.concatenate(judged, axis=1)
    if losses.shape[1] < 2:
        return L2_DEFAULT
    mean = losses.mean(1)
    best = int(np.argmin(mean))
    enough = mean[best] + losses[best].std(ddof=1) / np.sqrt(losses.shape[1])
    return max(l2 for l2, loss in zip(GRID, mean, strict=True) if loss <= enough)


def _held_out_losses(
    features: np.ndarray, targets: np.ndarray, w: np.ndarray, held_out: np.ndarray, settings: dict
) -> np.ndarray:
    """Loss of each held-out row at each penalty, shape (len(GRID), rows); no rows where there is nothing to judge."""
    taught = ~held_out
    is_classes = settings["task"] == "classification"
    classes = sorted(set(targets[taught].tolist())) if is_classes else []
    if is_classes:
        held_out = held_out & np.isin(targets, classes)
    if not held_out.any() or not taught.any() or (is_classes and len(classes) < 2):
        return np.empty((len(GRID), 0))
    mean, scale = standardisation(features[taught], w[taught], wanted=settings["standardise"])
    y = np.searchsorted(classes, targets) if is_classes else targets
    known, asked = (design_matrix(features[rows], mean, scale) for rows in (taught, held_out))
    # Ridge has a closed form; for many classes and columns conjugate gradients are some forty times faster.
    exact = {} if is_classes else {"exact_parameters_max": features.shape[1] + 1}
    losses, theta = [], None
    for l2 in GRID:
        problem = Objective(
            known, y[taught], {**settings, "classes": classes, "exact_parameters_max": 0, **exact, "l2": l2}
        )
        theta = problem.solve(w[taught], start=theta, gradient_max=GRADIENT_MAX, cg_tolerance=CG_TOLERANCE)
        logits = asked @ theta.T
        if is_classes:
            p = softmax(logits)[np.arange(len(asked)), y[held_out]]
            losses.append(-np.log(np.maximum(p, np.finfo(np.float64).tiny)))
        else:
            losses.append((logits[:, 0] - y[held_out]) ** 2)
    return np.array(losses)
