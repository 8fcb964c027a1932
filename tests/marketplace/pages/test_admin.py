"""The admin desk: hidden from others, zero to the nano, four eyes, and a wrong nano that stops everything."""

import csv
import html
import io
import re

import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from ledger import chart
from ledger import services as ledger
from marketplace import payouts, wallets
from marketplace.models import Adjustment, AuditEvent, Deposit, PayoutRun, Withdrawal
from marketplace.views import admin_accounts
from tests.marketplace.pages.world import admin, fund, person, sold
from tests.shop import OPEN, wallet_nano

IBAN = "DE89 3704 0044 0532 0130 00"
DESK = ["revenue", "accounts", "accounts/platform:fees", "adjustments", "payouts", "deposits", "audit", "exceptions"]


@pytest.fixture(autouse=True)
def _undo(settings):
    settings.REVIEW_UNDO_S = 0


def as_(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def erin(books):
    return as_(admin("erin"))


@pytest.fixture
def frank(books):
    return as_(admin("frank"))


def page(client, address, *, status=200):
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def said(answer) -> str:
    """The words of an answer, after its redirect."""
    return answer.content.decode()


def requested(books, handle="alice", amount_open=4) -> Withdrawal:
    user = person(handle)
    fund(books, user, 10)
    wallets.set_destination(user, kind="bank", details=IBAN)
    withdrawal = wallets.request_withdrawal(user, amount_nano=amount_open * OPEN)
    books.fold()
    return withdrawal


def change_a_line_by_one_nano(books) -> int:
    """What somebody with all rights on the database could do. Returns the line."""
    session = books.connect("DATABASE_SUPERUSER_URL")
    with session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "UPDATE attribution_line SET amount_nano = amount_nano + 1 "
            "WHERE id = (SELECT min(id) FROM attribution_line WHERE role = 'data' AND payee_id IS NOT NULL) RETURNING id"
        )
        line_id = cursor.fetchone()[0]
    session.close()
    return line_id


@pytest.mark.parametrize("name", DESK)
def test_the_desk_is_not_there_for_others(books, client, name):
    page(client, f"/en/admin-desk/{name}/", status=404)
    page(as_(person("alice")), f"/en/admin-desk/{name}/", status=404)


def test_an_empty_desk_says_so_on_every_page(erin):
    words = {
        "revenue": "Nothing was charged yet",
        "payouts": "No payout run yet",
        "deposits": "No deposit was recorded yet.",
        "audit": "Nothing was done yet.",
        "exceptions": "Nothing waits for you.",
    }
    for name, sentence in words.items():
        assert sentence in page(erin, f"/en/admin-desk/{name}/")


# --- Revenue


def test_the_revenue_report_adds_up_on_the_page_and_in_the_file(books, erin):
    sold(books)

    text = page(erin, "/en/admin-desk/revenue/")
    equation = text.split('class="eq"')[1].split("</section>")[0]
    amounts = [int(part.split('"')[0]) for part in equation.split('value="')[1:10]]
    charged, refunded, *parts, difference = amounts

    assert "Adds up to the nano" in text
    assert charged == 48_000_000
    assert charged - refunded == sum(parts)
    assert difference == 0
    assert "Nothing was charged" in page(erin, "/en/admin-desk/revenue/?since=2999-01-01")
    assert "The first day comes after the last one." in page(
        erin, "/en/admin-desk/revenue/?since=2026-01-02&until=2026-01-01"
    )
    rows = list(csv.DictReader(io.StringIO(erin.get("/en/admin-desk/revenue/?format=csv").content.decode())))
    assert {row["difference"] for row in rows} == {"0.000000000"}
    assert sum(int(row["business"].replace(".", "")) for row in rows) == charged


def test_one_nano_too_much_is_shown_refused_and_named(books, erin, frank):
    # Given a settled shop and a run that waits for approval
    sold(books)
    requested(books)
    erin.post("/en/admin-desk/payouts/new/")
    books.fold()
    run = PayoutRun.objects.get()

    # When somebody with all rights adds one nano to a stored line
    change_a_line_by_one_nano(books)

    # Then the report shows it, approval is refused, and verify names the charge
    text = page(erin, "/en/admin-desk/revenue/")
    assert "Does not add up" in text
    equation = text.split('class="eq"')[1].split("</section>")[0]
    assert 'value="1"' in equation and "0.00000000" in equation
    answer = erin.post(f"/en/admin-desk/payouts/{run.pk}/approve/", {"confirmation": "run-1"})
    assert answer.status_code == 409
    assert "The revenue report is not zero" in said(answer)
    assert erin.post(f"/en/admin-desk/payouts/{run.pk}/recompute/").status_code == 409
    run.refresh_from_db()
    assert run.first_approver is None
    with pytest.raises(CommandError, match="I6"):
        call_command("verify", stdout=io.StringIO(), stderr=io.StringIO())
    found = said(erin.post("/en/admin-desk/exceptions/"))
    assert "wrong row" in found and "I6" in found


# --- Payout runs


def test_two_admins_approve_a_run_and_its_items_end_one_by_one(books, erin, frank):
    # Given withdrawals of Alice and Bob
    for handle in ("alice", "bob"):
        requested(books, handle)

    # When Erin prepares a run, and both approve it
    run_url = erin.post("/en/admin-desk/payouts/new/").url
    books.fold()
    assert "Adds up to the nano" in page(erin, run_url)
    assert "0.000000000." in said(erin.post(f"{run_url}recompute/", follow=True))
    assert "Another admin must give the second." in said(
        erin.post(f"{run_url}approve/", {"confirmation": "run-1"}, follow=True)
    )

    # Then one pair of eyes is not enough, nor is a wrong word, and nothing can be exported or sent before
    again = erin.post(f"{run_url}approve/", {"confirmation": "run-1"})
    assert again.status_code == 403
    assert "You gave the first approval." in said(again)
    assert frank.post(f"{run_url}approve/", {"confirmation": "run 1"}).status_code == 422
    assert frank.get(f"{run_url}export.csv").status_code == 409
    assert frank.post(f"{run_url}send/").status_code == 409
    assert "Second approval given" in said(frank.post(f"{run_url}approve/", {"confirmation": "run-1"}, follow=True))

    # When it is exported and sent, one item arrives and one comes back
    exported = frank.get(f"{run_url}export.csv").content.decode()
    assert exported.count("DE89370400440532013000") == 2
    frank.post(f"{run_url}send/")
    alice, bob = (Withdrawal.objects.get(user=person(handle)) for handle in ("alice", "bob"))
    erin.post(f"{run_url}items/{alice.pk}/confirm/")
    assert erin.post(f"{run_url}items/{bob.pk}/return/", {"reason": " "}).status_code == 422
    erin.post(f"{run_url}items/{bob.pk}/return/", {"reason": "Account closed"})
    books.fold()

    # Then Bob has his money again, the run is closed, and the trail says who did what
    assert (wallet_nano(person("alice")), wallet_nano(person("bob"))) == (6 * OPEN, 10 * OPEN)
    text = page(erin, run_url)
    assert "Closed" in text and "Account closed" in text and "Adds up to the nano" in text
    assert "Approved by erin" in text and "Approved by frank" in text and "Exported by frank" in text
    assert "Account closed" in page(as_(person("bob")), "/en/wallet/")
    assert set(AuditEvent.objects.filter(target__startswith="payout_run:").values_list("act", flat=True)) == {
        *("create_payout_run", "recompute_payout_run", "approve_payout_run", "export_payout_run", "send_payout_run")
    }


def test_a_run_without_requests_is_refused_with_a_sentence(erin):
    assert "There is nothing to pay out." in said(erin.post("/en/admin-desk/payouts/new/", follow=True))


def test_unknown_acts_and_runs_are_not_found(books, erin):
    requested(books)
    run = payouts.create_run(by=admin("erin"))

    assert erin.post(f"/en/admin-desk/payouts/{run.pk}/delete/").status_code == 404
    assert erin.get("/en/admin-desk/payouts/00000000-0000-0000-0000-000000000000/").status_code == 404
    assert as_(person("alice")).post(f"/en/admin-desk/payouts/{run.pk}/approve/").status_code == 404


# --- Deposits


def test_a_deposit_is_recorded_once_per_reference(books, erin):
    person("dan")
    form = {"user": "dan", "amount_nano": "12.5", "external_reference": "bank 1"}

    assert erin.post("/en/admin-desk/deposits/", form).status_code == 302
    again = erin.post("/en/admin-desk/deposits/", form)
    books.fold()

    assert again.status_code == 422
    assert "is recorded already" in said(again)
    assert wallet_nano(person("dan")) == 12_500_000_000
    nobody = erin.post("/en/admin-desk/deposits/", form | {"user": "nobody"})
    assert nobody.status_code == 422
    assert "Nobody has the handle or e-mail nobody." in said(nobody)


def test_a_large_deposit_needs_another_admin(books, erin, frank, settings):
    settings.DEPOSIT_SINGLE_MAX_NANO = OPEN
    person("dan")
    erin.post("/en/admin-desk/deposits/", {"user": "dan", "amount_nano": "2", "external_reference": "bank 1"})
    deposit = Deposit.objects.get()

    refused = erin.post(f"/en/admin-desk/deposits/{deposit.pk}/approve/")
    assert refused.status_code == 403
    assert "Another admin must approve what you recorded." in said(refused)
    frank.post(f"/en/admin-desk/deposits/{deposit.pk}/approve/")
    books.fold()

    assert wallet_nano(person("dan")) == 2 * OPEN


def test_a_file_of_deposits_is_booked_row_by_row(books, erin):
    person("dan")
    content = "handle,amount,reference\ndan,1.5,a\ndan,one,b\nnobody,1,c\ndan,2,a\n"

    answer = erin.post("/en/admin-desk/deposits/import/", {"file": SimpleUploadedFile("d.csv", content.encode())})
    books.fold()

    text = said(answer)
    assert answer.status_code == 200
    assert wallet_nano(person("dan")) == 1_500_000_000
    for sentence in (
        "one is not an amount of OPEN.",
        "Nobody has the handle",
        "is recorded already",
        "1.500000000 OPEN booked",
    ):
        assert sentence in text
    wrong = erin.post("/en/admin-desk/deposits/import/", {"file": SimpleUploadedFile("d.csv", b"a,b\n1,2\n")})
    assert wrong.status_code == 422


# --- Audit and exceptions


def test_the_audit_log_is_read_page_by_page(books, erin, django_assert_max_num_queries):
    person("dan")
    for number in range(60):
        wallets.record_deposit(user=person("dan"), amount_nano=1, external_reference=f"bank {number}", by=admin("erin"))

    with django_assert_max_num_queries(12):
        text = page(erin, "/en/admin-desk/audit/?act=record_deposit")
    assert text.count('<td class="mono">record_deposit') == 50
    after = text.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    assert page(erin, f"/en/admin-desk/audit/{after}").count('<td class="mono">record_deposit') == 10


def test_exceptions_show_the_lag_and_run_every_check_on_demand(books, erin):
    sold(books)
    requested(books)

    assert "1 withdrawal waits for a payout run" in page(erin, "/en/admin-desk/exceptions/")
    assert "Everything adds up." in said(erin.post("/en/admin-desk/exceptions/"))


def test_an_admin_follows_the_platforms_money_from_its_balance_to_each_movement(books, erin, monkeypatch):
    sold(books)
    monkeypatch.setattr(admin_accounts, "ACCOUNTS_SHOWN", 2)

    listed, address = "", "/en/admin-desk/accounts/"
    while address:
        shown = page(erin, address)
        listed += shown
        following = re.search(r'href="(\?after=[^"]+)"', shown)
        address = f"/en/admin-desk/accounts/{html.unescape(following[1])}" if following else ""
    codes = re.findall(r'<td class="mono small">([^<]+)</td>', listed)
    assert codes == sorted(set(codes)), "each stands on one page"
    assert {"world", "platform:fees"} < set(codes)
    assert any(code.startswith("pool:") for code in codes)
    assert not any(code.startswith(("wallet:", "pending:", "promotion:")) for code in codes)

    for code in codes:
        assert erin.get(f"/en/admin-desk/accounts/{code}/").status_code == 200
    rows = list(csv.DictReader(io.StringIO(page_of_file(erin, "/en/admin-desk/accounts/platform:fees.csv"))))
    assert sum(int(row["amount_nano"]) for row in rows) == ledger.balance_nano(chart.FEES) > 0
    statement = page(erin, "/en/admin-desk/accounts/platform:fees/")
    assert [row["receipt_id"] for row in rows] == re.findall(r'href="/r/([0-9a-f-]{36})', statement)
    parquet = erin.get("/en/admin-desk/accounts/platform:fees.parquet")
    found = pq.read_table(io.BytesIO(b"".join(parquet.streaming_content))).to_pylist()
    assert [str(row["amount_nano"]) for row in found] == [row["amount_nano"] for row in rows]


def test_an_adjustment_is_proposed_by_one_admin_and_approved_by_another_on_their_pages(books, erin, frank):
    dan, desk = person("dan"), "/en/admin-desk/adjustments/"
    fund(books, dan, 10)
    reason = "The bank booked the transfer twice."
    filled = {"payer": "dan", "payee": "", "amount_nano": "2", "reason": reason}
    assert "from one account to another" in said(erin.post(f"{desk}propose/", filled | {"payer": ""}))
    assert "Another admin must approve it." in said(erin.post(f"{desk}propose/", filled, follow=True))
    adjustment = Adjustment.objects.get()
    assert "1 adjustment waits for a second admin" in page(erin, "/en/admin-desk/exceptions/")
    assert "Take back" in page(erin, desk)
    assert "/approve/" not in page(erin, desk)
    said_no = said(erin.post(f"{desk}{adjustment.pk}/approve/", follow=True))
    assert "Another admin must approve what you proposed." in said_no

    assert f"{desk}{adjustment.pk}/approve/" in page(frank, desk)
    assert "approved and booked" in said(frank.post(f"{desk}{adjustment.pk}/approve/", follow=True))
    books.fold()

    assert wallet_nano(dan) == 8 * OPEN
    for reader, statement in ((as_(dan), "/en/wallet/"), (frank, "/en/admin-desk/accounts/platform:fees/")):
        assert reason in page(reader, statement)


@pytest.mark.parametrize("code", ["wallet:1", "pending:1", "promotion:1", "platform:else", "pool:x"])
def test_an_admin_reads_no_persons_statement_here_and_none_that_cannot_be(books, erin, code):
    for address in (f"/en/admin-desk/accounts/{code}/", f"/en/admin-desk/accounts/{code}.csv"):
        assert erin.get(address).status_code == 404


def page_of_file(client, address) -> str:
    return b"".join(client.get(address).streaming_content).decode()
