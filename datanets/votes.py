"""When votes decide a record. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Choice = str  # "approve" or "reject"


@dataclass(frozen=True)
class Vote:
    """One curator's standing decision on one record."""

    curator_id: int
    choice: Choice


@dataclass(frozen=True)
class Outcome:
    """choice: what was decided, or None. vote: the first one for it, whose curator answers for it (and earns by it).
    disputed: curators disagree, and a further one must decide."""

    choice: Choice | None = None
    vote: Vote | None = None
    disputed: bool = False


def outcome(votes: Sequence[Vote], *, needed: int) -> Outcome:
    """What the votes decide, given in the order in which they were cast.

    `needed` equal votes decide. The first disagreement is a dispute; the vote after it decides alone. Votes after a
    decision change nothing.
    """
    for count, vote in enumerate(votes, start=1):
        before = {each.choice for each in votes[: count - 1]}
        agreeing = [each for each in votes[:count] if each.choice == vote.choice]
        if len(before) == 2 or len(agreeing) >= needed:
            return Outcome(vote.choice, agreeing[0])
    return Outcome(disputed=len({vote.choice for vote in votes}) == 2)
