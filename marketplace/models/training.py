"""Training runs, and the versions of a model that come of them."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from datanets.models import Version

from .fields import USER, amount
from .listings import ListedModel, SplitRule


class TrainingRun(models.Model):
    """Binding an engine to frozen versions. The fee is held, and charged once the artifact is stored; a failure releases it."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="training_runs")
    requested_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="training_runs")
    versions = models.ManyToManyField("datanets.Version", related_name="training_runs")
    settings = models.JSONField(default=dict)
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    fee_nano = amount()
    hold_id = models.UUIDField(null=True, blank=True)
    posting_id = models.UUIDField(unique=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    error_code = models.CharField(max_length=40, blank=True)
    error_params = models.JSONField(default=dict, blank=True)  # of the sentence that the code becomes when it is read
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)


class ModelVersion(models.Model):
    """What answers: `owner/slug@vN` is this artifact for ever. What was tested is what is served (same hash)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    artifact_sha256 = models.CharField(max_length=64)
    training_run = models.OneToOneField(  # null: of an operator model (a trigger)
        TrainingRun, null=True, blank=True, on_delete=models.PROTECT, related_name="model_version"
    )
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="model_version_number_is_unique")]

    @property
    def path(self) -> str:
        return f"{self.model.path}@v{self.number}"

    @property
    def learned_from(self) -> list[Version]:
        """The frozen Datanet versions behind it; none of an operator model."""
        return [] if self.training_run is None else list(self.training_run.versions.all())
