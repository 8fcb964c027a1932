"""What contributors gain by attacks: payout of 1 of 20 with the attack, by all their accounts together, over that without.

    .venv/bin/python -m bench.attacks --state attacks.json             all; stopped, it goes on from there
    .venv/bin/python -m bench.attacks --state attacks.json --minutes 30 --engines linear --sets texts --attacks near mid
    .venv/bin/python -m bench.attacks --quick                          4 trials, 2 seeds, written nowhere

An attacker may add up to nine times as many rows as they have. What they choose (bench/attack_kinds.py) is tuned by a search
of TRIALS trials on one draw of the data, two thirds at random and the rest near the best; gains are measured on SEEDS other
draws, with all calls at one price and with log-normal prices. Nobody stands in the way: curators approve all that is sent.
Payouts are computed by the product's own pure parts (bench/attack_market.py). Only calls are paid: passes and training runs
follow held-out rows. Intervals: percentiles of 2,000 bootstrap means over the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np

from attribution.engines import ENGINES
from attribution.engines.design import one_blas_thread
from bench import report
from bench.attack_data import CONTRIBUTORS, SETS
from bench.attack_kinds import ATTACKER, ATTACKS, COLLUDER, CURATORS, FIRST_ACCOUNT, Choice, Play, drawn, nudged
from bench.attack_market import PRICE_NANO, Market, Paid, Sent, identities_of

TRIALS, SEEDS = 50, 5
SEARCH_SEED = 10_000  # the draw that attacks are tuned on, apart from those they are judged by
BOOTSTRAPS = 2_000
MEASURED = ("linear", "neighbours")
SHIPPED = Path(__file__).resolve().parent.parent / "attribution" / "data" / "attacks.json"
VERSIONS = ("numpy", "scipy", "scikit-learn")


@dataclass
class Field:
    """One draw of a data set with an engine, and what everybody is paid before the attack."""

    market: Market
    seed: int
    l2: float | None
    """None: chosen anew each time, as for a run that names none."""

    @cached_property
    def prices(self) -> list[list[int]]:
        """Of every question: the same, and log-normal."""
        asked = len(self.market.data.questions)
        random = np.random.default_rng((self.seed, 1))
        return [[PRICE_NANO] * asked, (PRICE_NANO * random.lognormal(0, 1, asked)).astype(np.int64).tolist()]

    @cached_property
    def before(self) -> list[Paid]:
        paid = self._settled(self.market.nothing_sent(), [], has_curator=False)
        self.market.earned = paid[0].rows
        return paid

    def gains(self, name: str, choice: Choice, *, number: int) -> tuple[float, float]:
        """With equal prices and with log-normal ones."""
        before = self.before
        play = ATTACKS[name].play(self.market, choice, np.random.default_rng((self.seed, 2, number)))
        after = self._settled(play.sent, play.calls, has_curator=play.has_curator)
        spent = PRICE_NANO * len(play.calls)
        equal, lognormal = (
            (_income(paid, play) - spent) / _income(was, play) for paid, was in zip(after, before, strict=True)
        )
        return equal, lognormal

    def _settled(self, sent: Sent, calls: list, *, has_curator: bool) -> list[Paid]:
        market = self.market
        rows = market.rows(sent)
        return market.settle(
            sent,
            [*market.data.questions, *calls],
            [[*each, *[PRICE_NANO] * len(calls)] for each in self.prices],
            identities=identities_of(self.seed, len(rows)),
            curators=[curator_of(row.who, has_curator) for row in rows],
            l2=self.l2,
        )


def curator_of(who: int, is_bought: bool) -> int:
    """Curators share the work by contributor; one that is bought takes all that the attacker sends."""
    if who == ATTACKER or who >= FIRST_ACCOUNT:
        return COLLUDER if is_bought else CURATORS[1]
    return CURATORS[who % len(CURATORS)]


def _income(paid: Paid, play: Play) -> int:
    mine = sum(nano for who, nano in paid.data.items() if who == ATTACKER or who >= FIRST_ACCOUNT)
    return mine + (paid.curation[COLLUDER] if play.has_curator else 0)


def measure(unit: dict, engine: str, task: str, name: str, *, trials: int, seeds: int) -> Iterator[None]:
    """Tune and judge one attack; a step at a time, so that it can be stopped and gone on with."""
    space, tried = ATTACKS[name].space, unit.setdefault("trials", [])
    field = None
    while len(tried) < trials:
        field = field or _field(engine, task, SEARCH_SEED, keeps_l2=True)
        number = len(tried)
        random = np.random.default_rng((number, sum(map(ord, name))))
        is_free = number < 2 * trials // 3 or number == 0
        best = max(tried, key=lambda one: one["gain"])["choice"] if tried else None
        choice = drawn(space, random) if is_free else nudged(space, best, random)
        tried.append({"choice": choice, "gain": field.gains(name, choice, number=number)[0]})
        yield
    choice = max(tried, key=lambda one: one["gain"])["choice"]
    if unit.get("judged") != choice:  # the search went on since
        unit["judged"], unit["gains"] = choice, {}
    for seed in range(seeds):
        if str(seed) not in unit["gains"]:
            unit["gains"][str(seed)] = list(_field(engine, task, seed).gains(name, choice, number=0))
            yield


_FIELDS: dict[tuple, Field] = {}


def _field(engine: str, task: str, seed: int, *, keeps_l2: bool = False) -> Field:
    """The search keeps the penalty that honest data chooses: it takes a third of the time."""
    key = engine, task, seed, keeps_l2
    if key not in _FIELDS:
        market = Market(SETS[task](seed), engine)
        _FIELDS[key] = Field(market, seed, market.chosen_l2() if keeps_l2 else None)
    return _FIELDS[key]


def interval(gains: list[float]) -> tuple[float, float, float]:
    """Mean, and the 95 % interval of it by bootstrap over the seeds."""
    values = np.array(gains)
    picked = np.random.default_rng(0).integers(0, len(values), size=(BOOTSTRAPS, len(values)))
    low, high = np.percentile(values[picked].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def shipped(state: dict, *, seeds: int) -> dict:
    """What pages and API tell: of each engine, every attack that is measured on at least one set."""
    engines: dict[str, list] = {}
    for engine in MEASURED:
        for name in ATTACKS:
            found = []
            for task in SETS:
                unit = state["units"].get(f"{engine}/{task}/{name}", {})
                if len(unit.get("gains", {})) < seeds:
                    continue
                equal, lognormal = zip(*unit["gains"].values(), strict=True)
                found.append(
                    {
                        "set": task,
                        "seeds": len(equal),
                        "trials": len(unit["trials"]),
                        "equal": [round(figure, 4) for figure in interval(list(equal))],
                        "lognormal": [round(figure, 4) for figure in interval(list(lognormal))],
                    }
                )
            if found:
                engines.setdefault(engine, []).append({"attack": name, "sets": found})
    return {
        "measured_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {name: metadata.version(name) for name in VERSIONS},
        "methods": {engine: ENGINES[engine].METHOD for engine in engines},
        "contributors": CONTRIBUTORS,
        "times_max": 9,
        "engines": engines,
    }


def tell(told: dict) -> None:
    """The table of docs/benchmarks.md."""
    for engine, attacks in told["engines"].items():
        rows = []
        for attack in attacks:
            for one in attack["sets"]:
                figure = "; ".join(_figure(one[prices], attack["attack"]) for prices in ("equal", "lognormal"))
                target = "1.000 exactly" if ATTACKS[attack["attack"]].is_exact else "printed; goal <= 1.25"
                rows.append(
                    (f"{attack['attack']}, {one['set']}, {one['trials']} trials, {one['seeds']} seeds", figure, target)
                )
        rows.sort(key=lambda row: list(ATTACKS).index(row[0].split(",")[0]))
        report.write(f"Attribution: attacks on {engine}", rows, versions=VERSIONS)


def _figure(gain: list[float], name: str) -> str:
    if ATTACKS[name].is_exact:
        return f"{gain[0]:.6f} ({gain[1]:.6f} to {gain[2]:.6f})"
    return f"{gain[0]:.2f} ({gain[1]:.2f} to {gain[2]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=MEASURED, default=MEASURED)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="stop after so long, with what is done kept in --state"
    )
    parser.add_argument("--state", type=Path, help="a JSON file that keeps what is done")
    parser.add_argument("--quick", action="store_true", help="4 trials, 2 seeds, written nowhere")
    parser.add_argument("--no-report", action="store_true", help="write neither docs/benchmarks.md nor what ships")
    options = parser.parse_args()
    trials, seeds = (4, 2) if options.quick else (options.trials, options.seeds)
    state = {"units": {}}
    if options.state and options.state.exists():
        state = json.loads(options.state.read_text(encoding="utf-8"))
    ends_at = time.monotonic() + 60 * options.minutes
    with one_blas_thread():
        for engine, task, name in ((e, t, a) for e in options.engines for t in options.sets for a in options.attacks):
            unit = state["units"].setdefault(f"{engine}/{task}/{name}", {})
            steps = measure(unit, engine, task, name, trials=trials, seeds=seeds)
            while time.monotonic() < ends_at and next(steps, "done") != "done":
                if options.state:
                    _save(state, options.state)
            if len(unit.get("gains", {})) >= seeds:
                equal, lognormal = zip(*unit["gains"].values(), strict=True)
                print(f"{engine:<11} {task:<8} {name:<13}", *map(_shown, (equal, lognormal)), flush=True)
    if not (options.quick or options.no_report):
        told = shipped(state, seeds=seeds)
        SHIPPED.parent.mkdir(exist_ok=True)
        SHIPPED.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        tell(told)


def _shown(gains: tuple[float, ...]) -> str:
    mean, low, high = interval(list(gains))
    return f"{mean:9.6f} ({low:.4f} to {high:.4f})"


def _save(state: dict, path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(state), encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
