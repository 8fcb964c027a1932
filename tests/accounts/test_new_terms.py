"""A new version of the terms: who agreed to the old one is asked on the next page, and nobody and nothing else is stopped."""

from __future__ import annotations

import shutil

import pytest

from accounts.models import Consent
from marketplace import people, tokens

from .entrance import member, sign_in

pytestmark = pytest.mark.django_db

WALLET = "/en/wallet/"


@pytest.fixture
def alice(client):
    alice = member()
    people.give_consent(alice, "terms")
    sign_in(client, alice)
    return alice


@pytest.fixture
def new_terms(alice, settings, tmp_path):
    """A second version comes into force after Alice agreed to the first."""
    legal = shutil.copytree(settings.BASE_DIR / "docs" / "legal", tmp_path / "docs" / "legal")
    for document in ("terms", "privacy"):
        shutil.copy(legal / f"{document}-{settings.TERMS_VERSION}.md", legal / f"{document}-2027-03.md")
    settings.BASE_DIR, settings.TERMS_VERSION = tmp_path, "2027-03"


def test_who_agreed_to_the_version_in_force_is_not_asked(client, alice):
    assert client.get(WALLET).status_code == 200


def test_a_new_version_asks_before_the_next_page_and_goes_on_there(client, alice, new_terms):
    asked = client.get(f"{WALLET}?after=1")

    assert asked.url == "/en/settings/terms/?next=%2Fen%2Fwallet%2F%3Fafter%3D1"
    assert b"The terms have changed" in client.get(asked.url).content
    assert client.post("/en/settings/terms/", {"next": WALLET}).status_code == 422
    agreed = client.post("/en/settings/terms/", {"next": WALLET, "terms": "on"})
    assert agreed.url == WALLET
    assert client.get(WALLET).status_code == 200
    assert Consent.objects.filter(user=alice, document="terms", version="2027-03").exists()


def test_the_question_leads_to_pages_of_this_site_only(client, alice, new_terms):
    agreed = client.post("/en/settings/terms/", {"next": "https://elsewhere.example/", "terms": "on"})

    assert agreed.url == "/en/"


def test_the_terms_and_the_way_out_stay_open(client, alice, new_terms):
    for path in ("/en/terms/", "/en/privacy/", "/en/settings/data/", "/en/settings/data/export.json"):
        assert client.get(path).status_code == 200, path
    assert client.get("/accounts/logout/").status_code == 200


def test_programs_and_forms_on_their_way_are_not_stopped(client, alice, new_terms):
    _token, secret = tokens.replace(alice)

    assert client.get("/api/v1/me/", headers={"authorization": f"Token {secret}"}).status_code == 200
    assert client.post("/en/inbox/").url == "/en/inbox/"
