"""The log's keys: a file of mode 0600 that only the sequencer reads, and the public halves in another one for everyone.

Both files hold one key a line, the newest first. The secret file has two while a key is being changed: every head is
signed by all of them, so that readers, who pin one key, can follow. The public file keeps former keys for ever, because
old receipts are signed by them.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from ledger import commitments, database, durable, log, notes, witness
from ledger.postings import Entry


class RotationUnfinished(Exception):
    """The old key is still needed: `args[0]` says by whom."""


def make_log_key() -> bool:
    """Make the log's key, unless there is one. Returns whether it was made now."""
    secret, public = _secret_file(), _public_file()
    made = False
    if not secret.exists():
        secret.parent.mkdir(parents=True, exist_ok=True)
        key = notes.new_signing_key(settings.LOG_ORIGIN, notes.LOG_KEY)
        try:
            # Exclusive: of two that start together one makes the key, and the other keeps it.
            handle = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(key.encode() + "\n")
        made = True
    if not public.exists():
        _write(public, [key.verifier.encode() for key in signing_keys()], mode=0o644)
    return made


def rotate() -> dict[str, str]:
    """Make a new key beside the old one, and announce it in the log by an entry that both have signed.

    From now on both sign every head. Repeating it before `retire` completes the change, and begins no other.

    Returns:
        The public fields of the `key.rotated` entry.
    """
    with _only_one_at_a_time():
        signing = signing_keys()
        if len(signing) == 1:
            signing.insert(0, notes.new_signing_key(settings.LOG_ORIGIN, notes.LOG_KEY))
            _write(_secret_file(), [key.encode() for key in signing], mode=0o600)
        new, old = signing
        if new.verifier.encode() not in log_vkeys():
            _write(_public_file(), [new.verifier.encode(), *log_vkeys()], mode=0o644)
        public = notes.rotate_key(old, new)
        id = _announcement(new)
        log.record_fact(id=id, reference=f"key:{id}", entry=Entry(commitments.KEY_ROTATED, public))
    return public


def retire() -> str:
    """Forget the old private key, once whoever pins it can have learned of the new one. Returns its public half.

    Raises:
        RotationUnfinished: no witnessed head covers the announcement yet, or too few witnesses know the new key.
    """
    with _only_one_at_a_time():
        signing = signing_keys()
        if len(signing) == 1:
            raise RotationUnfinished("there is one key only; manage.py keys rotate makes a new one")
        new, old = signing
        leaf = log.leaf_of(_announcement(new))
        if leaf is None or log.head().size <= leaf:
            raise RotationUnfinished("no witnessed head covers the announcement yet; is the sequencer running?")
        ignorant = [asked["url"] for asked in settings.WITNESSES if not _is_known_to(asked["url"], new)]
        if len(settings.WITNESSES) - len(ignorant) < settings.WITNESS_QUORUM:
            raise RotationUnfinished(f"start these witnesses with both keys first: {', '.join(ignorant)}")
        _write(_secret_file(), [new.encode()], mode=0o600)
    return old.verifier.encode()


def signing_keys() -> list[notes.SigningKey]:
    """Read the private keys that sign heads now, the newest first.

    Raises:
        ImproperlyConfigured: there is none, others may read the file, or a key is of another log.
    """
    path = _secret_file()
    if not path.exists():
        raise ImproperlyConfigured(f"There is no log key in {path}. Run: manage.py keys init")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ImproperlyConfigured(f"{path} can be read by others. Run: chmod 600 {path}")
    found = [notes.decode_signing_key(line) for line in path.read_text().split()]
    for key in found:
        if key.verifier.name != settings.LOG_ORIGIN:
            raise ImproperlyConfigured(
                f"{path} is the key of {key.verifier.name}, and LOG_ORIGIN is {settings.LOG_ORIGIN}."
            )
    return found


def log_vkey() -> str:
    """The log's public key, as verifiers pin it. Raises ImproperlyConfigured if there is none yet."""
    return log_vkeys()[0]


def log_vkeys() -> list[str]:
    """The log's public key and then those it had before, which old receipts need."""
    path = _public_file()
    if not path.exists():
        raise ImproperlyConfigured(f"There is no public log key in {path}. Run: manage.py keys init")
    return path.read_text().split()


def witness_vkeys() -> list[str]:
    """The public keys of the witnesses this log asks."""
    return [asked["vkey"] for asked in settings.WITNESSES]


@contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    with transaction.atomic():
        database.rows("SELECT pg_advisory_xact_lock(hashtextextended('openledger log key', 0))")
        yield


def _announcement(new: notes.SigningKey) -> uuid.UUID:
    """The id of the entry that announces a key: always the same, so that it is announced once."""
    return uuid.uuid5(uuid.NAMESPACE_OID, new.verifier.encode())


def _is_known_to(url: str, key: notes.SigningKey) -> bool:
    """Ask a witness about the newest head, signed by this key alone. Who looks further than that knows the key."""
    head = log.head(quorum=False)
    text = notes.checkpoint_text(settings.LOG_ORIGIN, head.size, head.root)
    try:
        witness.cosign(url, head.size, [], notes.sign_checkpoint(text, key))
    except witness.WitnessConflict:
        return True
    except witness.WitnessError:
        return False
    return True


def _write(path: Path, keys: Iterable[str], *, mode: int) -> None:
    durable.write(path, "".join(f"{key}\n" for key in keys).encode(), mode=mode)


def _secret_file() -> Path:
    return Path(settings.LOG_KEY_FILE)


def _public_file() -> Path:
    return Path(settings.LOG_VKEY_FILE or settings.LOG_KEY_FILE + ".pub")
