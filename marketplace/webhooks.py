"""Webhook endpoints: registered, changed, paused, removed; and the news that go to them.

A webhook is another way for what `notifications` tells. `send_on` writes it in the transaction of the news;
marketplace/delivering.py sends it. News wait for an endpoint that is paused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import audit, listings, outbound, webhookformat
from .errors import Invalid, NotAllowed, NotReady
from .eventtypes import TEST, TYPE_OF_KIND, TYPES
from .models import Notification, WebhookDelivery, WebhookEndpoint
from .models.webhooks import URL_CHARS_MAX

ENDPOINTS_MAX = 20
TRIED_FOR = timedelta(days=3)
KEPT_FOR = timedelta(days=30)  # the log, and what waits for a paused endpoint
OVERLAPS_S = (0, 3600, 86_400, 604_800)  # for how long the secret before still signs, too


@transaction.atomic
def register(owner: User, *, url: str, events: Iterable[str] = ()) -> tuple[WebhookEndpoint, str]:
    """Tell an address of news from now on. Returns it with its secret, which nobody can read again.

    events: Names of `eventtypes.TYPES`; none: all.

    Raises:
        Invalid: the address may not be reached from here, an event does not exist, or the owner has too many endpoints.
    """
    url = url.strip()
    if not 0 < len(url) <= URL_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid(_("Give the whole address, without spaces and in plain ASCII."))
    try:
        outbound.resolve(url, allow=settings.WEBHOOK_ALLOW)
    except outbound.OutboundRefused as refused:
        raise Invalid(str(refused)) from refused
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)  # two clicks wait for each other
    if owner.webhooks.count() >= ENDPOINTS_MAX:
        raise Invalid(_("You have the most webhooks one account can hold. Remove one first."))
    secret = webhookformat.new_secret()
    endpoint = WebhookEndpoint.objects.create(
        owner=owner, url=url, events=_known(events), secret_token=listings.seal_field(secret)
    )
    audit.record(owner, "register_webhook", f"webhook:{endpoint.pk}")
    return endpoint, secret


@transaction.atomic
def choose_events(endpoint: WebhookEndpoint, *, by: User, events: Iterable[str]) -> WebhookEndpoint:
    """Say anew which news it is told; what is on its way still comes. None: all. Raises NotAllowed, Invalid."""
    endpoint = _locked(endpoint, by)
    endpoint.events = _known(events)
    endpoint.save(update_fields=["events"])
    audit.record(by, "change_webhook", f"webhook:{endpoint.pk}")
    return endpoint


@transaction.atomic
def replace_secret(endpoint: WebhookEndpoint, *, by: User, overlap_s: int = 0) -> str:
    """Make a new secret. For `overlap_s` each sending is signed with both, so that the receiver can change over.

    Raises:
        NotAllowed: somebody else's. Invalid: it cannot go on for that long.
    """
    endpoint = _locked(endpoint, by)
    if overlap_s not in OVERLAPS_S:
        raise Invalid(_("Choose for how long the old secret goes on signing."))
    secret = webhookformat.new_secret()
    endpoint.old_secret_token = endpoint.secret_token if overlap_s else ""
    endpoint.old_secret_until = timezone.now() + timedelta(seconds=overlap_s) if overlap_s else None
    endpoint.secret_token = listings.seal_field(secret)
    endpoint.save(update_fields=["secret_token", "old_secret_token", "old_secret_until"])
    audit.record(by, "replace_webhook_secret", f"webhook:{endpoint.pk}", overlap_s=overlap_s)
    return secret


@transaction.atomic
def pause(endpoint: WebhookEndpoint, *, by: User) -> WebhookEndpoint:
    """Send nothing for a while: news wait. Pausing twice changes nothing. Raises NotAllowed."""
    endpoint = _locked(endpoint, by)
    if endpoint.paused_at is None:
        endpoint.paused_at = timezone.now()
        endpoint.save(update_fields=["paused_at"])
        audit.record(by, "pause_webhook", f"webhook:{endpoint.pk}")
    return endpoint


@transaction.atomic
def resume(endpoint: WebhookEndpoint, *, by: User) -> WebhookEndpoint:
    """Go on, with what has waited first; it is tried for the whole time again. Raises NotAllowed."""
    endpoint = _locked(endpoint, by)
    if endpoint.paused_at is not None:
        endpoint.paused_at, endpoint.gave_up = None, False
        endpoint.save(update_fields=["paused_at", "gave_up"])
        now = timezone.now()
        endpoint.deliveries.waiting().update(failures=0, due_at=now, give_up_at=now + TRIED_FOR)
        audit.record(by, "resume_webhook", f"webhook:{endpoint.pk}")
    return endpoint


@transaction.atomic
def remove(endpoint: WebhookEndpoint, *, by: User) -> None:
    """Forget an endpoint, its secret, its log and what is on its way. Raises NotAllowed."""
    endpoint = _locked(endpoint, by)
    audit.record(by, "remove_webhook", f"webhook:{endpoint.pk}")
    endpoint.delete()


@transaction.atomic
def send_test(endpoint: WebhookEndpoint, *, by: User) -> WebhookDelivery:
    """Send an event that says nothing, to see whether it arrives. Raises NotAllowed; NotReady: it is paused."""
    endpoint = _locked(endpoint, by)
    _check_goes_on(endpoint)
    notice = Notification.objects.create(user=by, kind=TEST, is_silent=True)
    return WebhookDelivery.objects.create(endpoint=endpoint, notice=notice, give_up_at=timezone.now() + TRIED_FOR)


@transaction.atomic
def resend(delivery: WebhookDelivery, *, by: User) -> WebhookDelivery:
    """Send once more at once, under the same id: a receiver that has it knows it. One that waits is sent now.

    Raises:
        NotAllowed: somebody else's. NotReady: the endpoint is paused.
    """
    endpoint = _locked(delivery.endpoint, by)
    _check_goes_on(endpoint)
    delivery = WebhookDelivery.objects.select_for_update().get(pk=delivery.pk)
    now = timezone.now()
    delivery.status, delivery.ended_at, delivery.failures = WebhookDelivery.Status.WAITING, None, 0
    delivery.due_at, delivery.give_up_at = now, now + TRIED_FOR
    delivery.save(update_fields=["status", "ended_at", "failures", "due_at", "give_up_at"])
    return delivery


def send_on(notices: Sequence[Notification]) -> None:
    """Put news in line for the endpoints of their people that want them. Call it in the transaction of the news.

    One statement, which keeps an endpoint from being removed meanwhile: news must never fail for a webhook.
    """
    notices = [notice for notice in notices if notice.kind in TYPE_OF_KIND]
    if not notices:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO marketplace_webhookdelivery
                 (id, endpoint_id, notice_id, status, attempts, failures, created_at, due_at, give_up_at)
               SELECT gen_random_uuid(), e.id, n.id, 'waiting', 0, 0, now(), now(), now() + make_interval(secs => %s)
               FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS n(id, user_id, type)
               JOIN marketplace_webhookendpoint e ON e.owner_id = n.user_id
               WHERE e.events = '{}' OR n.type = ANY (e.events)
               FOR KEY SHARE OF e""",
            [
                TRIED_FOR.total_seconds(),
                [notice.pk for notice in notices],
                [notice.user_id for notice in notices],
                [TYPE_OF_KIND[notice.kind] for notice in notices],
            ],
        )


def body_of(notice: Notification) -> bytes:
    """What is sent of a piece of news."""
    told: dict[str, Any] = dict(notice.params)
    if notice.url:
        told["url"] = f"{settings.SITE_URL}{notice.url}"
    return webhookformat.body_of(type=TYPE_OF_KIND[notice.kind], at=notice.created_at, told=told)


def secrets_of(endpoint: WebhookEndpoint) -> list[str]:
    """What its sendings are signed with now."""
    tokens = [endpoint.secret_token]
    if endpoint.old_secret_until is not None and endpoint.old_secret_until > timezone.now():
        tokens.append(endpoint.old_secret_token)
    return [listings.open_field(token) for token in tokens]


def _locked(endpoint: WebhookEndpoint, by: User) -> WebhookEndpoint:
    if endpoint.owner_id != by.pk:
        raise NotAllowed(_("Only the owner of a webhook may change it."))
    found = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if found is None:
        raise NotReady(_("This webhook is removed already."))
    return found


def _check_goes_on(endpoint: WebhookEndpoint) -> None:
    if endpoint.paused_at is not None:
        raise NotReady(_("This webhook is paused. Let it go on first; what has waited is sent then."))


def _known(events: Iterable[str]) -> list[str]:
    chosen = sorted(set(events))
    if not set(chosen) <= set(TYPES):
        raise Invalid(_("Choose events from the list."))
    return chosen
