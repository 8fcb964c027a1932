"""Who shaped an answer, and what that is worth: artifacts, traces, epochs, plans, lines.

A call is known here by its uuid only. All that is needed of it came in the outbox payload; nothing is asked upwards.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from attribution.models.cards import ScoreCard, ScoreCardPart
from attribution.models.noise import NoiseCase, NoiseRecord, NoiseReport
from attribution.netting import Unattributed
from datanets.accuracy import Counts, millionths
from ledger import chart

__all__ = [
    "Artifact",
    "CuratorAccuracy",
    "Cut",
    "Epoch",
    "Line",
    "NoiseCase",
    "NoiseRecord",
    "NoiseReport",
    "PlanShard",
    "PlannedPosting",
    "RecordEpoch",
    "RecordFee",
    "RecordLine",
    "Reversal",
    "ScoreCard",
    "ScoreCardPart",
    "Source",
    "Trace",
    "Transfer",
    "TransferReturn",
    "paid_to",
]

USER = settings.AUTH_USER_MODEL
REASONS = [str(reason) for reason in Unattributed]  # each has a sentence in reasons.py


class Artifact(models.Model):
    """A trained or assembled thing, known by the hash of its files. Same inputs, same hash."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    engine = models.CharField(max_length=20)
    settings = models.JSONField(default=dict)
    versions = models.ManyToManyField("datanets.Version", related_name="artifacts")
    record_count = models.PositiveIntegerField()
    size_bytes = models.BigIntegerField()
    metrics = models.JSONField(default=dict)  # measured on held-out rows when it was made
    method = models.CharField(max_length=40)  # of its calls; a code of methods.py
    fee_method = models.CharField(max_length=40)  # how access and training money is split over its records
    created_at = models.DateTimeField(default=timezone.now)


class Source(models.TextChoices):
    """Where money for records comes from."""

    CALL = "call", _("Call")
    ACCESS = "access", _("Access")
    TRAINING = "training", _("Training")


class Trace(models.Model):
    """What attribution knows of one charge: enough to recompute its scores, or the few scores themselves.

    `charge_id` is the id of the charge's posting: for a call the call's own.
    """

    class Status(models.TextChoices):
        DONE = "done", _("Attributed")
        FAILED = "failed", _("Not attributable")

    charge_id = models.UUIDField(primary_key=True)
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.CALL)
    model_id = models.UUIDField()
    model_version_id = models.UUIDField()
    artifact = models.ForeignKey(Artifact, null=True, blank=True, on_delete=models.PROTECT, related_name="traces")
    rule_sha256 = models.CharField(max_length=64)
    data_nano = models.BigIntegerField()
    curation_nano = models.BigIntegerField()
    status = models.CharField(max_length=8, choices=Status.choices)
    reason = models.CharField(max_length=40, blank=True)  # of a failure, or of an all-zero result
    context = models.JSONField(default=dict)  # linear, neighbours: features and served class (<= 3 kB); chat: no words
    forgotten_at = models.DateTimeField(null=True, blank=True)  # its context was erased with its buyer: lines stand
    scores = models.JSONField(null=True, blank=True)  # retrieval, connected: {record id: signed int at 1e-9}
    causal_millionths = models.PositiveIntegerField(default=1_000_000)  # C of the design: attributed part of data_nano
    method = models.CharField(max_length=40)
    charged_at = models.DateTimeField()  # of the posting: who withdraws a record later is paid for this charge
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="trace_amounts_are_not_negative", condition=Q(data_nano__gte=0, curation_nano__gte=0)
            ),
            models.CheckConstraint(name="trace_reason_is_known", condition=Q(reason__in=["", *REASONS])),
            models.CheckConstraint(name="causal_part_is_a_part", condition=Q(causal_millionths__lte=1_000_000)),
            models.CheckConstraint(
                name="forgotten_trace_has_no_context", condition=Q(forgotten_at__isnull=True) | Q(context={})
            ),
        ]
        indexes = [models.Index(fields=["model_id", "created_at"], name="trace_by_model")]


class Cut(models.Model):
    """One moment at which epochs end: the log from the last cut's end to the head then. One per boundary of EPOCH_S."""

    boundary = models.BigIntegerField(primary_key=True)  # unix time // EPOCH_S
    first_leaf = models.BigIntegerField(unique=True)
    end_leaf = models.BigIntegerField()  # exclusive
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(name="cut_covers_leaves", condition=Q(end_leaf__gt=models.F("first_leaf")))
        ]


class Epoch(models.Model):
    """The charges of one model between two heads of the log, settled together."""

    class Status(models.TextChoices):
        CLOSED = "closed", _("Closed")
        PLANNED = "planned", _("Planned")
        POSTED = "posted", _("Posted")

    id = models.UUIDField(primary_key=True, editable=False)
    cut = models.ForeignKey(Cut, on_delete=models.PROTECT, related_name="epochs")
    model_id = models.UUIDField()
    number = models.PositiveIntegerField()
    first_leaf = models.BigIntegerField()
    end_leaf = models.BigIntegerField()  # exclusive
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.CLOSED)
    # Of each version of the model that is measured: {"card": id, "below": [figures]}, as of the close, for ever.
    cards = models.JSONField(default=dict)
    charge_ids = models.JSONField(default=list)  # of the log entries it covers, in the order of their leaves
    pool_nano = models.BigIntegerField(default=0)  # what its calls, accesses and trainings put into the pools
    paid_nano = models.BigIntegerField(default=0)
    unattributed_nano = models.BigIntegerField(default=0)
    lines_root = models.CharField(max_length=64, blank=True)  # of salted commitments to its lines, in the public log
    lines_secret = models.BinaryField(default=bytes)
    accuracy_sha256 = models.CharField(max_length=64, blank=True)  # of its curators' accuracies; empty: not frozen yet
    closed_at = models.DateTimeField(default=timezone.now)
    planned_at = models.DateTimeField(null=True, blank=True)
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model_id", "number"], name="epoch_number_is_unique"),
            models.UniqueConstraint(fields=["model_id", "first_leaf"], name="epochs_do_not_start_together"),
            models.CheckConstraint(name="epoch_covers_leaves", condition=Q(end_leaf__gt=models.F("first_leaf"))),
            models.CheckConstraint(
                name="posted_epoch_pays_its_pool",
                condition=~Q(status="posted") | Q(pool_nano=models.F("paid_nano") + models.F("unattributed_nano")),
            ),
        ]

    @property
    def equal_versions(self) -> frozenset[uuid.UUID]:
        """The model versions whose card lay below a floor when this epoch closed: they pay equally in it."""
        return frozenset(uuid.UUID(version_id) for version_id, card in self.cards.items() if card["below"])

    def pays_equally(self, version_id: uuid.UUID) -> bool:
        return version_id in self.equal_versions


class PlanShard(models.Model):
    """A part of a large epoch's plan that one worker computes. Deleted with the plan: what stays is its lines."""

    class Phase(models.TextChoices):
        SUMS = "sums"
        LINES = "lines"

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="shards")
    model_version_id = models.UUIDField()
    phase = models.CharField(max_length=5, choices=Phase.choices)
    inputs_sha256 = models.CharField(max_length=64)  # of all shards' calls, authors and factors: other ones, other rows
    number = models.PositiveIntegerField()  # parts are put together in this order
    charge_ids = models.JSONField()
    authors = models.JSONField(default=list)  # [[record, user], ...] whom records pay instead of their contributors
    phi = models.BinaryField(default=bytes)  # net factors, of number 0
    result = models.BinaryField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["epoch", "model_version_id", "phase", "inputs_sha256", "number"],
                name="plan_shard_is_asked_once",
            )
        ]


class PlannedPosting(models.Model):
    """One batch of a settlement, ready for the sequencer: its id was made once, so posting it twice is posting it once."""

    id = models.UUIDField(primary_key=True, editable=False)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="postings")
    number = models.PositiveIntegerField()
    moves = models.JSONField()  # [[source, target, amount_nano], ...]
    posted_at = models.DateTimeField(null=True, blank=True)


class Line(models.Model):
    """A payment: this call (or access, or training), this payee, this role, this much. Or to nobody, with its reason.

    Per (source, payee, role); the records behind it are RecordLine (the 20 largest of a call) and recomputed on request.
    """

    class Role(models.TextChoices):
        DATA = "data", _("Data contributor")
        CURATION = "curation", _("Curator")

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="lines")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.CALL)
    source_id = models.UUIDField()
    role = models.CharField(max_length=8, choices=Role.choices)
    payee = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="lines")
    reason = models.CharField(max_length=40, blank=True)  # of the unattributed part
    record_count = models.PositiveIntegerField(default=0)
    amount_nano = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="line_pays_something", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(
                name="unattributed_line_has_a_reason",
                condition=Q(payee__isnull=False, reason="") | Q(payee__isnull=True, reason__in=REASONS),
            ),
            models.UniqueConstraint(
                fields=["source_id", "role", "payee", "reason"],
                name="payee_has_one_line_per_source_and_role",
                nulls_distinct=False,
            ),
        ]
        indexes = [models.Index(fields=["payee", "id"], name="line_by_payee")]

    @property
    def account(self) -> str:
        """Where it was paid to."""
        return chart.unattributed(self.epoch.model_id) if self.payee_id is None else chart.pending(self.payee_id)

    @property
    def role_said(self) -> str:
        """The role as receipts name it."""
        if self.payee_id is None:
            return "unattributed"
        return "contributor" if self.role == self.Role.DATA else "curator"


class CuratorAccuracy(models.Model):
    """What a curator's accuracy in a Datanet was at the close of an epoch, with the counts that it is computed from.

    Of everybody of whom anything was observed; others count in full. Written once, before the epoch is planned.
    """

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="accuracies")
    datanet = models.ForeignKey("datanets.Datanet", on_delete=models.PROTECT, related_name="+")
    curator = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    gold_right = models.PositiveIntegerField()
    gold_wrong = models.PositiveIntegerField()
    stood = models.PositiveIntegerField()
    overturned = models.PositiveIntegerField()
    accuracy_millionths = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["epoch", "datanet", "curator"], name="curator_is_measured_once_per_epoch"),
            models.CheckConstraint(name="accuracy_is_a_share", condition=Q(accuracy_millionths__lte=1_000_000)),
        ]

    @property
    def counts(self) -> Counts:
        return Counts(self.gold_right, self.gold_wrong, self.stood, self.overturned)

    @property
    def computed_millionths(self) -> int:
        return millionths(self.counts)


class Reversal(models.Model):
    """A charge that was given back, as settlement knows it. Written under the model's lock (`reversals.lock`).

    Not settled: its epoch leaves it out. Settled: its lines stand and were taken back, and the next plan of the model
    takes its scores out of the running sums, so that a call that nobody paid for in the end moves nobody's net factor.
    """

    charge_id = models.UUIDField(primary_key=True)
    model_id = models.UUIDField()
    was_settled = models.BooleanField()
    netted_in = models.ForeignKey(Epoch, null=True, blank=True, on_delete=models.PROTECT, related_name="netted")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="only_a_settled_charge_is_netted", condition=Q(was_settled=True) | Q(netted_in__isnull=True)
            )
        ]
        indexes = [models.Index(fields=["model_id"], name="reversal_to_be_netted", condition=Q(netted_in__isnull=True))]


class RecordLine(models.Model):
    """What one record earned in one call: the 20 largest of each call are kept."""

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="record_lines")
    source_id = models.UUIDField()
    record = models.ForeignKey("datanets.Record", on_delete=models.PROTECT, related_name="lines")
    score = models.BigIntegerField()  # signed, 1e-9 of the call's L1 norm
    amount_nano = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source_id", "record"], name="record_has_one_line_per_source")]
        indexes = [models.Index(fields=["record", "id"], name="record_line_by_record")]


class RecordEpoch(models.Model):
    """A record's running sums at the end of an epoch, and what it earned in it. Sums can exceed 2^63: decimal, scale 0."""

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="record_epochs")
    model_version_id = models.UUIDField()
    record = models.ForeignKey("datanets.Record", on_delete=models.PROTECT, related_name="record_epochs")
    net = models.DecimalField(max_digits=60, decimal_places=0)  # N: sum of data_nano * score over all calls so far
    positive = models.DecimalField(max_digits=60, decimal_places=0)  # P: its positive part
    phi = models.BigIntegerField()  # floor(1e9 * max(N, 0) / P)
    gated = models.BooleanField(default=False)
    call_count = models.PositiveIntegerField()
    amount_nano = models.BigIntegerField()
    given_back_nano = models.BigIntegerField(
        default=0
    )  # what calls had paid it that were refunded since: their epoch stands
    # The author, since a theft dispute was won; null: its contributor was paid.
    payee = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["epoch", "model_version_id", "record"], name="record_is_summed_once_per_epoch"
            )
        ]
        indexes = [
            models.Index(fields=["record", "epoch"], name="record_epoch_by_record"),
            models.Index(fields=["model_version_id", "record", "-id"], name="record_epoch_newest_of_version"),
            models.Index(fields=["payee"], name="record_epoch_of_author", condition=Q(payee__isnull=False)),
        ]


class RecordFee(models.Model):
    """What a record earned from the access or training charges of an epoch: every record, so that its page adds up."""

    id = models.BigAutoField(primary_key=True)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="record_fees")
    source = models.CharField(max_length=8, choices=Source.choices)
    record = models.ForeignKey("datanets.Record", on_delete=models.PROTECT, related_name="fees")
    amount_nano = models.BigIntegerField()
    equal_nano = models.BigIntegerField(
        default=0
    )  # the part of it that was split equally, because nothing was measured
    payee = models.ForeignKey(  # as of RecordEpoch
        USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["epoch", "source", "record"], name="record_fees_are_summed_once_per_epoch")
        ]
        indexes = [models.Index(fields=["record", "epoch"], name="record_fee_by_record")]


def paid_to(user_id: int) -> Q:
    """Of RecordEpoch and RecordFee: the rows whose money went to this person, as contributor or as author."""
    return Q(payee=user_id) | Q(payee=None, record__contributor=user_id)


class TransferQuerySet(models.QuerySet):
    """Questions about what moved."""

    def with_kept(self) -> TransferQuerySet:
        """Annotate `kept_nano`: what moved, less what went back with calls that were refunded later."""
        back = TransferReturn.objects.filter(transfer=models.OuterRef("pk")).order_by().values("transfer")
        total = models.Subquery(back.annotate(total=models.Sum("amount_nano")).values("total"))
        return self.annotate(
            kept_nano=models.F("amount_nano") - Coalesce(total, 0, output_field=models.BigIntegerField())
        )


class Transfer(models.Model):
    """What moved out of a contributor's lot, record by record, nano by nano: to the author when a theft dispute was won,
    to the model's unattributed account when a noise case ended so.

    The lines of its epoch stand; a refund of one of its calls takes the record's part from where it is (`reversals`).
    """

    id = models.BigAutoField(primary_key=True)
    dispute = models.ForeignKey(
        "datanets.TheftDispute", null=True, blank=True, on_delete=models.PROTECT, related_name="transfers"
    )
    noise = models.ForeignKey(NoiseCase, null=True, blank=True, on_delete=models.PROTECT, related_name="transfers")
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="transfers")
    source = models.CharField(max_length=8, choices=Source.choices)
    record = models.ForeignKey("datanets.Record", on_delete=models.PROTECT, related_name="+")
    payee = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")  # who had been paid
    author = models.ForeignKey(  # null: nobody, the unattributed account
        USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    amount_nano = models.BigIntegerField()
    settlement = models.ForeignKey(PlannedPosting, on_delete=models.PROTECT, related_name="+")  # whose lot it was in
    posting_id = models.UUIDField()  # that moved it
    at = models.DateTimeField(default=timezone.now)

    objects = TransferQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["epoch", "source", "record"], name="record_is_moved_to_its_author_once"),
            models.CheckConstraint(name="transfer_moves_something", condition=Q(amount_nano__gt=0)),
            models.CheckConstraint(
                name="author_is_another_person", condition=Q(author=None) | ~Q(author=models.F("payee"))
            ),
            models.CheckConstraint(
                name="transfer_has_one_cause",
                condition=Q(dispute__isnull=False, noise=None, author__isnull=False)
                | Q(dispute=None, noise__isnull=False, author=None),
            ),
        ]
        indexes = [models.Index(fields=["posting_id"], name="transfer_by_posting")]


class TransferReturn(models.Model):
    """What of a transfer went back with a refund: the record's part in the refunded call, out of the author's lot."""

    id = models.BigAutoField(primary_key=True)
    transfer = models.ForeignKey(Transfer, on_delete=models.PROTECT, related_name="returns")
    charge_id = models.UUIDField()
    amount_nano = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["charge_id", "transfer"], name="refund_returns_a_part_of_a_transfer_once"),
            models.CheckConstraint(name="transfer_return_is_something", condition=Q(amount_nano__gt=0)),
        ]
