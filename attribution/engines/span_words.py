"""Words of a text as numbers, for the search of verbatim spans. Regular expressions and dictionaries do it, in C.

A word is a run of letters, digits and underscores, whatever its case; of scripts that write no spaces between words
(Chinese, Japanese) each character is one. Punctuation, white space and case do not count: who copies a sentence and
changes its commas has copied the sentence. Letters with marks are one word only in their composed form (NFC).

A word is known by 64 bits of its BLAKE2b hash and by nothing else, so an index holds no words: of a record whose text
is erased it tells only whether a word that one guesses was there. Numbers are in the order of the hashes, so that
adding words to a vocabulary never changes the order of those it had.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import count

import numpy as np

_NO_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+")
_CACHED_WORDS = 1 << 16


def words_of(text: str) -> list[str]:
    """The words of a text, in their order, as they are written."""
    return _WORD.findall(text)


def places_of(text: str) -> list[tuple[int, int]]:
    """Where each of `words_of(text)` stands: first character and the one after its last."""
    return [found.span() for found in _WORD.finditer(text)]


def folded(word: str) -> str:
    """What two spellings of a word have in common."""
    return word.casefold()


@lru_cache(maxsize=_CACHED_WORDS)
def word_hash(word: str) -> int:
    """What a word is known by: a whole number of 64 bits, signed; the same in any case."""
    digest = blake2b(folded(word).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def hashes_of(words: Sequence[str]) -> np.ndarray:
    """Shape (words,), int64."""
    return np.fromiter(map(word_hash, words), dtype=np.int64, count=len(words))


def numbered(texts: Iterable[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number the words of some texts.

    Returns:
        The vocabulary: hashes, ascending, int64. And per text the places of its words in it, int64.
    """
    seen: defaultdict[str, int] = defaultdict(count().__next__)
    drafts = []
    for text in texts:
        words = _WORD.findall(text)
        drafts.append(np.fromiter(map(seen.__getitem__, words), dtype=np.int64, count=len(words)))
    # Uncached: a vocabulary would push out what the answers of calls are made of.
    hashes = np.fromiter(map(word_hash.__wrapped__, seen), dtype=np.int64, count=len(seen))
    vocabulary, final = np.unique(hashes, return_inverse=True)
    return vocabulary, [final[draft] for draft in drafts]
