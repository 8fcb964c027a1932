"""Models that no Datanet shaped: an engine, versions without a training run, and the triggers that keep money from data."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "operator_models.sql"


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0003_told_once")]

    operations = [
        migrations.AlterField(
            model_name="listedmodel",
            name="engine",
            field=models.CharField(
                choices=[
                    ("linear", "Linear"),
                    ("neighbours", "Neighbours"),
                    ("retrieval", "Retrieval chat"),
                    ("connected", "Connected"),
                    ("embedding", "Embeddings"),
                ],
                max_length=12,
            ),
        ),
        migrations.AlterField(
            model_name="modelversion",
            name="training_run",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="model_version",
                to="marketplace.trainingrun",
            ),
        ),
        migrations.RunSQL(*SQL.read_text().split("\n-- reverse:\n")),
    ]
