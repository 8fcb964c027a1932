"""manage.py tiles: compare the public log's files with the books, and write those that are missing."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger.errors import OutOfStep
from ledger.publication import Publication


class Command(BaseCommand):
    help = "Compare every file of the public log with the books and write what is missing; exit 1 if one is wrong."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--rewrite", action="store_true", help="Replace wrong files. Keep a copy of them first.")

    def handle(self, *args, rewrite: bool, **options) -> None:
        publication = Publication(Path(settings.LOG_DIR))
        try:
            wrong = publication.wrong()
            for name in wrong:
                self.stderr.write(f"{name} says something else than the books")
            if wrong and not rewrite:
                raise CommandError(f"{len(wrong)} wrong files in {settings.LOG_DIR}: keep a copy, then use --rewrite.")
            if rewrite:
                publication.rewrite(wrong)
            written = publication.complete()
        except OutOfStep as error:
            raise CommandError(f"The files in {settings.LOG_DIR}: {error}") from error
        self.stdout.write(f"The files of the public log are complete; {written} were written.")
