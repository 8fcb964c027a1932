"""The memory of privileged acts."""

from __future__ import annotations

from accounts.models import User

from .models import AuditEvent


def record(actor: User | None, act: str, target: str, **detail) -> AuditEvent:
    """Write down who did what to what. Call it in the transaction of the act: both stand or neither."""
    return AuditEvent.objects.create(actor=actor, act=act, target=target, detail=detail)
