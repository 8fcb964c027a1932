"""A curator with a real browser: by keyboard alone, without JavaScript, and what is not pressed by accident."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from datanets import reviews, services
from datanets.models import Record, Review
from tests.datanets.cast import make_datanet, measured, person, send, table, waiting
from tests.datanets.pages.browsing import accessibility_problems, follow, no_idle_session, sign_in, site  # noqa: F401  (fixtures)

pytestmark = pytest.mark.browser


@pytest.fixture
def carol(site, books):  # noqa: F811
    return person("carol")


def statuses() -> list[str]:
    return list(Record.objects.order_by("id").values_list("status", flat=True))


def test_a_curator_approves_rejects_and_undoes_by_keyboard_alone(browser, site, carol, settings):  # noqa: F811
    settings.REVIEW_UNDO_S = 600
    datanet = make_datanet(guidelines="Rows from the *first* visit.")
    send(datanet, table(measured(3)))
    send(datanet, table([*measured(1), *measured(2, start=40)]), by="bob")
    page = sign_in(browser, site, carol).new_page()
    page.goto("/en/review/")
    assert accessibility_problems(page) == []

    # the flagged submission of Bob comes first; its first record is a copy: rejected with a reason
    expect(page.locator("[data-record]")).to_have_count(1)
    page.keyboard.press("j")
    expect(page.locator("[data-record][aria-current]")).to_be_focused()
    page.keyboard.press("r")
    expect(page.locator("[name=reason]").first).to_be_focused()
    page.keyboard.press("Space")
    for _step in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("r")
    expect(page.get_by_text("You rejected 1 record")).to_be_visible()
    assert statuses() == ["waiting"] * 3 + ["rejected", "waiting", "waiting"]
    assert Review.objects.get().reason == "copy"

    # the rest of it is approved; the keyboard stands in the next submission
    page.keyboard.press("a")
    expect(page.get_by_text("You approved 2 records")).to_be_visible()
    expect(page.locator("[data-record][aria-current]")).to_be_focused()
    assert statuses() == ["waiting"] * 3 + ["rejected", "approved", "approved"]

    # two of three are ticked and approved, and that is undone
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Approve 2 ticked")).to_be_enabled()
    page.keyboard.press("p")
    expect(page.get_by_text("You approved 2 records")).to_be_visible()
    assert statuses()[:3] == ["approved", "approved", "waiting"]
    page.keyboard.press("u")
    expect(page.get_by_text("The decision on 2 records was undone.")).to_be_visible()
    assert statuses()[:3] == ["waiting"] * 3
    assert accessibility_problems(page) == []


def test_a_key_typed_into_the_note_or_switched_off_decides_nothing(browser, site, carol):  # noqa: F811
    send(make_datanet(), table(measured(2)))
    page = sign_in(browser, site, carol).new_page()
    page.goto("/en/review/")
    page.get_by_label("Note to the contributor").press_sequentially("a rapid approval")
    page.get_by_label("Which words or value").press("Enter")
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("Single-key shortcuts are on").uncheck()
    assert accessibility_problems(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.wait_for_timeout(500)
    assert statuses() == ["waiting"] * 2

    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_label("Single-key shortcuts are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.get_by_text("You approved 2 records")).to_be_visible()


def test_without_javascript_a_curator_takes_decides_and_undoes(browser, site, carol):  # noqa: F811
    submission = send(make_datanet(), table(measured(3)))
    page = sign_in(browser, site, carol, java_script_enabled=False).new_page()
    page.goto("/en/review/")
    page.get_by_role("button", name="Take it for 30 minutes").click()
    expect(page.get_by_role("button", name="Give it back")).to_be_visible()
    page.get_by_label("Tick record 2").check()
    page.get_by_label("Low quality").check()
    page.get_by_label("Note to the contributor").fill("Measure it again")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_text("You rejected 1 record")).to_be_visible()
    assert Record.objects.get(position=2).status == "rejected"
    follow(page.get_by_role("button", name="Undo"))
    page.get_by_role("button", name="Approve 3 records").click()
    expect(page.get_by_role("heading", name="Nothing waits here")).to_be_visible()
    submission.refresh_from_db()
    assert submission.status == "decided"


def test_bulk_approval_appeals_and_guidelines_are_readable_by_all(browser, site, carol):  # noqa: F811
    datanet = make_datanet(guidelines="## Wanted\n\nRows with *three* values.")
    services.add_curator(datanet, user=person("frank"), by=person("erin"))
    submission = send(datanet, table(measured(2)))
    record = waiting(submission)[0]
    reviews.decide([record], curator=person("frank"), decision="reject", reason="wrong_label", note="It is benign")
    reviews.appeal(record, by=person("alice"), text="The laboratory said so")
    send(datanet, table(measured(2)), by="bob")
    page = sign_in(browser, site, carol, viewport={"width": 390, "height": 844}).new_page()
    page.goto("/en/review/")
    page.get_by_label("Tick all").check()
    page.get_by_role("button", name="Approve ticked submissions").click()
    expect(page.get_by_text("A check flagged some of its records")).to_be_visible()
    for path in ("", "/en/review/appeals/", f"/en/review/guidelines/{datanet.path}/"):
        if path:
            page.goto(path)
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    page.goto("/en/review/appeals/")
    page.get_by_label("Why?").fill("Confirmed")
    page.get_by_role("button", name="Approve the record").click()
    expect(page.get_by_text("No appeal waits for you")).to_be_visible()


@pytest.mark.parametrize("tab", ["look", "all", "checks", "provenance"])
def test_each_section_of_a_submission_is_accessible(browser, site, carol, tab):  # noqa: F811
    datanet = make_datanet()
    send(datanet, table(measured(2)))
    submission = send(datanet, table(measured(2)), by="bob")
    page = sign_in(browser, site, carol).new_page()
    page.goto(f"/en/review/{submission.pk}/?tab={tab}")
    assert accessibility_problems(page) == []
