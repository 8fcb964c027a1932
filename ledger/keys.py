"""The log's key: a file of mode 0600 that only the sequencer reads, and its public half beside it for everyone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ledger import receipts


def make_log_key() -> bool:
    """Make the log's key, unless there is one. Returns whether it was made now."""
    secret, public = _secret_file(), _public_file()
    made = False
    if not secret.exists():
        secret.parent.mkdir(parents=True, exist_ok=True)
        key = receipts.new_signing_key(settings.LOG_ORIGIN, receipts.LOG_KEY)
        try:
            # Exclusive: of two that start together one makes the key, and the other keeps it.
            handle = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(key.encode() + "\n")
        made = True
    if not public.exists():
        public.write_text(signing_key().verifier.encode() + "\n")
    return made


def signing_key() -> receipts.SigningKey:
    """Read the log's private key. Raises ImproperlyConfigured if others may read the file, or it is of another log."""
    path = _secret_file()
    if not path.exists():
        raise ImproperlyConfigured(f"There is no log key in {path}. Run: manage.py keys init")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ImproperlyConfigured(f"{path} can be read by others. Run: chmod 600 {path}")
    key = receipts.decode_signing_key(path.read_text().strip())
    if key.verifier.name != settings.LOG_ORIGIN:
        raise ImproperlyConfigured(
            f"{path} is the key of {key.verifier.name}, and LOG_ORIGIN is {settings.LOG_ORIGIN}."
        )
    return key


def log_vkey() -> str:
    """The log's public key, as verifiers pin it. Raises ImproperlyConfigured if there is none yet."""
    path = _public_file()
    if not path.exists():
        raise ImproperlyConfigured(f"There is no public log key in {path}. Run: manage.py keys init")
    return path.read_text().strip()


def witness_vkeys() -> list[str]:
    """The public keys of the witnesses this log asks."""
    return [witness["vkey"] for witness in settings.WITNESSES]


def _secret_file() -> Path:
    return Path(settings.LOG_KEY_FILE)


def _public_file() -> Path:
    return Path(settings.LOG_KEY_FILE + ".pub")
