"""Coming in with a real browser: sign up by mail, an authenticator app, a passkey in a virtual authenticator; axe."""

from __future__ import annotations

import re

import pytest
from allauth.mfa.models import Authenticator
from playwright.sync_api import BrowserContext, Page, expect

from accounts.models import Consent, User
from tests.accounts.entrance import PASSWORD, code_of, member
from tests.datanets.pages.browsing import accessibility_problems, follow, no_idle_session, site  # noqa: F401  (fixtures)

pytestmark = pytest.mark.browser


@pytest.fixture
def here(site, settings):  # noqa: F811
    """The site under a name: a passkey belongs to a name, so a browser makes none for 127.0.0.1."""
    settings.ACCOUNT_RATE_LIMITS = False
    settings.MFA_ADAPTER = "marketplace.accounts_adapter.SecondFactorAdapter"
    return site.replace("127.0.0.1", "localhost")


@pytest.fixture
def page(browser, here) -> Page:
    context = browser.new_context(base_url=here)
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    assert page.complaints == [], "a page broke its content policy, or its script failed"
    context.close()


def sign_in(page: Page, user: User, password: str = PASSWORD) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(user.email)
    page.get_by_label("Password").fill(password)
    follow(page.get_by_role("button", name="Sign in", exact=True))


def sign_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    follow(page.get_by_role("main").get_by_role("button", name="Sign out"))
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()


def prove_password(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm Access")
    assert accessibility_problems(page) == []
    page.get_by_label("Password").fill(PASSWORD)
    follow(page.get_by_role("button", name="Confirm"))


def virtual_authenticator(context: BrowserContext, page: Page, **options) -> None:
    """A platform authenticator that always says yes."""
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    } | options
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_an_account_is_made_and_confirmed_by_the_letter_on_the_demos_mail_page(page, settings, tmp_path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    page.goto("/accounts/signup/")
    assert accessibility_problems(page) == []
    page.get_by_label("Email").fill("alice@example.org")
    page.get_by_label("Handle").fill("alice")
    page.get_by_label("Password").fill("1234567890")
    page.get_by_label("I agree to the terms of use").check()
    page.get_by_role("button", name="Create account").click()
    expect(page.locator(".err")).to_have_count(1)
    assert accessibility_problems(page) == []

    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Verify")
    assert accessibility_problems(page) == []
    page.goto("/dev/mail/")
    follow(page.get_by_role("link", name="/accounts/confirm-email/"))
    assert accessibility_problems(page) == []
    follow(page.get_by_role("main").get_by_role("button", name="Confirm"))
    page.goto("/accounts/email/")

    expect(page.get_by_text("alice@example.org").first).to_be_visible()
    assert accessibility_problems(page) == []
    assert set(Consent.objects.values_list("document", flat=True)) == {"terms", "privacy"}


def test_a_forgotten_password_is_replaced_by_mail(page, settings, tmp_path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    alice = member()
    sign_in(page, alice, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("not correct")
    assert accessibility_problems(page) == []
    page.goto("/accounts/password/reset/")
    assert accessibility_problems(page) == []
    page.get_by_label("Email").fill(alice.email)
    follow(page.get_by_role("button", name="Send the link"))
    page.goto("/dev/mail/")
    follow(page.get_by_role("link", name="/accounts/password/reset/key/"))
    assert accessibility_problems(page) == []
    for field in page.locator("input[type=password]").all():
        field.fill("a new one for the wren")
    follow(page.get_by_role("button", name="Change Password"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Change")

    sign_in(page, alice, "a new one for the wren")

    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def test_an_authenticator_app_is_set_up_and_used(page):
    alice = member()
    sign_in(page, alice)
    page.goto("/accounts/2fa/")
    assert accessibility_problems(page) == []
    follow(page.get_by_role("link", name="Activate"))
    prove_password(page)
    expect(page.locator(".qr svg")).to_be_visible()
    assert accessibility_problems(page) == []
    secret = page.locator("code, .copyline").filter(has_text="").first.inner_text().split()[0]
    page.get_by_label("Authenticator code").fill(code_of(secret))
    page.get_by_role("button", name="Activate").click()
    expect(page.locator("textarea")).to_be_visible()
    recovery = page.locator("textarea").input_value().split()
    assert len(recovery) == 10
    assert accessibility_problems(page) == []
    assert secret not in str(Authenticator.objects.get(user=alice, type="totp").data)
    sign_out(page)

    sign_in(page, alice)
    expect(page).to_have_url(re.compile("/accounts/2fa/authenticate/"))
    assert accessibility_problems(page) == []
    page.get_by_label("Code").fill(recovery[0])
    follow(page.get_by_role("button", name="Sign in"))

    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def test_a_passkey_is_set_up_and_signs_in_without_a_password(page):
    alice = member()
    virtual_authenticator(page.context, page)
    sign_in(page, alice)
    page.goto("/accounts/2fa/webauthn/add/")
    prove_password(page)
    assert accessibility_problems(page) == []
    page.get_by_label("Name").fill("Laptop")
    page.get_by_label("Passwordless").check()
    page.get_by_role("button", name="Add").click()
    expect(page.locator("textarea")).to_be_visible()
    page.goto("/accounts/2fa/webauthn/")
    expect(page.get_by_role("rowheader", name="Laptop")).to_be_visible()
    assert accessibility_problems(page) == []
    sign_out(page)

    page.goto("/accounts/login/")
    assert accessibility_problems(page) == []
    page.get_by_role("button", name="Sign in with a passkey").click()

    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)
    page.goto("/accounts/2fa/webauthn/add/")
    follow(page.get_by_role("link", name="Use a security key"))
    page.get_by_role("button", name="Use a security key").click()
    expect(page.get_by_label("Passwordless")).to_be_visible()


def test_a_security_key_is_the_second_factor_after_the_password(page):
    alice = member()
    virtual_authenticator(page.context, page, transport="usb", hasResidentKey=False)
    sign_in(page, alice)
    page.goto("/accounts/2fa/webauthn/add/")
    prove_password(page)
    page.get_by_label("Name").fill("Key ring")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("textarea")).to_be_visible()
    sign_out(page)

    sign_in(page, alice)
    page.get_by_role("button", name="Use a security key").click()

    expect(page.get_by_role("link", name="Sign in")).to_have_count(0)


def test_a_browser_without_a_passkey_is_told(page):
    page.goto("/accounts/login/")
    virtual_authenticator(page.context, page)

    page.get_by_role("button", name="Sign in with a passkey").click()

    expect(page.locator("#toasts")).to_contain_text("No passkey was used")


def test_an_address_without_a_name_says_that_passkeys_need_one(page, site):  # noqa: F811
    page.goto(f"{site}/accounts/login/")

    page.get_by_role("button", name="Sign in with a passkey").click()

    expect(page.locator("#toasts")).to_contain_text("Open the site under its name")


def test_an_admin_is_led_to_enrolment(page, settings):
    settings.REQUIRE_MFA = True
    sign_in(page, member("erin", is_staff=True))

    expect(page).to_have_url(re.compile("/accounts/2fa/$"))
    expect(page.get_by_text("This account needs a second factor")).to_be_visible()
    assert accessibility_problems(page) == []


def test_the_pages_of_ones_own_account_pass_axe_and_fit_a_phone(page):
    sign_in(page, member())
    page.set_viewport_size({"width": 390, "height": 844})

    for path in ("email/", "password/change/", "2fa/", "sessions/", "logout/", "reauthenticate/", "inactive/"):
        page.goto(f"/accounts/{path}")
        assert accessibility_problems(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, path
