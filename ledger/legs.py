"""From moves to the legs of a posting, as the SQL functions read them. Pure: the gateway uses it without Django."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from ledger.chart import SUPPLY_NANO
from ledger.errors import BadAmount, Unbalanced


def legs(moves: Iterable[tuple[str, str, int]], *, posting: UUID | str) -> tuple[list[str], list[int]]:
    """Add the moves up, per payee, in the order of their first move.

    Args:
        moves: (payer, payee, amount in nano-OPEN). Those of 0 are dropped: a split part may be 0.
        posting: Its id, for who is refused.

    Returns:
        Accounts, the payer first, and their amounts: the payer's is negative, and all add up to 0.

    Raises:
        BadAmount, Unbalanced.
    """
    payer: str | None = None
    total_nano = 0
    received: dict[str, int] = {}
    for source, target, nano in moves:
        # A float that happens to be whole would pass for one; it must not get that far. Nor must True.
        if type(nano) is not int or nano < 0:
            raise BadAmount("an amount is a whole number of nano-OPEN, 0 or more", posting=str(posting))
        if nano == 0:
            continue
        if payer is None:
            payer = source
        if source != payer or target == payer:
            raise Unbalanced("the moves of a posting share one payer, who is not a payee", posting=str(posting))
        received[target] = received.get(target, 0) + nano
        total_nano += nano
    if payer is None or total_nano > SUPPLY_NANO:
        raise BadAmount("nothing to move, or more than the supply", posting=str(posting))
    return [payer, *received], [-total_nano, *received.values()]


def batch(postings: Iterable[Mapping[str, Any]]) -> dict[str, list]:
    """Postings as `ledger_post` and `ledger_draw` read them together: each account is named once.

    Args:
        postings: Each with its `accounts` and `amounts`, as `legs` returns them, and what else is said of it.
    """
    places: defaultdict[str, int] = defaultdict(itertools.count(1).__next__)
    said: list[dict[str, Any]] = []
    for posting in postings:
        one = dict(posting)
        one["legs"] = _array([places[code] for code in one.pop("accounts")])
        one["amounts"] = _array(one["amounts"])
        said.append(one)
    if len(said) == 1:
        del said[0]["legs"]  # they are all accounts in their order
    return {"accounts": list(places), "postings": said}


def _array(numbers: list[int]) -> str:
    """As PostgreSQL reads an array."""
    return f"{{{str(numbers)[1:-1]}}}"
