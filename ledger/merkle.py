"""RFC 6962 Merkle trees over hashes that somebody else stores.

The tree is never held in memory. A *hash source* `hash_at(level, index)` returns the stored hash of the complete
subtree over the leaves [index << level, (index + 1) << level); level 0 is the leaf hashes. An append stores what
`new_nodes` returns; roots and proofs read at most two stored hashes per level. The caller may be a table, a file or a
dict: this module imports nothing of it.

Hashes are 32 bytes of SHA-256. Sizes and indexes count leaves from 0.

Source: RFC 6962 section 2.1 (the tree and the proofs), RFC 9162 sections 2.1.3.2 and 2.1.4.2 (the checks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

HashSource = Callable[[int, int], bytes]

HASH_BYTES = 32
#: A table of hashes keeps every fourth level. Those between are 14/15 of all, and each follows from at most eight kept ones.
KEPT_EVERY = 4
EMPTY_ROOT = hashlib.sha256(b"").digest()


class Run(NamedTuple):
    """Neighbouring complete subtrees of one level: the hash at `first_index` and those after it."""

    level: int
    first_index: int
    hashes: Sequence[bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash the bytes of one leaf. The prefix 0x00 keeps a leaf from passing for an inner node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def new_nodes(size_before: int, leaf_hashes: Sequence[bytes], hash_at: HashSource) -> list[Run]:
    """List the nodes that appending `leaf_hashes` to a tree of `size_before` leaves completes.

    Args:
        size_before: Leaves in the tree so far.
        leaf_hashes: The new leaves' hashes, in order.
        hash_at: The stored nodes of the tree so far; read at most once per level.

    Returns:
        Every newly complete subtree, one run per level, the leaves (level 0) first. `positions` numbers them one by
        one. Storing them twice is harmless: the same append gives the same nodes.

    Raises:
        ValueError: size_before is negative, or a hash is not 32 bytes long.
    """
    if size_before < 0 or not {HASH_BYTES}.issuperset(map(len, leaf_hashes)):
        raise ValueError("an append needs a size of 0 or more and hashes of 32 bytes")
    runs = []
    level, first, hashes, sha256 = 0, size_before, leaf_hashes, hashlib.sha256
    while hashes:
        runs.append(Run(level, first, hashes))
        if first % 2:  # The left half of the first pair was complete before this append.
            hashes = [hash_at(level, first - 1), *hashes]
        halves = iter(hashes)
        # `node_hash`, written out: a call per node is a fifth of the whole append.
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in zip(halves, halves, strict=False)]
        level, first = level + 1, first // 2
    return runs


def positions(runs: Sequence[Run]) -> Iterator[tuple[int, int, bytes]]:
    """Number the nodes of runs one by one: (level, index, hash)."""
    return (
        (run.level, index, digest) for run in runs for index, digest in enumerate(run.hashes, start=run.first_index)
    )


def root(size: int, hash_at: HashSource) -> bytes:
    """Return the root of the first `size` leaves; the root of the empty tree is SHA-256 of nothing."""
    if size < 0:
        raise ValueError("a tree has 0 or more leaves")
    return _subtree(0, size, hash_at) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, hash_at: HashSource) -> list[bytes]:
    """Prove that leaf `index` is in the tree of the first `size` leaves: the siblings from the leaf up to the root.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    siblings, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            siblings.append(_subtree(middle, high, hash_at))
            high = middle
        else:
            siblings.append(_subtree(low, middle, hash_at))
            low = middle
    return siblings[::-1]


def consistency_proof(old_size: int, new_size: int, hash_at: HashSource) -> list[bytes]:
    """Prove that the tree of `new_size` leaves starts with the tree of `old_size` leaves.

    The proof from the empty tree, and from a tree to itself, is empty.

    Raises:
        ValueError: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {new_size} cannot extend a tree of {old_size}")
    if old_size in (0, new_size):
        return []
    hashes, low, high = [], 0, new_size
    # Walk down to the subtree that ends where the old tree ended.
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            hashes.append(_subtree(middle, high, hash_at))
            high = middle
        else:
            hashes.append(_subtree(low, middle, hash_at))
            low = middle
    if low:  # Otherwise it is the whole old tree, whose root the verifier has.
        hashes.append(_subtree(low, high, hash_at))
    return hashes[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> bool:
    """Say whether `proof` shows that the leaf hash `leaf` is at `index` in the tree with that size and root."""
    if not 0 <= index < size or not _are_hashes(leaf, *proof):
        return False
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and computed == expected_root


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether `proof` shows that the new tree starts with the old one, leaf for leaf.

    Every tree extends the empty tree (old size 0, the empty root, an empty proof).
    """
    if not 0 <= old_size <= new_size or not _are_hashes(old_root, new_root, *proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    # When the old tree is one complete subtree the proof leaves it out: the verifier has its hash.
    hashes = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not hashes or not proof:
        return False
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_computed, new_computed = node_hash(sibling, old_computed), node_hash(sibling, new_computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old_computed == old_root and new_computed == new_root


def required_nodes(compute: Callable[..., object], *sizes: int) -> list[tuple[int, int]]:
    """List the (level, index) that `root`, `inclusion_proof` or `consistency_proof` will read for these sizes.

    With it a proof out of a database is one query instead of one per level:

        wanted = required_nodes(inclusion_proof, index, size)
    """
    wanted: list[tuple[int, int]] = []

    def record(level: int, index: int) -> bytes:
        wanted.append((level, index))
        return EMPTY_ROOT

    compute(*sizes, record)
    return list(dict.fromkeys(wanted))


def kept_under(wanted: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """List the hashes of kept levels, (level, index), that these follow from. `source_of` needs no others."""
    found = []
    for level, index in wanted:
        above = level % KEPT_EVERY
        found += [(level - above, place) for place in range(index << above, (index + 1) << above)]
    return list(dict.fromkeys(found))


def source_of(kept: Mapping[tuple[int, int], bytes]) -> HashSource:
    """Answer for every level out of the hashes of the kept ones. Raises KeyError for what does not follow from them."""

    def hash_at(level: int, index: int) -> bytes:
        if level % KEPT_EVERY == 0:
            return kept[level, index]
        return node_hash(hash_at(level - 1, 2 * index), hash_at(level - 1, 2 * index + 1))

    return hash_at


def _subtree(low: int, high: int, hash_at: HashSource) -> bytes:
    """Hash the leaves [low, high) as RFC 6962 does; low is a multiple of the largest power of two in that range."""
    width = high - low
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return hash_at(level, low >> level)
    middle = low + _split(width)
    return node_hash(_subtree(low, middle, hash_at), _subtree(middle, high, hash_at))


def _split(width: int) -> int:
    """Return the largest power of two that is smaller than `width`: the leaves of the left half."""
    return 1 << ((width - 1).bit_length() - 1)


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
