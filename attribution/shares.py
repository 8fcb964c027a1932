"""Splitting whole amounts, exactly. Pure, and the only place where a float becomes a share.

All amounts are nano-OPEN. Scores are whole billionths (1e-9) of a call's L1 norm and keep their signs. Whole numbers
throughout: int64 arrays where a proof says that they fit, Python's integers elsewhere.

    quantise               floats -> scores of a call
    largest_remainder      an amount by weights of any size, equal remainders by key
    split                  the same for an array of weights, equal remainders by place
    split_by_basis_points  a charge by a rule
    sums_by_basis_points   what it makes of many charges, added up

What an epoch makes of a call's scores is in netting.py.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

BILLION = 1_000_000_000
MILLION = 1_000_000
BASIS_POINTS = 10_000
INT64_TOTAL_MAX = 2**49  # 562,949 OPEN
#: Weights. A charge has four parts: to make an array of them takes longer than to split it.
ARRAY_PAYS_FROM = 32
INT64_WHOLE_MAX = 2**61
NORM_BITS = 40  # of each half of a score, so that halves of up to 2^22 scores add up in int64
# Ties of every split in the product go to the earlier of these.
ROLES = ("data", "curation", "developer", "platform", "owner")
_ROLES = frozenset(ROLES)


def largest_remainder(total: int, weights: Sequence[int], ties: Sequence[Any] | None = None) -> list[int]:
    """Split a whole amount in proportion to whole weights; the parts add up to it.

    Args:
        total: Amount, not negative.
        weights: Not negative, at least one above zero (unless total is 0).
        ties: Sort keys, one per weight, all different: equal remainders go to the smaller key. Default: position.

    Returns:
        One part per weight: floor(total * weight / sum), plus 1 for the largest remainders.

    Raises:
        ValueError: something is negative, or there is money and nobody to give it to.
    """
    if total < 0 or min(weights, default=0) < 0:
        raise ValueError("Amounts and weights must not be negative.")
    whole = sum(weights)
    if total == 0:
        return [0] * len(weights)
    if whole == 0:
        raise ValueError("There is an amount to split, but every weight is zero.")
    if len(weights) >= ARRAY_PAYS_FROM and ties is None and total < INT64_TOTAL_MAX and whole < INT64_WHOLE_MAX:
        return _split_in_int64(total, np.array(weights, dtype=np.int64), whole).tolist()
    parts, remainders = [], []
    for weight in weights:
        part, remainder = divmod(total * weight, whole)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    if left:
        keys = range(len(weights)) if ties is None else ties
        order = sorted(range(len(weights)), key=lambda i: (-remainders[i], keys[i]))
        for i in order[:left]:
            parts[i] += 1
    return parts


def split(total: int, weights: np.ndarray) -> np.ndarray:
    """`largest_remainder` for an int64 array of weights that add up to less than INT64_WHOLE_MAX: an int64 array.

    Equal remainders go to the earlier place.
    """
    whole = int(weights.sum())
    if 0 < total < INT64_TOTAL_MAX and whole > 0:
        return _split_in_int64(total, weights, whole)
    return np.array(largest_remainder(total, weights.tolist(), range(len(weights))), dtype=np.int64)


def _split_in_int64(total: int, weights: np.ndarray, whole: int) -> np.ndarray:
    """The same parts as by Python's integers, a hundred times as fast for many records.

    A float guesses each part: below INT64_TOTAL_MAX it is at most 1 off. total * weight - part * whole is then between
    -whole and 2 whole, so that int64, which wraps around, has it exactly, and says which guesses to correct.
    """
    parts = np.floor(weights / whole * total).astype(np.int64)
    remainders = weights * np.int64(total) - parts * np.int64(whole)
    step = (remainders >= whole).astype(np.int64) - (remainders < 0)
    parts += step
    remainders -= step * np.int64(whole)
    left = total - int(parts.sum())
    if left:
        # The smallest remainder that still gets something; of those equal to it, the earlier places do.
        bar = np.partition(remainders, len(remainders) - left)[len(remainders) - left]
        above = remainders > bar
        parts[above] += 1
        parts[np.flatnonzero(remainders == bar)[: left - np.count_nonzero(above)]] += 1
    return parts


def split_by_basis_points(total_nano: int, parts: Mapping[str, int]) -> dict[str, int]:
    """Split a charge by a rule. The one function for every split by roles in the product.

    Args:
        total_nano: The charge.
        parts: Basis points by role of `ROLES`; together 10,000.

    Returns:
        Amount by role, in the order of `ROLES`, which is also the order of ties.

    Raises:
        ValueError: an unknown role, a negative part, or another sum.
    """
    if not parts.keys() <= _ROLES:
        raise ValueError(f"Unknown roles: {', '.join(sorted(parts.keys() - _ROLES))}.")
    if sum(parts.values()) != BASIS_POINTS:
        raise ValueError("The parts of a split rule must add up to 10,000 basis points.")
    roles = [role for role in ROLES if role in parts]
    return dict(zip(roles, largest_remainder(total_nano, [parts[role] for role in roles]), strict=True))


def sums_by_basis_points(counts: Mapping[int, int], total_nano: int, parts: Mapping[str, int]) -> dict[str, int]:
    """What `split_by_basis_points` makes of many charges, added up: the same to the nano, in at most 10,000 splits.

    Of a charge of 10,000 q + r nano each role gets q times its basis points, which is whole, and its part of r: floors,
    remainders and ties are those of r alone. Python's integers, so that no charge is too large.

    Args:
        counts: r -> how many charges leave r when divided by 10,000.
        total_nano: All charges together.

    Raises:
        ValueError: as `split_by_basis_points`, or no such charges add up to the total.
    """
    quotients, wrong = divmod(total_nano - sum(rest * count for rest, count in counts.items()), BASIS_POINTS)
    if wrong or quotients < 0:
        raise ValueError("The charges do not add up to their total.")
    sums = split_by_basis_points(quotients * BASIS_POINTS, parts)
    for rest, count in counts.items():
        for role, nano in split_by_basis_points(rest, parts).items():
            sums[role] += nano * count
    return sums


def quantise(scores: Iterable[float]) -> np.ndarray:
    """Scores of one call as whole billionths of their L1 norm, signs kept; all zero stays all zero. An int64 array.

    The norm is a sum of whole numbers, so zeros (followers) in between and the order of records change nothing.

    Raises:
        ValueError: a score is not finite, or they are too large to be added.
    """
    values = np.array(scores if isinstance(scores, np.ndarray) else list(scores), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("A score is not a finite number.")
    try:
        norm = _norm(np.abs(values))
    except OverflowError as error:
        raise ValueError("The scores are too large.") from error
    if norm == 0.0:
        return np.zeros(len(values), dtype=np.int64)
    # Division first: a tiny norm would turn BILLION / norm into infinity.
    values /= norm
    values *= BILLION
    return np.rint(values, out=values).astype(np.int64)


def _norm(sizes: np.ndarray) -> float:
    """Their sum, each cut off at 2^-80 of the largest one's power of two: exact in two int64 halves, in any order."""
    exponent = math.frexp(float(sizes.max(initial=0.0)))[1]
    low = np.ldexp(sizes, NORM_BITS - exponent)
    high = np.floor(low)
    low = (low - high) * 2.0**NORM_BITS
    whole = (int(high.astype(np.int64).sum()) << NORM_BITS) + int(low.astype(np.int64).sum())
    shift = exponent - 2 * NORM_BITS
    return float(whole << shift) if shift > 0 else whole / (1 << -shift)
