"""The admin desk in a real browser: zero on the report, and one nano that shows."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    accessibility_problems,
    follow,
    no_idle_session,
    sign_in,
    site,
)
from tests.marketplace.pages.test_admin import change_a_line_by_one_nano, requested
from tests.marketplace.pages.world import admin, sold

pytestmark = pytest.mark.browser


def test_the_report_shows_zero_and_then_the_one_nano_that_is_too_much(books, browser, site, settings):  # noqa: F811
    settings.REVIEW_UNDO_S = 0
    sold(books)
    requested(books)
    page = sign_in(browser, site, admin("erin")).new_page()

    page.goto("/en/admin-desk/revenue/")
    expect(page.locator(".eq .z")).to_contain_text("0.000000000")
    assert accessibility_problems(page) == []
    page.goto("/en/admin-desk/payouts/")
    follow(page.get_by_role("button", name="Prepare a run"))
    books.fold()
    change_a_line_by_one_nano(books)
    page.get_by_label("Type run-1 to approve").fill("run-1")
    page.get_by_role("button", name="Give the first approval").click()
    expect(page.locator("main [role=alert]")).to_contain_text("The revenue report is not zero")

    page.goto("/en/admin-desk/revenue/")
    expect(page.locator(".eq .z")).to_contain_text("0.000000001")
    expect(page.locator("main")).to_contain_text("Does not add up")
    assert accessibility_problems(page) == []
    page.goto("/en/admin-desk/exceptions/")
    page.get_by_role("button", name="Check every invariant now").click()
    expect(page.locator("main")).to_contain_text("I6")
    for address in ("exceptions", "deposits", "audit"):
        page.goto(f"/en/admin-desk/{address}/")
        assert accessibility_problems(page) == []
