"""A site's secrets, ports and environment: what `up` makes once and every process of the site receives."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import Any

from devstack.children import QUIET_POOLS, free_port, take_port
from devstack.machine import Missing, default_state, make_shared
from devstack.services import APP_ROLE, ROLES

ROOT = Path(__file__).resolve().parent.parent
WITNESSES = ("witness-1", "witness-2")


def state_folder(given: str | None) -> Path:
    """The folder of the site meant: `--state`, else DEVSTACK_STATE, else the default of this clone."""
    chosen = given or os.environ.get("DEVSTACK_STATE")
    return Path(chosen).expanduser().resolve() if chosen else default_state(ROOT)


def make_state(state: Path) -> None:
    """Make the folder: private, except that root's database user may pass through it."""
    try:
        if state == default_state(ROOT) and os.geteuid() == 0:
            make_shared()
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for name in ("logs", "storage", "mail", *WITNESSES):
            (state / name).mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise Missing(
            f"The state folder {state} cannot be made: {error.strerror}. Choose another with --state."
        ) from None


def load_secrets(state: Path) -> dict[str, str]:
    """The site's secrets, made at its first start and kept in `secrets.json`, mode 0600."""
    file = state / "secrets.json"
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    fresh = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "FIELD_KEYS": new_field_key(),
        "CONTENT_KEY": secrets.token_hex(32),
        "RECORD_KEY": secrets.token_hex(32),
        "MODELS_API_KEY": secrets.token_urlsafe(32),
        "LOG_ORIGIN": f"openledger.localhost/log/{secrets.token_hex(4)}",
        "valkey": secrets.token_urlsafe(24),
        **{role: secrets.token_urlsafe(24) for role in ROLES},
    }
    if missing := fresh.keys() - known.keys():
        known |= {name: fresh[name] for name in missing}
        write_private(file, known)
    return known


def choose_ports(state: Path, *, web: int | None, gateway: int | None) -> dict[str, int]:
    """Ports by process. Asked-for ones must be free; the others prefer those of the last start.

    Raises:
        Missing: a port that was asked for is in use.
    """
    file = state / "ports.json"
    last: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    preferred = {"web": 8000, "gateway": 8001} | last
    ports: dict[str, int] = {}
    end = time.monotonic() + 8  # a killed site of this folder may still be ending
    for name, asked in [("web", web), ("gateway", gateway), *((name, None) for name in ("models", *WITNESSES))]:
        port = asked or preferred.get(name) or free_port()
        while not (ours := take_port(port)) and name in last and time.monotonic() < end:
            time.sleep(0.2)
        if asked and not ours:
            option = "--port" if name == "web" else "--gateway-port"
            raise Missing(f"Port {asked} is in use on 127.0.0.1. Choose another with {option}.")
        while not ours:
            port = free_port()
            ours = take_port(port)
        ports[name] = port
    write_private(file, ports)
    return ports


def environment(state: Path, secret: dict[str, str], ports: dict[str, int]) -> dict[str, str]:
    """The settings of a demo site, apart from its database, queue and witnesses."""
    names = ("SECRET_KEY", "FIELD_KEYS", "CONTENT_KEY", "RECORD_KEY", "MODELS_API_KEY", "LOG_ORIGIN")
    local = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return QUIET_POOLS | {
        **{name: secret[name] for name in names},
        "DJANGO_SETTINGS_MODULE": "marketplace.settings",
        "SITE_NAME": os.environ.get("SITE_NAME", "OpenLedger"),
        # By name and not by number: browsers allow passkeys on localhost, never on an address.
        "SITE_URL": local["web"].replace("127.0.0.1", "localhost"),
        "GATEWAY_URL": local["gateway"],
        "MODELS_URL": local["models"],
        # What a developer may name as upstream although it is inside. No witness: it answers the sequencer only.
        "OUTBOUND_ALLOW": f"127.0.0.1:{ports['models']}",
        "STATE_DIR": str(state),
        "STORAGE_DIR": str(state / "storage"),
        "STATIC_ROOT": str(state / "static"),
        "LOG_KEY_FILE": str(state / "log.key"),
        "DEMO_STATE": "1",
        "EPOCH_S": os.environ.get("EPOCH_S", "120"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }


def without_servers(folder: Path) -> dict[str, str]:
    """Settings for tools that open no connection: a database and a queue that do not exist."""
    nowhere = f"postgres://{APP_ROLE}@127.0.0.1:1/openledger"
    return QUIET_POOLS | {
        "DJANGO_SETTINGS_MODULE": "marketplace.settings",
        "STATE_DIR": str(folder),
        "DATABASE_URL": nowhere,
        "DATABASE_OWNER_URL": nowhere,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "FIELD_KEYS": new_field_key(),
        "CONTENT_KEY": secrets.token_hex(32),
        "RECORD_KEY": secrets.token_hex(32),
        "PYTHONPATH": str(ROOT),
    }


def settings_names() -> set[str]:
    """Every environment variable that marketplace/settings.py reads."""
    source = (ROOT / "marketplace" / "settings.py").read_text(encoding="utf-8")
    return set(re.findall(r"\benv(?:_bool|_list)?\(\s*\"([A-Z_]+)\"", source))


def new_field_key() -> str:
    """A Fernet key: 32 random bytes, URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def write_private(file: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file in one step; it is readable for its owner only, at every moment."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    with open(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        json.dump(content, out, indent=2)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    unfinished.replace(file)
