"""What is forgotten in time: content of calls, used idempotency keys. Losing a round costs nothing; the next one does it."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import User

from . import erasure
from .models import CallContent, Idempotency

# A withdrawal of the last moment gets its leaf within a second, or after days without a sequencer.
ERASURES_ARE_FINISHED_FOR = timedelta(days=30)


def forget_call_content() -> int:
    """Erase the content of calls whose time is over, by deleting its key; the row says that there was one. Returns how many."""
    due = CallContent.objects.filter(expires_at__lt=timezone.now(), sealed_key__isnull=False)
    return due.update(sealed_key=None, sealed=b"")


def forget_idempotency_keys() -> int:
    """Free the Idempotency-Keys that are older than IDEMPOTENCY_KEPT_S. Returns how many."""
    limit = timezone.now() - timedelta(seconds=settings.IDEMPOTENCY_KEPT_S)
    return Idempotency.objects.filter(created_at__lt=limit).delete()[0]


def finish_erasures() -> int:
    """Forget what the entries of people erased lately commit to, where it had no leaf yet. Returns how many entries."""
    lately = User.objects.filter(erased_at__gte=timezone.now() - ERASURES_ARE_FINISHED_FOR)
    return sum(erasure.forget_openings(user) for user in lately)
