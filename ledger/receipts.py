"""Entries of the public log, the notes that sign its heads, and receipts: docs/receipt.md describes every format.

An *entry* is what the log publishes about one fact. It holds no private value, only salted commitments; the salts come
from one random secret that lives in a row of its own, so erasing a person is deleting secrets. A *checkpoint* is a
signed head of the log, a *cosignature* a witness's word that the head extends the last one it saw. A *receipt* binds
an entry to a checkpoint, and opens those commitments its holder may see.

Pure: no Django, no files, no clock. Amounts are decimal strings of nano-OPEN.

Source: C2SP signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof; RFC 8785 (canonical JSON); RFC 8032.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger import merkle

ENTRY_VERSION = "open-entry/1"
RECEIPT_VERSION = "open-receipt/1"
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
ROTATION_HEADER = "open-key-rotation/1"

LOG_KEY = 1  # Signature type bytes of the C2SP signed-note registry.
WITNESS_KEY = 4

SECRET_BYTES = 32
RECEIPT_CHARS_MAX = 16 * 1024 * 1024
PROOF_HASHES_MAX = 63
SIGNATURES_MAX = 64
NESTING_MAX = 16

PAD = {"payee": "", "role": "pad", "item": "", "amount": "0"}

_EM_DASH = "\u2014"
_HEX32 = re.compile(r"[0-9a-f]{64}")
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_HOUR = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")


class Malformed(ValueError):
    """The text is not what the format says, to the letter."""


class Untrusted(ValueError):
    """The note carries no valid signature of the key that was asked for."""


# --- Entries ---------------------------------------------------------------------------------------------------------


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
    EPOCH_SETTLED: EntryType(("model_id", "epoch", "pool", "paid", "unattributed", "lines_root")),
    VERSION_PUBLISHED: EntryType(("datanet_id", "version", "records", "root", "licence")),
    MODEL_PUBLISHED: EntryType(("model_id", "version", "artifact", "versions")),
    RULE_ADOPTED: EntryType(("rule", "parts")),
    CONSENT_WITHDRAWN: EntryType(("datanet_id",), ("contributor", "records")),
    WITHDRAWAL_SENT: EntryType(("run",), ("payee", "amount", "destination")),
    KEY_ROTATED: EntryType(("old", "new", "old_signature", "new_signature")),
    POSTING_MADE: EntryType(("kind",), ("moves",)),
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
        Malformed: the type is unknown, a field is missing or unknown, a value cannot be written as canonical JSON, or
            the split does not add up to the price.
    """
    fields = ENTRY_TYPES.get(type)
    if fields is None:
        raise Malformed(f"no entry type {type!r}")
    if set(public) != set(fields.public) or set(private) != set(fields.private) or (split is not None) != fields.split:
        raise Malformed(
            f"{type} takes public {fields.public}, private {fields.private} and {'a' if fields.split else 'no'} split"
        )
    _check_value(dict(public))
    if split is not None:
        for line in split:
            _check_line(line)
            if line["role"] == PAD["role"]:
                raise Malformed("padding is added here, not by the caller")
        if sum(int(line["amount"]) for line in split) != int(_amount(private["price"])):
            raise Malformed("the split does not add up to the price")
    entry: dict = {"v": ENTRY_VERSION, "type": type, "id": id, "hour": hour, **public}
    commit: dict[str, object] = {
        field: commitment(field, salt_of(secret, field), value).hex() for field, value in private.items()
    }
    if split is not None:
        commit["split"] = [
            commitment(field, salt_of(secret, field), line).hex() for field, line in _numbered(padded(split))
        ]
    if commit:
        entry["commit"] = commit
    _check_entry(entry)
    return entry


def openings(private: Mapping[str, object], split: Sequence[Mapping[str, str]] | None, secret: bytes) -> dict:
    """Open every commitment of an entry: {field: {salt, value}}, split lines as `split.0`, `split.1`, ...

    A holder who may see less gets a part of this dict: every opening stands alone.
    """
    values = [*private.items(), *_numbered(padded(split) if split is not None else [])]
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
        raise Malformed("a secret has 32 bytes")
    return hmac.digest(secret, field.encode("ascii"), "sha256")


def commitment(field: str, salt: bytes, value: object) -> bytes:
    """Commit to one value of one field: 32 bytes that say nothing without the salt."""
    message = b"open-commit/1\n" + field.encode("ascii") + b"\n" + salt + canonical(value)
    return hashlib.sha256(message).digest()


def lines_root(lines: Sequence[Mapping[str, object]], secret: bytes) -> str:
    """Return the Merkle root, in hex, of the salted commitments `line.0`, `line.1`, ... to an epoch's lines."""
    hashes = [
        merkle.leaf_hash(commitment(f"line.{number}", salt_of(secret, f"line.{number}"), line))
        for number, line in enumerate(lines)
    ]
    nodes = {(level, index): digest for level, index, digest in merkle.new_nodes(0, hashes, _nothing_stored)}
    return merkle.root(len(hashes), lambda level, index: nodes[level, index]).hex()


def leaf_bytes(entry: Mapping[str, object]) -> bytes:
    """Return the bytes that the log hashes: the canonical JSON of the entry."""
    return canonical(entry)


def leaf_hash(entry: Mapping[str, object]) -> bytes:
    """Return the hash of the entry's leaf."""
    return merkle.leaf_hash(canonical(entry))


def canonical(value: object) -> bytes:
    """Write a value as RFC 8785 canonical JSON.

    Strings, integers from 0 to 2^53 - 1, lists, and objects with ASCII keys only: there the sorted, compact output of
    the standard library is already canonical (tests compare it with an RFC 8785 library), and several times faster.

    Raises:
        Malformed: anything else in the value, floats, booleans and None included.
    """
    _check_value(value)
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)


# --- Keys, notes, checkpoints ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VerifierKey:
    """A public key with a name; `algorithm` is LOG_KEY or WITNESS_KEY."""

    name: str
    algorithm: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that name this key on a signature line."""
        kind = bytes([self.algorithm])
        return hashlib.sha256(self.name.encode() + b"\n" + kind + self.public).digest()[:4]

    def encode(self) -> str:
        """Write the key as the text that readers pin: name+id+base64."""
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.algorithm]) + self.public)}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Say whether this key signed the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key with a name. Its text form is a secret: keep it in a file of mode 0600."""

    verifier: VerifierKey
    seed: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier.name!r})"

    def encode(self) -> str:
        """Write the key as PRIVATE+KEY+name+id+base64."""
        secret = _base64(bytes([self.verifier.algorithm]) + self.seed)
        return f"PRIVATE+KEY+{self.verifier.name}+{self.verifier.id.hex()}+{secret}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def new_signing_key(name: str, algorithm: int, seed: bytes | None = None) -> SigningKey:
    """Make a key; without a seed a random one. The name is the log's origin, or the witness's."""
    if not _KEY_NAME.fullmatch(name) or algorithm not in (LOG_KEY, WITNESS_KEY):
        raise Malformed("a key name has no spaces and no plus, and the algorithm is 1 (log) or 4 (witness)")
    private = Ed25519PrivateKey.from_private_bytes(seed) if seed else Ed25519PrivateKey.generate()
    return SigningKey(
        VerifierKey(name, algorithm, private.public_key().public_bytes_raw()), private.private_bytes_raw()
    )


def decode_signing_key(text: str) -> SigningKey:
    """Read a private key as `SigningKey.encode` writes it. Raises Malformed without repeating the text."""
    parts = text.split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
        raise Malformed("not a signing key")
    material = _from_base64(parts[4], 33)
    key = new_signing_key(parts[2], material[0], material[1:])
    if key.verifier.id.hex() != parts[3]:
        raise Malformed("the signing key and its id do not match")
    return key


def decode_vkey(text: str) -> VerifierKey:
    """Read a public key as `VerifierKey.encode` writes it. Raises Malformed."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_NAME.fullmatch(parts[0]):
        raise Malformed("a verifier key reads name+id+base64")
    material = _from_base64(parts[2], 33)
    key = VerifierKey(parts[0], material[0], material[1:])
    if key.algorithm not in (LOG_KEY, WITNESS_KEY) or key.id.hex() != parts[1]:
        raise Malformed("the verifier key has an unknown algorithm, or its id does not match")
    return key


class Checkpoint(NamedTuple):
    """A parsed head. `text` is the signed part; `signatures` are (name, key id, signature), none of them checked."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Write the head that is to be signed."""
    return f"{origin}\n{size}\n{_base64(root)}\n"


def sign_checkpoint(text: str, *keys: SigningKey) -> str:
    """Sign a head with the log's key, or keys: the signed note, ready for cosignatures to be appended."""
    return text + "\n" + "".join(_signature_line(key.verifier, key.sign(text.encode())) for key in keys)


def cosign_checkpoint(text: str, key: SigningKey, timestamp_s: int) -> str:
    """Cosign a head with a witness's key: one signature line, its newline included."""
    signature = key.sign(_cosigned(text, timestamp_s))
    return _signature_line(key.verifier, timestamp_s.to_bytes(8, "big") + signature)


def parse_checkpoint(note: str) -> Checkpoint:
    """Split a signed note into its parts and check every line's form; who signed is for the next two functions.

    Raises:
        Malformed: not exactly origin, size, root, an empty line, and 1 to 64 signature lines.
    """
    lines = note.split("\n")
    if len(lines) < 6 or lines[3] or lines[-1] or len(lines) > 5 + SIGNATURES_MAX:
        raise Malformed("a checkpoint is three lines, an empty line, and signature lines")
    origin, size, root = lines[:3]
    if not _KEY_NAME.fullmatch(origin) or not _NUMBER.fullmatch(size):
        raise Malformed("the checkpoint's origin or size is not well formed")
    signatures = []
    for line in lines[4:-1]:
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != _EM_DASH or not _KEY_NAME.fullmatch(parts[1]):
            raise Malformed("a signature line reads dash, name, base64")
        material = _from_base64(parts[2])
        if len(material) < 5:
            raise Malformed("a signature is too short")
        signatures.append((parts[1], material[:4], material[4:]))
    text = "\n".join(lines[:3]) + "\n"
    return Checkpoint(origin, int(size), _from_base64(root, 32), text, tuple(signatures))


def check_log_signature(checkpoint: Checkpoint, log_vkey: str) -> None:
    """Accept a checkpoint only if it is of this log and signed by its key.

    Raises:
        Untrusted: other origin, no signature of the key, two of them, or one that does not verify.
    """
    key = decode_vkey(log_vkey)
    found = _signatures_of(checkpoint, key)
    if key.algorithm != LOG_KEY or checkpoint.origin != key.name or len(found) != 1:
        raise Untrusted("the checkpoint is not signed by this log")
    if not key.verifies(found[0], checkpoint.text.encode()):
        raise Untrusted("the log's signature does not verify")


def cosigners(checkpoint: Checkpoint, witness_vkeys: Iterable[str]) -> dict[str, int]:
    """Return {witness name: POSIX time of its cosignature} for the witnesses asked for who cosigned.

    Raises:
        Untrusted: a known witness's line does not verify, or stands twice (unknown keys are ignored, as C2SP says).
    """
    found = {}
    for key in _witness_keys(witness_vkeys):
        lines = _signatures_of(checkpoint, key)
        if not lines:
            continue
        timestamp_s = int.from_bytes(lines[0][:8], "big")
        if len(lines) > 1 or not key.verifies(lines[0][8:], _cosigned(checkpoint.text, timestamp_s)):
            raise Untrusted(f"the cosignature of {key.name} does not verify")
        found[key.name] = timestamp_s
    return found


def add_cosignatures(note: str, lines: Iterable[str], witness_vkeys: Sequence[str]) -> str:
    """Append to a checkpoint those cosignature lines that known witnesses made for it; the rest is dropped.

    A witness that already cosigned keeps its first line. Lines come with or without their newline.
    """
    present = cosigners(parse_checkpoint(note), witness_vkeys)
    for line in lines:
        line = line.removesuffix("\n") + "\n"
        body = note.split("\n\n")[0] + "\n\n"
        try:
            new = cosigners(parse_checkpoint(body + line), witness_vkeys)
        except (Malformed, Untrusted):
            continue
        if new.keys() - present.keys():
            note, present = note + line, present | new
    return note


def rotate_key(old: SigningKey, new: SigningKey) -> dict[str, str]:
    """Build the public fields of `key.rotated`: both keys sign both keys."""
    message = _rotation(old.verifier.encode(), new.verifier.encode())
    return {
        "old": old.verifier.encode(),
        "new": new.verifier.encode(),
        "old_signature": _base64(old.sign(message)),
        "new_signature": _base64(new.sign(message)),
    }


def is_rotation_signed(public: Mapping[str, str]) -> bool:
    """Say whether both keys of a `key.rotated` entry signed it."""
    message = _rotation(public["old"], public["new"])
    return all(
        decode_vkey(public[name]).verifies(_from_base64(public[f"{name}_signature"], 64), message)
        for name in ("old", "new")
    )


# --- Proofs and receipts ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """A parsed C2SP tlog-proof: leaf index, sibling hashes from the leaf upwards, the signed checkpoint's text."""

    index: int
    hashes: list[bytes]
    checkpoint: str


def proof_text(index: int, hashes: Sequence[bytes], signed_checkpoint: str) -> str:
    """Write an inclusion proof as c2sp.org/tlog-proof@v1."""
    return "\n".join([PROOF_HEADER, f"index {index}", *map(_base64, hashes), "", signed_checkpoint])


def parse_proof(text: str) -> Proof:
    """Read a tlog-proof; one with an `extra` line is refused, because nothing would vouch for it. Raises Malformed."""
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    index = lines[1].removeprefix("index ") if len(lines) > 1 else ""
    if not separator or lines[0] != PROOF_HEADER or lines[1] != f"index {index}" or not _NUMBER.fullmatch(index):
        raise Malformed("the proof does not start with its header and the index")
    if len(lines) - 2 > PROOF_HASHES_MAX:
        raise Malformed("the proof has too many hashes")
    return Proof(int(index), [_from_base64(line, 32) for line in lines[2:]], checkpoint)


def build_receipt(
    entry: Mapping[str, object],
    openings: Mapping[str, object] | None,
    index: int,
    proof_hashes: Sequence[bytes],
    signed_checkpoint: str,
) -> dict:
    """Build the receipt of an entry; without openings it is the one that anybody may have."""
    opened = {"openings": dict(openings)} if openings else {}
    proof = proof_text(index, proof_hashes, signed_checkpoint)
    return {"v": RECEIPT_VERSION, "entry": dict(entry), **opened, "proof": proof}


class Step(NamedTuple):
    """One step of a check. `key` names the sentence to show (docs/receipt.md lists them), `values` fill it in."""

    name: str
    ok: bool
    key: str
    values: dict[str, object]


def verify_receipt(
    receipt: str | bytes | dict,
    log_vkey: str,
    witness_vkeys: Sequence[str],
    quorum: int,
    former_log_vkeys: Sequence[str] = (),
) -> list[Step]:
    """Check a receipt as a stranger would: with the receipt and pinned keys only.

    Args:
        receipt: The file as it was dropped on the page, or the object that we built ourselves. A file is read more
            strictly: duplicate keys can only be seen in its text.
        log_vkey: The log's public key.
        witness_vkeys: The witnesses' public keys, all different.
        quorum: How many of them must have cosigned.
        former_log_vkeys: Keys that this log had before; a head that only they signed is as old as they are.

    Returns:
        Steps in the order form, commitments, split, inclusion, log_signature, witnesses. If the form is wrong it is
        the only one. The receipt is verified when every step is ok.

    Raises:
        ValueError: the keys or the quorum make no sense. That is our configuration, not the receipt.
    """
    if decode_vkey(log_vkey).algorithm != LOG_KEY or not 0 <= quorum <= len(_witness_keys(witness_vkeys)):
        raise ValueError("a log key, and a quorum that the witnesses can reach")
    try:
        entry, opened, proof = _parse_receipt(receipt)
        checkpoint = parse_checkpoint(proof.checkpoint)
    except Malformed as error:
        return [_step("form", False, reason=str(error))]
    return [
        _step("form", True),
        _check_commitments(entry, opened),
        _check_split(entry, opened),
        _step(
            "inclusion",
            merkle.verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root),
            index=proof.index,
            size=checkpoint.size,
        ),
        _check_signature(checkpoint, log_vkey, former_log_vkeys),
        _check_witnesses(checkpoint, witness_vkeys, quorum),
    ]


def parse_json(text: str | bytes) -> object:
    """Read JSON without any of its freedoms: no duplicate or non-ASCII keys, floats, booleans, null, or signs."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if len(text) > RECEIPT_CHARS_MAX:
            raise Malformed("the text is too long")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        _check_value(value)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed("the text is not JSON") from error
    return value


def _parse_receipt(receipt: str | bytes | dict) -> tuple[dict, dict, Proof]:
    value = parse_json(receipt if isinstance(receipt, str | bytes) else _ENCODER.encode(receipt))
    if not isinstance(value, dict) or {"v", "entry", "proof"} != set(value) - {"openings"}:
        raise Malformed("a receipt has v, entry, proof and perhaps openings")
    entry, opened, proof = value["entry"], value.get("openings"), value["proof"]
    if value["v"] != RECEIPT_VERSION or not isinstance(entry, dict) or not isinstance(proof, str):
        raise Malformed("not an open-receipt/1")
    _check_entry(entry)
    if "openings" in value:
        if not isinstance(opened, dict) or not opened:
            raise Malformed("openings is an object with fields")
        for field, opening in opened.items():
            if not isinstance(opening, dict) or set(opening) != {"salt", "value"} or not _is_hex32(opening["salt"]):
                raise Malformed(f"the opening of {field} is not a salt and a value")
    return entry, opened or {}, parse_proof(proof)


def _check_entry(entry: Mapping[str, object]) -> None:
    hour = entry.get("hour")
    if entry.get("v") != ENTRY_VERSION or not all(isinstance(entry.get(key), str) for key in ("type", "id")):
        raise Malformed("not an open-entry/1")
    if not isinstance(hour, str) or not _HOUR.fullmatch(hour):
        raise Malformed("the hour reads YYYY-MM-DDTHH")
    if "commit" in entry:
        _check_commit(entry["commit"])


def _check_commit(commit: object) -> None:
    if not isinstance(commit, dict) or not commit:
        raise Malformed("commit is an object with fields")
    for field, digest in commit.items():
        digests = digest if field == "split" else [digest]
        if not isinstance(digests, list) or not all(map(_is_hex32, digests)):
            raise Malformed(f"the commitment to {field} is not 64 lower-case hex digits")
        if field == "split" and (not digests or len(digests) != padded_length(len(digests))):
            raise Malformed("the split is not padded")


def _committed(entry: Mapping) -> dict[str, str]:
    """Flatten an entry's commitments to the names under which they are opened."""
    commit = dict(entry.get("commit", {}))
    return {**dict(_numbered(commit.pop("split", []))), **commit}


def _check_commitments(entry: Mapping, opened: Mapping) -> Step:
    committed = _committed(entry)
    for field, opening in opened.items():
        digest = commitment(field, bytes.fromhex(opening["salt"]), opening["value"]).hex()
        if digest != committed.get(field):
            return _step("commitments", False, field=field)
    return _step("commitments", True, key=None if opened else "commitments.none", count=len(opened))


def _check_split(entry: Mapping, opened: Mapping) -> Step:
    numbered = [field for field, _ in _numbered(entry.get("commit", {}).get("split", []))]
    lines = [opened[field]["value"] for field in numbered if field in opened]
    try:
        for line in lines:
            _check_line(line)
        total_nano = sum(int(line["amount"]) for line in lines)
        price_nano = int(_amount(opened["price"]["value"])) if "price" in opened else None
    except Malformed:
        return _step("split", False)
    if not numbered or price_nano is None:
        return _step("split", True, key="split.none", lines=len(lines))
    if len(lines) < len(numbered):
        return _step("split", total_nano <= price_nano, key="split.partial", lines=len(lines), price_nano=price_nano)
    return _step("split", total_nano == price_nano, lines=len(lines), price_nano=price_nano)


def _check_signature(checkpoint: Checkpoint, log_vkey: str, former: Sequence[str]) -> Step:
    present = [vkey for vkey in (log_vkey, *former) if _signatures_of(checkpoint, decode_vkey(vkey))]
    try:
        for vkey in present or [log_vkey]:
            check_log_signature(checkpoint, vkey)
    except Untrusted:
        return _step("log_signature", False, origin=checkpoint.origin)
    key = None if log_vkey in present else "log_signature.former"
    return _step("log_signature", True, key=key, origin=checkpoint.origin)


def _check_witnesses(checkpoint: Checkpoint, witness_vkeys: Sequence[str], quorum: int) -> Step:
    try:
        names = cosigners(checkpoint, witness_vkeys)
    except Untrusted:
        return _step("witnesses", False, count=0, quorum=quorum)
    key = None if quorum else "witnesses.none"
    return _step("witnesses", len(names) >= quorum, key=key, count=len(names), quorum=quorum)


def _step(name: str, ok: bool, key: str | None = None, **values: object) -> Step:
    return Step(name, ok, f"{name}.failed" if not ok else key or f"{name}.ok", values)


# --- Forms -----------------------------------------------------------------------------------------------------------


def is_number(text: str) -> bool:
    """Say whether a text is a size or index as the formats write it: decimal, no sign, no leading zeros."""
    return _NUMBER.fullmatch(text) is not None


def decode_hash(text: str) -> bytes:
    """Read one base64 line of a proof. Raises Malformed unless it is 32 bytes, canonically written."""
    return _from_base64(text, 32)


def encode_hash(digest: bytes) -> str:
    """Write one base64 line of a proof."""
    return _base64(digest)


def _numbered(lines: Iterable) -> list[tuple[str, object]]:
    return [(f"split.{number}", line) for number, line in enumerate(lines)]


def _check_line(line: object) -> None:
    if not isinstance(line, Mapping) or set(line) != set(PAD) or not all(isinstance(v, str) for v in line.values()):
        raise Malformed("a split line has payee, role, item and amount, all strings")
    _amount(line["amount"])


def _amount(value: object) -> str:
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise Malformed("an amount is a decimal string of nano-OPEN without leading zeros")
    return value


def _check_value(value: Any, levels_left: int = NESTING_MAX) -> None:
    kind = type(value)
    if not levels_left:
        raise Malformed("the value nests too deeply")
    if kind is str:
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise Malformed("a string holds half a surrogate pair")
    elif kind is int:
        if not 0 <= value < 2**53:
            raise Malformed("an integer is from 0 to 2^53 - 1")
    elif kind is list:
        for item in value:
            _check_value(item, levels_left - 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise Malformed("a key is an ASCII string")
            _check_value(item, levels_left - 1)
    else:
        raise Malformed(f"{kind.__name__} is not a value of an entry")


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Malformed("a key stands twice")
    return result


def _integer(digits: str) -> int:
    if not _NUMBER.fullmatch(digits):
        raise Malformed("an integer is from 0 to 2^53 - 1")
    return int(digits)


def _refuse_number(text: str) -> object:
    raise Malformed("numbers are integers")


def _is_hex32(value: object) -> bool:
    return isinstance(value, str) and _HEX32.fullmatch(value) is not None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(text: str, size: int | None = None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Malformed("not base64") from error
    # The decoder ignores bits after the last byte; one text per value keeps a changed file from passing.
    if _base64(data) != text or (size is not None and len(data) != size):
        raise Malformed("base64 that is not canonical, or of the wrong length")
    return data


def _signature_line(key: VerifierKey, signature: bytes) -> str:
    return f"{_EM_DASH} {key.name} {_base64(key.id + signature)}\n"


def _signatures_of(checkpoint: Checkpoint, key: VerifierKey) -> list[bytes]:
    return [signature for name, id, signature in checkpoint.signatures if (name, id) == (key.name, key.id)]


def _cosigned(text: str, timestamp_s: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()


def _witness_keys(vkeys: Iterable[str]) -> list[VerifierKey]:
    keys = [decode_vkey(vkey) for vkey in vkeys]
    # A cosignature does not bind the witness's name: one key under two names would count twice.
    if any(key.algorithm != WITNESS_KEY for key in keys) or len({key.public for key in keys}) != len(keys):
        raise ValueError("witness keys are cosignature keys, all different")
    return keys


def _rotation(old_vkey: str, new_vkey: str) -> bytes:
    return f"{ROTATION_HEADER}\n{old_vkey}\n{new_vkey}\n".encode()


def _nothing_stored(level: int, index: int) -> bytes:
    raise KeyError((level, index))
