"""The keys that programs call with, and what they have used of their limits."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from ..keyformat import PREFIX, TEST_PREFIX
from .fields import USER, amount
from .listings import ListedModel

SCOPES = ("call", "read")
CALLS_AT_ONCE, CALLS_AT_ONCE_MAX = 128, 1000  # of one key
TEST_REQUESTS_PER_MINUTE_MAX = 60  # of one test key: nobody pays for the work
ORIGIN_CHARS_MAX = 120
CONTENT_DAYS_MAX = 30  # what a call said is kept so long, or shorter: settings.CONTENT_KEPT_S


def all_scopes() -> list[str]:
    return list(SCOPES)


class ApiKeyQuerySet(QuerySet["ApiKey"]):
    def working(self) -> ApiKeyQuerySet:
        """Those that the gateway takes now."""
        now = timezone.now()
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now),
            Q(replaced_until=None) | Q(replaced_until__gt=now),
            revoked_at=None,
        )


class ApiKey(models.Model):
    """`open_sk_...`: only its hash is stored, it is shown once, and revoking it takes less than a second.

    One that `is_test` begins with `open_test_`. Its calls are `TestCall`s: they cost test money, and no model answers them.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="api_keys")
    made_by = models.ForeignKey(
        USER, on_delete=models.PROTECT, related_name="+"
    )  # a spender of a shared wallet, else the owner
    name = models.CharField(max_length=80)
    sha256 = models.BinaryField(max_length=32, unique=True)
    prefix = models.CharField(max_length=20)  # shown in lists and in snippets
    # A key that replaces another shares its limits: both together use what one may.
    limits_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    spend_cap_nano = amount(null=True, blank=True)
    spend_cap_day_nano = amount(null=True, blank=True)
    spend_cap_month_nano = amount(null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    calls_at_once = models.PositiveSmallIntegerField(default=CALLS_AT_ONCE)
    scopes = ArrayField(
        models.CharField(max_length=4), default=all_scopes
    )  # call: models; read: calls, credits, receipts
    allowed_models = models.ManyToManyField(ListedModel, blank=True, related_name="keys")  # empty: all
    allowed_origins = ArrayField(
        models.CharField(max_length=ORIGIN_CHARS_MAX), default=list, blank=True
    )  # of pages that may call with it from a browser
    content_days = models.PositiveSmallIntegerField(
        default=CONTENT_DAYS_MAX
    )  # what its calls say is kept; 0: until it is attributed
    is_playground = models.BooleanField(default=False)  # made by a model's page, for itself
    is_test = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    replaced_until = models.DateTimeField(null=True, blank=True)  # when another took its place, it works until then
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["id"], condition=~Q(allowed_origins=[]), name="keys_of_browsers")]
        constraints = [
            models.CheckConstraint(
                name="key_has_known_scopes", condition=Q(scopes__contained_by=list(SCOPES)) & ~Q(scopes=[])
            ),
            models.CheckConstraint(
                name="key_runs_calls_at_once", condition=Q(calls_at_once__range=(1, CALLS_AT_ONCE_MAX))
            ),
            models.CheckConstraint(name="key_keeps_content_for_days", condition=Q(content_days__lte=CONTENT_DAYS_MAX)),
            models.CheckConstraint(
                name="key_shows_whether_it_is_for_tests",
                condition=Q(is_test=True, prefix__startswith=TEST_PREFIX) | Q(is_test=False, prefix__startswith=PREFIX),
            ),
            models.CheckConstraint(
                name="test_key_is_slow",
                condition=Q(is_test=False)
                | Q(requests_per_minute__isnull=False, requests_per_minute__lte=TEST_REQUESTS_PER_MINUTE_MAX),
            ),
        ]

    @property
    def forgets_early(self) -> bool:
        """Whether its owner chose less time than the site keeps what calls say."""
        return self.content_days < CONTENT_DAYS_MAX


class KeyUse(models.Model):
    """How much of one limit of a key is used, and how much more gateways have leased; written by sql/limits.sql.

    Of `at_once` the unit is calls, and what runs is leased, never used. Of the others it is nano-OPEN.
    """

    class Kind(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        TOTAL = "total"
        AT_ONCE = "at_once"

    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="uses")
    kind = models.CharField(max_length=7, choices=Kind.choices)
    starts_on = models.DateField()  # the day or month, UTC; 1970-01-01 where there is no period
    most = models.BigIntegerField()
    used = models.BigIntegerField(default=0)
    leased = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "kind", "starts_on"], name="limit_is_counted_once"),
            models.CheckConstraint(
                name="no_key_uses_more_than_its_limit",
                condition=Q(used__gte=0) & Q(leased__gte=0) & Q(most__gte=F("used") + F("leased")),
            ),
        ]


class KeyLease(models.Model):
    """What one gateway process has of a key's limits, to give to calls from memory. Deleted when it ends."""

    class Use(models.TextChoices):
        SPEND = "spend"
        AT_ONCE = "at_once"

    id = models.UUIDField(primary_key=True)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+")
    use = models.CharField(max_length=7, choices=Use.choices)
    process = models.CharField(max_length=80, db_index=True)
    day = models.DateField()  # what is spent from it counts for this day (UTC) and its month
    granted = models.BigIntegerField()
    used = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="no_lease_gives_more_than_it_has", condition=Q(used__gte=0) & Q(granted__gte=F("used"))
            )
        ]


class KeyRate(models.Model):
    """What a key has left of requests or tokens a minute, by all gateways, at a moment. It fills again evenly."""

    class Kind(models.TextChoices):
        REQUESTS = "requests"
        TOKENS = "tokens"

    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    left = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "kind"], name="rate_is_counted_once")]
