"""Money that comes in, what developers set aside of it for free calls, and test money."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount


class Deposit(models.Model):
    """Money in: recorded by an admin with a unique outside reference, above a limit by two."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting for a second admin")
        POSTED = "posted", _("Posted")
        REFUSED = "refused", _("Refused")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="deposits")
    amount_nano = amount()
    external_reference = models.CharField(max_length=120, unique=True)
    is_test = models.BooleanField(default=False)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    posting_id = models.UUIDField(unique=True)
    recorded_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    approved_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="deposit_is_positive", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(
                name="deposit_is_approved_by_another",
                condition=Q(approved_by__isnull=True) | ~Q(approved_by=F("recorded_by")),
            ),
        ]


class Adjustment(models.Model):
    """Money moved by hand, by two admins and with a written reason: waiting -> posted | refused."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting for a second admin")
        POSTED = "posted", _("Posted")
        REFUSED = "refused", _("Refused")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Whose wallet; none: the platform's account.
    payer = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    payee = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    amount_nano = amount()
    reason = models.CharField(max_length=400)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    posting_id = models.UUIDField(unique=True)
    proposed_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="adjustment_is_positive", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(name="adjustment_has_a_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="adjustment_goes_to_another_account",
                condition=Q(payer__isnull=True, payee__isnull=False)
                | Q(payer__isnull=False, payee__isnull=True)
                | (Q(payer__isnull=False, payee__isnull=False) & ~Q(payer=F("payee"))),
            ),
            models.CheckConstraint(
                name="adjustment_says_who_decided",
                condition=Q(status="waiting", decided_by__isnull=True, decided_at__isnull=True)
                | Q(status__in=["posted", "refused"], decided_by__isnull=False, decided_at__isnull=False),
            ),
            models.CheckConstraint(
                name="adjustment_is_approved_by_another",
                condition=~Q(status="posted") | ~Q(decided_by=F("proposed_by")),
            ),
        ]
        indexes = [models.Index(fields=["-created_at"], name="adjustment_newest")]


class PromotionTransfer(models.Model):
    """Money that a developer set aside for free calls, or took back. Its reference makes repeating it harmless."""

    class Direction(models.TextChoices):
        FUND = "fund", _("Set aside for free calls")
        TAKE_BACK = "take_back", _("Take back into the wallet")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="promotion_transfers")
    direction = models.CharField(max_length=9, choices=Direction.choices)
    amount_nano = amount()
    reference = models.CharField(max_length=64)
    posting_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "reference"], name="promotion_reference_counts_once"),
            models.CheckConstraint(name="promotion_transfer_is_positive", condition=Q(amount_nano__gt=0)),
        ]


class WalletWatch(models.Model):
    """Below which balance somebody wants to be told, and what they were told: once, until new money has come in."""

    user = models.OneToOneField(USER, on_delete=models.CASCADE, primary_key=True, related_name="wallet_watch")
    low_nano = amount(null=True, blank=True)  # none: only that it is empty is told
    told_low = models.BooleanField(default=False)
    told_empty = models.BooleanField(default=False)
    credited_nano = amount(default=0)  # all that had come in when it was looked at
    armed_at = models.DateTimeField(default=timezone.now)  # what was refused before counts no more

    class Meta:
        constraints = [
            models.CheckConstraint(name="watched_balance_is_positive", condition=Q(low_nano=None) | Q(low_nano__gt=0)),
            models.CheckConstraint(
                name="low_balance_is_told_of_a_threshold", condition=Q(told_low=False) | Q(low_nano__isnull=False)
            ),
        ]


class TestGrant(models.Model):
    """Test money that a person took: the same amount for everybody, once a day (UTC)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="test_grants")
    day = models.DateField()
    amount_nano = amount()
    posting_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="test_money_is_granted_once_a_day"),
            models.CheckConstraint(name="test_grant_is_positive", condition=Q(amount_nano__gt=0)),
        ]
