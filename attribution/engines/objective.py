"""What the linear engine minimises: value, gradient, curvature and minimum, for any weights of the records."""

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

GRADIENT_MAX = 1e-9
NEWTON_STEPS_MAX = 100
CG_TOLERANCE = 1e-12


class Objective:
    """Gradient, curvature and minimum of J for one matrix X (m, d) and one y; the weights are the free variable."""

    def __init__(self, X: np.ndarray, y: np.ndarray, settings: dict[str, Any]) -> None:
        self.X, self.y = X, y
        self.classification = settings["task"] == "classification"
        self.classes = len(settings["classes"]) if self.classification else 1
        self.exact = self.classes * X.shape[1] <= settings["exact_parameters_max"]
        self.penalty = np.full(X.shape[1], float(settings["l2"]))
        if not self.classification:
            self.penalty[-1] = 0.0

    def solve(
        self,
        w: np.ndarray,
        *,
        start: np.ndarray | None = None,
        gradient_max: float = GRADIENT_MAX,
        cg_tolerance: float = CG_TOLERANCE,
    ) -> np.ndarray:
        """argmin J(.; w), shape (K, d). Raises ArithmeticError if the gradient does not get small."""
        theta = np.zeros((self.classes, self.X.shape[1])) if start is None else start.copy()
        value = self._objective(theta, w)
        # A sum over very many rows, or of large targets, cannot be known to 1e-9: its rounding grows with them.
        largest_target = 1.0 if self.classification else float(np.abs(self.y).max())
        gradient_max *= max(1.0, 1e-4 * len(w), largest_target)
        for _ in range(NEWTON_STEPS_MAX):
            gradient = (self.residuals(theta) * w[:, None]).T @ self.X + self.penalty * theta
            if np.abs(gradient).max() < gradient_max:
                return theta
            step = self.solve_hessian(theta, w, gradient[None], cg_tolerance=cg_tolerance)[0]
            length = 1.0
            while True:
                tried = theta - length * step
                tried_value = self._objective(tried, w)
                if tried_value <= value + 1e-12 * abs(value) or length < 1e-6:
                    break
                length *= 0.5
            theta, value = tried, tried_value
        raise ArithmeticError("The fit did not converge; a larger l2 helps.")

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """p - onehot(y), or value - y: shape (m, K). Its outer product with a row of X is that row's loss gradient."""
        if not self.classification:
            return self.X @ theta.T - self.y[:, None]
        residuals = softmax(self.X @ theta.T)
        residuals[np.arange(len(self.y)), self.y] -= 1.0
        return residuals

    def curvature(self, theta: np.ndarray) -> np.ndarray:
        """Second derivative of each row's loss by its logits: shape (m, K, K)."""
        if not self.classification:
            return np.ones((len(self.X), 1, 1))
        p = softmax(self.X @ theta.T)
        out = -p[:, :, None] * p[:, None, :]
        diagonal = np.arange(self.classes)
        out[:, diagonal, diagonal] += p
        return out

    def hessian(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Second derivative of J, shape (K d, K d)."""
        K, d = theta.shape
        curvature = self.curvature(theta)
        blocks = np.empty((K, d, K, d))
        for k in range(K):
            for j in range(k + 1):
                block = (self.X * (w * curvature[:, k, j])[:, None]).T @ self.X
                blocks[k, :, j, :] = block
                blocks[j, :, k, :] = block.T
        H = blocks.reshape(K * d, K * d)
        H.flat[:: K * d + 1] += np.tile(self.penalty, K)
        return H

    def solve_hessian(
        self, theta: np.ndarray, w: np.ndarray, right: np.ndarray, *, cg_tolerance: float = CG_TOLERANCE
    ) -> np.ndarray:
        """H(theta, w)^-1 applied to each of `right`, shape (q, K, d)."""
        if self.exact:
            factor = cho_factor(self.hessian(theta, w), lower=True, overwrite_a=True)
            return cho_solve(factor, right.reshape(len(right), -1).T).T.reshape(right.shape)
        return np.stack([self._conjugate_gradients(theta, w, one, cg_tolerance) for one in right])

    def _conjugate_gradients(self, theta: np.ndarray, w: np.ndarray, right: np.ndarray, tolerance: float) -> np.ndarray:
        p = softmax(self.X @ theta.T) if self.classification else None
        solution = np.zeros_like(right)
        rest = right.copy()
        direction = rest.copy()
        squared = float((rest * rest).sum())
        goal = squared * tolerance**2
        for _ in range(10 * right.size):
            if squared <= goal:
                break
            image = self._hessian_product(p, w, direction)
            length = squared / float((direction * image).sum())
            solution += length * direction
            rest -= length * image
            before, squared = squared, float((rest * rest).sum())
            direction = rest + (squared / before) * direction
        return solution

    def _hessian_product(self, p: np.ndarray | None, w: np.ndarray, direction: np.ndarray) -> np.ndarray:
        moved = self.X @ direction.T
        if p is not None:
            moved = p * (moved - (p * moved).sum(1, keepdims=True))
        return (moved * w[:, None]).T @ self.X + self.penalty * direction

    def _objective(self, theta: np.ndarray, w: np.ndarray) -> float:
        logits = self.X @ theta.T
        if self.classification:
            top = logits.max(1)
            loss = top + np.log(np.exp(logits - top[:, None]).sum(1)) - logits[np.arange(len(self.y)), self.y]
        else:
            loss = 0.5 * (logits[:, 0] - self.y) ** 2
        return float((w * loss).sum() + 0.5 * (self.penalty * theta * theta).sum())


def outputs_at(task: str, logits: np.ndarray, served: np.ndarray) -> np.ndarray:
    """f for each row of logits (q, K): the margin log p / (1 - p) of the class that row asks for, or the value."""
    if task == "regression":
        return logits[:, 0]
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, served] = -np.inf
    top = others.max(1)
    return logits[rows, served] - (top + np.log(np.exp(others - top[:, None]).sum(1)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes, the second axis, without overflow; writes into a new array."""
    out = logits - logits.max(1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(1, keepdims=True)
    return out


def symmetric_inverse(matrix: np.ndarray) -> np.ndarray:
    factor, _ = cho_factor(matrix, lower=True, overwrite_a=True)
    inverse, info = dpotri(factor, lower=1, overwrite_c=1)
    if info:
        raise ArithmeticError("The curvature of the fit cannot be inverted.")
    lower = np.tril(inverse)
    return lower + np.tril(inverse, -1).T
