"""Linear engine: multinomial logistic or ridge regression, and the midpoint influence of each record on an answer.

Objective, with theta of shape (K, d) and one row of X per leader (standardised features and a constant 1):

    J(theta; w) = sum_i w_i l_i(theta) + l2/2 |theta|^2       l_i = cross entropy, or half the squared error

Everything is float64, without randomness; Newton runs until the gradient is below 1e-9. The intercept is penalised in
classification (softmax needs it to have one solution) and not in regression. `penalty.choose_l2` finds l2 on held-out
rows, `audit.leave_one_out` says what the removal of a single record would change.
"""

from typing import Any

import numpy as np

from .answers import Answer, pack_vector, unpack_vector
from .artifact import Artifact
from .design import (
    checked_matrix,
    checked_vector,
    design_matrix,
    leaders_of,
    one_blas_thread,
    scatter,
    standardisation,
)
from .objective import CG_TOLERANCE, GRADIENT_MAX, Objective, outputs_at, softmax, symmetric_inverse

NAME = "linear"
METHOD = "midpoint influence/1"
# Above this many parameters the inverse is not stored (8 P^2 bytes: 800 MB here); conjugate gradients take its place.
# Why here: docs/adr/0009-conjugate-gradients.md.
EXACT_PARAMETERS_MAX = 10_000
# Without the inverse each judge costs a solution of its own: a tenth of a second to many seconds.
JUDGES_MAX_WITHOUT_INVERSE = 40
QUERIES_PER_BLOCK = 128
L2_DEFAULT = 1.0


def fit(features: np.ndarray, targets: Any, weights: np.ndarray, settings: dict[str, Any]) -> Artifact:
    """Train, train once more at half weights, and keep what attribution needs.

    Args:
        features: Shape (n, d), one row per record, in the record order of the version.
        targets: n labels (stored as text) or n numbers.
        weights: Shape (n,); 0 for a follower, which then has no influence on anything, 1 for a leader.
        settings: `task` "classification" or "regression"; `l2` > 0 (default 1); `standardise` (default true);
            `exact_parameters_max` (default 10,000).

    Returns:
        An artifact that answers and attributes. Its arrays hold leaders only, so adding followers leaves every one
        of them as it was, except `record_index`.

    Raises:
        ValueError: shapes disagree, a setting is unknown or out of range, fewer than two classes.
        ArithmeticError: the fit did not converge.
    """
    settings = _checked_settings(settings)
    features = checked_matrix(features)
    if len(targets) != len(features):
        raise ValueError(f"{len(features)} rows of features, but {len(targets)} targets.")
    settings["records"] = len(features)
    record_index, w = leaders_of(weights, len(features))
    leaders = features[record_index]
    with one_blas_thread():
        mean, scale = standardisation(leaders, w, wanted=settings["standardise"])
        X = design_matrix(leaders, mean, scale)
        if settings["task"] == "classification":
            labels = [str(targets[i]) for i in record_index]
            settings["classes"] = sorted(set(labels))
            if len(settings["classes"]) < 2:
                raise ValueError("Classification needs records of at least two classes.")
            position = {label: k for k, label in enumerate(settings["classes"])}
            y = np.array([position[label] for label in labels], dtype=np.int64)
        else:
            y = np.array([float(targets[i]) for i in record_index])
            if not np.isfinite(y).all():
                raise ValueError("Targets must be finite numbers.")
        arrays = {
            "X": X,
            "targets": y,
            "weights": w,
            "record_index": record_index,
            "mean": mean,
            "scale": scale,
        }
        problem = Objective(X, y, settings)
        arrays["theta"] = problem.solve(w)
        arrays["theta_half"] = problem.solve(0.5 * w, start=arrays["theta"])
        arrays["residuals_half"] = problem.residuals(arrays["theta_half"])
        if arrays["theta"].size <= settings["exact_parameters_max"]:
            arrays["inverse_half"] = symmetric_inverse(problem.hessian(arrays["theta_half"], 0.5 * w))
    return Artifact(engine=NAME, settings=settings, arrays=arrays)


def answer(artifact: Artifact, inputs: np.ndarray) -> Answer:
    """Predict for one row of features, shape (d,): `{"label", "probabilities"}` or `{"value"}`.

    Raises:
        ValueError: wrong number of features, or a value that is not finite.
    """
    a = artifact.arrays
    vector = checked_vector(inputs, len(a["mean"]))
    logits = a["theta"] @ design_matrix(vector[None], a["mean"], a["scale"])[0]
    context = {"features": pack_vector(vector)}
    if artifact.settings["task"] == "regression":
        return Answer(outputs={"value": float(logits[0])}, context=context)
    classes = artifact.settings["classes"]
    probabilities = softmax(logits[None])[0]
    served = int(np.argmax(logits))
    return Answer(
        outputs={
            "label": classes[served],
            "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
        },
        context={**context, "served": served},
    )


def attribute(artifact: Artifact, answer: Answer) -> np.ndarray:
    """Midpoint influence of each record on one answer.

        tau_i = -grad f' H(w/2)^-1 grad l_i,     all three at the parameters fitted with half of every weight

    f is the margin log p / (1 - p) of the served class, or the value of a regression. At half weights the linear
    estimate of "this record in or out" looks equally far in both directions, so it predicts retraining on random
    halves better than influence at full weights does. Left out: the effect of a record on mean and scale.

    Returns:
        Shape (n,) in the record order of the fit: change of f per unit weight. Positive supported the answer.
        Followers have exactly 0.
    """
    a = artifact.arrays
    vector = checked_vector(unpack_vector(answer.context["features"]), len(a["mean"]))
    served = answer.context.get("served", 0)
    if not 0 <= served < len(a["theta"]):
        raise ValueError("The served class is not one of the model's.")
    x = design_matrix(vector[None], a["mean"], a["scale"])
    return _scores(artifact, _output_gradients(artifact, x, np.array([served])), x)[0]


def midpoint_scores(artifact: Artifact, features: np.ndarray, labels: Any = None) -> np.ndarray:
    """`attribute` for many queries: shape (q, n). `labels`: the class whose margin is meant, for each query."""
    x, served = queries(artifact, features, labels)
    with one_blas_thread():
        return _scores(artifact, _output_gradients(artifact, x, served), x)


def outputs_of(
    artifact: Artifact, features: np.ndarray, labels: Any = None, *, theta: np.ndarray | None = None
) -> np.ndarray:
    """f of each query, shape (q,): margin of the given class, or value; with other parameters if they are given."""
    x, served = queries(artifact, features, labels)
    theta = artifact.arrays["theta"] if theta is None else theta
    return outputs_at(artifact.settings["task"], x @ theta.T, served)


def retrain(
    artifact: Artifact,
    keep: np.ndarray,
    *,
    gradient_max: float = GRADIENT_MAX,
    cg_tolerance: float = CG_TOLERANCE,
) -> np.ndarray:
    """Really train again with each record's weight multiplied by `keep`, shape (n,): the ground truth of score cards.

    Mean and scale stay as they are, so that what is compared is the fit alone. `gradient_max`, `cg_tolerance`: when the
    search ends, and how exactly each of its steps is solved where there is no inverse.

    Returns:
        theta, shape (K, d + 1), for `outputs_of`.
    """
    a = artifact.arrays
    w = a["weights"] * np.asarray(keep, dtype=np.float64)[a["record_index"]]
    with one_blas_thread():
        problem = Objective(a["X"], a["targets"], artifact.settings)
        return problem.solve(w, start=a["theta"], gradient_max=gradient_max, cg_tolerance=cg_tolerance)


def inverse_of(artifact: Artifact) -> np.ndarray:
    """The inverse curvature at half weights, as `fit` stores it below `exact_parameters_max`. Shape (P, P)."""
    a = artifact.arrays
    problem = Objective(a["X"], a["targets"], artifact.settings)
    return symmetric_inverse(problem.hessian(a["theta_half"], 0.5 * a["weights"]))


def queries(artifact: Artifact, features: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the design, shape (q, d + 1), and which class's margin each asks for, shape (q,).

    Raises:
        ValueError: wrong number of features, or a label is missing or unknown.
    """
    a = artifact.arrays
    features = checked_matrix(features)
    if features.shape[1] != len(a["mean"]):
        raise ValueError(f"Expected {len(a['mean'])} features, got {features.shape[1]}.")
    if artifact.settings["task"] == "regression":
        served = np.zeros(len(features), dtype=np.int64)
    else:
        if labels is None or len(labels) != len(features):
            raise ValueError("Each query needs the class whose margin is meant.")
        position = {label: k for k, label in enumerate(artifact.settings["classes"])}
        try:
            served = np.array([position[str(label)] for label in labels], dtype=np.int64)
        except KeyError as error:
            raise ValueError(f"The model does not know the class {error}.") from error
    return design_matrix(features, a["mean"], a["scale"]), served


def validation_scores(artifact: Artifact, features: np.ndarray, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """How much each record helps on held-out rows: pays training and access revenue, and gates records.

    The output f is the margin of the true class, or minus half the squared error of a regression. Rows of a class
    the model does not know say nothing about it and are left out. Without a stored inverse the first
    JUDGES_MAX_WITHOUT_INVERSE judge alone: fewer judges, a larger standard error, and so fewer gated records.

    Returns:
        Mean influence per record, shape (n,), and its standard error over the validation rows, shape (n,).

    Raises:
        ValueError: fewer than two usable validation rows.
    """
    a = artifact.arrays
    features = checked_matrix(features)
    if len(targets) != len(features):
        raise ValueError(f"{len(features)} rows of features, but {len(targets)} targets.")
    if artifact.settings["task"] == "classification":
        known = set(artifact.settings["classes"])
        rows = [i for i, target in enumerate(targets) if str(target) in known]
        x, served = queries(artifact, features[rows], [str(targets[i]) for i in rows])
        error = np.ones(len(rows))
    else:
        x, served = queries(artifact, features, None)
        error = np.array([float(target) for target in targets]) - outputs_at(
            "regression", x @ a["theta_half"].T, served
        )
    if len(x) < 2:
        raise ValueError("At least two validation rows are needed.")
    if "inverse_half" not in a:
        x, served, error = (each[:JUDGES_MAX_WITHOUT_INVERSE] for each in (x, served, error))
    total = np.zeros(artifact.settings["records"])
    squares = np.zeros_like(total)
    with one_blas_thread():
        for start in range(0, len(x), QUERIES_PER_BLOCK):
            block = slice(start, start + QUERIES_PER_BLOCK)
            gradients = _output_gradients(artifact, x[block], served[block]) * error[block, None]
            scores = _scores(artifact, gradients, x[block])
            total += scores.sum(0)
            squares += (scores * scores).sum(0)
    mean = total / len(x)
    variance = np.maximum(squares - len(x) * mean * mean, 0.0) / (len(x) - 1)
    return mean, np.sqrt(variance / len(x))


def _checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    known = {
        "task": "classification",
        "l2": L2_DEFAULT,
        "standardise": True,
        "exact_parameters_max": EXACT_PARAMETERS_MAX,
    }
    if unknown := set(settings) - set(known):
        raise ValueError(f"Unknown settings: {', '.join(sorted(unknown))}.")
    merged = {**known, **settings, "method": METHOD}
    if merged["task"] not in ("classification", "regression"):
        raise ValueError("The task is classification or regression.")
    if not 0 < float(merged["l2"]) < float("inf"):
        raise ValueError("l2 must be above zero.")
    return merged


def _output_gradients(artifact: Artifact, x: np.ndarray, served: np.ndarray) -> np.ndarray:
    """Derivative of f by the logits at the midpoint, shape (q, K)."""
    if artifact.settings["task"] == "regression":
        return np.ones((len(x), 1))
    rows = np.arange(len(x))
    logits = x @ artifact.arrays["theta_half"].T
    logits[rows, served] = -np.inf
    gradients = -softmax(logits)
    gradients[rows, served] = 1.0
    return gradients


def _scores(artifact: Artifact, gradients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """-(gradient x row)' H(w/2)^-1 grad l_i for each query and record: shape (q, n)."""
    a = artifact.arrays
    X, residuals = a["X"], a["residuals_half"]
    asked, classes = gradients.shape
    right = gradients[:, :, None] * x[:, None, :]
    if "inverse_half" in a:
        moved = right.reshape(asked, -1) @ a["inverse_half"]
        moved = moved.reshape(right.shape)
    else:
        problem = Objective(X, a["targets"], artifact.settings)
        moved = problem.solve_hessian(a["theta_half"], 0.5 * a["weights"], right)
    if asked == 1:
        scores = -np.einsum("mk,mk->m", X @ moved[0].T, residuals)[None]
    else:
        scores = np.zeros((asked, len(X)))
        for k in range(classes):
            scores -= (moved[:, k, :] @ X.T) * residuals[:, k]
    return scatter(scores, a["record_index"], artifact.settings["records"])
