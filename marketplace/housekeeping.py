"""What is forgotten in time: content of calls, used idempotency keys. Losing a round costs nothing; the next one does it."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from accounts.models import User
from attribution.models import Trace
from datanets import versions

from . import erasure
from .models import Call, CallContent, Idempotency

# A withdrawal of the last moment gets its leaf within a second, or after days without a sequencer; a window takes a week.
ERASURES_ARE_FINISHED_FOR = timedelta(days=30)


def forget_call_content() -> int:
    """Erase the content of calls whose time is over, by deleting its key; the row says that there was one. Returns how many.

    None is erased before its call is attributed, however late that is; the copy that waited in the outbox went with it.
    """
    # Where neither part is anything, as of an operator's model, nothing is attributed.
    charged = Call.objects.filter(pk=OuterRef("call_id")).filter(Q(data_nano__gt=0) | Q(curation_nano__gt=0))
    traced = Trace.objects.filter(charge_id=OuterRef("call_id"))
    due = CallContent.objects.filter(expires_at__lt=timezone.now(), sealed_key__isnull=False)
    return due.filter(~Exists(charged) | Exists(traced)).update(sealed_key=None, sealed=b"")


def forget_idempotency_keys() -> int:
    """Free the Idempotency-Keys that are older than IDEMPOTENCY_KEPT_S. Returns how many."""
    limit = timezone.now() - timedelta(seconds=settings.IDEMPOTENCY_KEPT_S)
    return Idempotency.objects.filter(created_at__lt=limit).delete()[0]


def finish_erasures() -> int:
    """Forget of people erased lately what had to wait. Returns how many people these are.

    And make the statistics of versions anew that told of their rows.
    """
    lately = User.objects.filter(erased_at__gte=timezone.now() - ERASURES_ARE_FINISHED_FOR)
    for user in lately:
        erasure.forget_what_is_over(user)
    versions.describe_again()
    return len(lately)
