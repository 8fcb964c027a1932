"""Which steps of the demo are done, and what they made.

People use the demo's accounts and Datanets while it loads and ever after. So a step that is done is never run again, and
a step goes on with what the demo made, found by its id: neither with all there is, nor with whatever has the same title.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from marketplace.models import DemoProgress


def begin(steps: Iterable[str]) -> None:
    """Write the steps down, in their order. Repeating changes nothing."""
    for position, step in enumerate(steps):
        DemoProgress.objects.get_or_create(step=step, defaults={"position": position})


def is_done(step: str) -> bool:
    return DemoProgress.objects.filter(step=step, done_at__isnull=False).exists()


def mark_done(step: str) -> None:
    DemoProgress.objects.filter(step=step, done_at__isnull=True).update(done_at=timezone.now())


def next_of(steps: Iterable[str]) -> str | None:
    """The first of these steps that is not done."""
    waiting = DemoProgress.objects.filter(step__in=list(steps), done_at__isnull=True).order_by("position").first()
    return waiting.step if waiting else None


def made(step: str) -> dict[str, str]:
    """Ids of what a step has made so far, by the name that the step gave them."""
    return DemoProgress.objects.get(step=step).made


@transaction.atomic
def remember(step: str, name: str, made_id: object) -> None:
    """Store what was made; in the transaction that makes it, nothing is ever made twice."""
    row = DemoProgress.objects.select_for_update().get(step=step)
    row.made[name] = str(made_id)
    row.save(update_fields=["made"])
