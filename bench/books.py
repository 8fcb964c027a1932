"""A throw-away site for benchmarks of the books: durable PostgreSQL, every migration, and pgbench against it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from devstack.environment import without_servers
from devstack.services import APP_ROLE, OWNER_ROLE, SEQUENCER_ROLE, SUPERUSER, Postgres, Valkey

ROOT = Path(__file__).resolve().parent.parent


class Books:
    """The cluster and what asks it."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def pgbench(
        self, script: str, *, clients: int, seconds: int, role: str = APP_ROLE, per_second: int | None = None
    ) -> float:
        """Run a script by prepared statements; returns transactions per second, connecting left out.

        per_second: At most so many in all; None: as many as they can.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(_readable_by_pgbench(script))
            file.flush()
            command = [str(self.postgres.bindir / "pgbench"), "-n", "-M", "prepared", "-c", str(clients)]
            command += ["-j", str(min(clients, 2)), "-T", str(seconds), "-f", file.name, self.postgres.url(role)]
            command += [f"--rate={per_second}"] if per_second else []
            done = subprocess.run(command, capture_output=True, text=True)
        found = re.search(r"tps = ([0-9.]+) \(without", done.stdout)
        if done.returncode or not found:
            raise SystemExit(f"pgbench failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return float(found[1])

    def ask(self, sql: str, *parameters: object, role: str = SUPERUSER) -> list[tuple]:
        """Run statements on a connection of their own, as the superuser unless told otherwise."""
        import psycopg2

        connection = psycopg2.connect(self.postgres.url(role))
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def make_database(self, name: str) -> str:
        """An empty database of the same cluster for a peer; returns its address."""
        self.ask(f"CREATE DATABASE {name} OWNER {OWNER_ROLE}")
        return self.postgres.url(OWNER_ROLE, name)


@contextlib.contextmanager
def books(environment: Mapping[str, str] | None = None) -> Iterator[Books]:
    """Start a cluster in a folder of its own, migrate it, set up Django for it; end it afterwards.

    environment: Further settings, in place of servers that do not exist.
    """
    with tempfile.TemporaryDirectory(prefix="bench-books-") as folder:
        os.chmod(folder, 0o755)  # another user than root runs the server
        postgres = Postgres(Path(folder))
        postgres.start()
        try:
            os.environ.update(without_servers(Path(folder)) | postgres.environment() | {"STATIC_ROOT": f"{folder}/s"})
            os.environ.update(environment or {})
            os.environ["LOG_KEY_FILE"] = f"{folder}/log.key"
            for command in (["keys", "init"], ["setup"]):
                subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, check=True, capture_output=True)
            # Here one process does what web and sequencer do.
            os.environ["DATABASE_URL"] = postgres.url(OWNER_ROLE)
            import django

            django.setup()
            yield Books(postgres)
        finally:
            from django.db import connections

            connections.close_all()  # before their server goes
            postgres.stop()


def _readable_by_pgbench(script: str) -> str:
    """With prepared statements pgbench takes every `:name` for a variable, inside quotes too: write that colon as \\x3a."""
    parts = re.split(r"('[^']*')", script)
    return "".join("E" + part.replace(":", "\\x3a") if part.startswith("'") else part for part in parts)


@contextlib.contextmanager
def whole_site(environment: Mapping[str, str] | None = None) -> Iterator[Books]:
    """`books` with a Valkey, where this process does what web, worker and sequencer do, and reviews cannot be undone."""
    with tempfile.TemporaryDirectory(prefix="bench-site-") as folder:
        valkey = Valkey(Path(folder), ephemeral=True)
        valkey.start()
        try:
            told = {"REVIEW_UNDO_S": "0", "WITNESS_QUORUM": "0", "LOG_DIR": f"{folder}/log"}
            with books(told | valkey.environment() | dict(environment or {})) as site:
                site.ask(f"GRANT {APP_ROLE}, {SEQUENCER_ROLE} TO {OWNER_ROLE}")
                os.environ["DATABASE_APP_URL"] = site.postgres.url(APP_ROLE)
                yield site
        finally:
            valkey.stop()
