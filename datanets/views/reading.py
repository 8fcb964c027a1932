"""A record as people read it: its fields, what the checks marked in them, and characters that hide.

Everything in a record was written by a stranger: it is escaped here and nowhere trusted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from django.db.models import Prefetch, Q, prefetch_related_objects
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from accounts.models import User
from datanets import columns, leaders, media, records, sentences
from datanets.checks import hidden_characters
from datanets.models import CheckResult, Datanet, Record

SHOWN_CHARS = 2_000
NEAR_SHOWN = 3
NEAR_COMPARED = 200
COMPARED_BANDS_MAX = 400
CELLS_MIN = 4
CELL_CHARS_MAX = 60
# What rows are read with whose leaders are shown, and what is left out of it.
LEADER = ("copy_of__body", "copy_of__datanet__owner")
NOT_OF_LEADER = ("copy_of__signature", "copy_of__bands")
_REMARKABLE = (CheckResult.Severity.FLAG, CheckResult.Severity.FAIL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Field:
    """One value of a record. text: safe markup. rest: what a long value says after it, folded away."""

    name: str
    text: SafeString
    rest: SafeString | str = ""


@dataclass(frozen=True)
class Remark:
    """What one check said about one record."""

    title: str
    sentence: str
    action: str
    severity: str


@dataclass(frozen=True)
class Near:
    """An approved record close to the one shown. likeness: percent, or None where distances have no such scale."""

    record: Record
    likeness: int | None
    distance: float
    excerpt: str


@dataclass
class Reading:
    """A record with all that a page shows of it."""

    record: Record
    fields: list[Field]
    picture_url: str = ""
    picture_full_url: str = ""
    remarks: list[Remark] = field(default_factory=list)
    leader: Reading | None = None
    leader_hidden: bool = False
    likeness: int | None = None
    near: list[Near] = field(default_factory=list)
    votes: list = field(default_factory=list)
    voted: bool = False

    @property
    def is_row(self) -> bool:
        """Whether its values are many and short, as in a table: a page sets them side by side."""
        return len(self.fields) >= CELLS_MIN and all(
            len(each.text) <= CELL_CHARS_MAX and not each.rest for each in self.fields
        )


def read(
    rows: Sequence[Record],
    *,
    datanet: Datanet | None = None,
    viewer: User,
    with_leaders: bool = True,
    chars: int = SHOWN_CHARS,
    findings: dict[int, list[CheckResult]] | None = None,
    curated: Datanet | None = None,
) -> list[Reading]:
    """What a page shows of some records; a fixed number of queries, whatever their number.

    datanet: the one they all belong to; without it each row has its own selected. rows: with `body` selected.
    A leader is shown where the viewer may read it, else only named. chars: of a value, before the rest of it.
    findings: `findings_of` these rows, for who has read them. curated: a Datanet that the viewer is known to review.
    """
    found = findings_of(rows) if findings is None else findings
    readings = [_reading(row, datanet=datanet or row.datanet, findings=found[row.pk], chars=chars) for row in rows]
    if with_leaders:
        _add_leaders(readings, viewer=viewer, curated=curated)
    return readings


def add_nearest(readings: Sequence[Reading], *, datanet: Datanet) -> None:
    """Put beside each record the closest approved records of its Datanet, its own leader left out."""
    if not readings:
        return
    sketches = {each.record.pk: each.record.signature for each in readings}
    approved = Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED, copy_of=None)
    approved = approved.exclude(signature=b"").order_by("-id")
    shared = sorted({band for sketch in sketches.values() if sketch for band in leaders.bands(bytes(sketch))})
    compared = Q(pk__in=approved.values("pk")[:NEAR_COMPARED])
    if shared:
        compared |= Q(pk__in=approved.filter(bands__overlap=shared[:COMPARED_BANDS_MAX]).values("pk")[:50])
    candidates = list(Record.objects.filter(compared).select_related("body").order_by("-id"))
    for reading in readings:
        sketch = bytes(sketches.get(reading.record.pk) or b"")
        if sketch:
            reading.near = _nearest(sketch, reading.record, candidates, datanet)


def marked(text: str, spans: Iterable[tuple[int, int, str]] = ()) -> SafeString:
    """Escaped text in which the spans (start, end, what) stand out, and characters nobody sees are written out."""
    spans = [(max(0, start), min(end, len(text)), what) for start, end, what in spans]
    hidden = _hidden_positions(text)
    edges = sorted({0, len(text), *(edge for start, end, _what in spans for edge in (start, end))})
    parts = []
    for start, end in pairwise(edges):
        piece = _visible(text, start, end, hidden)
        what = next((what for a, b, what in spans if a <= start and end <= b), None)
        parts.append(piece if what is None else format_html('<mark class="flag" title="{}">{}</mark>', what, piece))
    return mark_safe("".join(parts))  # noqa: S308  (each part is escaped)


def _hidden_positions(text: str) -> set[int]:
    found = {at for start, end, _kind in hidden_characters.find(text) for at in range(start, end)}
    return found | {match.start() for match in _CONTROL.finditer(text)}


def _visible(text: str, start: int, end: int, hidden: set[int]) -> SafeString:
    """A piece of text, escaped, its hidden and control characters written as U+XXXX."""
    out, done = [], start
    for at in sorted(at for at in hidden if start <= at < end):
        name = unicodedata.name(text[at], gettext("control character"))
        code = f"U+{ord(text[at]):04X}"
        out += [escape(text[done:at]), format_html('<mark class="flag" title="{}">{}</mark>', name, code)]
        done = at + 1
    return mark_safe("".join([*out, escape(text[done:end])]))  # noqa: S308  (each part is escaped)


def excerpt_of(body: dict, *, datanet: Datanet, chars: int = 160) -> str:
    """One line that tells a record apart from others."""
    if datanet.kind == Datanet.Kind.TABULAR:
        names = [column.name for column in columns.columns_of(datanet.kind, datanet.schema)][:6]
        return ", ".join(f"{name}: {body.get(name)}" for name in names if body.get(name) is not None)[:chars]
    return " ".join(str(body.get("text") or body.get("name") or body.get("title") or "").split())[:chars]


def _reading(
    row: Record, *, datanet: Datanet, findings: Sequence[CheckResult] = (), chars: int = SHOWN_CHARS
) -> Reading:
    body = getattr(row, "body", None)
    fields = fields_of(body.body, datanet=datanet, findings=findings, chars=chars) if body else []
    reading = Reading(record=row, fields=fields)
    if body and body.media_key:
        reading.picture_url = media.url_of(body.thumb_key or body.media_key)
        reading.picture_full_url = media.url_of(body.media_key)
    reading.remarks = [
        Remark(
            sentences.title_of_check(each.check_name),
            sentences.of_finding(each.code, each.params),
            sentences.action_of_check(each.check_name),
            each.severity,
        )
        for each in findings
        if each.severity in _REMARKABLE
    ]
    return reading


def fields_of(
    body: dict, *, datanet: Datanet, findings: Sequence[CheckResult] = (), chars: int = SHOWN_CHARS
) -> list[Field]:
    """The values of a body under the Datanet's columns, then whatever else it holds."""
    spans: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for finding in findings:
        for span in finding.evidence.get("spans", []):
            spans[span["field"]].append((span["start"], span["end"], str(span["what"]).replace("_", " ")))
    label = columns.label_of(datanet.kind, datanet.schema)
    if label and any(finding.check_name == "label_sanity" and finding.severity in _REMARKABLE for finding in findings):
        spans[label].append((0, len(str(body.get(label) or "")), sentences.title_of_check("label_sanity")))
    names = [column.name for column in columns.columns_of(datanet.kind, datanet.schema)]
    names = [name for name in names if name in body]
    return [_field(name, body[name], spans[name], chars) for name in names if body[name] not in (None, "")]


def _field(name: str, value: object, spans: list[tuple[int, int, str]], chars: int) -> Field:
    text = value if isinstance(value, str) else str(value)
    shown = marked(text[:chars], [span for span in spans if span[0] < chars])
    after = [(max(0, a - chars), b - chars, w) for a, b, w in spans if b > chars]
    return Field(name, shown, marked(text[chars:], after) if len(text) > chars else "")


def findings_of(rows: Sequence[Record]) -> dict[int, list[CheckResult]]:
    found: dict[int, list[CheckResult]] = defaultdict(list)
    for result in CheckResult.objects.filter(record__in=[row.pk for row in rows]).order_by("id"):
        found[result.record_id or 0].append(result)
    return found


def _add_leaders(readings: Sequence[Reading], *, viewer: User, curated: Datanet | None) -> None:
    rows = Record.objects.select_related("body", "datanet__owner").defer("signature", "bands")
    # Asks for nothing where the rows were read with their leaders.
    prefetch_related_objects([each.record for each in readings], Prefetch("copy_of", queryset=rows))
    led = {each.record.copy_of for each in readings if each.record.copy_of}
    standing = {row for row in led if row.datanet == curated and row.status != Record.Status.WITHDRAWN}
    visible = {row.pk for row in standing} | records.seen_by(viewer, led - standing)
    for reading in readings:
        leader = reading.record.copy_of
        if leader is None:
            continue
        reading.likeness = _likeness(leader.datanet.kind, reading.record.copy_distance or 0.0)
        reading.leader_hidden = leader.pk not in visible or not hasattr(leader, "body")
        if not reading.leader_hidden:
            reading.leader = _reading(leader, datanet=leader.datanet)


def _nearest(sketch: bytes, record: Record, candidates: Iterable[Record], datanet: Datanet) -> list[Near]:
    measured = []
    for row in candidates:
        apart = leaders.distance(sketch, bytes(row.signature)) if row.pk not in (record.pk, record.copy_of_id) else None
        if apart is not None and hasattr(row, "body"):
            measured.append((apart, row))
    measured.sort(key=lambda pair: (pair[0], pair[1].pk))
    return [
        Near(row, _likeness(datanet.kind, apart), apart, excerpt_of(row.body.body, datanet=datanet))
        for apart, row in measured[:NEAR_SHOWN]
        if datanet.kind != Datanet.Kind.TEXT or apart < 0.95
    ]


def _likeness(kind: str, distance: float) -> int | None:
    """Percent; rows of a table are measured in units of rounding, which have no upper end."""
    if kind == Datanet.Kind.TABULAR:
        return 100 if distance == 0 else None
    return max(0, min(100, round(100 * (1 - distance))))
