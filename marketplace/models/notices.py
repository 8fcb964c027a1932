"""What people are told, and what is remembered: news, privileged acts, how far the demo has loaded."""

from __future__ import annotations

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
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "subject"], condition=~Q(subject=""), name="news_is_told_once"
            )
        ]
        indexes = [models.Index(fields=["user", "-created_at"], name="notification_inbox")]


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
