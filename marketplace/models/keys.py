"""The keys that programs call with."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from .fields import USER, amount
from .listings import ListedModel

SCOPES = ("call", "read")


def all_scopes() -> list[str]:
    return list(SCOPES)


class ApiKey(models.Model):
    """`open_sk_...`: only its hash is stored, it is shown once, and revoking it takes less than a second."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=80)
    sha256 = models.BinaryField(max_length=32, unique=True)
    prefix = models.CharField(max_length=20)  # shown in lists and in snippets
    spend_cap_nano = amount(null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    scopes = ArrayField(
        models.CharField(max_length=4), default=all_scopes
    )  # call: models; read: calls, credits, receipts
    allowed_models = models.ManyToManyField(ListedModel, blank=True, related_name="keys")  # empty: all
    is_playground = models.BooleanField(default=False)  # made by a model's page, for itself
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="key_has_known_scopes", condition=Q(scopes__contained_by=list(SCOPES)) & ~Q(scopes=[])
            )
        ]
