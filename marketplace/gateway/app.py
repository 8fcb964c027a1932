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
from urllib.parse import parse_qsl

import psycopg2
from psycopg2.errors import LockNotAvailable, QueryCanceled

from . import config, metrics, offloop, reading
from .artifacts import Artifacts
from .calls import PaidCalls
from .capture import Capture
from .catalogue import CHANNEL, MODEL_BYTES, Shelf, described, listed, uuid_of
from .chatting import Chats
from .database import DatabaseThread
from .engines import Engines
from .errors import ApiError, ClientLeft, Unavailable, broken, invalid, too_slow, unavailable, unknown_model
from .freecalls import FreeCalls
from .guard import Sources
from .idempotency import Idempotency
from .keyring import CHANNEL as KEYS_CHANNEL
from .keyring import Key, Keyring
from .leases import Leases
from .limits import Limits
from .logs import LINES
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
QUERY_FIELDS_MAX = 20
LISTS = {"/v1/calls": reading.calls_of, "/v1/usage": reading.usage_of}


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
            _only(method, "GET")
            await self._health(reply, also_draining=path == "/readyz")
        elif path == "/livez":
            _only(method, "GET")
            await reply.json(200, {"status": "ok"})
        elif path in PAID:
            _only(method, "POST")
            await self._paid.answer(scope, receive, reply, endpoint=PAID[path])
        elif path == "/v1/quote":
            _only(method, "POST")
            await self._paid.quote(scope, receive, reply)
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            _only(method, "GET")
            await self._models(scope, reply, path.removeprefix("/v1/models").removeprefix("/"))
        else:
            await self._look_up(scope, reply, path, method)

    async def _look_up(self, scope: Scope, reply: Reply, path: str, method: str) -> None:
        known = path in LISTS or path == "/v1/credits" or path.startswith("/v1/receipts/")
        if not known:
            raise ApiError(404, "There is nothing at this address.", code="not_found")
        _only(method, "GET")
        key = await self._keyring.authenticate(header(scope, b"authorization"))
        reply.allow_pages_of(key.allowed_origins)
        key.require("read")
        entered = await self._limits.enter(key)
        try:
            reply.add(self._limits.headers(key))
            await self._read(scope, reply, path, key)
        except (QueryCanceled, LockNotAvailable) as error:
            raise too_slow() from error
        finally:
            self._limits.leave(entered)

    async def _read(self, scope: Scope, reply: Reply, path: str, key: Key) -> None:
        try:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX))
        except ValueError:
            raise invalid(f"Send at most {QUERY_FIELDS_MAX} fields in the address.") from None
        if any("\x00" in value for value in query.values()):
            raise reading.not_found()
        if path in LISTS:
            page = LISTS[path]
            found = await self._reading_db.run(
                lambda cursor: page(
                    cursor, buyer_id=key.owner_id, made_by=key.made_by, is_test=key.is_test, query=query
                )
            )
            await reply.json(200, found)
        elif path == "/v1/credits":
            found = await self._reading_db.run(
                lambda cursor: reading.credits_of(cursor, buyer_id=key.owner_id, is_test=key.is_test)
            )
            await reply.json(200, found)
        else:
            await self._receipt(reply, path.removeprefix("/v1/receipts/"), key, query.get("part", ""))

    async def _receipt(self, reply: Reply, name: str, key: Key, part: str) -> None:
        call_id = uuid_of(name)
        if call_id is None:
            raise reading.not_found()
        if part not in ("", "attribution"):
            raise ApiError(400, "part can only be attribution.", code="invalid_value", param="part")
        status, body = await self._reading_db.run(
            lambda cursor: reading.receipt_of(
                cursor,
                call_id=call_id,
                buyer_id=key.owner_id,
                made_by=key.made_by,
                part=part,
                quorum=self._settings.WITNESS_QUORUM,
                epoch_s=self._settings.EPOCH_S,
            )
        )
        if status == 202:
            reply.add({"retry-after": "1"})
        await reply.json(status, body)

    async def _models(self, scope: Scope, reply: Reply, name: str) -> None:
        authorization = header(scope, b"authorization")
        key: Key | None = await self._keyring.authenticate(authorization) if authorization else None
        reply.allow_pages_of(key.allowed_origins if key else ())
        catalogue = self._shelf.now
        if name:
            version = catalogue.find(name)
            if version is None or not (version.listed or (key is not None and key.may_see(version))):
                raise unknown_model(name)
            await reply.json(200, described(version, catalogue, pinned="@" in name))
            return
        seen = [
            version
            for _, version in sorted(catalogue.newest.items())
            if version.listed or (key is not None and key.may_see(version))
        ]
        await reply.payload(200, await offloop.run(MODEL_BYTES * len(seen), listed, seen, catalogue))

    def is_ready(self) -> bool:
        """Whether calls are welcome. For any thread."""
        return not self.draining and not self._is_down()

    def _is_down(self) -> bool:
        return self._catalogue_db.is_down or not self._shelf.loaded.is_set()

    async def _health(self, reply: Reply, *, also_draining: bool) -> None:
        down = not self.is_ready() if also_draining else self._is_down()
        body = {"status": "unavailable" if down else "ok", "models": len(self._shelf.now.newest)}
        await reply.json(503 if down else 200, body)


def _only(method: str, allowed: str) -> None:
    if method != allowed and not (allowed == "GET" and method == "HEAD"):
        raise ApiError(405, f"Use {allowed}.", code="method_not_allowed", headers={"allow": allowed})
