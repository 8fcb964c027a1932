"""How far a curator's decisions can be trusted, in whole millionths. Pure, whole numbers only.

Only what was looked at a second time measures anything: planted records (gold.py), whose right decision is known, and real
decisions that an appeal or a theft dispute looked at again. A decision that nobody questioned says nothing.

    accuracy = floor(1e6 (right + PRIOR_RIGHT) / (right + wrong + PRIOR_RIGHT)), and 1e6 below MEASURED_MIN observations

This is the mean of a Beta distribution whose prior is PRIOR_RIGHT right decisions and no wrong one (improper, so that who
was never wrong has exactly 1). Why: docs/adr/0013-curator-accuracy.md.
"""

from __future__ import annotations

from typing import NamedTuple

MILLION = 1_000_000
PRIOR_RIGHT = 20  # right decisions that everybody starts with
MEASURED_MIN = 10  # observations before any of them counts
WINDOW_DAYS = 180  # before the close of an epoch: what is older is forgotten
RULE = "curator-accuracy/1"  # names all of the above in what an epoch commits to


class Counts(NamedTuple):
    """What was observed of one curator in one Datanet within the window. A planted submission counts once."""

    gold_right: int = 0
    gold_wrong: int = 0
    stood: int = 0  # decisions that an appeal left as they were
    overturned: int = 0  # by an appeal, or approvals by a theft dispute that was won

    @property
    def right(self) -> int:
        return self.gold_right + self.stood

    @property
    def wrong(self) -> int:
        return self.gold_wrong + self.overturned

    @property
    def measured(self) -> int:
        return self.right + self.wrong


def millionths(counts: Counts) -> int:
    """The accuracy, 0 to 1e6.

    One more wrong decision never raises it; from MEASURED_MIN observations on, one more right decision never lowers it.

    Raises:
        ValueError: a count is negative.
    """
    if min(counts) < 0:
        raise ValueError("Counts are not negative.")
    if counts.measured < MEASURED_MIN:
        return MILLION
    return MILLION * (counts.right + PRIOR_RIGHT) // (counts.measured + PRIOR_RIGHT)
