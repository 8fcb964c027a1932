"""Calls, and what the gateway keeps beside them: free calls, sealed contents, idempotency keys."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount
from .keys import ApiKey
from .listings import FREE_CALLS_MAX, ListedModel, PriceList, SplitRule
from .training import ModelVersion


class _AnyCall(models.Model):
    """What is kept of every call. The capture function alone inserts charged ones, in the statement that charges them."""

    class Status(models.TextChoices):
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        LEFT = "left", _("Left")
        ABSTAINED = "abstained", _("Abstained")
        REFUSED = "refused", _("Refused")

    id = models.UUIDField(primary_key=True, editable=False)
    buyer = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="%(class)ss")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.PROTECT, related_name="%(class)ss")
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="%(class)ss")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="%(class)ss")
    price_list = models.ForeignKey(PriceList, on_delete=models.PROTECT, related_name="+")
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    endpoint = models.CharField(max_length=20)  # chat, classify, predict, embeddings
    status = models.CharField(max_length=9, choices=Status.choices)
    error_code = models.CharField(max_length=40, blank=True)
    streamed = models.BooleanField(default=False)
    prompt_tokens = models.PositiveIntegerField(default=0)
    answer_tokens = models.PositiveIntegerField(default=0)
    cost_nano = amount(default=0)
    data_nano = amount(default=0)
    curation_nano = amount(default=0)
    developer_nano = amount(default=0)
    platform_nano = amount(default=0)
    owner_nano = amount(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                name="%(class)s_parts_add_up_to_its_cost",
                condition=Q(
                    cost_nano=F("data_nano")
                    + F("curation_nano")
                    + F("developer_nano")
                    + F("platform_nano")
                    + F("owner_nano")
                ),
            ),
            models.CheckConstraint(
                name="only_answers_of_a_%(class)s_cost",
                condition=Q(status__in=["succeeded", "left", "abstained"]) | Q(cost_nano=0),
            ),
        ]


class Call(_AnyCall):
    """A call that ran, or was refused for money, access or price.

    One id inside and outside: `call:<uuid>`, `x-receipt-id`, `/r/<uuid>`.
    """

    free = models.BooleanField(default=False)  # paid by the developer's promotion wallet
    published_at = models.DateTimeField(null=True, blank=True)  # its buyer chose to show it as a sample

    class Meta(_AnyCall.Meta):
        abstract = False
        constraints = [
            *_AnyCall.Meta.constraints,
            models.CheckConstraint(
                name="only_answers_are_free",
                condition=Q(status__in=["succeeded", "left", "abstained"]) | Q(free=False),
            ),
        ]
        indexes = [
            models.Index(fields=["buyer", "-finished_at"], name="call_by_buyer"),
            models.Index(fields=["model", "-finished_at"], name="call_by_model"),
            # With the cost: the spend cap of a key is checked by a sum that touches no row.
            models.Index(fields=["key", "-finished_at"], include=["cost_nano", "free"], name="call_by_key"),
        ]


class TestCall(_AnyCall):
    """A call with a test key: test money paid it, no model answered, and nobody earns from it.

    In a table of its own, so that no sum, settlement, refund or figure of the real calls has to leave these out. The parts say
    how a real charge would have been split.
    """

    class Meta(_AnyCall.Meta):
        abstract = False
        indexes = [
            models.Index(fields=["buyer", "-finished_at"], name="testcall_by_buyer"),
            models.Index(fields=["key"], include=["cost_nano"], name="testcall_by_key"),
        ]


class FreeCall(models.Model):
    """One of the free calls that a buyer has of a model on a day (UTC), and the call that has it.

    Taken by the gateway before the model runs, given back by what ends as failed, used by what is charged. The numbers
    1 to `free_calls_per_day` are all there are: that each is given once is a constraint, whoever counts wrong.
    """

    call_id = models.UUIDField(primary_key=True)
    buyer = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    number = models.PositiveIntegerField()
    is_used = models.BooleanField(default=False)
    process = models.CharField(max_length=80)  # of an unused one: if it is dead, the next call may have the number
    taken_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["buyer", "model", "day", "number"], name="free_call_is_given_once"),
            models.CheckConstraint(
                name="free_call_has_a_number", condition=Q(number__gte=1, number__lte=FREE_CALLS_MAX)
            ),
        ]


class CallContent(models.Model):
    """Request, answer and passages of a call: one AES-GCM blob under a key of its own. Erased by deleting the key."""

    call_id = models.UUIDField(primary_key=True)
    sealed = models.BinaryField()
    sealed_key = models.BinaryField(null=True)  # the per-call key, wrapped under CONTENT_KEY
    expires_at = models.DateTimeField()  # not before its call is attributed (housekeeping.py)

    class Meta:
        indexes = [
            models.Index(fields=["expires_at"], name="content_to_be_erased", condition=Q(sealed_key__isnull=False))
        ]


class Idempotency(models.Model):
    """One row per owner and Idempotency-Key: who comes second waits, gets the stored answer, or is refused."""

    class Status(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")

    owner = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=260)  # of a test call with a word in front, which no header can have
    body_sha256 = models.BinaryField(max_length=32)
    call_id = models.UUIDField()
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.RUNNING)
    process = models.CharField(max_length=80)  # of a running one: a dead process frees it
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_is_used_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]
