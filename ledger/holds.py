"""Holds: money set aside, drawn any number of times up to its amount, then released.

A call's hold is drawn once; a gateway's lease is the same thing drawn thousands of times. Expiry goes by the
database server's clock; a hold past its time can be drawn until the sequencer has closed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from ledger import database
from ledger.legs import batch
from ledger.models import Hold
from ledger.postings import Posting


@dataclass(frozen=True)
class Draw:
    """A posting paid from a hold; its payer is the hold's account. `close` releases the rest at once."""

    hold_id: UUID
    posting: Posting
    close: bool = False


@dataclass(frozen=True)
class HoldRow:
    """An open hold. What is left in it is amount_nano - drawn_nano."""

    id: UUID
    account: str
    amount_nano: int
    drawn_nano: int
    owner: str
    generation: int
    expires_at: datetime


def hold(
    *,
    id: UUID,
    account: str,
    amount_nano: int,
    expires_in_s: int,
    at_least_nano: int | None = None,
    owner: str = "",
    generation: int = 0,
) -> int:
    """Set money of an account aside.

    Args:
        id: Made once; a repeat returns the first result.
        account: Who pays later.
        amount_nano: How much is wanted.
        expires_in_s: After that the sequencer releases what was not drawn.
        at_least_nano: Take less than wanted, if there is at least this much; None: all or nothing.
        owner: The process that draws, for `close_holds_of`.
        generation: Which life of that process.

    Returns:
        The amount set aside.

    Raises:
        InsufficientFunds, PayloadMismatch, UnknownAccount, BadAmount.
    """
    at_least_nano = amount_nano if at_least_nano is None else at_least_nano
    return database.value(
        "SELECT ledger_hold(%s, %s, %s, %s, %s, %s, %s)",
        *(id, account, amount_nano, at_least_nano, expires_in_s, owner, generation),
    )


def extend(hold_id: UUID, *, amount_nano: int | None = None, expires_in_s: int | None = None) -> int:
    """Raise a hold to `amount_nano` in all, and let it live `expires_in_s` from now. Returns its amount.

    Both are absolute, so a repeat changes nothing. Raises HoldUnknown, HoldClosed, InsufficientFunds, BadAmount.
    """
    return database.value("SELECT ledger_extend(%s, %s, %s)", hold_id, amount_nano, expires_in_s)


def draw(draws: Sequence[Draw]) -> set[UUID]:
    """Make postings from holds, all or none. Returns the posting ids that are new.

    A posting that exists draws nothing, also after its hold closed: a gateway may repeat a batch two days later.

    Raises:
        HoldUnknown, HoldClosed, HoldExceeded, NotAccountOfHold, and what `post` raises except InsufficientFunds.
    """
    if not draws:
        return set()
    said = database.as_json(
        batch(item.posting.said() | {"hold_id": item.hold_id, "close": item.close} for item in draws)
    )
    ids = (item.posting.id for item in draws)
    return database.new_among(ids, "SELECT ledger_draw(%s)::text", said, prepared_as="ledger_draws")


def close(hold_id: UUID) -> int:
    """Release what was not drawn, and return it; 0 if the hold was closed already. Raises HoldUnknown."""
    return database.value("SELECT ledger_close(%s)", hold_id)


def close_holds_of(*, owner: str, below_generation: int) -> int:
    """Fence the earlier lives of a process: close their holds, so they cannot draw any more. Returns how many."""
    return database.value("SELECT ledger_fence(%s, %s)", owner, below_generation)


def expire_holds(limit: int = 500) -> int:
    """Close holds past their time. Returns how many."""
    return database.value("SELECT ledger_expire(%s)", limit)


def holders(prefix: str) -> list[str]:
    """The owners of open holds whose names start with `prefix`: who may have to be fenced."""
    found = Hold.objects.filter(owner__startswith=prefix, closed_at=None)
    return list(found.order_by("owner").values_list("owner", flat=True).distinct())


def open_holds(account: str) -> list[HoldRow]:
    """List an account's open holds, oldest first."""
    found = Hold.objects.filter(account__code=account, closed_at=None).order_by("opened_at", "id")
    return [HoldRow(h.id, account, h.amount_nano, h.drawn_nano, h.owner, h.generation, h.expires_at) for h in found]
