"""Lots: what a pending account is made of, and what keeps a part of it from vesting.

The fold makes one lot per posting and pending account; the sequencer moves it to the wallet when it is due. What was
not taken back, over the open lots of an account, is that account's balance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils import timezone

from ledger import database
from ledger.models import Lot

State = Literal["pending", "held", "vested", "taken"]


@dataclass(frozen=True)
class LotRow:
    """A lot. `open_nano` is what will still vest; `vesting_id` the posting in which it did."""

    id: UUID
    posting_id: UUID
    account: str
    amount_nano: int
    taken_nano: int
    open_nano: int
    due_at: datetime
    state: State
    hold_reason: str
    held_by: str
    held_until: datetime | None
    vesting_id: UUID | None


def pending_of(account: str, *, all: bool = False) -> list[LotRow]:
    """List the lots of a pending account that can still vest, the next one due first; `all`: the past ones too."""
    lots = Lot.objects.filter(account__code=account).order_by("due_at", "id")
    return _rows(lots if all else lots.filter(vested_at=None, taken_nano__lt=F("amount_nano")))


def lots_of(posting_id: UUID) -> list[LotRow]:
    """List the lots that one posting made."""
    return _rows(Lot.objects.filter(posting_id=posting_id).order_by("account__code"))


def lot_of(lot_id: UUID) -> LotRow | None:
    """Read one lot."""
    return next(iter(_rows(Lot.objects.filter(pk=lot_id))), None)


def lots_in(posting_ids: Collection[UUID], *, accounts: Collection[str]) -> list[LotRow]:
    """List the lots that these postings made in these accounts."""
    found = Lot.objects.filter(posting_id__in=posting_ids, account__code__in=accounts)
    return _rows(found.order_by("posting_id", "account__code"))


def hold_lot(lot_id: UUID, *, reason: str, by: str, until: datetime | None = None) -> bool:
    """Keep a lot from vesting, until a time or until released. Returns False if it had vested before."""
    return database.value("SELECT ledger_hold_lot(%s, %s, %s, %s)", lot_id, reason, by, until)


def hold_ahead(posting_id: UUID, account: str, *, reason: str, by: str, until: datetime | None) -> None:
    """Have the lot that a posting will make in an account held from its first moment; by "": no more.

    For a posting that the fold has not reached, and that is not made yet or by a transaction that waits for this one.
    """
    database.rows("SELECT ledger_hold_ahead(%s, %s, %s, %s, %s)", posting_id, account, reason, by, until)


def awaits_fold(account: str) -> bool:
    """Whether a posting pays into this account that the fold has not reached: lots may be missing."""
    return database.value(
        """SELECT EXISTS (SELECT FROM ledger_account a, ledger_cursor c, ledger_journal j,
                            unnest(j.accounts, j.amounts) AS u(account_id, amount)
                          WHERE a.code = %s AND c.name = 'fold' AND (j.xid, j.id) > (c.xid, c.posting)
                            AND a.id = ANY (j.accounts) AND u.account_id = a.id AND u.amount > 0)""",
        account,
    )


def release_lot(lot_id: UUID, *, by: str) -> bool:
    """Let a held lot vest when it is due. Returns False if it was not held."""
    return database.value("SELECT ledger_release_lot(%s, %s)", lot_id, by)


def forget_reasons(account: str) -> int:
    """Forget why lots of an account were held, where nothing is left in them: whoever wrote it may have named somebody.

    Returns how many. A lot that is still open keeps its reason, which its payee is told.
    """
    return database.value("SELECT ledger_forget_reasons(%s)", account)


def vest_due(limit: int = 1000) -> int:
    """Move lots that are due, and not held, from pending to wallet. Returns how many."""
    return database.value("SELECT ledger_vest(%s)", limit)


def _rows(lots: QuerySet[Lot]) -> list[LotRow]:
    now = timezone.now()
    return [
        LotRow(
            id=lot.id,
            posting_id=lot.posting_id,
            account=lot.account.code,
            amount_nano=lot.amount_nano,
            taken_nano=lot.taken_nano,
            open_nano=0 if lot.vested_at else lot.amount_nano - lot.taken_nano,
            due_at=lot.due_at,
            state=_state(lot, now),
            hold_reason=lot.hold_reason,
            held_by=lot.held_by,
            held_until=lot.held_until,
            vesting_id=lot.vesting_id,
        )
        for lot in lots.select_related("account")
    ]


def _state(lot: Lot, now: datetime) -> State:
    if lot.vested_at:
        return "vested"
    if lot.taken_nano == lot.amount_nano:
        return "taken"
    return "held" if lot.held_at and (lot.held_until is None or lot.held_until > now) else "pending"
