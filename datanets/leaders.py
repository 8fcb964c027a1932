"""Who was first: exact and near copies against existing leaders, in the order of registration. Pure.

A record is compared with leaders only, never with followers: with single linkage a chain of small steps would join records
that have nothing in common. `signature` is stored with the record, `bands(signature)` in an indexed array of integers;
records that share a band are candidates, and `distance` decides. Signatures leave out labels and titles, so that a stolen
record with another label is still found.

Calibration (scikit-learn's data and the licence files of 163 installed packages; tests/datanets/test_leaders.py keeps it):

* text, distance <= 0.45 over 3-word shingles (5-word shingles lost 5 % of copies with 6 words in 120 replaced). Passages
  of 120 words: other case, punctuation or zero-width characters 0.00; 2 words replaced 0.09 (95th percentile 0.14), 4 words
  0.17 (0.25), 6 words 0.25 (0.32), 20 words added 0.16 (0.23), a fifth cut 0.20 (0.27): all caught. 12 words (10 %) 65 %,
  two fifths cut 80 %, clauses reordered 88 %. Different families of licences are 0.90 apart or more; BSD 2-Clause and
  3-Clause, which differ by one clause, are 0.21 or more and may merge. Below 30 words only the same words are a copy:
  sentences made from one template differ by a word and mean something else.
* tabular, distance <= 1. Rows of breast cancer, wine and diabetes: reformatted numbers 100 %; three significant digits 72 %,
  88 %, 100 % (with spreads 100 %, 88 %, 100 %); noise of 0.4 % of the spread 0 % without spreads, 100 % with them; noise of
  1 % is not caught. Nearest honest rows are 21 to 28 units apart: no honest pair merges.
* image, distance <= 0.10. The 8x8 digits: brightness +-2 % 0.015 (maximum 0.029), -20 % 0.008, noise of 2 levels 0.017
  (0.025), of 5 levels 0.029 (0.040), JPEG 95 0.021 (0.029), enlarged without smoothing 0.00: all caught; noise of 16 levels
  0.080 (97 % caught), JPEG 75 0.084 (93 %). The nearest two honest digits of 1,797 are 0.108 apart, 99 % of them 0.186 or
  more: none merges. Shifted, turned, mirrored, cropped and smoothly enlarged digits are not found.

Records that share no band are never compared. Images: bands lost none of those caught. Text: by computation 5 % of pairs
exactly at the threshold, 0.2 % at 0.35, none below 0.3.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import unicodedata
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import numpy as np
from PIL import Image

from datanets.kinds import tabular

# A pair is a near copy when its distance is at most this; units per kind, see `distance`.
THRESHOLDS = {"text": 0.45, "tabular": 1.0, "image": 0.10}

PERMUTATIONS = 128
SHINGLE_WORDS = 3
TEXT_WORDS_MIN = 30
TEXT_BANDS = 32
THUMB_SIDE = 16
IMAGE_BANDS = 16
ROW_BANDS = 16
ROW_BAND_COLUMNS = 4
SPREAD_TOLERANCE = 0.005
ROW_DIGITS_MIN = 8  # significant digits a row must hold before two alike can only be copies

_KIND_BYTES = {"text": b"t", "tabular": b"r", "image": b"i"}
_KINDS = {value[0]: key for key, value in _KIND_BYTES.items()}
_DIGEST_BYTES = 16
_PAYLOAD = 1 + _DIGEST_BYTES
_CELL = struct.Struct("<cdbd")  # type, value, decimals, tolerance from the spread
_COLOUR_SIDE = 4
_COLOUR_LEVELS_MAX = 24  # of 255, mean difference of the coarse colours
_WORD = re.compile(r"\w+")


def signature(kind: str, body: dict, media: bytes | None = None, *, schema: dict | None = None) -> bytes:
    """What is compared of a record: kind, a digest of its content without label, and a sketch of it.

    media: the stored picture, for images. schema: the Datanet's, for tables: it names the label, and a column's "spread"
    (see `with_spreads`) where it is known. About 0.5 kB.
    """
    digest, payload = {"text": _text_sketch, "tabular": _row_sketch, "image": _image_sketch}[kind](
        body, media, schema or {}
    )
    return _KIND_BYTES[kind] + hashlib.blake2b(digest, digest_size=_DIGEST_BYTES).digest() + payload


def bands(signature: bytes) -> list[int]:
    """Integers below 2**62: two near copies share at least one of them (with the probabilities stated above)."""
    kind, payload = _KINDS[signature[0]], signature[_PAYLOAD:]
    parts = [b"exact" + signature[1:_PAYLOAD]]
    parts += {"text": _text_bands, "tabular": _row_bands, "image": _image_bands}[kind](payload)
    return sorted({_band(signature[:1] + part) for part in parts})


def distance(one: bytes, other: bytes) -> float | None:
    """How far two records are apart, or None when they cannot be compared. 0.0: the same content.

    text: 1 - estimated Jaccard similarity of their word shingles. tabular: the largest difference of a number, in units of
    what rounding (and SPREAD_TOLERANCE of the column's spread) explains. image: root mean square difference of standardised
    grey thumbnails.
    """
    if one[0] != other[0]:
        return None
    if one[1:_PAYLOAD] == other[1:_PAYLOAD]:
        return 0.0
    apart = {"text": _text_distance, "tabular": _row_distance, "image": _image_distance}[_KINDS[one[0]]]
    return apart(one[_PAYLOAD:], other[_PAYLOAD:])


class Index:
    """Leaders to compare with, in the order in which they were added."""

    def __init__(self) -> None:
        self._leaders: list[tuple[Hashable, bytes]] = []
        self._by_band: dict[int, list[int]] = {}

    def add(self, key: Hashable, signature: bytes) -> None:
        """Make a record a leader. Add them in the order of their registration."""
        for band in bands(signature):
            self._by_band.setdefault(band, []).append(len(self._leaders))
        self._leaders.append((key, signature))

    def nearest(self, signature: bytes) -> tuple[Hashable, float] | None:
        """The nearest leader that this record is a copy of, with the distance; the earliest of several equally near."""
        limit = THRESHOLDS[_KINDS[signature[0]]]
        found: tuple[float, int] | None = None
        for position in sorted({each for band in bands(signature) for each in self._by_band.get(band, ())}):
            apart = distance(signature, self._leaders[position][1])
            if apart is not None and apart <= limit and (found is None or apart < found[0]):
                found = (apart, position)
        return None if found is None else (self._leaders[found[1]][0], found[0])


def assign(
    records: Iterable[tuple[Hashable, bytes]], index: Index
) -> list[tuple[Hashable, Hashable | None, float | None]]:
    """Decide for new records, given as (key, signature) in the order of registration, whose copy each is.

    Returns (key, key of its leader or None, distance or None). Those that are nobody's copy become leaders in the index.
    """
    decided = []
    for key, sketch in records:
        found = index.nearest(sketch)
        if found is None:
            index.add(key, sketch)
        decided.append((key, *(found or (None, None))))
    return decided


@dataclass(frozen=True)
class Member:
    """A record as a version sees it. copy_of: its stored leader, or None. in_version: approved, not withdrawn, not under
    a lost dispute, when the version is frozen."""

    key: Hashable
    copy_of: Hashable | None
    in_version: bool


def leader_map(records: Iterable[Member]) -> dict[Hashable, Hashable]:
    """The followers of a version and whom they follow; records are given in the order of their registration.

    The leader of a cluster is its earliest record that is in the version. When the first one is withdrawn, the next honest
    copy leads in the next version. For a model on several versions, pass the records of all of them.
    """
    leaders: dict[Hashable, Hashable] = {}
    followers: dict[Hashable, Hashable] = {}
    for record in records:
        if not record.in_version:
            continue
        cluster = record.key if record.copy_of is None else record.copy_of
        leader = leaders.setdefault(cluster, record.key)
        if leader != record.key:
            followers[record.key] = leader
    return followers


def with_spreads(schema: dict, bodies: Iterable[dict]) -> dict:
    """The schema with a "spread" for each numeric column that has none: the range of its middle 90 %.

    Needs at least 20 values of a column. Store it once, with the first submission: a spread that moved would move verdicts.
    """
    rows = list(bodies)
    columns = []
    for column in schema["columns"]:
        values = [row[column["name"]] for row in rows if isinstance(row.get(column["name"]), (int, float))]
        if column["type"] in ("number", "integer") and "spread" not in column and len(values) >= 20:
            low, high = np.percentile(np.array(values, dtype=np.float64), [5, 95])
            column = column | {"spread": float(high - low)}
        columns.append(column)
    return schema | {"columns": columns}


def asked_of(schema: dict) -> dict:
    """A schema as its owner stated it: without the spreads, which the rows of each Datanet decide."""
    columns = [{key: column[key] for key in column if key != "spread"} for column in schema.get("columns", [])]
    return schema | {"columns": columns}


def _band(part: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(part, digest_size=8).digest(), "big") >> 2


# Text: MinHash of word shingles.


def _text_sketch(body: dict, media: bytes | None, schema: dict) -> tuple[bytes, bytes]:
    words = _words(body["text"])
    if not words:  # a text of signs only
        return ("signs" + body["text"].strip()).encode(), b""
    if len(words) < TEXT_WORDS_MIN:
        return " ".join(words).encode(), b""
    vocabulary = {word: _hash64(word) for word in set(words)}
    hashes = np.array([vocabulary[word] for word in words], dtype=np.uint64)
    return " ".join(words).encode(), _min_hash(_shingles(hashes)).tobytes()


def _words(text: str) -> list[str]:
    """Words as they sound: no case, accents' composition, zero-width characters or punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf") if not plain.isascii() else plain
    return _WORD.findall(plain)


def _hash64(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _shingles(hashes: np.ndarray) -> np.ndarray:
    count = len(hashes) - SHINGLE_WORDS + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(SHINGLE_WORDS):
        mixed = _mix(mixed * np.uint64(0x100000001B3) + hashes[offset : offset + count])
    return np.unique(mixed)


def _min_hash(shingles: np.ndarray) -> np.ndarray:
    smallest = np.full(PERMUTATIONS, 0xFFFFFFFF, dtype=np.uint32)
    for start in range(0, len(shingles), 4096):
        block = _mix(shingles[start : start + 4096, None] ^ _seeds()[None, :]) >> np.uint64(32)
        smallest = np.minimum(smallest, block.astype(np.uint32).min(axis=0))
    return smallest


@cache
def _seeds() -> np.ndarray:
    return _mix(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every bit of the result depends on every bit given."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _text_bands(payload: bytes) -> list[bytes]:
    if not payload:
        return []
    width = len(payload) // TEXT_BANDS
    return [struct.pack("<H", band) + payload[band * width : (band + 1) * width] for band in range(TEXT_BANDS)]


def _text_distance(one: bytes, other: bytes) -> float | None:
    if not one or not other:
        return None
    same = np.frombuffer(one, np.uint32) == np.frombuffer(other, np.uint32)
    return 1.0 - float(same.mean())


# Tables: every number alike but for rounding or a trace of noise, every other value the same.


def _row_sketch(body: dict, media: bytes | None, schema: dict) -> tuple[bytes, bytes]:
    label = schema.get("label")
    spreads = {column["name"]: column.get("spread", 0.0) for column in schema.get("columns", [])}
    values = {name: body[name] for name in sorted(body) if name != label}
    cells = []
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            tolerance = SPREAD_TOLERANCE * spreads.get(name, 0.0)
            cells.append((b"n", float(value), _decimals(value), tolerance))
        else:
            text = value.strip().casefold() if isinstance(value, str) else value
            word = _hash64(repr(text)) >> 12  # below 2**52: exact as a float
            cells.append((b"c", float(word), 0, 0.0))
    enough = _row_digits(cells, cells) >= ROW_DIGITS_MIN
    payload = b"".join(_CELL.pack(*cell) for cell in cells) if enough else b""
    # A row that says little is a copy only when it is the same to the last value, label included.
    return tabular.canonical(values if enough else body), payload


def _decimals(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, min(100, -int(exponent)))


def _row_digits(one: list, other: list) -> float:
    """How many significant digits the coarser of two rows holds; a tolerance from the spread leaves two per column."""
    digits = 0.0
    for (kind, a, a_decimals, a_spread), (_, b, b_decimals, b_spread) in zip(one, other, strict=True):
        if kind != b"n":
            continue
        decimals = min(a_decimals, b_decimals)
        held = max(0.0, math.log10(max(1.0, max(abs(a), abs(b)) * 10.0**decimals)))
        digits += min(held, 2.0) if max(a_spread, b_spread) > 0.5 * 10.0**-decimals else held
    return digits


def _cells(payload: bytes) -> list[tuple[bytes, float, int, float]]:
    return list(_CELL.iter_unpack(payload))


def _row_bands(payload: bytes) -> list[bytes]:
    cells = _cells(payload)
    if not cells:
        return []
    found = []
    for band, (chosen, offsets) in enumerate(_row_choices(len(cells))):
        parts = [struct.pack("<HH", band, len(cells))]
        for column in chosen:
            kind, value, *_ = cells[column]
            parts.append(_row_cell(kind, value, offsets[column]))
        found.append(b"".join(parts))
    return found


@cache
def _row_choices(columns: int) -> list[tuple[list[int], list[float]]]:
    """Of each band the columns it looks at, and where the cells of every column begin. Drawn once: it takes a millisecond."""
    found = []
    for band in range(ROW_BANDS):
        random = np.random.default_rng((band, columns))
        chosen = random.permutation(columns)[:ROW_BAND_COLUMNS]
        found.append((sorted(chosen.tolist()), random.random(columns).tolist()))
    return found


def _row_cell(kind: bytes, value: float, offset: float) -> bytes:
    """The cell a value falls into: steps of 5 % at a random offset, so that rounding seldom crosses a border."""
    if kind == b"c" or value == 0.0:
        return kind + struct.pack("<d", value)
    step = math.floor(math.log(abs(value)) / math.log(1.05) + offset)
    return kind + struct.pack("<bq", 1 if value > 0 else -1, step)


def _row_distance(one: bytes, other: bytes) -> float | None:
    if not one or len(one) != len(other):
        return None
    mine, theirs = _cells(one), _cells(other)
    largest = 0.0
    for (kind, a, a_decimals, a_spread), (other_kind, b, b_decimals, b_spread) in zip(mine, theirs, strict=True):
        if kind != other_kind or (kind == b"c" and a != b):
            return None
        rounding = 0.5 * 10.0 ** -min(a_decimals, b_decimals) * (1 + 1e-9)
        if a != b:
            coarse = rounding if a_decimals != b_decimals else 0.0  # the same digits: rounding explains nothing
            tolerance = max(coarse, a_spread, b_spread)
            if tolerance == 0.0 or abs(a - b) > tolerance * 1000:
                return None
            largest = max(largest, abs(a - b) / tolerance)
    return largest if _row_digits(mine, theirs) >= ROW_DIGITS_MIN else None


# Images: standardised grey thumbnails, and coarse colours.


def _image_sketch(body: dict, media: bytes | None, schema: dict) -> tuple[bytes, bytes]:
    if media is None:
        raise ValueError("an image has no signature without its picture")
    picture = Image.open(io.BytesIO(media), formats=("PNG", "JPEG"))
    flat = Image.new("RGB", picture.size, (255, 255, 255))
    shown = picture.convert("RGBA")
    flat.paste(shown, mask=shown.getchannel("A"))
    thumb = np.asarray(flat.convert("L").convert("F").resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX))
    spread = float(thumb.std())
    standard = (thumb - thumb.mean()) / spread if spread >= 2.0 else np.zeros_like(thumb)
    quantised = np.clip(np.round(standard * 32), -127, 127).astype(np.int8)
    colours = np.asarray(flat.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX), dtype=np.uint8)
    digest = f"{picture.size}{body.get('pixels', '')}".encode() + (media if "pixels" not in body else b"")
    return digest, quantised.tobytes() + colours.tobytes()


def _image_parts(payload: bytes) -> tuple[np.ndarray, np.ndarray]:
    side = THUMB_SIDE * THUMB_SIDE
    thumb = np.frombuffer(payload[:side], np.int8).astype(np.float64) / 32
    return thumb, np.frombuffer(payload[side:], np.uint8).astype(np.float64)


@cache
def _directions() -> np.ndarray:
    random = np.random.default_rng(20240607)
    return random.standard_normal((THUMB_SIDE * THUMB_SIDE, IMAGE_BANDS * 16))


def _image_bands(payload: bytes) -> list[bytes]:
    thumb, colours = _image_parts(payload)
    if not thumb.any():
        return [b"blank" + np.round(colours.reshape(-1, 3).mean(axis=0) / 64).astype(np.uint8).tobytes()]
    bits = np.packbits((thumb @ _directions()) > 0).tobytes()
    return [struct.pack("<H", band) + bits[2 * band : 2 * band + 2] for band in range(IMAGE_BANDS)]


def _image_distance(one: bytes, other: bytes) -> float | None:
    thumb, colours = _image_parts(one)
    other_thumb, other_colours = _image_parts(other)
    if float(np.abs(colours - other_colours).mean()) > _COLOUR_LEVELS_MAX or thumb.any() != other_thumb.any():
        return None
    return float(np.sqrt(((thumb - other_thumb) ** 2).mean()))
