"""Sending what waits for webhook endpoints: at least once, under the same id each time, in no promised order.

A sending is claimed, sent, and marked, in that order, each for itself. Whoever dies in between leaves a claim that ends:
then another worker sends the same again.
"""

from __future__ import annotations

import http.client
import logging
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from . import notifications, outbound, webhookformat, webhooks
from .models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from .models.webhooks import ANSWER_CHARS_MAX

logger = logging.getLogger(__name__)

CLAIM_S = 120  # far beyond what a batch takes: nobody else sends what is only slow
TIMEOUT_S = 5.0
BATCH, OF_ONE_ENDPOINT, AT_ONCE = 40, 8, 8  # an endpoint that hangs must not hold up the others
ROUND_S = 10.0


@dataclass(frozen=True)
class Sending:
    """What one attempt needs, read while it was claimed: sending touches no database."""

    delivery_id: str
    number: int
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with the status of an answer, or a reason why there was none."""

    duration_ms: int
    status_code: int | None = None
    error: str = ""
    answer: str = ""

    @property
    def arrived(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300


def deliver_due() -> int:
    """Send what is due, for a round's time at most; the next round goes on. Returns how many attempts were made.

    One round at a time: endpoints that hang must not keep every worker from other work.
    """
    ends_at = time.monotonic() + ROUND_S
    made = 0
    with _only_round() as is_only, ThreadPoolExecutor(AT_ONCE) as threads:
        if not is_only:
            return 0
        while time.monotonic() < ends_at and (claimed := claim()):
            running = {threads.submit(send, sending): sending for sending in claimed}
            for done in as_completed(running):
                mark(running[done], done.result())
            made += len(claimed)
    return made


@transaction.atomic
def claim() -> list[Sending]:
    """Take some of what is due, a few for each endpoint. Nobody else is given them until the claim ends."""
    now = timezone.now()
    due = WebhookDelivery.objects.raw(
        """SELECT d.* FROM marketplace_webhookendpoint e CROSS JOIN LATERAL (
             SELECT * FROM marketplace_webhookdelivery w
             WHERE w.endpoint_id = e.id AND w.status = 'waiting' AND w.due_at <= %s
             ORDER BY w.due_at LIMIT %s FOR UPDATE SKIP LOCKED) d
           WHERE e.paused_at IS NULL ORDER BY d.due_at LIMIT %s""",
        [now, OF_ONE_ENDPOINT, BATCH],
    ).prefetch_related("endpoint", "notice")
    claimed = []
    for delivery in due:
        delivery.attempts += 1
        delivery.due_at = now + timedelta(seconds=CLAIM_S)
        claimed.append(delivery)
    WebhookDelivery.objects.bulk_update(claimed, ["attempts", "due_at"])
    return [_sending(delivery) for delivery in claimed]


def send(sending: Sending) -> Outcome:
    """Make one attempt. It never raises for what the other side does."""
    began = time.monotonic()
    status, error, answer = None, "", ""
    try:
        target = outbound.resolve(sending.url, allow=settings.WEBHOOK_ALLOW)
        status, said = outbound.post(target, body=sending.body, headers=sending.headers, timeout_s=TIMEOUT_S)
        answer = "".join(sign if sign.isprintable() else " " for sign in said.decode(errors="replace"))
    except outbound.OutboundRefused:
        error = "address_refused"
    except TimeoutError:
        error = "timeout"
    except (OSError, http.client.HTTPException):
        error = "no_answer"
    duration_ms = int((time.monotonic() - began) * 1000)
    return Outcome(duration_ms, status, error, answer[:ANSWER_CHARS_MAX].strip())


@transaction.atomic
def mark(sending: Sending, outcome: Outcome) -> None:
    """Log an attempt, and say when the next one is. If it failed after its claim had ended, another worker's decides that."""
    found = WebhookDelivery.objects.select_for_update(of=("self",)).select_related("endpoint")
    delivery = found.filter(pk=sending.delivery_id).first()
    if delivery is None:
        return  # removed with its endpoint
    WebhookAttempt.objects.create(
        delivery=delivery,
        number=sending.number,
        duration_ms=outcome.duration_ms,
        status_code=outcome.status_code,
        error=outcome.error,
        answer=outcome.answer,
    )
    now = timezone.now()
    if outcome.arrived:
        delivery.status, delivery.ended_at = WebhookDelivery.Status.DELIVERED, now
    elif delivery.attempts == sending.number and delivery.ended_at is None:
        delivery.failures += 1
        delivery.due_at = now + timedelta(seconds=webhookformat.wait_s(delivery.failures, chance=random.random()))
        if delivery.due_at > delivery.give_up_at:
            delivery.status, delivery.ended_at = WebhookDelivery.Status.FAILED, now
            _give_up(delivery.endpoint)
    delivery.save(update_fields=["status", "ended_at", "failures", "due_at"])


def forget_old() -> int:
    """Delete what was sent or given up long ago, what has waited too long, and news that were for endpoints only."""
    limit = timezone.now() - webhooks.KEPT_FOR
    forgotten = WebhookDelivery.objects.filter(ended_at__lt=limit).delete()[0]
    forgotten += (
        WebhookDelivery.objects.waiting().filter(created_at__lt=limit, endpoint__paused_at__lt=limit).delete()[0]
    )
    return forgotten + notifications.forget_silent(limit)


@contextmanager
def _only_round() -> Iterator[bool]:
    """Whether no other round runs. The lock belongs to the connection, so a round that dies ends it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended('webhooks', 0))")
        is_only = cursor.fetchone()[0]
        try:
            yield is_only
        finally:
            if is_only:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended('webhooks', 0))")


def _sending(delivery: WebhookDelivery) -> Sending:
    body = webhooks.body_of(delivery.notice)
    signed = webhookformat.headers_of(
        id=delivery.notice.message_id,
        timestamp=int(time.time()),
        body=body,
        keys=webhooks.secrets_of(delivery.endpoint),
    )
    headers = {"content-type": "application/json", "user-agent": "OpenLedger-Webhooks/1"}
    return Sending(str(delivery.pk), delivery.attempts, delivery.endpoint.url, headers | signed, body)


def _give_up(endpoint: WebhookEndpoint) -> None:
    """Pause an endpoint that has not answered for days, and tell its owner, once."""
    given_up = WebhookEndpoint.objects.filter(pk=endpoint.pk, paused_at=None).update(
        paused_at=timezone.now(), gave_up=True
    )
    if given_up:
        logger.warning("webhook %s is paused: it did not answer for days", endpoint.pk)
        url = notifications.address_of("webhook", endpoint.pk)
        notifications.notify(endpoint.owner, "webhook_paused", url=url, address=endpoint.url)
