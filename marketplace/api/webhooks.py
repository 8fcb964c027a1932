"""Webhooks: endpoints, what was sent to them, and sending it again."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from .. import webhooks
from ..eventtypes import TYPE_OF_KIND, TYPES
from ..models import WebhookEndpoint
from ..models.webhooks import URL_CHARS_MAX
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of, require_fresh_session
from .fields import Choice, Shown, Strict, Text, Whole, YesNo


class WebhookShown(Shown):
    id = serializers.UUIDField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField(), help_text="Empty: all.")
    paused_at = serializers.DateTimeField(allow_null=True)
    gave_up = serializers.BooleanField(help_text="Paused by the site: it did not answer for three days.")
    old_secret_until = serializers.DateTimeField(allow_null=True, help_text="Until then both secrets sign.")
    created_at = serializers.DateTimeField()


class NewWebhookShown(WebhookShown):
    secret = serializers.CharField(help_text="Shown this once.")


class NewWebhook(Strict):
    url = Text(max_length=URL_CHARS_MAX)
    events = serializers.ListField(child=Choice(TYPES), required=False, max_length=len(TYPES))


class WebhookChange(Strict):
    """What is left out stays. The address stays: a new one is a new webhook."""

    events = serializers.ListField(child=Choice(TYPES), required=False, max_length=len(TYPES))
    paused = YesNo(required=False)


class SecretReplacement(Strict):
    overlap_s = Whole(
        max_value=max(webhooks.OVERLAPS_S),
        required=False,
        help_text="For how long the old secret signs, too: 0, 3600, 86400 or 604800.",
    )


class AttemptShown(Shown):
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField()
    status_code = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(help_text="timeout, no_answer or address_refused; empty: there is a status.")
    answer = serializers.CharField(help_text="The first 200 characters.")


class DeliveryShown(Shown):
    id = serializers.UUIDField()
    message_id = serializers.CharField(source="notice.message_id", help_text="The webhook-id.")
    type = serializers.SerializerMethodField()
    status = serializers.CharField(help_text="waiting, delivered or failed.")
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(help_text="Of one that waits: when the next attempt is.")
    attempts = AttemptShown(many=True, source="log")
    body = serializers.SerializerMethodField(help_text="What is sent, as text.")

    def get_type(self, delivery) -> str:
        return TYPE_OF_KIND[delivery.notice.kind]

    def get_body(self, delivery) -> str:
        return webhooks.body_of(delivery.notice).decode()


class WebhooksView(ApiView):
    """One's webhooks."""

    @endpoint("webhooks_list", "List your webhooks.", query=PageQuery, answers=page_of(WebhookShown), reads=True)
    def get(self, request):
        return page(request, _mine(request), WebhookShown)

    @endpoint(
        "webhooks_create",
        "Register a webhook; its secret is shown once. Needs a fresh session.",
        body=NewWebhook,
        answers=NewWebhookShown,
        status=201,
    )
    def post(self, request):
        require_fresh_session(request)  # it goes on telling when a token that was stolen has long ended
        made, secret = webhooks.register(request.user, **body_of(request, NewWebhook))
        made.secret = secret
        return Response(NewWebhookShown(made).data, status=201)


class WebhookView(ApiView):
    """One webhook."""

    @endpoint("webhooks_show", "Read a webhook.", answers=WebhookShown, reads=True)
    def get(self, request, webhook_id):
        return Response(WebhookShown(find(_mine(request), pk=webhook_id)).data)

    @endpoint(
        "webhooks_change",
        "Choose a webhook's events anew, pause it or let it go on.",
        body=WebhookChange,
        answers=WebhookShown,
    )
    def patch(self, request, webhook_id):
        found = find(_mine(request), pk=webhook_id)
        given = body_of(request, WebhookChange)
        if "events" in given:
            found = webhooks.choose_events(found, by=request.user, events=given["events"])
        if "paused" in given:
            found = (webhooks.pause if given["paused"] else webhooks.resume)(found, by=request.user)
        return Response(WebhookShown(found).data)

    @endpoint("webhooks_remove", "Remove a webhook and its log.", status=204)
    def delete(self, request, webhook_id):
        webhooks.remove(find(_mine(request), pk=webhook_id), by=request.user)
        return Response(status=204)


class WebhookSecretView(ApiView):
    """Another secret for a webhook."""

    @endpoint(
        "webhooks_replace_secret",
        "Make a new secret for a webhook; the old one signs for overlap_s more. Needs a fresh session.",
        body=SecretReplacement,
        answers=NewWebhookShown,
        status=201,
    )
    def post(self, request, webhook_id):
        require_fresh_session(request)
        found = find(_mine(request), pk=webhook_id)
        secret = webhooks.replace_secret(found, by=request.user, **body_of(request, SecretReplacement))
        found.refresh_from_db()
        found.secret = secret
        return Response(NewWebhookShown(found).data, status=201)


class WebhookTestView(ApiView):
    """An event that says nothing."""

    @endpoint("webhooks_test", "Send a test to a webhook.", answers=DeliveryShown, status=201)
    def post(self, request, webhook_id):
        sent = webhooks.send_test(find(_mine(request), pk=webhook_id), by=request.user)
        return Response(DeliveryShown(sent).data, status=201)


class DeliveriesView(ApiView):
    """What was sent to a webhook in the last 30 days, and what waits."""

    @endpoint(
        "webhooks_deliveries",
        "List what was sent to a webhook, with each attempt.",
        query=PageQuery,
        answers=page_of(DeliveryShown),
        reads=True,
    )
    def get(self, request, webhook_id):
        return page(request, _deliveries(find(_mine(request), pk=webhook_id)), DeliveryShown)


class ResendView(ApiView):
    """Something once more."""

    @endpoint("webhooks_resend", "Send something again to a webhook, under the same id.", answers=DeliveryShown)
    def post(self, request, webhook_id, delivery_id):
        found = find(_deliveries(find(_mine(request), pk=webhook_id)), pk=delivery_id)
        webhooks.resend(found, by=request.user)
        return Response(DeliveryShown(find(_deliveries(found.endpoint), pk=delivery_id)).data)


def _mine(request):
    return WebhookEndpoint.objects.filter(owner=request.user)


def _deliveries(of: WebhookEndpoint):
    return of.deliveries.with_log()
