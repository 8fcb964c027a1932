"""The support guard: what a caller requires of the data behind an answer. Where it is not met the model abstains.

    "open": {"require": {"support": 0.6, "licences": ["CC-BY-4.0"], "datanets": ["erin/birds"], "max_age_days": 365}}

Where a condition can decide which records are used it does (retrieval); then what is left is judged. What *support* means for
an engine stands with it: `attribution.engines.retrieval.support`, `attribution.engines.neighbours.support`.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
from psycopg2.extensions import cursor as Cursor

from attribution.bundles import Bundle

from . import artifacts, offloop
from .catalogue import OFFERED, Version
from .database import DatabaseThread
from .errors import ApiError, invalid

STATUS = "abstained"
#: OpenAI's word for an answer that is left out: their clients know it.
FINISH_REASON = "content_filter"
NAMES_MAX = 50
AGE_DAYS_MAX = 36_500
SUPPORT_PLACES = 6  # what is told is what was judged
_LICENCE = re.compile(r"[A-Za-z0-9.+-]{1,40}")
_DATANET = re.compile(r"[a-z0-9-]{1,40}/[a-z0-9-]{1,60}")
_ROWS_AT_ONCE = 2000  # fetching more keeps the interpreter's lock, and the event loop waits for it


@dataclass(frozen=True)
class Requirement:
    """What a caller requires; None: not this.

    Args:
        support: At least so much of it, from 0 to 1.
        licences, datanets: Only data under one of these licences, of one of these Datanets.
        newer_than: Only records that came in then or later.
        asked: As it came.
    """

    support: float | None
    licences: frozenset[str] | None
    datanets: frozenset[str] | None
    newer_than: datetime | None
    asked: Mapping[str, Any]

    def allowed(self, version: Version) -> list[Mapping[str, str]]:
        """Those of a version's Datanets whose name and licence meet the conditions."""
        return [
            datanet
            for datanet in version.datanets
            if (self.datanets is None or datanet["datanet"] in self.datanets)
            and (self.licences is None or datanet["licence"] in self.licences)
        ]


@dataclass(frozen=True)
class Abstention:
    """Why there is no answer. `reason`: no_records, low_support or other_data."""

    reason: str
    message: str
    found: Mapping[str, Any]
    asked: Mapping[str, Any]

    def told(self) -> dict[str, Any]:
        """`open.abstained` of the answer."""
        return {"reason": self.reason, "message": self.message, "found": self.found, "asked": self.asked}


def take_requirement(fields: dict[str, Any], version: Version) -> Requirement | None:
    """Take `open.require` out of a body.

    Raises:
        ApiError: 400 it cannot be read, is empty, or asks what this kind of model does not offer.
    """
    given = fields.pop("open", None)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise invalid("open must be an object.", "open")
    if unknown := sorted(set(given) - {"require"}):
        raise _unsupported(f"open.{unknown[0]}")
    asked = given.get("require")
    if asked is None:
        return None
    if not isinstance(asked, dict) or not asked:
        raise invalid("open.require must be an object that names at least one condition.", "open.require")
    offered = OFFERED[version.engine]
    if not offered:
        raise invalid("Nothing can be required of this model's data: no Datanet is behind it.", "open.require")
    for name in sorted(asked):
        if name not in OFFERED["retrieval"]:
            raise _unsupported(f"open.require.{name}")
        if name not in offered:
            raise invalid(
                f"A model of the kind {version.engine} does not offer {name}: it can be required to have"
                f" {' and '.join(offered)} only.",
                f"open.require.{name}",
            )
    return Requirement(
        support=_support(asked),
        licences=_names(asked, "licences", _LICENCE, 'SPDX identifiers, like "CC-BY-4.0"'),
        datanets=_names(asked, "datanets", _DATANET, 'Datanets, like "erin/birds"'),
        newer_than=_newer_than(asked),
        asked=asked,
    )


def judge_support(requirement: Requirement, *, support: float, records: int) -> Abstention | None:
    """Judge an answer by what is behind it.

    Args:
        support: Of the answer, rounded to `SUPPORT_PLACES`.
        records: How many records that meet the other conditions are behind it. None is never enough.
    """
    found = {"support": support, "records": records}
    if not records:
        message = "No record that meets what you require is behind an answer, so there is none."
        return Abstention("no_records", message, found, requirement.asked)
    if requirement.support is not None and support < requirement.support:
        message = f"The support of an answer is {support:g}, and you require {requirement.support:g}: there is none."
        return Abstention("low_support", message, found, requirement.asked)
    return None


def judge_whole(requirement: Requirement, version: Version) -> Abstention | None:
    """Judge a model that is made of all its data at once: every Datanet of it must meet the conditions."""
    if version.datanets and len(requirement.allowed(version)) == len(version.datanets):
        return None
    found = {name: sorted({one[key] for one in version.datanets}) for name, key in _WHOLE.items()}
    message = "The model was made of data that you do not allow, so there is no answer."
    return Abstention("other_data", message, found, requirement.asked)


_WHOLE = {"licences": "licence", "datanets": "datanet"}


class Sources:
    """From which Datanet each record of a bundle is, and since when: read once per artifact, for neither changes."""

    def __init__(self, database: DatabaseThread):
        self._database = database
        self._known: OrderedDict[str, asyncio.Task[tuple[np.ndarray, np.ndarray]]] = OrderedDict()

    async def meeting(self, requirement: Requirement, version: Version, bundle: Bundle) -> np.ndarray | None:
        """Which records meet the conditions, by their place in the record order of the fit; None: all of them.

        Raises:
            Unavailable: the database does not answer.
        """
        allowed = {datanet["id"] for datanet in requirement.allowed(version)}
        if not allowed:
            return np.zeros(len(bundle.record_ids), dtype=bool)
        if len(allowed) == len(version.datanets) and requirement.newer_than is None:
            return None
        numbers = [number for number, one in enumerate(version.datanets) if one["id"] in allowed]
        datanets, since = await self._of(version, bundle)
        meets: np.ndarray = await offloop.run(since.nbytes, _meeting, datanets, since, numbers, requirement.newer_than)
        return meets

    async def _of(self, version: Version, bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
        # One artifact may answer for versions of several models.
        name = " ".join([bundle.sha256, *(one["id"] for one in version.datanets)])
        task = self._known.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._known[name] = asyncio.ensure_future(self._read(version, bundle.record_ids))
            if len(self._known) > artifacts.KEPT_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return await asyncio.shield(task)

    async def _read(self, version: Version, record_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """By place: the number of its Datanet in the version's list (-1: none of them), and when it came, in seconds."""
        numbers = {one["id"]: number for number, one in enumerate(version.datanets)}
        parts = [
            await self._database.run(partial(_read_part, record_ids[start : start + _ROWS_AT_ONCE], numbers))
            for start in range(0, len(record_ids), _ROWS_AT_ONCE)
        ]
        datanets = np.concatenate([np.zeros(0, dtype=np.int64), *(part[0] for part in parts)])
        return datanets, np.concatenate([np.zeros(0), *(part[1] for part in parts)])


def _read_part(record_ids: Sequence[int], numbers: Mapping[str, int], cursor: Cursor) -> tuple[np.ndarray, np.ndarray]:
    cursor.execute(
        """SELECT s.datanet_id::text, coalesce(extract(epoch FROM s.created_at), 0)::float8
           FROM unnest(%s::bigint[]) WITH ORDINALITY AS wanted(record_id, place)
           LEFT JOIN gateway_sources s USING (record_id) ORDER BY place""",
        [list(record_ids)],
    )
    rows = cursor.fetchall()
    datanets = np.array([numbers.get(datanet_id, -1) for datanet_id, _ in rows], dtype=np.int64)
    return datanets, np.array([at for _, at in rows], dtype=np.float64)


def _meeting(
    datanets: np.ndarray, since: np.ndarray, numbers: Sequence[int], newer_than: datetime | None
) -> np.ndarray:
    meets: np.ndarray = np.isin(datanets, numbers)
    if newer_than is not None:
        meets &= since >= newer_than.timestamp()
    return meets


def _support(asked: Mapping[str, Any]) -> float | None:
    if "support" not in asked:
        return None
    value: Any = asked["support"]
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise invalid("open.require.support must be a number from 0 to 1.", "open.require.support")
    return float(value)


def _names(asked: Mapping[str, Any], name: str, form: re.Pattern[str], what: str) -> frozenset[str] | None:
    if name not in asked:
        return None
    given = asked[name]
    if (
        not isinstance(given, list)
        or not 1 <= len(given) <= NAMES_MAX
        or not all(isinstance(one, str) and form.fullmatch(one) for one in given)
    ):
        raise invalid(f"open.require.{name} must be a list of 1 to {NAMES_MAX} {what}.", f"open.require.{name}")
    return frozenset(given)


def _newer_than(asked: Mapping[str, Any]) -> datetime | None:
    if "data_newer_than" in asked and "max_age_days" in asked:
        raise invalid("Send data_newer_than or max_age_days, not both.", "open.require.max_age_days")
    if "max_age_days" in asked:
        days = asked["max_age_days"]
        if type(days) is not int or not 0 <= days <= AGE_DAYS_MAX:
            raise invalid(
                f"open.require.max_age_days must be a whole number from 0 to {AGE_DAYS_MAX}.",
                "open.require.max_age_days",
            )
        return datetime.now(UTC) - timedelta(days=days)
    if "data_newer_than" not in asked:
        return None
    try:
        found = datetime.fromisoformat(asked["data_newer_than"])
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise invalid(
            'open.require.data_newer_than must be a day or a time, like "2026-01-01".', "open.require.data_newer_than"
        ) from None


def _unsupported(name: str) -> ApiError:
    return ApiError(400, f"The field {name[:100]} is not supported.", code="unsupported_parameter", param=name[:100])
