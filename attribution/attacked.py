"""What attacks on a method of attribution gained, as measured: `data/attacks.json`, which `bench/attacks.py` writes.

A gain is the payout of 1 of 20 contributors with the attack, by all their accounts together and less what it cost, over their
payout without it. Pages and the API show the figures of the method that a version stores, and of no other: a changed method
has a new code, and nothing measured.
"""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from django.utils.translation import gettext_lazy as _

FILE = Path(__file__).resolve().parent / "data" / "attacks.json"

NAMES = {
    "copies": _("The same content again, also with other labels"),
    "sybils": _("One’s own records divided over many accounts"),
    "theft": _("Copies of others’ records"),
    "near": _("Records changed a little"),
    "mid": _("Records changed more than the copy test finds"),
    "heavy": _("Records changed a lot"),
    "rewording": _("Reworded texts, turned pictures, mixed rows"),
    "garbage": _("Noise with labels"),
    "flips": _("Wrong labels"),
    "stuffing": _("Commonest words of a class, or its mean"),
    "self_dealing": _("Calls about one’s own records, paid for oneself"),
    "collusion": _("Changed records, and a curator who approves them"),
}
SETS = {"digits": _("digits"), "tumours": _("tumours"), "texts": _("texts")}


class Gain(NamedTuple):
    """The mean over several draws of a data set, and the 95 % interval of it. 1: the attack changed nothing."""

    mean: float
    low: float
    high: float


class OnSet(NamedTuple):
    """An attack on one data set. `trials`: of the search it was tuned by. `seeds`: draws it was measured on."""

    set: str
    trials: int
    seeds: int
    equal: Gain
    lognormal: Gain

    @property
    def name(self) -> str:
        """In the reader's language."""
        return str(SETS.get(self.set, self.set))


class Attacked(NamedTuple):
    """An attack, in the reader's language, and what it gained on each set."""

    code: str
    name: str
    sets: list[OnSet]

    @property
    def worst(self) -> OnSet:
        return max(self.sets, key=lambda one: max(one.equal.mean, one.lognormal.mean))


class Measured(NamedTuple):
    """All that was measured of a method."""

    method: str
    measured_on: date
    contributors: int
    times_max: int
    attacks: list[Attacked]

    def as_json(self) -> dict[str, Any]:
        """For the API."""
        attacks = [
            {
                "code": attack.code,
                "name": attack.name,
                "sets": [
                    {**one._asdict(), "equal": one.equal._asdict(), "lognormal": one.lognormal._asdict()}
                    for one in attack.sets
                ],
            }
            for attack in self.attacks
        ]
        return {**self._asdict(), "measured_on": self.measured_on.isoformat(), "attacks": attacks}


def measured(method: str) -> Measured | None:
    """What attacks on this method gained; None where none was measured."""
    told = _told()
    engine = next((name for name, code in told["methods"].items() if code == method), None)
    if engine is None:
        return None
    attacks = [
        Attacked(
            found["attack"],
            str(NAMES.get(found["attack"], found["attack"])),
            [
                OnSet(
                    one["set"],
                    one["trials"],
                    one["seeds"],
                    equal=Gain(*one["equal"]),
                    lognormal=Gain(*one["lognormal"]),
                )
                for one in found["sets"]
            ],
        )
        for found in told["engines"][engine]
    ]
    return Measured(method, date.fromisoformat(told["measured_on"]), told["contributors"], told["times_max"], attacks)


@cache
def _told() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))
