"""The whole product as new people meet it, in a real browser: from signing up to money in a bank; and everybody's pages
in French, in the dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as site_settings
from django.core.cache import cache
from django.db import connection
from playwright.sync_api import Page, expect

from accounts.models import User
from attribution.models import Line
from datanets import reviews, services
from datanets.models import Datanet, Record, Submission
from marketplace import keys, privileges
from marketplace.models import Call, ListedModel, PayoutRun, Withdrawal
from tests.accounts.entrance import PASSWORD
from tests.browser.test_explore import sideways
from tests.datanets.cast import RIGHTS, SCHEMA, make_datanet, measured, send, table
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    EVERYTHING,
    accessibility_problems,
    choose_files,
    follow,
    no_idle_session,
    sign_in,
    site,
    violations,
)
from tests.gateway.conftest import running_gateway
from tests.ledger.builders import witnesses
from tests.marketplace.pages.test_admin import requested
from tests.marketplace.pages.world import admin, sold
from tests.shop import nothing_is_wrong, person, settle, wallet_nano

pytestmark = pytest.mark.browser

TWO_BAD_ROWS = table([*measured(20), ("wide", "17.5", "benign"), *measured(20, start=20), ("12.1", "16.2", "unknown")])
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def opens(browser, site, settings) -> Iterator[Callable[..., Page]]:  # noqa: F811
    """`opens(user)` is a page of that person's own browser; without one, of somebody who is nobody yet.

    At the end: no page broke its content policy, and no script failed.
    """
    cache.clear()
    settings.REVIEW_UNDO_S = 0
    complaints: list[str] = []
    contexts = []

    def opens(user=None, **options) -> Page:
        if user is None:
            context = browser.new_context(base_url=site, reduced_motion="reduce", **options)
            context.set_default_timeout(15_000)
            contexts.append(context)
        else:
            context = sign_in(browser, site, user, **options)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        return page

    yield opens
    for context in contexts:
        context.close()
    assert complaints == []


# --- The story


def test_from_signing_up_to_money_in_a_bank(books, opens, site, settings, tmp_path):  # noqa: F811
    privileges.apply(connection, role=site_settings.APP_DB_ROLE)
    datanet = tumours_of_olivia()

    # Alice signs up, uploads a table with two bad rows, sees the checks, corrects the rows and sends them.
    alice = opens()
    signs_up(alice, "alice", settings, tmp_path)
    sends_a_table_and_corrects_two_rows(alice)

    # Carol approves it, and Bob's rows, which no check flagged; Olivia publishes version 1.
    send(datanet, table(measured(20, start=40)), by="bob")
    approves_all(opens(person("carol")))
    publishes(opens(person("olivia")), datanet)

    # Devi trains a model on it and lists it; a pass costs 1 OPEN.
    devi = opens(person("devi"))
    gets_test_money(devi, books)
    trains_and_lists(devi)

    # Dan signs up, buys the pass and asks twice: on the page, and with the openai client and a key of his own.
    dan = opens()
    signs_up(dan, "dan", settings, tmp_path)
    gets_test_money(dan, books)
    buys_the_pass(dan, books)
    with running_gateway(books, STORAGE_DIR=str(site_settings.STORAGE_DIR)) as gateway:
        settings.GATEWAY_URL = gateway.url
        asked = asks_in_the_playground(dan)
        secret = makes_a_key(dan)
        answer = gateway.openai(secret).post(
            "/classify", cast_to=object, body={"model": "devi/tumour-check", "input": {"radius": 11, "texture": 17}}
        )
        assert answer["open"]["cost_nano"] == sum(answer["open"]["split"].values()) == 24_000_000

    with witnesses(tmp_path, count=2) as settings.WITNESSES:
        settings.WITNESS_QUORUM = 2
        assert settle(books) == 1
        # Everybody sees who was paid, for which record, and why; the receipt proves it.
        sees_why_and_who_was_paid(dan, asked)
        sees_what_a_record_earned_and_why(alice)

        # Alice withdraws what she has; Erin and Frank, two admins, approve the payout run; the bank confirms.
        earned_nano = wallet_nano(person("alice"))
        assert earned_nano > 0
        withdraws(alice, earned_nano)
        two_admins_pay(opens(with_password(admin("erin"))), opens(with_password(admin("frank"))), books)
        visit(alice, "/en/wallet/")
        expect(alice.locator("main")).to_contain_text("Confirmed")

    assert wallet_nano(person("alice")) == 0
    assert wallet_nano(person("dan")) == 50 * 10**9 - 10**9 - 2 * 24_000_000
    assert Withdrawal.objects.get().amount_nano == earned_nano
    assert nothing_is_wrong()


def visit(page: Page, path: str) -> None:
    assert page.goto(path).status == 200, path
    passes_axe(page)


def passes_axe(page: Page) -> None:
    assert accessibility_problems(page) == []


def tumours_of_olivia() -> Datanet:
    datanet = services.create_datanet(
        owner=person("olivia"),
        name="Tumours",
        purpose="Measurements of cell nuclei",
        kind="tabular",
        licence="CC-BY-4.0",
        rights_statement=RIGHTS,
        schema=SCHEMA,
    )
    services.add_curator(datanet, user=person("carol"), by=person("olivia"))
    return datanet


def signs_up(page: Page, handle: str, settings, folder) -> None:
    """The form, then the letter, which a demo keeps on a page."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = folder / f"mail-{handle}"
    visit(page, "/accounts/signup/")
    page.get_by_label("Email").fill(f"{handle}@example.org")
    page.get_by_label("Handle").fill(handle)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("I agree to the terms of use").check()
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Verify")
    visit(page, "/dev/mail/")
    follow(page.get_by_role("link", name="/accounts/confirm-email/"))
    passes_axe(page)
    follow(page.get_by_role("main").get_by_role("button", name="Confirm"))
    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def sends_a_table_and_corrects_two_rows(page: Page) -> None:
    visit(page, "/en/contribute/new/")
    page.get_by_label("Datanet").select_option(index=1)
    page.get_by_label("I have read the contributor agreement and agree to it").check()
    follow(page.get_by_role("button", name="Continue to upload"))
    file = {"name": "tumours.csv", "mimeType": "text/csv", "buffer": TWO_BAD_ROWS}
    choose_files(page, file)
    expect(page.get_by_role("heading", name="Rows that need you")).to_be_visible()
    expect(page.locator(".checks")).to_contain_text("Format and schema")
    passes_axe(page)
    page.get_by_label("radius").first.fill("13.25")
    page.get_by_role("button", name="Save the row (Line 22").click()
    expect(page.get_by_text("Line 22 is a record now.")).to_be_visible()
    page.get_by_label("diagnosis").first.select_option("malignant")
    page.get_by_role("button", name="Save the row (Line 43").click()
    expect(page.get_by_text("Records ready: 42")).to_be_visible()
    page.get_by_label("Title").fill("Tumours of May")
    page.get_by_label("I may share this data under the licence.").check()
    page.get_by_role("button", name="Sign and send").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    passes_axe(page)
    assert Submission.objects.get().records.filter(status="waiting").count() == 42


def approves_all(page: Page) -> None:
    visit(page, "/en/review/")
    for _submission in range(2):
        follow(page.get_by_role("button", name="Approve", exact=False).filter(has_text="records").first)
    expect(page.get_by_role("heading", name="Nothing waits here")).to_be_visible()
    passes_axe(page)
    assert set(Record.objects.values_list("status", flat=True)) == {"approved"}


def publishes(page: Page, datanet: Datanet) -> None:
    visit(page, f"/en/datanets/{datanet.path}/versions/")
    page.get_by_role("button", name="Publish the next version").click()
    expect(page.locator("#toasts")).to_contain_text("Version v1 is published: 62 records.")
    passes_axe(page)


def gets_test_money(page: Page, books) -> None:
    visit(page, "/en/wallet/")
    page.get_by_role("button", name="Test deposit of").click()
    expect(page.locator("#toasts")).to_contain_text("The test deposit is booked.")
    books.fold()


def trains_and_lists(page: Page) -> None:
    visit(page, "/en/build/models/new/")
    page.get_by_label("Name", exact=True).fill("Tumour check")
    page.get_by_label("Purpose").fill("Benign or malignant")
    page.get_by_label("Who may call").select_option("pass")
    page.get_by_label("Price of a pass, in OPEN").fill("1")
    page.get_by_label("Days of a pass").fill("30")
    page.get_by_label("Per call, in OPEN").fill("0.024")
    follow(page.get_by_role("button", name="Create the model"))
    page.get_by_label("Tumours v1").check()
    page.get_by_role("button", name="Show the fee").click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    passes_axe(page)
    page.get_by_role("button", name="Hold the fee and train").click()
    expect(page.get_by_text("Done. The fee was charged")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="List it").click()
    expect(page.get_by_text("Listed", exact=True)).to_be_visible()
    passes_axe(page)


def buys_the_pass(page: Page, books) -> None:
    visit(page, "/en/models/")
    page.get_by_role("link", name="Tumour check").click()
    expect(page.get_by_text("This model is called with a pass.")).to_be_visible()
    page.get_by_text("Buy a pass for").click()
    passes_axe(page)
    page.get_by_role("button", name="Pay now").click()
    expect(page.locator("main .badge", has_text="Your pass runs until")).to_be_visible()
    books.fold()


def asks_in_the_playground(page: Page) -> Call:
    page.get_by_label("radius").fill("14.2")
    page.get_by_label("texture").fill("20.1")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer")).to_contain_text("0.024")
    expect(page.locator("#why")).to_contain_text("Being measured.")
    passes_axe(page)
    return Call.objects.get(pk=page.locator("#answer .hash").inner_text())


def makes_a_key(page: Page) -> str:
    visit(page, "/en/build/keys/new/")
    proves_password_if_asked(page)
    page.get_by_label("Name", exact=True).fill("My program")
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_text("Copy the key now.")).to_be_visible()
    passes_axe(page)
    return page.locator("main .copyline code").first.inner_text()


def sees_why_and_who_was_paid(page: Page, call: Call) -> None:
    visit(page, f"/en/calls/{call.pk}/why/")
    expect(page.locator("#why-panel .who").filter(has_text="alice").first).to_be_visible()
    page.get_by_role("link", name="Open receipt").click()
    expect(page.locator("#receipt-result")).to_contain_text("Verified in your browser.")
    paid = page.get_by_role("region", name="Who was paid")
    expect(paid).to_contain_text("alice")
    expect(paid).to_contain_text("carol")
    *parts, total = [int(amount.get_attribute("value")) for amount in paid.locator("data").all()]
    assert sum(parts) == total == call.cost_nano
    expect(page.get_by_role("heading", name="For which record")).to_be_visible()
    passes_axe(page)


def sees_what_a_record_earned_and_why(page: Page) -> None:
    visit(page, "/en/earnings/")
    page.locator("tr.why summary").first.click()
    expect(page.locator(".whybox .formula").first).to_contain_text("nano ×")
    follow(page.get_by_role("link", name="See the").first)
    passes_axe(page)
    page.get_by_role("link", name="Why").first.click()
    expect(page.get_by_role("heading", name="For which record, and why")).to_be_visible()
    passes_axe(page)
    page.get_by_role("region", name="Parts of the amount").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Earnings")).to_be_visible()
    expect(page.get_by_role("region", name="Its largest payments")).to_be_visible()
    passes_axe(page)


def withdraws(page: Page, amount_nano: int) -> None:
    visit(page, "/en/settings/payout/")
    proves_password_if_asked(page)
    page.get_by_label("Account number or address").fill("DE89 3704 0044 0532 0130 00")
    follow(page.get_by_role("button", name="Save the destination"))
    visit(page, "/en/wallet/withdraw/")
    page.get_by_label("Amount in OPEN").fill(f"{amount_nano // 10**9}.{amount_nano % 10**9:09}")
    page.get_by_role("button", name="Request the withdrawal").click()
    expect(page.locator("main")).to_contain_text("Requested")
    passes_axe(page)


def proves_password_if_asked(page: Page) -> None:
    """A letter's link signs in without a password: keys and payouts ask for it, once in five minutes."""
    if "/reauthenticate/" in page.url:
        page.get_by_label("Password").fill(PASSWORD)
        follow(page.get_by_role("button", name="Confirm"))


def with_password(user: User) -> User:
    user.set_password(PASSWORD)
    user.save(update_fields=["password"])
    return user


def two_admins_pay(erin: Page, frank: Page, books) -> None:
    visit(erin, "/en/admin-desk/payouts/")
    follow(erin.get_by_role("button", name="Prepare a run"))
    proves_password_if_asked(erin)
    expect(erin.get_by_role("heading", name="Payout run 1")).to_be_visible()
    books.fold()
    erin.get_by_role("button", name="Recompute").click()
    expect(erin.locator("#toasts")).to_contain_text("0.000000000")
    approves_the_run(erin)
    passes_axe(erin)
    visit(frank, f"/en/admin-desk/payouts/{PayoutRun.objects.get().pk}/")
    approves_the_run(frank)
    proves_password_if_asked(frank)
    follow(frank.get_by_role("button", name="Mark as sent"))
    follow(frank.get_by_role("button", name="Confirm alice"))
    expect(frank.locator("main")).to_contain_text("Closed")
    passes_axe(frank)
    books.fold()
    visit(erin, "/en/admin-desk/revenue/")
    expect(erin.locator(".eq .z")).to_contain_text("0.000000000")


def approves_the_run(page: Page) -> None:
    page.get_by_label("Type run-1 to approve").fill("run-1")
    follow(page.get_by_role("button", name="approval"))


# --- In French, in the dark, on a phone


def test_the_pages_of_every_role_in_french_in_the_dark_on_a_phone(books, opens):
    version, calls = sold(books)
    requested(books)
    keys.create(owner=person("dan"), name="Programme")
    waiting = send(make_datanet("Letters of patients"), table(measured(3, start=30)), by="alice")
    rejected = Record.objects.filter(submission=send(waiting.datanet, table(measured(1, start=40)), by="alice"))
    reviews.decide(list(rejected), curator=person("carol"), decision="reject", reason="low_quality", note="Flou")
    line = Line.objects.filter(payee=person("alice"), role="data").first()
    model = ListedModel.objects.get(pk=version.model_id)

    walks_in_french(opens, None, ["", "datanets/", "models/", f"models/{model.path}/", "ledger/"])
    walks_in_french(opens, None, [f"datanets/erin/tumours/{tab}" for tab in ("", "versions/", "payouts/")])
    walks_in_french(
        opens,
        person("alice"),
        ["contribute/", "contribute/new/", f"contribute/{waiting.pk}/", f"records/{rejected.get().pk}/"]
        + ["earnings/", f"earnings/lines/{line.pk}/", "wallet/", "inbox/"],
    )
    nothing_yet = ["contribute/", "earnings/", "wallet/", "inbox/", "build/models/", "build/keys/", "build/usage/"]
    walks_in_french(opens, person("zoe"), nothing_yet)
    walks_in_french(opens, person("carol"), ["review/", "review/appeals/"])
    walks_in_french(opens, person("devi"), ["build/models/", f"build/models/{model.pk}/"])
    walks_in_french(opens, person("dan"), ["build/keys/", "build/usage/", f"calls/{calls[0]}/why/"])
    walks_in_french(
        opens, admin("erin"), [f"admin-desk/{page}/" for page in ("revenue", "payouts", "deposits", "exceptions")]
    )


def walks_in_french(opens, user, addresses: list[str]) -> None:
    page = opens(user, viewport=PHONE, color_scheme="dark", locale="fr-FR")
    for address in addresses:
        assert page.goto(f"/fr/{address}").status == 200, address
        assert page.locator("html").get_attribute("lang") == "fr", address
        assert sideways(page) <= 0, address
        assert violations(page, EVERYTHING) == [], address
