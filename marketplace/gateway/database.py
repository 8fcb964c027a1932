"""A psycopg2 connection with a thread of its own: the event loop hands it acts and awaits their results.

Four of them serve the process: leases, catalogue (which also listens), reading, and capture (capture.py, on `connect`).
Every act must be safe to repeat: after a lost connection it is tried once more on a fresh one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .errors import Unavailable

logger = logging.getLogger("marketplace.gateway")
Result = TypeVar("Result")

_OPTIONS = "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=30000"
_PAUSE_S = 0.5  # after a refused connection: further acts fail at once and do not queue behind a time-out


def connect(dsn: str, name: str) -> Connection:
    """Open a connection that commits each statement. Raises psycopg2.OperationalError."""
    session = psycopg2.connect(
        dsn,
        connect_timeout=2,
        application_name=f"gateway {name}",
        options=_OPTIONS,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,  # a server that vanished without a word is noticed
    )
    session.autocommit = True
    return session


def is_lost(session: Connection | None, error: Exception) -> bool:
    """Whether an error means that the connection is gone, and not that a statement was refused."""
    if isinstance(error, psycopg2.InterfaceError):
        return True
    broken = session is None or session.closed != 0
    return isinstance(error, psycopg2.OperationalError) and (broken or (error.pgcode or "").startswith(("57P", "08")))


class DatabaseThread:
    """Runs acts one after another on one connection.

    Args:
        listen: Channels; `on_notify(channel, payload)` is called in the thread for each message.
        on_tick: Called in the thread every `tick_s`, with a cursor.
        on_connect: Called in the thread with a cursor after each (re)connection.
    """

    def __init__(
        self,
        name: str,
        dsn: str,
        *,
        listen: Sequence[str] = (),
        on_notify: Callable[[str, str], None] | None = None,
        on_tick: Callable[[Cursor], None] | None = None,
        tick_s: float = 5.0,
        on_connect: Callable[[Cursor], None] | None = None,
    ):
        self._name, self._dsn = name, dsn
        self._listen, self._on_notify = listen, on_notify
        self._on_tick, self._tick_s, self._on_connect = on_tick, tick_s, on_connect
        self._acts: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._session: Connection | None = None
        self._refused_at = 0.0
        self._next_tick = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"db-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then end. Blocks."""
        self._stopping = True
        self._wake()
        self._thread.join(10)

    @property
    def is_down(self) -> bool:
        """Whether the last thing that was heard of the database is that it does not answer."""
        return self._refused_at > 0

    async def run(self, act: Callable[[Cursor], Result]) -> Result:
        """Run `act(cursor)` in the thread.

        Raises:
            Unavailable: the database does not answer. psycopg2.Error: it refused the statement.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._acts.put((act, loop, future))
        self._wake()
        return await future

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        while True:
            self._tick()  # before the acts: a busy thread must not starve it
            try:
                act, loop, future = self._acts.get_nowait()
            except queue.Empty:
                if self._stopping:
                    break
                self._rest()
                continue
            try:
                result, error = self._perform(act), None
            except Exception as problem:
                result, error = None, problem
            loop.call_soon_threadsafe(_settle, future, result, error)
        if self._session is not None:
            self._session.close()

    def _rest(self) -> None:
        """Wait for work, a notification or the next tick."""
        wanted = select.poll()  # select takes no file above 1,024, and clients have more connections than that
        wanted.register(self._wake_read, select.POLLIN)
        listens = -1
        if self._listen and self._session is not None and not self._session.closed:
            listens = self._session.fileno()
            wanted.register(listens, select.POLLIN)
        timeout_s = max(0.0, self._next_tick - time.monotonic()) if self._on_tick else 5.0
        ready = {file for file, _ in wanted.poll(timeout_s * 1000)}
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._session is not None and listens in ready:
            try:
                self._session.poll()
                self._deliver()
            except psycopg2.Error:
                self._drop()
                self._next_tick = 0.0

    def _tick(self) -> None:
        now = time.monotonic()
        if self._on_tick is None or now < self._next_tick or self._stopping:
            return
        self._next_tick = now + self._tick_s
        try:
            self._perform(self._on_tick)
        except (psycopg2.Error, Unavailable) as problem:
            logger.warning("database thread %s: %s", self._name, type(problem).__name__)
            self._next_tick = now + min(self._tick_s, 0.5)

    def _perform(self, act: Callable[[Cursor], Result]) -> Result:
        for attempt in (1, 2):
            session = self._connected()
            try:
                with session.cursor() as cursor:
                    result = act(cursor)
                self._deliver()
                return result
            except psycopg2.Error as error:
                if not is_lost(session, error):
                    raise
                self._drop()
                if attempt == 2:
                    self._refused_at = time.monotonic()
                    raise Unavailable from error
        raise AssertionError("unreachable")

    def _connected(self) -> Connection:
        if self._session is not None:
            return self._session
        if time.monotonic() - self._refused_at < _PAUSE_S:
            raise Unavailable
        try:
            session = connect(self._dsn, self._name)
            with session.cursor() as cursor:
                for channel in self._listen:
                    cursor.execute(f"LISTEN {channel}")
                if self._on_connect is not None:
                    self._on_connect(cursor)
        except psycopg2.Error as error:
            self._refused_at = time.monotonic()
            raise Unavailable from error
        self._refused_at = 0.0
        self._session = session
        return session

    def _deliver(self) -> None:
        session = self._session
        while session is not None and session.notifies:
            notice = session.notifies.pop(0)
            if self._on_notify is not None:
                self._on_notify(notice.channel, notice.payload)
                self._next_tick = 0.0 if notice.channel == "openledger_catalogue" else self._next_tick

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None


def _settle(future: asyncio.Future, result: Any, error: Exception | None) -> None:
    if future.done():  # whoever asked has left
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
