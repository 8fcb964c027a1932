"""`manage.py replay CALL`: recompute who shaped an answer and what that paid, and compare with what is stored."""

from __future__ import annotations

from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from attribution import explain, replay
from marketplace.models import Call, CallContent


class Command(BaseCommand):
    help = "Recompute a settled call's scores and lines; exit 1 if they differ from the stored ones."

    def add_arguments(self, parser) -> None:
        parser.add_argument("call", type=UUID, help="the call's id, which is its receipt's")

    def handle(self, *args, call: UUID, **options) -> None:
        if not Call.objects.filter(pk=call).exists():
            raise CommandError(f"There is no call {call}.")
        if explain.status_of(call) not in ("planned", "posted"):
            raise CommandError(f"Call {call} is not settled yet: there is nothing to compare.")
        content = CallContent.objects.filter(pk=call, sealed_key__isnull=False).first()
        if content is None:
            self.stdout.write("Content expired, stored lines stand: nothing was recomputed.")
            return
        found = replay.differences(call, sealed=bytes(content.sealed), sealed_key=bytes(content.sealed_key or b""))
        for sentence in found:
            self.stderr.write(sentence)
        if found:
            raise CommandError(f"{len(found)} differences; the receipt is authoritative.")
        self.stdout.write("Scores and lines are what is stored.")
