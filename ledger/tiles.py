"""The public log as files: where each hash and each entry stands, and how to read them. docs/receipt.md tells the rest.

A *tile* of level L holds 256 hashes of complete subtrees of 256^L leaves each, in order; the last one of a level is
partial and says its width in its name. A *bundle* holds the entries of a tile of level 0. Files never change: a tile
that grows gets another name. So any web server can serve them, and any cache may keep them.

Pure: no Django, no files, no clock.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

from ledger import merkle

WIDTH = 256
TREE_LEVELS = 8  # of a tile: 256 = 2^8
CHECKPOINT = "checkpoint"
#: A bundle says an entry's length in two bytes, as C2SP has it. Longer entries say this, and then the length in four.
LONG = 0xFFFF

_NUMBER = r"(?:x[0-9]{3}/)*[0-9]{3}"
#: Every name that a file of the log can have.
NAME = re.compile(
    rf"{CHECKPOINT}|checkpoints/{_NUMBER}|tile/(?:entries|[0-9]|[1-5][0-9]|6[0-3])/{_NUMBER}(?:\.p/[0-9]+)?"
)


class Tile(NamedTuple):
    """A tile's place. `level` is -1 for a bundle of entries, which is as wide as the tile of level 0 beside it."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def first(self) -> int:
        """The index of its first hash or entry, on its level."""
        return self.number * WIDTH

    @property
    def name(self) -> str:
        """Its file's name."""
        level = "entries" if self.level < 0 else self.level
        return f"tile/{level}/{_digits(self.number)}" + (f".p/{self.width}" if self.width < WIDTH else "")


def kept_head(index: int) -> str:
    """The name of the file of the first head that covers the whole bundle `index`."""
    return f"checkpoints/{_digits(index)}"


def full(size: int, *, after: int = 0) -> Iterator[Tile]:
    """List the full tiles and bundles of a log of `size` leaves that one of `after` leaves does not have."""
    for index in range(after // WIDTH, size // WIDTH):
        yield Tile(-1, index)
        yield Tile(0, index)
    level, before, now = 1, after // WIDTH, size // WIDTH
    while now >= WIDTH:
        yield from (Tile(level, index) for index in range(before // WIDTH, now // WIDTH))
        level, before, now = level + 1, before // WIDTH, now // WIDTH


def partial(size: int) -> Iterator[Tile]:
    """List the partial tiles and the partial bundle of a log of `size` leaves."""
    if size % WIDTH:
        yield Tile(-1, size // WIDTH, size % WIDTH)
    level, hashes = 0, size
    while hashes:
        if hashes % WIDTH:
            yield Tile(level, hashes // WIDTH, hashes % WIDTH)
        level, hashes = level + 1, hashes // WIDTH


def to_bundle(entries: Iterable[bytes]) -> bytes:
    """Write entries one after another, each behind its length."""
    return b"".join(_length(len(entry)) + entry for entry in entries)


def of_bundle(data: bytes) -> list[bytes]:
    """Read a bundle. Raises ValueError if it ends within an entry."""
    entries, at = [], 0

    def taken(count: int) -> bytes:
        nonlocal at
        at += count
        if at > len(data):
            raise ValueError("the bundle ends within an entry")
        return data[at - count : at]

    while at < len(data):
        size = int.from_bytes(taken(2), "big")
        entries.append(taken(int.from_bytes(taken(4), "big") if size == LONG else size))
    return entries


def hash_source(read: Callable[[str], bytes], size: int) -> merkle.HashSource:
    """Read the hashes of a tree of `size` leaves out of tiles. `read` returns a file's content by its name."""

    @cache
    def hashes(level: int, index: int) -> list[bytes]:
        width = min(WIDTH, (size >> TREE_LEVELS * level) - index * WIDTH)
        data = read(Tile(level, index, width).name)
        if len(data) != width * merkle.HASH_BYTES:
            raise ValueError(f"a tile of {width} hashes has {len(data)} bytes")
        return [data[at : at + merkle.HASH_BYTES] for at in range(0, len(data), merkle.HASH_BYTES)]

    def hash_at(level: int, index: int) -> bytes:
        tile_level, below = divmod(level, TREE_LEVELS)
        first = index << below
        within = first % WIDTH
        row = hashes(tile_level, first // WIDTH)[within : within + (1 << below)]
        while len(row) > 1:
            row = [merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]

    return hash_at


def _digits(number: int) -> str:
    """1234067 is x001/x234/067."""
    digits = f"{number:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])


def _length(size: int) -> bytes:
    return size.to_bytes(2, "big") if size < LONG else LONG.to_bytes(2, "big") + size.to_bytes(4, "big")
