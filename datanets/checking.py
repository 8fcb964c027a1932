"""One file through the sandbox, into records, through the checks. May be rung twice, or killed anywhere and rung again.

The file's status and `parsed_at` say how far it has come; a row is registered once per (file, position); every check
replaces its own findings in a transaction of its own, so that pages show them as they finish.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone

from . import findings, registration, sandbox, states, storage, tasks
from .kinds import Limits
from .models import BrokenRow, Datanet, Record, SubmissionFile
from .registration import Draft

logger = logging.getLogger(__name__)

Status = SubmissionFile.Status

BATCH_ROWS = 500
SPREAD_ROWS = 5_000  # of the first file of a table, to see how widely its numbers spread
_NOTES = frozenset({"schema.column_unknown"})  # said about a file: kept as dropped rows, nothing is to be corrected
ATTEMPTS_MAX = 10  # the doorbell alone rings six times when the storage is away for a minute
_MIB_PER_S = 5  # what the sandbox certainly reads; a file of 50 MiB may take the usual ten seconds


def check_file(file_id) -> None:
    """Read and check one file. Repeating changes nothing; what a killed run has done is kept and gone on with."""
    with _only_one(f"datanets.check:{file_id}") as alone:
        file = _begin(file_id) if alone else None
        if file is None:
            return
        try:
            if file.parsed_at is None:
                _read_records(file)
            checked = findings.run_checks(file)
        except sandbox.Refused as refused:
            _fail(file, refused.reason, refused.params | {"outcome": refused.code})
        except sandbox.SandboxError as error:
            logger.warning("file %s: %s", file_id, error)
            _fail(file, error.code, {"outcome": "crash"})
        else:
            _finish(file, checked)


def recheck_waiting_files(*, older_than: timedelta = timedelta(minutes=2)) -> int:
    """Check files whose doorbell was lost or whose worker died. Returns how many were tried.

    One that breaks stops none of the others; after `ATTEMPTS_MAX` attempts it has failed.
    """
    unfinished = SubmissionFile.objects.filter(
        status__in=(Status.WAITING, Status.CHECKING), dropped_at=None, created_at__lt=timezone.now() - older_than
    )
    ids = list(unfinished.order_by("attempts", "created_at").values_list("pk", flat=True)[:100])
    for pk in ids:
        try:
            check_file(pk)
        except Exception:  # whatever it is, the next file has nothing to do with it
            logger.exception("file %s could not be checked", pk)
    return len(ids)


@dataclass
class _Read:
    """What the sandbox told, on disk: nothing of it counts before the file has been read to its end."""

    drafts: Path
    problems: list[dict] = field(default_factory=list)
    sample: list[dict] = field(default_factory=list)

    def all_drafts(self) -> Iterator[Draft]:
        with self.drafts.open(encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                media = Path(told["media"]) if told["media"] else None
                yield Draft(told["position"], told["name"], told["body"], media)


def _begin(file_id) -> SubmissionFile | None:
    with transaction.atomic():
        submission_id = SubmissionFile.objects.values_list("submission_id", flat=True).get(pk=file_id)
        submission = states.locked(submission_id)
        file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=file_id)
        if file.status not in (Status.WAITING, Status.CHECKING) or file.dropped_at is not None:
            return None
        file.status, file.attempts = Status.CHECKING, file.attempts + 1
        file.save(update_fields=["status", "attempts"])
        states.advance(submission)
    if file.attempts > ATTEMPTS_MAX:
        _fail(file, "check.gave_up", {"outcome": "crash"})
        return None
    return SubmissionFile.objects.select_related("submission__datanet", "submission__contributor").get(pk=file_id)


def _read_records(file: SubmissionFile) -> None:
    """Register every row of a file, and note what is broken."""
    datanet = file.submission.datanet
    with tempfile.TemporaryDirectory(prefix="openledger-check-") as folder:
        try:
            read = _parse(file, datanet, Path(folder))
        except (sandbox.SandboxTimeout, sandbox.SandboxCrash) as error:  # a busy machine does this to a good file
            logger.warning("file %s is read again: %s", file.pk, error)
            read = _parse(file, datanet, Path(folder))
        datanet = registration.freeze_spreads(datanet, read.sample)
        drafts = read.all_drafts()
        while batch := list(islice(drafts, BATCH_ROWS)):
            registration.register(file, batch, datanet=datanet)
    with transaction.atomic():
        BrokenRow.objects.filter(file=file).delete()
        BrokenRow.objects.bulk_create(_broken_row(file, problem) for problem in read.problems)
        file.parsed_at = timezone.now()
        file.records_ok = Record.objects.filter(file=file).count()
        file.rows_broken = BrokenRow.objects.still_broken().filter(file=file).count()
        file.save(update_fields=["parsed_at", "records_ok", "rows_broken"])


def _parse(file: SubmissionFile, datanet: Datanet, folder: Path) -> _Read:
    original = folder / "original"
    with storage.open_file(file.storage_key) as stored, original.open("wb") as copy:
        shutil.copyfileobj(stored, copy)
    read = _Read(folder / "drafts.jsonl")
    by_line = not file.name.lower().endswith(".zip")
    limits = Limits()
    timeout_s = max(sandbox.TIMEOUT_S, 2 * file.size_bytes / (_MIB_PER_S * 1024**2))
    events = sandbox.parse_file(
        original, kind=datanet.kind, schema=datanet.schema, name=file.name, limits=limits, timeout_s=timeout_s
    )
    with read.drafts.open("w", encoding="utf-8") as drafts:
        for event in events:
            if event["type"] == "problem":
                read.problems.append(event)
                continue
            position = event["line"] if by_line and event["line"] else event["position"]
            media = ""
            if event["media"] is not None:
                media = str(folder / f"media-{event['position']}")
                Path(media).write_bytes(event["media"])
            told = {"position": position, "name": event["name"], "body": event["body"], "media": media}
            drafts.write(json.dumps(told) + "\n")
            if len(read.sample) < SPREAD_ROWS:
                read.sample.append(event["body"])
    return read


def _broken_row(file: SubmissionFile, problem: dict) -> BrokenRow:
    return BrokenRow(
        file=file,
        line=problem["line"] or 0,
        name=problem["name"][:255],
        column=problem["column"][:120],
        code=problem["reason"],
        params=problem["params"] | {"outcome": problem["code"]},
        values=problem["values"],
        dropped_at=timezone.now() if problem["reason"] in _NOTES else None,
    )


def _fail(file: SubmissionFile, code: str, params: dict) -> None:
    with transaction.atomic():
        submission = states.locked(file.submission_id)
        file.status, file.error_code, file.error_params = Status.FAILED, code, params
        key, file.storage_key = file.storage_key, ""
        file.save(update_fields=["status", "error_code", "error_params", "storage_key"])
        states.advance(submission)
        transaction.on_commit(lambda: storage.delete(key))


def _finish(file: SubmissionFile, checked: list[int]) -> None:
    """Let the checked records go to review. One that was not among them keeps the file waiting for another run."""
    with transaction.atomic():
        submission = states.locked(file.submission_id)
        file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=file.pk)
        unchecked = Record.objects.filter(file=file, status=Record.Status.CHECKING)
        if file.dropped_at is not None:  # its author dropped it meanwhile
            registration.discard(list(unchecked))
            findings.forget(file)
            return
        unchecked.filter(pk__in=checked).update(status=Record.Status.WAITING)
        if unchecked.exists():
            file.status = Status.WAITING
            transaction.on_commit(lambda: tasks.check_file.delay(str(file.pk)), robust=True)
        else:
            broken = BrokenRow.objects.still_broken().filter(file=file).exists()
            file.status = Status.NEEDS_AUTHOR if broken else Status.READY
        file.attempts = 0
        file.save(update_fields=["status", "attempts"])
        states.advance(submission)


@contextmanager
def _only_one(name: str) -> Iterator[bool]:
    """Whether nobody else works under this name now. The database forgets the lock of a process that dies."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        alone = cursor.fetchone()[0]
    try:
        yield alone
    finally:
        if alone:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])
