"""One call of one SQL function, with the ledger's own errors. For the modules of this app."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import orjson
import psycopg2
from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ledger import errors


class BooksUnavailable(OperationalError):
    """The database is away or ended the connection: what was asked is done whole or not at all. Repeat it by its id.

    No LedgerError: the books have refused nothing.
    """


#: What each session has prepared. A statement outlives a transaction that is rolled back, and ends with its session.
_PREPARED: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def rows(sql: str, *parameters: Any, prepared_as: str = "") -> list[tuple]:
    """Run one statement and return its rows. Raises a LedgerError where the ledger refuses, BooksUnavailable.

    Args:
        prepared_as: A name under which the session keeps the statement. To parse and plan a posting anew is a fifth of
            what it costs the database.
    """
    # Looked up once: `django.db.connection` looks it up again for each attribute.
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        with _cursor(connection) as cursor:
            if prepared_as:
                sql = _prepared(cursor, sql, len(parameters), prepared_as)
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
    except (Error, psycopg2.Error) as error:
        refused = errors.of(error)
        if refused is not None:
            raise refused from error
        if _is_gone(connection, error):
            connection.errors_occurred = True  # whoever takes it next looks whether it works
            raise BooksUnavailable(f"the database is away: {error}".strip()) from error
        with connection.wrap_database_errors:  # to whoever catches it, it is Django's
            raise


def _prepared(cursor: Any, sql: str, count: int, name: str) -> str:
    """The statement that executes what this session prepares the first time it is asked for."""
    names = _PREPARED.setdefault(cursor.connection, set())
    if name not in names:
        cursor.execute(f"PREPARE {name} AS {sql % tuple(f'${number}' for number in range(1, count + 1))}")
        names.add(name)
    return f"EXECUTE {name} ({', '.join(['%s'] * count)})"


def _is_gone(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether the connection is gone, and not a statement refused."""
    if isinstance(error, InterfaceError | psycopg2.InterfaceError):
        return True
    if not isinstance(error, OperationalError | psycopg2.OperationalError):
        return False
    return connection.connection is None or connection.connection.closed != 0


def _cursor(connection: BaseDatabaseWrapper) -> Any:
    """psycopg2's own cursor: through Django's, a posting from Python takes twice the time outside the database.

    Django's is given where it does something: where a connection has to be made, or somebody counts statements.
    """
    connection.close_if_health_check_failed()
    if connection.connection is None or connection.force_debug_cursor or connection.execute_wrappers:
        return connection.cursor()
    connection.validate_no_broken_transaction()
    return connection.connection.cursor()


def value(sql: str, *parameters: Any) -> Any:
    """Run one statement and return the first column of its first row."""
    return rows(sql, *parameters)[0][0]


def new_among(ids: Iterable[UUID], sql: str, *parameters: Any, prepared_as: str = "") -> set[UUID]:
    """Run one statement whose first column holds, as text, the ids that were new. Returns these of `ids`.

    Nearly always that is all of them; to make UUIDs of a thousand texts takes longer than to write their rows.
    """
    asked, new = set(ids), {row[0] for row in rows(sql, *parameters, prepared_as=prepared_as)}
    return asked if len(new) == len(asked) else {id for id in asked if str(id) in new}


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
