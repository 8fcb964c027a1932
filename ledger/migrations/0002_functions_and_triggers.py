"""The hand-written SQL: `ledger/sql/*.sql`, each with its reverse after the line `-- reverse:`."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


def run(name):
    forward, reverse = (SQL / f"{name}.sql").read_text().split("\n-- reverse:\n")
    return migrations.RunSQL(forward, reverse)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_books")]

    operations = [
        run(name) for name in ("chart", "checks", "post", "hold", "fold", "lots", "log", "outbox", "append_only")
    ]
