"""What happens to earnings on their way: lots on hold, and what nothing supported."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from .fields import USER, amount
from .listings import ListedModel
from .refunds import Dispute


class LotHold(models.Model):
    """Why a lot of somebody's earnings does not vest: a dispute of a call or of records, a noise case, or an admin's written
    reason.

    A lot may have several. The ledger keeps one state per lot: it is held as long as one of these stands.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    lot_id = models.UUIDField()
    payee = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="lot_holds")
    amount_nano = amount()  # of the lot, when it was held
    dispute = models.ForeignKey(Dispute, null=True, blank=True, on_delete=models.PROTECT, related_name="holds")
    theft = models.ForeignKey(
        "datanets.TheftDispute", null=True, blank=True, on_delete=models.PROTECT, related_name="holds"
    )
    noise = models.ForeignKey(
        "attribution.NoiseCase", null=True, blank=True, on_delete=models.PROTECT, related_name="holds"
    )
    placed_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=400, blank=True)  # an admin's; a dispute has its own
    until = models.DateTimeField(null=True, blank=True)  # null: until released
    placed_at = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(null=True, blank=True)
    released_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    release_reason = models.CharField(max_length=400, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="lot_is_held_by_a_dispute_or_an_admin",
                condition=Q(
                    dispute__isnull=False, theft=None, noise=None, placed_by=None, reason="", until__isnull=True
                )
                | Q(dispute=None, theft__isnull=False, noise=None, placed_by=None, reason="", until__isnull=False)
                | Q(dispute=None, theft=None, noise__isnull=False, placed_by=None, reason="", until__isnull=True)
                | (Q(dispute=None, theft=None, noise=None, placed_by__isnull=False) & ~Q(reason="")),
            ),
            models.CheckConstraint(
                name="lot_is_released_with_a_reason",
                condition=Q(released_at__isnull=True, released_by__isnull=True, release_reason="")
                | Q(released_at__isnull=False, placed_by__isnull=True)
                | (Q(released_at__isnull=False, released_by__isnull=False) & ~Q(release_reason="")),
            ),
            models.UniqueConstraint(
                fields=["lot_id", "dispute", "theft", "noise"],
                condition=Q(released_at__isnull=True),
                name="lot_is_held_once_for_one_reason",
                nulls_distinct=False,
            ),
        ]
        indexes = [models.Index(fields=["-placed_at"], name="lot_hold_newest")]


class UnattributedRelease(models.Model):
    """What nothing supported in an epoch, given to the bounties of the model's Datanets after its time: once."""

    epoch = models.OneToOneField(
        "attribution.Epoch", primary_key=True, on_delete=models.PROTECT, related_name="release"
    )
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="releases")
    amount_nano = amount()
    parts = models.JSONField()  # [[id of the Datanet, nano], ...]
    posting_id = models.UUIDField(unique=True)
    released_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(name="release_is_not_negative", condition=Q(amount_nano__gte=0))]
