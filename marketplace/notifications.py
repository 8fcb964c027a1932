"""What people are told. The sentence of a kind is made by the page, in the reader's language."""

from __future__ import annotations

from django.utils import timezone

from accounts.models import User

from .models import Notification


def notify(user: User, kind: str, *, url: str = "", **params) -> Notification:
    """Put one line into somebody's inbox."""
    return Notification.objects.create(user=user, kind=kind, url=url, params=params)


def mark_read(user: User) -> int:
    """Mark everything in an inbox as read; returns how many lines that were."""
    return Notification.objects.filter(user=user, read_at__isnull=True).update(read_at=timezone.now())
