"""The tables of score cards: what was measured of a model version, and the parts it is measured in. Rules: `cards.py`."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ScoreCard(models.Model):
    """How well the scores of a model version were measured to be. Measured again, it has another row; the last done one is
    in force for the epochs that close after it. A done one never changes (trigger).
    """

    class Status(models.TextChoices):
        MEASURING = "measuring", _("Being measured")
        DONE = "done", _("Measured")

    id = models.BigAutoField(primary_key=True)
    model_id = models.UUIDField()
    model_version_id = models.UUIDField()
    artifact = models.ForeignKey("attribution.Artifact", on_delete=models.PROTECT, related_name="score_cards")
    number = models.PositiveIntegerField()
    seed = models.BigIntegerField()
    settings = models.JSONField()  # floors, retrainings, standard error: as they were when it was asked for
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.MEASURING)
    figures = models.JSONField(default=dict)  # name -> value, standard_error, ... or why there is none (cardwords.py)
    below = models.JSONField(default=list)  # names of the figures below their floor
    cpu_ms = models.BigIntegerField(default=0)
    wall_ms = models.BigIntegerField(default=0)
    asked_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField(default=timezone.now)  # not begun before
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model_version_id", "number"], name="score_card_number_is_unique"),
            models.UniqueConstraint(
                fields=["model_version_id"], condition=Q(status="measuring"), name="version_is_measured_once_at_a_time"
            ),
            models.CheckConstraint(
                name="done_score_card_has_figures",
                condition=Q(status="measuring", done_at__isnull=True)
                | (Q(status="done", done_at__isnull=False) & ~Q(figures={})),
            ),
        ]
        indexes = [models.Index(fields=["model_id", "-number"], name="score_card_by_model")]


class ScoreCardPart(models.Model):
    """A piece of a score card that one worker measures: what is done stays done, whoever is killed."""

    id = models.BigAutoField(primary_key=True)
    card = models.ForeignKey(ScoreCard, on_delete=models.CASCADE, related_name="parts")
    name = models.CharField(max_length=20)
    number = models.PositiveIntegerField()
    result = models.BinaryField(null=True, blank=True)  # float64, one after the other
    error = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    rung_at = models.DateTimeField(default=timezone.now)
    cpu_ms = models.PositiveIntegerField(default=0)
    wall_ms = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["card", "name", "number"], name="score_card_part_is_measured_once")
        ]
