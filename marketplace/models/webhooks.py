"""Where news go besides the inbox: endpoints of programs, what is on its way to them, and every attempt."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER
from .notices import Notification

URL_CHARS_MAX = 500
ANSWER_CHARS_MAX = 200


class WebhookEndpoint(models.Model):
    """An address that is told of somebody's news. Its secrets are sealed: they sign, and are shown once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=URL_CHARS_MAX)
    events = ArrayField(models.CharField(max_length=40), default=list, blank=True)  # empty: all, also those to come
    secret_token = models.CharField(max_length=300)
    old_secret_token = models.CharField(max_length=300, blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    gave_up = models.BooleanField(default=False)  # it was paused by the site, after days without an answer
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="old_webhook_secret_has_an_end",
                condition=Q(old_secret_token="", old_secret_until=None)
                | (~Q(old_secret_token="") & Q(old_secret_until__isnull=False)),
            ),
            models.CheckConstraint(
                name="webhook_that_gave_up_is_paused", condition=Q(gave_up=False) | Q(paused_at__isnull=False)
            ),
        ]


class WebhookDeliveryQuerySet(QuerySet["WebhookDelivery"]):
    def waiting(self) -> WebhookDeliveryQuerySet:
        return self.filter(status=WebhookDelivery.Status.WAITING)

    def with_log(self) -> WebhookDeliveryQuerySet:
        """With what was told, to whom, and the attempts in their order."""
        attempts = models.Prefetch("log", queryset=WebhookAttempt.objects.order_by("number"))
        return self.select_related("notice", "endpoint").prefetch_related(attempts)


class WebhookDelivery(models.Model):
    """One piece of news on its way to one endpoint: written with the news, sent until it is answered."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    notice = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.WAITING)
    attempts = models.PositiveIntegerField(default=0)  # begun; one without a row in the log was cut short
    failures = models.PositiveIntegerField(default=0)  # since it was last put in line
    created_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)  # of a claimed one: when its worker counts as dead
    give_up_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "notice"], name="news_goes_to_an_endpoint_once"),
            models.CheckConstraint(
                name="webhook_delivery_is_where_it_says",
                condition=Q(status="waiting", ended_at=None)
                | (Q(status__in=["delivered", "failed"]) & Q(ended_at__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "due_at"], condition=Q(status="waiting"), name="webhook_delivery_due"),
            models.Index(fields=["endpoint", "-created_at"], name="webhook_delivery_log"),
            models.Index(fields=["ended_at"], name="webhook_delivery_age"),
        ]


class WebhookAttempt(models.Model):
    """What became of one sending. Of the answer only the beginning is kept."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="log")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    duration_ms = models.PositiveIntegerField()
    status_code = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.CharField(max_length=20, blank=True)  # why there is no answer
    answer = models.CharField(max_length=ANSWER_CHARS_MAX, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["delivery", "number"], name="webhook_attempt_is_logged_once"),
            models.CheckConstraint(
                name="webhook_attempt_has_an_answer_or_an_error",
                condition=Q(status_code__isnull=False, error="") | (Q(status_code=None) & ~Q(error="")),
            ),
        ]
