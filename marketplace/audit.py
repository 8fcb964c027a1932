"""The memory of privileged acts."""

from __future__ import annotations

from collections.abc import Mapping

from accounts.models import User

from .models import AuditEvent

# Settings that are a choice or a number; of any other only that it changed is remembered.
_CHOICES = {
    *("access", "approvals_needed", "preview_rows", "export_allowed", "kind", "language", "licence"),
    *("access_mode", "pass_price_nano", "pass_days", "free_calls_per_day", "split_rule_id"),
}


def record(actor: User | None, act: str, target: str, **detail) -> AuditEvent:
    """Write down who did what to what. Call it in the transaction of the act: both stand or neither.

    detail: Ids, amounts, codes and names of fields. Never what somebody wrote, nor a handle: nothing here can be erased.
    """
    return AuditEvent.objects.create(actor=actor, act=act, target=target, detail=detail)


def changes(fields: Mapping[str, object]) -> dict[str, str]:
    """What became of changed settings, as details: the new value of a choice or a number, of a text that it changed."""
    return {name: str(value) if name in _CHOICES else "(changed)" for name, value in fields.items()}
