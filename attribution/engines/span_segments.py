"""The words of documents in segments with suffix arrays: what an index of verbatim spans is made of. Pure.

The documents' words are numbers of three bytes, one after the other, with 0 between documents: no match reaches over an
end. A segment is a run of documents with all its suffixes in the order of their words.

A segment is sealed once it is full. More documents make new segments, and `joined` puts old and new under one vocabulary
without sorting again: numbers are in the order of the words' hashes, so that a larger vocabulary keeps their order.

    sealed(vocabulary, documents)  one segment
    joined(segments)               the arrays of an index: what an artifact stores

Source: Liu et al. 2024, Infini-gram, arXiv:2401.17377 (suffix arrays over tokens). Sorting: Mori's libdivsufsort, by
pydivsufsort.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pydivsufsort

WORD_BYTES = 3
SPAN_WORDS_MIN = 6
STEP_WORDS = 32  # how many words are compared at once beyond the first six
SAMPLED_EVERY = 1024  # of so many suffixes the first six words of one are kept apart: they stay in a processor's cache
PADDING_WORDS = SPAN_WORDS_MIN + STEP_WORDS  # after the last document: a phrase may be read at any place
SEGMENT_WORDS_MAX = 1 << 24  # so that a place in a segment fits three bytes, too, and sorting one takes 320 MB
UNKNOWN = (1 << 24) - 1  # a word of an answer that no document has; greater than any number
WORDS_KNOWN_MAX = UNKNOWN - 1
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
    by_byte = pydivsufsort.divsufsort(packed(words))
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
        `samples`: the first six words of suffixes 0, `SAMPLED_EVERY`, twice that..., as in `words`; uint8.
        `buckets`: int32, shape (segments, v + 1): how many suffixes of the segment begin with an earlier word.
        `segments`: int64, shape (segments, 2): where its words and where its suffixes begin.
        `documents`: int64, shape (2, documents): where its words begin, and whose it is.
        `totals`: int64: how many words there are in all documents.
    """
    vocabulary = np.unique(np.concatenate([segment.vocabulary for segment in segments] or [np.zeros(0, np.int64)]))
    if len(vocabulary) > WORDS_KNOWN_MAX:
        raise ValueError(f"An index knows {WORDS_KNOWN_MAX} different words at most.")
    words, suffixes, sampled, buckets, table, documents = [], [], [], [], [], []
    words_before = suffixes_before = 0
    for segment in segments:
        number = np.zeros(len(segment.vocabulary) + 1, dtype=np.uint32)
        number[1:] = np.searchsorted(vocabulary, segment.vocabulary) + 1
        mine = number[segment.words]
        counts = np.bincount(mine, minlength=len(vocabulary) + 1)[1:]
        words.append(packed(mine))
        suffixes.append(_packed_little(segment.suffixes))
        sampled.append(
            segment.suffixes[-suffixes_before % SAMPLED_EVERY :: SAMPLED_EVERY].astype(np.int64) + words_before
        )
        buckets.append(np.concatenate([[0], np.cumsum(counts)]))
        table.append((words_before, suffixes_before))
        documents.append(segment.documents + (words_before, 0))
        words_before += len(mine)
        suffixes_before += len(segment.suffixes)
    all_words = np.concatenate([*words, np.zeros(PADDING_WORDS * WORD_BYTES, dtype=np.uint8)])
    sixes = np.lib.stride_tricks.sliding_window_view(all_words, SPAN_WORDS_MIN * WORD_BYTES)
    return {
        "vocabulary": vocabulary,
        "words": all_words,
        "suffixes": np.concatenate([*suffixes, np.zeros(WORD_BYTES + 1, dtype=np.uint8)]),
        "samples": sixes[np.concatenate([*sampled, np.zeros(0, dtype=np.int64)]) * WORD_BYTES].reshape(-1),
        "buckets": np.array(buckets, dtype=np.int32).reshape(len(segments), len(vocabulary) + 1),
        "segments": np.array(table, dtype=np.int64).reshape(-1, 2),
        "documents": np.ascontiguousarray(np.concatenate([*documents, np.zeros((0, 2), dtype=np.int64)]).T),
        "totals": np.array([suffixes_before], dtype=np.int64),
    }


def packed(words: np.ndarray) -> np.ndarray:
    """Three bytes a word, the largest first, so that comparing bytes compares words. Flat."""
    return words.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].reshape(-1)


def _packed_little(places: np.ndarray) -> np.ndarray:
    """Three bytes a place, the smallest first: four bytes from there, without the last, are the place. Flat."""
    return places.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)
