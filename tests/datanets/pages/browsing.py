"""A site on a port, on a database of its own, and people who are signed in to it with a browser.

pytest-django's live_server flushes the database afterwards, and rows that may only be added to cannot be flushed: so the
server runs on the copy that the `books` fixture made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connections
from django.test import Client
from django.test.testcases import LiveServerThread
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from marketplace.celery import app

os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright keeps an event loop in the test's thread

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
EVERYTHING = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
STILL = """() => document.getAnimations().every(
    each => each.playState !== "running" || each.effect.getComputedTiming().iterations === Infinity)"""
# Under reduced motion a colour still fades for a moment, in a step per element: on a large page a quarter of a second.
NO_MOTION = """(() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("*, ::before, ::after { transition: none !important; animation: none !important }");
    document.adoptedStyleSheets = [sheet];
})()"""
_contexts: list[BrowserContext] = []


@pytest.fixture
def no_idle_session(browser) -> None:
    """Close the connection that tests before the browser left open: no database is copied while somebody is in it.

    Django keeps one connection per thread without an event loop and others with one, and Playwright's loop runs from now
    on: from within it the first is out of sight.
    """
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        connections.close_all()
    finally:
        asyncio._set_running_loop(loop)


@pytest.fixture
def site(no_idle_session, books, tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a running site; background tasks run at once, in the request that rings for them."""
    monkeypatch.setattr(settings, "STORAGE_DIR", tmp_path / "storage")
    app.conf.task_always_eager = True
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    if thread.error:
        raise thread.error
    yield f"http://127.0.0.1:{thread.port}"
    while _contexts:  # a page that is still open would ask on, and hold the database
        _contexts.pop().close()
    thread.terminate()
    app.conf.task_always_eager = False


def sign_in(browser: Browser, site: str, user, **options) -> BrowserContext:
    """A browser of somebody's own, signed in."""
    client = Client()
    client.force_login(user)
    context = browser.new_context(base_url=site, reduced_motion="reduce", **options)
    context.add_init_script(NO_MOTION)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": site}])
    context.set_default_timeout(15_000)
    _contexts.append(context)
    return context


def follow(link: Locator) -> None:
    """Click a link or a button that leads to another page, and wait until that page is there.

    Playwright's click returns before the answer comes: what looks at the page next would see the old one, or none.
    """
    with link.page.expect_navigation():
        link.click()


def choose_files(page: Page, files) -> None:
    """Choose files to upload, once the script is there that takes them: without it they wait for the form's button."""
    expect(page.locator("#plain-upload")).to_be_hidden()
    page.get_by_label("Choose files").set_input_files(files)


def accessibility_problems(page: Page) -> list[str]:
    """What axe finds on a page in its light and its dark form."""
    found = []
    for theme in ("light", "dark"):
        page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        page.wait_for_function(STILL)  # colours fade, on a busy machine for long
        found += [f"{theme} {page.url}: {problem}" for problem in violations(page, EVERYTHING)]
    return found


def violations(page: Page, options: dict) -> list[str]:
    """The rules that axe finds broken, each with where. A page is given the script once: to read it takes .1 s."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    result = page.evaluate("options => axe.run(options)", options)
    return [f"{one['id']} {[node['target'] for node in one['nodes']][:4]}" for one in result["violations"]]
