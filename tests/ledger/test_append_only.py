"""The journal cannot be edited: by privilege for application and sequencer, by trigger for the owner."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from ledger import errors, privileges, sequencer
from ledger import services as ledger
from tests.books import as_role
from tests.ledger.builders import ALICE, DAN, charge_entry, hold, payment, witnesses

ADDED_TO_ONLY = ("account", "journal", "entry", "fact", "leaf", "node", "checkpoint")
KEPT = ("spend", "position", "hold", "lot", "cursor")
TABLES = (*ADDED_TO_ONLY, *KEPT, "cosignature", "opening", "outbox")


@pytest.fixture(scope="module")
def filled(books_of_module):
    """Books with a row in every table that is only added to."""
    books_of_module.deposit(DAN, 100)
    ledger.post_many([payment(DAN, "pending:1", 10, vest_after_s=0)])
    ledger.record_fact(
        id=ledger.new_id(), reference="rule:1", entry=ledger.Entry("rule.adopted", {"rule": "r", "parts": []})
    )
    hold(DAN, 5)
    ledger.post_many([payment(DAN, ALICE, 1) for _ in range(16)])  # as many leaves as have a node
    books_of_module.fold()
    books_of_module.log()
    return books_of_module


def refusal(connection, statement: str) -> str:
    """The SQLSTATE with which a statement is refused."""
    with connection.cursor() as cursor:
        with pytest.raises(psycopg2.Error) as refused:
            cursor.execute(statement)
        connection.rollback()
        return refused.value.pgcode


def column_of(connection, table: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ledger_{table} LIMIT 0")
        return cursor.description[0].name


@pytest.mark.parametrize("role", ["DATABASE_APP_URL", "DATABASE_SEQUENCER_URL"])
@pytest.mark.parametrize("table", TABLES)
def test_application_and_sequencer_may_only_read(filled, table, role):
    with closing(filled.connect(role)) as session:
        column = column_of(session, table)
        for statement in (
            f"UPDATE ledger_{table} SET {column} = {column}",
            f"DELETE FROM ledger_{table}",
            f"TRUNCATE ledger_{table}",
            f"INSERT INTO ledger_{table} SELECT * FROM ledger_{table}",
            f"ALTER TABLE ledger_{table} DISABLE TRIGGER ALL",
        ):
            assert refusal(session, statement) == "42501", statement


@pytest.mark.parametrize("table", ADDED_TO_ONLY)
def test_not_even_the_owner_changes_what_is_only_added_to(filled, table):
    with filled.connect() as owner:
        column = column_of(owner, table)
        for statement in (
            f"UPDATE ledger_{table} SET {column} = {column}",
            f"DELETE FROM ledger_{table}",
            f"TRUNCATE ledger_{table} CASCADE",
        ):
            assert refusal(owner, statement) == errors.AppendOnly.sqlstate, statement


@pytest.mark.parametrize("table", KEPT)
def test_not_even_the_owner_removes_what_is_counted_on(filled, table):
    with filled.connect() as owner:
        assert refusal(owner, f"DELETE FROM ledger_{table}") == errors.AppendOnly.sqlstate
        assert refusal(owner, f"TRUNCATE ledger_{table} CASCADE") == errors.AppendOnly.sqlstate


@pytest.mark.parametrize(
    "amounts",
    ["{-5,4}", "{5,-5}", "{-5,6,-1}", "{0,0}", "{-5}", "{-5,NULL}", "{-9223372036854775807,9223372036854775806}"],
)
def test_not_even_the_owner_inserts_an_unbalanced_posting(filled, amounts):
    with filled.connect() as owner:
        accounts = "{1,2,3}" if amounts.count(",") == 2 else "{1,2}"
        assert (
            refusal(
                owner,
                "INSERT INTO ledger_journal (id, kind, reference, accounts, amounts, payload) "
                f"VALUES (gen_random_uuid(), 'adjustment', 'by hand', '{accounts}', '{amounts}', '')",
            )
            == "23514"
        )


@pytest.mark.parametrize(
    ("role", "functions"),
    [
        ("DATABASE_APP_URL", privileges.FOR_THE_APPLICATION),
        ("DATABASE_SEQUENCER_URL", privileges.FOR_THE_SEQUENCER),
    ],
)
def test_each_role_calls_its_functions_and_no_others(filled, role, functions):
    with closing(filled.connect(role)) as session, session.cursor() as cursor:
        cursor.execute(
            """SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
               AND starts_with(proname, 'ledger_') AND has_function_privilege(oid, 'EXECUTE')"""
        )
        assert {name for (name,) in cursor.fetchall()} == set(functions)


@pytest.mark.parametrize(
    "call",
    [
        "ledger_fold(10)",
        "ledger_vest(10)",
        "ledger_expire(10)",
        "ledger_ring(10)",
        "ledger_fence('gateway:1', 9)",
        "ledger_next_entries(10)",
        "ledger_append(0, '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        r"ledger_sign(1, '\x00', 'a head that nobody signed')",
        "ledger_cosign(1, 'witness', 'a line that no witness wrote')",
    ],
)
def test_the_application_can_neither_order_nor_log_nor_sign(filled, call):
    refused = pytest.raises(psycopg2.errors.InsufficientPrivilege, match="permission denied for function")
    with closing(filled.connect("DATABASE_APP_URL")) as app, app.cursor() as cursor, refused:
        cursor.execute(f"SELECT {call}")


def test_the_application_works_with_the_books_and_the_sequencer_moves_them_forward(books, tmp_path, settings):
    books.deposit(DAN, 100)
    with as_role(settings.APP_DB_ROLE):
        lease = hold(DAN, 50)
        ledger.draw([ledger.Draw(lease, payment(DAN, "pending:1", 10, vest_after_s=0), close=True)])
        ledger.enqueue(topic="t", reference="r", payload={})
        ledger.record_fact(
            id=ledger.new_id(), reference="rule:1", entry=ledger.Entry("rule.adopted", {"rule": "r", "parts": []})
        )

    with witnesses(tmp_path, count=2) as settings.WITNESSES:
        settings.WITNESS_QUORUM = 2
        done = books.round()

    assert done == {"expired": 0, "folded": 1, "vested": 1, "logged": 4, "cosigned": 2, "relayed": 1}
    assert books.rung == [("t", "r")]
    assert ledger.head().size == 4, "deposit, draw, fact, and the payment that vested"


def test_an_opening_is_kept_until_its_leaf_exists_and_never_changed(books):
    books.deposit(DAN, 100)
    made, plain = payment(DAN, ALICE, 24, entry=charge_entry(24)), payment(DAN, ALICE, 1)
    for posting in (made, plain):
        ledger.post_many([posting])

    assert ledger.erase_openings([made.id, plain.id]) == 0
    with books.connect() as owner:
        assert refusal(owner, "DELETE FROM ledger_opening") == errors.AppendOnly.sqlstate
        assert refusal(owner, "UPDATE ledger_opening SET type = 'x'") == errors.AppendOnly.sqlstate
    assert ledger.entry_of(plain.id).private["posting"]["moves"][0]["amount"] == "1", (
        "what it says stands in the journal"
    )
    sequencer.log()
    assert ledger.erase_openings([made.id, plain.id]) == 2
    assert ledger.entry_of(made.id).private is ledger.entry_of(plain.id).private is None
