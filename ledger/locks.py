"""Who is alone at something: a lock for as long as the work takes, without a transaction that would hold back the fold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from ledger import database


@contextmanager
def only_one(name: str) -> Iterator[bool]:
    """Hold a lock that one process of the whole database can have; yields whether this one has it.

    It is bound to the connection: should that be lost, the lock is free again, and the next query fails.
    """
    taken = database.value("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", f"openledger {name}")
    try:
        yield taken
    finally:
        if taken and connection.connection and not connection.connection.closed:
            database.rows("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", f"openledger {name}")
