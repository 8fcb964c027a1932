"""Neighbours engine: k nearest leaders vote; each record's score is its exact Shapley value in the served vote.

Ties in distance go to the earlier record (record order of the fit), ties in votes to the label that sorts first. Both
hold in `answer` and in `attribute`. Distances are sums of squared differences and not |a|^2 - 2ab + |b|^2: that
formula gives equal rows unequal distances, and so breaks ties by rounding noise.
"""

from typing import Any

import numpy as np

from .answers import Answer, pack_vector, unpack_vector
from .artifact import Artifact
from .design import checked_matrix, checked_vector, leaders_of, one_blas_thread, scatter, standardisation

NAME = "neighbours"
METHOD = "knn-shapley/1"


def fit(features: np.ndarray, targets: Any, weights: np.ndarray, settings: dict[str, Any]) -> Artifact:
    """Remember the leaders.

    Args:
        features: Shape (n, d), one row per record, in the record order of the version.
        targets: n labels, stored as text.
        weights: Shape (n,); 0 for a follower, anything above for a leader (a vote is a vote: size does not matter).
        settings: `k` >= 1 (default 5); `standardise` (default true).

    Raises:
        ValueError: shapes disagree, or a setting is unknown or out of range.
    """
    known = {"k": 5, "standardise": True}
    if unknown := set(settings) - set(known):
        raise ValueError(f"Unknown settings: {', '.join(sorted(unknown))}.")
    settings = {**known, **settings, "method": METHOD}
    if not isinstance(settings["k"], int) or settings["k"] < 1:
        raise ValueError("k must be a whole number above zero.")
    features = checked_matrix(features)
    if len(targets) != len(features):
        raise ValueError(f"{len(features)} rows of features, but {len(targets)} targets.")
    settings["records"] = len(features)
    record_index, _ = leaders_of(weights, len(features))
    leaders = features[record_index]
    labels = [str(targets[i]) for i in record_index]
    settings["classes"] = sorted(set(labels))
    position = {label: k for k, label in enumerate(settings["classes"])}
    with one_blas_thread():
        mean, scale = standardisation(leaders, np.ones(len(leaders)), wanted=settings["standardise"])
    return Artifact(
        engine=NAME,
        settings=settings,
        arrays={
            "X": (leaders - mean) / scale,
            "targets": np.array([position[label] for label in labels], dtype=np.int64),
            "record_index": record_index,
            "mean": mean,
            "scale": scale,
        },
    )


def answer(artifact: Artifact, inputs: np.ndarray) -> Answer:
    """The vote of the k nearest leaders: `{"label", "probabilities", "neighbours": [{"index", "distance"}]}`.

    `index` is the record's place in the record order of the fit. With fewer than k leaders all of them vote.

    Raises:
        ValueError: wrong number of features, or a value that is not finite.
    """
    a = artifact.arrays
    vector = checked_vector(inputs, len(a["mean"]))
    order, squared = _by_distance(artifact, vector)
    nearest = order[: artifact.settings["k"]]
    classes = artifact.settings["classes"]
    votes = np.bincount(a["targets"][nearest], minlength=len(classes))
    served = int(np.argmax(votes))
    return Answer(
        outputs={
            "label": classes[served],
            "probabilities": {label: int(count) / len(nearest) for label, count in zip(classes, votes, strict=True)},
            "neighbours": [
                {"index": int(a["record_index"][i]), "distance": float(np.sqrt(squared[i]))} for i in nearest
            ],
        },
        context={"features": pack_vector(vector), "served": served},
    )


def support(artifact: Artifact, answer: Answer, *, meets: np.ndarray | None = None) -> tuple[float, int]:
    """How far the records that meet a condition support the served label.

    Args:
        meets: By place in the record order of the fit, whether a record meets the condition; None: all of them do.

    Returns:
        The share of the votes that such records cast for the served label, from 0 to 1; and how many votes that is.
    """
    a = artifact.arrays
    places = np.array([one["index"] for one in answer.outputs["neighbours"]], dtype=np.int64)
    votes = a["targets"][np.searchsorted(a["record_index"], places)] == answer.context["served"]
    if meets is not None:
        votes &= meets[places]
    count = int(votes.sum())
    return count / len(places), count


def attribute(artifact: Artifact, answer: Answer) -> np.ndarray:
    """Exact KNN-Shapley of the served vote.

    The value of a set S of leaders is v(S) = (1/k) * number of its k nearest members that vote for the served label.

    Returns:
        Shape (n,) in the record order of the fit, in shares of the vote; they add up to v(all). Followers have 0.

    Source:
        Jia et al. 2019, Efficient task-specific data valuation for nearest neighbor algorithms, theorem 1.
    """
    a = artifact.arrays
    vector = checked_vector(unpack_vector(answer.context["features"]), len(a["mean"]))
    order, _ = _by_distance(artifact, vector)
    matches = (a["targets"][order] == answer.context["served"]).astype(np.float64)
    scores = np.empty(len(order))
    scores[order] = knn_shapley(matches, k=artifact.settings["k"])
    return scatter(scores, a["record_index"], artifact.settings["records"])


def knn_shapley(matches: np.ndarray, *, k: int) -> np.ndarray:
    """Shapley values of the k-nearest vote, for members sorted from near to far.

    Args:
        matches: Shape (m,), 1.0 where the member has the label in question, else 0.0.
        k: Voters; with m < k the divisor is still min(k, m), as in `answer`.

    Returns:
        Shape (m,), in the order of `matches`.
    """
    members = len(matches)
    k = min(k, members)
    rank = np.arange(1, members)
    scores = np.empty(members)
    scores[-1] = matches[-1] / members
    steps = (matches[:-1] - matches[1:]) / k * np.minimum(k, rank) / rank
    scores[:-1] = scores[-1] + np.cumsum(steps[::-1])[::-1]
    return scores


def votes_without(artifact: Artifact, features: np.ndarray, labels: list[str], masks: np.ndarray) -> np.ndarray:
    """The share of votes for each query's label when only some leaders are there: the ground truth of score cards.

    Args:
        features: Queries, shape (q, d). labels: the class whose share is meant, for each.
        masks: Which leaders stay, shape (m, leaders), at least one in each.

    Returns:
        Shape (m, q).
    """
    a, k = artifact.arrays, artifact.settings["k"]
    position = {label: i for i, label in enumerate(artifact.settings["classes"])}
    shares = np.empty((len(masks), len(features)))
    for q, (row, label) in enumerate(zip(features, labels, strict=True)):
        order, _ = _by_distance(artifact, checked_vector(row, len(a["mean"])))
        matches = a["targets"][order] == position[label]
        for m, kept in enumerate(masks[:, order]):
            shares[m, q] = matches[np.flatnonzero(kept)[:k]].mean()
    return shares


def validation_scores(artifact: Artifact, features: np.ndarray, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """KNN-Shapley of the vote for the true label, over held-out rows: pays training and access, and gates records.

    Rows of a class the model does not know are left out.

    Returns:
        Mean per record, shape (n,), and its standard error over the validation rows, shape (n,).

    Raises:
        ValueError: fewer than two usable validation rows.
    """
    a = artifact.arrays
    features = checked_matrix(features)
    if len(targets) != len(features):
        raise ValueError(f"{len(features)} rows of features, but {len(targets)} targets.")
    position = {label: k for k, label in enumerate(artifact.settings["classes"])}
    rows = [i for i, target in enumerate(targets) if str(target) in position]
    if len(rows) < 2:
        raise ValueError("At least two validation rows are needed.")
    total = np.zeros(len(a["X"]))
    squares = np.zeros_like(total)
    for i in rows:
        order, _ = _by_distance(artifact, checked_vector(features[i], len(a["mean"])))
        matches = (a["targets"][order] == position[str(targets[i])]).astype(np.float64)
        scores = knn_shapley(matches, k=artifact.settings["k"])
        total[order] += scores
        squares[order] += scores * scores
    mean = total / len(rows)
    variance = np.maximum(squares - len(rows) * mean * mean, 0.0) / (len(rows) - 1)
    records = artifact.settings["records"]
    return (
        scatter(mean, a["record_index"], records),
        scatter(np.sqrt(variance / len(rows)), a["record_index"], records),
    )


def _by_distance(artifact: Artifact, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaders from near to far (ties: earlier record first), and the squared distance of each leader."""
    a = artifact.arrays
    difference = a["X"] - (vector - a["mean"]) / a["scale"]
    difference *= difference
    # A plain row-wise sum: equal rows are added in the same order, so exact copies of a row tie exactly.
    squared = difference.sum(1)
    return np.argsort(squared, kind="stable"), squared
