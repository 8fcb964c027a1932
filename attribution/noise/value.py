"""What a block of rows adds to a classifier: the drop of its temperature-calibrated loss on rows it has not seen.

Rows that agree with the model make it surer of itself, and plain held-out loss calls that useful. With one temperature
refitted per model, being surer is worth nothing; being right is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from ..engines.objective import Objective, softmax, symmetric_inverse

# Values are compared with a spread of some 1e-3 nats: these fits need not be as exact as the model that is served.
GRADIENT_MAX = 1e-3
LOG_SHARPNESS = (-2.0, 3.0)
# A null subset may not take away so much of the incumbents that another model is measured.
NULL_PART_MAX = 0.6


class Null(NamedTuple):
    """What random incumbents with the same claim are worth, in nats per judge: mean R and sample deviation s."""

    mean: float
    deviation: float
    draws: int


def sharpness(logits: np.ndarray, labels: np.ndarray) -> float:
    """The inverse temperature b at which the mean loss of these rows is the least: exp(l) with l in [-2, 3].

    Source:
        Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599 (temperature scaling).
    """
    best = minimize_scalar(
        lambda log_b: float(losses_at(np.exp(log_b), logits, labels).mean()),
        bounds=LOG_SHARPNESS,
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(best.x))


def losses_at(b: float, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross entropy of each row, in nats: log sum_k exp(b z_ik) - b z_iy. Shape (n,)."""
    scaled = b * logits
    top = scaled.max(1)
    return top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[np.arange(len(labels)), labels]


class Values:
    """V of any block, over one matrix of rows: the incumbents, whose worth is known, and the entrants.

    Judges are the validation rows, which are in no fit, and the incumbents, each scored by the model without it (the
    first step of approximate leave-one-out, with the leverages of the fit on all rows). An incumbent that is the
    nearest one to a row of the block does not judge that block: who edits a row would help that row's own judge.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        *,
        incumbent: np.ndarray,
        nearest: np.ndarray,
        judges: tuple[np.ndarray, np.ndarray],
        claims: np.ndarray,
        settings: dict[str, Any],
    ) -> None:
        """
        Args:
            rows: Design, shape (n, d), with its constant. labels: shape (n,), classes as whole numbers.
            incumbent: shape (n,), bool; the others are entrants.
            nearest: shape (n,), of an entrant the place of its nearest incumbent; -1 where there is none.
            judges: Design and labels of the validation rows.
            claims: shape (n,), what each row's calls would be paid for: its summed score, not negative.
            settings: Of the linear engine: task, classes, l2, exact_parameters_max.
        """
        self.rows, self.labels, self.incumbent, self.nearest = rows, labels, incumbent, nearest
        self.judge_rows, self.judge_labels = judges
        self.claims = claims
        self._problem = Objective(rows, labels, settings)
        everything = np.ones(len(rows))
        self._start = self._problem.solve(everything, gradient_max=GRADIENT_MAX)
        inverse = symmetric_inverse(self._problem.hessian(self._start, everything))
        self._leverage = _leverages(rows[incumbent], inverse, len(self._start))
        self._known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def fitted(self, taught: np.ndarray) -> np.ndarray:
        """Parameters fitted on the rows of a mask, shape (K, d)."""
        return self._problem.solve(taught.astype(np.float64), start=self._start, gradient_max=GRADIENT_MAX)

    def held_out_logits(self, taught: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits of the validation rows, and of every incumbent by the model without it, of the fit on a mask.

            z_i without i = z_i + L_i (I - W_i L_i)^-1 (p_i - y_i),   L_i = x_i' H^-1 x_i (K x K), W_i = diag(p) - p p'

        Source:
            Rad and Maleki 2020, arXiv:1801.10243, eq. 7. Left out: L_i is that of the fit on all rows.
        """
        key = np.packbits(taught).tobytes()
        if key not in self._known:
            theta = self.fitted(taught)
            logits = self.rows[self.incumbent] @ theta.T
            p = softmax(logits)
            slopes = p.copy()
            slopes[np.arange(len(p)), self.labels[self.incumbent]] -= 1.0
            curvature = -p[:, :, None] * p[:, None, :]
            classes = np.arange(p.shape[1])
            curvature[:, classes, classes] += p
            back = np.linalg.solve(np.eye(len(classes)) - curvature @ self._leverage, slopes[:, :, None])
            inside = taught[self.incumbent]
            logits[inside] += (self._leverage @ back)[inside, :, 0]
            self._known[key] = self.judge_rows @ theta.T, logits
        return self._known[key]

    def value(self, block: np.ndarray, *, beside: np.ndarray) -> float:
        """V: the drop of the judges' mean calibrated loss, in nats, from adding a block to the rows of `beside`."""
        without = beside & ~block
        parents = np.zeros(len(block), dtype=bool)
        parents[self.nearest[block & (self.nearest >= 0)]] = True
        judging = (self.incumbent & without & ~parents)[self.incumbent]
        labels = np.concatenate([self.judge_labels, self.labels[self.incumbent][judging]])
        before, after = (self._loss(taught, judging, labels) for taught in (without, without | block))
        return before - after

    def claim(self, block: np.ndarray) -> float:
        """Summed score of a block."""
        return float(self.claims[block].sum())

    def null(self, claim: float, *, beside: np.ndarray, rng: np.random.Generator, draws: int) -> Null:
        """The worth of random incumbents whose summed score reaches `claim`, each subset taken out of `beside`."""
        places = np.flatnonzero(self.incumbent & beside)
        values = []
        for _ in range(draws):
            drawn = rng.permutation(places)
            count = int(np.searchsorted(np.cumsum(self.claims[drawn]), claim)) + 1
            subset = np.zeros(len(self.rows), dtype=bool)
            subset[drawn[: max(1, min(count, int(NULL_PART_MAX * len(drawn))))]] = True
            values.append(self.value(subset, beside=beside))
        return Null(float(np.mean(values)), float(np.std(values, ddof=1)), draws)

    def _loss(self, taught: np.ndarray, judging: np.ndarray, labels: np.ndarray) -> float:
        judged, incumbents = self.held_out_logits(taught)
        logits = np.concatenate([judged, incumbents[judging]])
        return float(losses_at(sharpness(logits, labels), logits, labels).mean())


def z_of(value: float, null: Null) -> float:
    """z = (R - V) / (s sqrt(1 + 1/draws)): how far below equally paid incumbents a value is, in their deviations."""
    spread = null.deviation * float(np.sqrt(1 + 1 / null.draws))
    return (null.mean - value) / max(spread, 1e-12)


def _leverages(rows: np.ndarray, inverse: np.ndarray, classes: int) -> np.ndarray:
    """x_i' H^-1 x_i of each row, shape (m, K, K)."""
    blocks = inverse.reshape(classes, rows.shape[1], classes, rows.shape[1])
    out = np.empty((len(rows), classes, classes))
    for k in range(classes):
        for j in range(k + 1):
            out[:, k, j] = out[:, j, k] = ((rows @ blocks[k, :, j, :]) * rows).sum(1)
    return out
