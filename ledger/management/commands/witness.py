"""manage.py witness: `python -m ledger.witness` with this site's own log, when no other is named."""

from __future__ import annotations

from argparse import Namespace

from django.core.management.base import BaseCommand, CommandError

from ledger import keys, witness


class Command(BaseCommand):
    help = (
        "Run a witness: a server that cosigns a head of the log over HTTP only if it extends the last one it cosigned. It "
        "needs no database, and belongs on another host, under somebody else."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser) -> None:
        witness.add_arguments(parser)

    def handle(self, *args, **options) -> None:
        given = Namespace(**options)
        if not given.print_vkey and not given.log_vkey:
            given.log_vkey = keys.log_vkeys()
        try:
            witness.run(given)
        except ValueError as error:
            raise CommandError(str(error)) from error
