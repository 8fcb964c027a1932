"""The end of a paid call: what it cost is stored, and what it did not use of its reservation is given back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2

from ledger import errors as ledger_errors

from . import offloop
from .capture import CapReached, Capture, FreeCallTaken, KeyTaken
from .catalogue import Shelf
from .charging import Call, Charge, Outcome, charge, stored_bytes
from .chatting import Chats
from .engines import Engines
from .errors import ApiError, Unavailable, free_call_lost, insufficient, internal, outcome_unknown, spend_cap_reached
from .freecalls import FreeCalls
from .idempotency import Idempotency
from .keyring import Keyring
from .leases import Leases, Reservation
from .limits import Limits
from .upstreams import Upstreams


@dataclass(frozen=True)
class Rules:
    """What the site's settings say of a charge."""

    content_key: str
    content_kept_s: int
    vest_after_s: int
    quote_valid_s: int
    site_url: str


@dataclass(frozen=True)
class Parts:
    """The parts of the process that a call passes through."""

    shelf: Shelf
    keyring: Keyring
    limits: Limits
    idempotency: Idempotency
    leases: Leases
    free_calls: FreeCalls
    capture: Capture
    engines: Engines
    chats: Chats
    upstreams: Upstreams
    rules: Rules
    is_down: Callable[[], bool]


async def store(parts: Parts, call: Call, reservation: Reservation, outcome: Outcome) -> Charge:
    """Make a call and its charge durable, and release the rest of its reservation.

    Raises:
        ApiError: 503, the database does not answer: the answer is not delivered, and the call ends as failed unless it turns
            out to have been stored. Or it was refused and nothing was charged: 402 (the lease had expired and the wallet
            is empty or the key's cap reached), 409, 500, 503 (a free call that could not be kept).
    """
    done = await offloop.run(stored_bytes(call, outcome), _charge, parts, call, outcome)
    row = {**done.row, "hold_id": reservation.hold_id if done.cost_nano else None}
    if call.cap_id and done.cost_nano:
        row["cap_id"] = call.cap_id
    try:
        lease_gone = await parts.capture.store(row)
    except Unavailable as error:
        # Perhaps it was drawn: what was reserved stays out of the lease until that is known, at its end.
        parts.leases.release(reservation, drawn_nano=reservation.amount_nano)
        raise outcome_unknown(can_repeat=bool(call.idempotency_key)) from error
    except Exception as error:
        refusal = _refusal(call, error)
        await store_failure(parts, call, reservation, refusal.code)
        raise refusal from error
    if lease_gone:
        parts.leases.drop(reservation)
    parts.leases.release(reservation, drawn_nano=done.cost_nano)
    return done


async def store_failure(parts: Parts, call: Call, reservation: Reservation, error_code: str) -> None:
    """Store that a call failed, at cost 0, and release all that was reserved."""
    parts.leases.release(reservation, drawn_nano=0)
    done = _charge(parts, call, Outcome("failed", error_code=error_code))
    # A failure that cannot be stored is still a failure: nothing was charged, and its key is free once we end.
    with contextlib.suppress(Unavailable, KeyTaken, FreeCallTaken, psycopg2.Error, ledger_errors.LedgerError):
        await parts.capture.store(done.row)


def note_refusal(parts: Parts, call: Call, error_code: str) -> None:
    """Have it stored, some time later, that a call was refused. Its Idempotency-Key is free, so it is not named."""
    row = dict(_charge(parts, call, Outcome("refused", error_code=error_code)).row)
    row.pop("idempotency_key", None)
    parts.capture.note(row)


def _charge(parts: Parts, call: Call, outcome: Outcome) -> Charge:
    rules = parts.rules
    return charge(
        call,
        outcome,
        content_key=rules.content_key,
        kept_s=rules.content_kept_s,
        vest_after_s=rules.vest_after_s,
        site_url=rules.site_url,
    )


def _refusal(call: Call, error: Exception) -> ApiError:
    if isinstance(error, FreeCallTaken) or (call.free and isinstance(error, ledger_errors.InsufficientFunds)):
        return free_call_lost()
    if isinstance(error, ledger_errors.InsufficientFunds):
        return insufficient()
    if isinstance(error, CapReached):
        return spend_cap_reached()
    if isinstance(error, KeyTaken):
        return ApiError(
            409,
            "Another request with this Idempotency-Key has taken over. Ask again in a moment.",
            code="idempotency_in_progress",
            retry_after_s=1,
        )
    return internal()
