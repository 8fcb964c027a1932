"""Where an answer stands word for word in some documents: suffix arrays, in segments, mapped from a file.

The documents' words are numbers of three bytes, one after the other, with 0 between documents: no match reaches over an
end. A segment is a run of documents with all its suffixes in the order of their words, so all places of a phrase stand
together and are found by halving: log2(n) looks. What the whole index says of a phrase is what its segments say:
the longest match is the longest of any, the earliest place the earliest of all.

A segment is sealed once it is full. More documents make new segments, and `joined` puts old and new under one vocabulary
without sorting again: numbers are in the order of the words' hashes, so that a larger vocabulary keeps their order.

    sealed(vocabulary, documents)  one segment
    joined(segments)               the arrays of an index: what an artifact stores
    Index(arrays)                  what finds

Left out of the published engines: counts of arbitrary phrases, and Bloom filters. What is added: every look is done for
all words of the answer and all segments at once, in NumPy, which needs no compiler and stays below two milliseconds.

Source: Liu et al. 2024, Infini-gram, arXiv:2401.17377 (suffix arrays over tokens); Liu et al. 2025, OLMoTrace,
arXiv:2504.07096, section 3 (maximal spans). Sorting: Mori's libdivsufsort, by pydivsufsort.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pydivsufsort

WORD_BYTES = 3
SPAN_WORDS_MIN = 6
SEGMENT_WORDS_MAX = 1 << 24  # so that a place in a segment fits three bytes, too, and sorting one takes 300 MB at most
UNKNOWN = (1 << 24) - 1  # a word of an answer that no document has; greater than any number
WORDS_KNOWN_MAX = UNKNOWN - 1
_STEP_WORDS = 32  # how many words are compared at once beyond the first six
_PADDING_WORDS = SPAN_WORDS_MIN + _STEP_WORDS
_SORTED_AT_ONCE = 1 << 22


class Segment(NamedTuple):
    """Some documents, sealed.

    Args:
        vocabulary: Hashes of its words, ascending, int64.
        words: Place in the vocabulary + 1 of each word, and a 0 after each document. Shape (w,), uint32.
        suffixes: Where each suffix begins that begins with a word, in the order of the suffixes. Shape (s,), uint32.
        documents: Rows of: where it begins in `words`; whose it is. Shape (d, 2), int64, ascending.
    """

    vocabulary: np.ndarray
    words: np.ndarray
    suffixes: np.ndarray
    documents: np.ndarray


class Match(NamedTuple):
    """A maximal span: words `start` to `start + length` of the answer.

    `place` is whose earliest document holds it, None if only excluded ones do.
    """

    start: int
    length: int
    place: int | None


def sealed(vocabulary: np.ndarray, documents: Iterable[tuple[int, np.ndarray]]) -> Segment:
    """One segment.

    Args:
        vocabulary: Hashes, ascending.
        documents: (whose it is, places of its words in the vocabulary), in ascending order.

    Raises:
        ValueError: too many words for one segment, or too many different ones.
    """
    parts, begins, owners, length = [], [], [], 0
    for place, words in documents:
        begins.append(length)
        owners.append(place)
        parts += [words.astype(np.uint32) + 1, np.zeros(1, dtype=np.uint32)]
        length += len(words) + 1
    if length > SEGMENT_WORDS_MAX:
        raise ValueError(f"A segment holds {SEGMENT_WORDS_MAX} words at most.")
    if len(vocabulary) > WORDS_KNOWN_MAX:
        raise ValueError(f"An index knows {WORDS_KNOWN_MAX} different words at most.")
    words = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)
    table = np.array([begins, owners], dtype=np.int64).reshape(2, -1).T
    return Segment(vocabulary, words, _suffixes_of(words), table)


def _suffixes_of(words: np.ndarray) -> np.ndarray:
    """Sort by bytes: of three big-endian bytes a word, the suffixes that begin at a word are in the order of the words."""
    if not len(words):
        return np.zeros(0, dtype=np.uint32)
    by_byte = pydivsufsort.divsufsort(_packed(words))
    found = []
    for start in range(0, len(by_byte), _SORTED_AT_ONCE):
        some = by_byte[start : start + _SORTED_AT_ONCE]
        some = some[some % WORD_BYTES == 0] // WORD_BYTES
        found.append(some[words[some] > 0].astype(np.uint32))
    return np.concatenate(found)


def joined(segments: Sequence[Segment]) -> dict[str, np.ndarray]:
    """The arrays of an index over these segments, in this order: the same segments give the same bytes.

    Returns:
        `vocabulary`: hashes, ascending, int64, shape (v,).
        `words`: three bytes each, big-endian, uint8, one segment after the other, and zeros at the end.
        `suffixes`: three bytes each, little-endian: places in their segment; uint8, and a zero at the end.
        `buckets`: int32, shape (segments, v + 1): how many suffixes of the segment begin with an earlier word.
        `segments`: int64, shape (segments, 2): where its words and where its suffixes begin.
        `documents`: int64, shape (documents, 2): where its words begin, and whose it is.
        `totals`: int64: how many words there are in all documents.
    """
    vocabulary = np.unique(np.concatenate([segment.vocabulary for segment in segments] or [np.zeros(0, np.int64)]))
    if len(vocabulary) > WORDS_KNOWN_MAX:
        raise ValueError(f"An index knows {WORDS_KNOWN_MAX} different words at most.")
    words, suffixes, buckets, table, documents = [], [], [], [], []
    words_before = suffixes_before = 0
    for segment in segments:
        number = np.zeros(len(segment.vocabulary) + 1, dtype=np.uint32)
        number[1:] = np.searchsorted(vocabulary, segment.vocabulary) + 1
        mine = number[segment.words]
        counts = np.bincount(mine, minlength=len(vocabulary) + 1)[1:]
        words.append(_packed(mine))
        suffixes.append(_packed_little(segment.suffixes))
        buckets.append(np.concatenate([[0], np.cumsum(counts)]))
        table.append((words_before, suffixes_before))
        documents.append(segment.documents + (words_before, 0))
        words_before += len(mine)
        suffixes_before += len(segment.suffixes)
    return {
        "vocabulary": vocabulary,
        "words": np.concatenate([*words, np.zeros(_PADDING_WORDS * WORD_BYTES, dtype=np.uint8)]),
        "suffixes": np.concatenate([*suffixes, np.zeros(WORD_BYTES + 1, dtype=np.uint8)]),
        "buckets": np.array(buckets, dtype=np.int32).reshape(len(segments), len(vocabulary) + 1),
        "segments": np.array(table, dtype=np.int64).reshape(-1, 2),
        "documents": np.concatenate([*documents, np.zeros((0, 2), dtype=np.int64)]),
        "totals": np.array([suffixes_before], dtype=np.int64),
    }


def _packed(words: np.ndarray) -> np.ndarray:
    """Three bytes a word, the largest first, so that comparing bytes compares words. Flat."""
    return words.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].reshape(-1)


def _packed_little(places: np.ndarray) -> np.ndarray:
    """Three bytes a place, the smallest first: four bytes from there, without the last, are the place. Flat."""
    return places.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)


@dataclass(eq=False)
class _Looks:
    """Intervals of suffixes, one per (word of the answer, segment) that may still match. Equal shapes, int64."""

    start: np.ndarray  # in the answer
    base: np.ndarray  # where the words of its segment begin
    low: np.ndarray
    high: np.ndarray

    def only(self, kept: np.ndarray) -> _Looks:
        return _Looks(self.start[kept], self.base[kept], self.low[kept], self.high[kept])


class Index:
    """Finds spans. Holds views of the arrays of `joined`, which may be mapped, and copies none of them."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.vocabulary, self.segments = arrays["vocabulary"], arrays["segments"]
        self.total = int(arrays["totals"][0])
        self._buckets, self._documents = arrays["buckets"], arrays["documents"]
        self._words = memoryview(np.ascontiguousarray(arrays["words"]))
        count = len(self._words) // WORD_BYTES - _PADDING_WORDS
        self._six = self._phrases(SPAN_WORDS_MIN, count + _STEP_WORDS)
        self._step = self._phrases(_STEP_WORDS, count + SPAN_WORDS_MIN)
        # One more than there are: a finished look may stand after the last one.
        self._suffixes = np.ndarray((self.total + 1,), "<u4", arrays["suffixes"], 0, (WORD_BYTES,))

    def _phrases(self, length: int, count: int) -> np.ndarray:
        """The phrase of so many words at each place, as bytes that compare like the words. A view, of no size."""
        return np.ndarray((count,), f"S{length * WORD_BYTES}", self._words, 0, (WORD_BYTES,))

    def counts_of(self, numbers: np.ndarray) -> np.ndarray:
        """How often each of these known words stands in all documents. Shape (words,), int64."""
        return (self._buckets[:, numbers] - self._buckets[:, numbers - 1]).sum(0, dtype=np.int64)

    def numbers_of(self, hashes: np.ndarray) -> np.ndarray:
        """The numbers of an answer's words, shape (words,), int64; `UNKNOWN` where no document has one."""
        if not len(self.vocabulary):
            return np.full(len(hashes), UNKNOWN, dtype=np.int64)
        found = np.searchsorted(self.vocabulary, hashes).clip(max=len(self.vocabulary) - 1)
        return np.where(self.vocabulary[found] == hashes, found + 1, UNKNOWN)

    def maximal(self, numbers: np.ndarray, *, excluded: Collection[int] = frozenset()) -> list[Match]:
        """The maximal spans of an answer, in their order: at least six words that stand so in a document, and that
        are part of no longer such span.

        Args:
            numbers: As `numbers_of` gave them, shape (words,).
            excluded: Whose documents earn nothing. A span that only they hold is nobody's.
        """
        looks = self._six_words(numbers)
        if not len(looks.start):
            return []
        lengths = self._lengths(numbers, looks)
        longest = np.zeros(len(numbers), dtype=np.int64)
        np.maximum.at(longest, looks.start, lengths)
        ends = np.arange(len(numbers)) + longest
        reached = np.maximum.accumulate(np.concatenate([[0], ends[:-1]]))
        found = []
        for start in np.flatnonzero((longest > 0) & (ends > reached)).tolist():
            length = int(longest[start])
            mine = looks.only((looks.start == start) & (lengths == length))
            found.append(Match(start, length, self._earliest(numbers, mine, start, length, excluded)))
        return found

    def _six_words(self, numbers: np.ndarray) -> _Looks:
        """All suffixes that begin with six words of the answer, for each six that stand somewhere."""
        count = len(numbers) - SPAN_WORDS_MIN + 1
        if count < 1 or not len(self.segments):
            return _Looks(*(np.zeros(0, dtype=np.int64) for _ in range(4)))
        sixes = np.lib.stride_tricks.sliding_window_view(numbers, SPAN_WORDS_MIN)
        start = np.flatnonzero((sixes < UNKNOWN).all(1))
        sixes = sixes[start]
        after = sixes.copy()
        after[:, -1] += 1
        keys = [_packed(phrases.reshape(-1)).view(self._six.dtype) for phrases in (sixes, after)]
        first, segments = sixes[:, 0], len(self.segments)
        begin = self.segments[:, 1, None] + self._buckets[:, first - 1]
        end = self.segments[:, 1, None] + self._buckets[:, first]
        base = np.repeat(self.segments[:, 0], len(start))
        # Both ends of every interval in one pass: where the phrase begins, and where the one after it would.
        both = self._first_not_before(
            self._six,
            np.concatenate([np.tile(keys[0], segments), np.tile(keys[1], segments)]),
            np.tile(base, 2),
            np.tile(begin.reshape(-1), 2),
            np.tile(end.reshape(-1), 2),
        )
        low, high = both[: len(base)], both[len(base) :]
        return _Looks(np.tile(start, segments), base, low, high).only(low < high)

    def _lengths(self, numbers: np.ndarray, looks: _Looks) -> np.ndarray:
        """How many words match at each look: of all phrases, those next to where the answer's would stand match longest."""
        unknown = np.full(_PADDING_WORDS, UNKNOWN)
        bytes_of = _packed(np.concatenate([numbers, unknown]))
        width = _STEP_WORDS * WORD_BYTES
        phrases = np.ndarray((len(numbers) + SPAN_WORDS_MIN,), self._step.dtype, bytes_of.data, 0, (WORD_BYTES,))
        lengths = np.full(len(looks.start), SPAN_WORDS_MIN)
        going = np.arange(len(looks.start))
        low, high = looks.low.copy(), looks.high.copy()
        matched = SPAN_WORDS_MIN
        while len(going):
            keys, base = phrases[looks.start[going] + matched], looks.base[going]
            at = self._first_not_before(self._step, keys, base + matched, low, high)
            said = keys.view(np.uint8).reshape(-1, width)
            best = np.zeros(len(going), dtype=np.int64)
            for neighbour, is_one in ((at - 1, at > low), (at, at < high)):
                places = self._places(np.where(is_one, neighbour, low)) + base + matched
                same = (self._step[places].view(np.uint8).reshape(-1, width) == said).reshape(
                    -1, _STEP_WORDS, WORD_BYTES
                )
                run = np.minimum.accumulate(same.all(2), axis=1).sum(1)
                best = np.maximum(best, np.where(is_one, run, 0))
            lengths[going] += best
            whole = best == _STEP_WORDS
            if not whole.any():
                break
            # Go on among those that begin with all of it.
            after = numbers[looks.start[going[whole]] + matched + _STEP_WORDS - 1] + 1
            said = said[whole]
            said[:, -WORD_BYTES:] = _packed(after).reshape(-1, WORD_BYTES)
            keys, base, low, high = said.reshape(-1).view(keys.dtype), base[whole], at[whole], high[whole]
            high = self._first_not_before(self._step, keys, base + matched, low, high)
            going, matched = going[whole], matched + _STEP_WORDS
        return lengths

    def _first_not_before(
        self, phrases: np.ndarray, keys: np.ndarray, base: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """In each interval the first suffix whose phrase is not before the key; its end if there is none."""
        low, high = low.copy(), high.copy()
        found = low
        going = np.flatnonzero(low < high)
        keys, base, low, high = keys[going], base[going], low[going], high[going]
        while len(going):
            middle = (low + high) >> 1
            before = phrases[self._places(middle) + base] < keys
            low = np.where(before, middle + 1, low)
            high = np.where(before, high, middle)
            open_ = low < high
            if not open_.all():
                found[going] = low
                going, keys, base, low, high = going[open_], keys[open_], base[open_], low[open_], high[open_]
        return found

    def _places(self, suffixes: np.ndarray) -> np.ndarray:
        """Where these suffixes begin, in their segment."""
        return (self._suffixes[suffixes] & UNKNOWN).astype(np.int64)

    def _earliest(
        self, numbers: np.ndarray, looks: _Looks, start: int, length: int, excluded: Collection[int]
    ) -> int | None:
        """Whose document is the earliest that holds a phrase; None if all of them are excluded."""
        phrase = _packed(numbers[start : start + length]).tobytes()
        owners = [
            self._owners(phrase, base, low, high, excluded)
            for base, low, high in zip(looks.base.tolist(), looks.low.tolist(), looks.high.tolist(), strict=True)
        ]
        return min((owner for owner in owners if owner is not None), default=None)

    def _owners(self, phrase: bytes, base: int, low: int, high: int, excluded: Collection[int]) -> int | None:
        """The same in one segment, among the suffixes `low` to `high`, which begin with its first six words."""
        words, suffixes = self._words, self._suffixes

        def said(suffix: int) -> bytes:
            at = (int(suffixes[suffix]) & UNKNOWN) + base
            return bytes(words[at * WORD_BYTES : at * WORD_BYTES + len(phrase)])

        looked = range(low, high)
        begin = low + bisect_left(looked, phrase, key=said)
        end = low + bisect_right(looked, phrase, lo=begin - low, key=said)
        places = self._places(np.arange(begin, end)) + base
        if not excluded:
            # Documents are in the order of their owners, so the first place is the earliest owner's.
            places = places.min(keepdims=True)
        found = self._documents[np.searchsorted(self._documents[:, 0], places, side="right") - 1, 1]
        return min((owner for owner in set(found.tolist()) if owner not in excluded), default=None)
