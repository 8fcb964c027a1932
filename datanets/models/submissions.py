"""What contributors send: submissions, their files, and the rows that did not fit."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from datanets.models.datanets import Datanet

USER = settings.AUTH_USER_MODEL


class Submission(models.Model):
    """What a contributor sends at once: one or more files, checked and reviewed together."""

    class Status(models.TextChoices):
        RECEIVING = "receiving", _("Receiving")
        CHECKING = "checking", _("Checking")
        NEEDS_AUTHOR = "needs_author", _("Needs you")
        IN_REVIEW = "in_review", _("In review")
        DECIDED = "decided", _("Decided")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="submissions")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="submissions")
    title = models.CharField(max_length=160, blank=True)
    description = models.TextField(blank=True)
    source_url = models.URLField(max_length=500, blank=True)
    rights_signed_at = models.DateTimeField(null=True, blank=True)
    rights_statement_sha256 = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.RECEIVING)
    # why it is in this state, as (code, parameters): the page builds the sentence and says what to do next
    status_code = models.CharField(max_length=40, blank=True)
    status_params = models.JSONField(default=dict, blank=True)
    status_at = models.DateTimeField(default=timezone.now)
    revision_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="revisions")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="submission_is_reviewed_only_with_rights_signed",
                condition=~Q(status__in=["in_review", "decided"]) | Q(rights_signed_at__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["datanet", "status", "sent_at"], name="submission_queue")]


class SubmissionFile(models.Model):
    """One file of a submission. A broken file never cancels the others."""

    class Status(models.TextChoices):
        UPLOADING = "uploading", _("Uploading")
        WAITING = "waiting", _("Waiting")
        CHECKING = "checking", _("Checking")
        READY = "ready", _("Ready")
        NEEDS_AUTHOR = "needs_author", _("Needs you")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField()
    received_bytes = models.BigIntegerField(default=0)
    declared_sha256 = models.CharField(max_length=64, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    # while uploading: the storage keys of what has arrived, in order; then one original under storage_key
    parts = models.JSONField(default=list, blank=True)
    storage_key = models.CharField(max_length=120, blank=True, db_index=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.UPLOADING)
    error_code = models.CharField(max_length=40, blank=True)
    error_params = models.JSONField(default=dict, blank=True)
    records_ok = models.PositiveIntegerField(default=0)
    rows_broken = models.PositiveIntegerField(default=0)
    # all its rows are records or broken rows: a check that was killed goes on after this point
    parsed_at = models.DateTimeField(null=True, blank=True)
    # checks begun and not ended: one that kills its worker, or always breaks, is given up in the end
    attempts = models.PositiveSmallIntegerField(default=0)
    dropped_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="file_receives_no_more_than_declared",
                condition=Q(received_bytes__gte=0, received_bytes__lte=F("size_bytes")),
            )
        ]


class BrokenRowQuerySet(models.QuerySet):
    def still_broken(self) -> BrokenRowQuerySet:
        """Neither corrected nor dropped yet."""
        return self.filter(fixed_at__isnull=True, dropped_at__isnull=True)

    def awaiting_author(self) -> BrokenRowQuerySet:
        """Still broken, in a file that has been checked to its end: before that its rows are nobody's to correct."""
        needy = SubmissionFile.objects.filter(status=SubmissionFile.Status.NEEDS_AUTHOR, dropped_at__isnull=True)
        return self.still_broken().filter(file__in=needy)


class BrokenRow(models.Model):
    """A row that did not fit the schema. Its author corrects it on the page; the others go on without it."""

    file = models.ForeignKey(SubmissionFile, on_delete=models.CASCADE, related_name="broken_rows")
    line = models.PositiveIntegerField()  # 0: a member without lines (a document or picture of an archive)
    name = models.CharField(max_length=255, blank=True)  # of the member, inside an archive
    column = models.CharField(max_length=120, blank=True)
    code = models.CharField(max_length=40)
    params = models.JSONField(default=dict, blank=True)
    values = models.JSONField(default=dict, blank=True)
    record = models.ForeignKey("datanets.Record", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    fixed_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)

    objects = BrokenRowQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["file", "line"], name="broken_row_by_line")]
