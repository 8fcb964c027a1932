"""News reach programs: signed, at least once under one id, and none is lost while a receiver or a worker is down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from marketplace import delivering, eventtypes, mailing, notifications, tasks, webhookformat, webhooks
from marketplace.errors import Invalid, NotAllowed, NotReady
from marketplace.models import Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from marketplace.views import explanations
from tests.datanets.cast import person
from tests.marketplace.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]


def is_ours(headers, body, secret) -> bool:
    """The documentation's own way to verify, as it stands."""
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/webhooks.md").read_text(), re.DOTALL)
    assert code.count("\n") < 20
    for language in ("en", "fr"):  # the site's own pages show it, too
        assert code in (ROOT / f"docs/site/api.{language}.md").read_text()
    names: dict = {}
    exec(code, names)  # noqa: S102  what readers copy
    return names["is_ours"](headers, body, secret)


def tell(name: str = "dan", amount_nano: int = 5) -> Notification:
    return notifications.notify(person(name), "deposit_posted", url="/wallet/", amount_nano=str(amount_nano))


def make_due() -> None:
    """As if the time to wait were over."""
    WebhookDelivery.objects.waiting().update(due_at=timezone.now())


def test_news_arrive_signed_as_the_documentation_verifies_it(db, receiver, settings):
    # Given an endpoint of Dan's for deposits, and others that do not want his
    endpoint, secret = webhooks.register(person("dan"), url=receiver.url, events=["wallet.deposited"])
    webhooks.register(person("dan"), url=receiver.url, events=["payout.sent"])
    webhooks.register(person("alice"), url=receiver.url)

    # When he is told of one
    notice = tell()
    assert delivering.deliver_due() == 1

    # Then his program hears the same, and nobody can have changed a byte or signed it
    [(headers, body)] = receiver.seen
    assert is_ours(headers, body, secret)
    assert not is_ours(headers, body + b" ", secret)
    assert not is_ours(headers | {"webhook-id": "msg_other"}, body, secret)
    assert not is_ours(headers | {"webhook-timestamp": "1700000000"}, body, secret)
    assert not is_ours(headers, body, webhookformat.new_secret())
    assert json.loads(body) == {
        "type": "wallet.deposited",
        "timestamp": notice.created_at.isoformat(),
        "data": {"amount_nano": "5", "url": f"{settings.SITE_URL}/wallet/"},
    }
    assert (headers["host"], headers["content-type"]) == (receiver.authority, "application/json")

    # And the attempt is in the log, the secret nowhere in the table
    attempt = WebhookAttempt.objects.get(delivery__endpoint=endpoint)
    assert (attempt.status_code, attempt.answer, attempt.delivery.status) == (200, "Thank you.", "delivered")
    assert secret not in str(WebhookEndpoint.objects.values_list())


def test_a_receiver_that_was_down_hears_everything_once_under_the_ids_of_the_first_attempt(db, settings):
    # Given a receiver that cannot be reached, then is broken, then sends elsewhere
    receiver = Receiver()
    receiver.server_close()
    settings.WEBHOOK_ALLOW = [receiver.authority]
    endpoint, _secret = webhooks.register(person("dan"), url=receiver.url)
    told = [tell(amount_nano=n).message_id for n in range(3)]
    delivering.deliver_due()
    receiver = Receiver(receiver.server_port).start()
    for status in (500, 307):
        receiver.answer = lambda status=status: status
        make_due()
        delivering.deliver_due()
    first = endpoint.deliveries.order_by("created_at", "pk")[0]
    assert endpoint.deliveries.waiting().count() == 3
    assert first.due_at > timezone.now()
    assert [(one.status_code, one.error) for one in first.log.order_by("number")] == [
        (None, "no_answer"),
        (500, ""),
        (307, ""),
    ]

    # When it is up again, and a round comes twice
    receiver.seen.clear()
    receiver.answer = lambda: 204
    make_due()
    delivering.deliver_due()
    make_due()
    delivering.deliver_due()

    # Then each arrived, once
    assert sorted(receiver.ids()) == sorted(told)
    assert set(endpoint.deliveries.values_list("status", flat=True)) == {"delivered"}
    receiver.stop()


def test_a_worker_killed_between_sending_and_marking_sends_the_same_again(books, receiver):
    # Given a worker that is killed by the very request that it sends
    _endpoint, secret = webhooks.register(person("dan"), url=receiver.url)
    tell()
    worker: list[subprocess.Popen] = []
    arrived = threading.Event()

    def kill() -> int:
        arrived.set()
        worker[0].kill()
        worker[0].wait()
        return 200

    receiver.answer = kill
    code = "import django; django.setup(); from marketplace import delivering; delivering.deliver_due()"
    environment = {"DATABASE_URL": books.url("DATABASE_APP_URL"), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    environment |= {"WEBHOOK_ALLOW": receiver.authority, "TESTING": "1"}
    worker.append(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment))
    assert arrived.wait(60)
    worker[0].wait()

    # When its claim has ended
    receiver.answer = lambda: 200
    assert delivering.deliver_due() == 0
    make_due()
    assert delivering.deliver_due() == 1

    # Then the receiver has it twice, under one id, each rightly signed; only the second is logged
    assert len(receiver.seen) == 2
    assert len(set(receiver.ids())) == 1
    assert all(is_ours(headers, body, secret) for headers, body in receiver.seen)
    assert list(WebhookAttempt.objects.values_list("number", flat=True)) == [2]


def test_two_workers_never_claim_the_same(books, receiver):
    # Given two pieces of news, one of which another worker is just claiming
    webhooks.register(person("dan"), url=receiver.url)
    mine, theirs = tell(), tell()
    other = books.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM marketplace_webhookdelivery WHERE notice_id = %s FOR UPDATE", [theirs.pk])

        # When this one claims
        with connection.cursor() as ours:
            ours.execute("SET lock_timeout = '1s'")
        claimed = delivering.claim()

    # Then it has the other one, without waiting
    assert [one.headers["webhook-id"] for one in claimed] == [mine.message_id]
    other.close()
    assert len(delivering.claim()) == 1
    assert delivering.claim() == []


def test_only_one_round_of_sending_runs_at_a_time(books, receiver):
    webhooks.register(person("dan"), url=receiver.url)
    tell()
    other = books.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended('webhooks', 0))")
        assert delivering.deliver_due() == 0
        cursor.execute("SELECT pg_advisory_unlock(hashtextextended('webhooks', 0))")
    assert delivering.deliver_due() == 1
    other.close()


def test_news_that_were_taken_back_are_sent_to_nobody(books, receiver):
    webhooks.register(person("dan"), url=receiver.url)

    with pytest.raises(NotReady), transaction.atomic():
        tell()
        raise NotReady

    assert not WebhookDelivery.objects.exists()


def test_an_endpoint_that_is_silent_for_three_days_is_paused_and_loses_nothing(db, receiver):
    # Given news that nobody took for three days, and some that came later
    endpoint, _secret = webhooks.register(person("dan"), url=receiver.url)
    receiver.answer = lambda: 503
    tell()
    WebhookDelivery.objects.update(give_up_at=timezone.now())
    delivering.deliver_due()
    later = tell()

    # Then it is paused, its owner is told once, by letter too, and nothing more is sent
    endpoint.refresh_from_db()
    assert endpoint.gave_up
    assert delivering.deliver_due() == 0
    with pytest.raises(NotReady):
        webhooks.send_test(endpoint, by=person("dan"))
    assert mailing.send_letters() == 1
    assert mailing.send_letters() == 0
    [letter] = mail.outbox
    assert receiver.url in letter.body
    assert Notification.objects.filter(kind="webhook_paused").count() == 1

    # When it goes on, and the one that was given up is sent again
    receiver.answer = lambda: 200
    receiver.seen.clear()
    webhooks.resume(endpoint, by=person("dan"))
    failed = endpoint.deliveries.get(status="failed")
    webhooks.resend(failed, by=person("dan"))
    delivering.deliver_due()

    # Then everything arrives, news of the pause included
    paused = Notification.objects.get(kind="webhook_paused")
    assert set(receiver.ids()) == {failed.notice.message_id, later.message_id, paused.message_id}


def test_a_replaced_secret_signs_beside_the_new_one_until_its_end(db, receiver):
    dan = person("dan")
    endpoint, old = webhooks.register(dan, url=receiver.url)
    new = webhooks.replace_secret(endpoint, by=dan, overlap_s=3600)
    webhooks.send_test(endpoint, by=dan)
    delivering.deliver_due()
    WebhookEndpoint.objects.update(old_secret_until=timezone.now())
    webhooks.send_test(endpoint, by=dan)
    delivering.deliver_due()

    (first, second) = receiver.seen
    assert [is_ours(*first, secret) for secret in (old, new)] == [True, True]
    assert [is_ours(*second, secret) for secret in (old, new)] == [False, True]
    assert json.loads(first[1])["type"] == "webhook.test"
    with pytest.raises(Invalid):
        webhooks.replace_secret(endpoint, by=dan, overlap_s=5)


def test_what_was_delivered_is_sent_again_under_the_same_id_when_asked(db, receiver):
    endpoint, _secret = webhooks.register(person("dan"), url=receiver.url)
    tell()
    delivering.deliver_due()

    webhooks.resend(endpoint.deliveries.get(), by=person("dan"))
    delivering.deliver_due()

    assert len(receiver.seen) == 2
    assert len(set(receiver.ids())) == 1
    assert list(WebhookAttempt.objects.order_by("number").values_list("number", flat=True)) == [1, 2]


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "http://8.8.8.8/", "https://user:me@8.8.8.8/", "https://8.8.8.8/a b", "https://é.fr/", ""],
)
def test_addresses_inside_and_strange_ones_are_no_endpoints(db, url):
    with pytest.raises(Invalid):
        webhooks.register(person("dan"), url=url)


def test_what_the_site_itself_may_reach_is_no_endpoint(db, settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]

    with pytest.raises(Invalid):
        webhooks.register(person("dan"), url="http://127.0.0.1:9/")


def test_an_address_that_leads_inside_later_is_not_reached_either(db, receiver, settings):
    webhooks.register(person("dan"), url=receiver.url)
    settings.WEBHOOK_ALLOW = []
    tell()

    delivering.deliver_due()

    assert receiver.seen == []
    assert WebhookAttempt.objects.get().error == "address_refused"


def test_a_receiver_that_drips_or_says_nothing_is_hung_up_on(db, receiver, monkeypatch):
    monkeypatch.setattr(delivering, "TIMEOUT_S", 0.2)
    over = threading.Event()
    receiver.answer = lambda: over.wait(30) and 200
    webhooks.register(person("dan"), url=receiver.url)
    for drips_s in (0, 3):
        receiver.drips_s = drips_s
        tell()
        delivering.deliver_due()
        over.set()

    assert list(WebhookAttempt.objects.values_list("error", flat=True)) == ["timeout", "timeout"]


def test_of_an_answer_only_the_beginning_is_kept_as_plain_text(db, receiver):
    receiver.said = b"\x00<b>\xff" + b"x" * 5000
    webhooks.register(person("dan"), url=receiver.url)
    tell()

    delivering.deliver_due()

    assert WebhookAttempt.objects.get().answer == ("<b>\ufffd" + "x" * 300)[:199]


def test_somebody_elses_webhook_can_be_changed_by_nobody(db, receiver):
    endpoint, _secret = webhooks.register(person("dan"), url=receiver.url)

    for act in (webhooks.pause, webhooks.resume, webhooks.remove, webhooks.send_test, webhooks.replace_secret):
        with pytest.raises(NotAllowed):
            act(endpoint, by=person("alice"))


def test_there_is_an_end_to_webhooks_and_to_what_they_keep(db, receiver):
    # Given as many endpoints as one account can hold, and an event that does not exist
    dan = person("dan")
    for _ in range(webhooks.ENDPOINTS_MAX):
        endpoint, _secret = webhooks.register(dan, url=receiver.url, events=["payout.sent"])
    with pytest.raises(Invalid):
        webhooks.register(dan, url=receiver.url)
    with pytest.raises(Invalid):
        webhooks.choose_events(endpoint, by=dan, events=["no.event"])

    # When what was sent is old, and what waits for a paused one, too
    webhooks.send_test(endpoint, by=dan)
    delivering.deliver_due()
    webhooks.choose_events(endpoint, by=dan, events=[])
    webhooks.pause(endpoint, by=dan)
    tell()
    long_ago = timezone.now() - timedelta(days=31)
    WebhookDelivery.objects.filter(status="delivered").update(ended_at=long_ago)
    assert delivering.forget_old() > 0
    assert WebhookDelivery.objects.count() == 1
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(paused_at=long_ago)
    WebhookDelivery.objects.update(created_at=long_ago)
    Notification.objects.filter(is_silent=True).update(created_at=long_ago)
    tasks.forget()

    # Then it is gone, and the inbox is as it was
    assert not WebhookDelivery.objects.exists()
    assert list(Notification.objects.values_list("kind", flat=True)) == ["deposit_posted"]
    webhooks.remove(endpoint, by=dan)
    assert dan.webhooks.count() == webhooks.ENDPOINTS_MAX - 1


def test_every_kind_of_news_has_a_name_for_programs_and_the_documentation_lists_it():
    assert set(eventtypes.TYPE_OF_KIND) == set(explanations.NOTIFICATIONS)
    assert len(set(eventtypes.TYPE_OF_KIND.values())) == len(eventtypes.TYPE_OF_KIND)
    page = (ROOT / "docs/webhooks.md").read_text()
    assert [type for type in eventtypes.TYPES if f"`{type}`" not in page] == []


def test_waits_grow_up_to_four_hours_and_never_fall_together():
    assert [webhookformat.wait_s(n, chance=1) for n in (1, 2, 3)] == [5, 10, 20]
    assert webhookformat.wait_s(50, chance=1) == 4 * 3600
    assert webhookformat.wait_s(3, chance=0) == 10


BROKEN = {
    "news go to an endpoint twice": lambda endpoint, notice: WebhookDelivery.objects.create(
        endpoint=endpoint, notice=notice, give_up_at=timezone.now()
    ),
    "what waits has ended": lambda endpoint, notice: endpoint.deliveries.update(ended_at=timezone.now()),
    "what arrived has not": lambda endpoint, notice: endpoint.deliveries.update(status="delivered"),
    "an old secret has no end": lambda endpoint, notice: WebhookEndpoint.objects.update(old_secret_token="x"),
    "who gave up goes on": lambda endpoint, notice: WebhookEndpoint.objects.update(gave_up=True),
    "an attempt ended in no way": lambda endpoint, notice: WebhookAttempt.objects.create(
        delivery=endpoint.deliveries.get(), number=1, duration_ms=1
    ),
    "an attempt is logged twice": lambda endpoint, notice: WebhookAttempt.objects.bulk_create(
        WebhookAttempt(delivery=endpoint.deliveries.get(), number=1, duration_ms=1, status_code=200) for _ in range(2)
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_database_refuses_webhooks_that_cannot_be(db, receiver, what):
    endpoint, _secret = webhooks.register(person("dan"), url=receiver.url)
    notice = tell()

    with pytest.raises(IntegrityError), transaction.atomic():
        BROKEN[what](endpoint, notice)
