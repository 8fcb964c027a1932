"""From frozen versions to a stored artifact: features per kind, the engine's fit, what held-out rows say.

Served models are fitted on all leaders. What held-out rows say (accuracy on the card, gating, and the shares of access
and training money) comes from five folds, so that nobody's record is set aside and never paid: each fold's rows judge
a model that was fitted without them. The same folds choose the l2 of a linear model whose run names none.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from django.db import transaction
from PIL import Image

from attribution import bundles, methods, modelclient, shares
from attribution import features as feature_tools
from attribution.bundles import Bundle
from attribution.engines import ENGINES, Artifact, gated, penalty, retrieval, spans
from attribution.engines.design import one_blas_thread
from attribution.models import Artifact as StoredArtifact
from datanets import records as datanet_records
from datanets import storage, versions
from datanets.models import Version

logger = logging.getLogger(__name__)

FOLDS = 5
JUDGED_MIN = 50  # below this many leaders held-out rows say too little: nobody is gated, shares are equal, l2 is 1
SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"l2": float, "image_side": int},
    "neighbours": {"k": int, "image_side": int},
    "retrieval": {},
    "connected": {},
}


class CannotFit(Exception):
    """These versions cannot be bound to this engine. Nothing was stored, nothing is charged.

    `code` and `params` say why; who shows it words it, in the language of its reader.
    """

    def __init__(self, code: str, **params: str) -> None:
        self.code, self.params = code, params
        super().__init__(code)


def fit(*, engine: str, versions: Sequence[Version], settings: dict[str, Any]) -> StoredArtifact:
    """Bind an engine to frozen versions. The same versions and settings give the same artifact, by hash.

    Args:
        engine: "linear", "neighbours", "retrieval" or "connected".
        versions: Of one kind, tables of one schema.
        settings: Of the run; unknown ones are refused.

    Raises:
        CannotFit: the data does not allow it (no label, one class, too few records, an unknown setting).
        modelclient.ModelsUnavailable: embeddings are needed and the models process does not answer; try again.
    """
    bundle, files, metrics = _fitted(engine, versions, settings, at=None)
    size_bytes = bundles.save(files, bundle.sha256)
    return _store(bundle, engine=engine, versions=versions, metrics=metrics, size_bytes=size_bytes)


def rebuild(stored: StoredArtifact, *, settings: dict[str, Any]) -> tuple[Bundle, dict[str, bytes]]:
    """Fit once more what an artifact was fitted from, as its sealed versions were then. Stores nothing.

    Args:
        settings: Of the run that made it, not those of the artifact: what held-out rows chose is chosen again.

    Returns:
        The bundle and its files. Its hash is the artifact's, or somebody changed data, code or the artifact.

    Raises:
        CannotFit: content was erased since, among others. modelclient.ModelsUnavailable: as for `fit`.
    """
    versions = list(stored.versions.select_related("datanet").order_by("created_at", "pk"))
    bundle, files, _metrics = _fitted(stored.engine, versions, settings, at=stored.created_at)
    return bundle, files


def _fitted(
    engine: str, versions: Sequence[Version], settings: dict[str, Any], *, at: datetime | None
) -> tuple[Bundle, dict[str, bytes], dict]:
    """`at`: leave out only what was withdrawn by then; None: by now."""
    settings = _checked_settings(engine, settings)
    pool = _Pool(versions, at=at)
    if not pool.leader_rows:
        raise CannotFit("no_records")
    serving = {
        "kind": pool.kind,
        "versions": [{"id": str(version.pk), "root": version.root} for version in versions],
        "records": [row.id for row in pool.rows],
        "identities": [row.identity for row in pool.rows],
        "spec": None,
    }
    try:
        with one_blas_thread():
            artifact, extra, metrics = _FITTERS[engine](pool, settings)
    except ArithmeticError as problem:
        raise CannotFit("not_converged") from problem
    except ValueError as problem:
        logger.exception("the engine %s refused to fit", engine)
        raise CannotFit("engine_refused") from problem
    bundle, files = bundles.pack(artifact, {**serving, **extra})
    return bundle, files, metrics


class _Pool:
    """The records of all versions in a fixed order, with one leader map over them all."""

    def __init__(self, chosen: Sequence[Version], *, at: datetime | None) -> None:
        self.kind = chosen[0].datanet.kind
        self.schema = chosen[0].datanet.schema
        leader_of = versions.merged_leaders(chosen)
        withdrawn = datanet_records.excluded([version.pk for version in chosen], at=at)
        found = {row.id: row for version in chosen for row in versions.records_of(version)}
        self.rows = [found[record_id] for record_id in sorted(found) if record_id not in withdrawn]
        if erased := sum(not row.body and not row.media_key for row in self.rows):
            raise CannotFit("content_erased", count=str(erased))
        self.weights = np.array([0.0 if row.id in leader_of else 1.0 for row in self.rows])
        self.leader_rows = [row for row, weight in zip(self.rows, self.weights, strict=True) if weight]

    def lots(self) -> np.ndarray:
        """A number of each row, by its commitment: nobody can choose it, and a copy never changes it."""
        digests = (hashlib.sha256(bytes.fromhex(row.identity)).digest() for row in self.rows)
        return np.array([int.from_bytes(digest[:4]) for digest in digests], dtype=np.int64)

    def folds(self) -> np.ndarray:
        """Fold of each row."""
        return self.lots() % FOLDS


def _fit_head(engine_name: str):
    """The fitter of an engine that maps features to labels."""
    engine = ENGINES[engine_name]

    def fitter(pool: _Pool, settings: dict[str, Any]) -> tuple[Artifact, dict, dict]:
        inputs = _inputs(pool)
        leader_inputs = [one for one, weight in zip(inputs, pool.weights, strict=True) if weight]
        side = settings.pop("image_side", feature_tools.IMAGE_SIDE)
        try:
            spec = feature_tools.fit_spec(leader_inputs, pool.schema, pool.kind, image_side=side)
        except feature_tools.NoFeature as problem:
            raise CannotFit("no_feature") from problem
        except feature_tools.TooLarge as problem:
            raise CannotFit("number_too_large") from problem
        matrix = feature_tools.transform(spec, _without_label(inputs, spec), far_allowed=True)
        targets = _targets(pool, spec, inputs)
        task = "regression" if spec.get("label_type") == "number" else "classification"
        if engine_name == "neighbours" and task == "regression":
            raise CannotFit("label_is_a_number")
        if _classes(targets, pool.weights) < 2:
            raise CannotFit("one_class")
        if not np.ptp(matrix[pool.weights > 0], axis=0).any():
            raise CannotFit("no_feature")
        options = {**settings, "standardise": spec["standardise"]}
        if engine_name == "linear":
            options["task"] = task
            if "l2" not in options and len(pool.leader_rows) >= JUDGED_MIN:
                options["l2"] = penalty.choose_l2(matrix, targets, pool.weights, pool.folds(), options)
        artifact = engine.fit(matrix, targets, pool.weights, options)
        judged, metrics = _judge(engine, matrix, targets, pool, options, task)
        return artifact, {"spec": spec, **judged}, metrics

    return fitter


def _fit_retrieval(pool: _Pool, settings: dict[str, Any]) -> tuple[Artifact, dict, dict]:
    if pool.kind != "text":
        raise CannotFit("not_texts")
    texts, targets = [], []
    for place, (row, weight) in enumerate(zip(pool.rows, pool.weights, strict=True)):
        if not weight:
            continue
        text = (row.body or {}).get("text", "")
        for cut in retrieval.cut_passages(text, modelclient.count_tokens):
            texts.append(text[cut.start : cut.end])
            targets.append((place, cut.start, cut.end, cut.tokens))
    if not texts:
        raise CannotFit("no_text")
    embeddings = modelclient.embed(texts)
    artifact = retrieval.fit(embeddings, np.array(targets, dtype=np.int64), pool.weights, dict(settings))
    metrics = {"passages": len(texts), "records": len(pool.rows), "leaders": len(pool.leader_rows)}
    return artifact, _equal_shares(pool, methods.EQUAL_NO_MEASURE), metrics


def _fit_connected(pool: _Pool, settings: dict[str, Any]) -> tuple[Artifact, dict, dict]:
    """Its own server has what it learned; here stands what its words are compared with: the words of texts."""
    texts = [(row.body or {}).get("text", "") if pool.kind == "text" else "" for row in pool.rows]
    artifact = spans.fit(texts, None, pool.weights, dict(settings))
    told = {"words": int(artifact.arrays["totals"][0]), "records": len(pool.rows), "leaders": len(pool.leader_rows)}
    return artifact, _equal_shares(pool, methods.EQUAL_NO_MEASURE), told


_FITTERS = {
    "linear": _fit_head("linear"),
    "neighbours": _fit_head("neighbours"),
    "retrieval": _fit_retrieval,
    "connected": _fit_connected,
}


def _inputs(pool: _Pool) -> list[Any]:
    """What the features are made of: rows of a table, embeddings of texts, pictures."""
    if pool.kind == "tabular":
        return [row.body for row in pool.rows]
    if pool.kind == "text":
        return list(modelclient.embed([(row.body or {}).get("text", "") for row in pool.rows]))
    return [Image.open(io.BytesIO(storage.get(row.media_key))) for row in pool.rows]


def _without_label(inputs: Sequence[Any], spec: dict) -> Sequence[Any]:
    if spec["kind"] != "tabular":
        return inputs
    return [{name: value for name, value in row.items() if name != spec["label"]} for row in inputs]


def _targets(pool: _Pool, spec: dict, inputs: Sequence[Any]) -> list[Any]:
    if pool.kind == "tabular":
        if spec["label"] is None:
            raise CannotFit("no_label_column")
        return list(feature_tools.labels_of(spec, inputs))
    labels = [(row.body or {}).get("label") for row in pool.rows]
    if any(label in (None, "") for label in labels):
        raise CannotFit("label_is_missing")
    return [str(label) for label in labels]


def _judge(engine, matrix, targets, pool: _Pool, options: dict, task: str) -> tuple[dict, dict]:
    """Fit without each fold, let its rows judge: gated records, integer shares, and the figures of the card."""
    leaders = np.flatnonzero(pool.weights > 0)
    if len(leaders) < JUDGED_MIN:
        return _equal_shares(pool, methods.EQUAL_TOO_FEW), {"records": len(pool.rows), "leaders": len(leaders)}
    # By lot: where only the first judge, nobody chose them.
    lots = pool.lots()
    folds, leaders = lots % FOLDS, leaders[np.argsort(lots[leaders], kind="stable")]
    total = np.zeros(len(pool.rows))
    variance = np.zeros(len(pool.rows))
    seen = np.zeros(len(pool.rows))
    answered: list[tuple[Any, Any]] = []
    for fold in range(FOLDS):
        held_out = leaders[folds[leaders] == fold]
        weights = pool.weights.copy()
        weights[held_out] = 0.0
        known = {target for target, weight in zip(targets, weights, strict=True) if weight > 0}
        judges = [i for i in held_out if task == "regression" or targets[i] in known]
        if len(judges) < 2 or (task == "classification" and len(known) < 2):
            continue
        model = engine.fit(matrix, targets, weights, options)
        mean, error = engine.validation_scores(model, matrix[held_out], [targets[i] for i in held_out])
        judged = weights > 0
        total[judged] += mean[judged]
        variance[judged] += error[judged] ** 2
        seen[judged] += 1
        for i in held_out:
            outputs = engine.answer(model, matrix[i]).outputs
            answered.append((targets[i], outputs["value"] if task == "regression" else outputs["label"]))
    if not seen.any():
        return _equal_shares(pool, methods.EQUAL_NO_MEASURE), {"records": len(pool.rows), "leaders": len(leaders)}
    times = np.maximum(seen, 1)
    mean, error = total / times, np.sqrt(variance) / times
    is_gated = gated(mean, error) & (seen > 0)
    useful = np.where(is_gated, 0.0, np.maximum(mean, 0.0)) * pool.weights
    # Where no record helps, all shares are 0 and nobody is paid: settlement says so.
    said = {
        "gated": [pool.rows[i].id for i in np.flatnonzero(is_gated)],
        "shares": shares.quantise(useful).tolist(),
        "fee_method": methods.VALIDATION_SHARES,
    }
    return said, {"records": len(pool.rows), "leaders": len(leaders), **_figures(answered, task)}


def _figures(answered: list[tuple[Any, Any]], task: str) -> dict:
    """Accuracy with its baseline, or R^2 and mean absolute error, over rows the model had not seen."""
    if not answered:
        return {}
    if task == "classification":
        truth = [true for true, _served in answered]
        most_common = max(truth.count(label) for label in set(truth))
        right = sum(true == served for true, served in answered)
        return {
            "accuracy": right / len(answered),
            "baseline_accuracy": most_common / len(answered),
            "judged_rows": len(answered),
        }
    values = np.array(answered, dtype=np.float64)
    errors = values[:, 0] - values[:, 1]
    spread = float(((values[:, 0] - values[:, 0].mean()) ** 2).sum())
    return {
        "r2": 1.0 - float((errors**2).sum()) / spread if spread else 0.0,
        "mean_absolute_error": float(np.abs(errors).mean()),
        "judged_rows": len(answered),
    }


def _equal_shares(pool: _Pool, method: str) -> dict:
    """Every leader the same; `method` says why, in the artifact, in each trace, and wherever the money shows."""
    return {"gated": [], "shares": [int(weight) for weight in pool.weights], "fee_method": method}


def _classes(targets: Sequence[Any], weights: np.ndarray) -> int:
    return len({target for target, weight in zip(targets, weights, strict=True) if weight > 0})


def _checked_settings(engine: str, settings: dict[str, Any]) -> dict[str, Any]:
    known = SETTINGS.get(engine)
    if known is None:
        raise CannotFit("unknown_engine")
    if unknown := set(settings) - set(known):
        raise CannotFit("unknown_setting", names=", ".join(sorted(unknown)))
    try:
        checked = {name: known[name](value) for name, value in settings.items()}
    except (TypeError, ValueError, OverflowError) as problem:
        raise CannotFit("setting_is_no_number") from problem
    for name, value in checked.items():
        if not 0 < value < math.inf:
            raise CannotFit("setting_is_not_positive", name=name)
    return checked


@transaction.atomic
def _store(bundle, *, engine: str, versions: Sequence[Version], metrics: dict, size_bytes: int) -> StoredArtifact:
    stored, created = StoredArtifact.objects.get_or_create(
        sha256=bundle.sha256,
        defaults={
            "engine": engine,
            "settings": bundle.artifact.settings,
            "record_count": len(bundle.record_ids),
            "size_bytes": size_bytes,
            "metrics": metrics,
            "method": bundle.artifact.settings["method"],
            "fee_method": bundle.serving["fee_method"],
        },
    )
    if created:
        stored.versions.set(versions)
    return stored
