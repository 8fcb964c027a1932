"""manage.py verify: check every invariant of every app, and name the first wrong row."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from time import monotonic

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger import keys, verify


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
