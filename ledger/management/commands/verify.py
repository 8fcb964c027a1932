"""manage.py verify: check every invariant of every app, and name the first wrong row."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger import keys, log, sequencer, verify
from ledger.errors import BehindWitness
from ledger.publication import check_not_behind_published


class Command(BaseCommand):
    help = "Recompute the invariants of the books, the log and the settlements; exit 1 if one is broken."

    def handle(self, *args, **options) -> None:
        started, found = monotonic(), []
        for name in settings.VERIFY_MODULES:
            if find_spec(name) is None:
                self.stdout.write(f"{name}: not there, skipped")
                continue
            module = import_module(name)
            failed = list(module.failures())
            if module is verify:
                failed += verify.check_signatures(keys.log_vkeys())
                failed += verify.check_cosignatures(keys.witness_vkeys())
                failed += _remembered_elsewhere()
            broken = {failure.invariant for failure in failed}
            for invariant in sorted({*getattr(module, "INVARIANTS", ()), *broken}, key=lambda name: (len(name), name)):
                self.stdout.write(f"{name}: {invariant} {'BROKEN' if invariant in broken else 'holds'}")
            found += failed
        for failure in found:
            self.stderr.write(f"{failure.invariant} {failure.row}: {failure.sentence}")
        if found:
            first = found[0]
            raise CommandError(f"{len(found)} wrong rows; the first: {first.invariant} {first.row}: {first.sentence}")
        self.stdout.write(f"Everything adds up ({monotonic() - started:.1f} s).")


def _remembered_elsewhere() -> list[verify.Failure]:
    """Compare the log with the head that was published and those that the witnesses saw: books can be cut off or made anew
    so that they agree with themselves."""
    for _ in range(5):
        size = log.head(quorum=False).size
        try:
            check_not_behind_published(Path(settings.LOG_DIR))
            if settings.WITNESSES:
                sequencer.check_not_behind_witness()
            return []
        except BehindWitness as behind:
            # A sequencer that is at work moves the head while we ask: then what was refused is an older one.
            if log.head(quorum=False).size == size:
                return [verify.Failure("I9", f"head {size}", str(behind))]
    return []
