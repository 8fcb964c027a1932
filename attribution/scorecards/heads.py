"""A linear or neighbours model for measuring: fitted on four fifths of the rows, asked the others, really trained again.

The served model has seen all rows, so none of its questions would be new to it. What is measured is the method, on a
model that differs from the served one in a fifth of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attribution.engines import Artifact, linear, neighbours
from attribution.engines.design import one_blas_thread

from . import copies, noise

ROWS_MAX = 2_000  # more are sampled: what is measured does not get truer with them, and the time grows
PARAMETERS_MAX = 10_000  # above: fewer rows and questions, because each score is a solution of its own
ROWS_MAX_OF_LARGE, QUESTIONS_MAX_OF_LARGE = 1_000, 20
# A vote of a few neighbours often stays as it is, and such a question says nothing: ask more of them.
QUESTIONS_MAX = {"linear": 40, "neighbours": 400}
HELD_OUT = 0.2
# Of a retraining: margins within 1e-6 of the exact ones, in a quarter of the time.
GRADIENT_MAX, CG_TOLERANCE = 1e-7, 0.05
INVERSE_MAX = 4_000
COPIED_ROWS_MAX = 300
COPIED_QUESTIONS = 20


@dataclass(frozen=True, eq=False)
class Rows:
    """What a model was fitted on, leaders only, as its features.

    Args:
        owners: Whose each row is.
        of: How many leaders the model has; more than rows where they were sampled.
    """

    engine: str
    features: np.ndarray
    labels: list[Any]
    owners: np.ndarray
    settings: dict[str, Any]
    of: int

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Trial:
    """A model of the same kind and settings on the taught rows, and the rows that ask.

    Args:
        scores: Of each taught row for each question, shape (questions, taught).
        asked: The class whose margin is meant, as the model itself answers; None for numbers.
        full: The output with all taught rows, shape (questions,).
    """

    model: Artifact
    questions: np.ndarray
    asked: list[str] | None
    owners: np.ndarray
    scores: np.ndarray
    full: np.ndarray


def rows_of(artifact: Artifact, owners: np.ndarray, *, seed: int) -> Rows:
    """The rows of an artifact's leaders, or a sample of them; with an l2 that is as strong per row as the model's.

    Args:
        owners: Shape (records,), in the order of the fit.
    """
    a, known = artifact.arrays, artifact.settings
    # The last column of a linear design is its constant.
    features = a["X"][:, :-1] if artifact.engine == linear.NAME else a["X"]
    large = artifact.engine == linear.NAME and a["theta"].size > PARAMETERS_MAX
    most = ROWS_MAX_OF_LARGE if large else ROWS_MAX
    picked = np.arange(len(features))
    if len(features) > most:
        picked = np.sort(np.random.default_rng(seed).permutation(len(features))[:most])
    settings: dict[str, Any] = {"standardise": False}
    if artifact.engine == linear.NAME:
        strength = float(known["l2"]) * len(picked) / len(features)
        settings |= {"task": known["task"], "l2": strength, "exact_parameters_max": 0}
    else:
        settings |= {"k": known["k"]}
    targets = a["targets"][picked]
    labels = [known["classes"][int(y)] for y in targets] if "classes" in known else targets.tolist()
    owners = owners[a["record_index"]][picked]
    return Rows(artifact.engine, np.array(features[picked]), labels, owners, settings, of=len(features))


def split(rows: Rows, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows that teach, and of those held out."""
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    held_out = max(2, int(len(rows) * HELD_OUT))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def trial(rows: Rows, *, seed: int) -> Trial:
    """Fit the taught rows and score them for every question."""
    taught, held_out = split(rows, seed=seed)
    model = _fit(rows, taught, [rows.labels[i] for i in taught])
    most = QUESTIONS_MAX[rows.engine]
    if rows.engine == linear.NAME and model.arrays["theta"].size > PARAMETERS_MAX:
        most = QUESTIONS_MAX_OF_LARGE
    questions = rows.features[held_out[:most]]
    if rows.engine == linear.NAME:
        asked = None
        if model.settings["task"] == "classification":
            asked = [linear.answer(model, row).outputs["label"] for row in questions]
        scores = linear.midpoint_scores(model, questions, asked)
        full = linear.outputs_of(model, questions, asked)
        # Workers keep a trial for its next parts, and none of them asks for the inverse.
        model = replace(model, arrays={name: one for name, one in model.arrays.items() if name != "inverse_half"})
    else:
        answers = [neighbours.answer(model, row) for row in questions]
        asked = [one.outputs["label"] for one in answers]
        scores = np.array([neighbours.attribute(model, one) for one in answers])
        full = neighbours.votes_without(model, questions, asked, np.ones((1, len(taught)), dtype=bool))[0]
    return Trial(model, questions, asked, rows.owners[taught], scores, full)


def retrained(known: Trial, masks: np.ndarray) -> np.ndarray:
    """The outputs of models that are really trained again on some taught rows, shape (masks, questions).

    Args:
        masks: Which rows each keeps, shape (masks, taught).
    """
    if known.model.engine == neighbours.NAME:
        assert known.asked is not None  # neighbours answer classes
        return neighbours.votes_without(known.model, known.questions, known.asked, masks)
    thetas = [linear.retrain(known.model, mask, gradient_max=GRADIENT_MAX, cg_tolerance=CG_TOLERANCE) for mask in masks]
    return np.array([linear.outputs_of(known.model, known.questions, known.asked, theta=one) for one in thetas])


def noise_found(rows: Rows, *, seed: int) -> float:
    """Plant wrong labels among the taught rows, fit, let the held-out rows judge as they do in gating: the AUC."""
    taught, held_out = split(rows, seed=seed)
    noisy, wrong = noise.flipped([rows.labels[i] for i in taught], seed=seed)
    model = _fit(rows, taught, noisy)
    engine = linear if rows.engine == linear.NAME else neighbours
    mean, error = engine.validation_scores(model, rows.features[held_out], [rows.labels[i] for i in held_out])
    return noise.found(wrong, mean, error)


def copy_gain(rows: Rows, *, seed: int) -> tuple[float, int]:
    """`copies.gain` of one contributor's rows, in a sample of the rows."""
    engine = linear if rows.engine == linear.NAME else neighbours
    random = np.random.default_rng([seed, 2])
    order = random.permutation(len(rows))
    picked, asking = np.split(order, [min(COPIED_ROWS_MAX, len(rows) - 2)])
    people = np.unique(rows.owners[picked])
    mine = np.flatnonzero(rows.owners[picked] == people[random.integers(len(people))])

    def fit(numbers: np.ndarray) -> Artifact:
        chosen = picked[numbers]
        weights = (np.arange(len(numbers)) < len(picked)).astype(np.float64)
        return engine.fit(rows.features[chosen], [rows.labels[i] for i in chosen], weights, dict(rows.settings))

    questions = rows.features[asking[:COPIED_QUESTIONS]]
    return copies.gain(
        engine, fit, lambda model: [engine.answer(model, row) for row in questions], rows=len(picked), copied=mine
    )


def _fit(rows: Rows, numbers: np.ndarray, labels: list[Any]) -> Artifact:
    engine = linear if rows.engine == linear.NAME else neighbours
    model = engine.fit(rows.features[numbers], labels, np.ones(len(numbers)), dict(rows.settings))
    if rows.engine == linear.NAME and model.arrays["theta"].size <= INVERSE_MAX:
        # Found without it in a tenth of the time; scored with it in a hundredth.
        with one_blas_thread():
            return replace(model, arrays={**model.arrays, "inverse_half": linear.inverse_of(model)})
    return model
