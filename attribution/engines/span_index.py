"""Where an answer stands word for word in some documents: the search in the segments of `span_segments`. Pure.

The suffixes of a segment are in order, so all places of a phrase stand together and are found by halving: log2(n) looks.
What the whole index says of a phrase is what its segments say: the longest match is the longest of any, the earliest
place the earliest of all.

Left out of the published engines: counts of arbitrary phrases, and Bloom filters. What is added: every look is done for
all words of the answer and all segments at once, in NumPy, which needs no compiler.

Source: Liu et al. 2025, OLMoTrace, arXiv:2504.07096, section 3 (maximal spans by looking once per suffix of the answer).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .span_segments import PADDING_WORDS, SAMPLED_EVERY, SPAN_WORDS_MIN, STEP_WORDS, UNKNOWN, WORD_BYTES, packed

REACH_GROWS = 16  # how much further the end of equal suffixes is looked for each time


class Match(NamedTuple):
    """A maximal span: words `start` to `start + length` of the answer.

    `place` is whose earliest document holds it, None if only excluded ones do.
    """

    start: int
    length: int
    place: int | None


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
        self._buckets, (self._begins, self._whose) = arrays["buckets"], arrays["documents"]
        self._words = np.ascontiguousarray(arrays["words"]).data
        count = len(self._words) // WORD_BYTES - PADDING_WORDS
        self._six = self._phrases(SPAN_WORDS_MIN, count + STEP_WORDS)
        self._samples = arrays["samples"].view(self._six.dtype)
        self._step = self._phrases(STEP_WORDS, count + SPAN_WORDS_MIN)
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
        found = np.minimum(np.searchsorted(self.vocabulary, hashes), len(self.vocabulary) - 1)
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
        sixes = np.ndarray((count, SPAN_WORDS_MIN), numbers.dtype, numbers, 0, numbers.strides * 2)
        start = np.flatnonzero((sixes < UNKNOWN).all(1))
        sixes = sixes[start]
        after = sixes.copy()
        after[:, -1] += 1
        key, key_after = (packed(phrases.reshape(-1)).view(self._six.dtype) for phrases in (sixes, after))
        first, segments = sixes[:, 0], len(self.segments)
        begin = self.segments[:, 1, None] + self._buckets[:, first - 1]
        end = self.segments[:, 1, None] + self._buckets[:, first]
        low, high = (one.reshape(-1) for one in self._between_samples(key, begin, end))
        key, key_after, start, end = (
            np.tile(key, segments),
            np.tile(key_after, segments),
            np.tile(start, segments),
            end.reshape(-1),
        )
        base = np.repeat(self.segments[:, 0], len(start) // segments)
        low = self._first_not_before(self._six, key, base, low, high)
        # Most phrases stand nowhere, and most of the others once: where they end needs no second search.
        found = np.flatnonzero(low < end)
        found = found[self._six[self._places(low[found]) + base[found]] == key[found]]
        looks = _Looks(start[found], base[found], low[found], end[found])
        looks.high = self._ends(key[found], key_after[found], looks)
        return looks

    def _lengths(self, numbers: np.ndarray, looks: _Looks) -> np.ndarray:
        """How many words match at each look: of all phrases, those next to where the answer's would stand match longest."""
        unknown = np.full(PADDING_WORDS, UNKNOWN)
        bytes_of = packed(np.concatenate([numbers, unknown]))
        width = STEP_WORDS * WORD_BYTES
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
                    -1, STEP_WORDS, WORD_BYTES
                )
                run = np.minimum.accumulate(same.all(2), axis=1).sum(1)
                best = np.maximum(best, np.where(is_one, run, 0))
            lengths[going] += best
            whole = best == STEP_WORDS
            if not whole.any():
                break
            # Go on among those that begin with all of it.
            after = numbers[looks.start[going[whole]] + matched + STEP_WORDS - 1] + 1
            said = said[whole]
            said[:, -WORD_BYTES:] = packed(after).reshape(-1, WORD_BYTES)
            keys, base, low, high = said.reshape(-1).view(keys.dtype), base[whole], at[whole], high[whole]
            high = self._first_not_before(self._step, keys, base + matched, low, high)
            going, matched = going[whole], matched + STEP_WORDS
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

    def _between_samples(self, keys: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The intervals of each segment, narrowed to less than `SAMPLED_EVERY`, with the same first suffix that is not
        before its key. NumPy looks through the samples by itself, for all keys at once; a look into the index takes some
        fifteen of its operations. Shapes: keys (k,), intervals (segments, k).
        """
        ends = np.append(self.segments[1:, 1], self.total)
        first, end = -(-self.segments[:, 1] // SAMPLED_EVERY), -(-ends // SAMPLED_EVERY)
        sample = np.stack([a + np.searchsorted(self._samples[a:b], keys) for a, b in zip(first, end, strict=True)])
        return (
            np.maximum(low, (sample - 1) * SAMPLED_EVERY + 1),
            np.maximum(low, np.minimum(high, sample * SAMPLED_EVERY)),
        )

    def _ends(self, keys: np.ndarray, keys_after: np.ndarray, looks: _Looks) -> np.ndarray:
        """Where the suffixes that begin with six words end; `looks.low` is the first. Looks ahead, ever further."""
        ends, going, near, reach = looks.high.copy(), np.arange(len(looks.low)), looks.low, 1
        while len(going):
            some = looks.only(going)
            ahead = np.minimum(some.low + reach, some.high)
            is_over = ahead == some.high
            inside = np.flatnonzero(~is_over)
            is_over[inside] = self._six[self._places(ahead[inside]) + some.base[inside]] != keys[going[inside]]
            over = going[is_over]
            ends[over] = self._first_not_before(
                self._six, keys_after[over], some.base[is_over], near[is_over] + 1, ahead[is_over]
            )
            going, near, reach = going[~is_over], ahead[~is_over], reach * REACH_GROWS
        return ends

    def _places(self, suffixes: np.ndarray) -> np.ndarray:
        """Where these suffixes begin, in their segment."""
        return (self._suffixes[suffixes] & UNKNOWN).astype(np.int64)

    def _earliest(
        self, numbers: np.ndarray, looks: _Looks, start: int, length: int, excluded: Collection[int]
    ) -> int | None:
        """Whose document is the earliest that holds a phrase; None if all of them are excluded."""
        phrase = packed(numbers[start : start + length]).tobytes()
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
        found = self._whose[np.searchsorted(self._begins, places, side="right") - 1]
        return min((owner for owner in set(found.tolist()) if owner not in excluded), default=None)
