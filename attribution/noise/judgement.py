"""From rows to a judgement: which blocks of new rows are atypical and, taken together, useless.

    1. typicality: blocks that look like incumbents of their classes are not asked anything more
    2. acquittal: of the others, the most valuable for its claim first, whoever is worth R + 2 s is let go; and then whoever
       is worth 2 s and R / 2 beside everybody, the rest of the suspects included
    3. the rest together: convicted if they are worth less than half of what equally paid incumbents are, and z > 3

One block alone has a z of 1 to 5 even where all its rows are garbage; pooled evidence of many Sybils has 5 to 50.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..engines.design import one_blas_thread
from . import typicality
from .typicality import Typicality
from .value import Values, losses_at, sharpness, z_of

METHOD = "atypical and useless/2"
INCUMBENTS_MIN = 1000
VALIDATION_MIN = 250
PARAMETERS_MAX = 4000  # their curvature is inverted once, and 8 P^2 bytes are 128 MB here
BLOCK_ROWS = 64
BLOCK_ROWS_MIN = 32  # fewer rows of one hand say too little
NULL_DRAWS = 12
CONVICTED_Z = 3.0
USELESS_PART = 0.5
ACQUITTED_DEVIATIONS = 2.0
SEED = 20260116


class Refused(Exception):
    """Nothing can be said of these rows. `code` is why, `found` and `needed` are the numbers; 0 where there is none."""

    def __init__(self, code: str, *, found: int = 0, needed: int = 0) -> None:
        super().__init__(f"{code}: {found} of {needed}")
        self.code, self.found, self.needed = code, found, needed


@dataclass(frozen=True)
class Task:
    """A classifier's rows, and who they are.

    Args:
        rows: Design matrix with its constant as the last column, shape (n, d), leaders only.
        labels: Shape (n,), classes as whole numbers.
        block: Shape (n,): -1 an incumbent, -2 a validation row, else the number of the block of a new row.
        claims: Shape (n,): summed score of each row over the calls so far; what is negative counts as 0.
        settings: Of the linear engine.
    """

    rows: np.ndarray
    labels: np.ndarray
    block: np.ndarray
    claims: np.ndarray
    settings: dict[str, Any]

    INCUMBENT = -1
    VALIDATION = -2


class Block(NamedTuple):
    """What was found of one block. `convicted` implies that it is atypical and was not acquitted."""

    number: int
    rows: int
    claim: float
    typicality: Typicality
    convicted: bool
    acquitted: bool


class Judgement(NamedTuple):
    """All blocks, and the test of those that were judged together: V, R and s in nats per judge; z without a unit.

    Nobody was asked together: the four are 0.
    """

    blocks: list[Block]
    value: float
    expected: float
    deviation: float
    z: float
    incumbents: int
    validation: int

    @property
    def convicted(self) -> list[Block]:
        return [block for block in self.blocks if block.convicted]


def judge(
    task: Task, *, seed: int = SEED, incumbents_min: int = INCUMBENTS_MIN, validation_min: int = VALIDATION_MIN
) -> Judgement:
    """Judge the blocks of new rows of a classifier. The same task and seed give the same judgement.

    Raises:
        Refused: "few_incumbents", "few_validation", "too_large", "nothing_new" (no block), "no_claim" (no new row
            has a positive summed score: there is no pay to speak of).
        ArithmeticError: a fit did not converge.
    """
    incumbents, validation = int((task.block == Task.INCUMBENT).sum()), int((task.block == Task.VALIDATION).sum())
    parameters = len(task.settings["classes"]) * task.rows.shape[1]
    if not (task.block >= 0).any():
        raise Refused("nothing_new")
    if incumbents < incumbents_min:
        raise Refused("few_incumbents", found=incumbents, needed=incumbents_min)
    if validation < validation_min:
        raise Refused("few_validation", found=validation, needed=validation_min)
    if parameters > PARAMETERS_MAX:
        raise Refused("too_large", found=parameters, needed=PARAMETERS_MAX)
    if not (task.claims[task.block >= 0] > 0).any():
        raise Refused("no_claim")
    with one_blas_thread():
        return _Court(task, np.random.default_rng(seed)).judgement()


class _Court:
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        inside = task.block != Task.VALIDATION
        self.rng = rng
        self.block = task.block[inside]
        self.rows, self.labels = task.rows[inside], task.labels[inside]
        self.incumbent = self.block == Task.INCUMBENT
        self.new = ~self.incumbent
        self.validation = int((~inside).sum())
        self.unit = typicality.unit(self.rows[:, :-1])
        self.values = Values(
            self.rows,
            self.labels,
            incumbent=self.incumbent,
            nearest=self._nearest(),
            judges=(task.rows[~inside], task.labels[~inside]),
            claims=np.maximum(task.claims[inside], 0.0),
            settings=task.settings,
        )

    def judgement(self) -> Judgement:
        numbers = [int(number) for number in np.unique(self.block[self.new])]
        of = {number: self.block == number for number in numbers}
        looks = self._typicalities(numbers)
        suspects = [number for number in numbers if looks[number].is_atypical and self.values.claim(of[number]) > 0]
        acquitted = self._acquitted(suspects, of)
        accused = [number for number in suspects if number not in acquitted]
        value = expected = deviation = z = 0.0
        guilty = False
        if accused:
            together = np.any([of[number] for number in accused], axis=0)
            everyone = np.ones(len(self.rows), dtype=bool)
            value = self.values.value(together, beside=everyone)
            null = self.values.null(self.values.claim(together), beside=everyone, rng=self.rng, draws=NULL_DRAWS)
            expected, deviation, z = null.mean, null.deviation, z_of(value, null)
            guilty = z > CONVICTED_Z and value < USELESS_PART * expected
        blocks = [
            Block(
                number=number,
                rows=int(of[number].sum()),
                claim=self.values.claim(of[number]),
                typicality=looks[number],
                convicted=guilty and number in accused,
                acquitted=number in acquitted,
            )
            for number in numbers
        ]
        return Judgement(blocks, value, expected, deviation, z, int(self.incumbent.sum()), self.validation)

    def _nearest(self) -> np.ndarray:
        """Of each new row the place of its nearest incumbent; -1 of the incumbents."""
        places = np.flatnonzero(self.incumbent)
        out = np.full(len(self.rows), -1)
        out[self.new] = places[(self.unit[self.new] @ self.unit[self.incumbent].T).argmax(1)]
        return out

    def _typicalities(self, numbers: list[int]) -> dict[int, Typicality]:
        theta = self.values.fitted(self.incumbent)
        _validation, known = self.values.held_out_logits(self.incumbent)
        new = self.rows[self.new] @ theta.T
        labels = self.labels[self.incumbent], self.labels[self.new]
        # One temperature for both, or the comparison would be with another model.
        b = sharpness(known, labels[0])
        found = typicality.percentiles(
            known_losses=losses_at(b, known, labels[0]),
            new_losses=losses_at(b, new, labels[1]),
            known_labels=labels[0],
            new_labels=labels[1],
            known=self.unit[self.incumbent],
            new=self.unit[self.new],
            rng=self.rng,
        )
        block = self.block[self.new]
        return {number: typicality.of_block(found, np.flatnonzero(block == number)) for number in numbers}

    def _acquitted(self, suspects: list[int], of: dict[int, np.ndarray]) -> set[int]:
        """Who is worth what was claimed, or not useless to everybody else."""
        if not suspects:
            return set()
        usual = float(np.median([self.values.claim(of[number]) for number in suspects]))
        sizes = {number: self.values.claim(of[number]) / usual for number in suspects}
        acquitted = self._worth_their_claims(usual, sizes, of)
        return acquitted | self._not_useless(usual, sizes, of, suspects=set(suspects) - acquitted)

    def _worth_their_claims(self, usual: float, sizes: dict[int, float], of: dict[int, np.ndarray]) -> set[int]:
        """V >= R + 2 s next to the incumbents and to those acquitted before: the best first. `sizes`: claims / `usual`."""
        null = self.values.null(usual, beside=self.incumbent, rng=self.rng, draws=NULL_DRAWS)
        beside, left, acquitted = self.incumbent.copy(), list(sizes), set()
        while left:
            worth = {number: self.values.value(of[number], beside=beside) for number in left}
            best = max(left, key=lambda number: worth[number] / sizes[number])
            asked = max(null.mean, 0.0) * sizes[best] + ACQUITTED_DEVIATIONS * null.deviation * sizes[best] ** 0.5
            if worth[best] <= 0 or worth[best] < asked:
                break
            acquitted.add(best)
            beside |= of[best]
            left.remove(best)
        return acquitted

    def _not_useless(
        self, usual: float, sizes: dict[int, float], of: dict[int, np.ndarray], *, suspects: set[int]
    ) -> set[int]:
        """V >= 2 s and V >= R / 2 beside everybody, the other suspects included.

        Random incumbents with a block's claim differ less there, so one block alone is seen sharply enough to tell it from
        the crowd in which it came; and what a crowd contradicts is worth more beside it.
        """
        everyone = np.ones(len(self.rows), dtype=bool)
        null = self.values.null(usual, beside=everyone, rng=self.rng.spawn(1)[0], draws=NULL_DRAWS)

        def asked(number: int) -> float:
            chance = ACQUITTED_DEVIATIONS * null.deviation * sizes[number] ** 0.5
            return max(chance, USELESS_PART * null.mean * sizes[number])

        return {number for number in suspects if self.values.value(of[number], beside=everyone) >= asked(number)}
