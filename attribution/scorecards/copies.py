"""Does copying pay? A contributor's records are sent once more, and the same calls are settled: pay after over pay before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from attribution import netting, shares
from attribution.engines import Answer, Artifact
from attribution.roster import Roster

CALL_NANO = 8_400_000


def gain(
    engine: ModuleType,
    fit: Callable[[np.ndarray], Artifact],
    answers: Callable[[Artifact], Sequence[Answer]],
    *,
    rows: int,
    copied: np.ndarray,
) -> tuple[float, int]:
    """What a contributor earns with copies over what they earn without.

    Args:
        engine: Whose `attribute` gives the scores.
        fit: Takes the rows to fit, as numbers of the original rows: a copy repeats the number of its row and has weight 0,
            because the copy test made it a follower.
        answers: The same questions, answered by a model.
        rows: How many rows there are without copies.
        copied: Numbers of the rows that are sent again, by their own contributor or by another.

    Returns:
        The ratio, and how many other rows' pay changed. 1.0 and 0 where copying does not pay.

    Raises:
        ValueError: they earned nothing before, and something with copies.
    """
    alone = _paid(engine, model := fit(np.arange(rows)), answers(model))
    model = fit(np.concatenate([np.arange(rows), copied]))
    crowded = _paid(engine, model, answers(model))
    before = sum(alone[i] for i in copied.tolist())
    after = sum(crowded[i] for i in copied.tolist()) + sum(crowded[rows:])
    changed = sum(one != other for one, other in zip(alone, crowded[:rows], strict=True))
    if not before:
        if after:
            raise ValueError("Copies of rows that earn nothing are paid.")
        return 1.0, changed
    return after / before, changed


def _paid(engine: ModuleType, model: Artifact, answers: Sequence[Answer]) -> list[int]:
    """Nano per row of calls of equal price."""
    records = model.settings["records"]
    roster = Roster.of(range(records), [f"{i:08x}" for i in range(records)])
    calls = [call_of(number, engine.attribute(model, answer), roster) for number, answer in enumerate(answers)]
    result = netting.settle(calls, netting.Sums.zero(records), np.zeros(records, dtype=bool))
    paid = np.zeros(records, dtype=np.int64)
    for call, one in zip(calls, result.paid, strict=True):
        paid[roster.record_ids[call.places]] += one.amounts
    return paid.tolist()


def call_of(call_id: Any, scores: np.ndarray, roster: Roster, *, data_nano: int = CALL_NANO) -> netting.EpochCall:
    """A call of which settlement pays `data_nano` by these scores, which are in the order of the fit."""
    quantised = shares.quantise(scores[roster.fit_order])
    places = np.flatnonzero(quantised)
    return netting.EpochCall(call_id, data_nano, places, quantised[places])
