"""A receipt in a real browser: verified there, refused after one changed byte, readable without JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from ledger import services as ledger
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    accessibility_problems,
    no_idle_session,
    sign_in,
    site,
)
from tests.marketplace.pages.world import person, sold

pytestmark = pytest.mark.browser


@pytest.fixture
def charge(books, settings):
    settings.REVIEW_UNDO_S = 0
    _version, calls = sold(books, calls=1)
    return calls[0]


def receipt_file(content: bytes, name: str = "receipt.json") -> dict:
    return {"name": name, "mimeType": "application/json", "buffer": content}


def test_a_receipt_is_verified_in_the_browser_and_a_changed_byte_is_refused(browser, site, charge):  # noqa: F811
    page = sign_in(browser, site, person("dan")).new_page()
    complaints = _complaints(page)

    page.goto(f"/r/{charge}")

    expect(page.locator("#receipt-result")).to_contain_text("Verified in your browser.")
    expect(page.locator("#receipt-steps li.done")).to_have_count(6)
    expect(page.locator("#receipt-steps")).to_contain_text("All parts add up to the price, 0.024000000 OPEN.")
    assert accessibility_problems(page) == []

    content = page.request.get(f"/r/{charge}.json").body()
    page.locator("#receipt-input").set_input_files(receipt_file(content))
    result = page.locator("#receipt-file-result")
    expect(result).to_contain_text("Verified in your browser.")
    expect(result).to_contain_text("platform:fees")
    at = content.index(b'"value":"') + 12
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    page.locator("#receipt-input").set_input_files(receipt_file(changed))
    expect(result).to_contain_text("Not verified.")
    expect(result.locator("li.bad").first).to_be_visible()
    assert accessibility_problems(page) == []
    # A file that is dropped on the page is verified as one that is chosen
    for dropped, said in ((content, "Verified in your browser."), (changed, "Not verified.")):
        _drop(page, dropped, name=f"{said.split()[0]}.json")
        expect(result).to_contain_text(f"{said.split()[0]}.json")
        expect(result).to_contain_text(said)
    # And the page's own receipt is refused, where what the site sends is not what the log has
    page.route(f"**/r/{charge}.json", lambda route: route.fulfill(body=changed, content_type="application/json"))
    page.reload()
    expect(page.locator("#receipt-result")).to_contain_text("Not verified.")
    expect(page.locator("#receipt-steps li.bad").first).to_be_visible()
    expect(page.locator("#receipt-result")).not_to_contain_text("Verified in your browser.")
    assert complaints == []


def test_the_explorer_leads_to_entries_checkpoints_and_the_verifier(browser, site, charge):  # noqa: F811
    context = browser.new_context(base_url=site, reduced_motion="reduce")
    page = context.new_page()
    complaints = _complaints(page)

    head = ledger.head().size
    proof = f"/en/ledger/consistency/?old={head}&new={head}"
    for address in ("/en/ledger/", "/en/ledger/entries/0/", proof, "/r/verify", f"/r/{charge}"):
        page.goto(address)
        expect(page.locator("h1")).to_be_visible()
        assert accessibility_problems(page) == []
    page.goto("/en/ledger/")
    page.get_by_label("Receipt id, posting id, entry number, model or Datanet").fill(str(charge))
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Call charged")
    page.get_by_role("link", name="checkpoint").click()
    expect(page.locator("h1")).to_contain_text("Checkpoint of")
    assert accessibility_problems(page) == []
    assert complaints == []
    context.close()


def test_without_javascript_the_server_verifies_receipt_and_file(browser, site, charge):  # noqa: F811
    page = sign_in(browser, site, person("dan"), java_script_enabled=False).new_page()

    page.goto(f"/r/{charge}")
    expect(page.locator("#receipt-result")).to_contain_text("Verified by this server.")
    expect(page.locator("#receipt-steps li.done")).to_have_count(6)
    content = page.request.get(f"/r/{charge}.json").body()
    page.locator("#receipt-input").set_input_files(
        receipt_file(content.replace(b'"rule":"sha256:', b'"rule":"sha512:'))
    )
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("main")).to_contain_text("Not verified.")
    page.locator("#receipt-input").set_input_files(receipt_file(content))
    page.get_by_role("button", name="Verify", exact=True).click()
    expect(page.locator("main")).to_contain_text("Verified by this server.")


def _drop(page: Page, content: bytes, *, name: str) -> None:
    """What a browser tells the page when somebody lets a file go over it."""
    dropped = page.evaluate_handle(
        """([bytes, name]) => {
            const dropped = new DataTransfer();
            dropped.items.add(new File([new Uint8Array(bytes)], name, { type: "application/json" }));
            return dropped;
        }""",
        [list(content), name],
    )
    page.locator("[data-drop]").dispatch_event("drop", {"dataTransfer": dropped})


def _complaints(page: Page) -> list[str]:
    """What the browser says against the page: script errors and broken content rules."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found
