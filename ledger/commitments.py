"""Entries of the public log: what each type says, the salted commitments in place of what it does not, and its leaf.

An *entry* is what the log publishes about one fact. It holds no private value, only salted commitments; the salts come
from one random secret that lives in a row of its own, so erasing a person is deleting secrets. Amounts are decimal
strings of nano-OPEN. docs/receipt.md has a test vector of each type. Pure: no Django, no files, no clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ledger import merkle, strict

ENTRY_VERSION = "open-entry/1"
SECRET_BYTES = 32

_HEADER = ("v", "type", "id")

PAD = {"payee": "", "role": "pad", "item": "", "amount": "0"}

_HOUR = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])")


class EntryType(NamedTuple):
    """What an entry says in clear, what it commits to, and whether it has split lines (which add up to `price`)."""

    public: tuple[str, ...]
    private: tuple[str, ...] = ()
    split: bool = False


CALL_CHARGED = "call.charged"
CALL_ATTRIBUTED = "call.attributed"
ACCESS_CHARGED = "access.charged"
TRAINING_CHARGED = "training.charged"
REFUND_MADE = "refund.made"
EPOCH_SETTLED = "epoch.settled"
VERSION_PUBLISHED = "version.published"
MODEL_PUBLISHED = "model.published"
RULE_ADOPTED = "rule.adopted"
CONSENT_WITHDRAWN = "consent.withdrawn"
WITHDRAWAL_SENT = "withdrawal.sent"
KEY_ROTATED = "key.rotated"
POSTING_MADE = "posting.made"

# Ids only: a name is somebody's, and nothing can be taken back from the log. Pages look names up.
_CHARGE = ("model_id", "version_id", "rule")

ENTRY_TYPES: dict[str, EntryType] = {
    CALL_CHARGED: EntryType(_CHARGE, ("buyer", "paid_by", "request", "response", "tokens", "price"), split=True),
    CALL_ATTRIBUTED: EntryType(("charge", "epoch"), ("price",), split=True),
    ACCESS_CHARGED: EntryType(_CHARGE, ("buyer", "price"), split=True),
    TRAINING_CHARGED: EntryType(_CHARGE, ("buyer", "price"), split=True),
    REFUND_MADE: EntryType(("reverses",), ("buyer", "price"), split=True),
    EPOCH_SETTLED: EntryType(("model_id", "epoch", "pool", "paid", "unattributed", "lines_root", "equally")),
    VERSION_PUBLISHED: EntryType(("datanet_id", "version", "records", "root", "licence")),
    MODEL_PUBLISHED: EntryType(("model_id", "version", "artifact", "versions")),
    RULE_ADOPTED: EntryType(("rule", "parts")),
    CONSENT_WITHDRAWN: EntryType(("datanet_id",), ("contributor", "records")),
    WITHDRAWAL_SENT: EntryType(("run",), ("payee", "amount", "destination")),
    KEY_ROTATED: EntryType(("old", "new", "old_signature", "new_signature")),
    POSTING_MADE: EntryType(("kind",), ("posting",)),
}


def build_entry(
    type: str,
    id: str,
    hour: str,
    public: Mapping[str, object],
    private: Mapping[str, object],
    split: Sequence[Mapping[str, str]] | None,
    secret: bytes,
) -> dict:
    """Build the public entry of one fact.

    Args:
        type: One of ENTRY_TYPES.
        id: The fact's own id (a UUID); also the id of its receipt.
        hour: As `hour_of` gives it. The minute would tell who called.
        public: The type's clear fields, all of them.
        private: The type's committed fields, all of them.
        split: The lines {payee, role, item, amount}; None for a type without a split. They are padded here.
        secret: 32 random bytes, kept where they can be deleted.

    Returns:
        The entry; the same arguments give the same entry.

    Raises:
        strict.Malformed: the type is unknown, a field is missing or unknown, a value cannot be written as canonical JSON,
            or the split does not add up to the price.
    """
    fields = ENTRY_TYPES.get(type)
    if fields is None:
        raise strict.Malformed(f"no entry type {type!r}")
    if set(public) != set(fields.public) or set(private) != set(fields.private) or (split is not None) != fields.split:
        raise strict.Malformed(
            f"{type} takes public {fields.public}, private {fields.private} and {'a' if fields.split else 'no'} split"
        )
    strict.check_value(dict(public))
    if split is not None:
        for line in split:
            check_line(line)
            if line["role"] == PAD["role"]:
                raise strict.Malformed("padding is added here, not by the caller")
        if sum(int(line["amount"]) for line in split) != int(strict.amount(private["price"])):
            raise strict.Malformed("the split does not add up to the price")
    entry: dict = {"v": ENTRY_VERSION, "type": type, "id": id, "hour": hour, **public}
    commit: dict[str, object] = {
        field: commitment(field, salt_of(secret, field), value).hex() for field, value in private.items()
    }
    if split is not None:
        commit["split"] = [
            commitment(field, salt_of(secret, field), line).hex() for field, line in numbered(padded(split))
        ]
    if commit:
        entry["commit"] = commit
    check_entry(entry)
    return entry


def openings(private: Mapping[str, object], split: Sequence[Mapping[str, str]] | None, secret: bytes) -> dict:
    """Open every commitment of an entry: {field: {salt, value}}, split lines as `split.0`, `split.1`, ...

    A holder who may see less gets a part of this dict: every opening stands alone.
    """
    values = [*private.items(), *numbered(padded(split) if split is not None else [])]
    return {field: {"salt": salt_of(secret, field).hex(), "value": value} for field, value in values}


def hour_of(moment: datetime) -> str:
    """Write an aware moment as its UTC hour, 2026-11-22T07: the only time an entry tells."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H")


def padded(split: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Fill up the lines with padding to 8, 16, 32, 64 or a multiple of 64, so that their number says little."""
    return [*split, *[PAD] * (padded_length(len(split)) - len(split))]


def padded_length(count: int) -> int:
    """Return how many lines an entry shows for `count` real ones."""
    return next((length for length in (8, 16, 32, 64) if count <= length), -(-count // 64) * 64)


def salt_of(secret: bytes, field: str) -> bytes:
    """Derive the salt of one field from the entry's secret: HMAC-SHA256(secret, field)."""
    if len(secret) != SECRET_BYTES:
        raise strict.Malformed("a secret has 32 bytes")
    return hmac.digest(secret, field.encode("ascii"), "sha256")


def commitment(field: str, salt: bytes, value: object) -> bytes:
    """Commit to one value of one field: 32 bytes that say nothing without the salt."""
    message = b"open-commit/1\n" + field.encode("ascii") + b"\n" + salt + strict.canonical(value)
    return hashlib.sha256(message).digest()


def lines_root(lines: Sequence[Mapping[str, object]], secret: bytes) -> str:
    """Return the Merkle root, in hex, of the salted commitments `line.0`, `line.1`, ... to an epoch's lines."""
    hashes = [
        merkle.leaf_hash(commitment(f"line.{number}", salt_of(secret, f"line.{number}"), line))
        for number, line in enumerate(lines)
    ]
    nodes = {
        (level, index): digest
        for level, index, digest in merkle.positions(merkle.new_nodes(0, hashes, _nothing_stored))
    }
    return merkle.root(len(hashes), lambda level, index: nodes[level, index]).hex()


def body_of(entry: Mapping[str, object]) -> dict[str, object]:
    """Return what an entry says besides its version, type and id, which a row has in columns or as a constant."""
    return {name: value for name, value in entry.items() if name not in _HEADER}


def with_header(type: str, id: object, body: Mapping[str, object]) -> dict[str, object]:
    """Return the entry of this type and id that says `body`: the reverse of `body_of`."""
    return {"v": ENTRY_VERSION, "type": type, "id": str(id), **body}


def leaf_bytes(entry: Mapping[str, object]) -> bytes:
    """Return the bytes that the log hashes: the canonical JSON of the entry."""
    return strict.canonical(entry)


def leaf_hash(entry: Mapping[str, object]) -> bytes:
    """Return the hash of the entry's leaf."""
    return merkle.leaf_hash(strict.canonical(entry))


def check_entry(entry: Mapping[str, object]) -> None:
    """Raise strict.Malformed unless this has the form of an entry; whether its type is known is not asked."""
    hour = entry.get("hour")
    if entry.get("v") != ENTRY_VERSION or not all(isinstance(entry.get(key), str) for key in ("type", "id")):
        raise strict.Malformed("not an open-entry/1")
    if not isinstance(hour, str) or not _HOUR.fullmatch(hour):
        raise strict.Malformed("the hour reads YYYY-MM-DDTHH")
    if "commit" in entry:
        _check_commit(entry["commit"])


def _check_commit(commit: object) -> None:
    if not isinstance(commit, dict) or not commit:
        raise strict.Malformed("commit is an object with fields")
    for field, digest in commit.items():
        digests = digest if field == "split" else [digest]
        if not isinstance(digests, list) or not all(map(strict.is_hex32, digests)):
            raise strict.Malformed(f"the commitment to {field} is not 64 lower-case hex digits")
        if field == "split" and (not digests or len(digests) != padded_length(len(digests))):
            raise strict.Malformed("the split is not padded")


def committed(entry: Mapping) -> dict[str, str]:
    """Flatten an entry's commitments to the names under which they are opened."""
    commit = dict(entry.get("commit", {}))
    return {**dict(numbered(commit.pop("split", []))), **commit}


def numbered(lines: Iterable) -> list[tuple[str, object]]:
    """Name the lines of a split as they are committed to: `split.0`, `split.1`, ..."""
    return [(f"split.{number}", line) for number, line in enumerate(lines)]


def check_line(line: object) -> None:
    """Raise strict.Malformed unless this is a split line."""
    if not isinstance(line, Mapping) or set(line) != set(PAD) or not all(isinstance(v, str) for v in line.values()):
        raise strict.Malformed("a split line has payee, role, item and amount, all strings")
    strict.amount(line["amount"])


def _nothing_stored(level: int, index: int) -> bytes:
    raise KeyError((level, index))
