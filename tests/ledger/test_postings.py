"""Postings: money moves once, between accounts of the chart, and only if it is there."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import close_old_connections, connection, transaction
from django.test.utils import CaptureQueriesContext

from ledger import chart, database, verify
from ledger import services as ledger
from ledger.legs import batch
from marketplace.errors import describe
from tests.ledger.builders import ALICE, BOB, DAN, payment


def test_a_deposit_can_be_spent_once_it_is_folded(books):
    books.deposit(DAN, 1000)

    assert ledger.balance(DAN) == ledger.Balance(available_nano=1000, credited_nano=1000)
    assert ledger.balance_nano(chart.WORLD) == chart.SUPPLY_NANO - 1000
    assert ledger.post_many([payment(DAN, ALICE, 400)])
    assert ledger.balance_nano(DAN) == 600, "the payer is debited at once"
    assert ledger.balance_nano(ALICE) == 0, "the payee waits for the fold"
    books.fold()
    assert ledger.balance_nano(ALICE) == 400
    assert verify.failures() == []


def test_nobody_spends_more_than_they_have(books):
    books.deposit(DAN, 100)

    with pytest.raises(ledger.InsufficientFunds) as refused:
        ledger.post_many([payment(DAN, ALICE, 101)])

    assert refused.value.detail == {"account": DAN, "amount_nano": 101}
    assert ledger.balance_nano(DAN) == 100
    assert ledger.post_many([payment(DAN, ALICE, 100)])


def test_a_credit_that_is_not_folded_yet_cannot_be_spent(books):
    books.deposit(DAN, 100)
    ledger.post_many([payment(DAN, ALICE, 100)])

    with pytest.raises(ledger.InsufficientFunds):
        ledger.post_many([payment(ALICE, BOB, 1)])

    books.fold()
    assert ledger.post_many([payment(ALICE, BOB, 100)])


def test_a_credit_is_granted_once_however_often_it_is_pulled(books):
    for spent_nano in (90, 105):  # each needs the newest deposit, so each pulls
        books.deposit(DAN, 100)
        ledger.post_many([payment(DAN, ALICE, spent_nano)])

    with pytest.raises(ledger.InsufficientFunds):
        ledger.post_many([payment(DAN, ALICE, 6)])

    books.fold()
    assert verify.failures() == []


def test_a_repeated_posting_does_nothing(books):
    books.deposit(DAN, 100)
    once = payment(DAN, ALICE, 60)

    assert ledger.post_many([once]) == {once.id}
    assert ledger.post_many([once]) == set()
    assert ledger.post_many([once, once]) == set(), "nor twice in one batch"
    assert ledger.balance_nano(DAN) == 40


def test_a_posting_twice_in_one_batch_is_booked_once(books):
    books.deposit(DAN, 100)
    once = payment(DAN, ALICE, 60)

    assert ledger.post_many([once, once]) == {once.id}
    assert ledger.balance_nano(DAN) == 40


@pytest.mark.parametrize(
    "change",
    [
        {"moves": [ledger.Move(DAN, ALICE, 59)]},
        {"moves": [ledger.Move(DAN, BOB, 60)]},
        {"kind": ledger.Kind.REFUND},
        {"reference": "another"},
        {"entry": ledger.Entry("rule.adopted", {"rule": "r", "parts": []})},
    ],
    ids=["amount", "payee", "kind", "reference", "entry"],
)
def test_an_id_cannot_be_used_for_something_else(books, change):
    books.deposit(DAN, 1000)
    first = payment(DAN, ALICE, 60)
    ledger.post_many([first])

    with pytest.raises(ledger.PayloadMismatch):
        ledger.post_many([ledger.Posting(**{**first.__dict__, **change})])

    assert ledger.balance_nano(DAN) == 940


def test_every_act_on_the_books_is_one_statement(books):
    """So each is whole or not at all without a transaction around it, and costs one way to the server."""
    books.deposit(DAN, 1000)
    first, lease = ledger.new_id(), ledger.new_id()
    ledger.hold(id=first, account=DAN, amount_nano=2, expires_in_s=60)
    ledger.draw([ledger.Draw(first, payment(DAN, BOB, 2))])  # a session prepares its statements before their first use
    ledger.post_many([payment(DAN, BOB, 1)])
    ledger.close(first)
    one, *many = (payment(DAN, ALICE, 1) for _ in range(4))
    acts = {
        "post": lambda: ledger.post(id=one.id, kind=one.kind, reference=one.reference, moves=one.moves),
        "post_many": lambda: ledger.post_many(many),
        "hold": lambda: ledger.hold(id=lease, account=DAN, amount_nano=100, expires_in_s=60),
        "draw": lambda: ledger.draw([ledger.Draw(lease, payment(DAN, BOB, 2)) for _ in range(3)]),
        "close": lambda: ledger.close(lease),
    }
    for name, act in acts.items():
        with CaptureQueriesContext(connection) as asked:
            act()
        assert len(asked) == 1, (name, asked.captured_queries)

    assert ledger.balance_nano(DAN) == 1000 - 3 - 4 - 6
    assert ledger.open_holds(DAN) == []


def test_a_reference_is_taken_for_ever_but_per_kind(books):
    books.deposit(DAN, 100)
    ledger.post_many([payment(DAN, ALICE, 1, reference="call:7")])

    with pytest.raises(ledger.ReferenceTaken):
        ledger.post_many([payment(DAN, ALICE, 1, reference="call:7")])

    assert ledger.post_many([payment(DAN, ALICE, 1, reference="call:7", kind=ledger.Kind.REFUND)])


def test_references_of_every_shape_are_taken_once(books):
    books.deposit(DAN, 100)
    half = "0199c0de-0000-7000"
    shapes = [
        f"call:{half}-8000-000000000012",
        f"call:{half}-8000-000000000012:2",
        f"refund:{half}-8000-000000000012",
        f"call:{half}-8000-000000000013",
        f"call:{half}",
        "call:zzzzzzzz-zzzz-7zzz-zzzz-zzzzzzzzzzzz",
        "call:é",
        "7",
    ]
    ledger.post_many([payment(DAN, ALICE, 1, reference=shape) for shape in shapes])

    for shape in shapes:
        with pytest.raises(ledger.ReferenceTaken):
            ledger.post_many([payment(DAN, ALICE, 1, reference=shape)])
    with pytest.raises(ledger.ReferenceTaken):
        ledger.post_many([payment(DAN, ALICE, 1, reference="twice") for _ in range(2)])
    assert ledger.balance_nano(DAN) == 100 - len(shapes)


def test_a_batch_is_all_or_nothing(books):
    books.deposit(DAN, 100)

    with pytest.raises(ledger.InsufficientFunds):
        ledger.post_many([payment(DAN, ALICE, 60), payment(DAN, ALICE, 60)])

    assert ledger.balance_nano(DAN) == 100


def test_a_batch_may_have_many_payers(books):
    books.deposit(DAN, 100)
    books.deposit(ALICE, 100)

    ledger.post_many([payment(DAN, BOB, 100), payment(ALICE, BOB, 50), payment(ALICE, BOB, 50)])
    books.fold()

    assert [ledger.balance_nano(account) for account in (ALICE, BOB, DAN)] == [0, 200, 0]


@pytest.mark.parametrize(
    ("moves", "error"),
    [
        ([("wallet:4", "wallet:1", -1)], ledger.BadAmount),
        ([("wallet:4", "wallet:1", 0)], ledger.BadAmount),
        ([], ledger.BadAmount),
        ([("wallet:4", "wallet:1", 1.0)], ledger.BadAmount),
        ([("wallet:4", "wallet:1", True)], ledger.BadAmount),
        ([("world", "wallet:1", 2 * 10**18)], ledger.BadAmount),
        ([("world", "wallet:1", 10**30)], ledger.BadAmount),
        ([("world", "wallet:1", 10**18 + 1)], ledger.BadAmount),
        ([("wallet:4", "wallet:4", 1)], ledger.Unbalanced),
        ([("wallet:4", "wallet:1", 1), ("wallet:1", "wallet:2", 1)], ledger.Unbalanced),
        ([("wallet:4", "walet:1", 1)], ledger.UnknownAccount),
        ([("wallet:04", "wallet:1", 1)], ledger.UnknownAccount),
        ([("wallet:4", "wallet:1\n", 1)], ledger.UnknownAccount),
        ([("wallet:4", "pending:1", 1)], ledger.BadAmount),
    ],
)
def test_moves_that_make_no_sense_are_refused(books_of_module, moves, error):
    books_of_module.deposit(DAN, 10)

    with pytest.raises(error):
        ledger.post(
            id=ledger.new_id(),
            kind=ledger.Kind.ADJUSTMENT,
            reference=f"test:{uuid4()}",
            moves=[ledger.Move(*move) for move in moves],
        )


@pytest.mark.parametrize(
    ("accounts", "amounts", "error"),
    [
        ([DAN, ALICE], "{-5,4}", ledger.Unbalanced),
        ([DAN, ALICE, BOB], "{-5,5}", ledger.Unbalanced),
        ([DAN, ALICE, ALICE], "{-5,2,3}", ledger.Unbalanced),
        ([DAN, DAN], "{-5,5}", ledger.Unbalanced),
        ([DAN, ALICE], "{0,0}", ledger.BadAmount),
        ([DAN, ALICE, BOB], "{-5,5,0}", ledger.Unbalanced),
        ([DAN, ALICE], "{5,-5}", ledger.BadAmount),
        ([DAN, ALICE, BOB], "{-5,8,-3}", ledger.BadAmount),
        ([DAN, ALICE], "{-0.5,0.5}", ledger.BadAmount),
        ([DAN, ALICE], '{"-5","5"}', ledger.BadAmount),
        ([DAN, ALICE], "{-9999999999999999999,9999999999999999999}", ledger.BadAmount),
        ([DAN, ALICE], "{-2000000000000000000,2000000000000000000}", ledger.BadAmount),
        ([DAN], "{-5}", ledger.BadAmount),
        ([], "{}", ledger.BadAmount),
        ([DAN, "pending:1"], "{-5,5}", ledger.BadAmount),
        (["pending:1", DAN], "{-5,5}", ledger.LotUnavailable),
    ],
)
def test_the_database_refuses_by_itself_what_python_would_not_send(books_of_module, accounts, amounts, error):
    if not ledger.balance_nano(DAN):
        books_of_module.deposit(DAN, 100)
    database.rows("SELECT ledger_open(%s)", [DAN, ALICE, BOB, "pending:1"])  # or no posting would be a plain one
    for beside in ([], [payment(DAN, ALICE, 1).said()]):
        said = batch([payment(DAN, ALICE, 1).said() | {"accounts": accounts}, *beside])
        said["postings"][0]["amounts"] = amounts
        with pytest.raises(error):
            database.rows("SELECT ledger_post(%s)", database.as_json(said))


def test_legs_are_the_accounts_in_their_order_or_name_their_places(books_of_module):
    if not ledger.balance_nano(DAN):
        books_of_module.deposit(DAN, 100)
    database.rows("SELECT ledger_open(%s)", [DAN, ALICE])  # or none would be a plain one
    one, other, wrong = (payment(DAN, ALICE, 1).said() for _ in range(3))
    ways = [({"accounts": [ALICE, DAN]}, {"legs": "{2,1}"}), ({"accounts": [DAN, ALICE]}, {})]

    new = []
    for accounts, legs in ways:
        said = {"id": one["id"], "kind": one["kind"], "reference": one["reference"], "amounts": "{-1,1}"} | legs
        new.append(database.rows("SELECT ledger_post(%s)", database.as_json(accounts | {"postings": [said]})))
    assert [len(ids) for ids in new] == [1, 0], "the second says the same in another way"
    assert ledger.posting_of(one["id"]).moves == (ledger.Move(DAN, ALICE, 1),)
    said = batch([other, wrong])
    said["postings"][1]["legs"] = "{1,7}"
    with pytest.raises(ledger.Unbalanced):
        database.rows("SELECT ledger_post(%s)", database.as_json(said))
    assert ledger.posting_of(other["id"]) is None, "all or none"


FEES, NOBODY, PENDING = chart.FEES, "wallet:987654321", chart.pending(1)


@pytest.mark.parametrize(
    ("moves", "more"),
    [
        ([(DAN, FEES, 5), (DAN, ALICE, 3)], {}),
        ([(DAN, FEES, 5), (DAN, ALICE, 0)], {}),
        ([(DAN, FEES, 0)], {}),
        ([(DAN, ALICE, 5), (DAN, FEES, 1), (DAN, ALICE, 3)], {}),
        ([(DAN, NOBODY, 5)], {}),
        ([(NOBODY, DAN, 5)], {}),
        ([(DAN, DAN, 5), (DAN, ALICE, 5)], {}),
        ([(DAN, ALICE, 5), (BOB, FEES, 5)], {}),
        ([(DAN, ALICE, 101)], {}),
        ([(DAN, ALICE, 10**18)], {}),
        ([(DAN, ALICE, -5), (DAN, FEES, 8)], {}),
        ([(DAN, f"wallet:{n}", 1) for n in range(1, 4)] + [(DAN, f"wallet:{n}", 1) for n in range(5, 12)], {}),
        ([(DAN, PENDING, 5)], {"vest_after_s": 60}),
        ([(DAN, PENDING, 5), (DAN, FEES, 5)], {"vest_after_s": 60}),
        ([(DAN, PENDING, 5)], {}),
        ([(DAN, FEES, 5)], {"vest_after_s": 60}),
        ([(PENDING, DAN, 5)], {}),
        ([(DAN, FEES, 5)], {"takes_from": uuid4()}),
        ([(DAN, FEES, 5)], {"kind": ledger.Kind.VESTING}),
        ([(chart.WORLD, DAN, 5)], {}),
        ([("wallet:x", DAN, 5)], {}),
        ([(DAN, "wallet:x", 5)], {}),
        ([], {}),
    ],
)
def test_a_posting_alone_is_booked_or_refused_as_it_is_beside_another(books_of_module, moves, more):
    if not ledger.balance_nano(DAN):
        books_of_module.deposit(DAN, 100)
        ledger.post_many([payment(DAN, target, 1) for target in (FEES, ALICE, BOB)])
        ledger.post_many([payment(DAN, PENDING, 1, vest_after_s=60)])
    told = {"kind": ledger.Kind.ADJUSTMENT} | more
    asked = ledger.Posting(
        id=ledger.new_id(), reference=f"test:{uuid4()}", moves=[ledger.Move(*move) for move in moves], **told
    )

    def outcome(*postings: ledger.Posting) -> object:
        with transaction.atomic():
            try:
                with transaction.atomic():
                    ledger.post_many(postings)
                    return ledger.posting_of(asked.id).moves
            except ledger.LedgerError as refused:
                return type(refused), refused.detail
            finally:
                transaction.set_rollback(True)

    alone, beside = outcome(asked), outcome(asked, payment(chart.WORLD, BOB, 1))

    assert alone == beside


def test_a_move_of_zero_is_dropped_and_moves_to_one_payee_are_added_up(books):
    books.deposit(DAN, 100)
    id = ledger.new_id()

    ledger.post(
        id=id,
        kind=ledger.Kind.CALL_CHARGED,
        reference="call:1",
        moves=[ledger.Move(DAN, chart.FEES, 5), ledger.Move(DAN, BOB, 0), ledger.Move(DAN, chart.FEES, 2)],
    )

    assert ledger.posting_of(id).moves == (ledger.Move(DAN, chart.FEES, 7),)


def test_the_supply_cannot_be_exceeded(books):
    books.deposit(DAN, chart.SUPPLY_NANO - 1)

    with pytest.raises(ledger.SupplyExceeded):
        books.deposit(ALICE, 2)

    books.deposit(ALICE, 1)
    ledger.post_many([payment(ALICE, chart.WORLD, 1, kind=ledger.Kind.WITHDRAWAL_CONFIRMED)])
    books.fold()
    books.deposit(BOB, 1)
    assert verify.failures() == []


def test_a_posting_belongs_to_the_callers_transaction(books):
    books.deposit(DAN, 100)

    with pytest.raises(RuntimeError), transaction.atomic():
        ledger.post_many([payment(DAN, ALICE, 60)])
        raise RuntimeError("the business row could not be stored")

    assert ledger.balance_nano(DAN) == 100
    assert books.fold() == 0


def test_a_statement_reads_newest_first_page_by_page(books):
    books.deposit(DAN, 100)
    for amount_nano in (10, 20, 30):
        ledger.post_many([payment(DAN, ALICE, amount_nano)])
    books.fold()

    first = ledger.statement_of(DAN, limit=2)
    second = ledger.statement_of(DAN, limit=2, after=first[-1].cursor)

    assert [(row.amount_nano, row.balance_after_nano) for row in first + second] == [
        (-30, 40),
        (-20, 70),
        (-10, 90),
        (100, 100),
    ]
    assert second[-1].kind is ledger.Kind.DEPOSIT
    assert ledger.statement_of(DAN, until=second[-1].at) == []
    assert len(ledger.statement_of(DAN, since=second[-1].at)) == 4


def test_a_page_of_a_long_statement_reads_no_more_than_its_own_lines(books):
    books.deposit(DAN, 10_000)
    ledger.post_many([payment(DAN, chart.FEES, 1) for _ in range(3000)])
    books.fold()
    connection.cursor().execute("ANALYZE")

    with CaptureQueriesContext(connection) as asked:
        assert len(ledger.statement_of(chart.FEES, limit=50)) == 50

    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + asked.captured_queries[0]["sql"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan Backward using ledger_entry_pkey" in plan
    assert "Sort" not in plan


def test_totals_come_from_statements_and_movements_from_the_journal(books):
    model = uuid4()
    books.deposit(DAN, 100)
    data, curation = (chart.pool(model, "calls", part) for part in ("data", "curation"))
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.CALL_CHARGED,
        reference="call:1",
        moves=[ledger.Move(DAN, data, 35), ledger.Move(DAN, curation, 5)],
    )
    pools = f"pool:{model}:"

    assert ledger.total_by_prefix(pools) == 0
    assert ledger.movements(prefix=pools) == [
        ledger.Movement(curation, ledger.Kind.CALL_CHARGED, 5, 0, 1),
        ledger.Movement(data, ledger.Kind.CALL_CHARGED, 35, 0, 1),
    ]
    books.fold()
    assert ledger.total_by_prefix(pools) == 40
    assert ledger.movements(accounts=[DAN], kinds=[ledger.Kind.DEPOSIT]) == [
        ledger.Movement(DAN, ledger.Kind.DEPOSIT, 100, 0, 1)
    ]
    assert ledger.movements(accounts=[DAN], until=ledger.statement_of(DAN)[-1].at) == []
    assert ledger.total_by_prefix("") == 0, "the books add up to nothing"


def test_python_and_the_database_agree_on_the_chart(books_of_module):
    model = uuid4()
    codes = [
        chart.WORLD,
        chart.FEES,
        chart.wallet(1),
        chart.promotion(12),
        chart.pending(10**17),
        chart.unattributed(model),
        chart.bounty(model),
        chart.withdrawals(model),
        *(
            chart.pool(model, source, part)
            for source in ("calls", "access", "training")
            for part in ("data", "curation")
        ),
    ]
    wrong = [
        "",
        "world ",
        "worlds",
        "wallet:0",
        "wallet:01",
        "wallet:-1",
        "wallet:1x",
        "wallet:",
        "Wallet:1",
        "wallet:1\n",
    ]
    wrong += [
        f"pool:{model}:calls",
        f"pool:{str(model).upper()}:calls:data",
        f"bounty:{model}0",
        "platform:fee",
        "wallet:١",
    ]

    said = dict(database.rows("SELECT c, ledger_is_account(c) FROM unnest(%s) c", codes + wrong))

    assert {code: chart.is_account(code) for code in codes + wrong} == said
    assert all(said[code] for code in codes)
    assert not any(said[code] for code in wrong)


@pytest.mark.parametrize(("code", "user_id"), [("wallet:7", 7), ("pending:12", 12), ("promotion:1", 1)])
def test_a_persons_account_names_the_person(code, user_id):
    assert chart.user_of(code) == user_id


@pytest.mark.parametrize("code", ["world", "platform:fees", "bounty:1d3bb4ac-a044-4a48-9e89-6734160c0af9"])
def test_other_accounts_name_nobody(code):
    assert chart.user_of(code) is None


def test_what_a_session_prepares_in_a_transaction_that_is_undone_is_there_afterwards(books):
    books.deposit(DAN, 100)
    connection.close()

    def prepared() -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_prepared_statements")
            return cursor.fetchall()

    class Undone(Exception):
        pass

    with pytest.raises(Undone), transaction.atomic():
        assert prepared() == []
        ledger.post_many([payment(DAN, ALICE, 10)])
        raise Undone

    assert prepared() == [("ledger_posts",)]
    assert ledger.post_many([payment(DAN, ALICE, 20)])
    assert ledger.balance(DAN).available_nano == 80


def test_a_posting_that_meets_a_restarting_server_is_refused_by_name_and_booked_once_when_it_is_repeated(books):
    books.deposit(DAN, 100)
    said = payment(DAN, ALICE, 10)

    def end_connection() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [(pid,)] = cursor.fetchall()
        with books.connect("DATABASE_SUPERUSER_URL") as session, session.cursor() as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    # Its connection has ended: nothing was booked, and whoever takes the connection next gets another one
    end_connection()
    with pytest.raises(ledger.BooksUnavailable, match="the database is away"):
        ledger.post_many([said])
    with pytest.raises(ledger.BooksUnavailable):
        ledger.post_many([said])
    assert describe(ledger.BooksUnavailable())[:2] == (503, "database_unavailable")
    close_old_connections()
    assert ledger.balance(DAN).available_nano == 100

    # It ends inside a transaction: all of it is undone
    with pytest.raises(ledger.BooksUnavailable), transaction.atomic():
        ledger.post_many([payment(DAN, ALICE, 1)])
        end_connection()
        ledger.post_many([said])
    close_old_connections()
    assert ledger.balance(DAN).available_nano == 100

    assert ledger.post_many([said]) == {said.id}
    assert ledger.post_many([said]) == set()
    assert ledger.balance(DAN).available_nano == 90
    assert verify.failures() == []
