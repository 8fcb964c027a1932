"""`manage.py demo --first | --rest`: load the demo into a running site."""

from __future__ import annotations

import time

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from demo import loader, progress, tasks

STEP_LIMIT_S = 300


class Command(BaseCommand):
    help = "Load the demo: --first what `up` needs to say ready, --rest the remainder, as Celery work."

    def add_arguments(self, parser):
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--first", action="store_true")
        which.add_argument("--rest", action="store_true")

    def handle(self, *args, first: bool, **options):
        if not settings.DEMO_STATE:
            raise CommandError("The demo is for a demo state only (DEMO_STATE=1).")
        progress.begin(loader.STEPS)
        if not first:
            tasks.load_demo.delay()
            return
        first_start = progress.next_of(loader.FIRST) is not None
        while step := progress.next_of(loader.FIRST):
            self._finish(step)
        loader.tell(first_start=first_start)

    def _finish(self, step: str) -> None:
        self.stdout.write(f"demo: {step}")
        limit = time.monotonic() + STEP_LIMIT_S
        while not loader.ring(step):
            if time.monotonic() > limit:
                raise CommandError(
                    f"The demo's step '{step}' did not finish in {STEP_LIMIT_S} s. See the worker's log."
                )
            time.sleep(0.2)
