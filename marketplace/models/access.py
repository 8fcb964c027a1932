"""Who may call a pass or invite model, and what a pass gets back when its model retires."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount
from .listings import ListedModel, SplitRule


class Access(models.Model):
    """A buyer may call a pass or invite model until `ends_at`. A pass never renews by itself."""

    class Mode(models.TextChoices):
        PASS = "pass", _("Pass")
        INVITE = "invite", _("Invitation")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="accesses")
    buyer = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="accesses")
    mode = models.CharField(max_length=8, choices=Mode.choices)
    price_nano = amount(default=0)
    split_rule = models.ForeignKey(SplitRule, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    posting_id = models.UUIDField(null=True, blank=True, unique=True)
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["model", "buyer", "ends_at"], name="access_of_buyer")]


class PassRefund(models.Model):
    """What a running pass got back when its model retired: the part of its time that was left."""

    access = models.OneToOneField(Access, primary_key=True, on_delete=models.PROTECT, related_name="refund")
    amount_nano = amount()
    posting_id = models.UUIDField(unique=True)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(name="pass_refund_is_positive", condition=Q(amount_nano__gt=0))]
