"""Models in the shop and their terms: what a call costs, who may call, how a charge is split, what training costs."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .fields import USER, amount

FREE_CALLS_MAX = 1000  # of one model, to one account a day
FALLBACKS_MAX = 3  # of one model: each is asked in its turn while a buyer waits


class SplitRule(models.Model):
    """How a charge is split, in basis points. Immutable (a trigger): a new rule is a new row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)
    data_bp = models.PositiveIntegerField()
    curation_bp = models.PositiveIntegerField()
    developer_bp = models.PositiveIntegerField()
    platform_bp = models.PositiveIntegerField()
    owner_bp = models.PositiveIntegerField(default=0)
    sha256 = models.CharField(max_length=64, unique=True)  # of the canonical JSON of the five parts
    adopted_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    adopted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="split_rule_adds_up_to_the_whole",
                condition=Q(
                    data_bp=10_000 - F("curation_bp") - F("developer_bp") - F("platform_bp") - F("owner_bp"),
                ),
            ),
            models.CheckConstraint(name="platform_takes_a_part", condition=Q(platform_bp__gt=0)),
        ]

    @property
    def parts(self) -> dict[str, int]:
        """Role -> basis points, in the order that breaks ties."""
        return {
            "data": self.data_bp,
            "curation": self.curation_bp,
            "developer": self.developer_bp,
            "platform": self.platform_bp,
            "owner": self.owner_bp,
        }


class DatanetTerms(models.Model):
    """What training on a Datanet costs. A new fee is a new row; the newest counts."""

    datanet = models.ForeignKey("datanets.Datanet", on_delete=models.PROTECT, related_name="terms")
    training_fee_nano = amount()
    adopted_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    adopted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(name="training_fee_is_not_negative", condition=Q(training_fee_nano__gte=0))
        ]


class ListedModel(models.Model):
    """A model in the shop, `owner/slug`. Its versions answer; its mode says who may call.

    An operator model (engine `embedding`) was shaped by no Datanet: triggers keep data, curators and owners at 0 in its rule,
    and training runs away from it.
    """

    class Engine(models.TextChoices):
        LINEAR = "linear", _("Linear")
        NEIGHBOURS = "neighbours", _("Neighbours")
        RETRIEVAL = "retrieval", _("Retrieval chat")
        CONNECTED = "connected", _("Connected")
        EMBEDDING = "embedding", _("Embeddings")

    class AccessMode(models.TextChoices):
        OPEN = "open", _("Open")
        PASS = "pass", _("Pass")
        INVITE = "invite", _("By invitation")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="models")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    purpose = models.CharField(max_length=300)
    card = models.TextField(blank=True)
    engine = models.CharField(max_length=12, choices=Engine.choices)
    access_mode = models.CharField(max_length=8, choices=AccessMode.choices, default=AccessMode.OPEN)
    pass_price_nano = amount(null=True, blank=True)
    pass_days = models.PositiveIntegerField(null=True, blank=True)
    free_calls_per_day = models.PositiveIntegerField(default=0)  # per account, while the promotion wallet lasts
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="models")
    # connected: where it answers. The key is a Fernet token under FIELD_KEYS.
    upstream_url = models.URLField(max_length=300, blank=True)
    upstream_model = models.CharField(max_length=120, blank=True)
    upstream_key_token = models.TextField(blank=True)
    context_tokens = models.PositiveIntegerField(default=2048)
    max_output_tokens = models.PositiveIntegerField(default=512)
    listed_at = models.DateTimeField(null=True, blank=True)
    retire_from = models.DateTimeField(null=True, blank=True)  # announced: no new calls from then on
    retirement_hold_id = models.UUIDField(null=True, blank=True)  # what running passes get back then
    retired_at = models.DateTimeField(null=True, blank=True)  # its last epoch is paid, its pools are empty
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "slug"], name="model_slug_is_unique_per_owner"),
            models.CheckConstraint(
                name="pass_has_price_and_days",
                condition=~Q(access_mode="pass") | Q(pass_price_nano__gte=0, pass_days__gte=1),
            ),
            models.CheckConstraint(
                name="connected_model_has_an_upstream", condition=~Q(engine="connected") | ~Q(upstream_url="")
            ),
            models.CheckConstraint(
                name="free_calls_per_day_are_bounded", condition=Q(free_calls_per_day__lte=FREE_CALLS_MAX)
            ),
            models.CheckConstraint(
                name="retirement_is_announced_first",
                condition=Q(retired_at__isnull=True) | Q(retire_from__isnull=False, retired_at__gte=F("retire_from")),
            ),
        ]

    @property
    def is_operator_model(self) -> bool:
        """Whether no Datanet shaped it, so that nobody's data is paid."""
        return self.engine == self.Engine.EMBEDDING

    @property
    def takes_no_calls(self) -> bool:
        """Whether the day it retires has come."""
        return self.retire_from is not None and self.retire_from <= timezone.now()

    @property
    def path(self) -> str:
        """What a program sends as `model`."""
        return f"{self.owner.username}/{self.slug}"


class Fallback(models.Model):
    """Who answers in place of a model's upstream that does not: another address, at the same price. Asked by place."""

    model = models.ForeignKey(ListedModel, on_delete=models.CASCADE, related_name="fallbacks")
    place = models.PositiveSmallIntegerField()  # from 1
    url = models.URLField(max_length=300)
    model_name = models.CharField(max_length=120, blank=True)
    key_token = models.TextField(blank=True)  # a Fernet token under FIELD_KEYS

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "place"], name="fallback_has_a_place_of_its_own"),
            models.CheckConstraint(
                name="fallbacks_are_few", condition=Q(place__gte=1, place__lte=FALLBACKS_MAX) & ~Q(url="")
            ),
        ]
        ordering = ["place"]

    @property
    def has_key(self) -> bool:
        return bool(self.key_token)


class ModelTerms(models.Model):
    """How a model's charges are split and who may call it, from a moment on. New terms are a new row (a trigger); the
    newest says what the model itself says."""

    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="terms")
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    access_mode = models.CharField(max_length=8, choices=ListedModel.AccessMode.choices)
    pass_price_nano = amount(null=True, blank=True)
    pass_days = models.PositiveIntegerField(null=True, blank=True)
    free_calls_per_day = models.PositiveIntegerField(default=0)
    adopted_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    adopted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["model", "-adopted_at"], name="newest_model_terms")]


class PriceList(models.Model):
    """Nano-OPEN per call, per prompt token and per answer token, and of a call at which the model abstains.

    Immutable (a trigger): a new one holds for later calls.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="price_lists")
    price_call_nano = amount()
    price_in_nano = amount()
    price_out_nano = amount()
    price_abstain_nano = amount(default=0)
    sha256 = models.CharField(max_length=64)  # of the canonical JSON: the `price_version` that a call may pin
    effective_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="prices_are_not_negative",
                condition=Q(price_call_nano__gte=0, price_in_nano__gte=0, price_out_nano__gte=0),
            ),
            # So it is never above what was reserved for an answer, whatever its tokens.
            models.CheckConstraint(
                name="abstaining_costs_no_more_than_a_call",
                condition=Q(price_abstain_nano__gte=0, price_abstain_nano__lte=F("price_call_nano")),
            ),
        ]
        indexes = [models.Index(fields=["model", "-effective_at"], name="newest_price_list")]


class RuleProposalQuerySet(models.QuerySet):
    """Questions about proposed rules."""

    def open(self) -> RuleProposalQuerySet:
        """Neither in force nor withdrawn yet."""
        return self.filter(adopted_at__isnull=True, withdrawn_at__isnull=True)


class RuleProposal(models.Model):
    """Another split rule for a model in use. It takes effect with the first price list published from `not_before` on."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="rule_proposals")
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    instead_of = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    proposed_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField(default=timezone.now)
    not_before = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)  # those whose records are in the model
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    adopted_at = models.DateTimeField(null=True, blank=True)
    price_list = models.OneToOneField(
        PriceList, null=True, blank=True, on_delete=models.PROTECT, related_name="rule_proposal"
    )

    objects = RuleProposalQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model"],
                condition=Q(adopted_at__isnull=True, withdrawn_at__isnull=True),
                name="model_has_one_open_rule_proposal",
            ),
            models.CheckConstraint(
                name="proposed_rule_takes_effect_with_a_price_list_after_its_lock",
                condition=Q(adopted_at__isnull=True, price_list__isnull=True)
                | Q(
                    adopted_at__isnull=False,
                    adopted_at__gte=F("not_before"),
                    price_list__isnull=False,
                    withdrawn_at__isnull=True,
                ),
            ),
            models.CheckConstraint(name="proposed_rule_is_another_one", condition=~Q(split_rule=F("instead_of"))),
        ]
        indexes = [
            models.Index(fields=["proposed_at"], condition=Q(told_at__isnull=True), name="rule_proposal_to_be_told")
        ]
