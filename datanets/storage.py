"""Files by key: a few functions, behind which a local disk stands now and an object store may stand later.

Keys: incoming/<file>/<part>, originals/<aa>/<uuid>, records/<aa>/<uuid>, thumbs/<aa>/<uuid>, versions/<version>/<name>,
versions/<version>/exports/<name>, artifacts/<sha256>/<name>, indexes/<version>/<name>. A key is made by us, never by a
contributor.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from django.conf import settings

_KEY = re.compile(r"[a-z]+(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){1,3}")
_COPY_BYTES = 1024 * 1024


class Readable(Protocol):
    """A request, an uploaded file, an open file."""

    def read(self, size: int = -1, /) -> bytes: ...


def new_key(folder: str) -> str:
    """A fresh random key below `folder`, spread over 256 folders: a directory of a million files is slow."""
    name = uuid.uuid4()
    return f"{folder}/{name.hex[:2]}/{name}"


def put(key: str, data: bytes | Readable) -> int:
    """Store bytes or what is left of a stream under a key, replacing what was there. Returns the number of bytes.

    A reader sees the old or the new content, never a part; after a crash at most a hidden temporary file is left.
    """
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with unfinished.open("wb") as file:
            if isinstance(data, bytes | bytearray | memoryview):
                file.write(data)
            else:
                shutil.copyfileobj(cast(BinaryIO, data), file, _COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path.stat().st_size


def get(key: str) -> bytes:
    """All bytes under a key. Raises FileNotFoundError."""
    return _path(key).read_bytes()


def mapped(key: str) -> memoryview:
    """All bytes under a key, mapped: they stay in the file until they are looked at, and belong to no process's heap.

    What was mapped stays as it was when the key is replaced or deleted. Raises FileNotFoundError.
    """
    with _path(key).open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # nothing cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def open_file(key: str) -> BinaryIO:
    """Open a key for reading. Raises FileNotFoundError."""
    return _path(key).open("rb")


def delete(key: str) -> None:
    """Remove a key. Removing what is not there changes nothing."""
    if key:
        _path(key).unlink(missing_ok=True)


def delete_all(keys: Iterable[str]) -> None:
    """Remove several keys."""
    for key in keys:
        delete(key)


def keys_in(folder: str, *, older_than: timedelta = timedelta(0)) -> Iterator[str]:
    """The keys below a folder that were written that long ago; what a crash left of an unfinished one is removed."""
    root = Path(settings.STORAGE_DIR)
    newest = time.time() - older_than.total_seconds()
    for place, _folders, names in os.walk(root / folder):
        for name in names:
            path = Path(place, name)
            with suppress(FileNotFoundError):  # somebody else has just removed it
                if path.stat().st_mtime > newest:
                    continue
                if name.startswith("."):
                    if older_than:
                        path.unlink()
                    continue
                yield path.relative_to(root).as_posix()


def exists(key: str) -> bool:
    return _path(key).is_file()


def size_bytes(key: str) -> int:
    """Raises FileNotFoundError."""
    return _path(key).stat().st_size


def _path(key: str) -> Path:
    if not _KEY.fullmatch(key) or ".." in key:
        raise ValueError(f"{key!r} is not a storage key")
    return Path(settings.STORAGE_DIR) / key
