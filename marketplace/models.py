"""The shop on top: listings, prices, training, access, keys, calls, wallets, payouts. Amounts are integer nano-OPEN.

Every row that causes a posting holds that posting's id, made once, in Python: a retry re-reads it (design of the ledger).
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

USER = settings.AUTH_USER_MODEL
SUPPLY_NANO = 10**18
FREE_CALLS_MAX = 1000  # of one model, to one account a day
ERASED = "\u2014"  # stands for words that were erased, where there must be some


def amount(**kwargs) -> models.BigIntegerField:
    """A column of nano-OPEN."""
    return models.BigIntegerField(**kwargs)


# --- Prices and rules


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
    """A model in the shop, `owner/slug`. Its versions answer; its mode says who may call."""

    class Engine(models.TextChoices):
        LINEAR = "linear", _("Linear")
        NEIGHBOURS = "neighbours", _("Neighbours")
        RETRIEVAL = "retrieval", _("Retrieval chat")
        CONNECTED = "connected", _("Connected")

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
    def takes_no_calls(self) -> bool:
        """Whether the day it retires has come."""
        return self.retire_from is not None and self.retire_from <= timezone.now()

    @property
    def path(self) -> str:
        """What a program sends as `model`."""
        return f"{self.owner.username}/{self.slug}"


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
    """Nano-OPEN per call, per prompt token and per answer token. Immutable (a trigger): a new one holds for later calls."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="price_lists")
    price_call_nano = amount()
    price_in_nano = amount()
    price_out_nano = amount()
    sha256 = models.CharField(max_length=64)  # of the canonical JSON: the `price_version` that a call may pin
    effective_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="prices_are_not_negative",
                condition=Q(price_call_nano__gte=0, price_in_nano__gte=0, price_out_nano__gte=0),
            )
        ]
        indexes = [models.Index(fields=["model", "-effective_at"], name="newest_price_list")]


class TrainingRun(models.Model):
    """Binding an engine to frozen versions. The fee is held, and charged once the artifact is stored; a failure releases it."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="training_runs")
    requested_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="training_runs")
    versions = models.ManyToManyField("datanets.Version", related_name="training_runs")
    settings = models.JSONField(default=dict)
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    fee_nano = amount()
    hold_id = models.UUIDField(null=True, blank=True)
    posting_id = models.UUIDField(unique=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    error_code = models.CharField(max_length=40, blank=True)
    error_params = models.JSONField(default=dict, blank=True)  # of the sentence that the code becomes when it is read
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)


class ModelVersion(models.Model):
    """What answers: `owner/slug@vN` is this artifact for ever. What was tested is what is served (same hash)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    artifact_sha256 = models.CharField(max_length=64)
    training_run = models.OneToOneField(TrainingRun, on_delete=models.PROTECT, related_name="model_version")
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="model_version_number_is_unique")]

    @property
    def path(self) -> str:
        return f"{self.model.path}@v{self.number}"


# --- Access and keys


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


# --- Calls


class Call(models.Model):
    """A call that ran, or was refused for money, access or price.

    One id inside and outside: `call:<uuid>`, `x-receipt-id`, `/r/<uuid>`.

    Charged calls are inserted by the capture function only, in the statement that charges them.
    """

    class Status(models.TextChoices):
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        LEFT = "left", _("Left")
        REFUSED = "refused", _("Refused")

    id = models.UUIDField(primary_key=True, editable=False)
    buyer = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="calls")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.PROTECT, related_name="calls")
    model = models.ForeignKey(ListedModel, on_delete=models.PROTECT, related_name="calls")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="calls")
    price_list = models.ForeignKey(PriceList, on_delete=models.PROTECT, related_name="+")
    split_rule = models.ForeignKey(SplitRule, on_delete=models.PROTECT, related_name="+")
    endpoint = models.CharField(max_length=20)  # chat, classify, predict, embeddings
    status = models.CharField(max_length=9, choices=Status.choices)
    error_code = models.CharField(max_length=40, blank=True)
    streamed = models.BooleanField(default=False)
    free = models.BooleanField(default=False)  # paid by the developer's promotion wallet
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
    published_at = models.DateTimeField(null=True, blank=True)  # its buyer chose to show it as a sample

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="call_parts_add_up_to_its_cost",
                condition=Q(
                    cost_nano=F("data_nano")
                    + F("curation_nano")
                    + F("developer_nano")
                    + F("platform_nano")
                    + F("owner_nano")
                ),
            ),
            models.CheckConstraint(
                name="only_answers_cost", condition=Q(status__in=["succeeded", "left"]) | Q(cost_nano=0)
            ),
            models.CheckConstraint(
                name="only_answers_are_free", condition=Q(status__in=["succeeded", "left"]) | Q(free=False)
            ),
        ]
        indexes = [
            models.Index(fields=["buyer", "-finished_at"], name="call_by_buyer"),
            models.Index(fields=["model", "-finished_at"], name="call_by_model"),
            # With the cost: the spend cap of a key is checked by a sum that touches no row.
            models.Index(fields=["key", "-finished_at"], include=["cost_nano", "free"], name="call_by_key"),
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
    expires_at = models.DateTimeField(db_index=True)


class Idempotency(models.Model):
    """One row per owner and Idempotency-Key: who comes second waits, gets the stored answer, or is refused."""

    class Status(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")

    owner = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    body_sha256 = models.BinaryField(max_length=32)
    call_id = models.UUIDField()
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.RUNNING)
    process = models.CharField(max_length=80)  # of a running one: a dead process frees it
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_is_used_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]


# --- Refunds and disputes


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


class LotHold(models.Model):
    """Why a lot of somebody's earnings does not vest: a dispute of a call or of records, or an admin's written reason.

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
                    dispute__isnull=False, theft__isnull=True, placed_by__isnull=True, reason="", until__isnull=True
                )
                | Q(dispute__isnull=True, theft__isnull=False, placed_by__isnull=True, reason="", until__isnull=False)
                | (Q(dispute__isnull=True, theft__isnull=True, placed_by__isnull=False) & ~Q(reason="")),
            ),
            models.CheckConstraint(
                name="lot_is_released_with_a_reason",
                condition=Q(released_at__isnull=True, released_by__isnull=True, release_reason="")
                | Q(released_at__isnull=False, placed_by__isnull=True)
                | (Q(released_at__isnull=False, released_by__isnull=False) & ~Q(release_reason="")),
            ),
            models.UniqueConstraint(
                fields=["lot_id", "dispute", "theft"],
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


# --- Wallets


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


# --- What people are told, and what is remembered


class Notification(models.Model):
    """One line in somebody's inbox."""

    user = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=40)
    params = models.JSONField(default=dict)
    url = models.CharField(max_length=300, blank=True)
    subject = models.CharField(max_length=120, blank=True)  # what was read to tell this: told once
    created_at = models.DateTimeField(default=timezone.now)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "subject"], condition=~Q(subject=""), name="news_is_told_once"
            )
        ]
        indexes = [models.Index(fields=["user", "-created_at"], name="notification_inbox")]


class AuditEvent(models.Model):
    """A privileged act: who, what, on what, when. Append-only (a trigger)."""

    actor = models.ForeignKey(USER, null=True, on_delete=models.PROTECT, related_name="+")
    act = models.CharField(max_length=60)
    target = models.CharField(max_length=120)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["-at"], name="audit_newest")]


class DemoProgress(models.Model):
    """How far the demo has loaded: one row per step, shown on the home page until all are done."""

    step = models.CharField(primary_key=True, max_length=60)
    position = models.PositiveSmallIntegerField()
    done_at = models.DateTimeField(null=True, blank=True)
    # Ids of what the step made, by names of its own: it goes on with these, and with nothing of anybody else.
    made = models.JSONField(default=dict, blank=True)
