"""What a score card measures of each engine, in which parts, and the figures that come of them. Writes nothing.

A part is small (seconds), and what it gives follows from the card's seed, the artifact and the part's name and number
alone: done again, by whoever, it gives the same bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from attribution import bundles, modelclient
from attribution.bundles import Bundle
from attribution.engines import Answer, Artifact, retrieval, spans
from attribution.models import ScoreCard
from attribution.scorecards import agreement, copies, heads
from attribution.scorecards.plants import Plant, plants
from attribution.shares import quantise
from datanets.models import Record, RecordBody

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
PLANTS_OF_SPANS, PLANTS_OF_RETRIEVAL = 50, 8
TEXTS_MAX = 500  # of a connected model's, around the planted ones
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
        "plants": PLANTS_OF_RETRIEVAL if bundle.artifact.engine == retrieval.NAME else 1,
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
        return _of_spans(card, bundle, name)
    return _of_retrieval(card, bundle, name, number)


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


def owners_of(bundle: Bundle) -> np.ndarray:
    """The contributor of each record, in the order of the fit. They stay: no record ever changes its contributor."""
    known = dict(Record.objects.filter(pk__in=bundle.record_ids).values_list("pk", "contributor_id"))
    return np.array([known.get(record_id, 0) for record_id in bundle.record_ids], dtype=np.int64)


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
        return _mean(values, fits=len(values))
    if name in ("canaries", "paraphrases", "lds_context"):
        return _figure_of_plants(name, np.concatenate([array.reshape(-1, PLANT_COLUMNS) for array in arrays]))
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


def _mean(values: np.ndarray, **counts: int) -> dict[str, Any]:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "standard_error": error, **counts}


# --- Models that answer in words. Per plant: was it used, is it among those attributed, and the same as a paraphrase

PLANT_COLUMNS = (
    6  # used, said, paraphrased, used by the paraphrase; and the two rank correlations, nan where there is none
)


def _figure_of_plants(name: str, found: np.ndarray) -> dict[str, Any]:
    if name == "lds_context":
        values = found[:, 4:].ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            raise agreement.Unmeasurable("nothing_changes")
        return _mean(values, questions=len(values))
    used, hit = (found[:, 0], found[:, 1]) if name == "canaries" else (found[:, 3], found[:, 2])
    if not used.any():
        raise agreement.Unmeasurable("none_used")
    return _mean(hit[used > 0], planted=len(found), used=int(used.sum()))


def _texts(record_ids: Sequence[int]) -> list[str]:
    """What records say now, in this order; nothing where it is erased."""
    rows = RecordBody.objects.filter(record__in=record_ids).values_list("record_id", "body")
    said = {record_id: str(body.get("text", "")) for record_id, body in rows}
    return [said.get(record_id, "") for record_id in record_ids]


def _of_spans(card: ScoreCard, bundle: Bundle, name: str) -> np.ndarray:
    """Fit a sample of the texts, with canaries among them, and let an answer repeat each."""
    random = np.random.default_rng([card.seed, 4])
    leaders = bundle.artifact.arrays["record_index"]
    chosen = np.sort(random.permutation(leaders)[:TEXTS_MAX])
    texts = _texts([bundle.record_ids[i] for i in chosen])
    if name == "copy_gain":
        owners = owners_of(bundle)[chosen]
        mine = np.flatnonzero(owners == owners[random.integers(len(owners))])
        quoted = [" ".join(text.split()[:40]) for text in texts[:20]]
        told = copies.gain(
            spans,
            lambda numbers: spans.fit(
                [texts[i] for i in numbers], None, (np.arange(len(numbers)) < len(texts)).astype(float), {}
            ),
            lambda model: [spans.answer(model, {"text": text}) for text in quoted],
            rows=len(texts),
            copied=mine,
        )
        return np.array(told)
    planted = plants(card.seed, PLANTS_OF_SPANS)
    index = spans.fit([*texts, *(one.record for one in planted)], None, np.ones(len(texts) + len(planted)), {})
    rows = []
    for place, one in enumerate(planted, start=len(texts)):
        hits = [
            spans.attribute(index, spans.answer(index, {"text": said}))[place] > 0
            for said in (one.said, one.paraphrase)
        ]
        rows.append([1.0, float(hits[0]), float(hits[1]), 1.0, np.nan, np.nan])
    return np.array(rows)


def _of_retrieval(card: ScoreCard, bundle: Bundle, name: str, number: int) -> np.ndarray:
    if name == "copy_gain":
        return _copy_gain_of_retrieval(card, bundle)
    one = plants(card.seed + number, 1)[0]
    index = _with_plant(bundle.artifact, one)
    question = modelclient.embed([one.question], input_type="query")[0]
    passages = retrieval.retrieve(index, question)
    place = bundle.artifact.settings["records"]
    if place not in retrieval.cited_records(passages):
        return np.array([0.0, 0.0, 0.0, 0.0, np.nan, np.nan])
    quoted = _quoted(bundle, passages, {place: one.record})
    (said, rho), (paraphrased, other) = (_asked(index, one, quoted, place, text) for text in (one.said, one.paraphrase))
    return np.array([1.0, said, paraphrased, 1.0, rho, other])


def _with_plant(artifact: Artifact, one: Plant) -> Artifact:
    a, place = artifact.arrays, artifact.settings["records"]
    weights = np.zeros(place + 1)
    weights[[*a["record_index"], place]] = 1.0
    cut = np.array([[place, 0, len(one.record), modelclient.count_tokens(one.record)]])
    embeddings = np.concatenate([a["embeddings"], modelclient.embed([one.record])])
    return retrieval.fit(embeddings, np.concatenate([a["passages"], cut]), weights, {})


def _quoted(
    bundle: Bundle, passages: Sequence[retrieval.Passage], planted: Mapping[int, str]
) -> list[retrieval.Passage]:
    """The passages with their words."""
    places = [place for place in retrieval.cited_records(passages) if place not in planted]
    said = dict(zip(places, _texts([bundle.record_ids[place] for place in places]), strict=True)) | dict(planted)
    return [retrieval.Passage(**{**vars(one), "text": said[one.record][one.start : one.end]}) for one in passages]


def _asked(
    index: Artifact, one: Plant, passages: Sequence[retrieval.Passage], place: int, text: str
) -> tuple[float, float]:
    """Whether the planted record is among those attributed, and how well the scores rank every subset of the context."""
    records = retrieval.cited_records(passages)
    masks = retrieval.subsets(len(records))
    messages = [{"role": "user", "content": one.question}]
    prompts = [retrieval.build_messages(messages, passages, mask=mask) for mask in masks]
    values = modelclient.log_probabilities(prompts, text)
    answer = retrieval.scored(Answer({}, {"records": records}), dict(zip(masks, values, strict=True)))
    scores = retrieval.attribute(index, answer)
    kept = np.array([[mask >> j & 1 for j in range(len(records))] for mask in masks], dtype=bool)
    try:
        rho = agreement.linear_datamodeling_score(scores[None, records], kept, np.array(values)[:, None]).value
    except agreement.Unmeasurable:
        rho = np.nan
    return float(quantise(scores)[place] > 0), rho


def _copy_gain_of_retrieval(card: ScoreCard, bundle: Bundle) -> np.ndarray:
    """By the proxy of words: copies are left out of the index, whichever scores follow."""
    a = bundle.artifact.arrays
    random = np.random.default_rng([card.seed, 5])
    leaders = a["record_index"]
    owners = owners_of(bundle)[leaders]
    mine = np.flatnonzero(owners == owners[random.integers(len(owners))])
    passages_of: dict[int, list[int]] = defaultdict(list)
    for i, row in enumerate(a["passages"].tolist()):
        passages_of[row[0]].append(i)
    questions = a["embeddings"][random.permutation(len(a["embeddings"]))[:20]]

    def fit(numbers: np.ndarray) -> Artifact:
        at = [(new, i) for new, number in enumerate(numbers) for i in passages_of[int(leaders[number])]]
        cuts = np.array([[new, *a["passages"][i][1:]] for new, i in at], dtype=np.int64)
        weights = (np.arange(len(numbers)) < len(leaders)).astype(float)
        return retrieval.fit(a["embeddings"][[i for _new, i in at]], cuts, weights, {})

    def answers(model: Artifact) -> list[Answer]:
        found = []
        for question in questions:
            answer = retrieval.answer(model, {"embedding": question})
            texts = _texts([bundle.record_ids[int(leaders[place])] for place in answer.context["records"]])
            found.append(retrieval.proxied(answer, texts[0], texts))
        return found

    return np.array(copies.gain(retrieval, fit, answers, rows=len(leaders), copied=mine))
