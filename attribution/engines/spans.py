"""Connected models: which records an answer repeats word for word. Provenance, not causation.

Nobody here sees the weights of a model that runs elsewhere, so nothing can say what its answer would be without a
record. What can be said is where its words stand: the maximal spans of at least six words that the answer has in common
with a record. A model that repeats a record may have learned it elsewhere, and one that learned from a record may say it
in other words: pages say so.

    weight of a span = sum over its words of -log p(word),   p(word) = its count / all words of the leaders' texts
    score of a record = sum of the weights of the spans that it is the earliest leader to contain
    C = weight of the answer's words that stand in such a span / weight of all its words

C of the call's data part is split by the scores; the rest is what the model said in its own words, and goes to
`unattributed`. Else one common phrase of six words would take what a page of the model's own words earned.

Left out of the published method: OLMoTrace keeps the few spans of least probability to fit its page; money needs them all.
Known limit: a record that repeats an earlier one and goes on where the answer does too makes a longer span, and takes it
whole. Against that stands the detection of copies, which makes such a record a follower before it is indexed.

Source: Liu et al. 2025, OLMoTrace, arXiv:2504.07096, sections 3 and 4 (maximal spans, their unigram probability).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .answers import Answer
from .artifact import Artifact
from .design import leaders_of
from .span_index import Index
from .span_segments import SEGMENT_WORDS_MAX, UNKNOWN, Segment, joined, sealed
from .span_words import hashes_of, numbered, words_of

NAME = "connected"
METHOD = "verbatim-spans/1"
MILLION = 1_000_000
MILLINATS = 1000  # of surprise to a nat: whole numbers, so that weights add up in any order


def fit(
    features: Sequence[str],
    targets: None,
    weights: np.ndarray,
    settings: dict[str, Any],
    *,
    segment_words: int = SEGMENT_WORDS_MAX,
) -> Artifact:
    """Index the texts of the leaders.

    Args:
        features: One text per record, in the order of their registration: the earlier one is paid.
        targets: None: nothing is learned.
        weights: Shape (n,); 0 for a follower, whose text is left out.
        settings: None are known yet.
        segment_words: At how many words a segment is sealed, the ends of texts included. It decides the bytes of the
            artifact, but not what is found.

    Raises:
        ValueError: shapes disagree, or one text is longer than a segment.
    """
    if settings:
        raise ValueError(f"Unknown settings: {', '.join(sorted(settings))}.")
    leaders, _ = leaders_of(weights, len(features)) if len(features) else (np.zeros(0, dtype=np.int64), None)
    segments = list(_segments([(place, features[place]) for place in leaders.tolist()], segment_words))
    return Artifact(
        engine=NAME,
        settings={"method": METHOD, "records": len(features)},
        arrays={**joined(segments), "record_index": leaders},
    )


def _segments(texts: Sequence[tuple[int, str]], segment_words: int) -> Iterator[Segment]:
    """Seal a segment whenever the next text would not fit. Earlier segments are the same whatever texts come later."""
    vocabulary, numbers = numbered(text for _place, text in texts)
    some: list[tuple[int, np.ndarray]] = []
    length = 0
    for (place, _text), words in zip(texts, numbers, strict=True):
        if some and length + len(words) + 1 > segment_words:
            yield _sealed(vocabulary, some)
            some, length = [], 0
        some.append((place, words))
        length += len(words) + 1
    if some:
        yield _sealed(vocabulary, some)


def _sealed(vocabulary: np.ndarray, documents: Sequence[tuple[int, np.ndarray]]) -> Segment:
    """A segment with the words of its own documents only."""
    used, words = np.unique(np.concatenate([words for _place, words in documents]), return_inverse=True)
    ends = np.cumsum([len(words) for _place, words in documents])[:-1]
    parts = np.split(words, ends)
    return sealed(vocabulary[used], [(place, part) for (place, _), part in zip(documents, parts, strict=True)])


def answer(artifact: Artifact, inputs: Mapping[str, Any]) -> Answer:
    """Find the spans of an answer. `inputs`: `text`, and `excluded_records`: places of records withdrawn meanwhile.

    Returns:
        Context: `spans`, rows of [first word, words, weight, record's place or null]; `records`, the places that have
        one; `covered` and `surprise`, the weights of which C is made. All weights in thousandths of a nat. No words.
    """
    index = Index(artifact.arrays)
    numbers = index.numbers_of(hashes_of(words_of(inputs["text"])))
    surprise = _surprise(index, numbers)
    before = np.concatenate([[0], np.cumsum(surprise)])
    covered = np.zeros(len(numbers), dtype=bool)
    spans = []
    for start, length, place in index.maximal(numbers, excluded=inputs.get("excluded_records", frozenset())):
        spans.append([start, length, int(before[start + length] - before[start]), place])
        if place is not None:
            covered[start : start + length] = True
    context = {
        "spans": spans,
        "records": sorted({place for *_span, place in spans if place is not None}),
        "covered": int(surprise[covered].sum()),
        "surprise": int(before[-1]),
    }
    return Answer(outputs={}, context=context)


def _surprise(index: Index, numbers: np.ndarray) -> np.ndarray:
    """-log p of each word in whole thousandths of a nat. A word that no record has counts as if it stood there once."""
    counts = np.ones(len(numbers))
    known = numbers < UNKNOWN
    counts[known] = index.counts_of(numbers[known])
    return np.rint(MILLINATS * np.log(max(index.total, 1) / counts)).astype(np.int64)


def attribute(artifact: Artifact, answer: Answer) -> np.ndarray:
    """The weight of the spans of each record, shape (n,) in the record order of the fit, in thousandths of a nat."""
    scores = np.zeros(artifact.settings["records"])
    for _start, _length, weight, place in answer.context["spans"]:
        if place is not None:
            scores[place] += weight
    return scores


def causal_fraction_of(answer: Answer) -> int:
    """C in millionths, rounded down; 0 where nothing is verbatim. Not a cause: how much of the answer stands in records."""
    surprise = answer.context["surprise"]
    return MILLION * answer.context["covered"] // surprise if surprise else 0


def validation_scores(artifact: Artifact, features: Any = None, targets: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Training and access revenue: equal over leaders, since nothing was measured. No record is ever gated by it."""
    scores = np.zeros(artifact.settings["records"])
    scores[artifact.arrays["record_index"]] = 1.0
    return scores, np.zeros_like(scores)
