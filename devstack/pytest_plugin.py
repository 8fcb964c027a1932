"""Servers for a test run: each process that runs tests gets a PostgreSQL and a Valkey of its own.

`dev.py test` names this module in PYTEST_PLUGINS, which the workers of pytest-xdist inherit (they would read
neither `-p` nor `addopts` before Django's settings load). The servers start before pytest-django reads the
settings, and only where tests run: in each xdist worker, or in the one process of `-n 0`.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from devstack.children import QUIET_POOLS
from devstack.environment import new_field_key, settings_names
from devstack.services import APP_ROLE, Postgres, Valkey

_stop_later: list[Postgres | Valkey] = []
_folder: list[Path] = []


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set the environment that marketplace.settings reads, real where tests run, unreachable in xdist's controller."""
    os.environ.update(_settings_environment(Path(tempfile.gettempdir())))
    options = early_config.known_args_namespace
    distributes = bool(getattr(options, "numprocesses", None)) and "PYTEST_XDIST_WORKER" not in os.environ
    if distributes or "no:django" in (options.plugins or []):
        nowhere = f"postgres://{APP_ROLE}@127.0.0.1:1/openledger"
        os.environ.update(DATABASE_URL=nowhere, DATABASE_OWNER_URL=nowhere, REDIS_URL="redis://127.0.0.1:1/0")
        return
    folder = Path(tempfile.mkdtemp(prefix="openledger-test-", dir=os.environ.get("DEVSTACK_TEST_DIR")))
    folder.chmod(0o711)  # as root another user runs PostgreSQL in it
    _folder.append(folder)
    atexit.register(pytest_unconfigure)  # should pytest end before it is configured
    os.environ.update(_settings_environment(folder))
    for server in (Postgres(folder, ephemeral=True), Valkey(folder, ephemeral=True)):
        _stop_later.append(server)
        server.start()
        os.environ.update(server.test_environment() if isinstance(server, Postgres) else server.environment())


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    while _stop_later:
        _stop_later.pop().stop()
    while _folder:
        shutil.rmtree(_folder.pop(), ignore_errors=True)


def _settings_environment(folder: Path) -> dict[str, str]:
    """Settings of a test run: secrets and files of its own, no process behind any address, defaults for the rest."""
    for name in settings_names():
        os.environ.pop(name, None)
    return QUIET_POOLS | {
        "DJANGO_SETTINGS_MODULE": "marketplace.settings",
        "TESTING": "1",
        "STATE_DIR": str(folder),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "FIELD_KEYS": new_field_key(),
        "CONTENT_KEY": secrets.token_hex(32),
        "RECORD_KEY": secrets.token_hex(32),
        "LOG_ORIGIN": "test.openledger.example/log",
        "SITE_URL": "http://testserver",
        "GATEWAY_URL": "http://127.0.0.1:1",
        "MODELS_URL": "http://127.0.0.1:1",
        "MODELS_API_KEY": secrets.token_urlsafe(24),
        # Playwright keeps an event loop alive in the test's thread, and Django then refuses synchronous queries.
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",
    }
