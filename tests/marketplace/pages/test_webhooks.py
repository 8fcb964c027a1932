"""What somebody does with webhooks, on the pages and through the API."""

from __future__ import annotations

import html
import time

from rest_framework.test import APIClient

from marketplace import delivering, notifications
from marketplace.models import WebhookDelivery, WebhookEndpoint
from tests.datanets.cast import person
from tests.marketplace.test_webhooks import is_ours

V1 = "/api/v1/webhooks/"


def sign_in(client, handle: str):
    """As after a password."""
    client.force_login(person(handle))
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session.save()


def page(client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    return html.unescape(answer.content.decode())


def shown_secret(text: str) -> str:
    return text.split('data-copy="')[1].split('"')[0]


def test_a_webhook_is_made_tried_looked_at_paused_and_removed_on_its_pages(db, client, receiver):
    # Given a person who makes one, first with an address that is not reached
    sign_in(client, "dan")
    assert "No webhook yet" in page(client, "/en/settings/webhooks/")
    refused = client.post("/en/settings/webhooks/new/", {"url": "https://10.0.0.1/"})
    made = client.post("/en/settings/webhooks/new/", {"url": receiver.url, "events": ["payout.sent"]})
    assert (refused.status_code, made.status_code) == (422, 302)
    here = made["Location"]
    first, second = page(client, here), page(client, here)
    secret = shown_secret(first)
    assert secret.startswith("whsec_")
    assert secret not in second
    assert receiver.url in page(client, "/en/settings/webhooks/")

    # When they send a test, and change the events
    client.post(f"{here}test/")
    assert "Waiting" in page(client, here)
    delivering.deliver_due()
    client.post(here, {"events": []})

    # Then the log has it, with what was sent and what was answered, and it can be sent again
    sent = WebhookDelivery.objects.get()
    log, one = page(client, here), page(client, f"{here}deliveries/{sent.pk}/")
    assert all(words in log for words in ("webhook.test", "Delivered", ">200<"))
    assert all(words in one for words in (sent.notice.message_id, "Thank you.", "timestamp"))
    client.post(f"{here}deliveries/{sent.pk}/resend/")
    delivering.deliver_due()
    assert receiver.ids() == [sent.notice.message_id] * 2
    assert WebhookEndpoint.objects.get().events == []

    # And the secret is replaced, it is paused and goes on, and is removed
    client.post(f"{here}secret/", {"overlap_s": "3600"})
    replaced = page(client, here)
    assert shown_secret(replaced) != secret
    assert "The old secret signs until" in replaced
    assert client.post(f"{here}secret/", {"overlap_s": "7"}).status_code == 422
    client.post(f"{here}pause/")
    assert "Paused" in page(client, here)
    assert client.post(f"{here}test/").status_code == 409
    client.post(f"{here}resume/")
    assert "Paused" not in page(client, here)
    client.post(f"{here}remove/")
    assert client.get(here).status_code == 404


def test_a_program_registers_changes_and_follows_a_webhook(db, receiver):
    # Given one that a person registers in a fresh session
    dan = APIClient()
    sign_in(dan, "dan")
    made = dan.post(V1, {"url": receiver.url, "events": ["wallet.deposited"]}, format="json")
    assert made.status_code == 201
    secret, here = made.json()["secret"], f"{V1}{made.json()['id']}/"
    assert "secret" not in dan.get(here).json()
    assert dan.post(V1, {"url": receiver.url, "events": ["nothing"]}, format="json").status_code == 400
    assert dan.post(V1, {"url": "https://127.0.0.1/"}, format="json").status_code == 422

    # When news come, and it is paused and goes on
    notice = notifications.notify(person("dan"), "deposit_posted", amount_nano="5")
    assert dan.patch(here, {"paused": True}, format="json").json()["paused_at"] is not None
    assert delivering.deliver_due() == 0
    assert dan.patch(here, {"paused": False, "events": []}, format="json").json()["events"] == []
    delivering.deliver_due()

    # Then the log tells each attempt, and the body is what was signed
    [sent] = dan.get(f"{here}deliveries/").json()["results"]
    assert (sent["message_id"], sent["type"], sent["status"]) == (notice.message_id, "wallet.deposited", "delivered")
    assert [(one["number"], one["status_code"], one["answer"]) for one in sent["attempts"]] == [(1, 200, "Thank you.")]
    headers, body = receiver.seen[0]
    assert sent["body"].encode() == body
    assert is_ours(headers, body, secret)
    assert dan.post(f"{here}deliveries/{sent['id']}/resend/").json()["status"] == "waiting"
    assert dan.post(f"{here}test/").json()["type"] == "webhook.test"
    assert dan.post(f"{here}secret/", {"overlap_s": 3600}, format="json").json()["secret"] != secret
    assert dan.delete(here).status_code == 204
    assert dan.get(here).status_code == 404


def test_news_for_programs_only_are_in_no_inbox(db, client, receiver):
    sign_in(client, "dan")
    made = client.post("/en/settings/webhooks/new/", {"url": receiver.url})
    client.post(f"{made['Location']}test/")

    assert "Nothing yet" in page(client, "/en/inbox/")


def test_a_balance_to_be_told_of_is_set_by_a_program(db):
    dan = APIClient()
    dan.force_login(person("dan"))
    here = "/api/v1/wallet/low-balance/"

    assert dan.get(here).json()["low_nano"] is None
    assert dan.put(here, {"low_nano": "1500000000"}, format="json").json()["low_nano"] == "1500000000"
    assert dan.put(here, {"low_nano": "0"}, format="json").status_code == 422
    assert dan.put(here, {"low_nano": None}, format="json").json()["low_nano"] is None
