"""What can be called, at which price: an immutable picture, replaced as a whole when the shop says so and every 5 s."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson
from psycopg2.extensions import cursor as Cursor

from marketplace import pricing

from .artifacts import Artifacts
from .bodies import DIMENSIONS

MODEL_PATH = re.compile(r"^([a-z0-9-]{1,40}/[a-z0-9-]{1,60})(?:@v([1-9]\d{0,5}))?$")
CHANNEL = "openledger_catalogue"
MODEL_BYTES = 2000  # of one in the list, about

_MODELS = """SELECT model_id::text, version_id::text, number, owner_id, owner, slug, name, purpose, engine, access_mode,
  pass_price_nano, pass_days, free_calls_per_day, context_tokens, max_output_tokens, upstream_url, upstream_model,
  upstream_key_token, upstream_fallbacks, artifact_sha256, created_at, listed, retire_from, rule_id::text, rule_sha256,
  rule_parts, owner_ids, datanets, task, attribution_method, metrics, record_count, score_card FROM gateway_models"""
_PRICES = """SELECT model_id::text, price_list_id::text, sha256, price_call_nano, price_in_nano, price_out_nano,
  price_abstain_nano FROM gateway_prices"""
_WITHDRAWN = "SELECT record_id FROM gateway_withdrawn WHERE datanet_id = ANY (%s::uuid[])"


@dataclass(frozen=True)
class PriceList:
    """Prices in force, and the hash by which a call may pin them."""

    id: str
    sha256: str
    prices: pricing.Prices


@dataclass(frozen=True)
class Version:
    """A model version as a caller meets it: all that a call needs to be answered, charged and attributed."""

    model_id: str
    version_id: str
    number: int
    owner_id: int
    owner: str
    slug: str
    name: str
    purpose: str
    engine: str
    access_mode: str
    pass_price_nano: int | None
    pass_days: int | None
    free_calls_per_day: int
    context_tokens: int
    max_output_tokens: int
    upstream_url: str
    upstream_model: str
    upstream_key_token: str
    upstream_fallbacks: Sequence[Mapping[str, str]]  # url, model, key_token of each, in the order of asking
    artifact_sha256: str
    created_at: datetime
    listed: bool
    retire_from: datetime | None
    rule_id: str
    rule_sha256: str
    rule_parts: Mapping[str, int]
    owner_ids: Sequence[int]
    datanets: Sequence[Mapping[str, str]]
    task: str | None
    attribution_method: str | None
    metrics: Mapping[str, Any]
    record_count: int
    score_card: Mapping[str, Any] | None  # None: not measured yet
    price_list: PriceList

    @property
    def model_path(self) -> str:
        return f"{self.owner}/{self.slug}"

    @cached_property
    def path(self) -> str:
        return f"{self.owner}/{self.slug}@v{self.number}"

    @cached_property
    def columns(self) -> Mapping[str, str]:
        """What of it stands in the row of each call."""
        return {
            "model_id": self.model_id,
            "version_id": self.version_id,
            "price_list_id": self.price_list.id,
            "split_rule_id": self.rule_id,
        }

    @cached_property
    def public_entry(self) -> Mapping[str, str]:
        """What the log says in the open of each of its charges."""
        return {"model_id": self.model_id, "version_id": self.version_id, "rule": f"sha256:{self.rule_sha256}"}


@dataclass(frozen=True)
class Catalogue:
    """Versions by path and number, and the records that may not be quoted any more."""

    versions: Mapping[str, Mapping[int, Version]] = field(default_factory=dict)
    newest: Mapping[str, Version] = field(default_factory=dict)
    withdrawn: frozenset[int] = frozenset()

    def find(self, name: str) -> Version | None:
        """The version that `owner/model` or `owner/model@v3` means; None if there is none that has a price."""
        matched = MODEL_PATH.match(name)
        if matched is None:
            return None
        path, number = matched.groups()
        return self.versions.get(path, {}).get(int(number)) if number else self.newest.get(path)


def load(cursor: Cursor) -> Catalogue:
    """Read a whole catalogue. Models without a price list are left out: they cannot be called."""
    cursor.execute(_PRICES)
    price_lists = {row[0]: PriceList(row[1], row[2], pricing.Prices(*row[3:])) for row in cursor.fetchall()}
    cursor.execute(_MODELS)
    versions: dict[str, dict[int, Version]] = {}
    for row in cursor.fetchall():
        if (price_list := price_lists.get(row[0])) is not None:
            version = Version(*row, price_list)  # type: ignore[call-arg]  # the columns, in order
            versions.setdefault(version.model_path, {})[version.number] = version
    newest = {path: numbered[max(numbered)] for path, numbered in versions.items()}
    quoted = {
        datanet["id"]
        for numbered in versions.values()
        for version in numbered.values()
        if version.engine == "retrieval"
        for datanet in version.datanets
    }
    withdrawn: frozenset[int] = frozenset()
    if quoted:
        cursor.execute(_WITHDRAWN, [sorted(quoted)])
        withdrawn = frozenset(row[0] for row in cursor.fetchall())
    return Catalogue(versions, newest, withdrawn)


class Shelf:
    """Holds the catalogue in force. Written by the threads that read it and artifacts, read by the event loop: one reference.

    Where a newer version is published the older one answers until the artifact of the newer one is read.
    """

    def __init__(self, artifacts: Artifacts) -> None:
        self.now = Catalogue()
        self.loaded = threading.Event()
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._latest = self.now

    def reload(self, cursor: Cursor) -> None:
        self._latest = load(cursor)
        self._put_in_force()
        self.loaded.set()

    def _put_in_force(self) -> None:
        reads: list[Future] = []
        with self._lock:
            latest = self._latest
            newest = dict(latest.newest)
            replaced = set()
            for path, served in self.now.newest.items():
                version = newest.get(path)
                if version is None or version.artifact_sha256 == served.artifact_sha256:
                    continue
                still = latest.versions[path].get(served.number)
                if still is not None and has_bundle(version) and self._artifacts.has(served.artifact_sha256):
                    read = self._artifacts.read(version.artifact_sha256)
                    if not read.done():
                        newest[path] = still  # its price list and its rule are the latest ones
                        reads.append(read)
                        continue
                replaced.add(served.artifact_sha256)
            self.now = replace(latest, newest=newest)
        for sha256 in replaced - {version.artifact_sha256 for version in newest.values()}:
            self._artifacts.let_go(sha256)
        for read in reads:
            read.add_done_callback(lambda _: self._put_in_force())


def described(version: Version, catalogue: Catalogue, *, pinned: bool = False) -> dict[str, Any]:
    """A model as `GET /v1/models` tells it. OpenAI's four fields, and ours. `pinned`: it was asked for as `owner/model@v3`."""
    prices = version.price_list.prices
    others = catalogue.versions[version.model_path]
    return {
        "id": version.path if pinned else version.model_path,
        "object": "model",
        "created": int(version.created_at.timestamp()),
        "owned_by": version.owner,
        "name": version.name,
        "description": version.purpose,
        "version": f"v{version.number}",
        "versions": [others[number].path for number in sorted(others, reverse=True)],
        "retires_at": version.retire_from.astimezone(UTC).isoformat(timespec="seconds")
        if version.retire_from
        else None,
        "kind": version.engine,
        "endpoints": endpoints_of(version),
        "context_length": version.context_tokens if version.engine in CHAT_ENGINES else None,
        "max_output_tokens": version.max_output_tokens if version.engine in CHAT_ENGINES else None,
        "dimensions": DIMENSIONS if version.engine == EMBEDDING else None,
        "access": {
            "mode": version.access_mode,
            "pass_price_nano": version.pass_price_nano,
            "pass_days": version.pass_days,
        },
        "price": {
            "price_version": version.price_list.sha256,
            "price_call_nano": prices.price_call_nano,
            "price_in_nano": prices.price_in_nano,
            "price_out_nano": prices.price_out_nano,
            "price_abstain_nano": prices.price_abstain_nano,
        },
        "require": list(OFFERED[version.engine]),
        "free_calls_per_day": version.free_calls_per_day,
        "split_rule": {"sha256": version.rule_sha256, "parts_bp": dict(version.rule_parts)},
        "datanets": [{key: one[key] for key in ("datanet", "version", "kind", "licence")} for one in version.datanets],
        "records": version.record_count,
        "attribution": version.attribution_method,
        "metrics": dict(version.metrics),
        "score_card": None if version.engine == EMBEDDING else _score_card(version.score_card),
        "artifact_sha256": version.artifact_sha256,
    }


def _score_card(card: Mapping[str, Any] | None) -> dict[str, Any]:
    """How well its scores were measured to be, and whether its money is split by them (`pays`)."""
    if card is None:
        return {"status": "not_yet_measured", "pays": "by_score"}
    return {"status": "measured", "pays": "equally" if card["below_floor"] else "by_score", **card}


def listed(versions: Sequence[Version], catalogue: Catalogue) -> bytes:
    """The list of `GET /v1/models`, as it is sent."""
    return orjson.dumps({"object": "list", "data": [described(version, catalogue) for version in versions]})


CHAT_ENGINES = ("retrieval", "connected")
EMBEDDING = "embedding"  # of an operator model: no Datanet shaped it, so there is nothing to attribute
#: What can be required of the data behind an answer (guard.py), by the kind of its model. A linear model is made of all its
#: records at once, and what a connected one was made of is only stated: of these the whole is judged, by its Datanets.
OFFERED = {
    "retrieval": ("support", "licences", "datanets", "data_newer_than", "max_age_days"),
    "neighbours": ("support", "licences", "datanets", "data_newer_than", "max_age_days"),
    "linear": ("licences", "datanets"),
    "connected": ("licences", "datanets"),
    EMBEDDING: (),
}


def has_bundle(version: Version) -> bool:
    """Whether answers need the version's artifact here. A connected model's own server and the models process have theirs."""
    return version.engine not in ("connected", EMBEDDING)


def endpoints_of(version: Version) -> list[str]:
    """Which endpoints a version answers at."""
    if version.engine in CHAT_ENGINES:
        return ["/v1/chat/completions", "/v1/completions"]
    if version.engine == EMBEDDING:
        return ["/v1/embeddings"]
    return ["/v1/predict"] if version.task == "regression" else ["/v1/classify"]


def uuid_of(text: str) -> UUID | None:
    """A UUID in its canonical form, or None."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None
