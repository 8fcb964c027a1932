"""Disputes of calls, and what is given back: refunds within the window, paybacks after it."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .calls import Call
from .fields import USER, amount


class Dispute(models.Model):
    """A buyer contests a call: open -> refunded | refused | withdrawn; refused -> refunded | kept | withdrawn.

    An open one that is not answered in time is refunded. While it stands, the call's lots are on hold.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("Waits for the developer")
        REFUSED = "refused", _("Waits for the admins")
        REFUNDED = "refunded", _("Refunded")
        KEPT = "kept", _("Not refunded")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    STANDING = (Status.OPEN, Status.REFUSED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    call = models.OneToOneField(Call, on_delete=models.PROTECT, related_name="dispute")
    reason = models.CharField(max_length=400)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.OPEN)
    opened_at = models.DateTimeField(default=timezone.now)
    answer_due_at = models.DateTimeField()
    answer = models.CharField(max_length=400, blank=True)  # why the developer refuses
    answered_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=400, blank=True)  # why an admin keeps the charge
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="dispute_has_a_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="dispute_is_where_it_says",
                condition=Q(status="open", answered_at__isnull=True, ended_at__isnull=True)
                | (Q(status="refused", answered_at__isnull=False, ended_at__isnull=True) & ~Q(answer=""))
                | (
                    Q(status="kept", answered_at__isnull=False, ended_at__isnull=False, decided_by__isnull=False)
                    & ~Q(decision="")
                )
                | Q(status__in=["refunded", "withdrawn"], ended_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["answer_due_at"], name="dispute_to_be_answered", condition=Q(status="open")),
        ]


class Refund(models.Model):
    """A call given back, whole and once. Its id is that of its public entry: `/r/<id>` is its receipt."""

    class Grounds(models.TextChoices):
        DEVELOPER = "developer", _("By the developer")
        ADMINS = "admins", _("By two admins")
        DISPUTE = "dispute", _("A dispute without an answer")

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waits for a second admin")
        MADE = "made", _("Refunded")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    call = models.OneToOneField(Call, on_delete=models.PROTECT, related_name="refund")
    amount_nano = amount()
    reason = models.CharField(max_length=400)
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.WAITING)
    grounds = models.CharField(max_length=9, choices=Grounds.choices, blank=True)
    first_admin = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    second_admin = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    posting_ids = ArrayField(models.UUIDField(), default=list)
    was_settled = models.BooleanField(null=True, blank=True)  # people gave it back, or their pools did
    created_at = models.DateTimeField(default=timezone.now)
    made_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="refund_is_positive", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(name="refund_has_a_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="made_refund_says_how",
                condition=Q(
                    status="waiting", made_at__isnull=True, was_settled__isnull=True, grounds="", posting_ids=[]
                )
                | (Q(status="made", made_at__isnull=False, was_settled__isnull=False) & ~Q(grounds="")),
            ),
            models.CheckConstraint(
                name="refund_has_two_different_admins",
                condition=Q(second_admin__isnull=True)
                | (Q(first_admin__isnull=False) & ~Q(first_admin=F("second_admin"))),
            ),
            models.CheckConstraint(
                name="refund_by_admins_has_both",
                condition=~Q(grounds="admins") | Q(first_admin__isnull=False, second_admin__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["-created_at"], name="refund_newest")]

    @property
    def is_made(self) -> bool:
        return self.status == self.Status.MADE


class Payback(models.Model):
    """A call whose window is over, given back by its developer out of a wallet: a payment of their own, whole and once."""

    call = models.OneToOneField(Call, primary_key=True, on_delete=models.PROTECT, related_name="payback")
    amount_nano = amount()
    reason = models.CharField(max_length=400)
    posting_id = models.UUIDField(unique=True)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(name="payback_is_positive", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(name="payback_has_a_reason", condition=~Q(reason="")),
        ]
