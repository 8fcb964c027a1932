"""The attacks, each with what an attacker can choose of it. Contributor 0 attacks, and may open accounts of their own.

    ATTACKS[name].play(market, choice, random) -> Play: what is sent, asked and approved

What an honest row was paid before stands on its public page, so an attacker can copy the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.attack_data import Data, Row
from bench.attack_market import Market, Sent

ATTACKER = 0
FIRST_ACCOUNT = 1000  # of those the attacker opens
CURATORS = (2001, 2002, 2003, 2004)
COLLUDER = CURATORS[0]
TIMES = (3, 6, 9, 9)
SOURCES = ("own", "others", "best")

Choice = dict[str, Any]


@dataclass
class Play:
    """What an attacker does: rows in place of others, own calls, a curator of theirs."""

    sent: Sent
    calls: list[Any] = field(default_factory=list)
    has_curator: bool = False


def copies(market: Market, choice: Choice, random) -> Play:
    """The same content again, some with another label, by one account or many; texts also restyled."""
    data, added = market.data, []
    for row in _sources(market, choice, random):
        label = _other_label(data, row.label, random) if random.random() < choice["relabelled"] else row.label
        value = data.restyled(row.value, random) if choice["restyled"] else row.value
        added.append(Row(_account(choice, random), value, label))
    return Play(_and_added(market, added))


def sybils(market: Market, choice: Choice, random) -> Play:
    """One's own rows divided over accounts, and copies of them by all."""
    owners = {n: _account(choice, random) for n in _mine(market)}
    added = copies(market, {**choice, "source": "own"}, random).sent.added if choice["times"] else []
    return Play(_and_added(market, added)._replace(owners=owners))


def variants(market: Market, choice: Choice, random) -> Play:
    """Rows changed at random, with their label; texts may be cut short, where only the same words are a copy."""
    added = []
    for row in _sources(market, choice, random):
        value = market.data.varied(_cut(market.data, row.value, choice), choice["strength"], random)
        added.append(Row(ATTACKER, value, row.label))
    return Play(_and_added(market, added))


def rewording(market: Market, choice: Choice, random) -> Play:
    """Texts: clauses moved, words of the class. Pictures: shifted and turned. Tables: two rows of a class mixed."""
    added = []
    for row in _sources(market, choice, random):
        value = market.data.reworded(_cut(market.data, row.value, choice), row.label, choice["strength"], random)
        added.append(Row(ATTACKER, value, row.label))
    return Play(_and_added(market, added))


def garbage(market: Market, choice: Choice, random) -> Play:
    """Noise, with labels at random or all of one class."""
    data, mine = market.data, _mine(market)
    one = data.labels[int(choice["class"] * len(data.labels))]
    labels = [
        one if choice["one_class"] else str(random.choice(data.labels)) for _ in range(choice["times"] * len(mine))
    ]
    return Play(_and_added(market, [Row(ATTACKER, data.noise(choice["strength"], random), each) for each in labels]))


def flips(market: Market, choice: Choice, random) -> Play:
    """Some of one's own rows, and variants of them, with wrong labels."""
    data = market.data
    wrong = {n for n in _mine(market) if random.random() < choice["flipped"]}
    added = [
        Row(ATTACKER, data.honest[n].value, _other_label(data, data.honest[n].label, random)) for n in sorted(wrong)
    ]
    for row in _sources(market, {**choice, "source": "own"}, random) if choice["times"] else []:
        value = data.varied(row.value, choice["strength"], random)
        added.append(Row(ATTACKER, value, _other_label(data, row.label, random)))
    sent = _and_added(market, added)
    return Play(sent._replace(kept=[n for n in sent.kept if n not in wrong]))


def stuffing(market: Market, choice: Choice, random) -> Play:
    """What is typical of a class, without a source: its commonest words, or rows drawn towards its mean."""
    data, mine, added = market.data, _mine(market), []
    for row in [market.data.honest[n] for n in mine for _ in range(choice["times"])]:
        label = row.label if choice["own_classes"] else str(random.choice(data.labels))
        added.append(Row(ATTACKER, data.typical(label, choice["pull"], choice["strength"], random), label))
    return Play(_and_added(market, added))


def self_dealing(market: Market, choice: Choice, random) -> Play:
    """Calls of one's own about one's own rows, or close to them; each is paid for in full."""
    data, mine = market.data, _mine(market)
    asked = [data.honest[mine[random.integers(len(mine))]].value for _ in range(choice["calls"])]
    return Play(market.nothing_sent(), calls=[data.varied(value, choice["strength"], random) for value in asked])


def collusion(market: Market, choice: Choice, random) -> Play:
    """Variants that a curator of the attacker's approves, who is paid for what these records earn."""
    play = variants(market, choice, random)
    return Play(play.sent, has_curator=True)


@dataclass(frozen=True)
class Attack:
    """How it is played, and what can be chosen: a range (low, high), or a tuple of values."""

    play: Callable[[Market, Choice, Any], Play]
    space: dict[str, Any]
    is_exact: bool = False
    kinds: tuple[str, ...] = ("image", "tabular", "text")


_COPIES = {"times": TIMES, "relabelled": [0.0, 1.0], "restyled": (False, True), "accounts": (1, 2, 5, 10)}
_VARIANTS = {"times": TIMES, "source": SOURCES, "short": (False, True)}

ATTACKS: dict[str, Attack] = {
    "copies": Attack(copies, {**_COPIES, "source": ("own",)}, is_exact=True),
    "sybils": Attack(sybils, {**_COPIES, "times": (0, 1, 9)}, is_exact=True),
    "theft": Attack(copies, {**_COPIES, "source": ("others", "best")}, is_exact=True),
    "near": Attack(variants, {**_VARIANTS, "short": (False,), "strength": [0.002, 0.03]}),
    "mid": Attack(variants, {**_VARIANTS, "strength": [0.03, 0.12]}),
    "heavy": Attack(variants, {**_VARIANTS, "strength": [0.12, 0.6]}),
    "rewording": Attack(rewording, {**_VARIANTS, "strength": [0.05, 1.0]}),
    "garbage": Attack(
        garbage, {"times": TIMES, "strength": [0.1, 1.0], "one_class": (False, True), "class": [0.0, 0.999]}
    ),
    "flips": Attack(flips, {"times": (0, 3, 9), "flipped": [0.1, 1.0], "strength": [0.0, 0.3]}),
    "stuffing": Attack(
        stuffing, {"times": TIMES, "pull": [0.2, 1.0], "strength": [0.0, 0.2], "own_classes": (False, True)}
    ),
    "self_dealing": Attack(self_dealing, {"calls": (1, 2, 5, 10, 20, 40), "strength": [0.0, 0.1]}),
    "collusion": Attack(collusion, {**_VARIANTS, "strength": [0.02, 0.6]}),
}


def drawn(space: dict[str, Any], random) -> Choice:
    """A choice at random."""
    return {name: _draw(one, random) for name, one in space.items()}


def nudged(space: dict[str, Any], choice: Choice, random) -> Choice:
    """One near the best so far: numbers moved by a tenth of their range, one other choice drawn again."""
    moved = dict(choice)
    for name, one in space.items():
        if isinstance(one, list):
            moved[name] = float(np.clip(choice[name] + (one[1] - one[0]) * random.normal(0, 0.1), *one))
    again = [name for name, one in space.items() if isinstance(one, tuple)]
    if again and random.random() < 0.5:
        name = again[random.integers(len(again))]
        moved[name] = _draw(space[name], random)
    return moved


def _draw(one, random):
    return float(random.uniform(*one)) if isinstance(one, list) else one[random.integers(len(one))]


def _mine(market: Market) -> list[int]:
    return [n for n, row in enumerate(market.data.honest) if row.who == ATTACKER]


def _sources(market: Market, choice: Choice, random) -> list[Row]:
    """The rows that are made use of: each as often as `times` allows."""
    mine = _mine(market)
    if choice["source"] == "own":
        places: Sequence[int] = [n for n in mine for _ in range(choice["times"])]
    else:
        others = [n for n in range(len(market.data.honest)) if n not in mine]
        if choice["source"] == "best":
            others = sorted(others, key=lambda n: (-market.earned[n], n))[: 3 * len(mine)]
        places = random.choice(others, size=choice["times"] * len(mine)).tolist()
    return [market.data.honest[n] for n in places]


def _and_added(market: Market, added: list[Row]) -> Sent:
    return market.nothing_sent()._replace(added=added)


def _account(choice: Choice, random) -> int:
    return ATTACKER if choice["accounts"] == 1 else FIRST_ACCOUNT + int(random.integers(choice["accounts"]))


def _other_label(data: Data, label: str, random) -> str:
    return str(random.choice([each for each in data.labels if each != label]))


def _cut(data: Data, value, choice: Choice):
    return data.short(value) if choice["short"] and data.kind == "text" else value
