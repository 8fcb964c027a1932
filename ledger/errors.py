"""What the ledger refuses, as exceptions with a code. Pure: the gateway uses it without Django.

The SQL functions raise SQLSTATEs of their own (`OL001` ...). `of(error)` turns a database error, of psycopg2 or wrapped
by Django, into one of these, or into None if it is not the ledger's.
"""

from __future__ import annotations

import json


class LedgerError(Exception):
    """A rule of the books was broken. `code` is its stable name, `detail` says which account, hold or posting."""

    code = "ledger_error"
    sqlstate = ""

    def __init__(self, message: str = "", **detail: object) -> None:
        super().__init__(message or self.code)
        self.detail = detail


class InsufficientFunds(LedgerError):
    """The payer has less available than the posting or hold asks for."""

    code, sqlstate = "insufficient_funds", "OL001"


class PayloadMismatch(LedgerError):
    """This id was used before, for something else."""

    code, sqlstate = "payload_mismatch", "OL002"


class ReferenceTaken(LedgerError):
    """A posting of this kind with this reference exists under another id."""

    code, sqlstate = "reference_taken", "OL003"


class UnknownAccount(LedgerError):
    """The code is not in the chart of accounts."""

    code, sqlstate = "unknown_account", "OL004"


class Unbalanced(LedgerError):
    """The moves of one posting do not share one payer, or move from an account to itself."""

    code, sqlstate = "unbalanced", "OL005"


class BadAmount(LedgerError):
    """An amount is negative, not whole, too large, or nothing is left to move."""

    code, sqlstate = "bad_amount", "OL006"


class HoldUnknown(LedgerError):
    """There is no hold of this id."""

    code, sqlstate = "hold_unknown", "OL007"


class HoldClosed(LedgerError):
    """The hold was closed, expired or fenced; post without it, or take a new one."""

    code, sqlstate = "hold_closed", "OL008"


class HoldExceeded(LedgerError):
    """The draws would exceed what the hold has left."""

    code, sqlstate = "hold_exceeded", "OL009"


class NotAccountOfHold(LedgerError):
    """The payer of a drawn posting is not the account of the hold."""

    code, sqlstate = "not_account_of_hold", "OL010"


class SupplyExceeded(LedgerError):
    """A deposit would bring more than the whole supply into the books."""

    code, sqlstate = "supply_exceeded", "OL011"


class AppendOnly(LedgerError):
    """Somebody tried to change or remove what is only ever added to."""

    code, sqlstate = "append_only", "OL012"


class LotUnavailable(LedgerError):
    """The lot is unknown, vested, or has less left than asked for; or the posting names no lot and must."""

    code, sqlstate = "lot_unavailable", "OL013"


class OutOfStep(LedgerError):
    """A sequencer step does not fit what is stored: another one ran, or a projection lost a leg."""

    code, sqlstate = "out_of_step", "OL014"


class BehindWitness(LedgerError):
    """A witness has signed a larger head than this database holds: it was restored from an old copy."""

    code = "behind_witness"


_BY_SQLSTATE = {error.sqlstate: error for error in LedgerError.__subclasses__() if error.sqlstate}
_BY_CONSTRAINT = {"ledger_posting_balances": Unbalanced}


def of(error: BaseException) -> LedgerError | None:
    """Turn a database error into the ledger's own, with its detail; None if the ledger did not raise it."""
    for cause in (error, error.__cause__):
        sqlstate, diagnostics = getattr(cause, "pgcode", None), getattr(cause, "diag", None)
        if not sqlstate or diagnostics is None:
            continue
        kind = _BY_SQLSTATE.get(sqlstate) or _BY_CONSTRAINT.get(diagnostics.constraint_name or "")
        if kind is None:
            continue
        found = kind(diagnostics.message_primary or "")
        if sqlstate in _BY_SQLSTATE and diagnostics.message_detail:
            found.detail = json.loads(diagnostics.message_detail)
        return found
    return None
