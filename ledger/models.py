"""The tables of the books and of the public log. Closed to other apps: they call `ledger.services`.

Rows are written by the functions in `sql/` only; the application's role may read them and no more. What the tables
must never hold is refused by constraints: the simple ones stand here, those that need a function in `sql/checks.sql`.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q

from ledger import commitments, merkle

_NOW = models.Func(function="clock_timestamp", output_field=models.DateTimeField())


class TransactionIdField(models.Field):
    """PostgreSQL's 64-bit transaction id (xid8), a decimal string in Python. The sequencer orders by it."""

    def db_type(self, connection) -> str:
        return "xid8"


_THIS_TRANSACTION = models.Func(function="pg_current_xact_id", output_field=TransactionIdField())


class LedgerAccount(models.Model):
    """An account of the chart (`chart.py`); opened on first use, never closed."""

    code = models.CharField(max_length=80, unique=True)
    #: What may be paid out before anything came in: the supply for `world` and `testworld`, 0 for every other one.
    base_nano = models.BigIntegerField(default=0, db_default=0)
    opened_at = models.DateTimeField(db_default=_NOW)

    class Meta:
        db_table = "ledger_account"


class Journal(models.Model):
    """One posting, one row, append-only. The first leg is the payer (negative), the others receive."""

    id = models.UUIDField(primary_key=True)
    xid = TransactionIdField(db_default=_THIS_TRANSACTION)
    at = models.DateTimeField(db_default=_NOW)
    shard = models.SmallIntegerField(db_default=0)
    kind = models.CharField(max_length=24)
    reference = models.CharField(max_length=200)
    accounts = ArrayField(models.BigIntegerField())
    amounts = ArrayField(models.BigIntegerField())
    #: Seconds from `at` until legs into pending accounts vest; null if there are none.
    vest_after_s = models.IntegerField(null=True)
    #: The posting whose lot the payer, a pending account, gives from; null otherwise.
    takes_from = models.UUIDField(null=True)
    #: The hold it was drawn from; null if the payer's available money paid.
    hold_id = models.UUIDField(null=True)
    #: SHA-256 of the reference and the entry that the caller gave, so that a repeat can be told from a reuse of the id;
    #: null: it gave none.
    payload = models.BinaryField(null=True)

    class Meta:
        db_table = "ledger_journal"
        indexes = [
            models.Index(name="ledger_journal_order", fields=["xid"]),
            BrinIndex(name="ledger_journal_at", fields=["at"]),
        ]


class Spend(models.Model):
    """What an account may still pay: the only row a posting locks, and only the payer's.

    `granted` is what the account was last seen to have received; it trails `Position.credited_nano` and only grows,
    so a stale value refuses too much, never too little.
    """

    account = models.OneToOneField(LedgerAccount, primary_key=True, on_delete=models.PROTECT, related_name="+")
    granted_nano = models.BigIntegerField(db_default=0)
    debited_nano = models.BigIntegerField(db_default=0)
    held_nano = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "ledger_spend"
        constraints = [
            models.CheckConstraint(
                name="ledger_no_overdraft",
                condition=Q(
                    granted_nano__gte=F("debited_nano") + F("held_nano"), debited_nano__gte=0, held_nano__gte=0
                ),
            ),
        ]


class Position(models.Model):
    """What the fold has counted for an account. Written by the sequencer only, locked by nobody else."""

    account = models.OneToOneField(LedgerAccount, primary_key=True, on_delete=models.PROTECT, related_name="+")
    credited_nano = models.BigIntegerField(db_default=0)
    debited_nano = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "ledger_position"
        constraints = [
            models.CheckConstraint(
                name="ledger_position_is_not_negative", condition=Q(credited_nano__gte=0, debited_nano__gte=0)
            )
        ]


class Entry(models.Model):
    """One leg of a posting in the statement of its account, with the balance after it. Projected by the fold."""

    pk = models.CompositePrimaryKey("account_id", "seq")
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, db_constraint=False, db_index=False)
    seq = models.BigIntegerField()
    posting = models.ForeignKey(Journal, on_delete=models.PROTECT, db_constraint=False, db_index=False)
    amount_nano = models.BigIntegerField()
    balance_after_nano = models.BigIntegerField()

    class Meta:
        db_table = "ledger_entry"


class Hold(models.Model):
    """Money of one account set aside: drawn any number of times up to its amount, then closed."""

    id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, db_index=False, related_name="+")
    requested_nano = models.BigIntegerField()
    at_least_nano = models.BigIntegerField()
    amount_nano = models.BigIntegerField()
    drawn_nano = models.BigIntegerField(db_default=0)
    #: The process that holds it, and which life of that process: a lower generation is fenced.
    owner = models.CharField(max_length=100, db_default="")
    generation = models.BigIntegerField(db_default=0)
    opened_at = models.DateTimeField(db_default=_NOW)
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    #: closed | expired | fenced
    ending = models.CharField(max_length=8, db_default="")

    class Meta:
        db_table = "ledger_hold"
        constraints = [
            models.CheckConstraint(
                name="ledger_hold_is_not_exceeded",
                condition=Q(amount_nano__gt=0, drawn_nano__gte=0, drawn_nano__lte=F("amount_nano")),
            ),
            models.CheckConstraint(
                name="ledger_hold_ends_with_a_reason",
                condition=Q(closed_at__isnull=True, ending="")
                | Q(closed_at__isnull=False, ending__in=["closed", "expired", "fenced"]),
            ),
        ]
        indexes = [
            models.Index(name="ledger_hold_open", fields=["account"], condition=Q(closed_at__isnull=True)),
            models.Index(name="ledger_hold_due", fields=["expires_at"], condition=Q(closed_at__isnull=True)),
        ]


class Lot(models.Model):
    """One posting's credit to one pending account, until its challenge window ends. Made by the fold."""

    id = models.UUIDField(primary_key=True)
    posting = models.ForeignKey(Journal, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, db_constraint=False, related_name="+")
    amount_nano = models.BigIntegerField()
    #: Given back by refunds and adjustments before it vested.
    taken_nano = models.BigIntegerField(db_default=0)
    due_at = models.DateTimeField()
    vesting_id = models.UUIDField(null=True)
    vested_at = models.DateTimeField(null=True)
    held_at = models.DateTimeField(null=True)
    #: Null: until released.
    held_until = models.DateTimeField(null=True)
    hold_reason = models.CharField(max_length=400, db_default="")
    held_by = models.CharField(max_length=100, db_default="")

    class Meta:
        db_table = "ledger_lot"
        constraints = [
            models.UniqueConstraint(name="ledger_lot_once", fields=["posting", "account"]),
            models.CheckConstraint(
                name="ledger_lot_is_not_exceeded",
                condition=Q(amount_nano__gt=0, taken_nano__gte=0, taken_nano__lte=F("amount_nano")),
            ),
            models.CheckConstraint(
                name="ledger_lot_vests_once",
                condition=Q(vested_at__isnull=True, vesting_id__isnull=True)
                | Q(vested_at__isnull=False, vesting_id__isnull=False, taken_nano__lt=F("amount_nano")),
            ),
        ]
        indexes = [
            models.Index(
                name="ledger_lot_due",
                fields=["due_at"],
                condition=Q(vested_at__isnull=True, taken_nano__lt=F("amount_nano")),
            ),
        ]


class HeldAhead(models.Model):
    """A lot to be held from its first moment: asked for before the fold makes it, so that it never vests in between."""

    id = models.UUIDField(primary_key=True)
    posting_id = models.UUIDField()  # of a posting that may not be made yet
    account = models.CharField(max_length=100)
    held_until = models.DateTimeField(null=True)
    hold_reason = models.CharField(max_length=400)
    held_by = models.CharField(max_length=100)
    asked_at = models.DateTimeField(db_default=_NOW)

    class Meta:
        constraints = [models.UniqueConstraint(name="ledger_held_ahead_once", fields=["posting_id", "account"])]


class Fact(models.Model):
    """A log entry without money: something other apps want to be provable. Append-only."""

    id = models.UUIDField(primary_key=True)
    xid = TransactionIdField(db_default=_THIS_TRANSACTION)
    at = models.DateTimeField(db_default=_NOW)
    shard = models.SmallIntegerField(db_default=0)
    reference = models.CharField(max_length=200)
    #: SHA-256 of the reference and the entry.
    payload = models.BinaryField()

    class Meta:
        db_table = "ledger_fact"
        indexes = [models.Index(name="ledger_fact_order", fields=["xid", "id"])]


class Opening(models.Model):
    """What a log entry commits to, with the secret its salts come from. Deleting the row erases the person."""

    entry_id = models.UUIDField(primary_key=True)
    secret = models.BinaryField()
    #: Null: a plain posting, whose entry says its kind and commits to its reference and moves (read from the journal). Its
    #: opening is made with its leaf; where a caller gave an entry, with the posting.
    type = models.CharField(max_length=40, null=True)
    public = models.JSONField(null=True)
    private = models.JSONField(null=True)
    split = models.JSONField(null=True)

    class Meta:
        db_table = "ledger_opening"


class Leaf(models.Model):
    """One entry of the public log, as anybody may see it. Append-only."""

    index = models.BigIntegerField(primary_key=True)
    #: Of the kind and the reference it was logged with. Private, and still there when its opening is erased.
    reference_digest = models.BigIntegerField()
    entry_id = models.UUIDField(unique=True)
    type = models.CharField(max_length=40)
    #: What the entry says besides its version, type and id.
    body = models.JSONField()
    #: Of the canonical JSON of the whole entry.
    hash = models.BinaryField()

    class Meta:
        db_table = "ledger_leaf"
        indexes = [
            # The common types are nearly every leaf: whoever asks for one finds it from the newest backwards.
            models.Index(
                name="ledger_leaf_type",
                fields=["type", "index"],
                condition=~Q(
                    type__in=[commitments.POSTING_MADE, commitments.CALL_CHARGED, commitments.CALL_ATTRIBUTED]
                ),
            )
        ]

    @property
    def entry(self) -> dict:
        """The entry as it is hashed and shown."""
        return commitments.with_header(self.type, self.entry_id, self.body)


class Node(models.Model):
    """The hash of a complete subtree of the log, of those levels above the leaves that `merkle` keeps. Append-only."""

    pk = models.CompositePrimaryKey("level", "index")
    level = models.SmallIntegerField()
    index = models.BigIntegerField()
    hash = models.BinaryField()

    class Meta:
        db_table = "ledger_node"
        constraints = [
            models.CheckConstraint(
                name="ledger_node_is_kept",
                condition=Q(level__in=range(merkle.KEPT_EVERY, 64, merkle.KEPT_EVERY)),
            )
        ]


class Checkpoint(models.Model):
    """A signed head of the log. Stored before anybody sees it, so that no second one of its size is ever signed."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField()
    note = models.TextField()
    signed_at = models.DateTimeField(db_default=_NOW)

    class Meta:
        db_table = "ledger_checkpoint"


class Cosignature(models.Model):
    """A witness has seen this head extend the one before. Append-only."""

    pk = models.CompositePrimaryKey("size_id", "witness")
    size = models.ForeignKey(
        Checkpoint, on_delete=models.PROTECT, db_column="size", db_index=False, related_name="cosignatures"
    )
    witness = models.CharField(max_length=200)
    line = models.CharField(max_length=400)
    at = models.DateTimeField(db_default=_NOW)

    class Meta:
        db_table = "ledger_cosignature"
        indexes = [models.Index(name="ledger_cosignature_newest", fields=["witness", "size"])]


class Cursor(models.Model):
    """How far a projection has come: everything up to (xid, id) is in it."""

    name = models.CharField(max_length=8, primary_key=True)
    shard = models.SmallIntegerField(db_default=0)
    xid = TransactionIdField()
    posting = models.UUIDField()
    next_index = models.BigIntegerField(db_default=0)
    moved_at = models.DateTimeField(db_default=_NOW)

    class Meta:
        db_table = "ledger_cursor"


class Outbox(models.Model):
    """Work that must follow a commit. The consumer marks it done in the transaction of its effect."""

    topic = models.CharField(max_length=100)
    reference = models.CharField(max_length=200)
    payload = models.JSONField()
    created_at = models.DateTimeField(db_default=_NOW)
    due_at = models.DateTimeField(db_default=_NOW)
    rung = models.IntegerField(db_default=0)
    failures = models.IntegerField(db_default=0)
    last_failure = models.CharField(max_length=1000, db_default="")
    done_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "ledger_outbox"
        constraints = [models.UniqueConstraint(name="ledger_outbox_once", fields=["topic", "reference"])]
        indexes = [
            models.Index(name="ledger_outbox_due", fields=["due_at"], condition=Q(done_at__isnull=True)),
        ]
