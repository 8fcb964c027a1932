"""`manage.py replay CALL|EPOCH`: recompute who shaped answers and what that paid, and compare with what is stored."""

from __future__ import annotations

from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from attribution import bundles, explain, replay
from attribution.models import Epoch, Trace
from marketplace.models import Call, CallContent


class Command(BaseCommand):
    help = "Recompute scores, net factors and lines of a settled call or epoch; exit 1 if they differ from the stored ones."

    def add_arguments(self, parser) -> None:
        parser.add_argument(
            "target", type=UUID, help="id of a call or other charge, which is its receipt's, or of an epoch"
        )

    def handle(self, *args, target: UUID, **options) -> None:
        try:
            found = self._replayed(target)
        except (bundles.Damaged, FileNotFoundError) as problem:
            raise CommandError(f"Nothing can be recomputed: {problem}") from problem
        for sentence in found.differences:
            self.stderr.write(sentence)
        if found.expired:
            self.stdout.write(f"Content expired, stored lines stand: {len(found.expired)} charges.")
        self.stdout.write(
            f"Compared {found.scores} scores and {found.lines} lines; {found.one_off} scores are one unit off, as allowed."
        )
        if found.differences:
            raise CommandError(f"{len(found.differences)} differences; the receipt is authoritative.")
        self.stdout.write("Scores and lines are what is stored." if found.lines else "Nothing differs.")

    def _replayed(self, target: UUID) -> replay.Outcome:
        epoch = Epoch.objects.filter(pk=target).first()
        if epoch is not None:
            if epoch.status == Epoch.Status.CLOSED:
                raise CommandError(f"Epoch {target} is not planned yet: there is nothing to compare.")
            return replay.of_epoch(epoch)
        if not Call.objects.filter(pk=target).exists() and not Trace.objects.filter(pk=target).exists():
            raise CommandError(f"There is no call and no epoch {target}.")
        if explain.status_of(target) not in ("planned", "posted"):
            raise CommandError(f"Call {target} is not settled yet: there is nothing to compare.")
        content = CallContent.objects.filter(pk=target, sealed_key__isnull=False).first()
        if content is None:
            found = replay.of_charge(target)
            found.expired = [target] if Call.objects.filter(pk=target).exists() else []
            return found
        return replay.of_charge(target, sealed=bytes(content.sealed), sealed_key=bytes(content.sealed_key or b""))
