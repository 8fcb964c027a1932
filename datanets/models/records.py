"""Records, their content, and what the checks found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from datanets.models.datanets import Datanet
from datanets.models.submissions import Submission, SubmissionFile

if TYPE_CHECKING:
    from datanets.models.versions import Version

USER = settings.AUTH_USER_MODEL


class RecordQuerySet(models.QuerySet):
    def awaiting_review(self) -> RecordQuerySet:
        return self.filter(status=Record.Status.WAITING)

    def in_version(self, version: Version) -> RecordQuerySet:
        """The records frozen into a version: added at or before it and not removed by it."""
        return self.filter(datanet_id=version.datanet_id, added_in__lte=version.number).filter(
            Q(removed_in__isnull=True) | Q(removed_in__gt=version.number)
        )


class Record(models.Model):
    """One datum. Its public identity is a salted commitment; `copy_of` is decided at registration and never changes."""

    class Status(models.TextChoices):
        CHECKING = "checking", _("Checking")
        WAITING = "waiting", _("Waiting for review")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    id = models.BigAutoField(primary_key=True)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="records")
    submission = models.ForeignKey(Submission, on_delete=models.PROTECT, related_name="records")
    file = models.ForeignKey(SubmissionFile, on_delete=models.PROTECT, related_name="records")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="records")
    position = models.PositiveIntegerField()  # line of the file, or number of the member
    title = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.CHECKING)
    # sha256("open-record/1" || salt32 || canonical bytes), hex
    identity = models.CharField(max_length=64, unique=True)
    # equality inside the site: HMAC of the canonical bytes under RECORD_KEY; cleared on erasure
    content_hmac = models.CharField(max_length=64, blank=True, db_index=True)
    signature = models.BinaryField(default=bytes)
    bands = ArrayField(models.BigIntegerField(), default=list, blank=True)
    copy_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="copies")
    copy_distance = models.FloatField(null=True, blank=True)
    flags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    quality = models.PositiveSmallIntegerField(null=True, blank=True)  # 0-100, from the checks
    reject_reason = models.CharField(max_length=40, blank=True)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    # whoever took it down; empty for what its contributor gave up undecided, with its file or submission
    withdrawn_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    added_in = models.PositiveIntegerField(null=True, blank=True)
    removed_in = models.PositiveIntegerField(null=True, blank=True)
    # planted to measure curators (gold.py); written once, shown to nobody who decides on it
    is_gold = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = RecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["file", "position"], name="record_stands_once_in_its_file"),
            # the target of the reviews' composite foreign key (no self-review)
            models.UniqueConstraint(fields=["id", "contributor"], name="record_and_contributor"),
            models.CheckConstraint(
                name="record_decision_has_author_and_date",
                condition=(Q(status__in=["checking", "waiting"], decided_by__isnull=True, decided_at__isnull=True))
                | Q(status__in=["approved", "rejected"], decided_by__isnull=False, decided_at__isnull=False)
                | Q(status="withdrawn", withdrawn_at__isnull=False),
            ),
            models.CheckConstraint(
                name="record_copies_an_earlier_one", condition=Q(copy_of__isnull=True) | Q(copy_of__lt=F("id"))
            ),
            models.CheckConstraint(
                name="record_rejection_has_a_reason", condition=~Q(status="rejected") | ~Q(reject_reason="")
            ),
            models.CheckConstraint(
                name="approver_is_not_the_contributor",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("contributor")),
            ),
            # and so it is in no artifact, and earns nothing
            models.CheckConstraint(name="gold_is_in_no_version", condition=Q(is_gold=False) | Q(added_in__isnull=True)),
            models.CheckConstraint(
                name="gold_is_found_by_no_search_for_copies",
                condition=Q(is_gold=False) | Q(content_hmac="", bands=[]),
            ),
        ]
        indexes = [
            models.Index(fields=["datanet", "status", "id"], name="record_by_datanet"),
            models.Index(fields=["contributor", "id"], name="record_by_contributor"),
            GinIndex(fields=["bands"], name="record_bands"),
        ]


class RecordBody(models.Model):
    """The only place that holds content. Erasing a record deletes this row and its blobs."""

    record = models.OneToOneField(Record, primary_key=True, on_delete=models.CASCADE, related_name="body")
    body = models.JSONField()
    salt = models.BinaryField()
    media_key = models.CharField(max_length=120, blank=True, db_index=True)
    thumb_key = models.CharField(max_length=120, blank=True, db_index=True)


class CheckResult(models.Model):
    """One finding of one check: a number, a sentence (code and parameters), evidence."""

    class Severity(models.TextChoices):
        PASS = "pass", _("Passed")
        INFO = "info", _("Note")
        FLAG = "flag", _("Flagged")
        FAIL = "fail", _("Failed")

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="check_results")
    file = models.ForeignKey(
        SubmissionFile, null=True, blank=True, on_delete=models.CASCADE, related_name="check_results"
    )
    record = models.ForeignKey(Record, null=True, blank=True, on_delete=models.CASCADE, related_name="check_results")
    check_name = models.CharField(max_length=40)
    check_version = models.CharField(max_length=20)
    severity = models.CharField(max_length=4, choices=Severity.choices)
    number = models.FloatField(null=True, blank=True)
    code = models.CharField(max_length=60)
    params = models.JSONField(default=dict, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    finished_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["submission", "check_name"], name="check_by_submission")]
