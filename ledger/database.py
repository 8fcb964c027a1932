"""One call of one SQL function, with the ledger's own errors. For the modules of this app."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import Error, connection

from ledger import errors


def rows(sql: str, *parameters: Any) -> list[tuple]:
    """Run one statement and return its rows. Raises a LedgerError where the ledger refuses."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
    except Error as error:
        refused = errors.of(error)
        if refused is None:
            raise
        raise refused from error


def value(sql: str, *parameters: Any) -> Any:
    """Run one statement and return the first column of its first row."""
    return rows(sql, *parameters)[0][0]


def as_json(said: object) -> str:
    """Write what a caller says as JSON for a jsonb parameter: UUIDs and kinds as text, times in ISO form."""
    return json.dumps(said, default=_plain)


def from_json(text: str) -> Any:
    """Read a jsonb value that was selected as text."""
    return json.loads(text)


def _plain(said: object) -> object:
    if isinstance(said, UUID):
        return str(said)
    if isinstance(said, Enum):
        return said.value
    if isinstance(said, datetime):
        return said.isoformat()
    if isinstance(said, Mapping):
        return dict(said)
    raise TypeError(f"{type(said).__name__} cannot be told to the ledger")
