"""Planted submissions, whose right decision is known before a curator sees them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from datanets.models.datanets import Datanet
from datanets.models.records import Record
from datanets.models.reviews import Review
from datanets.models.submissions import Submission

USER = settings.AUTH_USER_MODEL


class GoldShare(models.Model):
    """How many of a Datanet's submissions may be planted ones; its owner alone reads it. No row: none."""

    datanet = models.OneToOneField(Datanet, primary_key=True, on_delete=models.PROTECT, related_name="gold_share")
    percent = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(name="gold_share_is_at_most_a_tenth", condition=Q(percent__range=(0, 10)))
        ]


class GoldItem(models.Model):
    """A file with a known right decision: in stock -> planted (a submission like any other) -> revealed; or retired.

    What is planted are records with `is_gold`: a check keeps them out of every version, and they are found by no search
    for copies. Nothing that a curator reads looks here before it is revealed.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="gold_items")
    decision = models.CharField(max_length=8, choices=Review.Decision.choices)
    reason = models.CharField(max_length=20, choices=Review.Reason.choices, blank=True)
    # made from this record; null: uploaded
    source = models.ForeignKey(Record, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    title = models.CharField(max_length=160, blank=True)  # of the submission
    file_name = models.CharField(max_length=255)
    storage_key = models.CharField(max_length=120, blank=True, db_index=True)  # empty once retired
    record_count = models.PositiveIntegerField()
    added_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    added_at = models.DateTimeField(default=timezone.now)
    submission = models.OneToOneField(Submission, null=True, blank=True, on_delete=models.PROTECT, related_name="gold")
    planted_at = models.DateTimeField(null=True, blank=True)
    revealed_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="gold_item_says_why_it_is_rejected",
                condition=Q(decision="approve", reason="") | (Q(decision="reject") & ~Q(reason="")),
            ),
            models.CheckConstraint(
                name="gold_item_is_planted_before_it_is_revealed",
                condition=Q(submission__isnull=True, planted_at__isnull=True, revealed_at__isnull=True)
                | Q(submission__isnull=False, planted_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["datanet", "-added_at"], name="gold_items_newest"),
            models.Index(fields=["datanet", "revealed_at"], name="gold_items_revealed"),
        ]

    @property
    def state(self) -> str:
        """stock, planted, revealed or retired."""
        if self.retired_at is not None:
            return "retired"
        if self.revealed_at is not None:
            return "revealed"
        return "stock" if self.submission_id is None else "planted"
