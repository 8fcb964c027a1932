"""`up` and its ends, tried with real servers and a site of three small processes (small_site.py)."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from dev import beside_the_proxy
from devstack.control import running_pid
from devstack.environment import settings_names
from devstack.machine import SHARED
from devstack.services import OWNER_ROLE, ROLES, SEQUENCER_ROLE, Postgres

ROOT = Path(__file__).resolve().parents[2]


def start(state: Path, **servers: str) -> subprocess.Popen:
    """A small site in `state`, ready; on servers of its own, or on those of DATABASE_URL and REDIS_URL."""
    environment = {name: value for name, value in os.environ.items() if name not in settings_names()}
    # A proxy that leads nowhere, and the exceptions that dev.py adds: a site asks its own processes directly.
    environment |= {"http_proxy": "http://127.0.0.1:1"} | beside_the_proxy({}) | servers
    command = [sys.executable, "-m", "tests.devstack.small_site", str(state)]
    site = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in site.stdout:
        lines.append(line)
        if "ready" in line:
            return site
    raise AssertionError("".join(lines) + site.stderr.read())


def cluster(state: Path) -> Path:
    """Where PostgreSQL keeps its data: below the state, unless its user cannot enter a folder of root's."""
    mark = state / "pg.folder"
    return SHARED / f"pg-of-{mark.read_text()}" if mark.exists() else state / "pg"


def processes_of(state: Path) -> dict[int, str]:
    """Every living process that names the state folder (command, environment) or works in its database."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            words = folder.joinpath("cmdline").read_bytes() + folder.joinpath("environ").read_bytes()
            is_database = folder.joinpath("cwd").readlink() == cluster(state)
            if (is_database or str(state).encode() in words) and int(folder.name) != os.getpid():
                found[int(folder.name)] = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()[:150]
    return found


def wait_until(true, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def address(state: Path) -> str:
    return json.loads((state / "environment.json").read_text())["SITE_URL"]


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def accepts_connections(state: Path) -> bool:
    try:
        psycopg2.connect(json.loads((state / "environment.json").read_text())["DATABASE_URL"]).close()
    except psycopg2.OperationalError:
        return False
    return True


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "site"
    yield folder
    for pid in processes_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if cluster(folder).parent == SHARED:
        shutil.rmtree(cluster(folder), ignore_errors=True)


def test_killing_the_supervisor_leaves_no_process_and_the_data_stays(state):
    # Given a running site
    site = start(state)
    assert len(processes_of(state)) >= 12, processes_of(state)

    # When its supervisor dies without a word
    site.kill()
    site.wait()

    # Then everything it started is gone, workers of workers included
    assert wait_until(lambda: not processes_of(state), 60), processes_of(state)

    # And a second start finds the same secrets and the same database
    secrets = (state / "secrets.json").read_text()
    again = start(state)
    assert (state / "secrets.json").read_text() == secrets
    again.terminate()
    assert again.wait(90) == 0
    assert wait_until(lambda: not processes_of(state), 60), processes_of(state)


def test_ctrl_c_and_down_end_a_site_and_what_crashes_comes_back(state):
    site = start(state)

    # A second site in the same folder is refused with a sentence
    second = subprocess.run(
        [sys.executable, "-m", "tests.devstack.small_site", str(state)], cwd=ROOT, capture_output=True, text=True
    )
    assert second.returncode == 1
    assert "already runs" in second.stderr and address(state) in second.stderr

    # A killed web server and a killed database come back
    def pid_of(part: str) -> int:
        return min((pid for pid, command in processes_of(state).items() if part in command), default=0)

    for part in ("gunicorn", "bin/postgres -D"):
        killed = pid_of(part)
        assert killed, processes_of(state)
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda part=part, killed=killed: pid_of(part) not in (0, killed), 60)
    assert wait_until(lambda: answers(address(state) + "/healthz"), 90)
    assert wait_until(lambda: accepts_connections(state), 150)

    # A command finds the site by its folder
    shell = [sys.executable, "-m", "devstack", "manage", "--state", str(state), "shell", "-c"]
    done = subprocess.run(
        [*shell, "from django.db import connection as c; c.ensure_connection(); print('in')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().endswith("in"), done.stderr

    # `down` stops it, and nothing is left
    assert subprocess.run([sys.executable, "-m", "devstack", "down", "--state", str(state)], cwd=ROOT).returncode == 0
    assert site.wait(90) == 0
    assert running_pid(state) is None
    assert wait_until(lambda: not processes_of(state), 60), processes_of(state)


def test_what_holds_a_secret_is_readable_for_its_owner_only(state):
    site = start(state)
    for name in ("secrets.json", "environment.json", "valkey/valkey.conf"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
    secrets = json.loads((state / "secrets.json").read_text())
    for pid, command in processes_of(state).items():
        assert not any(secret in command for secret in secrets.values() if len(secret) > 20), pid
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(secrets[role].encode() in environment for role in (OWNER_ROLE, SEQUENCER_ROLE)), pid
    site.send_signal(signal.SIGINT)
    assert site.wait(90) == 0


def test_a_port_in_use_is_told_in_a_sentence(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "devstack", "up", "--state", str(tmp_path / "s"), "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr and "--port" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/x"), ("REDIS_URL", "redis://127.0.0.1:1/0")]
)
def test_an_outside_server_that_does_not_answer_is_told_in_a_sentence(state, variable, value):
    environment = {name: text for name, text in os.environ.items() if name not in settings_names()}
    done = subprocess.run(
        [sys.executable, "-m", "devstack", "up", "--state", str(state)],
        cwd=ROOT,
        env=environment | {variable: value},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{variable} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def outside_database() -> Iterator[dict[str, str]]:
    """The addresses, by role, of a server that is not the site's. It loses nothing: on others no site is set up."""
    with tempfile.TemporaryDirectory(prefix="openledger-outside-") as folder:
        Path(folder).chmod(0o711)  # as root another user runs PostgreSQL in it
        passwords = {role: f"word-of-{role}" for role in ROLES}
        server = Postgres(Path(folder), passwords=passwords)
        try:
            server.start()
            yield {"DATABASE_URL": server.url(), "DATABASE_OWNER_URL": server.url(OWNER_ROLE)}
        finally:
            server.stop()


def test_a_site_works_on_servers_that_are_not_its_own(state, outside_database):
    site = start(state, REDIS_URL=os.environ["REDIS_URL"], **outside_database)
    commands = processes_of(state).values()
    assert not any("bin/postgres" in command or "valkey" in command for command in commands), commands

    # Its tables are made there, by the role that owns the database; the site runs as the other, its sequencer too
    manage = [sys.executable, "-m", "devstack", "manage", "--state", str(state)]
    done = subprocess.run([*manage, "setup"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "The sequencer shares the role openledger_app" in done.stdout
    with closing(psycopg2.connect(outside_database["DATABASE_URL"])) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM ledger_account")
    assert json.loads((state / "environment.json").read_text())["DATABASE_URL"] == outside_database["DATABASE_URL"]

    # And when it ends, they go on
    site.terminate()
    assert site.wait(90) == 0
    psycopg2.connect(outside_database["DATABASE_URL"]).close()
