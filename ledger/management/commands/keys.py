"""manage.py keys init | list | rotate | retire: the log's keys, and the public keys a verifier pins."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger import keys


class Command(BaseCommand):
    help = (
        "Make the log's key (init), print the public keys (list), put a new key beside the old one and announce it in the "
        "log (rotate), or forget the old one once witnesses and readers know the new one (retire)."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("act", choices=["init", "list", "rotate", "retire"])

    def handle(self, *args, act: str, **options) -> None:
        if act == "init" and keys.make_log_key():
            self.stderr.write(f"Made {settings.LOG_KEY_FILE}. Keep a copy where nobody else can read it.")
        elif act == "rotate":
            keys.rotate()
            self.stderr.write(
                f"Both keys sign from now on. Keep a copy of {settings.LOG_KEY_FILE}, start every witness with both public "
                "keys, tell readers the new one, and then run: manage.py keys retire"
            )
        elif act == "retire":
            try:
                retired = keys.retire()
            except keys.RotationUnfinished as reason:
                raise CommandError(f"The old key is still needed: {reason}.") from reason
            self.stderr.write(f"{retired} signs no more. Receipts made before still verify by it.")
        newest, *former = keys.log_vkeys()
        self.stdout.write(f"log     {newest}")
        for vkey in former:
            self.stdout.write(f"former  {vkey}")
        for vkey in keys.witness_vkeys():
            self.stdout.write(f"witness {vkey}")
