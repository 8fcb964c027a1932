"""What a fit leaves behind: settings and arrays under one content hash.

Two files and no pickle: an artifact may come from another host, and reading it must never run code.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import rfc8785
from safetensors.numpy import save

FORMAT = "open-artifact/1"
SETTINGS_FILE = "artifact.json"
ARRAYS_FILE = "arrays.safetensors"
# float32 changed 35 % of the shares in our trial, so it cannot be stored by accident.
# Whole numbers may be as short as they fit.
ALLOWED_DTYPES = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint8))
_STORED_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}
_CHECKED_AT_ONCE = 1 << 20

Buffer = bytes | memoryview


@dataclass(frozen=True, eq=False)
class Artifact:
    """The result of a fit, ready to answer and to attribute.

    Args:
        engine: Name of the engine in `attribution.engines.ENGINES`.
        settings: JSON object with everything that is not an array.
        arrays: float64 or whole-number arrays by name, finite. They are copied if needed and made read-only.

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
                raise ValueError(f"Array {name} is {array.dtype}; an artifact holds float64 and whole numbers only.")
            if array.dtype == np.float64 and not _is_finite(array):
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


def from_files(files: Mapping[str, Buffer], *, sha256: str | None = None) -> Artifact:
    """Read an artifact back. Its arrays are views of the file they came in, which may be mapped: nothing is copied.

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
        header = json.loads(bytes(files[SETTINGS_FILE]))
        arrays = _views(memoryview(files[ARRAYS_FILE]))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"The artifact cannot be read: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"The artifact is not of the format {FORMAT}.")
    return Artifact(engine=header["engine"], settings=header["settings"], arrays=arrays)


def _views(file: memoryview) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, in place. Raises ValueError and others where it is malformed."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(bytes(file[8:start]))
    header.pop("__metadata__", None)
    arrays, end = {}, 0
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, after = one["data_offsets"]
        dtype, count = _STORED_DTYPES[one["dtype"]], math.prod(one["shape"])
        # Without holes and overlaps, as the format demands: the same arrays have one form only.
        if begin != end or after != begin + count * dtype.itemsize:
            raise ValueError(f"Array {name} is not where it should be.")
        arrays[name] = np.frombuffer(file, dtype, count, start + begin).reshape(one["shape"])
        end = after
    if start + end != len(file):
        raise ValueError("The arrays do not fill their file.")
    return arrays


def _is_finite(array: np.ndarray) -> bool:
    """In pieces: the mask of a mapped array of gigabytes would be an eighth of it, in the heap."""
    flat = array.reshape(-1)
    return all(
        np.isfinite(flat[start : start + _CHECKED_AT_ONCE]).all() for start in range(0, flat.size, _CHECKED_AT_ONCE)
    )


def content_hash(files: Mapping[str, Buffer]) -> str:
    """SHA-256 over name, length and bytes of each file, in the order of their names."""
    digest = hashlib.sha256(FORMAT.encode())
    for name in sorted(files):
        digest.update(f"\n{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest()
