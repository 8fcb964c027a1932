"""Group commit: finished calls are stored together, in one statement, by a thread with a connection of its own.

Nothing is acknowledged before its call is durable. A call is stored once however often it is sent (its id decides), so
a statement whose outcome is unknown, because the connection broke, is simply sent again.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import psycopg2
from psycopg2.extensions import connection as Connection

from ledger import errors as ledger_errors
from ledger import legs

from . import config, failpoints, metrics
from .database import connect, is_lost
from .errors import Unavailable

logger = logging.getLogger("marketplace.gateway")
_SETTLE_S = 1.0  # how often calls of unknown outcome are tried again
_CAPTURE = "SELECT count(*) FROM capture_calls(%s::jsonb)"
_MARKS = ("free_call", "cap_id", "idempotency_key")
_LEASE_GONE = (ledger_errors.HoldClosed, ledger_errors.HoldExceeded, ledger_errors.HoldUnknown)


class KeyTaken(Exception):
    """Another process answers this Idempotency-Key: it thought this one dead."""


class FreeCallTaken(Exception):
    """Another process gave this free call away: it thought this one dead."""


class CapReached(Exception):
    """The key's lease on its spend cap had ended (we were thought dead), and others have used what was in it."""


_TAKEN = {"GW001": KeyTaken, "GW002": FreeCallTaken, "GW003": CapReached}  # by SQLSTATE of capture_calls


@dataclass(eq=False)
class _Waiting:
    row: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[bool]
    give_up_at: float
    lease_gone: bool = False


class Capture:
    """Stores calls. One per process; `store` is for the event loop, everything else happens in the thread."""

    def __init__(self, dsn: str, *, open_connection: Callable[[str, str], Connection] = connect):
        self._dsn, self._open = dsn, open_connection
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._session: Connection | None = None
        self._unknown: list[dict[str, Any]] = []
        self._notes: deque[dict[str, Any]] = deque()
        self._settle_at = 0.0
        self._thread = threading.Thread(target=self._run, name="db-capture", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Store what is queued, then end. Blocks."""
        self._waiting.put(None)
        self._thread.join(15)

    async def store(self, row: dict[str, Any]) -> bool:
        """Return once the call and its charge are durable: whether its lease was gone, so that the payer paid without it.

        Raises:
            Unavailable: the database does not answer; whether the call was stored will be known when it does.
            KeyTaken, FreeCallTaken, CapReached, ledger errors, psycopg2.Error: refused; nothing was stored or charged.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(row, loop, loop.create_future(), time.monotonic() + config.CAPTURE_PATIENCE_S)
        self._waiting.put(waiting)
        return await waiting.future

    def note(self, row: dict[str, Any]) -> None:
        """Store a refused call within a second or so. Nobody waits for it, and it may be lost: it moved no money."""
        if len(self._notes) < config.NOTES_MAX:
            self._notes.append(row)

    def _run(self) -> None:
        while True:
            if self._settle_at <= time.monotonic():  # not only when nothing waits: under load something always does
                self._settle_unknown()
                self._store_notes()
            try:
                first = self._waiting.get(timeout=_SETTLE_S)
            except queue.Empty:
                continue
            if first is None:
                break
            batch = [first]
            stopping = False
            while len(batch) < config.CAPTURE_BATCH_MAX:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stopping = True
                    break
                batch.append(more)
            self._store(batch)
            if stopping:
                break
        self._settle_unknown()
        self._store_notes()
        if self._session is not None:
            self._session.close()

    def _store(self, batch: Sequence[_Waiting]) -> None:
        """Store a batch; if it is refused, one by one, so that one bad row does not lose the others."""
        failpoints.hit("before_capture")
        metrics.BATCH.observe(len(batch))
        try:
            # The first has waited the longest, perhaps behind others while the database was away.
            self._send([waiting.row for waiting in batch], give_up_at=batch[0].give_up_at)
        except Unavailable as error:
            self._unknown += [_as_failed(waiting.row) for waiting in batch]
            _answer(batch, error)
        except psycopg2.Error as error:
            if len(batch) > 1:
                for waiting in batch:
                    self._store([waiting])
            else:
                self._store_refused(batch[0], error)
        else:
            failpoints.hit("after_capture")
            _answer(batch, None)

    def _store_refused(self, waiting: _Waiting, error: psycopg2.Error) -> None:
        """One call was refused. If only its lease is gone (it expired), its payer pays without it."""
        refused = ledger_errors.of(error)
        if isinstance(refused, _LEASE_GONE) and waiting.row.get("hold_id"):
            self._store([replace(waiting, row={**waiting.row, "hold_id": None}, lease_gone=True)])
            return
        taken = _TAKEN.get(error.pgcode or "")
        if taken is None and refused is None:
            logger.error("a call could not be stored: %s %s", error.pgcode, (error.diag.message_primary or "")[:200])
        _answer([waiting], taken() if taken else refused or error)

    def _send(self, rows: Sequence[dict[str, Any]], *, give_up_at: float) -> None:
        """Send until the outcome is known. Raises Unavailable when it is time to give up, psycopg2.Error when refused."""
        payload = orjson.dumps(by_table(rows)).decode()
        repeats_left = 3
        while True:
            try:
                if self._session is None:
                    self._session = self._open(self._dsn, "capture")
                with self._session.cursor() as cursor:
                    cursor.execute(_CAPTURE, [payload])
                    cursor.fetchone()
                return
            except psycopg2.Error as error:
                lost = is_lost(self._session, error)
                if lost:
                    if self._session is not None:
                        self._session.close()
                    self._session = None
                elif isinstance(error, psycopg2.OperationalError) and repeats_left:
                    repeats_left -= 1  # a deadlock or a lock time-out: nothing is wrong with the rows
                else:
                    raise
                if lost and time.monotonic() >= give_up_at:
                    raise Unavailable from error
            time.sleep(0.1)

    def _settle_unknown(self) -> None:
        """Calls that were answered with 503: if they were not stored they are stored as failed, at cost 0."""
        self._settle_at = time.monotonic() + _SETTLE_S
        while self._unknown:
            try:
                self._send(self._unknown[:1], give_up_at=time.monotonic())
            except (Unavailable, psycopg2.OperationalError):
                return
            except psycopg2.Error as error:  # this one never can be: it must not keep the others from it
                logger.error("a call of unknown outcome could not be settled: %s", error.pgcode)
            del self._unknown[0]

    def _store_notes(self) -> None:
        rows = [self._notes.popleft() for _ in range(min(len(self._notes), config.CAPTURE_BATCH_MAX))]
        if not rows:
            return
        try:
            self._send(rows, give_up_at=time.monotonic())
        except (Unavailable, psycopg2.Error) as error:
            logger.warning("%s refused calls were not noted: %s", len(rows), type(error).__name__)


def by_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Finished calls as `capture_calls` reads them: what each table gets, in one list.

    Args:
        rows: Of each call its `call` (columns) and, where it has them, `free_call`, `cap_id`, `idempotency_key`, `content`,
            `outbox`, and `posting` with the `hold_id` it is drawn from (null: its payer pays without a lease).
    """
    batch: dict[str, list[dict[str, Any]]] = {"calls": [], "draws": [], "posts": [], "contents": [], "outbox": []}
    for row in rows:
        call = row["call"]
        batch["calls"].append({**call, **{name: row[name] for name in _MARKS if row.get(name)}})
        if (posting := row.get("posting")) is not None:
            if row.get("hold_id"):
                batch["draws"].append({**posting, "hold_id": row["hold_id"]})
            else:
                batch["posts"].append(posting)
        for name, table in (("content", "contents"), ("outbox", "outbox")):
            if (stored := row.get(name)) is not None:
                batch[table].append({"call_id": call["id"], **stored})
    return {**batch, "draws": legs.batch(batch["draws"]), "posts": legs.batch(batch["posts"])}


def _as_failed(row: dict[str, Any]) -> dict[str, Any]:
    free = {name: 0 for name in row["call"] if name.endswith(("_nano", "_tokens"))}
    failed = {"call": {**row["call"], **free, "status": "failed", "error_code": "unavailable"}}
    return failed | {name: row[name] for name in ("free_call", "idempotency_key") if name in row}


def _answer(batch: Sequence[_Waiting], error: Exception | None) -> None:
    """Tell the event loop, waking it once for the whole batch."""

    def settle() -> None:
        for waiting in batch:
            if waiting.future.done():
                continue
            if error is None:
                waiting.future.set_result(waiting.lease_gone)
            else:
                waiting.future.set_exception(error)

    if batch:
        batch[0].loop.call_soon_threadsafe(settle)
