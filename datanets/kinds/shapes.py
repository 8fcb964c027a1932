"""What every kind of data shares: what a parser yields, how it refuses, and how much it may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from datanets.kinds.messages import sentence

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """How much one uploaded file may ask for. Sizes are bytes unless the name says otherwise."""

    file_bytes_max: int = 200 * MEBIBYTE
    expanded_bytes_max: int = 500 * MEBIBYTE  # all members of an archive together
    member_bytes_max: int = 64 * MEBIBYTE  # one member, held in memory
    entries_max: int = 5_000
    ratio_max: int = 200  # expanded / packed, for members above one MiB
    rows_max: int = 1_000_000
    columns_max: int = 200
    line_bytes_max: int = 4 * MEBIBYTE
    record_chars_max: int = 2_000_000
    cell_chars_max: int = 100_000
    json_depth_max: int = 32
    pages_max: int = 3_000
    pixels_max: int = 40_000_000
    problems_max: int = 1_000


@dataclass(frozen=True)
class Parsed:
    """One record, ready to be stored.

    line: where it stood in its file (rows), or None (documents, images). name: what it is called there.
    body: the record as JSON. media: the re-encoded image, else None; media_type: its MIME type.
    """

    line: int | None
    name: str
    body: dict
    media: bytes | None = None
    media_type: str = ""


@dataclass(frozen=True)
class Problem:
    """One row or member that could not be read; the others go on without it.

    code: the outcome ("schema", "json", "content", "pixels", "type", "size", "malware"). reason: the key of its sentence
    in kinds.messages. values: the row as it was sent, for its author to correct.
    """

    line: int | None
    code: str
    reason: str
    params: dict = field(default_factory=dict)
    column: str = ""
    name: str = ""
    values: dict = field(default_factory=dict)

    @property
    def message(self) -> str:
        return sentence(self.reason, self.params)


class Refused(Exception):
    """The whole file is refused. code and reason as in Problem; nothing of it may be used."""

    def __init__(self, code: str, reason: str, params: dict | None = None, *, line: int | None = None):
        self.code, self.reason, self.params, self.line = code, reason, params or {}, line
        super().__init__(code, reason)

    @property
    def message(self) -> str:
        return sentence(self.reason, self.params)

    def as_problem(self, *, name: str) -> Problem:
        """The same refusal, of one member among others."""
        return Problem(self.line, self.code, self.reason, self.params, name=name)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
