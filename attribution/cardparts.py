"""What a score card measures of each engine, in which parts, and the figures that come of them. Writes nothing.

A part is small (seconds), and what it gives follows from the card's seed, the artifact and the part's name and number
alone: done again, by whoever, it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from attribution import bundles, cardplants
from attribution.bundles import Bundle
from attribution.cardplants import mean, owners_of
from attribution.engines import retrieval, spans
from attribution.models import ScoreCard
from attribution.scorecards import agreement, heads

#: In the order in which they are shown.
FIGURES = (
    *("lds_half", "lds_most", "lds_contributors", "lds_context", "leave_one_out"),
    *("label_noise", "canaries", "paraphrases", "copy_gain"),
)
HEADS = ("linear", "neighbours")
RETRAININGS_EACH = 20  # of a part
SHARES = {"lds_half": 0.5, "lds_most": 0.9}
REMOVED_EACH, REMOVED_PARTS = 25, 2
NOISE_SEEDS = 5
LEADERS_MIN = 50
CONTRIBUTORS_MIN, CONTRIBUTORS_ALL_MAX = 4, 6
STANDARD_ERROR_MAX = 0.02
RETRAININGS_MIN, RETRAININGS_MAX = 100, 400


class Wanted(NamedTuple):
    """One part."""

    name: str
    number: int


def figures_without(bundle: Bundle, owners: np.ndarray) -> dict[str, str]:
    """Which figures this artifact cannot have, each with the code of its reason."""
    engine = bundle.artifact.engine
    lds = ("lds_half", "lds_most", "lds_contributors", "leave_one_out")
    if engine not in HEADS:
        found = dict.fromkeys(lds, "not_trained_here") | {"label_noise": "no_labels"}
        if engine == spans.NAME:
            found["lds_context"] = "no_context"
        if bundle.serving["kind"] != "text":
            found |= dict.fromkeys(("canaries", "paraphrases", "copy_gain"), "not_texts")
        return found
    found = {"lds_context": "no_context", "canaries": "answers_no_words", "paraphrases": "answers_no_words"}
    leaders = bundle.artifact.arrays["record_index"]
    if len(leaders) < LEADERS_MIN:
        return found | dict.fromkeys((*lds, "label_noise"), "too_few_records")
    if len(np.unique(owners[leaders])) < CONTRIBUTORS_MIN:
        found["lds_contributors"] = "few_contributors"
    return found


def first_parts(card: ScoreCard) -> list[Wanted]:
    """The parts that every card of this engine needs: of the retrainings, the least number."""
    bundle = bundles.load(card.artifact_id)
    without = figures_without(bundle, owners_of(bundle))
    counts = {
        **dict.fromkeys((*SHARES, "lds_contributors"), RETRAININGS_MIN // RETRAININGS_EACH),
        "leave_one_out": REMOVED_PARTS,
        "label_noise": NOISE_SEEDS,
        "copy_gain": 1,
        # All that is planted gives several figures.
        "plants": cardplants.PLANTS_OF_RETRIEVAL if bundle.artifact.engine == retrieval.NAME else 1,
    }
    if "canaries" in without:
        del counts["plants"]
    return [Wanted(name, number) for name, count in counts.items() if name not in without for number in range(count)]


def more_parts(card: ScoreCard, figures: Mapping[str, dict], done: Mapping[str, int]) -> list[Wanted]:
    """More retrainings for the figures whose standard error is still too large, up to the cap.

    Args:
        done: Parts so far, by name.
    """
    wanted = []
    for name in (*SHARES, "lds_contributors"):
        figure = figures.get(name, {})
        if figure.get("standard_error", 0.0) > STANDARD_ERROR_MAX and not figure["capped"]:
            wanted += [Wanted(name, done[name] + i) for i in range(RETRAININGS_MIN // RETRAININGS_EACH)]
    return wanted


def measure(card: ScoreCard, name: str, number: int) -> np.ndarray:
    """Do a part. float64, in a shape that `figures_of` knows.

    Raises:
        modelclient.ModelsUnavailable: it needs the models process, which does not answer. ValueError, ArithmeticError,
        KeyError: it cannot be measured.
    """
    bundle = bundles.load(card.artifact_id)
    if bundle.artifact.engine in HEADS:
        return _of_head(card, bundle, name, number)
    if bundle.artifact.engine == spans.NAME:
        return cardplants.of_spans(card, bundle, name)
    return cardplants.of_retrieval(card, bundle, name, number)


def figures_of(card: ScoreCard, results: Mapping[str, Mapping[int, np.ndarray]], failed: Sequence[str]) -> dict:
    """The figures of all parts that are done, in the order of FIGURES.

    Args:
        results: By name and number.
        failed: Names with a part that could not be measured.
    """
    bundle = bundles.load(card.artifact_id)
    without = figures_without(bundle, owners_of(bundle))
    parts_of = {**dict.fromkeys(("canaries", "paraphrases", "lds_context"), "plants")}
    found: dict[str, dict[str, Any]] = {}
    for name in FIGURES:
        part = parts_of.get(name, name)
        if name in without:
            found[name] = {"not_applicable": without[name]}
        elif part in failed:
            found[name] = {"failed": True}
        elif part in results:
            arrays = [results[part][number] for number in sorted(results[part])]
            try:
                found[name] = _figure(card, bundle, name, arrays)
            except agreement.Unmeasurable as problem:
                found[name] = {"not_applicable": problem.code}
    for name, floor in card.settings["floors"].items():
        if "value" in found.get(name, {}):
            found[name]["floor"] = floor
    return found


def below(figures: Mapping[str, dict]) -> list[str]:
    """Names of the figures under their floor."""
    return [name for name, one in figures.items() if "floor" in one and one["value"] < one["floor"]]


# --- Linear and neighbours


@lru_cache(maxsize=2)
def _known(sha256: str, seed: int) -> tuple[heads.Rows, heads.Trial]:
    bundle = bundles.load(sha256)
    rows = heads.rows_of(bundle.artifact, owners_of(bundle), seed=seed)
    return rows, heads.trial(rows, seed=seed)


def _of_head(card: ScoreCard, bundle: Bundle, name: str, number: int) -> np.ndarray:
    if name == "copy_gain":
        rows = heads.rows_of(bundle.artifact, owners_of(bundle), seed=card.seed)
        return np.array(heads.copy_gain(rows, seed=card.seed))
    rows, trial = _known(bundle.sha256, card.seed)
    if name == "label_noise":
        return np.array([heads.noise_found(rows, seed=card.seed + number)])
    if name == "leave_one_out":
        return heads.retrained(trial, _removals(card, trial)[number * REMOVED_EACH : (number + 1) * REMOVED_EACH])
    return heads.retrained(trial, _masks(card, trial, name, number))


def _masks(card: ScoreCard, trial: heads.Trial, name: str, number: int) -> np.ndarray:
    """What the retrainings of a part keep."""
    seed = card.seed + 1_000 * (1 + FIGURES.index(name)) + number
    if name in SHARES:
        return agreement.subsets(seed, rows=len(trial.owners), share=SHARES[name], count=RETRAININGS_EACH)
    if _all_contributors(trial):
        # There are not more of them, so each is tried: the last parts may be empty.
        every = agreement.every_contributor_subset(trial.owners)
        return every[number * RETRAININGS_EACH : (number + 1) * RETRAININGS_EACH]
    return agreement.contributor_subsets(seed, trial.owners, count=RETRAININGS_EACH)


def _all_contributors(trial: heads.Trial) -> bool:
    return len(np.unique(trial.owners)) <= CONTRIBUTORS_ALL_MAX


def _removals(card: ScoreCard, trial: heads.Trial) -> np.ndarray:
    """Everything but one record, for some records by lot."""
    chosen = _removed(card, trial)
    masks = np.ones((len(chosen), len(trial.owners)), dtype=bool)
    masks[np.arange(len(chosen)), chosen] = False
    return masks


def _removed(card: ScoreCard, trial: heads.Trial) -> np.ndarray:
    random = np.random.default_rng([card.seed, 3])
    return random.permutation(len(trial.owners))[: REMOVED_EACH * REMOVED_PARTS]


def _figure(card: ScoreCard, bundle: Bundle, name: str, arrays: list[np.ndarray]) -> dict[str, Any]:
    if name == "copy_gain":
        gain, changed = arrays[0]
        return {"value": float(gain), "others_changed": int(changed)}
    if name == "label_noise":
        values = np.concatenate(arrays)
        return mean(values, fits=len(values))
    if name in ("canaries", "paraphrases", "lds_context"):
        return cardplants.figure_of_plants(
            name, np.concatenate([array.reshape(-1, cardplants.PLANT_COLUMNS) for array in arrays])
        )
    rows, trial = _known(bundle.sha256, card.seed)
    outputs = np.concatenate([array.reshape(-1, len(trial.full)) for array in arrays])
    if name == "leave_one_out":
        said = agreement.leave_one_out(trial.scores[:, _removed(card, trial)], outputs, trial.full)
        return {**said._asdict(), **_sample(rows)}
    masks = np.concatenate([_masks(card, trial, name, number) for number in range(len(arrays))])
    said = agreement.linear_datamodeling_score(trial.scores, masks, outputs)
    all_there_are = name == "lds_contributors" and _all_contributors(trial)
    capped = said.retrainings >= RETRAININGS_MAX or all_there_are
    return {**said._asdict(), "capped": capped, **_sample(rows)}


def _sample(rows: heads.Rows) -> dict[str, int]:
    """How many of the leaders were looked at, where not all of them were."""
    return {"rows": len(rows), "of_rows": rows.of} if len(rows) < rows.of else {}
