"""What changed between two periods: a difference of earnings as signed whole parts that add up to it. Pure.

An amount that calls paid is the end of a chain of stages, each a part of the one before:

    calls        how many calls were charged
    price        what they cost
    rule         their cost times the rule's basis points for the role
    supported    what of it went to records (or curators) at all: the rest is unattributed
    influence    what of that went to this person's records

The stages of the later period are put in the place of the earlier one's, one after the other, in this order; what each
step moves is that stage's part. As the order would favour one of the two periods, the same is done the other way round,
and the mean of both is taken: so the parts of swapped periods are the same with the other sign.
"""

from __future__ import annotations

from collections.abc import Sequence

STAGES = ("calls", "price", "rule", "supported", "influence")


def parts_of(earlier: Sequence[int], later: Sequence[int]) -> list[int]:
    """Split the difference of the last stage over all stages.

    With a, b the earlier and the later stages and e the last of them, the step k forward ends at F[k] = floor(a[e] b[k] /
    a[k]), backward at B[k] = floor(b[e] a[k] / b[k]). S[k] = (F[k] - a[e]) - (B[k] - b[e]); the part of k is S[k] / 2, cut
    off towards zero, less the same of k - 1. F[e] = b[e] and B[e] = a[e], so S[e] is twice the difference.

    Where a stage is 0 in one of the periods nothing after it can be compared: the first such stage takes the difference.

    Args:
        earlier, later: Whole numbers, not negative, of the same stages; after a 0 only zeros.

    Returns:
        One part per stage; they add up to later[-1] - earlier[-1]. A stage that is the same part of the one before in both
        periods has 0 (the first: the same number).

    Raises:
        ValueError: the stages do not match, one is negative, or something follows a 0.
    """
    if len(earlier) != len(later) or not earlier:
        raise ValueError("Both periods need the same stages.")
    for stages in (earlier, later):
        if min(stages) < 0 or (stages[-1] and not all(stages)):
            raise ValueError("A stage is a part of the one before, and not negative.")
    before, after = earlier[-1], later[-1]
    nothing = next((k for k, pair in enumerate(zip(earlier, later, strict=True)) if 0 in pair), None)
    if nothing is not None:
        return [after - before if k == nothing else 0 for k in range(len(earlier))]
    parts, done = [], 0
    for a, b in zip(earlier, later, strict=True):
        twice = (before * b // a - before) - (after * a // b - after)
        mean = twice // 2 if twice >= 0 else -(-twice // 2)
        parts.append(mean - done)
        done = mean
    return parts
