"""A contributor's money in a real browser: why each amount, out of the wallet, into a run, back again."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from marketplace.models import Withdrawal
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    accessibility_problems,
    follow,
    no_idle_session,
    sign_in,
    site,
)
from tests.marketplace.pages.world import admin, fund, person, sold
from tests.shop import OPEN, wallet_nano

pytestmark = pytest.mark.browser

PASSWORD = "wrens nest in walls"


@pytest.fixture
def alice(books, settings):
    settings.REVIEW_UNDO_S = 0
    sold(books)
    user = person("alice")
    user.set_password(PASSWORD)
    user.save()
    fund(books, user, 10)
    return user


def test_an_amount_leads_to_its_formula_its_calls_and_its_integers(browser, site, alice):  # noqa: F811
    page = sign_in(browser, site, alice).new_page()

    page.goto("/en/earnings/")
    expect(page.get_by_role("heading", name="Payments")).to_be_visible()
    page.locator("tr.why summary").first.click()
    expect(page.locator(".whybox .formula").first).to_contain_text("nano ×")
    assert accessibility_problems(page) == []
    page.get_by_text("Show as a table").click()
    follow(page.get_by_role("link", name="See the 2 charges").first)
    assert accessibility_problems(page) == []
    page.get_by_role("link", name="Why").first.click()
    expect(page.get_by_role("heading", name="For which record, and why")).to_be_visible()
    assert accessibility_problems(page) == []
    page.get_by_role("link", name="Receipt of the charge").click()
    expect(page.locator("#receipt-result")).to_contain_text("Verified in your browser.")


def test_a_withdrawal_goes_into_a_run_and_comes_back(books, browser, site, alice):  # noqa: F811
    # Given Alice, who sets a destination and withdraws 4 OPEN, with her password
    page = sign_in(browser, site, alice).new_page()
    page.goto("/en/wallet/")
    assert accessibility_problems(page) == []
    page.get_by_role("link", name="Set a payout destination").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_label("Account number or address").fill("DE89 3704 0044 0532 0130 00")
    assert accessibility_problems(page) == []
    follow(page.get_by_role("button", name="Save the destination"))
    page.goto("/en/wallet/withdraw/")
    assert accessibility_problems(page) == []
    page.get_by_label("Amount in OPEN").fill("4")
    page.get_by_role("button", name="Request the withdrawal").click()
    expect(page.locator("main")).to_contain_text("Requested")
    assert wallet_nano(alice) == 6 * OPEN

    # When Erin prepares a run, both admins approve it, it is sent, and the item comes back
    erin = sign_in(browser, site, admin("erin")).new_page()
    erin.goto("/en/admin-desk/payouts/")
    assert accessibility_problems(erin) == []
    erin.get_by_role("button", name="Prepare a run").click()
    expect(erin.get_by_role("heading", name="Payout run 1")).to_be_visible()
    books.fold()
    erin.get_by_role("button", name="Recompute").click()
    expect(erin.locator("#toasts")).to_contain_text("0.000000000")
    assert accessibility_problems(erin) == []
    _approve(erin)
    expect(erin.locator("main")).to_contain_text("You gave the first approval.")
    _approve(erin)
    expect(erin.locator("main [role=alert]")).to_contain_text("Another admin must give the second.")
    frank = sign_in(browser, site, admin("frank")).new_page()
    frank.goto(f"/en/admin-desk/payouts/{Withdrawal.objects.get().run_id}/")
    _approve(frank)
    follow(frank.get_by_role("button", name="Mark as sent"))
    frank.get_by_label("Why the payment of alice came back").fill("Account closed")
    assert accessibility_problems(frank) == []
    frank.get_by_role("button", name="Return alice").click()
    expect(frank.locator("main")).to_contain_text("Closed")
    books.fold()

    # Then the money is in the wallet again, with the reason
    page.goto("/en/wallet/")
    expect(page.locator("main")).to_contain_text("Account closed")
    assert wallet_nano(alice) == 10 * OPEN


def test_without_javascript_filters_and_statements_work(browser, site, alice):  # noqa: F811
    page = sign_in(browser, site, alice, java_script_enabled=False).new_page()
    page.goto("/en/earnings/")
    page.get_by_label("State").select_option("planned")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("main")).to_contain_text("No payment matches")
    assert page.request.get("/en/earnings/statement.csv").text().count("OPEN") == 1


def _approve(page) -> None:
    page.get_by_label("Type run-1 to approve").fill("run-1")
    follow(page.get_by_role("button", name="approval"))
