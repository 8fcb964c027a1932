"""Who buys hears in time of limits and balances: once per crossing, whatever is called and looked at meanwhile."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone, translation

from marketplace import keys, mailing, tasks, watching
from marketplace.models import ApiKey, Notification, WalletWatch
from marketplace.views.explanations import notification_sentence
from tests.books import at_once
from tests.datanets.races import race
from tests.gateway.conftest import wait_until
from tests.gateway.shop import CALL_NANO, OPEN, fund


def told(user, *kinds: str) -> list[str]:
    """What was told of these kinds, in its order."""
    return list(Notification.objects.filter(user=user, kind__in=kinds).order_by("pk").values_list("kind", flat=True))


LIMITS = ("key_limit_near", "key_limit_reached")
BALANCES = ("balance_low", "balance_empty")


@pytest.mark.parametrize("kind", ["total", "month", "day"])
def test_whose_key_nears_its_cap_and_reaches_it_is_told_each_once(gateway, shop, kind):
    # Given a key with room for ten calls, less a few nano, of one cap, and wide others
    names = {"total": "spend_cap_nano", "month": "spend_cap_month_nano", "day": "spend_cap_day_nano"}
    wide = dict.fromkeys(names.values(), OPEN)
    dan, secret = shop.buyer(f"dan-near-{kind}", OPEN, **wide | {names[kind]: 10 * CALL_NANO - 5})
    assert [gateway.classify(secret).status_code for _ in range(7)] == [200] * 7
    watching.tell_limits()
    assert told(dan, *LIMITS) == []

    # When one call more is made, and it is looked at by two at once, then again
    assert gateway.classify(secret).status_code == 200
    at_once(watching.tell_limits, watching.tell_limits)
    watching.tell_limits()

    # Then it is told once; and once more when a call was refused for lack of room, as what is left is less than it could cost
    assert told(dan, *LIMITS) == ["key_limit_near"]
    assert [gateway.classify(secret).status_code for _ in range(2)] == [200, 402]
    wait_until(lambda: watching.tell_limits() == 1)
    watching.tell_limits()
    assert told(dan, *LIMITS) == ["key_limit_near", "key_limit_reached"]
    line = Notification.objects.get(user=dan, kind="key_limit_reached")
    assert (line.params["limit"], line.params["limit_nano"]) == (kind, str(10 * CALL_NANO - 5))


def test_a_wallet_that_runs_low_and_then_empty_is_told_each_once_until_money_comes(gateway, shop):
    # Given a wallet with room for three calls, and a threshold between two and three
    dan, secret = shop.buyer("dan-low", 3 * CALL_NANO)
    watching.set_low_balance(dan, low_nano=2 * CALL_NANO + 1, by=dan)
    watching.tell_balances()
    assert told(dan, *BALANCES) == []

    # When one is made, and looked at by two at once
    assert gateway.classify(secret).status_code == 200
    watched = f"SELECT FROM marketplace_walletwatch WHERE user_id = {dan.pk} FOR UPDATE"
    race(shop.books, watching.tell_balances, watching.tell_balances, behind=watched)
    assert told(dan, *BALANCES) == ["balance_low"]

    # And the rest is spent
    assert [gateway.classify(secret).status_code for _ in range(3)] == [200, 200, 402]
    watching.tell_balances()
    watching.tell_balances()
    assert told(dan, *BALANCES) == ["balance_low", "balance_empty"]

    # Then it is told again only after money has come: the refusal of before counts no more
    fund(shop.books, dan, 3 * CALL_NANO)
    watching.tell_balances()
    assert told(dan, *BALANCES) == ["balance_low", "balance_empty"]
    time.sleep(0.2)  # the gateway asks for a wallet again that did not suffice a moment ago
    assert gateway.classify(secret).status_code == 200
    watching.tell_balances()
    assert told(dan, *BALANCES) == ["balance_low", "balance_empty", "balance_low"]


def test_a_wallet_without_a_threshold_is_told_of_when_it_does_not_cover_a_call(gateway, shop):
    dan, secret = shop.buyer("dan-short", CALL_NANO + 5)
    assert [gateway.classify(secret).status_code for _ in range(2)] == [200, 402]

    wait_until(lambda: watching.tell_balances() >= 1)
    watching.tell_balances()

    assert told(dan, *BALANCES) == ["balance_empty"]


def test_letters_say_the_same_in_the_language_of_their_reader(shop):
    dan, _secret = shop.buyer("dan-francais")
    dan.language = "fr"
    dan.save(update_fields=["language"])
    key, _secret = keys.create(owner=dan, name="Boutique", expires_at=timezone.now() + timedelta(days=9))
    ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(days=2))
    Notification.objects.update(wants_mail=False)
    mail.outbox.clear()

    # Two days before its end, and after it; one made for a day only says the second
    keys.create(owner=dan, name="Court", expires_at=timezone.now() + timedelta(days=1))
    ApiKey.objects.filter(pk=key.pk).update(created_at=timezone.now() - timedelta(days=7))
    tasks.watch()
    tasks.watch()
    ApiKey.objects.filter(owner=dan).exclude(name="test").update(expires_at=timezone.now())
    watching.tell_key_ends()
    watching.tell_key_ends()
    assert told(dan, "key_expiring", "key_expired") == ["key_expiring", "key_expired", "key_expired"]

    # By letter too
    [letter] = mail.outbox
    with translation.override("fr"):
        assert notification_sentence(Notification.objects.get(user=dan, kind="key_expiring")) in letter.body
    assert "Vous recevez cette lettre" in letter.body
    assert letter.to == [dan.email]
    mailing.send_letters()


def test_an_ended_mail_server_delays_letters_and_loses_none(shop, settings):
    dan, _secret = shop.buyer("dan-waits-for-mail")
    Notification.objects.update(wants_mail=False)
    Notification.objects.create(user=dan, kind="balance_empty", params={"amount_nano": "0"}, wants_mail=True)
    mail.outbox.clear()
    settings.EMAIL_BACKEND, before = "django.core.mail.backends.smtp.EmailBackend", settings.EMAIL_BACKEND
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    assert mailing.send_letters() == 0
    settings.EMAIL_BACKEND = before
    assert mailing.send_letters() == 1
    assert len(mail.outbox) == 1


def test_a_replaced_key_is_told_of_with_its_end(shop):
    dan, _secret = shop.buyer("dan-replaces")
    old = ApiKey.objects.get(owner=dan)

    keys.replace(old, by=dan, overlap_s=3600)

    line = Notification.objects.get(user=dan, kind="key_replaced")
    old.refresh_from_db()
    assert line.params["until"] == old.replaced_until.isoformat()


BROKEN = {
    "a threshold is nothing": {"low_nano": 0},
    "a low balance is told without a threshold": {"told_low": True},
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_database_refuses_thresholds_that_cannot_be(shop, what):
    dan, _secret = shop.buyer("dan-watches")

    with pytest.raises(IntegrityError), transaction.atomic():
        WalletWatch.objects.create(user=dan, **BROKEN[what])
