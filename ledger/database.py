"""One call of one SQL function, with the ledger's own errors. For the modules of this app."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
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


def texts(sql: str, *parameters: Any) -> set[str]:
    """Run one statement and return the texts in its first column. For many ids: to make UUIDs of them costs more."""
    return {row[0] for row in rows(sql, *parameters)}


def as_json(said: object) -> str:
    """Write what a caller says as JSON for a jsonb parameter: UUIDs and kinds as text, times in ISO form."""
    return orjson.dumps(said, default=_plain).decode()


def from_json(text: str) -> Any:
    """Read a jsonb value that was selected as text."""
    return json.loads(text)


def _plain(said: object) -> object:
    if isinstance(said, Mapping):
        return dict(said)
    raise TypeError(f"{type(said).__name__} cannot be told to the ledger")
