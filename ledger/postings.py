"""Postings: money moves between accounts, once, for a reason that has a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from ledger import commitments, database
from ledger.legs import batch, legs
from ledger.models import Journal, LedgerAccount

_POST = "SELECT ledger_post(%s)::text"


class Kind(StrEnum):
    """Why money moved. The list is closed, here and in the database."""

    DEPOSIT = "deposit"
    WITHDRAWAL_IN_RUN = "withdrawal_in_run"
    WITHDRAWAL_CONFIRMED = "withdrawal_confirmed"
    WITHDRAWAL_RETURNED = "withdrawal_returned"
    CALL_CHARGED = "call_charged"
    ACCESS_CHARGED = "access_charged"
    TRAINING_CHARGED = "training_charged"
    SETTLEMENT = "settlement"
    VESTING = "vesting"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    UNATTRIBUTED_RELEASED = "unattributed_released"
    PROMOTION_FUNDED = "promotion_funded"
    PROMOTION_RETURNED = "promotion_returned"
    WALLET_FUNDED = "wallet_funded"
    TEST_GRANTED = "test_granted"
    TEST_CHARGED = "test_charged"


class Move(NamedTuple):
    """An amount from one account to another; codes come from `chart`. A move of 0 is dropped: a split part may be 0."""

    source: str
    target: str
    amount_nano: int


@dataclass(frozen=True)
class Entry:
    """What the public log says about a posting or a fact: `commitments.ENTRY_TYPES` lists the types and their fields.

    Attributes:
        type: For example "call.charged".
        public: Fields anybody may read.
        private: Fields the log only commits to. Values are strings, small integers, lists and objects of these.
        split: Lines {payee, role, item, amount}, committed to one by one; amounts are decimal strings.
    """

    type: str
    public: Mapping[str, object] = field(default_factory=dict)
    private: Mapping[str, object] = field(default_factory=dict)
    split: Sequence[Mapping[str, str]] | None = None

    def said(self) -> dict:
        """The entry as the SQL functions read it."""
        split = None if self.split is None else [dict(line) for line in self.split]
        return {"type": self.type, "public": dict(self.public), "private": dict(self.private), "split": split}

    def check(self) -> None:
        """Refuse now what the log could not publish later. Raises strict.Malformed."""
        said = self.said()
        commitments.build_entry(
            said["type"], "", "2000-01-01T00", said["public"], said["private"], said["split"], bytes(32)
        )


@dataclass(frozen=True)
class Posting:
    """Moves that happen together or not at all; all of them from one payer.

    Attributes:
        id: A UUIDv7 made once (`new_id`) and stored with the business row that causes it. A repeat with the same id
            and content does nothing, one with other content is refused.
        kind: Why.
        reference: The higher fact, for example "call:<uuid>"; unique per kind, for ever.
        moves: At least one of more than 0.
        entry: What the public log says; None: its kind, and a commitment to its moves.
        vest_after_s: How long moves into pending accounts wait; needed with them, refused without.
        takes_from: The posting whose lot a pending payer gives from; needed with such a payer, refused without.
    """

    id: UUID
    kind: Kind
    reference: str
    moves: Sequence[Move]
    entry: Entry | None = None
    vest_after_s: int | None = None
    takes_from: UUID | None = None

    def said(self) -> dict:
        """The posting as `legs.batch` reads it. Raises BadAmount, Unbalanced, strict.Malformed."""
        accounts, amounts = legs(self.moves, posting=self.id)
        said: dict[str, object] = {
            "id": self.id,
            "kind": Kind(self.kind).value,
            "reference": self.reference,
            "accounts": accounts,
            "amounts": amounts,
        }
        # What a posting has not is not said: in a batch of a thousand three nulls each are an eighth of what is read.
        if self.entry is not None:
            self.entry.check()
            said["entry"] = self.entry.said()
        if self.vest_after_s is not None:
            said["vest_after_s"] = self.vest_after_s
        if self.takes_from is not None:
            said["takes_from"] = self.takes_from
        return said


@dataclass(frozen=True)
class PostingRow:
    """A posting as it stands in the journal; moves to one target added up, those of 0 gone.

    vest_after_s: Seconds from `at` until what it moved into pending accounts vests; None if it moved nothing there.
    """

    id: UUID
    kind: Kind
    reference: str
    at: datetime
    moves: tuple[Move, ...]
    vest_after_s: int | None


def post(
    *,
    id: UUID,
    kind: Kind,
    reference: str,
    moves: Sequence[Move],
    entry: Entry | None = None,
    vest_after_s: int | None = None,
    takes_from: UUID | None = None,
) -> bool:
    """Make one posting. The payer is debited at once; payees can spend it after the next fold.

    Returns:
        True if it is new, False if exactly this posting was there already.

    Raises:
        InsufficientFunds, SupplyExceeded, PayloadMismatch, ReferenceTaken, UnknownAccount, Unbalanced, BadAmount,
        LotUnavailable; strict.Malformed if the log could not publish the entry.
    """
    said = Posting(id, kind, reference, moves, entry, vest_after_s, takes_from).said()
    return bool(database.rows(_POST, database.as_json(batch([said])), prepared_as="ledger_posts"))


def post_many(postings: Sequence[Posting]) -> set[UUID]:
    """Make all these postings, or none, in one round trip. Returns the ids that are new. Raises what `post` raises."""
    if not postings:
        return set()
    said = database.as_json(batch(posting.said() for posting in postings))
    return database.new_among((posting.id for posting in postings), _POST, said, prepared_as="ledger_posts")


def posting_of(posting_id: UUID) -> PostingRow | None:
    """Read one posting."""
    posting = Journal.objects.filter(pk=posting_id).first()
    if posting is None:
        return None
    codes = LedgerAccount.objects.in_bulk(posting.accounts)
    payer, *payees = [codes[number].code for number in posting.accounts]
    moves = tuple(Move(payer, payee, amount) for payee, amount in zip(payees, posting.amounts[1:], strict=True))
    return PostingRow(posting.id, Kind(posting.kind), posting.reference, posting.at, moves, posting.vest_after_s)
