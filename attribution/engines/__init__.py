"""The engines, shaped alike and pure: no Django, no network, no clock, no randomness.

    fit(features, targets, weights, settings) -> Artifact
    answer(artifact, inputs) -> Answer
    attribute(artifact, answer) -> scores, shape (n,), signed float64, in the record order of the fit
    validation_scores(artifact, features, targets) -> mean and standard error per record

A new engine is one module with these four functions and one line here. What its METHOD says, for people, goes to
attribution/methods.py; whether its scores are stored or recomputed, to attribution/traces.py.
"""

from types import ModuleType

import numpy as np

from . import linear, neighbours, retrieval, spans
from .answers import Answer
from .artifact import Artifact, from_files

ENGINES: dict[str, ModuleType] = {engine.NAME: engine for engine in (linear, neighbours, retrieval, spans)}

__all__ = ["ENGINES", "Answer", "Artifact", "from_files", "gated"]


def gated(mean: np.ndarray, standard_error: np.ndarray) -> np.ndarray:
    """Which records do harm on held-out rows beyond doubt: mean + 2 standard errors < 0. Booleans, shape (n,)."""
    return np.asarray(mean) + 2.0 * np.asarray(standard_error) < 0
