"""`manage.py setup`: everything between an empty database and a site that can start. Repeating it changes nothing."""

from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from ledger import locks, privileges, sequencer
from ledger import services as ledger
from ledger.publication import check_not_behind_published
from marketplace import privileges as shop_privileges

# The browsable API is off: its files would only be compressed and never served.
UNUSED_STATIC = ["rest_framework", "admin"]
#: Without one of them PostgreSQL forgets commits, or a torn page, after a crash.
KEPT_ON = ["fsync", "full_page_writes", "synchronous_commit"]


class Command(BaseCommand):
    help = "Migrate as the owner's role, grant the other roles their rights, check the log, collect static files."

    def handle(self, *args, **options):
        refuse_a_forgetful_server()
        call_command("migrate", interactive=False, verbosity=0)
        grant_rights()
        refuse_an_old_copy()
        call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=UNUSED_STATIC)
        if settings.SEQUENCER_DB_ROLE == settings.APP_DB_ROLE:
            self.stdout.write(
                f"The sequencer shares the role {settings.APP_DB_ROLE} with web, gateway and workers: whoever takes one of "
                "them over can call what appends to the log. DATABASE_SEQUENCER_URL gives it a role of its own."
            )
        self.stdout.write("The database and the static files are ready.")


def refuse_a_forgetful_server() -> None:
    """Stop on a server that may lose what it confirmed: a charge, or a signed head. Raises CommandError."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings WHERE name = ANY (%s) AND setting = 'off' ORDER BY name", [KEPT_ON]
        )
        off = [name for (name,) in cursor.fetchall()]
    if off:
        raise CommandError(
            f"PostgreSQL would lose confirmed payments after a crash: {', '.join(off)} is off. Turn it on in its settings."
        )


def grant_rights() -> None:
    """Give the roles that run what each needs. Raises CommandError if one does not exist."""
    roles = {settings.APP_DB_ROLE, settings.SEQUENCER_DB_ROLE}
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [list(roles)])
        missing = roles - {name for (name,) in cursor.fetchall()}
    if missing:
        raise CommandError(
            f"The database has no role {', '.join(sorted(missing))}. Create it as deploy/initdb/10-roles.sh does."
        )
    shop_privileges.apply(connection, role=settings.APP_DB_ROLE)
    if settings.SEQUENCER_DB_ROLE != settings.APP_DB_ROLE:
        shop_privileges.apply_to_sequencer(connection, role=settings.SEQUENCER_DB_ROLE)
    privileges.apply(settings.APP_DB_ROLE, sequencer_role=settings.SEQUENCER_DB_ROLE)


def refuse_an_old_copy() -> None:
    """Stop before anything is sold on a database from before the last witnessed head. Raises CommandError.

    A running sequencer has asked the witnesses itself, and moves the head while we would.
    """
    with locks.only_one("sequencer") as mine:
        if mine:
            try:
                if settings.WITNESSES:
                    sequencer.check_not_behind_witness()
                check_not_behind_published(Path(settings.LOG_DIR))
            except ledger.BehindWitness as old:
                raise CommandError(f"The site does not start. {old}") from old
