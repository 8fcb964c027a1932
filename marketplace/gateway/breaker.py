"""Which targets are asked: one that fails again and again is left alone for a while, then tried with a single call.

Pure: it knows no network and takes its clock from its caller. One process only; each finds out for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    CLOSED = "closed"  # every call passes
    OPEN = "open"  # none does, until its time is over
    HALF_OPEN = "half-open"  # one does: what it meets decides


@dataclass
class Breaker:
    """The state of one target.

    `enter` gives a call its turn, and the call says with it how it went. The turn changes whenever calls are kept out: what a
    call that began before has to say is old news by then, and is not listened to.
    """

    failures_max: int
    open_s: float
    state: State = State.CLOSED
    failures: int = 0  # in a row
    open_until: float = 0.0
    turn: int = 0

    def enter(self, now: float) -> int | None:
        """The turn of a call that may pass, or None."""
        if self.state is State.OPEN and now >= self.open_until:
            self.state = State.HALF_OPEN
            self.turn += 1
            return self.turn
        return self.turn if self.state is State.CLOSED else None

    def answered(self, turn: int) -> None:
        """Its first byte came. After a probe others pass again, but the next failure is one too many."""
        if turn == self.turn and self.state is State.HALF_OPEN:
            self.state = State.CLOSED
            self.failures = self.failures_max - 1

    def succeeded(self, turn: int) -> None:
        if turn == self.turn:
            self.state = State.CLOSED
            self.failures = 0

    def failed(self, turn: int, now: float) -> None:
        if turn != self.turn:
            return
        self.failures += 1
        if self.state is State.HALF_OPEN or self.failures >= self.failures_max:
            self.state = State.OPEN
            self.turn += 1
            self.open_until = now + self.open_s

    def undecided(self, turn: int) -> None:
        """The call ended without saying anything of the target. After a probe the next call is one."""
        if turn == self.turn and self.state is State.HALF_OPEN:
            self.state = State.OPEN
            self.turn += 1


class Visit:
    """A call at a target. It ends with `succeeded`, `failed` or `undecided`, whichever comes first."""

    def __init__(self, breaker: Breaker, turn: int, clock: Callable[[], float]):
        self._breaker, self._turn, self._clock = breaker, turn, clock
        self.is_probe = breaker.state is State.HALF_OPEN

    def answered(self) -> None:
        self._breaker.answered(self._turn)

    def succeeded(self) -> None:
        self._breaker.succeeded(self._turn)

    def failed(self) -> bool:
        """Returns whether the target is left alone from now on."""
        before = self._breaker.state
        self._breaker.failed(self._turn, self._clock())
        return self._breaker.state is State.OPEN and before is not State.OPEN

    def undecided(self) -> None:
        self._breaker.undecided(self._turn)


class Health:
    """A breaker for each target that was ever asked; there are as many as models."""

    def __init__(self, *, failures_max: int, open_s: float, clock: Callable[[], float]):
        self._failures_max, self._open_s, self._clock = failures_max, open_s, clock
        self._breakers: dict[Hashable, Breaker] = {}

    def enter(self, target: Hashable) -> Visit | None:
        """The visit of a call to a target, or None where it is left alone."""
        breaker = self._breakers.setdefault(target, Breaker(self._failures_max, self._open_s))
        turn = breaker.enter(self._clock())
        return None if turn is None else Visit(breaker, turn, self._clock)

    def wait_s(self, targets: Iterable[Hashable]) -> int:
        """In how many whole seconds, 1 or more, the first of these targets may be asked again."""
        until = min(self._breakers[target].open_until for target in targets)
        return max(1, math.ceil(until - self._clock()))
