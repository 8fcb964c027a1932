"""Wallets that several people share: their members, who is asked to be one, and what they put in."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount

INVITATION_LASTS = timedelta(days=30)


class Role(models.TextChoices):
    """What a member may do. Who may more may also what the next may."""

    OWNER = "owner", _("Owner")
    SPENDER = "spender", _("Spender")
    VIEWER = "viewer", _("Viewer")


class SharedWallet(models.Model):
    """A wallet that is nobody's own. Its `account` is a row of users that can never sign in: keys, passes, calls, deposits,
    withdrawals, refunds and disputes belong to it as they belong to a person, and members act for it by their role.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.OneToOneField(USER, on_delete=models.PROTECT, related_name="shared_wallet")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)


class WalletMember(models.Model):
    """Somebody's one role in a shared wallet."""

    wallet = models.ForeignKey(SharedWallet, on_delete=models.PROTECT, related_name="members")
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="wallet_roles")
    role = models.CharField(max_length=7, choices=Role.choices)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "user"], name="member_has_one_role_in_a_wallet"),
            models.CheckConstraint(name="member_has_a_known_role", condition=Q(role__in=Role.values)),
        ]


class WalletInvitationQuerySet(QuerySet["WalletInvitation"]):
    def standing(self) -> WalletInvitationQuerySet:
        """Those that can still be accepted."""
        return self.filter(created_at__gt=timezone.now() - INVITATION_LASTS)


class WalletInvitation(models.Model):
    """Somebody is asked to join, by handle or by e-mail address. Gone once it is answered or taken back."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    wallet = models.ForeignKey(SharedWallet, on_delete=models.CASCADE, related_name="invitations")
    address = models.CharField(max_length=254)  # lower case; whether anybody has it is not told
    role = models.CharField(max_length=7, choices=Role.choices)
    invited_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    objects = WalletInvitationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "address"], name="wallet_invites_an_address_once"),
            models.CheckConstraint(name="invitation_has_a_known_role", condition=Q(role__in=Role.values)),
        ]


class WalletTransfer(models.Model):
    """Money that a member moved from their own wallet into a shared one. Its reference makes repeating it harmless."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    wallet = models.ForeignKey(SharedWallet, on_delete=models.PROTECT, related_name="transfers")
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="wallet_transfers")
    amount_nano = amount()
    reference = models.CharField(max_length=64)
    posting_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "reference"], name="wallet_transfer_reference_counts_once"),
            models.CheckConstraint(name="wallet_transfer_is_positive", condition=Q(amount_nano__gt=0)),
        ]
