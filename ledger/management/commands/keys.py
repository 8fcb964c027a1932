"""manage.py keys init | list: the log's key, and the public keys a verifier pins."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand

from ledger import keys


class Command(BaseCommand):
    help = "Make the log's key (init), or print the public keys (list)."

    def add_arguments(self, parser) -> None:
        parser.add_argument("act", choices=["init", "list"])

    def handle(self, *args, act: str, **options) -> None:
        if act == "init" and keys.make_log_key():
            self.stderr.write(f"Made {settings.LOG_KEY_FILE}. Keep a copy where nobody else can read it.")
        self.stdout.write(f"log     {keys.log_vkey()}")
        for vkey in keys.witness_vkeys():
            self.stdout.write(f"witness {vkey}")
