"""What noise gains before and after noise cases, and what honest newcomers keep, if people upheld every conviction.

    .venv/bin/python -m bench.noise_pay                              10 fresh draws of three tasks, an hour or two on two cores
    .venv/bin/python -m bench.noise_pay --draws 1 --no-report

A world has 1,000 earlier records of 20 contributors, 250 validation rows, 120 calls, and three honest people who are new: one
with rows of all kinds, one with rows of one class, and one with rows of a class of which there were 10 before. Then one of the
twenty sends nine times as many records as theirs, as ten accounts. What each is paid follows the summed scores of the calls;
of convicted blocks nobody is paid. The gain is what the attacker gets over what they get without the attack; kept is the part
of an honest person's pay that is in no convicted block. Nobody here appeals: a site asks people first (docs/noise.md).

Tasks: digits of 64 pixels, and docstrings of installed packages as TF-IDF and as embeddings of 64 dimensions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from attribution import noise
from attribution.engines import linear
from bench import report
from bench.attribution import texts

TITLE = "Attribution: pay of noise"
SEED = 700
VALIDATION, CALLED, INCUMBENTS, RARE_BEFORE, CONTRIBUTORS = 250, 120, 1000, 10, 20
NEWCOMER, SPECIALIST, RARE = 96, 64, 48
TIMES, ACCOUNTS = 9, 10
MID, HEAVY = 0.25, 0.7  # of a column's spread
KINDS = ("none", "mid", "heavy", "garbage", "pseudo")
HONEST = ("newcomer", "specialist", "rare class")
SETTINGS = {"l2": 1.0, "standardise": False}
TEXTS = 3000  # all there are
PROCESSES = 2


class Paid(NamedTuple):
    """Of one world: the attacker's part of the pay without convicted blocks and with them; what the honest keep."""

    after: float
    before: float
    kept: dict[str, float]
    accused: bool


class Drawn(NamedTuple):
    before: float
    after: float
    kept: dict[str, float]
    accused: bool


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return data.data / 16.0, data.target


def docstrings(dimensions: int | None) -> tuple[np.ndarray, np.ndarray]:
    rows, packages = texts(dimensions, count=TEXTS)
    return rows, np.unique(packages, return_inverse=True)[1]


TASKS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": digits,
    "embeddings": lambda: docstrings(64),
    "TF-IDF text": lambda: docstrings(None),
}


@cache
def data_of(task: str) -> tuple[np.ndarray, np.ndarray]:
    return TASKS[task]()


class World:
    """One draw of a task: who has which rows. `blocks` of new rows are of one account each."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, seed: int):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(rows))
        self.rng, self.all_rows, self.all_labels = rng, rows, labels
        self.judges, self.asked, left = np.split(order, [VALIDATION, VALIDATION + CALLED])
        classes, counts = np.unique(labels, return_counts=True)
        is_rare = labels[left] == classes[counts.argmin()]
        rare, others = left[is_rare], left[~is_rare]
        common = INCUMBENTS - RARE_BEFORE
        self.old = np.concatenate([others[:common], rare[:RARE_BEFORE]])
        unseen = others[common:]
        of_one = unseen[labels[unseen] == np.bincount(labels[unseen]).argmax()][:SPECIALIST]
        mixed = np.setdiff1d(unseen, of_one, assume_unique=True)
        new = (rng.permutation(mixed)[:NEWCOMER], of_one, rare[RARE_BEFORE:][:RARE])
        self.rows = np.vstack([rows[self.old], *(rows[one] for one in new)])
        self.labels = np.concatenate([labels[self.old], *(labels[one] for one in new)])
        self.owner = np.array(
            ["attacker" if place % CONTRIBUTORS == 0 else "others" for place in range(len(self.old))]
            + [name for name, one in zip(HONEST, new, strict=True) for _ in one]
        )
        self.blocks = np.full(len(self.rows), noise.Task.INCUMBENT)
        first = 0
        for name in HONEST:
            first += self._number(np.flatnonzero(self.owner == name), first)

    def _number(self, places: np.ndarray, first: int) -> int:
        """Number these rows' blocks; returns how many they are. Too few rows of one hand are in none, and are not judged."""
        if len(places) < noise.BLOCK_ROWS_MIN:
            return 0
        count = max(1, round(len(places) / noise.BLOCK_ROWS))
        self.blocks[places] = first + np.arange(len(places)) % count
        return count

    def attacked(self, kind: str) -> None:
        """Add what the attacker sends, ten accounts with a block each."""
        count = TIMES * int((self.owner == "attacker").sum())
        rng, known, old = self.rng, self.all_rows[self.old], self.all_labels[self.old]
        source, spread = rng.integers(0, len(known), count), known.std(0)
        moved = known[source] + {"mid": MID}.get(kind, HEAVY) * spread * rng.standard_normal((count, known.shape[1]))
        said = old[source]
        if kind == "garbage":
            moved = known.mean(0) + spread * rng.standard_normal(moved.shape)
            said = rng.choice(np.unique(old), count)
        elif kind == "pseudo":
            model = linear.fit(known, old, np.ones(len(known)), SETTINGS)
            said = np.array([int(linear.answer(model, one).outputs["label"]) for one in moved])
        self.rows, self.labels = np.vstack([self.rows, moved]), np.concatenate([self.labels, said])
        self.owner = np.concatenate([self.owner, np.full(count, "attacker")])
        self.blocks = np.concatenate([self.blocks, self.blocks.max() + 1 + np.arange(count) % ACCOUNTS])

    def paid(self, *, judged: bool) -> Paid:
        model = linear.fit(self.rows, self.labels, np.ones(len(self.rows)), SETTINGS)
        questions = self.all_rows[self.asked]
        served = [linear.answer(model, one).outputs["label"] for one in questions]
        scores = linear.midpoint_scores(model, questions, served)
        claims = (scores / np.abs(scores).sum(1, keepdims=True)).sum(0)
        pay = np.maximum(claims, 0.0) / np.maximum(claims, 0.0).sum()
        convicted = self._convicted(claims, model.settings) if judged else np.zeros(len(pay), dtype=bool)
        kept = {name: part(pay, (self.owner == name) & ~convicted, self.owner == name) for name in HONEST}
        mine = self.owner == "attacker"
        return Paid(float(pay[mine & ~convicted].sum()), float(pay[mine].sum()), kept, bool(convicted.any()))

    def _convicted(self, claims: np.ndarray, settings: dict) -> np.ndarray:
        judges = self.all_rows[self.judges]
        unjudged = (self.blocks == noise.Task.INCUMBENT) & np.isin(self.owner, HONEST)  # too few rows: new, in no block
        inside = ~unjudged
        rows = np.vstack([self.rows[inside], judges])
        found = noise.judge(
            noise.Task(
                rows=np.column_stack([rows, np.ones(len(rows))]),
                labels=np.concatenate([self.labels[inside], self.all_labels[self.judges]]),
                block=np.concatenate([self.blocks[inside], np.full(len(judges), noise.Task.VALIDATION)]),
                claims=np.concatenate([claims[inside], np.zeros(len(judges))]),
                settings=settings,
            )
        )
        return np.isin(self.blocks, [block.number for block in found.convicted])


def part(pay: np.ndarray, kept: np.ndarray, all_of: np.ndarray) -> float:
    return float(pay[kept].sum() / pay[all_of].sum()) if pay[all_of].sum() else 1.0


def drawn(task: str, kind: str, seed: int) -> Drawn:
    """A draw with and without the attack. The same task, kind and seed give the same figures."""
    rows, labels = data_of(task)
    usual = World(rows, labels, seed).paid(judged=False).before
    world = World(rows, labels, seed)
    if kind != "none":
        world.attacked(kind)
    found = world.paid(judged=True)
    return Drawn(found.before / usual, found.after / usual, found.kept, found.accused)


def told(draws: Sequence[Drawn]) -> str:
    before, after = (
        f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
        for each in ([one.before for one in draws], [one.after for one in draws])
    )
    kept = ", ".join(f"{statistics.mean(one.kept[name] for one in draws):.3f}" for name in HONEST)
    return f"{before}; {after}; {kept}; {sum(one.accused for one in draws)} of {len(draws)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.noise_pay")
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    rows = []
    for task in given.tasks:
        data_of(task)  # before the processes fork, which share it
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for task in given.tasks:
            for kind in KINDS:
                draws = pool.starmap(drawn, [(task, kind, SEED + number) for number in range(given.draws)])
                what = "no attack" if kind == "none" else kind
                rows.append((f"{task}, {what}", told(draws), "printed; kept >= .95 each"))
                print(*rows[-1], flush=True)
    if not given.no_report:
        head = (
            "gain before; after; kept by newcomer, specialist, rare class; draws with a case",
            "",
            "<= 1.25; >= .95",
        )
        report.write(TITLE, [head, *rows], versions=("numpy", "scipy", "scikit-learn"))


if __name__ == "__main__":
    main()
