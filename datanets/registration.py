"""From a parsed row to a record: identity, equality, and whose copy it is, decided once, in the order of registration."""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from PIL import Image

from . import leaders, storage, versions
from .kinds import KINDS
from .models import CheckResult, Datanet, GoldItem, Record, RecordBody, Report, Review, SubmissionFile

THUMB_SIDE = 256
SALT_BYTES = 32
WRITERS = 8


@dataclass(frozen=True)
class Draft:
    """One parsed row. position: its line, or its number in an archive. media: a drawn picture on our disk, or None."""

    position: int
    name: str
    body: dict
    media: Path | None = None


@dataclass(frozen=True)
class _Prepared:
    draft: Draft
    identity: str
    salt: bytes
    content_hmac: str
    signature: bytes
    bands: list[int]


def register(file: SubmissionFile, drafts: Sequence[Draft], *, datanet: Datanet) -> list[Record]:
    """Create the records of some rows of a file, with their content and the leader each one follows.

    What is slow (hashes, sketches, pictures) happens before the lock. Rows that have been registered are left alone, so
    that an interrupted file can be read again from its beginning. Returns the new records.
    """
    there = set(
        Record.objects.filter(file=file, position__in=[each.position for each in drafts]).values_list(
            "position", flat=True
        )
    )
    prepared = [_prepare(draft, datanet) for draft in drafts if draft.position not in there]
    if not prepared:
        return []
    gold = GoldItem.objects.filter(submission=file.submission_id).first()
    with ThreadPoolExecutor(WRITERS) as pool:  # each file waits for the disk; together they wait about once
        bodies = list(pool.map(_store_content, prepared))
    with transaction.atomic():
        # mutation: without this lock two uploads of one file at once both become leaders (test_registration: race)
        _lock_registration(datanet.kind)
        ids = _next_ids(len(prepared))
        follows = _decide(prepared, ids=ids, kind=datanet.kind)
        if gold is not None and gold.source_id and gold.reason != Review.Reason.COPY:
            # The record it was made from stands beside it otherwise, with the answer.
            follows = [(None, None)] * len(prepared)
        records = [
            Record(
                id=pk,
                datanet_id=datanet.pk,
                submission_id=file.submission_id,
                file_id=file.pk,
                contributor_id=file.submission.contributor_id,
                position=each.draft.position,
                title=_title(each.draft, datanet.kind),
                identity=each.identity,
                # What is planted is found by no later search: it would lead records that somebody really gave.
                content_hmac="" if gold else each.content_hmac,
                signature=each.signature,
                bands=[] if gold else each.bands,
                copy_of_id=leader,
                copy_distance=distance,
                is_gold=gold is not None,
            )
            for pk, each, (leader, distance) in zip(ids, prepared, follows, strict=True)
        ]
        Record.objects.bulk_create(records, batch_size=500)
        for pk, body in zip(ids, bodies, strict=True):
            body.record_id = pk
        RecordBody.objects.bulk_create(bodies, batch_size=500)
    return records


def freeze_spreads(datanet: Datanet, bodies: Sequence[dict]) -> Datanet:
    """Fix how widely a table's numbers spread, from the first file that shows it; later files never move it."""
    if datanet.kind != Datanet.Kind.TABULAR:
        return datanet
    with transaction.atomic():
        datanet = Datanet.objects.select_for_update(no_key=True).get(pk=datanet.pk)
        schema = leaders.with_spreads(datanet.schema, bodies)
        if schema != datanet.schema:
            datanet.schema = schema
            datanet.save(update_fields=["schema"])
    return datanet


def erase_content(records: Sequence[Record]) -> None:
    """Delete what these records say: bodies, salts, pictures, sketches, findings, reports, the files they came in, and what
    the statistics of versions tell of them.

    Their rows, identities and the roots over them stay and say nothing.
    """
    ids = [record.pk for record in records]
    with transaction.atomic():
        bodies = RecordBody.objects.filter(record_id__in=ids)
        keys = {key for pair in bodies.values_list("media_key", "thumb_key") for key in pair if key}
        files = SubmissionFile.objects.filter(pk__in={record.file_id for record in records}).exclude(storage_key="")
        keys |= set(files.values_list("storage_key", flat=True))
        files.update(storage_key="")
        bodies.delete()
        Record.objects.filter(pk__in=ids).update(content_hmac="", signature=b"", bands=[], title="")
        CheckResult.objects.filter(record_id__in=ids).delete()
        Review.objects.filter(record_id__in=ids).update(evidence={})
        Report.objects.filter(record_id__in=ids).update(text="")
        versions.forget_statistics(records)
        transaction.on_commit(lambda: storage.delete_all(keys))


def discard(records: Sequence[Record]) -> None:
    """Take records that nobody has decided on out of the way, with all they say."""
    Record.objects.filter(pk__in=[record.pk for record in records]).update(
        status=Record.Status.WITHDRAWN, withdrawn_at=timezone.now()
    )
    erase_content(records)


def _prepare(draft: Draft, datanet: Datanet) -> _Prepared:
    canonical = KINDS[datanet.kind].canonical(draft.body)
    salt = secrets.token_bytes(SALT_BYTES)
    media = draft.media.read_bytes() if draft.media else None
    sketch = leaders.signature(datanet.kind, draft.body, media, schema=datanet.schema)
    key = bytes.fromhex(settings.RECORD_KEY)
    return _Prepared(
        draft=draft,
        identity=hashlib.sha256(b"open-record/1" + salt + canonical).hexdigest(),
        salt=salt,
        content_hmac=hmac.digest(key, f"{datanet.kind}\0".encode() + canonical, "sha256").hex(),
        signature=sketch,
        bands=leaders.bands(sketch),
    )


def _store_content(prepared: _Prepared) -> RecordBody:
    body = RecordBody(body=prepared.draft.body, salt=prepared.salt)
    if prepared.draft.media:
        body.media_key = storage.new_key("records")
        with prepared.draft.media.open("rb") as picture:
            storage.put(body.media_key, picture)
        body.thumb_key = _store_thumb(prepared.draft.media) or body.media_key
    return body


def _store_thumb(media: Path) -> str:
    """A small picture for lists; none where the picture is small itself. The sandbox has drawn it: it is safe to open."""
    with Image.open(media, formats=("PNG", "JPEG")) as picture:
        if max(picture.size) <= THUMB_SIDE:
            return ""
        picture.thumbnail((THUMB_SIDE, THUMB_SIDE))
        out = io.BytesIO()
        picture.save(out, "PNG")
    key = storage.new_key("thumbs")
    storage.put(key, out.getvalue())
    return key


def _lock_registration(kind: str) -> None:
    number = int.from_bytes(hashlib.sha256(f"datanets.registration:{kind}".encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [number])


def _next_ids(count: int) -> list[int]:
    """Ids taken under the lock: their order is the order of registration."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('datanets_record', 'id')) FROM generate_series(1, %s)", [count]
        )
        return sorted(row[0] for row in cursor.fetchall())


def _decide(
    prepared: Sequence[_Prepared], *, ids: Sequence[int], kind: str
) -> list[tuple[int, float] | tuple[None, None]]:
    """For each new record the first record of its cluster and its distance, or (None, None): it leads one of its own."""
    exact = _exact_copies({each.content_hmac for each in prepared}, kind=kind)
    index = _near_leaders({band for each in prepared for band in each.bands}, kind=kind)
    decided: list[tuple[int, float] | tuple[None, None]] = []
    for pk, each in zip(ids, prepared, strict=True):
        found = exact.get(each.content_hmac)
        near = (found, 0.0) if found is not None else index.nearest(each.signature)
        if near is None:
            index.add(pk, each.signature)
            decided.append((None, None))
        else:
            decided.append(cast(tuple[int, float], near))
        exact.setdefault(each.content_hmac, decided[-1][0] or pk)
    return decided


def _exact_copies(hmacs: set[str], *, kind: str) -> dict[str, int]:
    """The cluster of each content that is known: its first record, which may be erased while its copies are not."""
    known = Record.objects.filter(content_hmac__in=hmacs, datanet__kind=kind).order_by("id")
    found: dict[str, int] = {}
    for content_hmac, pk, copy_of in known.values_list("content_hmac", "id", "copy_of_id"):
        found.setdefault(content_hmac, copy_of or pk)
    return found


def _near_leaders(bands: set[int], *, kind: str) -> leaders.Index:
    """The leaders that share a band with any of the new records. A cluster whose leader is erased is led by its copies."""
    leading = Record.objects.filter(Q(copy_of=None) | Q(copy_of__content_hmac=""), datanet__kind=kind)
    # one parameter: the lookup bands__overlap builds an expression for each of its 16,000 numbers
    near = leading.extra(where=["datanets_record.bands && %s::bigint[]"], params=[sorted(bands)])  # noqa: S610
    index = leaders.Index()
    rows = near.order_by("id").values_list("id", "copy_of_id", "signature")
    for pk, copy_of, sketch in rows:
        index.add(copy_of or pk, bytes(sketch))
    return index


def _title(draft: Draft, kind: str) -> str:
    named = draft.body.get("title") if kind == Datanet.Kind.TEXT else draft.name if kind == Datanet.Kind.IMAGE else ""
    return (named or "")[:200]
