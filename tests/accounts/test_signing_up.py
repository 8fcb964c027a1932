"""From the sign-up form to a confirmed account."""

from __future__ import annotations

import hashlib

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core import mail

from accounts.models import Consent, User
from marketplace import people

from .entrance import is_signed_in, link_in, member, sign_up_fields

pytestmark = pytest.mark.django_db


def test_an_account_is_made_confirmed_by_mail_and_signed_in(client):
    answer = client.post("/accounts/signup/", sign_up_fields())

    assert answer.status_code == 302
    assert not is_signed_in(client), "an address that nobody confirmed opens nothing"
    (letter,) = mail.outbox
    assert letter.to == ["alice@example.org"]
    page = client.get(link_in(letter))
    assert page.status_code == 200
    assert not EmailAddress.objects.get().verified, "reading the page, as mail scanners do, confirms nothing"

    client.post(link_in(letter))

    assert EmailAddress.objects.get().verified
    assert is_signed_in(client)


def test_an_account_without_a_confirmed_address_cannot_sign_in(client):
    client.post("/accounts/signup/", sign_up_fields())
    client.cookies.clear()

    fields = sign_up_fields()
    client.post("/accounts/login/", {"login": fields["email"], "password": fields["password1"]})

    assert not is_signed_in(client)


def test_a_confirmation_link_opened_on_another_device_confirms_but_does_not_sign_in(client, django_user_model):
    client.post("/accounts/signup/", sign_up_fields())
    client.cookies.clear()

    client.post(link_in(mail.outbox[0]))

    assert EmailAddress.objects.get().verified
    assert not is_signed_in(client)


def test_consent_is_logged_by_version_with_the_hash_of_the_text(client):
    client.post("/accounts/signup/", sign_up_fields())

    logged = {one.document: one for one in Consent.objects.all()}
    assert set(logged) == {"terms", "privacy"}
    text = (settings.BASE_DIR / "docs" / "legal" / f"terms-{settings.TERMS_VERSION}.md").read_text("utf-8")
    assert logged["terms"].version == settings.TERMS_VERSION
    assert logged["terms"].text_sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_nobody_signs_up_without_agreeing_to_the_terms(client):
    fields = sign_up_fields()
    del fields["terms"]

    answer = client.post("/accounts/signup/", fields)

    assert answer.status_code == 200
    assert "terms" in answer.context["form"].errors
    assert not User.objects.exists()


def test_a_new_version_of_a_document_asks_again(settings, tmp_path):
    alice = member()
    people.give_consent(alice, Consent.Document.CONTRIBUTOR)
    people.give_consent(alice, Consent.Document.CONTRIBUTOR)
    assert Consent.objects.count() == 1
    assert people.has_consented(alice, Consent.Document.CONTRIBUTOR)

    (tmp_path / "docs" / "legal").mkdir(parents=True)
    (tmp_path / "docs" / "legal" / "contributor-2027-01.md").write_text("Another text", encoding="utf-8")
    settings.BASE_DIR, settings.CONTRIBUTOR_AGREEMENT_VERSION = tmp_path, "2027-01"

    assert not people.has_consented(alice, Consent.Document.CONTRIBUTOR)
    people.give_consent(alice, Consent.Document.CONTRIBUTOR)
    assert people.has_consented(alice, Consent.Document.CONTRIBUTOR)
    assert len(set(Consent.objects.values_list("version", "text_sha256"))) == 2


@pytest.mark.parametrize(
    "handle",
    ["admin", "api", "OpenLedger", "al ice", "-alice", "alice-", "álice", "al/ice", "closed-1", "a" * 41, "alice@b"],
)
def test_a_handle_is_url_safe_and_no_word_of_the_site(client, handle):
    answer = client.post("/accounts/signup/", sign_up_fields(email="a@example.org", username=handle))

    assert answer.status_code == 200
    assert "username" in answer.context["form"].errors
    assert not User.objects.exists()


def test_a_handle_is_kept_in_lower_case_and_taken_once(client):
    client.post("/accounts/signup/", sign_up_fields(username="Alice"))
    assert User.objects.get().username == "alice"
    client.cookies.clear()

    answer = client.post("/accounts/signup/", sign_up_fields(email="other@example.org", username="ALICE"))

    assert "username" in answer.context["form"].errors
    assert User.objects.count() == 1


@pytest.mark.parametrize("password", ["short", "1234567890123", "password123", "alice@example.org"])
def test_weak_passwords_are_refused(client, password):
    answer = client.post("/accounts/signup/", sign_up_fields(password1=password))

    assert "password1" in answer.context["form"].errors
    assert not User.objects.exists()


def test_an_address_that_is_taken_is_not_betrayed(client):
    member()

    answer = client.post("/accounts/signup/", sign_up_fields("mallory", email="ALICE@example.org"))
    fresh = client.post("/accounts/signup/", sign_up_fields("bob"))

    assert (answer.status_code, answer.url) == (fresh.status_code, fresh.url)
    assert not User.objects.filter(username="mallory").exists()
    assert mail.outbox[0].to == ["alice@example.org"]
    assert "already" in mail.outbox[0].body


def test_who_signs_up_in_french_keeps_french(client):
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "fr"

    client.post("/accounts/signup/", sign_up_fields())

    assert User.objects.get().language == "fr"


def test_fields_nobody_offered_change_nothing(client):
    client.post("/accounts/signup/", sign_up_fields(is_staff="on", is_superuser="1", id="1"))

    alice = User.objects.get()
    assert not alice.is_staff
    assert not alice.is_superuser
