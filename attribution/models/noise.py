"""What was found of noise, epoch by epoch, and the cases that people decide."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

USER = settings.AUTH_USER_MODEL


class NoiseReport(models.Model):
    """What the rule said of the new rows of a model version at the end of an epoch, or why it said nothing."""

    class Outcome(models.TextChoices):
        NOT_JUDGED = "not_judged", _("Not judged")
        NO_CASE = "no_case", _("No case")
        CASES = "cases", _("Cases opened")

    class Reason(models.TextChoices):
        NO_CALLS = "no_calls"
        ENGINE = "engine"
        FEW_INCUMBENTS = "few_incumbents"
        FEW_VALIDATION = "few_validation"
        TOO_LARGE = "too_large"
        NOTHING_NEW = "nothing_new"
        FEW_ROWS = "few_rows"
        NO_CLAIM = "no_claim"
        NOT_CONVERGED = "not_converged"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    epoch = models.ForeignKey("attribution.Epoch", on_delete=models.PROTECT, related_name="noise_reports")
    model_id = models.UUIDField()
    model_version_id = models.UUIDField(null=True, blank=True)  # null: the epoch had no calls
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    reason = models.CharField(max_length=20, blank=True, choices=Reason.choices)  # why it was not judged
    found = models.PositiveIntegerField(default=0)  # of what there was too little, or too much
    needed = models.PositiveIntegerField(default=0)
    figures = models.JSONField(default=dict)
    judged_through = models.JSONField(default=dict)  # {Datanet: number of the version whose new rows were judged}
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["epoch", "model_version_id"],
                name="model_version_is_judged_once_per_epoch",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="noise_is_judged_or_says_why_not",
                condition=(Q(outcome="not_judged") & ~Q(reason="")) | (~Q(outcome="not_judged") & Q(reason="")),
            ),
        ]
        indexes = [models.Index(fields=["model_id", "-created_at"], name="noise_report_newest_of_model")]


class NoiseCase(models.Model):
    """Rows of one contributor, in one Datanet, that seem to be noise for one model. People decide; the figures do not.

    open -> cleared | upheld | lapsed (nobody decided in time)
    upheld -> returned (no appeal in time) | appealed -> cleared | returned (by a second person) | lapsed

    While it runs, what the rows earned through the model and is pending is held. Of a returned one it goes to the model's
    unattributed account, and so does what they earn later; of a cleared or lapsed one it is let go.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("Waits for a decision")
        UPHELD = "upheld", _("Noise, says a curator; may be appealed")
        APPEALED = "appealed", _("Appealed")
        CLEARED = "cleared", _("Not noise")
        RETURNED = "returned", _("Noise: not paid")
        LAPSED = "lapsed", _("Not decided in time: paid")

    RUNNING = (Status.OPEN, Status.UPHELD, Status.APPEALED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    report = models.ForeignKey(NoiseReport, on_delete=models.PROTECT, related_name="cases")
    model_id = models.UUIDField()
    datanet = models.ForeignKey("datanets.Datanet", on_delete=models.PROTECT, related_name="noise_cases")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="noise_cases")
    figures = models.JSONField(default=dict)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    statement = models.TextField(blank=True)  # the contributor's
    stated_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True)
    appeal = models.TextField(blank=True)
    appealed_at = models.DateTimeField(null=True, blank=True)
    second_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    second_note = models.TextField(blank=True)
    opened_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()  # when it is decided by nobody, appealed by nobody
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="noise_case_is_where_it_says",
                condition=Q(status="open", decided_by=None, appealed_at=None, second_by=None, ended_at=None)
                | Q(status="upheld", decided_by__isnull=False, appealed_at=None, second_by=None, ended_at=None)
                | Q(
                    status="appealed",
                    decided_by__isnull=False,
                    appealed_at__isnull=False,
                    second_by=None,
                    ended_at=None,
                )
                | (
                    Q(status__in=["cleared", "returned"], decided_by__isnull=False, ended_at__isnull=False)
                    & (Q(appealed_at=None, second_by=None) | Q(appealed_at__isnull=False, second_by__isnull=False))
                )
                | (
                    Q(status="lapsed", second_by=None, ended_at__isnull=False)
                    & (Q(decided_by=None, appealed_at=None) | Q(decided_by__isnull=False, appealed_at__isnull=False))
                ),
            ),
            models.CheckConstraint(
                name="decision_on_noise_has_a_reason_and_a_date",
                condition=(
                    Q(decided_by=None, decided_at=None, note="")
                    | (Q(decided_by__isnull=False, decided_at__isnull=False) & ~Q(note=""))
                )
                & (Q(second_by=None, second_note="") | (Q(second_by__isnull=False) & ~Q(second_note=""))),
            ),
            models.CheckConstraint(
                name="contributor_speaks_in_a_noise_case_with_a_date",
                condition=(Q(statement="", stated_at=None) | (~Q(statement="") & Q(stated_at__isnull=False)))
                & (Q(appeal="", appealed_at=None) | (~Q(appeal="") & Q(appealed_at__isnull=False))),
            ),
            models.CheckConstraint(
                name="no_contributor_decides_their_noise_case",
                condition=(Q(decided_by=None) | ~Q(decided_by=F("contributor")))
                & (Q(second_by=None) | ~Q(second_by=F("contributor"))),
            ),
            models.CheckConstraint(
                name="another_person_answers_an_appeal_on_noise",
                condition=Q(second_by=None) | ~Q(second_by=F("decided_by")),
            ),
        ]
        indexes = [
            models.Index(fields=["contributor", "-opened_at"], name="noise_case_by_contributor"),
            models.Index(fields=["datanet", "due_at"], name="noise_case_running", condition=Q(ended_at=None)),
            models.Index(fields=["model_id"], name="noise_case_by_model"),
            models.Index(fields=["-opened_at"], name="noise_case_newest"),
        ]


class NoiseRecord(models.Model):
    """A record that a noise case is about. A record is in one case of a model, ever: nobody answers for it twice."""

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(NoiseCase, on_delete=models.PROTECT, related_name="records")
    model_id = models.UUIDField()
    record = models.ForeignKey("datanets.Record", on_delete=models.PROTECT, related_name="noise")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model_id", "record"], name="record_is_in_one_noise_case_of_a_model")
        ]
