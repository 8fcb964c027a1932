"""What curators decide: claims, reviews, appeals against them, and reports of records."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from datanets.models.records import Record
from datanets.models.submissions import Submission

USER = settings.AUTH_USER_MODEL


class Claim(models.Model):
    """A curator works on a submission; others see it. It ends by itself."""

    submission = models.OneToOneField(Submission, primary_key=True, on_delete=models.CASCADE, related_name="claim")
    curator = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="claims")
    until = models.DateTimeField()


class Review(models.Model):
    """One curator's decision on one record. Undone decisions stay, marked.

    `contributor` repeats the record's: a composite foreign key (see the migration) keeps it true, and the check beside
    it makes self-review impossible for whoever writes the row.
    """

    class Decision(models.TextChoices):
        APPROVE = "approve", _("Approve")
        REJECT = "reject", _("Reject")

    class Reason(models.TextChoices):
        OFF_TOPIC = "off_topic", _("Off topic")
        LOW_QUALITY = "low_quality", _("Low quality")
        WRONG_LABEL = "wrong_label", _("Wrong label")
        COPY = "copy", _("Copy of another record")
        PERSONAL_DATA = "personal_data", _("Contains personal data")
        RIGHTS = "rights", _("Rights not clear")
        HARMFUL = "harmful", _("Harmful content")
        SPAM = "spam", _("Spam or generated filler")
        OTHER = "other", _("Other")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="reviews")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    curator = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="reviews")
    decision = models.CharField(max_length=8, choices=Decision.choices)
    reason = models.CharField(max_length=20, choices=Reason.choices, blank=True)
    note = models.TextField(blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    act = models.UUIDField(default=uuid.uuid4)  # one click: what undo takes back
    decided_at = models.DateTimeField(default=timezone.now)
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="nobody_reviews_their_own_record", condition=~Q(curator=F("contributor"))),
            models.UniqueConstraint(
                fields=["record", "curator"], condition=Q(undone_at__isnull=True), name="curator_votes_once_per_record"
            ),
            models.CheckConstraint(name="rejection_has_a_reason", condition=~Q(decision="reject") | ~Q(reason="")),
        ]
        indexes = [models.Index(fields=["act"], name="review_by_act")]


class Appeal(models.Model):
    """A contributor asks for a second look, by another curator who does not see the first one's name."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        UPHELD = "upheld", _("Decision stands")
        OVERTURNED = "overturned", _("Decision overturned")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="appeals")
    text = models.TextField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    due_at = models.DateTimeField()
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["record"], condition=Q(status="open"), name="record_has_one_open_appeal"),
            models.CheckConstraint(
                name="appeal_answer_has_author_and_date",
                condition=Q(status="open", decided_by__isnull=True, decided_at__isnull=True)
                | (~Q(status="open") & Q(decided_by__isnull=False, decided_at__isnull=False)),
            ),
        ]


class Report(models.Model):
    """Somebody says why a record should not be there. Curators read the reason and the text, and not who wrote them.

    `contributor` repeats the record's, as in a review: so the checks keep both parties of a report from deciding on it.
    """

    class Reason(models.TextChoices):
        PERSONAL_DATA = "personal_data", _("It contains personal data")
        RIGHTS = "rights", _("It was not theirs to share")
        WRONG = "wrong", _("It is wrong or mislabelled")
        HARMFUL = "harmful", _("It is harmful")
        OTHER = "other", _("Something else")

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        DISMISSED = "dismissed", _("Dismissed")
        UPHELD = "upheld", _("Record withdrawn")
        LAPSED = "lapsed", _("Withdrawn before a decision")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="reports")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    reporter = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="reports")
    reason = models.CharField(max_length=20, choices=Reason.choices)
    text = models.TextField()  # emptied with the record's content: it may quote it
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.TextField(blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record", "reporter"], condition=Q(status="open"), name="person_has_one_open_report_of_a_record"
            ),
            models.CheckConstraint(
                name="report_decision_has_author_date_and_note",
                condition=Q(status="open", decided_by__isnull=True, closed_at__isnull=True)
                | Q(status="lapsed", decided_by__isnull=True, closed_at__isnull=False)
                | (
                    Q(status__in=["dismissed", "upheld"], decided_by__isnull=False, closed_at__isnull=False)
                    & ~Q(note="")
                ),
            ),
            models.CheckConstraint(name="nobody_reports_their_own_record", condition=~Q(reporter=F("contributor"))),
            models.CheckConstraint(
                name="nobody_decides_a_report_they_filed",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("reporter")),
            ),
            models.CheckConstraint(
                name="nobody_decides_a_report_of_their_record",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("contributor")),
            ),
        ]
        indexes = [models.Index(fields=["reporter", "-created_at"], name="report_by_reporter")]
