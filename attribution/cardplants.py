"""The parts of a score card for models that answer in words: invented facts are planted among what their records say.

A planted fact gives PLANT_COLUMNS numbers: was it used, is it among the attributed, and the same said in other words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attribution import modelclient
from attribution.bundles import Bundle
from attribution.engines import Answer, Artifact, retrieval, spans
from attribution.models import ScoreCard
from attribution.scorecards import agreement, copies
from attribution.scorecards.plants import Plant, plants
from attribution.shares import quantise
from datanets.models import Record, RecordBody

PLANTS_OF_SPANS, PLANTS_OF_RETRIEVAL = 50, 8
TEXTS_MAX = 500  # of a connected model's, around the planted ones
# Used, said, paraphrased, used by the paraphrase; and the two rank correlations, nan where there is none.
PLANT_COLUMNS = 6


def owners_of(bundle: Bundle) -> np.ndarray:
    """The contributor of each record, in the order of the fit. They stay: no record ever changes its contributor."""
    known = dict(Record.objects.filter(pk__in=bundle.record_ids).values_list("pk", "contributor_id"))
    return np.array([known.get(record_id, 0) for record_id in bundle.record_ids], dtype=np.int64)


def mean(values: np.ndarray, **counts: int) -> dict[str, Any]:
    """A figure out of repeated measurements, with its standard error where there are several."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "standard_error": error, **counts}


def figure_of_plants(name: str, found: np.ndarray) -> dict[str, Any]:
    """`canaries`, `paraphrases` or `lds_context`, out of a row per planted fact. Raises Unmeasurable."""
    if name == "lds_context":
        values = found[:, 4:].ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            raise agreement.Unmeasurable("nothing_changes")
        return mean(values, questions=len(values))
    used, hit = (found[:, 0], found[:, 1]) if name == "canaries" else (found[:, 3], found[:, 2])
    if not used.any():
        raise agreement.Unmeasurable("none_used")
    return mean(hit[used > 0], planted=len(found), used=int(used.sum()))


def _texts(record_ids: Sequence[int]) -> list[str]:
    """What records say now, in this order; nothing where it is erased."""
    rows = RecordBody.objects.filter(record__in=record_ids).values_list("record_id", "body")
    said = {record_id: str(body.get("text", "")) for record_id, body in rows}
    return [said.get(record_id, "") for record_id in record_ids]


def of_spans(card: ScoreCard, bundle: Bundle, name: str) -> np.ndarray:
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


def of_retrieval(card: ScoreCard, bundle: Bundle, name: str, number: int) -> np.ndarray:
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
