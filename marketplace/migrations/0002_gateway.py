"""The hand-written SQL of the shop and its gateway: `marketplace/sql/*.sql`, each with its reverse after the line `-- reverse:`."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


def run(name):
    forward, reverse = (SQL / f"{name}.sql").read_text().split("\n-- reverse:\n")
    return migrations.RunSQL(forward, reverse)


class Migration(migrations.Migration):
    dependencies = [
        ("marketplace", "0001_initial"),
        ("attribution", "0005_score_cards"),
        ("datanets", "0002_reviews_are_true_and_versions_immutable"),
        ("ledger", "0002_functions_and_triggers"),
    ]

    operations = [run("catalogue"), run("limits"), run("capture"), run("immutable")]
