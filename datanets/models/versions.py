"""Frozen versions of a Datanet, and which of their records are copies."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from datanets.models.datanets import Datanet
from datanets.models.records import Record

USER = settings.AUTH_USER_MODEL


class Version(models.Model):
    """A frozen, hashed set of approved records and its leader map. Immutable."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    root = models.CharField(max_length=64)  # Merkle root over record identities and the leader map, hex
    leader_map_sha256 = models.CharField(max_length=64)
    record_count = models.PositiveIntegerField()
    leader_count = models.PositiveIntegerField()
    added_count = models.PositiveIntegerField()
    removed_count = models.PositiveIntegerField()
    licences = models.JSONField(default=dict)
    statistics = models.JSONField(default=dict)  # over all rows; equal to pandas on the Parquet export
    note = models.TextField(blank=True)
    manifest_key = models.CharField(max_length=120)
    created_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datanet", "number"], name="version_number_is_unique")]

    @property
    def label(self) -> str:
        return f"v{self.number}"


class VersionFollower(models.Model):
    """The leader map of a version: this record is a copy, and that one stands for both."""

    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="followers")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="+")
    leader = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "record"], name="record_follows_once_per_version"),
            models.CheckConstraint(name="no_record_follows_itself", condition=~Q(record=F("leader"))),
        ]
