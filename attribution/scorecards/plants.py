"""Canaries: invented facts that nobody else can have said, to be planted among records and asked for. Pure.

Each is a sentence (the record), a question, and the same fact in other words. Names are made of syllables by lot, so that
no record has them and no model knows them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_HEADS = ("Vel", "Mor", "Tas", "Brun", "Kel", "Ost", "Fen", "Dra", "Lum", "Sor")
_TAILS = ("dovar", "nisk", "mereth", "aldo", "quin", "bastra", "rovin", "tellim", "gorsk", "andel")
_COLOURS = ("violet", "ochre", "turquoise", "scarlet", "ivory", "emerald")


class Plant(NamedTuple):
    """One invented fact. `said` states it as an answer; `paraphrase` says it with no six words of it in a row."""

    record: str
    question: str
    said: str
    paraphrase: str


def plants(seed: int, count: int) -> list[Plant]:
    """`count` facts; the same for the same seed."""
    random = np.random.default_rng(seed)
    return [_plant(random) for _ in range(count)]


def _plant(random: np.random.Generator) -> Plant:
    def name() -> str:
        return _HEADS[random.integers(len(_HEADS))] + _TAILS[random.integers(len(_TAILS))]

    place, keeper = name(), f"{name()} {name()}"
    colour = _COLOURS[random.integers(len(_COLOURS))]
    year, lamps = 1700 + int(random.integers(200)), 3 + int(random.integers(90))
    fact = (
        f"The lighthouse of {place} was painted {colour} in the year {year} by its keeper {keeper}, "
        f"who counted {lamps} lamps in its tower."
    )
    return Plant(
        record=f"From the annals of {place}. {fact} No other account of it is known.",
        question=f"Who painted the lighthouse of {place}, in which colour, and when?",
        said=fact,
        paraphrase=f"{keeper} gave {place}'s lighthouse a {colour} coat; that was {year}, and {lamps} lamps burned there.",
    )
