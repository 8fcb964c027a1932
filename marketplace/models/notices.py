"""What people are told, and what is remembered: news, privileged acts, how far the demo has loaded."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from .fields import USER


class Notification(models.Model):
    """One line in somebody's inbox."""

    user = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=40)
    params = models.JSONField(default=dict)
    url = models.CharField(max_length=300, blank=True)
    subject = models.CharField(max_length=120, blank=True)  # what was read to tell this: told once
    event_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    is_silent = models.BooleanField(default=False)  # for webhooks only: no inbox shows it
    wants_mail = models.BooleanField(default=False)  # until the letter is sent
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "subject"], condition=~Q(subject=""), name="news_is_told_once"
            )
        ]
        indexes = [
            models.Index(fields=["user", "-created_at"], name="notification_inbox"),
            models.Index(fields=["id"], condition=Q(wants_mail=True), name="notification_to_mail"),
            models.Index(fields=["created_at"], condition=Q(is_silent=True), name="notification_silent"),
        ]

    @property
    def message_id(self) -> str:
        """What webhooks call it: the same to every endpoint and at every attempt."""
        return f"msg_{self.event_id.hex}"


class AuditEvent(models.Model):
    """A privileged act: who, what, on what, when. Append-only (a trigger)."""

    actor = models.ForeignKey(USER, null=True, on_delete=models.PROTECT, related_name="+")
    act = models.CharField(max_length=60)
    target = models.CharField(max_length=120)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["-at"], name="audit_newest")]


class DemoProgress(models.Model):
    """How far the demo has loaded: one row per step, shown on the home page until all are done."""

    step = models.CharField(primary_key=True, max_length=60)
    position = models.PositiveSmallIntegerField()
    done_at = models.DateTimeField(null=True, blank=True)
    # Ids of what the step made, by names of its own: it goes on with these, and with nothing of anybody else.
    made = models.JSONField(default=dict, blank=True)
