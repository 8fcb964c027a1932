"""Merkle roots of versions, as RFC 6962 hashes a list. Pure.

A version's leaves are `record <identity>` for every record, identities sorted, then one `leaders <sha256>` for its leader
map. So one proof shows that a record is in a version, and another which copies stood behind which leaders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping


def version_root(identities: Iterable[str], leader_map_sha256: str) -> str:
    """The hex root of a version.

    Args:
        identities: the records' public identities, 64 hex digits each, in any order.
        leader_map_sha256: see `leader_map_hash`.
    """
    leaves = [f"record {identity}".encode() for identity in sorted(identities)]
    return merkle_root([*leaves, f"leaders {leader_map_sha256}".encode()]).hex()


def leader_map_hash(leaders: Mapping[str, str]) -> str:
    """SHA-256, hex, of the lines `follower leader\\n` of identities, sorted. The empty map hashes as no bytes."""
    lines = "".join(f"{follower} {leader}\n" for follower, leader in sorted(leaders.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1. Combining level by level, the odd node carried up, gives the same tree as its recursion."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]
