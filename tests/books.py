"""The `books` fixture: real commits in a database of its own.

A posting made inside pytest's usual transaction is invisible to the fold, and rows that may only be added to cannot be
flushed afterwards. So a test that touches money asks for `books`: it gets a fresh copy of the migrated test database,
Django's connection points to it until the test ends, and `books.fold()` does what the sequencer does.

    def test_a_deposit_can_be_spent(books):
        books.deposit(chart.wallet(1), 1000)
        assert ledger.balance_nano(chart.wallet(1)) == 1000

Tests that touch no money keep pytest-django's `db`. `books_of_module` is one database for a whole module, for those
that check nothing about the rest of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Barrier, Thread

import psycopg2
import pytest
from django.conf import settings
from django.db import connection, connections
from django.test.utils import setup_databases, teardown_databases

_numbers = itertools.count(1)


class Books:
    """The ledger under test. `rung` lists what the relay would have sent to Celery, row by row."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rung: list[tuple[str, str]] = []

    def fold(self) -> int:
        """Fold everything committed. Returns how many postings."""
        from ledger import sequencer

        with as_role(settings.SEQUENCER_DB_ROLE):
            return _until_idle(sequencer.fold)

    def log(self) -> int:
        """Give everything committed its leaf, sign the head and ask the witnesses. Returns how many leaves."""
        from ledger import sequencer

        with as_role(settings.SEQUENCER_DB_ROLE):
            logged = _until_idle(sequencer.log)
            sequencer.sign_and_witness()
        return logged

    def round(self) -> dict[str, int]:
        """Run one round of the sequencer; the relay rings into `rung`."""
        from ledger import sequencer

        with as_role(settings.SEQUENCER_DB_ROLE):
            return sequencer.step(ring=self._ring)

    def _ring(self, topic: str, references: Sequence[str]) -> None:
        self.rung += [(topic, reference) for reference in references]

    def deposit(self, account: str, amount_nano: int) -> None:
        """Bring money in from outside, ready to be spent."""
        from ledger import chart
        from ledger import services as ledger

        id = ledger.new_id()
        ledger.post(
            id=id,
            kind=ledger.Kind.DEPOSIT,
            reference=f"deposit:{id}",
            moves=[ledger.Move(chart.WORLD, account, amount_nano)],
            vest_after_s=0 if account.startswith("pending:") else None,
        )
        self.fold()

    def connect(self, url_name: str = "DATABASE_OWNER_URL", **options: object) -> psycopg2.extensions.connection:
        """Open a plain connection: as the owner, or as the role of another address (see `url`)."""
        return psycopg2.connect(self.url(url_name), **options)

    def url(self, url_name: str) -> str:
        """Its address for a role: DATABASE_APP_URL, DATABASE_SEQUENCER_URL, DATABASE_SUPERUSER_URL or the owner's."""
        return os.environ[url_name].rsplit("/", 1)[0] + f"/{self.name}"


@contextmanager
def as_role(role: str) -> Iterator[None]:
    """Let Django's connection, which is the owner's, have the rights of another role for a while."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run each act in a thread with a connection of its own, released together by a barrier.

    Returns:
        Per act its result, or the exception it raised.
    """
    barrier, results = Barrier(len(acts)), [None] * len(acts)

    def run(number: int, act: Callable[[], object]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            results[number] = act()
        except Exception as error:  # whatever it is, the test looks at it
            results[number] = error
        finally:
            connections.close_all()

    threads = [Thread(target=run, args=(number, act)) for number, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs: a deadlock that nobody broke?"
    return results


@pytest.fixture(scope="session")
def books_template(django_db_setup, django_db_blocker) -> Iterator[str]:
    """The migrated test database, with the rights that `manage.py setup` grants: what every copy starts from."""
    from ledger import keys
    from marketplace.management.commands.setup import grant_rights

    made = None
    with django_db_blocker.unblock():
        if connection.settings_dict["NAME"] == _site_database():
            # pytest-django makes the test database only if a selected test asks for `db`.
            made = setup_databases(verbosity=0, interactive=False, aliases={"default"})
        grant_rights()
        keys.make_log_key()
        connections.close_all()
    yield connection.settings_dict["NAME"]
    if made:
        with django_db_blocker.unblock():
            teardown_databases(made, verbosity=0)


@pytest.fixture
def books(books_template, django_db_blocker, monkeypatch, tmp_path) -> Iterator[Books]:
    """A ledger of its own for one test. Heads count as witnessed at once; ask for `witnesses` to have real ones."""
    monkeypatch.setattr(settings, "WITNESS_QUORUM", 0)
    monkeypatch.setattr(settings, "LOG_DIR", tmp_path / "log")
    with _copy(books_template, django_db_blocker) as made:
        yield made


@pytest.fixture(scope="module")
def books_of_module(books_template, django_db_blocker, tmp_path_factory) -> Iterator[Books]:
    """A ledger that the tests of one module share: each uses accounts of its own."""
    before = settings.WITNESS_QUORUM, settings.LOG_DIR
    settings.WITNESS_QUORUM, settings.LOG_DIR = 0, tmp_path_factory.mktemp("books") / "log"
    with _copy(books_template, django_db_blocker) as made:
        yield made
    settings.WITNESS_QUORUM, settings.LOG_DIR = before


@contextmanager
def _copy(template: str, blocker) -> Iterator[Books]:
    name = f"{template}_{os.getpid()}_{next(_numbers)}"
    with blocker.unblock():
        connections.close_all()
        _administer(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        before = connection.settings_dict["NAME"]  # the copy of the module, where a test beside it asks for its own
        connection.settings_dict["NAME"] = name
        try:
            yield Books(name)
        finally:
            connections.close_all()
            connection.settings_dict["NAME"] = before
            # Not WITH (FORCE): that would also try to end an autovacuum worker, which the owner may not.
            _administer(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = '{name}' "
                f"AND usename IN (current_user, '{settings.APP_DB_ROLE}', '{settings.SEQUENCER_DB_ROLE}')"
            )
            _administer(f"DROP DATABASE {name}")


def _site_database() -> str:
    return os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[1]


def _administer(statement: str) -> None:
    """Run one statement that cannot run in a transaction, from the database nobody copies."""
    session = psycopg2.connect(os.environ["DATABASE_OWNER_URL"])
    try:
        session.autocommit = True
        session.cursor().execute(statement)
    finally:
        session.close()


def _until_idle(step: Callable[[], int]) -> int:
    done = 0
    while now := step():
        done += now
    return done
