"""Three real data sets as contributors have them, and what can be made of a record of each.

A `strength` is a part of one: of the grey levels of a picture, of a column's standard deviation, of the words of a text.
Texts are the docstrings of installed packages, whose class is the package. Their vectors are TF-IDF in 64 dimensions, where
the product asks its models process: that takes a tenth of a second for a text, and a search makes a hundred thousand.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections import Counter
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from bench.attribution import PACKAGES, docstrings
from datanets import leaders

CONTRIBUTORS = 20
QUESTIONS = 60
SIDE = 8
DIMENSIONS = 64
WORDS_MIN, WORDS_MAX = 40, 100  # of a docstring
SHORT_WORDS = leaders.TEXT_WORDS_MIN - 1  # so short a text is a copy only where it has the same words


class Row(NamedTuple):
    """One record as its sender has it. value: bytes of 8 x 8 pixels, a tuple of numbers, or a text."""

    who: int
    value: Any
    label: str


class Data(ABC):
    """A data set, split anew for each seed. Subclasses say what a value is and what can be made of it."""

    name: str
    kind: str
    rows_each: int
    contributors = CONTRIBUTORS
    settings: dict[str, Any] = {}
    schema: dict[str, Any] = {}

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        values, labels = self.load()
        order = random.permutation(len(values))
        count = self.contributors * self.rows_each
        self.honest = [Row(n // self.rows_each, values[i], labels[i]) for n, i in enumerate(order[:count])]
        self.questions = [values[i] for i in order[count : count + QUESTIONS]]
        self.labels = sorted({row.label for row in self.honest})
        if self.kind == "tabular":  # the product fixes spreads with the first file
            first = [self.body(row) for row in self.honest[: 2 * self.rows_each]]
            self.schema = leaders.with_spreads(self.schema, first)

    @abstractmethod
    def load(self) -> tuple[list, list[str]]:
        """All values, and the label of each."""

    @abstractmethod
    def body(self, row: Row) -> dict:
        """As the product stores it, as far as copies are told by it."""

    @abstractmethod
    def inputs(self, values: list) -> list:
        """What the features of these values are made of."""

    def media(self, value: Any) -> bytes | None:
        return None

    def signature(self, row: Row) -> bytes:
        return leaders.signature(self.kind, self.body(row), self.media(row.value), schema=self.schema)

    def of_class(self, label: str) -> list:
        return [row.value for row in self.honest if row.label == label]


class Digits(Data):
    name, kind, rows_each, settings = "digits", "image", 20, {"image_side": SIDE}

    def load(self):
        found = load_digits()
        return [_bytes(image * 255.0 / 16.0) for image in found.images], [str(label) for label in found.target]

    def body(self, row):
        return {"pixels": hashlib.sha256(row.value).hexdigest(), "label": row.label}

    def media(self, value):
        return png(value)

    def inputs(self, values):
        return [Image.fromarray(_grey(value).astype(np.uint8)) for value in values]

    def restyled(self, value, random):
        return value

    def varied(self, value, strength, random):
        return _bytes(_grey(value) + 255 * strength * random.standard_normal((SIDE, SIDE)))

    def reworded(self, value, label, strength, random):
        """Shifted by up to a pixel and turned by up to 40 degrees."""
        shifted = ndimage.shift(_grey(value), random.uniform(-1, 1, size=2), order=1, mode="nearest")
        angle = 40 * strength * random.uniform(-1, 1)
        return _bytes(ndimage.rotate(shifted, angle, reshape=False, order=1, mode="nearest"))

    def noise(self, strength, random):
        return _bytes(255 * strength * random.random((SIDE, SIDE)))

    def typical(self, label, pull, strength, random):
        """A picture of a class, drawn towards the mean of its class."""
        known = self.of_class(label)
        mean = np.mean([_grey(one) for one in known], axis=0)
        one = _grey(known[random.integers(len(known))])
        return self.varied(_bytes((1 - pull) * one + pull * mean), strength, random)


class Tumours(Data):
    name, kind, rows_each = "tumours", "tabular", 18

    def load(self):
        found = load_breast_cancer()
        self.columns = [name.replace(" ", "_") for name in found.feature_names]
        columns = [{"name": name, "type": "number", "required": True} for name in self.columns]
        columns.append({"name": "diagnosis", "type": "category", "required": True})
        self.schema = {"columns": columns, "label": "diagnosis", "label_type": "category"}
        self.spread = found.data.std(0)
        return [_rounded(row) for row in found.data], [str(found.target_names[label]) for label in found.target]

    def body(self, row):
        return dict(zip(self.columns, row.value, strict=True)) | {"diagnosis": row.label}

    def inputs(self, values):
        return [dict(zip(self.columns, value, strict=True)) for value in values]

    def restyled(self, value, random):
        return value

    def varied(self, value, strength, random):
        return _rounded(np.array(value) + strength * self.spread * random.standard_normal(len(value)))

    def reworded(self, value, label, strength, random):
        """A mixture with another row of its class."""
        known = self.of_class(label)
        other = np.array(known[random.integers(len(known))])
        part = strength * random.random()
        return _rounded((1 - part) * np.array(value) + part * other)

    def noise(self, strength, random):
        some = np.array([row.value for row in self.honest])
        return _rounded(some.mean(0) + 3 * strength * self.spread * random.standard_normal(len(self.spread)))

    def typical(self, label, pull, strength, random):
        known = np.array(self.of_class(label))
        one = known[random.integers(len(known))]
        return self.varied((1 - pull) * one + pull * known.mean(0), strength, random)


class Texts(Data):
    name, kind, rows_each = "texts", "text", 20

    def load(self):
        found = _all_texts()
        return [text for text, _package in found], [package for _text, package in found]

    def body(self, row):
        return {"text": row.value, "title": "", "label": row.label}

    def inputs(self, values):
        return list(embedded(values))

    def restyled(self, value, random):
        """Other case and punctuation."""
        return " ".join(word.upper() + random.choice(["", ",", ".", " -"]) for word in value.split())

    def varied(self, value, strength, random):
        return self._replaced(value.split(), self._words, strength, random)

    def reworded(self, value, label, strength, random):
        """Clauses in another order, and words replaced by such that its class uses."""
        words = value.split()
        cuts = sorted(random.choice(np.arange(1, len(words)), size=min(4, len(words) - 1), replace=False).tolist())
        clauses = [words[a:b] for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
        mixed = [word for i in random.permutation(len(clauses)) for word in clauses[i]]
        return self._replaced(mixed, self._common[label], strength, random)

    def noise(self, strength, random):
        return " ".join(random.choice(self._words, size=int(30 + 60 * strength)).tolist())

    def typical(self, label, pull, strength, random):
        """A text of a class and its class's commonest words, again and again."""
        known = self.of_class(label)
        words = known[random.integers(len(known))].split()[: max(4, int((1 - pull) * 60))]
        words += random.choice(self._common[label], size=int(4 + pull * 60)).tolist()
        return self._replaced(words, self._words, strength, random)

    def short(self, value):
        return " ".join(value.split()[:SHORT_WORDS])

    def _replaced(self, words: list[str], by: list[str], strength: float, random) -> str:
        swap = random.random(len(words)) < strength
        return " ".join(
            by[random.integers(len(by))] if is_swapped else w for w, is_swapped in zip(words, swap, strict=True)
        )

    @cached_property
    def _words(self) -> list[str]:
        return sorted({word for row in self.honest for word in row.value.split()})

    @cached_property
    def _common(self) -> dict[str, list[str]]:
        """Words that a class uses more than others do."""
        everywhere = Counter(word for row in self.honest for word in set(row.value.split()))
        found = {}
        for label in self.labels:
            mine = Counter(word for text in self.of_class(label) for word in set(text.split()))
            share = {word: count**1.5 / everywhere[word] for word, count in mine.items()}
            found[label] = sorted(share, key=lambda word: (-share[word], word))[:25]
        return found


SETS: dict[str, type[Data]] = {each.name: each for each in (Digits, Tumours, Texts)}


def png(value: bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(_grey(value).astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def embedded(texts: list[str]) -> np.ndarray:
    """One vector per text, shape (n, 64), the same alone and among others. It comes through JSON as it is."""
    words, reduced = _embedding()
    return np.round(reduced.transform(words.transform(texts)), 6)


def _grey(value: bytes) -> np.ndarray:
    return np.frombuffer(value, dtype=np.uint8).reshape(SIDE, SIDE).astype(np.float64)


def _bytes(grey: np.ndarray) -> bytes:
    return np.clip(np.round(grey), 0, 255).astype(np.uint8).tobytes()


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    """Five significant digits, as such tables have them."""
    return tuple(float(f"{value:.5g}") for value in values)


@cache
def _all_texts() -> list[tuple[str, str]]:
    found = {}
    for package in PACKAGES:
        for doc in docstrings(package):
            words = doc.split()[:WORDS_MAX]
            if len(words) >= WORDS_MIN:
                found.setdefault(" ".join(words), package)
    return sorted(found.items())


@cache
def _embedding() -> tuple[TfidfVectorizer, TruncatedSVD]:
    words = TfidfVectorizer(max_features=4000, sublinear_tf=True)
    matrix = words.fit_transform([text for text, _package in _all_texts()])
    return words, TruncatedSVD(DIMENSIONS, random_state=0).fit(matrix)
