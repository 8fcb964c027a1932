"""The cast and the builders of the data side. Everything is set up through the services."""

from __future__ import annotations

import io
from collections.abc import Iterable

from accounts.models import User
from datanets import checking, reviews, services, submissions, uploads
from datanets.models import Datanet, Record, Submission

COLUMNS = [
    {"name": "radius", "type": "number", "required": True, "min": 0},
    {"name": "texture", "type": "number", "required": True},
    {"name": "diagnosis", "type": "category", "required": True, "values": ["benign", "malignant"]},
]
SCHEMA = {"columns": COLUMNS, "label": "diagnosis", "label_type": "category"}
RIGHTS = "I may share this data under the licence."


def person(name: str, **fields) -> User:
    user = User.objects.filter(username=name).first()
    return user or User.objects.create_user(username=name, email=f"{name}@example.org", **fields)


def make_datanet(name: str = "Tumours", *, kind: str = "tabular", **fields) -> Datanet:
    """A Datanet of Erin's, with Carol as its curator."""
    fields = {"licence": "CC-BY-4.0", "purpose": "Tests", "rights_statement": RIGHTS} | fields
    if kind == "tabular":
        fields.setdefault("schema", SCHEMA)
    datanet = services.create_datanet(owner=person("erin"), name=name, kind=kind, **fields)
    services.add_curator(datanet, user=person("carol"), by=person("erin"))
    return datanet


def table(rows: Iterable[tuple], header: str = "radius,texture,diagnosis") -> bytes:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]).encode() + b"\n"


def measured(count: int, *, start: int = 0) -> list[tuple]:
    """Rows of made-up measurements, each unlike the others; what is malignant is far from what is benign."""
    labels = ("benign", "malignant")
    return [
        (f"{10 + 90 * (i % 2) + (i * 7919 % 9973) / 977:.7f}", f"{15 + (i * 6133 % 9941) / 871:.7f}", labels[i % 2])
        for i in range(start, start + count)
    ]


def upload(submission: Submission, content: bytes, *, name: str = "rows.csv", check: bool = True):
    """One file through the plain form; with `check`, through the worker's part as well."""
    file = uploads.receive_file(submission, name=name, stream=io.BytesIO(content), size_bytes=len(content))
    if check:
        checking.check_file(file.pk)
    file.refresh_from_db()
    return file


def send(datanet: Datanet, content: bytes, *, by: str = "alice", name: str = "rows.csv") -> Submission:
    """A submission with one checked file, signed and sent."""
    contributor = person(by)
    submission = submissions.start(datanet=datanet, contributor=contributor)
    upload(submission, content, name=name)
    return submissions.sign_and_send(submission, by=contributor)


def approve_all(submission: Submission, *, by: str = "carol") -> None:
    reviews.decide(waiting(submission), curator=person(by), decision="approve")


def waiting(submission: Submission) -> list[Record]:
    return list(Record.objects.filter(submission=submission, status="waiting").order_by("id"))
