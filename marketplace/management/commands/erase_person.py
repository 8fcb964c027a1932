"""`manage.py erase_person HANDLE`: what a person may do in their settings, done for one who cannot sign in any more."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from marketplace import erasure
from marketplace.errors import NotReady


class Command(BaseCommand):
    help = "Close a person's account and erase what they gave, wrote, asked and were answered."

    def add_arguments(self, parser) -> None:
        parser.add_argument("handle", help="the handle, or of a closed account closed-...")

    def handle(self, *args, handle: str, **options) -> None:
        user = User.objects.filter(username=handle).first()
        if user is None:
            raise CommandError(f"Nobody has the handle {handle}.")
        try:
            erased = erasure.erase_person(user)
        except NotReady as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"{erased.username} is erased.")
