"""What a model version serves: an engine's artifact, and how inputs become features and rows become records.

Three files under one content hash, in the storage folder `artifacts/<sha256>/`: the engine's two and `serving.json`.
Reading needs no database, so the gateway reads them, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import rfc8785

from attribution.engines import Artifact, from_files
from attribution.engines.artifact import ARRAYS_FILE, SETTINGS_FILE, Buffer, content_hash
from attribution.roster import Roster
from datanets import storage

SERVING_FILE = "serving.json"
SERVING_FORMAT = "open-serving/1"
CACHED_MAX = 24


class Damaged(ValueError):
    """The files of an artifact do not have the hash that they are stored under. Nothing is computed from them.

    They come back from a copy, or from `manage.py rebuild`; until then whoever needs them waits.
    """

    code = "artifact_damaged"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"The files of artifact {sha256} do not have the hash they are stored under.")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A served thing.

    Args:
        artifact: What the engine made.
        serving: JSON: `kind`, `spec` (features), `versions` ([{id, root}]), `records` (ids in the order of the fit),
            `identities` (their commitments), `gated` and `shares` (per record, from held-out rows), `fee_method` (how
            the shares came about), `upstream`.
        sha256: Content hash over all three files.
    """

    artifact: Artifact
    serving: dict
    sha256: str

    @property
    def record_ids(self) -> list[int]:
        return self.serving["records"]

    @cached_property
    def roster(self) -> Roster:
        """Its records in the order of settlement."""
        return Roster.of(self.serving["records"], self.serving["identities"])

    @cached_property
    def is_gated(self) -> np.ndarray:
        """By place: whether held-out rows speak against the record."""
        found = np.zeros(len(self.roster), dtype=bool)
        found[self.roster.places_of(self.serving["gated"])] = True
        return found

    @cached_property
    def leads(self) -> np.ndarray:
        """By place: whether the record leads. Followers take no part in anything."""
        found = np.zeros(len(self.roster), dtype=bool)
        found[self.artifact.arrays["record_index"]] = True  # in the order of the fit
        return found[self.roster.fit_order]

    @cached_property
    def shares(self) -> np.ndarray:
        """By place: the whole weights by which access and training money is split."""
        return np.array(self.serving["shares"], dtype=np.int64)[self.roster.fit_order]


def pack(artifact: Artifact, serving: dict) -> tuple[Bundle, dict[str, bytes]]:
    """Return the bundle and its files. The same content always gives the same bytes and hash."""
    header = {**serving, "format": SERVING_FORMAT}
    files = {**artifact.to_files(), SERVING_FILE: rfc8785.dumps(header)}
    return Bundle(artifact=artifact, serving=header, sha256=content_hash(files)), files


def save(files: dict[str, bytes], sha256: str) -> int:
    """Write a bundle's files and return their size in bytes. Writing the same bundle again changes nothing."""
    for name, data in files.items():
        storage.put(_key(sha256, name), data)
    return sum(len(data) for data in files.values())


def read(sha256: str) -> Bundle:
    """Read a bundle, checking its hash. Its arrays stay in their file, mapped: processes share one copy of them.

    Raises:
        FileNotFoundError: there is none. Damaged: its files do not have that hash.
    """
    files: dict[str, Buffer] = {name: storage.get(_key(sha256, name)) for name in (SETTINGS_FILE, SERVING_FILE)}
    files[ARRAYS_FILE] = storage.mapped(_key(sha256, ARRAYS_FILE))
    if content_hash(files) != sha256:
        raise Damaged(sha256)
    serving = json.loads(bytes(files.pop(SERVING_FILE)))
    return Bundle(artifact=from_files(files), serving=serving, sha256=sha256)


@lru_cache(maxsize=CACHED_MAX)
def load(sha256: str) -> Bundle:
    """`read`, or what was read before: a bundle never changes."""
    return read(sha256)


def _key(sha256: str, name: str) -> str:
    return f"artifacts/{sha256}/{name}"
