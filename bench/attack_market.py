"""What contributors are paid, by the product's own pure parts: copies, features, penalty, fit, gate, scores, settlement.

What stands here besides is what `attribution/fitting.py` does with rows of a database; bench/attack_replay.py compares both,
to the nano. Everything that was sent counts as approved: no curator stands in the way.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from attribution import features, netting, shares
from attribution.engines import ENGINES, Artifact, gated, penalty
from attribution.roster import Roster
from bench.attack_data import Data, Row
from datanets import leaders

FOLDS, JUDGED_MIN = 5, 50  # of attribution/fitting.py
PRICE_NANO = 24_000_000
SPLIT = {"data": 3500, "curation": 500, "developer": 5500, "platform": 500}


class Sent(NamedTuple):
    """What stands in a version: honest rows by place, and what was sent after all of them."""

    kept: list[int]
    added: list[Row]
    owners: dict[int, int] = {}  # honest rows that another account sent


class Paid(NamedTuple):
    """Nano-OPEN by contributor, by curator, and by row."""

    data: Counter
    curation: Counter
    rows: np.ndarray


class Market:
    """One data set with its copies decided, and what its records are paid for answers."""

    def __init__(self, data: Data, engine: str) -> None:
        self.data, self.engine = data, engine
        self._index = leaders.Index()
        self._followers_before = self._decide(data.honest, self._index, start=0)
        self.earned = np.zeros(len(data.honest), dtype=np.int64)  # by honest row, before any attack

    def settle(
        self,
        sent: Sent,
        asked: Sequence[Any],
        prices: Sequence[Sequence[int]],
        *,
        identities: Sequence[str],
        curators: Sequence[int] = (),
        l2: float | None = None,
    ) -> list[Paid]:
        """Train on what was sent, let the model answer, and pay for it.

        Args:
            prices: One list of a price per question for each settlement wanted.
            identities: Commitment of each row, of what was kept and then of what was added: they choose folds and break ties.
            curators: Who approved each row.
            l2: The penalty; None: chosen on held-out rows, as for a run that names none.
        """
        rows = self.rows(sent)
        artifact, matrix_of, is_gated = self._trained(rows, self.weights(sent), identities, l2)
        engine, roster = ENGINES[self.engine], Roster.of(range(len(rows)), identities)
        scored = []
        for vector in matrix_of(list(asked)):
            scores = shares.quantise(engine.attribute(artifact, engine.answer(artifact, vector))[roster.fit_order])
            places = np.flatnonzero(scores)
            scored.append((places, scores[places]))
        people = netting.Payees(np.array([row.who for row in rows])[roster.fit_order])
        approved_by = list(curators) or [netting.NOBODY] * len(rows)
        desks = [netting.Desk(curator) for curator in sorted({*approved_by} - {netting.NOBODY})]
        numbers = {desk.curator_id: number for number, desk in enumerate(desks, start=1)}
        approvers = netting.Payees(
            np.array([numbers.get(curator, netting.NOBODY) for curator in approved_by])[roster.fit_order]
        )
        return [_paid(scored, each, roster, is_gated[roster.fit_order], people, approvers, desks) for each in prices]

    def rows(self, sent: Sent) -> list[Row]:
        kept = [self.data.honest[n] for n in sent.kept]
        kept = [row._replace(who=sent.owners.get(n, row.who)) for n, row in zip(sent.kept, kept, strict=True)]
        return kept + sent.added

    def weights(self, sent: Sent) -> np.ndarray:
        """1 for a leader, 0 for a follower."""
        count, index = len(self.data.honest), copy.deepcopy(self._index)
        followed = self._followers_before | self._decide(sent.added, index, start=count)
        keys = [*sent.kept, *range(count, count + len(sent.added))]
        following = leaders.leader_map([leaders.Member(key, followed.get(key), True) for key in keys])
        return np.array([0.0 if key in following else 1.0 for key in keys])

    def chosen_l2(self) -> float | None:
        """What held-out rows of the honest data choose."""
        if self.engine != "linear":
            return None
        sent = self.nothing_sent()
        identities = identities_of(0, len(self.data.honest))
        return self._trained(self.rows(sent), self.weights(sent), identities, None)[0].settings["l2"]

    def nothing_sent(self) -> Sent:
        return Sent(list(range(len(self.data.honest))), [])

    def _decide(self, rows: Sequence[Row], index: leaders.Index, *, start: int) -> dict[int, int]:
        sketches = [(start + n, self.data.signature(row)) for n, row in enumerate(rows)]
        return {key: leader for key, leader, _distance in leaders.assign(sketches, index) if leader is not None}

    def _trained(self, rows: Sequence[Row], weights: np.ndarray, identities: Sequence[str], l2: float | None):
        data, engine = self.data, ENGINES[self.engine]
        inputs = data.inputs([row.value for row in rows])
        leading = [one for one, weight in zip(inputs, weights, strict=True) if weight]
        side = data.settings.get("image_side", features.IMAGE_SIDE)
        spec = features.fit_spec(leading, data.schema, data.kind, image_side=side)
        matrix = features.transform(spec, inputs, far_allowed=True)
        targets = [row.label for row in rows]
        lots = np.array([int.from_bytes(hashlib.sha256(bytes.fromhex(one)).digest()[:4]) for one in identities])
        options: dict[str, Any] = {"standardise": spec["standardise"]}
        if self.engine == "linear":
            options["task"] = "classification"
            if l2 is None and weights.sum() >= JUDGED_MIN:
                l2 = penalty.choose_l2(matrix, targets, weights, lots % FOLDS, options)
            options |= {"l2": l2} if l2 else {}
        artifact = engine.fit(matrix, targets, weights, options)
        is_gated = _gated(engine, matrix, targets, weights, lots, options)
        return artifact, lambda asked: features.transform(spec, data.inputs(asked), far_allowed=True), is_gated


def identities_of(seed: int, count: int) -> list[str]:
    """Commitments that nobody chose."""
    return [hashlib.sha256(f"{seed}:{n}".encode()).hexdigest() for n in range(count)]


def _gated(engine, matrix, targets, weights, lots, options) -> np.ndarray:
    """Which records do harm on held-out rows, by five folds."""
    shut = np.zeros(len(weights), dtype=bool)
    led = np.flatnonzero(weights > 0)
    if len(led) < JUDGED_MIN:
        return shut
    folds, led = lots % FOLDS, led[np.argsort(lots[led], kind="stable")]
    total, variance, seen = np.zeros((3, len(weights)))
    for fold in range(FOLDS):
        held_out = led[folds[led] == fold]
        taught = weights.copy()
        taught[held_out] = 0.0
        known = {target for target, weight in zip(targets, taught, strict=True) if weight > 0}
        if sum(targets[i] in known for i in held_out) < 2 or len(known) < 2:
            continue
        model: Artifact = engine.fit(matrix, targets, taught, options)
        mean, error = engine.validation_scores(model, matrix[held_out], [targets[i] for i in held_out])
        total[taught > 0] += mean[taught > 0]
        variance[taught > 0] += error[taught > 0] ** 2
        seen[taught > 0] += 1
    times = np.maximum(seen, 1)
    return gated(total / times, np.sqrt(variance) / times) & (seen > 0)


def _paid(
    scored,
    prices,
    roster: Roster,
    is_gated,
    people: netting.Payees,
    approvers: netting.Payees,
    desks: list[netting.Desk],
) -> Paid:
    parts = [shares.split_by_basis_points(price, SPLIT) for price in prices]
    calls = [
        netting.EpochCall(n, part["data"], places, scores)
        for n, ((places, scores), part) in enumerate(zip(scored, parts, strict=True))
    ]
    result = netting.settle(calls, netting.Sums.zero(len(roster)), is_gated)
    paid = Paid(Counter(), Counter(), np.zeros(len(roster), dtype=np.int64))
    for call, one, part in zip(calls, result.paid, parts, strict=True):
        paid.data.update(people.sums(call.places, one.amounts))
        paid.curation.update(netting.curation_of(call, one, part["curation"], approvers, desks)[0])
        paid.rows[roster.fit_order[call.places]] += one.amounts
    return paid
