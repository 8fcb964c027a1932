"""A developer and a buyer with a real browser: a model from nothing to the shop, a key, usage; axe."""

from __future__ import annotations

import time

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from playwright.sync_api import expect

from marketplace import keys, webhooks
from marketplace.models import ListedModel
from tests.browser.test_explore import sideways
from tests.datanets.cast import measured, person
from tests.datanets.pages.browsing import accessibility_problems, follow, no_idle_session, sign_in, site  # noqa: F401  (fixtures)
from tests.marketplace.pages.test_explore import make_call
from tests.shop import OPEN, published, trained

pytestmark = pytest.mark.browser


@pytest.fixture
def version(books, settings):
    cache.clear()
    settings.REVIEW_UNDO_S = 0
    return published({"alice": measured(40), "bob": measured(40, start=40)})


def test_a_developer_takes_a_model_from_nothing_to_the_shop(browser, site, version):  # noqa: F811
    page = sign_in(browser, site, person("devi")).new_page()
    page.goto("/en/build/models/")
    assert accessibility_problems(page) == []
    follow(page.get_by_role("link", name="New model").first)
    assert accessibility_problems(page) == []
    page.get_by_label("Name", exact=True).fill("Tumour check")
    page.get_by_label("Purpose").fill("Benign or malignant")
    page.get_by_label("Per call, in OPEN").fill("0.024")
    follow(page.get_by_role("button", name="Create the model"))

    page.get_by_label("Tumours v1").check()
    assert accessibility_problems(page) == []
    page.get_by_role("button", name="Show the fee").click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    assert accessibility_problems(page) == []
    page.get_by_role("button", name="Hold the fee and train").click()
    expect(page.get_by_text("Done. The fee was charged")).to_be_visible(timeout=30_000)
    follow(page.get_by_role("button", name="List it"))
    assert accessibility_problems(page) == []
    assert ListedModel.objects.get().listed_at is not None


def test_a_buyer_sees_usage_keys_and_settings_on_a_phone(browser, site, books, version):  # noqa: F811
    model = trained(books, version).model
    dan = person("dan")
    make_call(model, dan)
    context = sign_in(browser, site, dan, viewport={"width": 390, "height": 844})
    session = SessionStore(next(c["value"] for c in context.cookies() if c["name"] == "sessionid"))
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session.save()
    page = context.new_page()
    endpoint, _secret = webhooks.register(dan, url="https://8.8.8.8/hook?of=the-shop")
    sent = webhooks.send_test(endpoint, by=dan)
    sent.log.create(number=1, duration_ms=4987, status_code=503, answer="Down for maintenance." * 9)
    here = f"settings/webhooks/{endpoint.pk}/"
    key, _secret = keys.create(owner=dan, name="Kept", spend_cap_nano=OPEN)
    for address in (
        "settings/webhooks/",
        "settings/webhooks/new/",
        here,
        f"{here}deliveries/{sent.pk}/",
        "wallet/",
        f"build/keys/{key.pk}/change/",
        "build/usage/",
        "build/keys/",
        "build/keys/new/",
        "inbox/",
        "settings/profile/",
        "settings/data/",
        "datanets/new/",
    ):
        assert page.goto(f"/en/{address}").status == 200, address
        assert sideways(page) <= 0, address
        assert accessibility_problems(page) == [], address

    page.goto("/en/build/keys/new/")
    page.get_by_label("Name", exact=True).fill("Shop")
    page.get_by_label("Spend limit of a day").fill("0.5")
    page.get_by_label("Spend limit of a month").fill("5")
    page.get_by_label("Calls at once").fill("7")
    page.get_by_label("Pages that may use it in a browser").fill("https://app.example.org")
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_text("Copy the key now.")).to_be_visible()
    assert accessibility_problems(page) == []

    # And lets the old secret work for a week while its programs change over
    row = page.get_by_role("row").filter(has_text="7 calls at once")
    row.get_by_text("Replace", exact=True).click()
    row.get_by_label("The old key ends").select_option("In 7 days")
    row.get_by_role("button", name="Replace Shop").click()
    expect(page.get_by_text("Copy the key now.")).to_be_visible()
    expect(page.get_by_text("works until")).to_be_visible()
    assert sideways(page) <= 0
    assert accessibility_problems(page) == []
