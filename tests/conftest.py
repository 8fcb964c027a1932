"""Fixtures of the whole suite. The servers come from devstack/pytest_plugin.py, which `dev.py test` loads."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent


# Property tests must not fail because the machine is busy.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

pytest_plugins = ["tests.books"] if (ROOT / "tests" / "books.py").exists() else []


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    """A Chromium is looked for, and installed, only once a selected test opens a page."""
    from playwright.sync_api import expect

    from devstack import browser

    expect.set_options(timeout=20_000)  # five seconds are short for a page on a machine that runs other tests as well
    return {**browser_type_launch_args, **browser.launch_arguments()}


@pytest.fixture(autouse=True)
def english() -> None:
    """Every test starts in English: Django leaves the language of the last answered page active in its thread."""
    from django.conf import settings
    from django.utils import translation

    if settings.configured:  # tests of pure modules run without Django's settings
        translation.activate(settings.LANGUAGE_CODE)
