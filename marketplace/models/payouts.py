"""Money that goes out: where to, in which run, and every withdrawal."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount


class PayoutDestination(models.Model):
    """Where withdrawals go. Setting it asks for re-authentication; a change waits before it counts."""

    user = models.OneToOneField(USER, primary_key=True, on_delete=models.PROTECT, related_name="payout_destination")
    kind = models.CharField(max_length=20)  # bank, wallet
    details_token = models.TextField()  # Fernet
    hint = models.CharField(max_length=40)  # the last characters, shown
    set_at = models.DateTimeField(default=timezone.now)
    usable_from = models.DateTimeField(default=timezone.now)


class PayoutRun(models.Model):
    """A batch of withdrawals, approved by two admins, exported, confirmed or returned item by item."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("Draft")
        APPROVED = "approved", _("Approved")
        SENT = "sent", _("Sent")
        CLOSED = "closed", _("Closed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveIntegerField(unique=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.DRAFT)
    created_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    first_approver = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    first_approved_at = models.DateTimeField(null=True, blank=True)
    second_approver = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    second_approved_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="payout_run_has_two_different_approvers",
                condition=Q(second_approver__isnull=True)
                | (Q(first_approver__isnull=False) & ~Q(first_approver=F("second_approver"))),
            ),
            models.CheckConstraint(
                name="approved_payout_run_has_both_approvals",
                condition=Q(status="draft") | Q(first_approver__isnull=False, second_approver__isnull=False),
            ),
        ]


class Withdrawal(models.Model):
    """Money out: requested -> in_run -> approved -> sent -> confirmed | returned; cancelled until in_run."""

    class Status(models.TextChoices):
        REQUESTED = "requested", _("Requested")
        IN_RUN = "in_run", _("In a payout run")
        APPROVED = "approved", _("Approved")
        SENT = "sent", _("Sent")
        CONFIRMED = "confirmed", _("Confirmed")
        RETURNED = "returned", _("Returned")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="withdrawals")
    amount_nano = amount()
    destination_kind = models.CharField(max_length=20)
    destination_token = models.TextField()
    destination_hint = models.CharField(max_length=40)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.REQUESTED)
    run = models.ForeignKey(PayoutRun, null=True, blank=True, on_delete=models.PROTECT, related_name="withdrawals")
    hold_id = models.UUIDField(unique=True)  # from the request until it joins a run
    in_run_posting_id = models.UUIDField(unique=True)
    end_posting_id = models.UUIDField(unique=True)  # confirmed or returned, whichever comes: never both
    returned_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="withdrawal_is_positive", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(
                name="withdrawal_is_in_a_run_when_it_says_so",
                condition=Q(status__in=["requested", "cancelled"], run__isnull=True)
                | (~Q(status__in=["requested", "cancelled"]) & Q(run__isnull=False)),
            ),
        ]
