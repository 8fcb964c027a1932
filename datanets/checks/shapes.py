"""What every check gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from datanets.leaders import Index

Severity = Literal["pass", "info", "flag", "fail"]

_UNWRITTEN = {"text": ("source_url",), "image": ("mode", "pixels", "width", "height")}
_LONG_NUMBER = 10_000_000  # eight digits: shorter ones identify nobody

EVIDENCE_MAX = 20  # places shown per record; the number counts all


Stored = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Checked:
    """A record as the checks see it. line: its place in its file, if it has one.

    media: the stored picture of an image, or what reads it: a thousand photographs at once would fill the memory, so
    `picture()` is asked for one at a time and not kept. thumb: likewise the small one, where there is one.
    """

    key: Hashable
    body: dict
    media: Stored | None = None
    line: int | None = None
    thumb: Stored | None = None

    def picture(self) -> bytes:
        """The stored picture; empty for a record without one."""
        return _read(self.media)

    def small_picture(self) -> bytes:
        """A picture that is large enough to compare with others."""
        return _read(self.thumb if self.thumb is not None else self.media)


@dataclass(frozen=True)
class Context:
    """What a check may know beside the records. Everything has a meaning when it is absent: then nothing is compared.

    kind, schema, language: the Datanet's. problems: rows and members that could not be read, as dictionaries of
    sandbox.parse_file or kinds.Problem. equal_to: record -> an earlier record with the same canonical bytes (from the site's
    HMAC). copies: record -> (leader, distance), where copies have been decided already; else `index` holds the leaders to
    compare with (it is extended). elsewhere: keys of leaders that stand in another Datanet. reference: labelled records
    that are approved already.
    """

    kind: str
    schema: dict = field(default_factory=dict)
    language: str = ""
    problems: Sequence = ()
    equal_to: Mapping[Hashable, Hashable] = field(default_factory=dict)
    copies: Mapping[Hashable, tuple[Hashable, float]] | None = None
    index: Index | None = None
    elsewhere: frozenset[Hashable] = frozenset()
    reference: Sequence[Checked] = ()

    @property
    def label_name(self) -> str | None:
        """The field that holds the label: the schema's column of a table, else "label"."""
        return self.schema.get("label") if self.kind == "tabular" else "label"


@dataclass(frozen=True)
class Finding:
    """One result: a number, a sentence (code and parameters, see checks.messages), evidence.

    record_key: the record it is about, or None for the whole submission. number: what was measured; its meaning is in the
    sentence. evidence: places to point at, in JSON.
    """

    check: str
    record_key: Hashable | None
    severity: Severity
    number: float | int | None
    code: str
    params: dict = field(default_factory=dict)
    evidence: dict = field(default_factory=dict)


def texts_of(record: Checked, context: Context) -> Iterator[tuple[str, str]]:
    """(field, text) of everything somebody may have written into a record.

    Of a text all but its address, of a picture its name and label, of a table every column, whatever it is called. A long
    whole number of a table counts as text: it may be the number of a card.
    """
    skipped = _UNWRITTEN.get(context.kind, ())
    for name, value in record.body.items():
        if name in skipped:
            continue
        if isinstance(value, str):
            # anna@example.org.png is no address before its ending is off
            yield name, value.rpartition(".")[0] or value if (context.kind, name) == ("image", "name") else value
        elif isinstance(value, int | float) and abs(value) >= _LONG_NUMBER and float(value).is_integer():
            yield name, str(int(value))


def _read(stored: Stored | None) -> bytes:
    return stored() if callable(stored) else stored or b""


def spans(found: Sequence[tuple[str, int, int, str]]) -> dict:
    """Evidence: the first places, each with its field, start, end (in characters) and what it is."""
    shown = found[:EVIDENCE_MAX]
    return {"spans": [dict(zip(("field", "start", "end", "what"), each, strict=True)) for each in shown]}


def summary(check: str, *, flagged: int, of: int, severity: Severity = "flag") -> Finding:
    """The line that stands for a whole check: passed, or how many records it marked."""
    if not flagged:
        return Finding(check, None, "pass", 0, f"{check}.none", {"count": of})
    return Finding(check, None, severity, flagged, f"{check}.some", {"count": flagged, "of": of})
