"""One page of every kind, as somebody who may see it: axe in both themes, and nothing hangs over the edge of a phone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from django.shortcuts import render
from django.test import RequestFactory
from django.utils.translation import override
from playwright.sync_api import BrowserContext, Page, Route

from datanets.models import Record
from tests.browser.test_explore import sideways
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    EVERYTHING,
    NO_MOTION,
    STILL,
    no_idle_session,
    site,
    violations,
)
from tests.marketplace.pages.world import failed_call, person
from tests.test_translations import PEOPLE, market, pages_of, sign_in_afresh  # noqa: F401  (a fixture)

pytestmark = pytest.mark.browser

DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}  # all that a theme changes
BROKEN_DATES = "[...document.querySelectorAll('.table time')].filter(date => date.getClientRects().length > 1).length"

OVERFULL = (
    "[...document.querySelectorAll('.rail a, .flow-l li')].filter(row => row.scrollWidth > row.clientWidth).length"
)


def test_every_kind_of_page_passes_axe_in_both_themes_and_fits_a_phone(site, market, browser, client):  # noqa: F811
    context = browser.new_context(base_url=site, viewport=DESK, color_scheme="light", reduced_motion="reduce")
    context.add_init_script(NO_MOTION)
    page = context.new_page()
    wrong, seen = [], set()
    for name in PEOPLE:
        sign_in_afresh(client, name)
        take_the_session(context, client, site)
        kinds = {
            kind: address for kind, address, _page in reversed(list(pages_of(client, of_a_kind=1))) if kind not in seen
        }
        seen |= kinds.keys()
        for address in [*kinds.values(), *states_of(name)]:
            assert page.goto(address).status < 500, address
            wrong += problems(page)
    for address in the_error_pages(page):
        page.goto(address)
        wrong += problems(page)
    context.close()

    assert wrong == []
    assert len(seen) > 60


def take_the_session(context: BrowserContext, client, site: str) -> None:  # noqa: F811
    context.clear_cookies()
    context.add_cookies(
        [{"name": name, "value": cookie.value, "url": site} for name, cookie in client.cookies.items() if cookie.value]
    )


def states_of(name: str) -> Iterator[str]:
    """Second states of a kind of page, which differ in what they show."""
    if name == "":
        yield "/api/docs/"
        yield "/fr/nothing-is-here/"
        yield "/fr/datanets/erin/tumours/rules/"
        yield "/fr/datanets/erin/tumours/card/"
        yield "/fr/models/devi/check/rules/"
    if name == "alice":
        rejected = Record.objects.filter(contributor=person("alice"), status="rejected").first()
        yield f"/fr/records/{rejected.pk}/"
        yield f"/fr/contribute/{rejected.submission_id}/"
    if name == "dan":
        yield f"/r/{failed_call(person('dan'))}"
        yield "/fr/build/usage/"  # with calls: who came before had none
        yield "/fr/wallet/"
        yield "/fr/build/keys/"


def the_error_pages(page: Page) -> Iterator[str]:
    """Pages that no address leads to: drawn by their templates, under an address of the site, so that styles load."""
    for status in (403, 429, 500):
        with override("fr"):
            html = render(RequestFactory().get("/fr/"), f"{status}.html").content.decode()
        page.route(f"**/error/{status}/", partial(_answer, html))
        yield f"/error/{status}/"


def _answer(html: str, route: Route) -> None:
    route.fulfill(body=html, content_type="text/html")


def problems(page: Page) -> list[str]:
    found = []
    for theme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.wait_for_function(STILL)
        found += [f"{theme} {page.url}: {problem}" for problem in violations(page, rules)]
    rows = page.evaluate(OVERFULL)
    page.set_viewport_size(PHONE)
    if rows + page.evaluate(OVERFULL):
        found.append(f"{page.url}: a row of the rail, or of the split, is wider than its place")
    if (pixels := sideways(page)) > 0:
        found.append(f"{page.url}: {pixels} px hang over the edge of a phone")
    if dates := page.evaluate(BROKEN_DATES):
        found.append(f"{page.url}: {dates} dates of tables go on in a second line on a phone")
    page.set_viewport_size(DESK)
    return found
