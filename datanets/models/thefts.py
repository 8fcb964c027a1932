"""Disputes about whose the records are."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from datanets.models.datanets import Datanet
from datanets.models.records import Record

USER = settings.AUTH_USER_MODEL


class TheftDispute(models.Model):
    """Somebody says: these records are mine, not their contributor's. Two who are no party to it let it be won, one lost.

    open -> upheld (by a first one) -> won (by a second) | lost | withdrawn (by the claimant) | lapsed (nobody decided in time)

    `contributor` repeats the records': all are of one person, and no party ever decides. While it runs, money that the
    records earned and that is still pending stays where it is; of a won one it goes to the claimant (marketplace.thefts).
    """

    class Status(models.TextChoices):
        OPEN = "open", _("Waits for a decision")
        UPHELD = "upheld", _("Waits for a second decision")
        WON = "won", _("The author was right")
        LOST = "lost", _("The records stay their contributor’s")
        WITHDRAWN = "withdrawn", _("Taken back")
        LAPSED = "lapsed", _("Not decided in time")

    RUNNING = (Status.OPEN, Status.UPHELD)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="theft_disputes")
    claimant = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="theft_disputes")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    statement = models.TextField()
    evidence = models.TextField()
    own_record = models.ForeignKey(Record, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answer = models.TextField(blank=True)  # the contributor's
    answered_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.OPEN)
    first_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    first_note = models.TextField(blank=True)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.TextField(blank=True)
    opened_at = models.DateTimeField(default=timezone.now)
    decide_by = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="nobody_disputes_their_own_record", condition=~Q(claimant=F("contributor"))),
            models.CheckConstraint(
                name="theft_dispute_says_what_and_why", condition=~Q(statement="") & ~Q(evidence="")
            ),
            models.CheckConstraint(
                name="answer_to_a_theft_dispute_has_a_date",
                condition=Q(answer="", answered_at__isnull=True) | (~Q(answer="") & Q(answered_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="theft_dispute_is_where_it_says",
                condition=Q(status="open", first_by__isnull=True, decided_by__isnull=True, ended_at__isnull=True)
                | (
                    Q(status="upheld", first_by__isnull=False, decided_by__isnull=True, ended_at__isnull=True)
                    & ~Q(first_note="")
                )
                | (
                    Q(status="won", first_by__isnull=False, decided_by__isnull=False, ended_at__isnull=False)
                    & ~Q(first_note="")
                    & ~Q(note="")
                )
                | (Q(status="lost", decided_by__isnull=False, ended_at__isnull=False) & ~Q(note=""))
                | Q(status__in=["withdrawn", "lapsed"], decided_by__isnull=True, ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="two_people_let_a_theft_dispute_be_won",
                condition=Q(first_by__isnull=True) | Q(decided_by__isnull=True) | ~Q(decided_by=F("first_by")),
            ),
            models.CheckConstraint(
                name="no_party_decides_a_theft_dispute",
                condition=(Q(first_by__isnull=True) | (~Q(first_by=F("claimant")) & ~Q(first_by=F("contributor"))))
                & (Q(decided_by__isnull=True) | (~Q(decided_by=F("claimant")) & ~Q(decided_by=F("contributor")))),
            ),
        ]
        indexes = [
            models.Index(fields=["claimant", "-opened_at"], name="theft_dispute_by_claimant"),
            models.Index(fields=["contributor", "-opened_at"], name="theft_dispute_by_contributor"),
            models.Index(fields=["decide_by"], name="theft_dispute_running", condition=Q(ended_at__isnull=True)),
        ]


class DisputedRecord(models.Model):
    """A record that a theft dispute is about, and what came of it."""

    class State(models.TextChoices):
        RUNNING = "running", _("Disputed")
        AWARDED = "awarded", _("Given to its author")
        KEPT = "kept", _("Its contributor’s")

    id = models.BigAutoField(primary_key=True)
    dispute = models.ForeignKey(TheftDispute, on_delete=models.PROTECT, related_name="records")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="disputed")
    state = models.CharField(max_length=7, choices=State.choices, default=State.RUNNING)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record"],
                condition=Q(state__in=["running", "awarded"]),
                name="record_is_disputed_by_one_and_awarded_once",
            ),
            models.UniqueConstraint(fields=["dispute", "record"], name="theft_dispute_names_a_record_once"),
        ]
