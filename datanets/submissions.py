"""What a contributor sends: start it, add files, correct rows, sign and send, or take it back."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path

from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import findings, registration, sandbox, services, states, storage, tasks
from .errors import Invalid, NotAllowed, NotReady
from .models import BrokenRow, Datanet, Membership, Record, Submission, SubmissionFile
from .registration import Draft

Status = Submission.Status

_URL = re.compile(r"https?://[^\s<>\"']{3,500}")
_NOT_CORRECTIONS = frozenset({"schema.column_unknown"})


def start(*, datanet: Datanet, contributor: User, title: str = "", revision_of: Submission | None = None) -> Submission:
    """Begin to send data. revision_of: the decided submission of the same person that this one improves on.

    Raises:
        NotAllowed: the Datanet is closed to this person. Invalid: not a submission of theirs that can be revised.
    """
    members = Membership.objects.filter(datanet=datanet, user=contributor)
    if datanet.access == Datanet.Access.CLOSED and not members.exists():
        raise NotAllowed(_("Only members of this Datanet send data to it."))
    if revision_of is not None and (
        revision_of.contributor_id != contributor.pk
        or revision_of.datanet_id != datanet.pk
        or revision_of.status not in (Status.DECIDED, Status.WITHDRAWN)
    ):
        raise Invalid(_("Only your own decided submission to the same Datanet can be revised."))
    return Submission.objects.create(
        datanet=datanet,
        contributor=contributor,
        title=title.strip()[:160],
        revision_of=revision_of,
        status_code="no_files",
    )


@transaction.atomic
def describe(
    submission: Submission, *, by: User, title: str = "", description: str = "", source_url: str = ""
) -> Submission:
    """Say what the data is and where it comes from. Raises NotAllowed, NotReady (in review), Invalid (address)."""
    submission = _own_before_review(submission, by)
    if source_url and not _URL.fullmatch(source_url):
        raise Invalid(_("The source must be a web address that starts with http:// or https://."))
    submission.title, submission.description, submission.source_url = title.strip()[:160], description, source_url
    submission.save(update_fields=["title", "description", "source_url"])
    return submission


@transaction.atomic
def sign_and_send(submission: Submission, *, by: User) -> Submission:
    """Sign the Datanet's rights statement and send. Checks that still run finish first; repeating changes nothing.

    Afterwards it is in review, or it needs its author where rows or files are broken.

    Raises:
        NotAllowed, NotReady: withdrawn, or without a file.
    """
    submission = _own(submission, by)
    if submission.sent_at is not None and submission.status != Status.WITHDRAWN:
        return submission
    if submission.status not in states.BEFORE_REVIEW:
        raise NotReady(_("This submission was withdrawn. Start a new one."))
    if not submission.files.filter(dropped_at=None).exists():
        raise NotReady(_("There is nothing to send yet. Add a file."))
    submission.rights_signed_at = submission.sent_at = timezone.now()
    submission.rights_statement_sha256 = hashlib.sha256(submission.datanet.rights_statement.encode()).hexdigest()
    submission.save(update_fields=["rights_signed_at", "sent_at", "rights_statement_sha256"])
    services.note_contributor(submission.datanet, submission.contributor)
    return states.advance(submission)


def fix_row(broken_row: BrokenRow, *, by: User, values: dict) -> Record | BrokenRow:
    """Read a row as its author corrected it. It becomes a record at its line, or stays broken with a new reason.

    values: by column, as text or as the column's type. A row that has been fixed returns its record.

    Raises:
        NotAllowed, NotReady: dropped, the file is still being checked, or the submission is past its author.
    """
    file = SubmissionFile.objects.select_related("submission__datanet").get(pk=broken_row.file_id)
    datanet = file.submission.datanet
    event = _read_again(values, datanet=datanet, name=broken_row.name or file.name)
    with transaction.atomic():
        submission = _own_before_review(file.submission, by)
        file = _locked_file(file)
        broken_row = BrokenRow.objects.select_for_update(no_key=True).get(pk=broken_row.pk)
        if broken_row.fixed_at is not None and broken_row.record_id:
            return Record.objects.get(pk=broken_row.record_id)
        if broken_row.dropped_at is not None or file.dropped_at is not None:
            raise NotReady(_("This row was dropped."))
        _require_checked(file)
        if event["type"] == "problem":
            broken_row.code, broken_row.params, broken_row.column = event["reason"], event["params"], event["column"]
            broken_row.values = values
            broken_row.save(update_fields=["code", "params", "column", "values"])
            return broken_row
        position = _free_position(file, broken_row.line)
        [record] = registration.register(file, [Draft(position, event["name"], event["body"])], datanet=datanet)
        broken_row.fixed_at, broken_row.values, broken_row.record = timezone.now(), {}, record
        broken_row.save(update_fields=["fixed_at", "values", "record"])
        _after_row(submission, file)
    return record


@transaction.atomic
def drop_row(broken_row: BrokenRow, *, by: User) -> None:
    """Go on without this row. Repeating changes nothing. Raises NotAllowed, NotReady (its file is still being checked)."""
    submission = _own_before_review(broken_row.file.submission, by)
    file = _locked_file(broken_row.file)
    broken_row = BrokenRow.objects.select_for_update(no_key=True).get(pk=broken_row.pk)
    if broken_row.fixed_at is None and broken_row.dropped_at is None:
        _require_checked(file)
        broken_row.dropped_at, broken_row.values = timezone.now(), {}
        broken_row.save(update_fields=["dropped_at", "values"])
        _after_row(submission, file)


@transaction.atomic
def drop_file(file: SubmissionFile, *, by: User) -> None:
    """Go on without this file: its bytes and its records' content are deleted. Repeating changes nothing.

    Raises:
        NotAllowed, NotReady: already in review.
    """
    submission = _own_before_review(file.submission, by)
    _discard_file(_locked_file(file))
    states.advance(submission)


@transaction.atomic
def withdraw(submission: Submission, *, by: User) -> Submission:
    """Take a submission back: what is not decided is erased at once. Repeating changes nothing.

    Approved records stay; each is withdrawn on its own (datanets.records.withdraw), because it may be in a version.

    Raises:
        NotAllowed, NotReady: all of it is decided.
    """
    submission = _own(submission, by)
    if submission.status == Status.WITHDRAWN:
        return submission
    if submission.status == Status.DECIDED:
        raise NotReady(_("All of it is decided. Withdraw single records instead."))
    for file in SubmissionFile.objects.select_for_update(no_key=True).filter(submission=submission):
        _discard_file(file)
    kept = Record.objects.filter(submission=submission, status=Record.Status.APPROVED).count()
    submission.status, submission.status_code, submission.status_params = Status.WITHDRAWN, "withdrawn", {"kept": kept}
    submission.status_at = timezone.now()
    submission.save(update_fields=["status", "status_code", "status_params", "status_at"])
    return submission


def _own(submission: Submission, by: User) -> Submission:
    submission = states.locked(submission.pk)
    if submission.contributor_id != by.pk:
        raise NotAllowed(_("Only its contributor may do this."))
    return submission


def _own_before_review(submission: Submission, by: User) -> Submission:
    submission = _own(submission, by)
    if submission.status not in states.BEFORE_REVIEW:
        raise NotReady(_("This submission is in review or decided. Start a revision instead."))
    return submission


def _locked_file(file: SubmissionFile) -> SubmissionFile:
    locked = SubmissionFile.objects.select_for_update(of=("self",), no_key=True)
    return locked.select_related("submission").get(pk=file.pk)


def _require_checked(file: SubmissionFile) -> None:
    """A record that joined while the checks run over the others would enter review without having been checked."""
    if file.status != SubmissionFile.Status.NEEDS_AUTHOR:
        raise NotReady(_("This file is still being checked. Its rows can be corrected when the checks are done."))


def _read_again(values: dict, *, datanet: Datanet, name: str) -> dict:
    """Corrected values go the way of every row: through the sandbox, as the one line of a file."""
    with tempfile.TemporaryDirectory(prefix="openledger-row-") as folder:
        path = Path(folder, "row.jsonl")
        path.write_text(json.dumps(values, ensure_ascii=True) + "\n", encoding="utf-8")
        try:
            events = sandbox.parse_file(path, kind=datanet.kind, schema=datanet.schema, name="row.jsonl")
            found = [event for event in events if event.get("reason") not in _NOT_CORRECTIONS]
        except sandbox.Refused as refused:
            return {"type": "problem", "reason": refused.reason, "params": refused.params, "column": ""}
        except sandbox.SandboxError as error:
            return {"type": "problem", "reason": error.code, "params": {}, "column": ""}
    return found[0] | {"name": name}


def _free_position(file: SubmissionFile, line: int) -> int:
    taken = Record.objects.filter(file=file)
    if line and not file.name.lower().endswith(".zip") and not taken.filter(position=line).exists():
        return line
    return (taken.aggregate(last=Max("position"))["last"] or 0) + 1


def _after_row(submission: Submission, file: SubmissionFile) -> None:
    """When the last broken row of a locked file is dealt with, its new records pass the checks as well."""
    if not BrokenRow.objects.still_broken().filter(file=file).exists():
        new = Record.objects.filter(file=file, status=Record.Status.CHECKING).exists()
        file.status = SubmissionFile.Status.WAITING if new else SubmissionFile.Status.READY
        if new:
            transaction.on_commit(lambda: tasks.check_file.delay(str(file.pk)), robust=True)
    file.records_ok = Record.objects.filter(file=file).exclude(status=Record.Status.WITHDRAWN).count()
    file.rows_broken = BrokenRow.objects.still_broken().filter(file=file).count()
    file.save(update_fields=["status", "records_ok", "rows_broken"])
    states.advance(submission)


def _discard_file(file: SubmissionFile) -> None:
    if file.dropped_at is not None:
        return
    undecided = (Record.Status.CHECKING, Record.Status.WAITING)
    registration.discard(list(Record.objects.select_for_update(no_key=True).filter(file=file, status__in=undecided)))
    findings.forget(file)
    keys = [*file.parts, file.storage_key]
    file.dropped_at, file.parts, file.storage_key, file.rows_broken = timezone.now(), [], "", 0
    file.save(update_fields=["dropped_at", "parts", "storage_key", "rows_broken"])
    transaction.on_commit(lambda: storage.delete_all(keys))
