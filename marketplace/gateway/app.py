"""The ASGI application: what starts, what stops, and which address leads where."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
import time
import uuid
from typing import Any

import psycopg2

from . import config, metrics
from .artifacts import Artifacts
from .calls import PaidCalls
from .capture import Capture
from .catalogue import CHANNEL, Shelf
from .chatting import Chats
from .database import DatabaseThread
from .engines import Engines
from .errors import ApiError, ClientLeft, Unavailable, broken, unavailable
from .freecalls import FreeCalls
from .guard import Sources
from .idempotency import Idempotency
from .keyring import CHANNEL as KEYS_CHANNEL
from .keyring import Keyring
from .leases import Leases
from .limits import Limits
from .logs import LINES
from .lookups import LookUps, only
from .paying import Parts, Rules
from .replies import Receive, Reply, Scope, Send, header
from .upstreams import Upstreams

logger = logging.getLogger("marketplace.gateway")

_REQUEST_ID = re.compile(r"[0-9a-fA-F-]{8,64}")  # no words: it stands in the log
PAID = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/classify": "classify",
    "/v1/predict": "predict",
    "/v1/embeddings": "embeddings",
}


class Application:
    """One process. `settings` is Django's settings object, read once; `number` tells it from others on its port."""

    def __init__(self, settings: Any, *, number: int = 0):
        self._settings, self._number = settings, number
        site = settings.SITE_URL
        # A demo answers under its name and under its number.
        twin = site.replace("//localhost", "//127.0.0.1") if settings.DEMO_STATE else site
        self._sites = {site, twin}
        self._artifacts = Artifacts()
        self._shelf = Shelf(self._artifacts)
        # Its name is on its leases and on the lock that says it lives.
        self._process = f"gateway:{uuid.uuid4()}"
        self.draining = False
        self._running = 0
        # Of requests that came without one. Nobody has to guess it, so it is counted: randomness is a system call.
        self._request_ids = map(f"{secrets.token_hex(8)}{{:016x}}".format, itertools.count())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def start(self) -> None:
        """Open the connections and read the catalogue; without a database it starts, too, and says 503."""
        settings, loop = self._settings, asyncio.get_running_loop()
        dsn = settings.DATABASE_URL

        def notified(channel: str, payload: str) -> None:
            if channel in (KEYS_CHANNEL, CHANNEL):
                loop.call_soon_threadsafe(self._keyring.forget)
            if channel == KEYS_CHANNEL:
                loop.call_soon_threadsafe(self._limits.forget, payload)

        def say_alive(cursor) -> None:
            cursor.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", [self._process])

        self._catalogue_db = DatabaseThread(
            "catalogue",
            dsn,
            listen=(CHANNEL, KEYS_CHANNEL),
            on_notify=notified,
            on_tick=self._shelf.reload,
            tick_s=config.CATALOGUE_S,
        )
        # It looks every 2 s whether its connection lives: without the lock on it this process counts as dead.
        self._leases_db = DatabaseThread(
            "leases", dsn, on_connect=say_alive, on_tick=lambda cursor: cursor.execute("SELECT"), tick_s=2.0
        )
        # Buyers' own lists and sums may take a while: nobody's key waits behind them.
        self._reading_db = DatabaseThread("reading", dsn)
        self._limits_db = DatabaseThread("limits", dsn)
        self._capture = Capture(dsn)
        self._keyring = Keyring(self._catalogue_db)
        self._upstreams = Upstreams(
            models_url=settings.MODELS_URL,
            models_key=settings.MODELS_API_KEY,
            field_keys=settings.FIELD_KEYS,
            allow=settings.OUTBOUND_ALLOW,
        )
        self._engines = Engines(self._upstreams, self._artifacts, Sources(self._reading_db))
        self._leases = Leases(self._leases_db, owner=self._process, generation=time.time_ns() // 1_000_000)
        self._limits = Limits(self._limits_db, process=self._process)
        parts = Parts(
            shelf=self._shelf,
            keyring=self._keyring,
            limits=self._limits,
            idempotency=Idempotency(
                self._leases_db,
                process=self._process,
                kept_s=settings.IDEMPOTENCY_KEPT_S,
                content_key=settings.CONTENT_KEY,
            ),
            leases=self._leases,
            free_calls=FreeCalls(self._leases_db, self._leases, process=self._process),
            capture=self._capture,
            engines=self._engines,
            chats=Chats(
                upstreams=self._upstreams, engines=self._engines, database=self._catalogue_db, shelf=self._shelf
            ),
            upstreams=self._upstreams,
            rules=Rules(
                content_key=settings.CONTENT_KEY,
                content_kept_s=settings.CONTENT_KEPT_S,
                vest_after_s=settings.CHALLENGE_WINDOW_S,
                quote_valid_s=settings.QUOTE_VALID_S,
                site_url=settings.SITE_URL,
            ),
            is_down=lambda: self._catalogue_db.is_down,
        )
        self._paid = PaidCalls(parts)
        self._look_ups = LookUps(
            keyring=self._keyring,
            limits=self._limits,
            shelf=self._shelf,
            database=self._reading_db,
            quorum=settings.WITNESS_QUORUM,
            epoch_s=settings.EPOCH_S,
        )
        for thread in (self._catalogue_db, self._leases_db, self._reading_db, self._limits_db, self._capture):
            thread.start()
        self._listener = metrics.listen(
            self._number, leases=self._leases, running=lambda: self._running, is_ready=self.is_ready
        )
        await asyncio.to_thread(self._shelf.loaded.wait, 10)
        self._carers = [asyncio.ensure_future(part.look_after()) for part in (self._leases, self._limits)]

    async def stop(self) -> None:
        """After the last answer: give back what is held, then end the threads."""
        for carer in self._carers:
            carer.cancel()
        await asyncio.to_thread(self._capture.stop)
        await self._leases.close_all()
        await self._limits.end_all()
        await self._upstreams.client.close()
        self._engines.stop()
        self._artifacts.stop()
        for thread in (self._leases_db, self._catalogue_db, self._reading_db, self._limits_db):
            await asyncio.to_thread(thread.stop)
        if self._listener is not None:
            await asyncio.to_thread(self._listener.stop)
        LINES.write()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = header(scope, b"x-request-id")  # by the proxy in front
        reply = Reply(
            send,
            request_id=named if named and _REQUEST_ID.fullmatch(named) else next(self._request_ids),
            origin=header(scope, b"origin"),
            without_body=scope["method"] == "HEAD",
        )
        reply.allow_pages_of(self._sites)
        self._running += 1
        try:
            await self._route(scope, receive, reply)
        except ClientLeft:
            if reply.record.end == "refused":
                reply.record.end = "dropped"
        except ApiError as error:
            await reply.error(error)
        except Unavailable:
            await reply.error(unavailable())
        except Exception as error:
            # The traceback names code, not content: prompts are in no message of ours.
            if isinstance(error, psycopg2.Error):
                logger.error("%s %s: the database refused: %s", scope["method"], scope["path"], error.pgcode)
            else:
                logger.exception("%s %s failed", scope["method"], scope["path"])
            await reply.error(broken())
        finally:
            self._running -= 1
            reply.record.finish()

    async def _route(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        path, method = scope["path"], scope["method"]
        if method == "OPTIONS":
            reply.allow_pages_of(await self._keyring.origins(header(scope, b"origin"), known=self._sites))
            await reply.preflight()
        elif path in ("/health", "/healthz", "/readyz"):
            only(method, "GET")
            await self._health(reply, also_draining=path == "/readyz")
        elif path == "/livez":
            only(method, "GET")
            await reply.json(200, {"status": "ok"})
        elif path in PAID:
            only(method, "POST")
            await self._paid.answer(scope, receive, reply, endpoint=PAID[path])
        elif path == "/v1/quote":
            only(method, "POST")
            await self._paid.quote(scope, receive, reply)
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            only(method, "GET")
            await self._look_ups.models(scope, reply, path.removeprefix("/v1/models").removeprefix("/"))
        else:
            await self._look_ups.of_buyer(scope, reply, path, method)

    def is_ready(self) -> bool:
        """Whether calls are welcome. For any thread."""
        return not self.draining and not self._is_down()

    def _is_down(self) -> bool:
        return self._catalogue_db.is_down or not self._shelf.loaded.is_set()

    async def _health(self, reply: Reply, *, also_draining: bool) -> None:
        down = not self.is_ready() if also_draining else self._is_down()
        body = {"status": "unavailable" if down else "ok", "models": len(self._shelf.now.newest)}
        await reply.json(503 if down else 200, body)
