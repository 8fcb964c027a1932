"""The wallet's pages: money in for play, money out after re-authentication, every line with its receipt."""

import csv
import io
import re
import time
from datetime import datetime
from itertools import count, islice

import pyarrow.parquet as pq
import pytest
from django.test import Client

from ledger import chart
from ledger import services as ledger
from marketplace import access, movements, payouts, wallets
from marketplace.models import PayoutDestination, WalletWatch, Withdrawal
from tests.ledger.builders import hold, payment
from tests.marketplace.pages.world import admin, fund, person, small_shop
from tests.shop import OPEN, make_model, wallet_nano

PASSWORD = "wrens nest in walls"
IBAN = "DE89 3704 0044 0532 0130 00"


@pytest.fixture
def alice(books):
    user = person("alice")
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def signed_in(alice):
    """Alice, who has just given her password again."""
    client = Client()
    client.force_login(alice)
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session["account_authentication_methods_user"] = str(alice.pk)
    session.save()
    return client


def page(client, address, *, status=200):
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def test_a_visitor_is_asked_to_sign_in(books, client):
    assert client.get("/en/wallet/").status_code == 302


def test_an_empty_wallet_says_what_will_stand_in_it(books, client):
    client.force_login(person("alice"))

    text = page(client, "/en/wallet/")

    assert "Nothing was booked yet" in text
    assert "No withdrawal was requested so far." in text


def test_a_test_deposit_gives_play_money_once_per_click(books, client):
    client.force_login(person("dan"))

    assert client.post("/en/wallet/test-deposit/").status_code == 302
    books.fold()

    assert wallet_nano(person("dan")) == wallets.TEST_DEPOSIT_NANO
    assert "+50<" in page(client, "/en/wallet/")
    assert client.get("/en/wallet/test-deposit/").status_code == 405


def test_there_are_no_test_deposits_outside_a_demo(books, client, settings):
    settings.DEMO_STATE = False
    client.force_login(person("dan"))

    assert "Test deposit" not in page(client, "/en/wallet/")
    assert client.post("/en/wallet/test-deposit/").status_code == 403


@pytest.mark.parametrize("address", ["/en/wallet/withdraw/", "/en/wallet/promotion/", "/en/settings/payout/"])
def test_money_leaves_only_after_the_password_was_given_again(alice, client, address):
    client.force_login(alice)

    for answer in (client.get(address), client.post(address, {"amount_nano": "1", "kind": "bank", "details": IBAN})):
        assert answer.status_code == 302
        assert answer.url.startswith("/accounts/reauthenticate/")
    assert not PayoutDestination.objects.exists()
    assert not Withdrawal.objects.exists()


def test_the_password_leads_back_to_the_page_that_asked(alice, client):
    client.force_login(alice)
    there = client.get("/en/settings/payout/").url

    answer = client.post(there, {"password": PASSWORD})

    assert answer.url == "/en/settings/payout/"
    assert client.get(answer.url).status_code == 200


def test_a_withdrawal_is_held_until_it_is_cancelled(books, alice, signed_in):
    fund(books, alice, 10)
    signed_in.post("/en/settings/payout/", {"kind": "bank", "details": IBAN})

    assert signed_in.post("/en/wallet/withdraw/", {"amount_nano": "4.5"}).status_code == 302
    text = page(signed_in, "/en/wallet/")
    assert "…3000" in text
    assert "DE89" not in text
    assert wallet_nano(alice) == 55 * OPEN // 10

    withdrawal = Withdrawal.objects.get()
    signed_in.post(f"/en/wallet/withdrawals/{withdrawal.pk}/cancel/")
    assert wallet_nano(alice) == 10 * OPEN
    assert "Cancelled" in page(signed_in, "/en/wallet/")


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [("0", "Withdraw more than 0."), ("11", "has less available"), ("1.0000000001", "at most nine places"), ("", "")],
)
def test_an_amount_that_makes_no_sense_is_said_on_the_form(books, alice, signed_in, amount, sentence):
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="bank", details=IBAN)

    answer = signed_in.post("/en/wallet/withdraw/", {"amount_nano": amount})

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert wallet_nano(alice) == 10 * OPEN


def test_a_withdrawal_without_a_destination_says_what_to_do(books, alice, signed_in):
    fund(books, alice, 10)

    answer = signed_in.post("/en/wallet/withdraw/", {"amount_nano": "1"})

    assert answer.status_code == 422
    assert "Say first where the money should go." in answer.content.decode()


def test_a_changed_destination_waits_and_the_page_says_until_when(books, alice, signed_in, settings):
    settings.PAYOUT_CHANGE_WAIT_S = 86400
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="bank", details=IBAN)
    assert "A change waits 24 hours" in page(signed_in, "/en/settings/payout/")
    assert signed_in.post("/en/settings/payout/", {"kind": "bank", "details": "DE1"}).status_code == 422

    signed_in.post("/en/settings/payout/", {"kind": "bank", "details": "FR76 3000 6000 0112 3456 7890 189"})

    assert "usable from" in page(signed_in, "/en/wallet/")
    answer = signed_in.post("/en/wallet/withdraw/", {"amount_nano": "1"})
    assert answer.status_code == 422
    assert "not usable yet" in answer.content.decode()


def test_free_calls_are_funded_and_taken_back_and_their_wallet_shows_it(books, alice, signed_in):
    fund(books, alice, 10)
    address, model = "/en/wallet/promotion/", make_model("Try", owner="alice", free_calls_per_day=3)
    assert "3 free calls per account and day" in page(signed_in, address)
    given = {"direction": "fund", "amount_nano": "4", "reference": "the form's own"}

    for _click in range(2):
        assert signed_in.post(address, given).status_code == 302
        books.fold()
    assert wallet_nano(alice) == 6 * OPEN
    assert "Free calls funded" in page(signed_in, "/en/wallet/")
    refused = signed_in.post(address, given | {"direction": "take_back", "amount_nano": "5", "reference": "too much"})
    assert refused.status_code == 422
    assert "Your promotion wallet has less available" in refused.content.decode()
    signed_in.post(address, {"direction": "take_back", "amount_nano": "1.5", "reference": "another"})
    books.fold()

    assert wallet_nano(alice) == 75 * OPEN // 10
    text = page(signed_in, address)
    assert f'value="{25 * OPEN // 10}"' in text
    assert "Free calls: money taken back" in text
    assert model.path in text


def test_nobody_cancels_the_withdrawal_of_somebody_else(books, alice, client):
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="bank", details=IBAN)
    withdrawal = wallets.request_withdrawal(alice, amount_nano=OPEN)

    client.force_login(person("bob"))

    assert client.post(f"/en/wallet/withdrawals/{withdrawal.pk}/cancel/").status_code == 404


def test_what_is_in_a_payout_run_cannot_be_cancelled(books, alice, signed_in):
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="bank", details=IBAN)
    withdrawal = wallets.request_withdrawal(alice, amount_nano=OPEN)
    payouts.create_run(by=admin("erin"))

    answer = signed_in.post(f"/en/wallet/withdrawals/{withdrawal.pk}/cancel/")

    assert answer.status_code == 409
    assert "Payout run 1" in page(signed_in, "/en/wallet/")


def test_passes_are_listed(books, client, settings):
    settings.REVIEW_UNDO_S = 0
    version = small_shop(books, access_mode="pass", pass_price_nano=OPEN, pass_days=30)
    fund(books, person("dan"), 5)
    access.buy_pass(version.model, buyer=person("dan"))

    client.force_login(person("dan"))
    text = page(client, "/en/wallet/")

    assert version.model.path in text
    assert f'value="{OPEN}"' in text


def test_a_long_statement_is_read_page_by_page_with_as_many_queries(books, client, django_assert_max_num_queries):
    dan = person("dan")
    client.force_login(dan)
    fund(books, dan, 1)
    with django_assert_max_num_queries(15) as few:
        page(client, "/en/wallet/")
    for _ in range(60):
        books.deposit(chart.wallet(dan.pk), 1)

    with django_assert_max_num_queries(len(few)):
        text = page(client, "/en/wallet/")
    assert text.count('class="hash"') == 50
    rows = ledger.statement_of(chart.wallet(dan.pk), limit=50)
    second = page(client, f"/en/wallet/?after={rows[-1].cursor}")
    assert second.count('class="hash"') == 11


# --- Statements


ON_SCREEN = re.compile(
    r'<tr><td>(?:(?!</tr>).)*?<data [^>]*value="(?P<amount_nano>-?\d+)".*?'
    r'<data [^>]*value="(?P<balance_after_nano>-?\d+)".*?/r/(?P<receipt_id>[0-9a-f-]{36})\b.*?</tr>',
    re.DOTALL,
)
ADDRESSES = {"wallet": "wallet/", "pending": "wallet/pending/", "promotion": "wallet/promotion/"}


@pytest.mark.parametrize("account", movements.ACCOUNTS)
def test_a_statement_says_the_same_on_screen_in_its_files_and_in_the_api(books, signed_in, alice, account, monkeypatch):
    monkeypatch.setattr(movements, "FILE_PAGE", 16)  # so that a file, too, is read in several pages
    code, arrivals = movements.account_of(alice, account), count(1)
    _arrive(books, code, arrivals, 120)

    # On screen and in the API, something arrives between any two pages; a page begins where the last one ended
    screen = _screen(signed_in, ADDRESSES[account], between=lambda: _arrive(books, code, arrivals, 3))
    api = _api(signed_in, f"/api/v1/{ADDRESSES[account]}statement/", between=lambda: _arrive(books, code, arrivals, 3))
    books.log()
    text = b"".join(signed_in.get(f"/en/wallet/{account}.csv").streaming_content).decode()
    table = pq.read_table(io.BytesIO(b"".join(signed_in.get(f"/en/wallet/{account}.parquet").streaming_content)))

    # Row by row: what was there at the first page, each once, to the last nano
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len({row["receipt_id"] for row in rows}) == len(rows) == next(arrivals) - 1
    assert [_money(row) for row in rows[-120:]] == screen
    assert [_money(row) for row in rows[-len(api) :]] == [_money(row) for row in api]
    assert len(api) > 120
    for shown, row in zip(api, rows[-len(api) :], strict=True):
        assert (shown["kind"], shown["reference"]) == (row["kind"], row["reference"])
        assert datetime.fromisoformat(shown["at"]) == datetime.fromisoformat(row["at"])
        assert (shown["amount_open"], shown["balance_after_open"]) == (row["amount"], row["balance_after"])
    # Parquet holds the very cells of the CSV; whole numbers are 64-bit integers, and the text is there as well
    assert [{k: str(v) for k, v in row.items()} for row in table.to_pylist()] == rows
    assert {str(table.schema.field(name).type) for name in movements.WHOLE} == {"int64"}
    assert rows[0]["balance_after_nano"] == str(sum(int(row["amount_nano"]) for row in rows))
    assert all(row["amount"].replace(".", "").lstrip("0") == row["amount_nano"] for row in rows)


def test_a_statement_tells_debits_draws_and_refunds_alike_everywhere_and_no_hold(books, signed_in, alice):
    wallet, bob = chart.wallet(alice.pk), chart.wallet(person("bob").pk)
    fund(books, alice, 5)
    ledger.post_many([payment(wallet, chart.FEES, 7), payment(wallet, bob, 2 * OPEN + 1)])
    lease = hold(wallet, OPEN)
    ledger.draw([ledger.Draw(lease, payment(wallet, bob, 24_000_000)), ledger.Draw(lease, payment(wallet, bob, 1))])
    books.fold()
    ledger.post_many([payment(bob, wallet, 24_000_000, kind=ledger.Kind.REFUND)])
    books.fold()
    books.log()

    screen = _screen(signed_in, ADDRESSES["wallet"], between=lambda: None)
    api = _api(signed_in, "/api/v1/wallet/statement/", between=lambda: None)
    text = b"".join(signed_in.get("/en/wallet/wallet.csv").streaming_content).decode()
    table = pq.read_table(io.BytesIO(b"".join(signed_in.get("/en/wallet/wallet.parquet").streaming_content)))

    rows = list(csv.DictReader(io.StringIO(text)))
    assert screen == [_money(row) for row in rows] == [_money(row) for row in api]
    assert [{k: str(v) for k, v in row.items()} for row in table.to_pylist()] == rows
    amounts = [int(row["amount_nano"]) for row in rows]
    assert amounts[0] == 24_000_000 and amounts[-1] == 5 * OPEN
    assert sorted(amounts[1:-1]) == [-2 * OPEN - 1, -24_000_000, -7, -1]
    # The text is the number with nine decimals, the sign before it, in the file and in the API
    assert {row["amount"] for row in rows} == {
        *("5.000000000", "0.024000000", "-0.024000000", "-0.000000007", "-0.000000001", "-2.000000001")
    }
    assert [(one["amount_open"], one["balance_after_open"]) for one in api] == [
        (row["amount"], row["balance_after"]) for row in rows
    ]
    # What is set aside has not moved: the last balance counts it, what is available does not
    assert ledger.balance(wallet).held_nano == OPEN - 24_000_001
    assert int(rows[0]["balance_after_nano"]) == sum(amounts)
    assert sum(amounts) == ledger.balance(wallet).available_nano + ledger.balance(wallet).held_nano


def test_a_statement_is_its_owners_alone(books, signed_in, client):
    _arrive(books, movements.account_of(person("alice"), "wallet"), count(1), 2)
    client.force_login(person("dan"))

    text = b"".join(client.get("/en/wallet/wallet.csv").streaming_content).decode()

    assert text.splitlines() == [",".join(movements.COLUMNS)]
    assert client.get("/en/wallet/world.csv").status_code == 404


def _arrive(books, code: str, numbers, many: int) -> None:
    ledger.post_many(
        [
            ledger.Posting(
                id=ledger.new_id(),
                kind=ledger.Kind.DEPOSIT,
                reference=f"deposit:{code}:{number}",
                moves=[ledger.Move(chart.WORLD, code, 10**9 + number)],
                vest_after_s=3600 if code.startswith("pending:") else None,
            )
            for number in islice(numbers, many)
        ]
    )
    books.fold()


def _screen(client, address: str, *, between) -> list[tuple[str, str, str]]:
    found, url = [], f"/en/{address}"
    while url:
        text = page(client, url)
        found += [_money(row.groupdict()) for row in ON_SCREEN.finditer(text)]
        following = re.search(r'href="([^"]+)" rel="next"', text)
        url = following[1] if following else ""
        between()
    return found


def _api(client, url: str, *, between) -> list[dict]:
    found = []
    while url:
        answer = client.get(url, {} if "after=" in url else {"limit": 50}).json()
        found, url = found + answer["results"], answer["next"]
        between()
    return found


def _money(row: dict) -> tuple[str, str, str]:
    receipt_id = row.get("receipt_id") or row["posting_id"]
    return receipt_id, str(row["amount_nano"]), str(row["balance_after_nano"])


def test_a_threshold_is_set_on_the_wallets_page_and_shown_there(books, client):
    dan = person("dan")
    client.force_login(dan)

    refused = client.post("/en/wallet/low/", {"low": "0"})
    assert client.post("/en/wallet/low/", {"low": "1.5"}).status_code == 302

    assert refused.status_code == 422
    assert "greater than 0" in refused.content.decode()
    assert WalletWatch.objects.get(user=dan).low_nano == 1_500_000_000
    assert 'value="1.5"' in client.get("/en/wallet/").content.decode()
    client.post("/en/wallet/low/", {"low": ""})
    assert WalletWatch.objects.get(user=dan).low_nano is None
