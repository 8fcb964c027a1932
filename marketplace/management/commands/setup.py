"""`manage.py setup`: everything between an empty database and a site that can start. Repeating it changes nothing."""

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection

from ledger import privileges
from marketplace import privileges as shop_privileges

# The browsable API is off: its files would only be compressed and never served.
UNUSED_STATIC = ["rest_framework", "admin"]


class Command(BaseCommand):
    help = "Migrate as the owner's role, grant the application's role its rights, collect static files."

    def handle(self, *args, **options):
        call_command("migrate", interactive=False, verbosity=0)
        shop_privileges.apply(connection, role=settings.APP_DB_ROLE)
        privileges.apply(settings.APP_DB_ROLE)
        call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=UNUSED_STATIC)
        self.stdout.write("The database and the static files are ready.")
