"""A contributor with a real browser: upload, correct, send; a broken connection; no JavaScript."""

from __future__ import annotations

import hashlib

import pytest
from playwright.sync_api import Page, expect

from datanets import submissions
from datanets.models import Record, Submission, SubmissionFile
from marketplace import people
from tests.datanets.cast import make_datanet, measured, person, table
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    accessibility_problems,
    choose_files,
    follow,
    no_idle_session,
    sign_in,
    site,
)

pytestmark = pytest.mark.browser

TWO_BROKEN = table([*measured(3), ("wide", "17.5", "benign"), *measured(2, start=10), ("12.1", "16.2", "unknown")])
MIB = 1024 * 1024


@pytest.fixture
def alice(site, books):  # noqa: F811
    user = person("alice")
    people.give_consent(user, "contributor")
    return user


def start(alice, **fields) -> Submission:
    return submissions.start(datanet=make_datanet(**fields), contributor=alice)


def csv_file(content: bytes, name: str = "rows.csv") -> dict:
    return {"name": name, "mimeType": "text/csv", "buffer": content}


def test_two_bad_rows_are_corrected_on_the_page_and_everything_is_sent(browser, site, alice):  # noqa: F811
    make_datanet()
    page = sign_in(browser, site, alice).new_page()
    complaints = _complaints(page)
    page.goto("/en/contribute/new/")
    assert accessibility_problems(page) == []
    page.get_by_label("Datanet").select_option(index=1)
    follow(page.get_by_role("button", name="Continue to upload"))
    assert accessibility_problems(page) == []

    choose_files(page, csv_file(TWO_BROKEN))
    expect(page.get_by_role("heading", name="Rows that need you")).to_be_visible()
    expect(page.locator(".checks")).to_contain_text("Format and schema")
    assert accessibility_problems(page) == []

    page.get_by_label("radius").first.fill("13.25")
    page.get_by_role("button", name="Save the row (Line 5").click()
    expect(page.get_by_text("Line 5 is a record now.")).to_be_visible()
    expect(page.get_by_label("diagnosis").first).to_be_focused()
    page.keyboard.press("m")
    page.get_by_role("button", name="Save the row (Line 8").click()
    expect(page.get_by_text("Records ready: 7")).to_be_visible()

    page.get_by_label("Title").fill("Tumours of May")
    page.get_by_label("I may share this data under the licence.").check()
    page.get_by_role("button", name="Sign and send").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    assert accessibility_problems(page) == []
    assert Submission.objects.get().status == "in_review"
    assert sorted(Record.objects.values_list("status", flat=True)) == ["waiting"] * 7
    page.goto("/en/contribute/")
    assert accessibility_problems(page) == []
    assert complaints == []


def test_an_interrupted_upload_goes_on_where_it_stopped_after_a_reload(browser, site, alice, tmp_path):  # noqa: F811
    submission = start(alice, kind="text")
    path = tmp_path / "long.txt"
    sentence = "A wren built her nest in the wall, and nobody counted the %d stones.\n"
    path.write_text("".join(sentence % number for number in range(260_000)))
    size = path.stat().st_size
    assert size > 2 * 8 * MIB
    page = sign_in(browser, site, alice).new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    parts = []

    def second_part_fails(route):
        if route.request.method == "PATCH":
            parts.append(route.request.headers["upload-offset"])
            if len(parts) > 1:
                return route.abort("internetdisconnected")
        return route.continue_()

    page.route("**/files/*", second_part_fails)
    page.goto(f"/en/contribute/{submission.pk}/")
    choose_files(page, path)
    _until(page, lambda: len(parts) > 1)
    assert SubmissionFile.objects.get().received_bytes == 8 * MIB
    assert SubmissionFile.objects.get().declared_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    page.unroute("**/files/*")
    page.reload()
    expect(page.get_by_text("Choose the file again to go on")).to_be_visible()
    offsets = []
    page.on("request", lambda r: r.method == "PATCH" and offsets.append(int(r.headers["upload-offset"])))
    choose_files(page, path)
    _until(page, lambda: SubmissionFile.objects.get().status != "uploading")

    assert offsets[0] == 8 * MIB, "nothing that had arrived was sent again"
    assert SubmissionFile.objects.get().received_bytes == size


def test_an_upload_pauses_while_the_computer_is_offline(browser, site, alice, tmp_path):  # noqa: F811
    submission = start(alice)
    context = sign_in(browser, site, alice)
    page = context.new_page()
    page.goto(f"/en/contribute/{submission.pk}/")
    context.set_offline(True)
    choose_files(page, csv_file(table(measured(3))))
    expect(page.get_by_text("Connection lost. Resumes from 0%.")).to_be_visible()

    context.set_offline(False)

    expect(page.locator("#live .files .badge.ok")).to_have_text("Ready")


def test_one_corrupt_file_leaves_the_others_ready(browser, site, alice):  # noqa: F811
    submission = start(alice)
    page = sign_in(browser, site, alice).new_page()
    page.goto(f"/en/contribute/{submission.pk}/")
    good, bad = csv_file(table(measured(3)), "good.csv"), csv_file(b"\x00\x01\x02", "bad.csv")
    choose_files(page, [good, bad])
    expect(page.locator("#live .files li", has_text="good.csv").locator(".badge")).to_have_text("Ready")
    expect(page.locator("#live .files li", has_text="bad.csv").locator(".badge")).to_have_text("Failed")
    assert accessibility_problems(page) == []


def test_a_copy_is_shown_beside_the_earlier_record(browser, site, alice):  # noqa: F811
    from tests.datanets.cast import approve_all, send

    datanet = make_datanet()
    approve_all(send(datanet, table(measured(3)), by="bob"))
    submission = submissions.start(datanet=datanet, contributor=alice)
    page = sign_in(browser, site, alice, viewport={"width": 390, "height": 844}).new_page()
    page.goto(f"/en/contribute/{submission.pk}/")
    choose_files(page, csv_file(table(measured(2))))
    expect(page.get_by_role("heading", name="Copies of earlier records")).to_be_visible()
    assert accessibility_problems(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_javascript_a_file_is_uploaded_corrected_and_sent(browser, site, alice):  # noqa: F811
    submission = start(alice)
    page = sign_in(browser, site, alice, java_script_enabled=False).new_page()
    page.goto(f"/en/contribute/{submission.pk}/")
    page.get_by_label("Choose files").set_input_files(csv_file(TWO_BROKEN))
    follow(page.get_by_role("button", name="Upload the chosen files"))
    page.get_by_label("radius").first.fill("13.25")
    follow(page.get_by_role("button", name="Save the row (Line 5"))
    follow(page.get_by_role("button", name="Drop the row (Line 8"))
    page.get_by_label("Title").fill("Tumours")
    page.get_by_label("I may share this data under the licence.").check()
    page.get_by_role("button", name="Sign and send").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    submission.refresh_from_db()
    assert submission.status == "in_review"


def _complaints(page: Page) -> list[str]:
    """What the console says: errors and refusals of the content policy. Answers 422 are not errors."""
    told: list[str] = []
    page.on(
        "console", lambda message: message.type == "error" and "422" not in message.text and told.append(message.text)
    )
    page.on("pageerror", lambda error: told.append(str(error)))
    return told


def _until(page: Page, happens, timeout_s: float = 20) -> None:
    for _moment in range(int(timeout_s * 10)):
        if happens():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not happen in time")
