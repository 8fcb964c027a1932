"""Verbatim spans of a connected model's answer: what its trace keeps of them, and what a person may see of them.

A trace keeps numbers only: which words of the answer, how much they weigh, and of which record. The words themselves are
read when somebody may see them, out of the call's sealed content, and are gone with it.

Who sees what. The buyer owns the answer: they see its words marked, and what surrounds them in the record as far as they
may see the record anyway. A record's contributor sees which record was repeated, its score and its amount, and not the
words: they would quote somebody else's answer, tell what was asked, and stay when its content is erased.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from attribution import bundles
from attribution.bundles import Bundle
from attribution.engines import spans
from attribution.engines.span_words import folded, places_of
from attribution.models import Trace
from attribution.netting import Unattributed
from attribution.shares import quantise

AROUND_WORDS = 12  # of the record, before and after the words it has in common with the answer


def traced(text: str, bundle: Bundle, *, withdrawn: set[int]) -> dict[str, Any]:
    """Fields of the trace of an answer.

    Args:
        withdrawn: Records that had been taken back when the call was charged. What only they say is nobody's.
    """
    if bundle.serving["kind"] != "text":
        return {
            "status": Trace.Status.DONE,
            "reason": Unattributed.NO_METHOD_YET,
            "scores": {},
            "causal_millionths": 0,
            "method": spans.METHOD,
        }
    excluded = {place for place, record_id in enumerate(bundle.record_ids) if record_id in withdrawn}
    answer = spans.answer(bundle.artifact, {"text": text, "excluded_records": excluded})
    quantised = quantise(spans.attribute(bundle.artifact, answer))
    places = answer.context["records"]
    return {
        "status": Trace.Status.DONE,
        "reason": Unattributed.OWN_WORDS,
        "scores": {str(bundle.record_ids[place]): int(quantised[place]) for place in places if quantised[place]},
        "causal_millionths": spans.causal_fraction_of(answer),
        "context": answer.context,
        "method": spans.METHOD,
    }


class Repeated(NamedTuple):
    """Words `start` to `start + length` of an answer, which a record has, too. `weight` in thousandths of a nat."""

    start: int
    length: int
    weight: int
    record_id: int


class Piece(NamedTuple):
    """A part of a text, and whose record says the same; None if nobody's does."""

    text: str
    record_id: int | None


class Shown(NamedTuple):
    """A span for who may see it: the words as the answer has them, and the record around them.

    `written` is empty for who may not see the record, and where the record does not say so any more.
    """

    words: int
    weight: int
    said: str
    written: list[Piece]


def repeated(trace: Trace) -> list[Repeated]:
    """The spans of a traced answer that are some record's, in their order; none where the method is another."""
    rows = [row for row in trace.context.get("spans", ()) if row[-1] is not None]
    if not rows or trace.artifact_id is None:
        return []
    record_ids = bundles.load(trace.artifact_id).record_ids
    return [Repeated(start, length, weight, record_ids[place]) for start, length, weight, place in rows]


class Count(NamedTuple):
    """How much of an answer a record has: spans, and their words."""

    spans: int
    words: int


def counts_of(trace: Trace) -> dict[int, Count]:
    """Per record, without a word: what its contributor may know."""
    found: dict[int, Count] = {}
    for one in repeated(trace):
        before = found.get(one.record_id, Count(0, 0))
        found[one.record_id] = Count(before.spans + 1, before.words + one.length)
    return found


def marked(text: str, found: Sequence[Repeated]) -> list[Piece]:
    """A whole answer in pieces. A word in several spans is marked for the one that weighs most."""
    at = places_of(text)
    owners: list[int | None] = [None] * len(at)
    for one in sorted(found, key=lambda one: one.weight):
        owners[one.start : one.start + one.length] = [one.record_id] * one.length
    return list(_pieces(text, at, owners))


def shown(text: str, one: Repeated, written: str) -> Shown:
    """A span side by side: in the answer `text`, and in what its record says (nothing for who may not see it)."""
    at = places_of(text)[one.start : one.start + one.length]
    said = text[at[0][0] : at[-1][1]]
    return Shown(one.length, one.weight, said, _around(said, written, one.record_id))


def _around(said: str, written: str, record_id: int) -> list[Piece]:
    """The first place where a record says this, with some words before and after it; nothing if it does not."""
    phrase = [folded(said[start:end]) for start, end in places_of(said)]
    at = places_of(written)
    words = [folded(written[start:end]) for start, end in at]
    first = next((i for i in range(len(words) - len(phrase) + 1) if words[i : i + len(phrase)] == phrase), None)
    if first is None:
        return []
    end = first + len(phrase)
    begin, stop = max(first - AROUND_WORDS, 0), min(end + AROUND_WORDS, len(at))
    owners = [record_id if first <= i < end else None for i in range(begin, stop)]
    offset = at[begin][0]
    cut = [(start - offset, after - offset) for start, after in at[begin:stop]]
    pieces = _pieces(written[offset : at[stop - 1][1]], cut, owners)
    before = [Piece("… ", None)] if begin else []
    after = [Piece(" …", None)] if stop < len(at) else []
    return [*before, *pieces, *after]


def _pieces(text: str, at: Sequence[tuple[int, int]], owners: Sequence[int | None]) -> Iterator[Piece]:
    """A text in parts: each run of words of one owner, and what stands before, between and after them."""
    done = 0
    for owner, run in groupby(zip(owners, at, strict=True), key=itemgetter(0)):
        words = [word for _owner, word in run]
        if owner is not None:
            start, end = words[0][0], words[-1][1]
            if done < start:
                yield Piece(text[done:start], None)
            yield Piece(text[start:end], owner)
            done = end
    if done < len(text):
        yield Piece(text[done:], None)
