"""Who computes next: paid calls before background work, first come first served, and short queues.

A paid lane (chat, embeddings) has a few places that run and a few that wait; whoever comes then is told when to come
back. Background work (scores for attribution, embeddings of a corpus) has one lane and takes its turn only while no
paid call is running or waiting: it asks again before every step of about a third of a second.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

RETRY_AFTER_S_MAX = 60


class Busy(Exception):
    """The lane is full. `retry_after_s`: whole seconds after which a place is likely."""

    def __init__(self, retry_after_s: int):
        super().__init__(f"The queue is full, try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Stopped(Exception):
    """Nobody waits for this work any more."""


class Turn:
    """What a caller has of a lane while it computes."""

    def __init__(self, slots: asyncio.Semaphore):
        self._slots, self._is_mine = slots, False

    async def take(self) -> None:
        await self._slots.acquire()
        self._is_mine = True

    def end(self) -> None:
        if self._is_mine:
            self._is_mine = False
            self._slots.release()

    async def let_others(self) -> None:
        """Between two steps: let everybody go first who waits by now."""
        self.end()
        await self.take()


class Lane:
    """`running` callers at once, `waiting` more in the order of their arrival. Use it on one event loop only."""

    def __init__(self, *, running: int, waiting: int):
        self._running_max = running
        self._held_max = running + waiting
        self._slots = asyncio.Semaphore(running)
        self._typical_s = 1.0
        self.held = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Turn]:
        """Wait for a turn and keep it, but for what it lets others.

        Raises:
            Busy: at once, if as many callers as allowed are waiting already.
        """
        if self.held >= self._held_max:
            raise Busy(self._retry_after_s())
        self.held += 1
        turn = Turn(self._slots)
        try:
            await turn.take()
            start = time.monotonic()
            yield turn
            self._typical_s += 0.2 * (time.monotonic() - start - self._typical_s)
        finally:
            turn.end()
            self.held -= 1

    def _retry_after_s(self) -> int:
        wait_s = self._typical_s * self.held / self._running_max
        return max(1, min(RETRY_AFTER_S_MAX, math.ceil(wait_s)))


class PaidFirst:
    """The gate between paid calls, counted on the event loop, and background work, stopped in its thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paid = 0

    @contextmanager
    def paid(self) -> Iterator[None]:
        """Mark a paid call, from its arrival (it may still wait for its lane) to its end."""
        with self._changed:
            self._paid += 1
        try:
            yield
        finally:
            with self._changed:
                self._paid -= 1
                self._changed.notify_all()

    def wait_turn(self, stop: threading.Event) -> None:
        """Block the calling thread until no paid call is left.

        Raises:
            Stopped: `stop` was set, before or while waiting.
        """
        with self._changed:
            while self._paid and not stop.is_set():
                # The timeout only bounds how late a stop is seen; the end of a paid call wakes us at once.
                self._changed.wait(timeout=0.2)
        if stop.is_set():
            raise Stopped
