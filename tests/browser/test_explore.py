"""Visitors with a real browser: explore, filter, a Datanet, a record, a model; with and without JavaScript; axe."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from playwright.sync_api import expect

from datanets.models import Record
from tests.datanets.cast import make_datanet, measured, person
from tests.datanets.pages.browsing import accessibility_problems, follow, no_idle_session, sign_in, site  # noqa: F401  (fixtures)
from tests.shop import published, trained

pytestmark = pytest.mark.browser


@pytest.fixture
def model(books, settings):
    cache.clear()
    settings.REVIEW_UNDO_S = 0
    version = published({"alice": measured(40), "bob": measured(40, start=40)}, topics=["oncology"], language="en")
    make_datanet("Letters", kind="text")
    return trained(books, version).model


@pytest.fixture
def visit(browser, site):  # noqa: F811
    """A browser of somebody who is not signed in."""
    opened = []

    def visit(**options):
        opened.append(browser.new_context(base_url=site, **options))
        return opened[-1].new_page()

    yield visit
    for context in opened:
        context.close()


def sideways(page) -> int:
    """How many pixels a page overflows to the side, once its typeface is there."""
    return page.evaluate(
        "document.fonts.ready.then(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)"
    )


def test_a_visitor_finds_a_datanet_a_record_and_a_model(visit, site, model):  # noqa: F811
    page = visit()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    page.goto("/en/")
    assert accessibility_problems(page) == []
    page.get_by_role("checkbox", name="Table").click()
    expect(page).to_have_url(f"{site}/en/?sort=used&q=&kind=tabular&quality=")
    expect(page.get_by_role("link", name="Letters")).to_have_count(0)
    follow(page.get_by_role("link", name="Tumours"))
    assert accessibility_problems(page) == []
    expect(page.get_by_text("80 records in v1")).to_be_visible()
    page.locator("table.rec tbody a").first.click()
    expect(page.get_by_role("heading", name="Earnings")).to_be_visible()
    assert accessibility_problems(page) == []

    page.goto("/en/models/")
    assert accessibility_problems(page) == []
    page.get_by_role("link", name="Check").click()
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    assert accessibility_problems(page) == []
    page.get_by_role("tab", name="curl").click()
    expect(page.get_by_text("curl http")).to_be_visible()
    assert complaints == []


def test_every_public_page_fits_a_phone_and_passes_axe(visit, model):
    page = visit(viewport={"width": 390, "height": 844})
    record = Record.objects.order_by("id").first()
    pool = "datanets/erin/tumours"
    addresses = [
        "",
        "datanets/",
        "models/",
        "status/",
        "docs/",
        "docs/api/",
        "terms/",
        "search/?q=tum",
        "people/alice/",
    ]
    addresses += [
        f"{pool}/{tab}"
        for tab in ("", "card/", "contributors/", "submissions/", "models/", "versions/", "payouts/", "access/")
    ]
    addresses += [f"models/devi/check/{tab}" for tab in ("", "attribution/", "versions/", "usage/")]
    addresses += [f"records/{record.pk}/"]

    for address in addresses:
        for language in ("en", "fr") if address in ("", f"{pool}/", "models/devi/check/") else ("en",):
            answer = page.goto(f"/{language}/{address}")
            assert answer.status == 200, address
            assert sideways(page) <= 0, address
            assert accessibility_problems(page) == [], address


def test_exploring_and_the_playground_work_without_javascript(browser, site, model):  # noqa: F811
    context = sign_in(browser, site, person("dan"), java_script_enabled=False)
    page = context.new_page()
    page.goto("/en/datanets/")
    page.get_by_label("Words").fill("oncology")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("link", name="Tumours")).to_be_visible()
    expect(page.get_by_role("link", name="Letters")).to_have_count(0)

    page.goto("/en/models/devi/check/")
    page.get_by_label("radius").fill("12.5")
    page.get_by_role("button", name="Send").click()
    # No gateway runs in this test: the page says so, keeps the input and charges nothing.
    expect(page.get_by_text("The gateway does not answer. Nothing was charged")).to_be_visible()
    expect(page.get_by_label("radius")).to_have_value("12.5")
