"""Where a submission stands, derived from its files, rows and records. Called after everything that may change it.

Whoever locks more than one row locks the submission first, then its files, then its records: no two can wait in a circle.
"""

from __future__ import annotations

from django.db.models import Count, QuerySet
from django.utils import timezone

from .models import BrokenRow, Record, Submission, SubmissionFile

Status = Submission.Status
FileStatus = SubmissionFile.Status

BEFORE_REVIEW = (Status.RECEIVING, Status.CHECKING, Status.NEEDS_AUTHOR)


def locked(submission_id) -> Submission:
    """The row of a submission, locked until the transaction ends."""
    return (
        Submission.objects.select_for_update(of=("self",), no_key=True).select_related("datanet").get(pk=submission_id)
    )


def advance(submission: Submission) -> Submission:
    """Bring a locked submission into the state its parts imply. Repeating changes nothing, not even its date."""
    status, code, params = _implied(submission)
    if (status, code, params) == (submission.status, submission.status_code, submission.status_params):
        return submission
    now = timezone.now()
    changed = ["status", "status_code", "status_params", "status_at"]
    submission.status, submission.status_code, submission.status_params, submission.status_at = (
        status,
        code,
        params,
        now,
    )
    if status == Status.IN_REVIEW and submission.checked_at is None:
        submission.checked_at = now
        changed.append("checked_at")
    decided_at = now if status == Status.DECIDED else None
    if bool(decided_at) != bool(submission.decided_at):
        submission.decided_at = decided_at
        changed.append("decided_at")
    submission.save(update_fields=changed)
    return submission


def _implied(submission: Submission) -> tuple[str, str, dict]:
    if submission.status == Status.WITHDRAWN:
        return submission.status, submission.status_code, submission.status_params
    records = Record.objects.filter(submission=submission)
    if submission.status in (Status.IN_REVIEW, Status.DECIDED):
        return _in_review(records)
    files = SubmissionFile.objects.filter(submission=submission, dropped_at=None)
    counts = _by_status(files, FileStatus.values)
    if not sum(counts.values()):
        return Status.RECEIVING, "no_files", {}
    if uploading := counts[FileStatus.UPLOADING]:
        return Status.RECEIVING, "uploading", {"files": uploading}
    if checking := counts[FileStatus.WAITING] + counts[FileStatus.CHECKING]:
        return Status.CHECKING, "checking", {"files": checking}
    rows = BrokenRow.objects.still_broken().filter(file__in=files).count()
    if rows or counts[FileStatus.FAILED]:
        return Status.NEEDS_AUTHOR, "broken", {"rows": rows, "files": counts[FileStatus.FAILED]}
    waiting = records.awaiting_review().count()
    if not waiting:
        return Status.NEEDS_AUTHOR, "nothing_left", {}
    if submission.sent_at is None:
        return Status.NEEDS_AUTHOR, "not_sent", {"records": waiting}
    return _in_review(records)


def _in_review(records: QuerySet) -> tuple[str, str, dict]:
    counts = _by_status(records, Record.Status.values)
    told = {"approved": counts["approved"], "rejected": counts["rejected"], "waiting": counts["waiting"]}
    if counts["waiting"]:
        return Status.IN_REVIEW, "in_review", told
    return Status.DECIDED, "decided", told


def _by_status(rows: QuerySet, statuses: list[str]) -> dict[str, int]:
    counted = rows.order_by().values_list("status").annotate(count=Count("pk"))
    return dict.fromkeys(statuses, 0) | dict(counted)
