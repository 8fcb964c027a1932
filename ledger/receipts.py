"""Receipts: an entry bound to a checkpoint, and the steps by which a stranger checks it. docs/receipt.md has the format.

A *receipt* binds an entry (`commitments.py`) to a checkpoint (`notes.py`), and opens those commitments its holder may
see. Pure: no Django, no files, no clock.

Source: C2SP tlog-proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ledger import commitments, merkle, notes, strict

RECEIPT_VERSION = "open-receipt/1"
PROOF_HEADER = "c2sp.org/tlog-proof@v1"

PROOF_HASHES_MAX = 63


@dataclass(frozen=True)
class Proof:
    """A parsed C2SP tlog-proof: leaf index, sibling hashes from the leaf upwards, the signed checkpoint's text."""

    index: int
    hashes: list[bytes]
    checkpoint: str


def proof_text(index: int, hashes: Sequence[bytes], signed_checkpoint: str) -> str:
    """Write an inclusion proof as c2sp.org/tlog-proof@v1."""
    return "\n".join([PROOF_HEADER, f"index {index}", *map(strict.encode_base64, hashes), "", signed_checkpoint])


def parse_proof(text: str) -> Proof:
    """Read a tlog-proof; one with an `extra` line is refused, because nothing would vouch for it. Raises strict.Malformed."""
    head, separator, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    index = lines[1].removeprefix("index ") if len(lines) > 1 else ""
    if not separator or lines[0] != PROOF_HEADER or lines[1] != f"index {index}" or not strict.is_number(index):
        raise strict.Malformed("the proof does not start with its header and the index")
    if len(lines) - 2 > PROOF_HASHES_MAX:
        raise strict.Malformed("the proof has too many hashes")
    return Proof(int(index), [strict.decode_base64(line, 32) for line in lines[2:]], checkpoint)


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
    if notes.decode_vkey(log_vkey).algorithm != notes.LOG_KEY or not 0 <= quorum <= len(
        notes.witness_keys(witness_vkeys)
    ):
        raise ValueError("a log key, and a quorum that the witnesses can reach")
    try:
        entry, opened, proof = _parse_receipt(receipt)
        checkpoint = notes.parse_checkpoint(proof.checkpoint)
    except strict.Malformed as error:
        return [_step("form", False, reason=str(error))]
    return [
        _step("form", True),
        _check_commitments(entry, opened),
        _check_split(entry, opened),
        _step(
            "inclusion",
            merkle.verify_inclusion(
                commitments.leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root
            ),
            index=proof.index,
            size=checkpoint.size,
        ),
        _check_signature(checkpoint, log_vkey, former_log_vkeys),
        _check_witnesses(checkpoint, witness_vkeys, quorum),
    ]


def _parse_receipt(receipt: str | bytes | dict) -> tuple[dict, dict, Proof]:
    value = strict.parse_json(receipt if isinstance(receipt, str | bytes) else strict.ENCODER.encode(receipt))
    if not isinstance(value, dict) or {"v", "entry", "proof"} != set(value) - {"openings"}:
        raise strict.Malformed("a receipt has v, entry, proof and perhaps openings")
    entry, opened, proof = value["entry"], value.get("openings"), value["proof"]
    if value["v"] != RECEIPT_VERSION or not isinstance(entry, dict) or not isinstance(proof, str):
        raise strict.Malformed("not an open-receipt/1")
    commitments.check_entry(entry)
    if "openings" in value:
        if not isinstance(opened, dict) or not opened:
            raise strict.Malformed("openings is an object with fields")
        for field, opening in opened.items():
            if (
                not isinstance(opening, dict)
                or set(opening) != {"salt", "value"}
                or not strict.is_hex32(opening["salt"])
            ):
                raise strict.Malformed(f"the opening of {field} is not a salt and a value")
    return entry, opened or {}, parse_proof(proof)


def _check_commitments(entry: Mapping, opened: Mapping) -> Step:
    committed = commitments.committed(entry)
    for field, opening in opened.items():
        digest = commitments.commitment(field, bytes.fromhex(opening["salt"]), opening["value"]).hex()
        if digest != committed.get(field):
            return _step("commitments", False, field=field)
    return _step("commitments", True, key=None if opened else "commitments.none", count=len(opened))


def _check_split(entry: Mapping, opened: Mapping) -> Step:
    numbered = [field for field, _ in commitments.numbered(entry.get("commit", {}).get("split", []))]
    lines = [opened[field]["value"] for field in numbered if field in opened]
    try:
        for line in lines:
            commitments.check_line(line)
        total_nano = sum(int(line["amount"]) for line in lines)
        price_nano = int(strict.amount(opened["price"]["value"])) if "price" in opened else None
    except strict.Malformed:
        return _step("split", False)
    if not numbered or price_nano is None:
        return _step("split", True, key="split.none", lines=len(lines))
    if len(lines) < len(numbered):
        return _step("split", total_nano <= price_nano, key="split.partial", lines=len(lines), price_nano=price_nano)
    return _step("split", total_nano == price_nano, lines=len(lines), price_nano=price_nano)


def _check_signature(checkpoint: notes.Checkpoint, log_vkey: str, former: Sequence[str]) -> Step:
    present = [vkey for vkey in (log_vkey, *former) if notes.signatures_of(checkpoint, notes.decode_vkey(vkey))]
    try:
        for vkey in present or [log_vkey]:
            notes.check_log_signature(checkpoint, vkey)
    except notes.Untrusted:
        return _step("log_signature", False, origin=checkpoint.origin)
    key = None if log_vkey in present else "log_signature.former"
    return _step("log_signature", True, key=key, origin=checkpoint.origin)


def _check_witnesses(checkpoint: notes.Checkpoint, witness_vkeys: Sequence[str], quorum: int) -> Step:
    try:
        names = notes.cosigners(checkpoint, witness_vkeys)
    except notes.Untrusted:
        return _step("witnesses", False, count=0, quorum=quorum)
    key = None if quorum else "witnesses.none"
    return _step("witnesses", len(names) >= quorum, key=key, count=len(names), quorum=quorum)


def _step(name: str, ok: bool, key: str | None = None, **values: object) -> Step:
    return Step(name, ok, f"{name}.failed" if not ok else key or f"{name}.ok", values)
