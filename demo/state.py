"""demo.json: the addresses, accounts and key that people and programs use. The database knows everything else."""

from __future__ import annotations

import json
import os
from pathlib import Path

from django.conf import settings


def read() -> dict:
    path = _file()
    return json.loads(path.read_text()) if path.exists() else {}


def write(state: dict) -> None:
    """Replace demo.json at once, readable by its owner only: it holds passwords and a key of play accounts."""
    unfinished = _file().with_suffix(".new")
    unfinished.unlink(missing_ok=True)  # a mode is given to a new file only
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(state, out, indent=1)
    os.replace(unfinished, _file())


def _file() -> Path:
    return settings.STATE_DIR / "demo.json"
