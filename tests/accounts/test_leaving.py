"""The end of an account."""

from __future__ import annotations

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from accounts.models import ApiToken, Consent
from ledger import chart
from marketplace import keys, listings, people, tokens, wallets
from marketplace.errors import NotReady
from marketplace.models import ApiKey, AuditEvent
from tests.datanets.cast import measured, person
from tests.shop import OPEN, fund, published, trained

from .entrance import enrol_app, is_signed_in, member, sign_in


@pytest.fixture(autouse=True)
def decided_at_once(settings, tmp_path):
    settings.REVIEW_UNDO_S = 0
    settings.STORAGE_DIR = tmp_path / "storage"


@pytest.fixture
def alice(books):
    return member(display_name="Alice Moreau", organisation="Wren Ltd")


def test_a_closed_account_cannot_be_entered_and_names_nobody(client, alice):
    sign_in(client, alice)
    enrol_app(client)
    tokens.replace(alice)
    key, _secret = keys.create(owner=alice, name="mine")
    people.give_consent(alice, Consent.Document.TERMS)

    people.close_account(alice)

    alice.refresh_from_db()
    assert alice.username.startswith("closed-")
    assert (alice.email, alice.display_name, alice.organisation) == ("", "", "")
    assert not alice.is_active
    assert client.get("/en/wallet/").status_code == 302, "its sessions ended"
    again = Client()
    again.post("/accounts/login/", {"login": "alice@example.org", "password": "x"})
    assert not is_signed_in(again)
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    assert not EmailAddress.objects.filter(user=alice).exists()
    assert not ApiToken.objects.filter(user=alice).exists()
    assert Consent.objects.filter(user=alice).exists(), "what was agreed to stays proved"
    assert AuditEvent.objects.filter(actor=alice, act="close_account").exists()


def test_closing_twice_changes_nothing(alice):
    people.close_account(alice)
    handle = people.close_account(alice).username

    alice.refresh_from_db()
    assert alice.username == handle
    assert AuditEvent.objects.filter(act="close_account").count() == 1


def test_the_address_and_the_handle_can_be_used_again(client, alice):
    people.close_account(alice)

    again = member("alice")

    assert again.pk != alice.pk


def test_money_must_be_taken_out_first(books, alice):
    fund(books, alice, 1)

    with pytest.raises(NotReady, match="1"):
        people.close_account(alice)

    alice.refresh_from_db()
    assert alice.is_active
    assert alice.username == "alice"


def test_earnings_that_wait_must_be_taken_out_first(books, alice):
    books.deposit(chart.pending(alice.pk), OPEN)

    with pytest.raises(NotReady):
        people.close_account(alice)


def test_a_withdrawal_on_its_way_keeps_the_account_open(books, alice):
    fund(books, alice, 1)
    wallets.set_destination(alice, kind="bank", details="DE89370400440532013000")
    wallets.request_withdrawal(alice, amount_nano=OPEN)

    with pytest.raises(NotReady):
        people.close_account(alice)


def test_a_model_on_offer_keeps_the_account_open(books):
    model = trained(books, published({"alice": measured(40), "bob": measured(40, start=40)})).model
    books.round()

    with pytest.raises(NotReady, match="model"):
        people.close_account(model.owner)

    listings.unlist_model(model, by=model.owner)
    people.close_account(model.owner)


def test_records_of_a_closed_account_stay_in_their_datanet(books, client):
    datanet = published({"alice": measured(6)}).datanet
    people.close_account(person("alice"))

    page = client.get(f"/en/datanets/{datanet.owner.username}/{datanet.slug}/contributors/")
    assert page.status_code == 200
    assert b"alice" not in page.content.lower()


def test_what_is_kept_about_signing_in_shows_no_secret(client, alice):
    sign_in(client, alice)
    secret = enrol_app(client)

    kept = people.identity_of(alice)

    assert kept["email_addresses"] == [{"email": "alice@example.org", "verified": True, "primary": True}]
    assert {one["type"] for one in kept["second_factors"]} == {"totp", "recovery_codes"}
    assert len(kept["sessions"]) == 1
    assert secret not in str(kept)
    assert alice.password not in str(kept)
