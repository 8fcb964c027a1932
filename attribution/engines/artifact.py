"""What a fit leaves behind: settings and arrays under one content hash.

Two files and no pickle: an artifact may come from another host, and reading it must never run code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import rfc8785
from safetensors import SafetensorError
from safetensors.numpy import load, save

FORMAT = "open-artifact/1"
SETTINGS_FILE = "artifact.json"
ARRAYS_FILE = "arrays.safetensors"
# float32 changed 35 % of the shares in our trial, so it cannot be stored by accident.
ALLOWED_DTYPES = (np.dtype(np.float64), np.dtype(np.int64))


@dataclass(frozen=True, eq=False)
class Artifact:
    """The result of a fit, ready to answer and to attribute.

    Args:
        engine: Name of the engine in `attribution.engines.ENGINES`.
        settings: JSON object with everything that is not an array.
        arrays: float64 or int64 arrays by name, finite. They are copied if needed and made read-only.

    Raises:
        ValueError: an array has another type, or holds NaN or infinity.
    """

    engine: str
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        frozen = {}
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            if array.dtype not in ALLOWED_DTYPES:
                raise ValueError(f"Array {name} is {array.dtype}; an artifact holds float64 and int64 only.")
            if array.dtype == np.float64 and not np.isfinite(array).all():
                raise ValueError(f"Array {name} holds a value that is not a finite number.")
            array = array.view()
            array.flags.writeable = False
            frozen[name] = array
        object.__setattr__(self, "arrays", frozen)

    @property
    def sha256(self) -> str:
        """Content hash, 64 hex digits: equal settings and equal bits give the same hash, whatever their order."""
        return content_hash(self.to_files())

    def to_files(self) -> dict[str, bytes]:
        """Both files by name. The same artifact always gives the same bytes."""
        header: dict[str, Any] = {"format": FORMAT, "engine": self.engine, "settings": self.settings}
        return {
            # safetensors orders by type and name, so the bytes do not depend on the order of the dictionary.
            ARRAYS_FILE: save(dict(self.arrays)),
            SETTINGS_FILE: rfc8785.dumps(header),
        }


def from_files(files: Mapping[str, bytes], *, sha256: str | None = None) -> Artifact:
    """Read an artifact back.

    Args:
        files: As `Artifact.to_files` gave them.
        sha256: The expected content hash; checked before anything is parsed.

    Raises:
        ValueError: a file is missing or malformed, or the hash is another one.
    """
    if set(files) != {SETTINGS_FILE, ARRAYS_FILE}:
        raise ValueError(f"An artifact has exactly the files {ARRAYS_FILE} and {SETTINGS_FILE}.")
    if sha256 is not None and content_hash(files) != sha256:
        raise ValueError("The artifact's files do not have the hash they are stored under.")
    try:
        header = json.loads(files[SETTINGS_FILE])
        arrays = load(bytes(files[ARRAYS_FILE]))
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"The artifact cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"The artifact is not of the format {FORMAT}.")
    return Artifact(engine=header["engine"], settings=header["settings"], arrays=arrays)


def content_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 over name, length and bytes of each file, in the order of their names."""
    digest = hashlib.sha256(FORMAT.encode())
    for name in sorted(files):
        digest.update(f"\n{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest()
