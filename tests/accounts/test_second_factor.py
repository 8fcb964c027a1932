"""Authenticator apps, recovery codes, who must have one, and what asks for a fresh proof."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils import timezone

from marketplace import people, tokens
from marketplace.models import PayoutDestination
from tests.datanets.cast import make_datanet

from .entrance import PASSWORD, code_of, enrol_app, is_signed_in, member, reauthenticate, sign_in

pytestmark = pytest.mark.django_db


NOON = 2_000_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Authenticator codes of one moment, so that no test runs across the end of a code's 30 seconds."""
    moment = SimpleNamespace(now=NOON)
    moment.time = lambda: moment.now
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time", moment)
    monkeypatch.setattr("tests.accounts.entrance.time", moment)
    return moment


@pytest.fixture
def alice(client):
    alice = member()
    sign_in(client, alice)
    return alice


def test_an_app_is_enrolled_and_then_asked_for(client, alice, clock):
    secret = enrol_app(client)
    client.logout()
    clock.now += 60

    answer = sign_in(client, alice)

    assert answer.url == "/accounts/2fa/authenticate/"
    assert not is_signed_in(client), "the password alone opens nothing"
    client.post(answer.url, {"code": code_of(secret, at=NOON)})
    assert not is_signed_in(client), "an old code opens nothing"
    client.post(answer.url, {"code": code_of(secret)})
    assert is_signed_in(client)


def test_a_code_that_runs_out_while_it_is_typed_counts(client, alice, clock):
    secret = enrol_app(client)
    client.logout()
    clock.now += 60

    client.post(sign_in(client, alice).url, {"code": code_of(secret, at=clock.now - 30)})

    assert is_signed_in(client)


def test_a_code_is_taken_once(client, alice, clock):
    secret = enrol_app(client)
    client.logout()
    clock.now += 60
    client.post(sign_in(client, alice).url, {"code": code_of(secret)})
    assert is_signed_in(client)
    watcher = Client()

    watcher.post(sign_in(watcher, alice).url, {"code": code_of(secret)})

    assert not is_signed_in(watcher)


def test_a_recovery_code_stands_in_for_a_lost_phone_once(client, alice):
    enrol_app(client)
    codes = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    assert len(codes) == 10
    client.logout()

    client.post(sign_in(client, alice).url, {"code": codes[0]})
    assert is_signed_in(client)
    client.logout()
    client.post(sign_in(client, alice).url, {"code": codes[0]})
    assert not is_signed_in(client)


def test_an_authenticators_secret_is_not_readable_in_the_database(client, alice, settings):
    settings.MFA_ADAPTER = "marketplace.accounts_adapter.SecondFactorAdapter"

    secret = enrol_app(client)

    kept = Authenticator.objects.get(type="totp").data["secret"]
    assert secret not in kept
    client.logout()
    answer = sign_in(client, alice)
    codes = Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes()
    client.post(answer.url, {"code": codes[0]})
    assert is_signed_in(client)


# --- Who must have one


def admin():
    return member("erin", is_staff=True)


def curator():
    carol = member("carol")
    make_datanet()
    return carol


def payee():
    bob = member("bob")
    PayoutDestination.objects.create(user=bob, kind="bank", details_token="x", hint="4711", usable_from=timezone.now())
    return bob


@pytest.mark.parametrize("make", [admin, curator, payee])
def test_who_decides_or_is_paid_is_led_to_enrolment_before_any_other_page(client, settings, make):
    settings.REQUIRE_MFA = True
    sign_in(client, make())

    for path in ("/en/", "/en/wallet/", "/fr/datanets/", "/en/ledger/"):
        answer = client.get(path)
        assert (answer.status_code, answer.url) == (302, "/accounts/2fa/"), path
    page = client.get("/accounts/2fa/")
    assert b"This account needs a second factor" in page.content
    enrol_app(client)
    assert client.get("/en/wallet/").status_code == 200


def test_everybody_else_goes_on_without(client, settings, alice):
    settings.REQUIRE_MFA = True

    assert client.get("/en/wallet/").status_code == 200
    assert Client().get("/en/").status_code == 200


def test_a_demo_state_insists_on_nothing(client):
    sign_in(client, admin())

    assert client.get("/en/wallet/").status_code == 200


def test_an_app_that_is_removed_closes_the_pages_again(client, settings):
    settings.REQUIRE_MFA = True
    sign_in(client, admin())
    enrol_app(client)
    assert client.get("/en/wallet/").status_code == 200

    client.post("/accounts/2fa/totp/deactivate/")

    assert client.get("/en/wallet/").url == "/accounts/2fa/"


def test_recovery_codes_alone_are_no_second_factor(client, settings):
    settings.REQUIRE_MFA = True
    erin = admin()
    sign_in(client, erin)
    enrol_app(client)
    Authenticator.objects.filter(user=erin, type="totp").delete()

    assert people.lacks_second_factor(erin)


def test_programs_of_such_accounts_are_told_why(client, settings):
    settings.REQUIRE_MFA = True
    erin = admin()
    _token, secret = tokens.replace(erin)

    by_token = Client(headers={"authorization": f"Token {secret}"}).get("/api/v1/me/")
    sign_in(client, erin)
    by_session = client.get("/api/v1/me/")

    for answer in (by_token, by_session):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "second_factor_required"
    wrong = Client(headers={"authorization": "Token nonsense"}).get("/api/v1/me/")
    assert wrong.status_code != 500
    assert b"second_factor_required" not in wrong.content


def test_a_fragment_sends_the_whole_page_to_enrolment(client, settings):
    settings.REQUIRE_MFA = True
    sign_in(client, admin())

    answer = client.get("/en/wallet/", headers={"hx-request": "true"})

    assert answer.headers["HX-Redirect"] == "/accounts/2fa/"


def test_the_rule_costs_one_query(settings, django_assert_num_queries):
    erin = admin()

    with django_assert_num_queries(1):
        assert people.lacks_second_factor(erin)


# --- A fresh proof


def test_enrolling_asks_for_the_password_again(client, alice):
    answer = client.get("/accounts/2fa/totp/activate/")

    assert answer.url.startswith("/accounts/reauthenticate/")


@pytest.mark.parametrize("path", ["/en/wallet/withdraw/", "/en/settings/payout/", "/en/build/keys/new/"])
def test_money_and_keys_ask_for_the_password_again(client, alice, path):
    asked = client.get(path)
    assert asked.status_code == 302
    assert asked.url.startswith("/accounts/reauthenticate/")
    client.post(path, {"amount": "1", "name": "x"})

    wrong = client.post(asked.url, {"password": "not the password"})
    assert wrong.status_code == 200
    assert client.get(path).status_code == 302
    client.post(asked.url, {"password": PASSWORD})

    assert client.get(path).status_code == 200


RUN = "/en/admin-desk/payouts/00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "path",
    [
        "/en/admin-desk/payouts/new/",
        *(f"{RUN}/{act}/" for act in ("recompute", "approve", "send")),
        *(f"{RUN}/items/00000000-0000-0000-0000-000000000000/{act}/" for act in ("confirm", "return")),
        f"{RUN}/export.csv",
        "/en/admin-desk/adjustments/propose/",
        "/en/admin-desk/adjustments/00000000-0000-0000-0000-000000000000/approve/",
        "/en/build/keys/00000000-0000-0000-0000-000000000000/replace/",
    ],
)
def test_payout_runs_adjustments_and_a_new_secret_ask_for_the_password_again(client, alice, path):
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    act = client.get if path.endswith(".csv") else client.post

    asked = act(path)

    assert asked.status_code == 302
    assert asked.url.startswith("/accounts/reauthenticate/")
    reauthenticate(client)
    assert "/reauthenticate/" not in act(path).headers.get("location", "")


def test_a_fresh_proof_does_not_stay_fresh(client, alice, settings):
    reauthenticate(client)
    assert client.get("/en/wallet/withdraw/").status_code == 200

    settings.ACCOUNT_REAUTHENTICATION_TIMEOUT = 0

    assert client.get("/en/wallet/withdraw/").status_code == 302
