#!/usr/bin/env python3
"""Check a receipt, or the log's growth, offline and by the given keys alone. Exits 0 verified, 1 not verified, 2 usage.

verify_receipt.py receipt FILE --log VKEY [--witness VKEY ... --quorum N]
verify_receipt.py consistency OLD NEW PROOF --log VKEY"""

import argparse
import base64
import json
import re
from hashlib import sha256, sha512

# fmt: off
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519, RFC 8032
D, SQRT_MINUS_1, BASE_Y = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P), 4 * pow(5, -1, P) % P
NAME, LINE, BOTH = r"[^\s+\0-\x1f\x7f]+", {"payee", "role", "item", "amount"}, "open-key-rotation/1\n{old}\n{new}\n"

def need(condition, otherwise):
    if not condition:
        raise ValueError(otherwise)

def natural(text, below=2**53):
    need(text == str(int(text)) and 0 <= int(text) < below, f"{text} is not a whole number, or not canonical")
    return int(text)

def unbase64(text, size=None):  # The decoder alone would let spare bits at the end pass.
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text and size in (None, len(data)), "base64 is not canonical")
    return data

def point(encoded):  # (X, Y, Z, T) stands for x = X/Z, y = Y/Z, xy = T/Z.
    sign, y = divmod(int.from_bytes(encoded, "little"), 2**255)
    u, v = y * y - 1, D * y * y + 1
    root = u * v**3 * pow(u * v**7, (P - 5) // 8, P) % P
    roots = (root, -root % P, root * SQRT_MINUS_1 % P, -root * SQRT_MINUS_1 % P)
    x = next((x for x in roots if (v * x * x - u) % P == 0 and x % 2 == sign), None)
    need(y < P and x is not None, "a key is not a point, or not canonical")
    return x, y, 1, x * y % P

def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * D * p[3] * q[3] % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def is_signed(public, message, signature):
    s, (x, y, _, xy) = int.from_bytes(signature[32:], "little"), point(public)
    k = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    base, minus_key, total = point(BASE_Y.to_bytes(32, "little")), (P - x, y, 1, P - xy), (0, 1, 1, 0)
    table = [total, base, minus_key, add(base, minus_key)]
    for bit in reversed(range(253)):  # s * base - k * key must be R, written as R is: a point has one encoding.
        total = add(add(total, total), table[(s >> bit & 1) + 2 * (k >> bit & 1)])
    x, y = (coordinate * pow(total[2], -1, P) % P for coordinate in total[:2])
    return len(signature) == 64 and s < ORDER and signature[:32] == (y + (x % 2 << 255)).to_bytes(32, "little")

def vkey(text, algorithm):
    name, key_id, material = text.split("+", 2)
    known = sha256(name.encode() + b"\n" + unbase64(material, 33)).digest()[:4]
    need(known.hex() == key_id and unbase64(material)[0] == algorithm, "not a key of this kind")
    return name, known, unbase64(material)[1:]

def open_head(note, log, witnesses, quorum):
    """Return size and root of the head in a C2SP signed note, once the log and enough witnesses are seen to sign it."""
    origin, size, root, gap, *lines, end = note.split("\n")
    need(origin == log[0] and gap == end == "" and len(lines) <= 64, "the checkpoint is malformed, or of another log")
    text, known, signatures = f"{origin}\n{size}\n{root}\n", [key[:2] for key in (log, *witnesses)], {}
    for dash, name, material in (line.split(" ") for line in lines):
        key, signature = (name, unbase64(material)[:4]), unbase64(material)[4:]
        need(dash == "\u2014" and signature and re.fullmatch(NAME, name) and key not in signatures.keys() & known, "bad signer")
        signatures[key] = signature
    found = [witness for witness in witnesses if witness[:2] in signatures]
    need(len(found) >= quorum, f"{len(found)} witnesses cosigned the checkpoint, {quorum} are needed")
    need(log[:2] in signatures, f"the key {log[1].hex()} did not sign this; if the log has another key by now, use that one")
    need(is_signed(log[2], text.encode(), signatures[log[:2]]), "the log did not sign this")
    for name, key_id, public in found:
        message = f"cosignature/v1\ntime {int.from_bytes(signatures[name, key_id][:8], 'big')}\n{text}".encode()
        need(is_signed(public, message, signatures[name, key_id][8:]), f"{name} did not cosign this")
    return natural(size), unbase64(root, 32)

def climb(position, last, hashes, old, new):  # Up to the roots of both trees, as RFC 9162 does: 2.1.3.2, 2.1.4.2.
    for sibling in hashes:
        need(last, "the Merkle proof is too long")
        while position == last and position % 2 == 0:
            position, last = position // 2, last // 2
        old = sha256(b"\1" + sibling + old).digest() if position % 2 else old
        new = sha256(b"\1" + (sibling + new if position % 2 else new + sibling)).digest()
        position, last = position // 2, last // 2
    need(last == 0, "the Merkle proof is too short")
    return old, new

def check_consistency(old_note, new_note, proof, log, witnesses, quorum):
    (m, old_root), (n, new_root) = open_head(old_note, log, [], 0), open_head(new_note, log, witnesses, quorum)
    need(0 < m <= n, "the old head is empty, or larger than the new one")
    start, *hashes = [old_root] * (m == n or m & (m - 1) == 0) + [unbase64(line, 32) for line in proof.splitlines()]
    done = n.bit_length() if m == n else (m & -m).bit_length() - 1  # The levels below which the two trees are one.
    need(climb(m - 1 >> done, n - 1 >> done, hashes, start, start) == (old_root, new_root), "the log was rewritten")
    return f"the log of {n} entries extends the log of {m}; {quorum} witnesses required"

def unique(pairs):
    need(len(dict(pairs)) == len(pairs) and str.isascii("".join(dict(pairs))), "a key stands twice, or is not ASCII")
    return dict(pairs)

def canonical(value):  # RFC 8785, for what check_receipt lets pass: strings, whole numbers, lists, ASCII keys.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

def check_receipt(text, log, witnesses, quorum):
    need(re.fullmatch(r'(?:"(?:[^"\\]|\\.)*"|[0-9\s{}\[\]:,])*', text), "a value is no string, whole number or list")
    receipt = json.loads(text, object_pairs_hook=unique, parse_int=natural)
    need(receipt.keys() - {"openings"} == {"v", "entry", "proof"}, "a receipt has v, entry, openings and proof")
    entry, openings, commit = receipt["entry"], receipt.get("openings", {}), receipt["entry"].get("commit", {})
    need((receipt["v"], entry["v"]) == ("open-receipt/1", "open-entry/1"), "the version is unknown")
    split = {f"split.{number}": digest for number, digest in enumerate(commit.get("split", []))}
    for field, opening in openings.items():
        need(opening.keys() == {"salt", "value"} and re.fullmatch("[0-9a-f]{64}", opening["salt"]), f"{field} is malformed")
        message = f"open-commit/1\n{field}\n".encode() + bytes.fromhex(opening["salt"]) + canonical(opening["value"])
        need(sha256(message).hexdigest() == (commit | split).get(field), f"{field} is not what the entry commits to")
    parts = [openings[field]["value"] for field in split if field in openings]
    need(all(part.keys() == LINE for part in parts), "a split line is malformed")
    total_nano = sum(natural(part["amount"], 10**19) for part in parts)
    price_nano = natural(openings["price"]["value"], 10**19) if split and "price" in openings else total_nano
    need(total_nano == price_nano or total_nano < price_nano and len(parts) < len(split), "the split is not the price")
    header, index, *path = receipt["proof"].partition("\n\n")[0].split("\n")
    need(header == "c2sp.org/tlog-proof@v1" and index[:6] == "index ", "the proof is not a tlog-proof")
    index, leaf, path = natural(index[6:]), sha256(b"\0" + canonical(entry)).digest(), [unbase64(x, 32) for x in path]
    size, root = open_head(receipt["proof"].partition("\n\n")[2], log, witnesses, quorum)
    need(index < size and climb(index, size - 1, path, leaf, leaf)[1] == root, "the entry is not in the log")
    for k in ("old", "new") if entry["type"] == "key.rotated" else ():
        need(is_signed(vkey(entry[k], 1)[2], BOTH.format(**entry).encode(), unbase64(entry[k + "_signature"])), "unsigned key")
    new = f"; the key of the log is now {entry['new']}" if entry["type"] == "key.rotated" else ""
    return f"entry {index} of {size}, {len(openings)} values opened, {quorum} witnesses required{new}"

def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("check", choices=["receipt", "consistency"])
    parser.add_argument("files", nargs="+", type=argparse.FileType("rb"))
    parser.add_argument("--log", required=True, type=lambda text: vkey(text, 1))
    parser.add_argument("--witness", nargs="+", action="extend", default=[], type=lambda text: vkey(text, 4))
    parser.add_argument("--quorum", type=int)
    given = parser.parse_args()
    check, count = (check_receipt, 1) if given.check == "receipt" else (check_consistency, 3)
    quorum = len(given.witness) if given.quorum is None else given.quorum  # Without a quorum: all of them.
    if len(given.files) != count or not 0 <= quorum <= len({key[2] for key in given.witness}) == len(given.witness):
        parser.error("a receipt is one file, consistency three; the quorum is at most the number of witness keys")
    try:
        print("Verified:", check(*(file.read().decode() for file in given.files), given.log, given.witness, quorum))
    except Exception as error:  # Whatever a file makes go wrong, it is not verified.
        parser.exit(1, f"NOT VERIFIED: {error}\n")

if __name__ == "__main__":
    main()
