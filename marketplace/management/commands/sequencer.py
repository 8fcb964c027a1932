"""`manage.py sequencer`: the one loop that orders the books and does every timed money act.

It takes one advisory lock, so a second one waits and takes over when the first dies. Due times are columns: a missed hour
is caught up. Nothing here waits for Celery or Redis.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, connection

from attribution import settlement
from ledger import locks, sequencer
from ledger.publication import Publication, check_not_behind_published
from marketplace import reaping

logger = logging.getLogger("ledger.sequencer")

IDLE_S = 0.05
STANDBY_S = 1.0
DATABASE_AWAY_S = 0.5
REPORT_S = 60.0
_reaper = reaping.Reaper()


class Command(BaseCommand):
    help = "Fold, log, sign, publish, relay, vest, expire; release what the dead hold; close and post epochs."

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="One round, then stop (for tests and repairs).")

    def handle(self, *args, once: bool = False, **options):
        self.stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self.stopping:
            try:
                with locks.only_one("sequencer") as mine:
                    if not mine:
                        if once:
                            self.stderr.write("Another sequencer is at work: nothing was done.")
                            return
                        self._rest(STANDBY_S)
                        continue
                    # Under the lock: another one that is at work moves the head while we ask.
                    sequencer.check_not_behind_witness()
                    check_not_behind_published(Path(settings.LOG_DIR))
                    self._work(once=once)
            except (OperationalError, InterfaceError):
                # Postgres restarts: every step is one transaction, so the next round goes on where it stood.
                logger.warning("the database is away; trying again")
                connection.close()
                self._rest(DATABASE_AWAY_S)
            if once:
                return

    def _work(self, *, once: bool) -> None:
        report_at = time.monotonic() + REPORT_S
        publication = Publication(Path(settings.LOG_DIR))
        while not self.stopping:
            done = one_round() + publication.step()
            if time.monotonic() >= report_at:
                sequencer.report_late()
                report_at = time.monotonic() + REPORT_S
            if once:
                return
            if not done:
                self._rest(IDLE_S)

    def _rest(self, seconds: float) -> None:
        time.sleep(seconds)

    def _stop(self, *_signal) -> None:
        self.stopping = True


def one_round() -> int:
    """Every step once, in the order in which they feed each other. Returns how much was done."""
    done = sum(sequencer.step().values())
    done += _reaper.reap()
    done += settlement.close_due()
    done += settlement.post_planned()
    return done
