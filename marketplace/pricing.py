"""What a call costs and how the charge is split. Pure arithmetic on whole nano-OPEN: nothing is ever rounded.

1 OPEN = 1,000,000,000 nano-OPEN. Prices are nano-OPEN per call and per token; pages show them per million tokens
(1 nano per token = 0.001 OPEN per million).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from attribution.shares import BASIS_POINTS, split_by_basis_points, sums_by_basis_points

NANO_PER_OPEN = 1_000_000_000
#: So much is split without a remainder by every rule.
SPLIT_EVERY_NANO = BASIS_POINTS
OPEN_AMOUNT = re.compile(r"^(\d{1,10})(?:\.(\d{1,9}))?$", re.ASCII)


@dataclass(frozen=True)
class Prices:
    """A price list: nano-OPEN per call, per prompt token, per answer token; and of a call at which the model abstains."""

    price_call_nano: int
    price_in_nano: int
    price_out_nano: int
    price_abstain_nano: int = 0


def cost_nano(prices: Prices, *, prompt_tokens: int, answer_tokens: int) -> int:
    """Return the cost of a call in nano-OPEN: call + in + out."""
    return prices.price_call_nano + prices.price_in_nano * prompt_tokens + prices.price_out_nano * answer_tokens


def split_charge(charge_nano: int, parts: Mapping[str, int]) -> dict[str, int]:
    """Split a charge over the roles of a rule; the parts add up to it.

    Args:
        charge_nano: Whole nano-OPEN, >= 0.
        parts: Role -> basis points, adding up to 10,000.

    Returns:
        Role -> nano-OPEN by largest remainder, ties in the order data, curation, developer, platform, owner.
    """
    return split_by_basis_points(charge_nano, parts)


def split_charges(counts: Mapping[int, int], total_nano: int, parts: Mapping[str, int]) -> dict[str, int]:
    """What `split_charge` makes of many charges, added up by role.

    Args:
        counts: Nano-OPEN that a charge leaves when divided by `SPLIT_EVERY_NANO` -> how many charges do.
        total_nano: All charges together.
    """
    return sums_by_basis_points(counts, total_nano, parts)


def split_equally(total_nano: int, count: int) -> list[int]:
    """Split an amount into `count` parts that differ by at most one nano; the first ones get the remainder."""
    part_nano, rest = divmod(total_nano, count)
    return [part_nano + (1 if place < rest else 0) for place in range(count)]


def price_sha256(prices: Prices) -> str:
    """Return the hash that names a price list: the `price_version` a call may pin."""
    return _canonical_sha256(
        {
            "abstain": prices.price_abstain_nano,
            "call": prices.price_call_nano,
            "in": prices.price_in_nano,
            "out": prices.price_out_nano,
            "v": "open-prices/1",
        }
    )


def rule_sha256(parts: Mapping[str, int]) -> str:
    """Return the hash that names a split rule."""
    return _canonical_sha256({"parts": dict(parts), "v": "open-rule/1"})


def open_to_nano(text: str) -> int:
    """Read an amount as people write it ("1.5") into nano-OPEN.

    Raises:
        ValueError: it is not a plain decimal number with at most nine places.
    """
    found = OPEN_AMOUNT.match(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not an amount of OPEN: write digits, and at most nine places after the point.")
    whole, places = found.groups()
    return int(whole) * NANO_PER_OPEN + int((places or "").ljust(9, "0"))


def nano_to_open(amount_nano: int) -> str:
    """Write nano-OPEN exactly, with all nine places: the form of exports and of the API."""
    sign = "-" if amount_nano < 0 else ""
    whole, places = divmod(abs(amount_nano), NANO_PER_OPEN)
    return f"{sign}{whole}.{places:09d}"


def _canonical_sha256(value: dict) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
