"""What this machine offers: folders, users, installed packages - and the sentence for what it lacks."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import signal
import subprocess
from pathlib import Path

from devstack.children import bound_to_parent

SHARED = Path("/var/lib/openledger")  # as root: what the unprivileged database user must reach


class Missing(Exception):
    """Something this machine lacks. The message is a sentence that tells what to do."""


def default_state(root: Path) -> Path:
    """Where a site keeps its data. Root's is outside the clone, which the database user may not be able to enter."""
    if os.geteuid() == 0:
        return SHARED / hashlib.sha256(str(root).encode()).hexdigest()[:12]
    return root / ".state"


def package_folder(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def service_user() -> pwd.struct_passwd | None:
    """Who runs PostgreSQL, which refuses root: an unprivileged user if we are root, else ourselves (None)."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("This is root, PostgreSQL refuses root, and there is no user `postgres` or `nobody` to run it as.")


def can_enter(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether the user may run or enter `path`, all folders above it included."""
    probe = ["/bin/sh", "-c", 'test -x "$0"', str(path)]
    return subprocess.run(probe, preexec_fn=bound_to_parent(signal.SIGKILL, user), cwd="/").returncode == 0


def make_shared() -> None:
    """The folder that root's sites share; open to the database user whatever our umask."""
    SHARED.mkdir(parents=True, exist_ok=True)
    SHARED.chmod(0o755)


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:] if log.exists() else "(nothing)"
