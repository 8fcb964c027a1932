"""Passwords, limits, reset, addresses, sessions, language."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts.models import User

from .entrance import PASSWORD, enrol_app, is_signed_in, link_in, member, reauthenticate, sign_in, sign_up_fields

pytestmark = pytest.mark.django_db


def test_login_and_password_sign_in(client):
    answer = sign_in(client, member())

    assert answer.status_code == 302
    assert is_signed_in(client)


def test_the_way_in_leads_to_the_page_one_wanted_and_never_to_another_site(client):
    alice = member()
    assert client.get("/en/wallet/").url == "/accounts/login/?next=/en/wallet/"
    assert sign_in(client, alice, next="/en/wallet/").url == "/en/wallet/"
    client.logout()

    assert sign_in(client, alice, next="https://evil.example/").url == "/"


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client):
    alice = member()

    wrong = sign_in(client, alice, "not the password")
    unknown = client.post("/accounts/login/", {"login": "nobody@example.org", "password": "not the password"})

    said = wrong.context["form"].non_field_errors()
    assert said
    assert said == unknown.context["form"].non_field_errors()
    assert not is_signed_in(client)


def test_five_wrong_passwords_close_the_door_even_to_the_right_one(settings):
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key"}
    alice = member("alice-limited")
    client = Client(REMOTE_ADDR="192.0.2.11")
    for _attempt in range(5):
        sign_in(client, alice, "not the password")

    answer = sign_in(client, alice)

    assert not is_signed_in(client)
    assert "Too many" in str(answer.context["form"].errors)


def test_one_address_cannot_try_passwords_without_end(settings):
    settings.ACCOUNT_RATE_LIMITS = {"login": "3/m/ip"}
    client = Client(REMOTE_ADDR="192.0.2.12")
    alice = member()

    answers = [sign_in(client, alice, "not the password").status_code for _attempt in range(4)]

    assert answers == [200, 200, 200, 429]


def test_the_reset_letter_sets_a_new_password_once_and_ends_the_old_one(client):
    alice = member()
    client.post("/accounts/password/reset/", {"email": alice.email})
    link = link_in(mail.outbox[0])

    form = client.get(link, follow=True)
    client.post(
        form.redirect_chain[-1][0], {"password1": "a new one for the wren", "password2": "a new one for the wren"}
    )

    assert not is_signed_in(client) or client.logout() is None
    sign_in(client, alice)
    assert not is_signed_in(client)
    sign_in(client, alice, "a new one for the wren")
    assert is_signed_in(client)
    client.logout()
    assert b"password1" not in client.get(link, follow=True).content


def test_a_reset_for_an_unknown_address_looks_the_same(client):
    member()

    known = client.post("/accounts/password/reset/", {"email": "alice@example.org"})
    unknown = client.post("/accounts/password/reset/", {"email": "nobody@example.org"})

    assert (known.status_code, known.url) == (unknown.status_code, unknown.url)


def test_a_new_address_counts_once_it_is_confirmed(client):
    alice = member()
    sign_in(client, alice)
    reauthenticate(client)
    client.post("/accounts/email/", {"email": "moreau@example.org", "action_add": ""})
    alice.refresh_from_db()
    assert alice.email == "alice@example.org"
    (letter,) = [one for one in mail.outbox if one.to == ["moreau@example.org"]]

    client.post(link_in(letter))
    client.post("/accounts/email/", {"email": "moreau@example.org", "action_primary": ""})

    alice.refresh_from_db()
    assert alice.email == "moreau@example.org"
    assert EmailAddress.objects.get(primary=True).email == "moreau@example.org"
    assert any(one.to == ["alice@example.org"] for one in mail.outbox), "the old address is told"


def add_address(client, alice, email):
    """Alice asks for one more address; the letter goes to that address."""
    sign_in(client, alice)
    reauthenticate(client)
    client.post("/accounts/email/", {"email": email, "action_add": ""})
    (letter,) = [one for one in mail.outbox if one.to == [email]]
    return link_in(letter)


def test_an_address_that_somebody_confirmed_cannot_be_taken(client):
    member("bob")
    alice = member()

    client.post(add_address(client, alice, "bob@example.org"))
    client.post("/accounts/email/", {"email": "bob@example.org", "action_primary": ""})

    assert not EmailAddress.objects.filter(user=alice, email="bob@example.org", verified=True).exists()
    alice.refresh_from_db()
    assert alice.email == "alice@example.org"


def test_who_only_claimed_an_address_loses_it_to_who_confirms_it(client):
    squatter = Client()
    squatter.post("/accounts/signup/", sign_up_fields("mallory", email="Moreau@example.org"))
    mail.outbox.clear()
    alice = member()

    client.post(add_address(client, alice, "moreau@example.org"))
    client.post("/accounts/email/", {"email": "moreau@example.org", "action_primary": ""})

    alice.refresh_from_db()
    assert alice.email == "moreau@example.org"
    assert User.objects.get(username="mallory").email == ""


def test_other_sessions_are_listed_and_ended(client):
    alice = member()
    elsewhere = Client(headers={"user-agent": "Elsewhere/1.0"})
    sign_in(elsewhere, alice)
    sign_in(client, alice)
    assert b"Elsewhere/1.0" in client.get("/accounts/sessions/").content

    client.post("/accounts/sessions/")

    assert elsewhere.get("/en/wallet/").status_code == 302
    assert client.get("/en/wallet/").status_code == 200


def test_a_changed_password_ends_the_other_sessions(client):
    alice = member()
    elsewhere = Client()
    sign_in(elsewhere, alice)
    sign_in(client, alice)

    client.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": "a new one for the wren", "password2": "a new one for the wren"},
    )

    assert elsewhere.get("/en/wallet/").status_code == 302
    assert client.get("/en/wallet/").status_code == 200


def test_signing_out_takes_a_form_not_a_link(client):
    sign_in(client, member())

    client.get("/accounts/logout/")
    assert is_signed_in(client)
    client.post("/accounts/logout/")
    assert not is_signed_in(client)


def test_the_site_goes_on_in_the_language_of_the_account(client):
    sign_in(client, member(language="fr"))

    assert client.get("/").url == "/fr/"


def test_the_session_changes_its_name_when_somebody_signs_in(client):
    client.get("/accounts/login/")
    session = client.session
    session["before"] = 1
    session.save()
    client.cookies["sessionid"] = session.session_key

    sign_in(client, member())

    assert client.session.session_key != session.session_key


def test_a_deactivated_account_cannot_sign_in(client):
    sign_in(client, member(is_active=False))

    assert not is_signed_in(client)


@pytest.mark.parametrize("path", ["login", "signup", "password/reset"])
def test_forms_without_a_token_are_refused(path):
    answer = Client(enforce_csrf_checks=True).post(f"/accounts/{path}/", sign_up_fields())

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "login/",
        "signup/",
        "password/reset/",
        "password/reset/done/",
        "confirm-email/",
        "inactive/",
        "confirm-email/nonsense/",
        "password/reset/key/1-nonsense/",
        "password/reset/key/done/",
    ],
)
def test_every_page_before_sign_in_stands(client, path):
    page = client.get(f"/accounts/{path}", follow=True)

    assert page.status_code == 200
    assert b"<h1" in page.content
    assert b"style=" not in page.content
    assert b"onclick=" not in page.content


def test_every_page_of_ones_own_account_stands(client):
    sign_in(client, member())
    enrol_app(client)

    for path in (
        "email/",
        "password/change/",
        "2fa/",
        "2fa/totp/deactivate/",
        "2fa/recovery-codes/",
        "2fa/recovery-codes/generate/",
        "2fa/webauthn/",
        "2fa/webauthn/add/",
        "sessions/",
        "logout/",
        "reauthenticate/",
        "2fa/reauthenticate/",
    ):
        page = client.get(f"/accounts/{path}", follow=True)
        assert page.status_code == 200, path
        assert page.content.count(b"<h1") == 1, path
        assert b" style=" not in page.content, path
        assert b"<form" in page.content, path
