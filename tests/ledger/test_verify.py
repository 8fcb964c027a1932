"""verify finds every edit of a row that a superuser can make behind the triggers' back."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ledger import chart, sequencer, verify
from ledger import services as ledger
from tests.ledger.builders import ALICE, DAN, charge_entry, hold, payment

# A leg of a charge is given to somebody else, and every projection of the journal is made to agree.
REDIRECTED = """
    CREATE TEMPORARY TABLE step ON COMMIT DROP AS
      SELECT e.account_id, e.seq, s.step FROM ledger_journal j,
        LATERAL (VALUES (j.accounts[2], 1), (j.accounts[3], -1)) s(account, step),
        LATERAL (SELECT * FROM ledger_entry e WHERE e.posting_id = j.id AND e.account_id = s.account) e
      WHERE j.kind = 'access_charged';
    UPDATE ledger_journal SET amounts = ARRAY[amounts[1], amounts[2] + 1, amounts[3] - 1] WHERE kind = 'access_charged';
    UPDATE ledger_entry e SET balance_after_nano = balance_after_nano + s.step,
        amount_nano = amount_nano + CASE WHEN e.seq = s.seq THEN s.step ELSE 0 END
      FROM step s WHERE e.account_id = s.account_id AND e.seq >= s.seq;
    UPDATE ledger_lot t SET amount_nano = amount_nano + s.step FROM step s, ledger_journal j
      WHERE j.kind = 'access_charged' AND t.posting_id = j.id AND t.account_id = s.account_id;
    UPDATE ledger_position p SET credited_nano = credited_nano + s.step FROM step s WHERE p.account_id = s.account_id;
"""
# One edit each: what it does, and the invariant that must notice.
EDITS = {
    "a posting is unbalanced": ("I1", "UPDATE ledger_journal SET amounts[1] = amounts[1] - 1 WHERE kind = 'deposit'"),
    "test money pays somebody": (
        "I1",
        "UPDATE ledger_journal SET accounts[2] = (SELECT id FROM ledger_account WHERE code = 'platform:fees') "
        "WHERE kind = 'test_granted'",
    ),
    "a test is no test": ("I1", "UPDATE ledger_journal SET kind = 'deposit' WHERE kind = 'test_granted'"),
    "a posting lost an amount": (
        "I1",
        "UPDATE ledger_journal SET amounts = amounts[1:cardinality(amounts) - 1] WHERE kind = 'call_charged'",
    ),
    "a posting has no amount for its payer": ("I1", "UPDATE ledger_journal SET amounts[1] = NULL"),
    "a payee is nobody": ("I2", "UPDATE ledger_journal SET accounts[2] = 987654321 WHERE kind = 'access_charged'"),
    "money moves between payees": (
        "I2",
        "UPDATE ledger_journal SET amounts = ARRAY[amounts[1], amounts[2] + 1, amounts[3] - 1] WHERE kind = 'call_charged'",
    ),
    "a posting is bigger": (
        "I2",
        "UPDATE ledger_journal SET amounts = ARRAY[amounts[1] - 1, amounts[2] + 1] WHERE kind = 'deposit'",
    ),
    "a posting is gone": ("I2", "DELETE FROM ledger_journal WHERE kind = 'access_charged'"),
    "a payee is another": ("I2", "UPDATE ledger_journal SET accounts[2] = 1 WHERE kind = 'access_charged'"),
    "a posting has another reference": (
        "I9",
        "UPDATE ledger_journal SET reference = reference || '!' WHERE payload IS NULL",
    ),
    "a charge has another reference": (
        "I9",
        "UPDATE ledger_journal SET reference = reference || '!' WHERE payload IS NOT NULL",
    ),
    "an erased charge has another reference": (
        "I9",
        "DELETE FROM ledger_opening; UPDATE ledger_journal SET reference = reference || '!' WHERE payload IS NOT NULL",
    ),
    "an erased posting has another kind": (
        "I9",
        "DELETE FROM ledger_opening; UPDATE ledger_journal SET kind = 'adjustment' WHERE kind = 'call_charged'",
    ),
    "an erased fact is about something else": (
        "I9",
        "DELETE FROM ledger_opening; UPDATE ledger_fact SET reference = 'other'",
    ),
    "a posting is another kind": ("I9", "UPDATE ledger_journal SET kind = 'refund' WHERE kind = 'adjustment'"),
    "a charge is another kind": ("I9", "UPDATE ledger_journal SET kind = 'refund' WHERE kind = 'access_charged'"),
    "a posting is older": ("I9", "UPDATE ledger_journal SET at = at - interval '1 day' WHERE kind = 'deposit'"),
    "a fact is older": ("I9", "UPDATE ledger_fact SET at = at - interval '1 day'"),
    "a payee is another, in journal, statement, position and lot alike": ("I9", REDIRECTED),
    "a statement line is changed": ("I2", "UPDATE ledger_entry SET amount_nano = amount_nano + 1 WHERE seq = 0"),
    "a running balance is changed": ("I2", "UPDATE ledger_entry SET balance_after_nano = balance_after_nano + 1"),
    "a statement line is gone": ("I2", "DELETE FROM ledger_entry WHERE seq = 1"),
    "a statement line stands elsewhere": (
        "I2",
        "UPDATE ledger_entry SET seq = seq + 1000 WHERE seq = (SELECT max(seq) FROM ledger_entry)",
    ),
    "the fold is said to be further": (
        "I2",
        "UPDATE ledger_cursor SET next_index = next_index + 1 WHERE name = 'fold'",
    ),
    "the log is said to be shorter": ("I9", "UPDATE ledger_cursor SET next_index = next_index - 1 WHERE name = 'log'"),
    "an account is richer": ("I2", "UPDATE ledger_position SET credited_nano = credited_nano + 1"),
    "a debit is forgotten": ("I2", "UPDATE ledger_spend SET debited_nano = debited_nano - 1 WHERE debited_nano > 0"),
    "a spend row is gone": ("I2", "DELETE FROM ledger_spend"),
    "too much is granted": ("I3", "UPDATE ledger_spend SET granted_nano = granted_nano + 1000000"),
    "a hold is released by hand": ("I5", "UPDATE ledger_spend SET held_nano = 0"),
    "a draw is forgotten": ("I5", "UPDATE ledger_hold SET drawn_nano = 0"),
    "a hold is closed by hand": ("I5", "UPDATE ledger_hold SET closed_at = opened_at, ending = 'closed'"),
    "a leaf says something else": ("I9", 'UPDATE ledger_leaf SET body = body || \'{"hour": "2020-01-01T00"}\''),
    "a leaf and its hash say something else": (
        "I9",
        "UPDATE ledger_leaf SET hash = sha256('x') WHERE index = 1",
    ),
    "a leaf says nothing": ("I9", "UPDATE ledger_leaf SET body = 'null' WHERE index = 1"),
    "a leaf commits to nothing": ("I9", """UPDATE ledger_leaf SET body = body || '{"commit": 1}' WHERE index = 1"""),
    "two leaves are swapped": (
        "I9",
        "UPDATE ledger_leaf l SET body = o.body, hash = o.hash FROM ledger_leaf o WHERE l.index + o.index = 1",
    ),
    "a leaf is gone": ("I9", "DELETE FROM ledger_leaf WHERE index = 2"),
    "the last leaf is gone": ("I9", "DELETE FROM ledger_leaf WHERE index = (SELECT max(index) FROM ledger_leaf)"),
    "a leaf is of another type": ("I9", "UPDATE ledger_leaf SET type = 'rule.other' WHERE type = 'rule.adopted'"),
    "a leaf has another id": ("I9", "UPDATE ledger_leaf SET entry_id = gen_random_uuid() WHERE index = 1"),
    "a leaf is about another reference": ("I9", "UPDATE ledger_leaf SET reference_digest = reference_digest + 1"),
    "a leaf says its id twice": ("I9", "UPDATE ledger_leaf SET body = body || jsonb_build_object('id', entry_id)"),
    "an inner node is changed": ("I9", "UPDATE ledger_node SET hash = sha256('x')"),
    "an inner node is gone": ("I9", "DELETE FROM ledger_node"),
    "an inner node stands elsewhere": ("I9", "UPDATE ledger_node SET index = index + 1"),
    "an inner node is over nothing": ("I9", "INSERT INTO ledger_node VALUES (4, 1, sha256('x'))"),
    "a root is changed": ("I9", "UPDATE ledger_checkpoint SET root = sha256('x')"),
    "a note is changed": ("I9", "UPDATE ledger_checkpoint SET note = replace(note, E'\\n', E'\\n1')"),
    "a head is larger than the log": ("I9", "UPDATE ledger_checkpoint SET size = size + 1"),
    "a fact is gone": ("I9", "DELETE FROM ledger_fact"),
    "a fact is about something else": ("I9", "UPDATE ledger_fact SET reference = 'other'"),
    "a kept price is changed": (
        "I9",
        'UPDATE ledger_opening SET private = private || \'{"price": "1"}\' WHERE private IS NOT NULL',
    ),
    "a kept public field is changed": (
        "I9",
        """UPDATE ledger_opening SET public = public || '{"rule": "x"}' WHERE type = 'rule.adopted'""",
    ),
    "a kept type is changed": ("I9", "UPDATE ledger_opening SET type = 'rule.other' WHERE type = 'rule.adopted'"),
    "a secret is changed": ("I9", "UPDATE ledger_opening SET secret = sha256('x')"),
    "a lot is bigger": ("I12", "UPDATE ledger_lot SET amount_nano = amount_nano + 1"),
    "a lot is due earlier": ("I12", "UPDATE ledger_lot SET due_at = due_at - interval '1 day'"),
    "a lot is vested by hand": (
        "I12",
        "UPDATE ledger_lot SET vested_at = now(), vesting_id = gen_random_uuid() WHERE vested_at IS NULL",
    ),
    "a lot vested later": ("I12", "UPDATE ledger_lot SET vested_at = vested_at + interval '1 hour'"),
    "a lot is open again": ("I12", "UPDATE ledger_lot SET vested_at = NULL, vesting_id = NULL"),
    "a refund is forgotten": ("I12", "UPDATE ledger_lot SET taken_nano = 0"),
    "a lot is gone": ("I12", "DELETE FROM ledger_lot"),
}


@pytest.fixture(scope="module")
def full(books_of_module):
    """Books with every kind of row, all of it folded, logged and signed."""
    books_of_module.deposit(DAN, 1000)
    ledger.post_many([payment(chart.TEST_WORLD, chart.test_wallet(4), 100, kind=ledger.Kind.TEST_GRANTED)])
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.ACCESS_CHARGED,
        reference="access:1",
        moves=[ledger.Move(DAN, chart.FEES, 12), ledger.Move(DAN, chart.pending(2), 12)],
        entry=charge_entry(24, developer=chart.pending(2)),
        vest_after_s=3600,
    )
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.CALL_CHARGED,
        reference="call:1",
        moves=[ledger.Move(DAN, ALICE, 10), ledger.Move(DAN, chart.FEES, 5)],
    )
    lease = hold(DAN, 100)
    ledger.draw([ledger.Draw(lease, payment(DAN, ALICE, 10))])
    soon, later = (payment(DAN, chart.pending(1), 10, vest_after_s=seconds) for seconds in (0, 3600))
    ledger.post_many([soon, later])
    ledger.record_fact(
        id=ledger.new_id(), reference="rule:1", entry=ledger.Entry("rule.adopted", {"rule": "r", "parts": [1]})
    )
    books_of_module.fold()
    ledger.post_many([payment(chart.pending(1), DAN, 4, kind=ledger.Kind.REFUND, takes_from=later.id)])
    sequencer.vest()
    ledger.post_many([payment(DAN, ALICE, 1) for _ in range(8)])  # enough leaves for a node
    books_of_module.fold()
    books_of_module.log()
    assert verify.failures() == []
    return books_of_module


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_by_the_superuser_is_found(full, edit, monkeypatch):
    invariant, statement = EDITS[edit]
    # The edit is made inside a transaction that never commits; verify looks through the same connection.
    session = full.connect("DATABASE_SUPERUSER_URL")
    try:
        with session.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            for constraint in ("ledger_posting_balances", "ledger_lot_is_not_exceeded"):
                table = "ledger_journal" if "posting" in constraint else "ledger_lot"
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
            cursor.execute(statement)
            assert cursor.rowcount > 0
        monkeypatch.setattr(verify, "connection", _Through(session))
        monkeypatch.setattr(verify, "_one_snapshot", lambda: session.cursor())

        found = verify.failures()

        assert invariant in {failure.invariant for failure in found}
        assert all(failure.row and failure.sentence for failure in found)
    finally:
        session.rollback()
        session.close()


def test_books_whose_openings_are_all_erased_add_up(full, monkeypatch):
    session = full.connect("DATABASE_SUPERUSER_URL")
    try:
        with session.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica; DELETE FROM ledger_opening")
            assert cursor.rowcount > 0
        monkeypatch.setattr(verify, "connection", _Through(session))
        monkeypatch.setattr(verify, "_one_snapshot", lambda: session.cursor())

        assert verify.failures() == []
    finally:
        session.rollback()
        session.close()


class _Through:
    """The part of Django's connection that verify uses, over a psycopg2 session."""

    def __init__(self, session) -> None:
        self.session = session

    def cursor(self):
        return self.session.cursor()

    chunked_cursor = cursor


def test_a_head_signed_by_another_key_is_found(full):
    from ledger import notes

    other = notes.new_signing_key("test.openledger.example/log", notes.LOG_KEY).verifier.encode()

    assert verify.check_signatures([ledger.log_vkey(), other]) == []
    assert [failure.invariant for failure in verify.check_signatures([other])] == ["I9"]


def test_the_command_names_every_invariant_and_the_first_wrong_row(books, settings):
    settings.VERIFY_MODULES = ["ledger.verify", "ledger.not_there"]
    books.deposit(DAN, 100)
    books.log()
    out, err = StringIO(), StringIO()

    call_command("verify", stdout=out, stderr=err)
    assert "ledger.verify: I12 holds" in out.getvalue()
    assert "Everything adds up" in out.getvalue()

    with books.connect("DATABASE_SUPERUSER_URL") as session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE ledger_position SET credited_nano = credited_nano + 7 WHERE credited_nano > 0")
    with pytest.raises(CommandError, match=r"1 wrong rows; the first: I2 wallet:4: .* 107 credited"):
        call_command("verify", stdout=out, stderr=err)
    assert "ledger.verify: I2 BROKEN" in out.getvalue()


def test_verify_imports_nothing_of_what_it_verifies():
    import ast
    from pathlib import Path

    imported = {
        name
        for node in ast.walk(ast.parse(Path(verify.__file__).read_text()))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
        )
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not any(name.split(".")[0] in ("ledger", "attribution", "marketplace", "datanets") for name in imported)


def test_keys_are_listed_for_verifiers(books_of_module, capsys):
    call_command("keys", "init")
    assert f"log     {ledger.log_vkey()}" in capsys.readouterr().out


def test_no_check_joins_row_by_row_what_could_be_hashed_or_sorted(full):
    """Of a million postings that takes hours: the planner cannot know how many legs and numbered rows a query makes."""
    with verify._one_snapshot(), connection.cursor() as cursor:
        for _invariant, sentence, query in verify._CHECKS:
            cursor.execute(f"EXPLAIN (COSTS OFF) {verify._LEGS} SELECT * FROM ({query}) q LIMIT {verify.ROWS_SHOWN}")
            plan = [line for [line] in cursor.fetchall()]
            for line, following in pairwise(plan):
                # Said of a loop that is there only because nothing else can join, as with one row or a function's
                assert "Nested Loop" not in line or "Disabled: true" in following, (sentence, plan)
