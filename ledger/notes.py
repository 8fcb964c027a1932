"""Signed heads of the log: keys, checkpoints, cosignatures of witnesses, and how a log changes its key.

A *checkpoint* is a signed head of the log, a *cosignature* a witness's word that the head extends the last one it saw.
docs/receipt.md describes the formats. Pure: no Django, no files, no clock.

Source: C2SP signed-note, tlog-checkpoint and tlog-cosignature; RFC 8032.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger import strict

ROTATION_HEADER = "open-key-rotation/1"

LOG_KEY = 1  # Signature type bytes of the C2SP signed-note registry.
WITNESS_KEY = 4

SIGNATURES_MAX = 64

_EM_DASH = "\u2014"
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")


class Untrusted(ValueError):
    """The note carries no valid signature of the key that was asked for."""


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
        return f"{self.name}+{self.id.hex()}+{strict.encode_base64(bytes([self.algorithm]) + self.public)}"

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
        secret = strict.encode_base64(bytes([self.verifier.algorithm]) + self.seed)
        return f"PRIVATE+KEY+{self.verifier.name}+{self.verifier.id.hex()}+{secret}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def new_signing_key(name: str, algorithm: int, seed: bytes | None = None) -> SigningKey:
    """Make a key; without a seed a random one. The name is the log's origin, or the witness's."""
    if not _KEY_NAME.fullmatch(name) or algorithm not in (LOG_KEY, WITNESS_KEY):
        raise strict.Malformed("a key name has no spaces and no plus, and the algorithm is 1 (log) or 4 (witness)")
    private = Ed25519PrivateKey.from_private_bytes(seed) if seed else Ed25519PrivateKey.generate()
    return SigningKey(
        VerifierKey(name, algorithm, private.public_key().public_bytes_raw()), private.private_bytes_raw()
    )


def decode_signing_key(text: str) -> SigningKey:
    """Read a private key as `SigningKey.encode` writes it. Raises strict.Malformed without repeating the text."""
    parts = text.split("+", 4)
    if len(parts) != 5 or parts[:2] != ["PRIVATE", "KEY"]:
        raise strict.Malformed("not a signing key")
    material = strict.decode_base64(parts[4], 33)
    key = new_signing_key(parts[2], material[0], material[1:])
    if key.verifier.id.hex() != parts[3]:
        raise strict.Malformed("the signing key and its id do not match")
    return key


def decode_vkey(text: str) -> VerifierKey:
    """Read a public key as `VerifierKey.encode` writes it. Raises strict.Malformed."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_NAME.fullmatch(parts[0]):
        raise strict.Malformed("a verifier key reads name+id+base64")
    material = strict.decode_base64(parts[2], 33)
    key = VerifierKey(parts[0], material[0], material[1:])
    if key.algorithm not in (LOG_KEY, WITNESS_KEY) or key.id.hex() != parts[1]:
        raise strict.Malformed("the verifier key has an unknown algorithm, or its id does not match")
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
    return f"{origin}\n{size}\n{strict.encode_base64(root)}\n"


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
        strict.Malformed: not exactly origin, size, root, an empty line, and 1 to 64 signature lines.
    """
    lines = note.split("\n")
    if len(lines) < 6 or lines[3] or lines[-1] or len(lines) > 5 + SIGNATURES_MAX:
        raise strict.Malformed("a checkpoint is three lines, an empty line, and signature lines")
    origin, size, root = lines[:3]
    if not _KEY_NAME.fullmatch(origin) or not strict.is_number(size):
        raise strict.Malformed("the checkpoint's origin or size is not well formed")
    signatures = []
    for line in lines[4:-1]:
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != _EM_DASH or not _KEY_NAME.fullmatch(parts[1]):
            raise strict.Malformed("a signature line reads dash, name, base64")
        material = strict.decode_base64(parts[2])
        if len(material) < 5:
            raise strict.Malformed("a signature is too short")
        signatures.append((parts[1], material[:4], material[4:]))
    text = "\n".join(lines[:3]) + "\n"
    return Checkpoint(origin, int(size), strict.decode_base64(root, 32), text, tuple(signatures))


def check_log_signature(checkpoint: Checkpoint, log_vkey: str) -> None:
    """Accept a checkpoint only if it is of this log and signed by its key.

    Raises:
        Untrusted: other origin, no signature of the key, two of them, or one that does not verify.
    """
    key = decode_vkey(log_vkey)
    found = signatures_of(checkpoint, key)
    if key.algorithm != LOG_KEY or checkpoint.origin != key.name or len(found) != 1:
        raise Untrusted("the checkpoint is not signed by this log")
    if not key.verifies(found[0], checkpoint.text.encode()):
        raise Untrusted("the log's signature does not verify")


def is_signed_by_any(checkpoint: Checkpoint, log_vkeys: Iterable[str]) -> bool:
    """Whether a checkpoint is of the log that one of these keys belongs to, and signed by it."""
    for vkey in log_vkeys:
        with suppress(Untrusted):
            check_log_signature(checkpoint, vkey)
            return True
    return False


def cosigners(checkpoint: Checkpoint, witness_vkeys: Iterable[str]) -> dict[str, int]:
    """Return {witness name: POSIX time of its cosignature} for the witnesses asked for who cosigned.

    Raises:
        Untrusted: a known witness's line does not verify, or stands twice (unknown keys are ignored, as C2SP says).
    """
    found = {}
    for key in witness_keys(witness_vkeys):
        lines = signatures_of(checkpoint, key)
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
        except (strict.Malformed, Untrusted):
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
        "old_signature": strict.encode_base64(old.sign(message)),
        "new_signature": strict.encode_base64(new.sign(message)),
    }


def is_rotation_signed(public: Mapping[str, str]) -> bool:
    """Say whether both keys of a `key.rotated` entry signed it."""
    message = _rotation(public["old"], public["new"])
    return all(
        decode_vkey(public[name]).verifies(strict.decode_base64(public[f"{name}_signature"], 64), message)
        for name in ("old", "new")
    )


def _signature_line(key: VerifierKey, signature: bytes) -> str:
    return f"{_EM_DASH} {key.name} {strict.encode_base64(key.id + signature)}\n"


def signatures_of(checkpoint: Checkpoint, key: VerifierKey) -> list[bytes]:
    """What the lines under a key's name and id hold, unchecked."""
    return [signature for name, id, signature in checkpoint.signatures if (name, id) == (key.name, key.id)]


def _cosigned(text: str, timestamp_s: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()


def witness_keys(vkeys: Iterable[str]) -> list[VerifierKey]:
    """Read the keys of witnesses. Raises ValueError if they are not all different, and of witnesses."""
    keys = [decode_vkey(vkey) for vkey in vkeys]
    # A cosignature does not bind the witness's name: one key under two names would count twice.
    if any(key.algorithm != WITNESS_KEY for key in keys) or len({key.public for key in keys}) != len(keys):
        raise ValueError("witness keys are cosignature keys, all different")
    return keys


def _rotation(old_vkey: str, new_vkey: str) -> bytes:
    return f"{ROTATION_HEADER}\n{old_vkey}\n{new_vkey}\n".encode()
