"""Recompute the ledger's invariants from the rows alone. Imports nothing of what it verifies.

Every check names the invariant of ARCHITECTURE.md it belongs to. The journal is taken as the truth about money, the
leaves as the truth about the log; everything else must follow from them. All checks read one snapshot.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection, transaction

ROWS_SHOWN = 20
#: Of the tree above the leaves only these levels are stored, 4, 8, 12, ...
NODE_LEVELS = 4

#: What stands in VERIFY_MODULES' reports for this app.
INVARIANTS = ("I1", "I2", "I3", "I5", "I8", "I9", "I12")


@dataclass(frozen=True)
class Failure:
    """One wrong row: which invariant it breaks, which row it is, and what is wrong, as a sentence."""

    invariant: str
    row: str
    sentence: str


# Every check may use these: each leg of the journal, and those that the fold has reached.
_LEGS = """
    WITH leg AS (
      SELECT j.id, j.xid, j.kind, j.at, j.vest_after_s, j.takes_from, j.hold_id, u.account, u.amount, u.n
      FROM ledger_journal j, unnest(j.accounts, j.amounts) WITH ORDINALITY AS u(account, amount, n)
    ), folded AS (
      SELECT l.* FROM leg l, ledger_cursor c WHERE c.name = 'fold' AND (l.xid, l.id) <= (c.xid, c.posting)
    )
"""

# (invariant, sentence, query). A row of the query is a failure: its first column names the row.
_CHECKS: tuple[tuple[str, str, str], ...] = (
    (
        "I1",
        "posting {0} has legs that add up to {1}, not 0",
        "SELECT id, sum(amount) FROM leg GROUP BY id HAVING sum(amount) <> 0",
    ),
    (
        "I1",
        "posting {0} does not have one payer first and only payees after it",
        """SELECT id FROM leg GROUP BY id
            HAVING count(*) < 2 OR bool_or((n = 1) <> (amount < 0)) OR count(DISTINCT account) < count(*)""",
    ),
    (
        "I1",
        "posting {0}, a {1}, moves test money and other money, or is one of the kinds for the other",
        """SELECT l.id, l.kind FROM leg l JOIN ledger_account a ON a.id = l.account GROUP BY l.id, l.kind
            HAVING count(DISTINCT starts_with(a.code, 'test')) > 1
              OR bool_or(starts_with(a.code, 'test') <> starts_with(l.kind, 'test_'))""",
    ),
    (
        "I2",
        "a leg of posting {0} in account {1} over {2} is {3}",
        """SELECT coalesce(f.id, e.posting_id), coalesce(f.account, e.account_id),
              coalesce(f.amount, e.amount_nano), CASE WHEN e.posting_id IS NULL THEN 'missing in the statement'
                                                 ELSE 'in the statement only, or changed there' END
            FROM folded f FULL JOIN ledger_entry e
              ON e.posting_id = f.id AND e.account_id = f.account AND e.amount_nano = f.amount
            WHERE f.id IS NULL OR e.posting_id IS NULL""",
    ),
    (
        "I2",
        "posting {0} is line {1} of its statements, it was the posting of number {2}",
        """SELECT e.posting_id, e.seq, o.seq FROM ledger_entry e JOIN (
             SELECT id, row_number() OVER (ORDER BY xid, id) - 1 AS seq FROM ledger_journal) o ON o.id = e.posting_id
           WHERE e.seq <> o.seq""",
    ),
    (
        "I2",
        "the cursor of the fold is not behind the last posting that it counted, {1} of them",
        """SELECT c.posting, c.next_index FROM ledger_cursor c LEFT JOIN ledger_journal j
             ON j.xid = c.xid AND j.id = c.posting
           WHERE c.name = 'fold' AND (c.next_index <> (SELECT count(*) FROM ledger_journal x
                                                       WHERE (x.xid, x.id) <= (c.xid, c.posting))
                                      OR (j.id IS NULL) <> (c.next_index = 0))""",
    ),
    (
        "I2",
        "the statement of {0} shows {2} after line {1}, and its lines add up to {3}",
        """SELECT a.code, e.seq, e.balance_after_nano, e.total FROM (
             SELECT *, sum(amount_nano) OVER (PARTITION BY account_id ORDER BY seq) AS total FROM ledger_entry) e
           JOIN ledger_account a ON a.id = e.account_id WHERE e.balance_after_nano <> e.total""",
    ),
    (
        "I2",
        "{0} is positioned at {1} credited and {2} debited, its statement says {3} and {4}",
        """SELECT a.code, p.credited_nano, p.debited_nano, coalesce(e.credited, 0), coalesce(e.debited, 0)
           FROM ledger_position p JOIN ledger_account a ON a.id = p.account_id LEFT JOIN (
             SELECT account_id, sum(greatest(amount_nano, 0)) AS credited, sum(greatest(-amount_nano, 0)) AS debited
             FROM ledger_entry GROUP BY account_id) e ON e.account_id = p.account_id
           WHERE (p.credited_nano, p.debited_nano) IS DISTINCT FROM (coalesce(e.credited, 0), coalesce(e.debited, 0))""",
    ),
    (
        "I2",
        "{0} has spent {1}, the journal says {2}",
        """SELECT a.code, s.debited_nano, coalesce(j.paid, 0)
            FROM ledger_spend s JOIN ledger_account a ON a.id = s.account_id
            LEFT JOIN (SELECT account, -sum(amount) AS paid FROM leg WHERE amount < 0 GROUP BY account) j
              ON j.account = s.account_id
            WHERE s.debited_nano <> coalesce(j.paid, 0)""",
    ),
    (
        "I2",
        "account {0} has no spend or no position row",
        """SELECT a.code FROM ledger_account a LEFT JOIN ledger_spend s ON s.account_id = a.id
           LEFT JOIN ledger_position p ON p.account_id = a.id WHERE s.account_id IS NULL OR p.account_id IS NULL""",
    ),
    (
        "I3",
        "{0} stands at {1}; the least it may is {2}",
        """SELECT code, stands, least FROM (
             SELECT a.code, sum(l.amount) AS stands,
               CASE WHEN a.code IN ('world', 'testworld') THEN -1000000000000000000 ELSE 0 END AS least
             FROM leg l JOIN ledger_account a ON a.id = l.account GROUP BY a.code) s WHERE stands < least""",
    ),
    (
        "I3",
        "{0} was granted {1}, more than the {2} it had received",
        """SELECT code, granted_nano, received FROM (
             SELECT a.code, s.*, p.credited_nano
               + CASE WHEN a.code IN ('world', 'testworld') THEN 1000000000000000000 ELSE 0 END AS received
             FROM ledger_spend s JOIN ledger_position p USING (account_id) JOIN ledger_account a ON a.id = s.account_id) g
           WHERE granted_nano > received OR debited_nano + held_nano > granted_nano""",
    ),
    (
        "I5",
        "hold {0} over {1} says {2} was drawn, the journal {3}",
        """SELECT h.id, h.amount_nano, h.drawn_nano, coalesce(j.drawn, 0) FROM ledger_hold h LEFT JOIN (
              SELECT hold_id, -sum(amount) AS drawn FROM leg WHERE n = 1 AND hold_id IS NOT NULL GROUP BY hold_id) j
              ON j.hold_id = h.id
            WHERE h.drawn_nano <> coalesce(j.drawn, 0) OR h.drawn_nano > h.amount_nano""",
    ),
    (
        "I5",
        "posting {0} was drawn from hold {1}, which is unknown, of another account, or was closed before",
        """SELECT l.id, l.hold_id FROM leg l LEFT JOIN ledger_hold h ON h.id = l.hold_id
            WHERE l.n = 1 AND l.hold_id IS NOT NULL AND (h.id IS NULL OR h.account_id <> l.account OR h.closed_at < l.at)""",
    ),
    (
        "I5",
        "{0} has {1} set aside, its open holds have {2} left",
        """SELECT a.code, s.held_nano, coalesce(h.rest, 0) FROM ledger_spend s JOIN ledger_account a ON a.id = s.account_id
           LEFT JOIN (SELECT account_id, sum(amount_nano - drawn_nano) AS rest FROM ledger_hold WHERE closed_at IS NULL
                      GROUP BY account_id) h ON h.account_id = s.account_id
           WHERE s.held_nano <> coalesce(h.rest, 0)""",
    ),
    (
        # After an hour a consumer is broken, not slow.
        "I8",
        "{0} is in the outbox since {1}, rung {2} times, failed {3} times: {4}",
        """SELECT topic || ' ' || reference, date_trunc('second', created_at), rung, failures, last_failure
            FROM ledger_outbox WHERE done_at IS NULL
              AND created_at < clock_timestamp() - make_interval(secs => 3600) ORDER BY created_at""",
    ),
    (
        "I9",
        "entry {0} is {1}",
        """SELECT coalesce(d.id, l.entry_id), CASE WHEN l.entry_id IS NULL THEN 'missing in the log'
             WHEN d.id IS NULL THEN 'in the log, and nothing stands behind it' ELSE 'in the log at another place' END
           FROM (SELECT s.id, row_number() OVER (ORDER BY s.xid, s.id) - 1 AS index
                 FROM (SELECT xid, id FROM ledger_journal UNION ALL SELECT xid, id FROM ledger_fact) s, ledger_cursor c
                 WHERE c.name = 'log' AND (s.xid, s.id) <= (c.xid, c.posting)) d FULL JOIN ledger_leaf l ON l.entry_id = d.id
           WHERE d.index IS DISTINCT FROM l.index""",
    ),
    (
        "I9",
        "leaf {0} has its version, type or id twice, beside what it says",
        "SELECT index FROM ledger_leaf WHERE body ?| ARRAY['v', 'type', 'id']",
    ),
    (
        # A plain posting has no digest: its leaf commits to its reference.
        "I9",
        "entry {0} has another reference than it was made with, or is kept as something else",
        """SELECT o.entry_id FROM ledger_opening o
           JOIN (SELECT id, reference, payload FROM ledger_journal UNION ALL SELECT id, reference, payload FROM ledger_fact) s
             ON s.id = o.entry_id
           WHERE s.payload IS DISTINCT FROM CASE WHEN o.type IS NOT NULL THEN sha256(convert_to(
             jsonb_build_array(s.reference, o.type, o.public, o.private, o.split)::text, 'UTF8')) END""",
    ),
    (
        # What could not be published as it was described is logged as a plain posting.
        "I9",
        "leaf {0} is of type {1} and shows what is kept for it as {2}, or something else",
        """SELECT l.index, l.type, coalesce(o.type, 'posting.made')
           FROM ledger_leaf l JOIN ledger_opening o ON o.entry_id = l.entry_id
           WHERE l.type <> 'posting.made'
             AND (l.type <> coalesce(o.type, 'posting.made') OR NOT l.body @> coalesce(o.public, '{}'))""",
    ),
    (
        "I9",
        "the cursor of the log says {1} leaves and posting {0}, the last leaf is another",
        """SELECT c.posting, c.next_index FROM ledger_cursor c
           LEFT JOIN ledger_leaf l ON l.index = c.next_index - 1 AND l.entry_id = c.posting
           LEFT JOIN ledger_journal j ON j.id = l.entry_id LEFT JOIN ledger_fact f ON f.id = l.entry_id
           WHERE c.name = 'log' AND (c.next_index <> (SELECT count(*) FROM ledger_leaf)
             OR c.next_index > 0 AND c.xid IS DISTINCT FROM coalesce(j.xid, f.xid))""",
    ),
    (
        "I12",
        "the lot of posting {0} in account {1} is missing, or not what the posting says",
        """SELECT coalesce(f.id, t.posting_id), coalesce(f.account, t.account_id)
            FROM (SELECT f.* FROM folded f JOIN ledger_account a ON a.id = f.account
                  WHERE f.amount > 0 AND starts_with(a.code, 'pending:')) f
            FULL JOIN ledger_lot t ON t.posting_id = f.id AND t.account_id = f.account
            WHERE (f.amount, f.at + make_interval(secs => f.vest_after_s)) IS DISTINCT FROM (t.amount_nano, t.due_at)""",
    ),
    (
        "I12",
        "{1} was taken from the lot of posting {0}, the journal says {2}",
        """SELECT t.posting_id, t.taken_nano, coalesce(j.taken, 0) FROM ledger_lot t LEFT JOIN (
              SELECT takes_from, account, -sum(amount) AS taken FROM leg WHERE n = 1 AND takes_from IS NOT NULL
              GROUP BY takes_from, account) j ON j.takes_from = t.posting_id AND j.account = t.account_id
            WHERE t.taken_nano <> coalesce(j.taken, 0)""",
    ),
    (
        "I12",
        "a lot of vesting {0} is said to have vested at {1}, after that posting",
        """SELECT t.vesting_id, t.vested_at FROM ledger_lot t JOIN ledger_journal j ON j.id = t.vesting_id
           WHERE t.vested_at > j.at""",
    ),
    (
        "I12",
        "vesting {0} moved {1}, its lots had {2} that was due",
        """SELECT coalesce(j.id, t.vesting_id), coalesce(j.vested, 0), coalesce(t.due, 0)
            FROM (SELECT id, account, -amount AS vested FROM leg WHERE n = 1 AND kind = 'vesting') j
            FULL JOIN (SELECT vesting_id, account_id, sum(amount_nano - taken_nano) FILTER (WHERE due_at <= vested_at) AS due
                       FROM ledger_lot WHERE vesting_id IS NOT NULL GROUP BY vesting_id, account_id) t
              ON t.vesting_id = j.id AND t.account_id = j.account
            WHERE j.vested IS DISTINCT FROM t.due""",
    ),
    (
        "I12",
        "{0} has {1} pending, its open lots add up to {2}",
        """SELECT a.code, p.credited_nano - s.debited_nano, coalesce(t.open, 0)
           FROM ledger_account a JOIN ledger_position p ON p.account_id = a.id JOIN ledger_spend s ON s.account_id = a.id
           LEFT JOIN (SELECT account_id, sum(amount_nano - taken_nano) AS open FROM ledger_lot WHERE vested_at IS NULL
                      GROUP BY account_id) t ON t.account_id = a.id
           WHERE starts_with(a.code, 'pending:') AND p.credited_nano - s.debited_nano <> coalesce(t.open, 0)""",
    ),
)


def failures() -> list[Failure]:
    """Check every invariant of the ledger. Returns at most ROWS_SHOWN wrong rows per check; [] if all hold."""
    found = []
    with _one_snapshot():
        with connection.cursor() as cursor:
            for invariant, sentence, query in _CHECKS:
                cursor.execute(f"{_LEGS} SELECT * FROM ({query}) q LIMIT {ROWS_SHOWN}")  # noqa: S608
                found += [Failure(invariant, str(row[0]), sentence.format(*row)) for row in cursor.fetchall()]
        found += _log_failures()
        found += _commitment_failures()
    return found


def _log_failures() -> list[Failure]:
    """I9: every leaf hashes to what is stored, and every signed head is the root of the leaves below its size.

    Two heads over one sequence of leaves extend each other, so that is what "extends the last" means here.
    """
    found: list[Failure] = []
    heads = {size: (bytes(root), note) for size, root, note in _rows("SELECT size, root, note FROM ledger_checkpoint")}
    # Roots of the complete subtrees to the left of the next leaf, (level, hash), the largest first.
    peaks: list[tuple[int, bytes]] = []
    # In the order in which the leaves complete them. None: one is wrong, so the others are out of step.
    nodes: Iterator[tuple] | None = _rows(
        "SELECT level, index, hash FROM ledger_node ORDER BY (index + 1) << level, level"
    )
    leaves = _rows("SELECT index, type, entry_id, body::text, hash FROM ledger_leaf ORDER BY index")
    for expected, (index, type, id, body, stored) in enumerate(leaves):
        if index != expected:
            return [*found, Failure("I9", str(expected), f"leaf {expected} is missing; the next one is {index}")]
        digest = hashlib.sha256(b"\x00" + _canonical(_entry(type, id, body))).digest()
        if digest != bytes(stored):
            found.append(Failure("I9", str(index), f"leaf {index} does not hash to what was stored for it"))
        level = 0
        while peaks and peaks[-1][0] == level:
            digest = hashlib.sha256(b"\x01" + peaks.pop()[1] + digest).digest()
            level += 1
            if level % NODE_LEVELS == 0 and nodes is not None:
                node = next(nodes, None)
                if node is None or (*node[:2], bytes(node[2])) != (level, index >> level, digest):
                    place, nodes = f"{level}/{index >> level}", None
                    found.append(
                        Failure("I9", place, f"the inner node {place} is missing, or not what its leaves give")
                    )
        peaks.append((level, digest))
        if index + 1 in heads:
            found += _head_failures(index + 1, *heads.pop(index + 1), _root(peaks))
    found += [
        Failure("I9", str(size), f"the head of size {size} is over more leaves than there are")
        for size in sorted(heads)
    ]
    for level, index, _hash in nodes or ():
        found.append(
            Failure("I9", f"{level}/{index}", f"the inner node {level}/{index} is over leaves that are not there")
        )
    return found[:ROWS_SHOWN]


def _root(peaks: list[tuple[int, bytes]]) -> bytes:
    root = peaks[-1][1]
    for _, left in reversed(peaks[:-1]):
        root = hashlib.sha256(b"\x01" + left + root).digest()
    return root


def _head_failures(size: int, root: bytes, note: str, recomputed: bytes) -> Iterator[Failure]:
    if root != recomputed:
        yield Failure("I9", str(size), f"the leaves do not hash to the signed root of size {size}")
    _, _, signatures = note.partition("\n\n")
    if note.split("\n")[1:3] != [str(size), base64.b64encode(root).decode()] or not signatures:
        yield Failure("I9", str(size), f"the note of the head of size {size} says another size or root")


def check_signatures(vkeys: list[str]) -> list[Failure]:
    """I9 against pinned keys: one of these log keys signed each head, and every line that names one is its signature.

    Apart from `failures` because keys come from outside the database, or they would prove nothing.

    Args:
        vkeys: Name, id and key, as `name+id+base64`; of former keys, too, whose heads are still there.
    """
    keys = [_key(vkey) for vkey in vkeys]
    found = []
    for size, note in _rows("SELECT size, note FROM ledger_checkpoint ORDER BY size"):
        text, _, signatures = note.partition("\n\n")
        # While keys change there are two lines, and a reader may know one key.
        lines = [(line, [key for key in keys if _is_named(line, key)]) for line in signatures.splitlines()]
        judged = [_signs(line, key, f"{text}\n") for line, named in lines for key in named]
        if not judged or not all(judged):
            found.append(Failure("I9", str(size), f"no log key signed the head of size {size} as it stands"))
    return found[:ROWS_SHOWN]


def check_cosignatures(vkeys: list[str]) -> list[Failure]:
    """I9 against pinned keys: what is stored as a witness's word is that witness's signature under that head.

    Of witnesses that are not pinned (any more) only the name is judged, as a receipt's reader ignores them.
    """
    keys = {name: (name, id, public) for name, id, public in map(_key, vkeys)}
    found = []
    for size, name, line, note in _rows(
        """SELECT s.size, s.witness, s.line, c.note FROM ledger_cosignature s
           LEFT JOIN ledger_checkpoint c ON c.size = s.size ORDER BY s.size, s.witness"""
    ):
        parts = line.rstrip("\n").split(" ")
        if note is None or len(parts) != 3 or parts[1] != name:
            found.append(Failure("I9", str(size), f"the cosignature of {name} belongs to no head of size {size}"))
        elif name in keys and not _cosigns(line.rstrip("\n"), keys[name], note.partition("\n\n")[0] + "\n"):
            found.append(
                Failure("I9", str(size), f"the cosignature of {name} under the head of size {size} is not by its key")
            )
    return found[:ROWS_SHOWN]


def _key(vkey: str) -> tuple[str, bytes, bytes]:
    """Name, id and public key of `name+id+base64`."""
    name, id, encoded = vkey.split("+", 2)
    return name, bytes.fromhex(id), base64.b64decode(encoded)[1:]


def _is_named(line: str, key: tuple[str, bytes, bytes]) -> bool:
    """Whether a line claims to be this key's; one that cannot be read claims to be everybody's."""
    try:
        _, signer, encoded = line.split(" ")
        return signer == key[0] and base64.b64decode(encoded, validate=True)[:4] == key[1]
    except ValueError:
        return True


def _signs(line: str, key: tuple[str, bytes, bytes], text: str) -> bool:
    return _is_valid(line, key, lambda signature: (signature, text))


def _cosigns(line: str, key: tuple[str, bytes, bytes], text: str) -> bool:
    """As `_signs`, for a signature behind eight bytes of time that it signs with the text."""
    return _is_valid(
        line, key, lambda told: (told[8:], f"cosignature/v1\ntime {int.from_bytes(told[:8], 'big')}\n{text}")
    )


def _is_valid(line: str, key: tuple[str, bytes, bytes], read: Callable[[bytes], tuple[bytes, str]]) -> bool:
    """Whether a line is exactly what this key's owner writes: its name and id, canonical base64, a valid signature."""
    name, id, public = key
    try:
        dash, signer, encoded = line.split(" ")
        blob = base64.b64decode(encoded, validate=True)
        signature, said = read(blob[4:])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, said.encode())
    except (ValueError, InvalidSignature):
        return False
    return (dash, signer, blob[:4]) == ("\N{EM DASH}", name, id) and base64.b64encode(blob).decode() == encoded


def _commitment_failures() -> list[Failure]:
    """I9: a leaf commits to what is kept in its opening, and says of its posting what the journal says."""
    found = []
    codes = dict(_rows("SELECT id, code FROM ledger_account"))
    for index, type, id, body, secret, private, split, kind, reference, is_other, hour, accounts, amounts in _rows(
        """SELECT l.index, l.type, l.entry_id, l.body::text, o.secret, o.private::text, o.split::text, j.kind, j.reference,
             l.reference_digest IS DISTINCT FROM
               ('x' || left(md5(coalesce(j.kind, '') || ' ' || coalesce(j.reference, f.reference)), 16))::bit(64)::bigint,
             to_char(coalesce(j.at, f.at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), j.accounts, j.amounts
           FROM ledger_leaf l LEFT JOIN ledger_opening o ON o.entry_id = l.entry_id
           LEFT JOIN ledger_journal j ON j.id = l.entry_id LEFT JOIN ledger_fact f ON f.id = l.entry_id
           ORDER BY l.index"""
    ):
        entry = _entry(type, id, body)
        is_plain, is_charge = type == "posting.made", type.endswith(".charged")
        moves = _moves(codes, accounts or [], amounts or [])
        paid = -amounts[0] if amounts and amounts[0] is not None else None
        plain = {"posting": {"reference": reference, "moves": moves}}
        values = plain if is_plain and moves else orjson.loads(private or "{}")
        lines = [] if is_plain else orjson.loads(split or "null") or []
        wrong = []
        if secret is not None and not _opens(entry.get("commit", {}), bytes(secret), values, lines):
            wrong.append("does not commit to what is kept for it")
        if is_other:
            wrong.append("was made for another kind and reference than its row says")
        if entry.get("hour") != hour:
            wrong.append(f"says {entry.get('hour')}, its row says {hour}")
        if (is_plain and entry.get("kind") != kind) or (is_charge and type.replace(".", "_") != kind):
            wrong.append(f"is not about a posting of kind {kind}")
        if is_charge and secret is not None and values.get("price") != str(paid):
            wrong.append(f"commits to the price {values.get('price')}, and {paid} was paid")
        if is_charge and secret is not None and _per_payee(lines, "payee") != _per_payee(moves, "target"):
            wrong.append("commits to a split that is not what the posting's payees received")
        found += [Failure("I9", str(index), f"leaf {index} {what}") for what in wrong]
    return found[:ROWS_SHOWN]


def _entry(type: str, id: Any, body: str) -> dict:
    """What a leaf hashes: `body`, and what stands in columns or nowhere. A body that is no object says nothing."""
    told = orjson.loads(body)
    return {"v": "open-entry/1", "type": type, "id": str(id), **(told if isinstance(told, dict) else {})}


def _moves(codes: dict[int, str], accounts: list[int], amounts: list[int]) -> list[dict[str, str]]:
    """What an entry commits to of a posting that said nothing else: from the payer, who is first, to each payee."""
    named = [codes.get(account, f"unknown account {account}") for account in accounts]
    # Where somebody took the CHECK of the journal away, a leg may lack its half; I1 names that posting.
    whole = [(payee, nano) for payee, nano in zip(named[1:], amounts[1:], strict=False) if nano is not None]
    return [{"source": named[0], "target": payee, "amount": str(nano)} for payee, nano in whole]


def _per_payee(rows: list, name: str) -> dict[str, int]:
    """Who gets how much: lines of one payee added up, since a posting has one leg per account."""
    totals: dict[str, int] = {}
    for row in rows:
        totals[row[name]] = totals.get(row[name], 0) + int(row["amount"])
    return totals


def _opens(commit: Any, secret: bytes, values: dict, lines: list) -> bool:
    if not isinstance(commit, dict) or not isinstance(commit.get("split", []), list):
        return False
    committed = dict(commit)
    values = dict(values)
    for number, digest in enumerate(committed.pop("split", [])):
        padding = {"payee": "", "role": "pad", "item": "", "amount": "0"}
        committed[f"split.{number}"] = digest
        values[f"split.{number}"] = lines[number] if number < len(lines) else padding
    return committed == {name: _commitment(secret, name, value) for name, value in values.items()}


def _commitment(secret: bytes, name: str, value: Any) -> str:
    salt = hmac.digest(secret, name.encode(), "sha256")
    return hashlib.sha256(b"open-commit/1\n" + name.encode() + b"\n" + salt + _canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    """RFC 8785. Entries hold no floats: where all is ASCII, orjson writes the same bytes, in a tenth of the time."""
    written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return written if written.isascii() else rfc8785.dumps(value)


def _rows(query: str) -> Iterator[tuple]:
    """Stream the rows of a query with a cursor on the server, so that a long log fits in memory."""
    with connection.chunked_cursor() as cursor:
        cursor.execute(query)
        while chunk := cursor.fetchmany(2000):
            yield from chunk


@contextmanager
def _one_snapshot() -> Iterator[None]:
    with transaction.atomic():
        if len(connection.savepoint_ids) == 0 and connection.in_atomic_block:
            with connection.cursor() as cursor:
                # Read-only: a long look takes no transaction id, so it never stalls the fold.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # The planner cannot know how many legs and numbered rows there are. It would join them one by one, which is
                # a trillion steps for a million postings; what remains are hashes and sorts, in memory.
                cursor.execute("SET LOCAL enable_nestloop = off")
                cursor.execute("SET LOCAL cursor_tuple_fraction = 1")
                cursor.execute("SET LOCAL work_mem = '128MB'")
                # So it may last longer than the role's other transactions, where the server limits them.
                cursor.execute("SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'")
        yield
