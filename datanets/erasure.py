"""What a person gave and wrote about data, erased. What stays: numbers, moments, identities, and who decided what."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.db.models import Q

from accounts.models import User

from . import gold, registration, storage
from .models import (
    AccessRequest,
    Appeal,
    BrokenRow,
    CheckResult,
    Record,
    Report,
    Review,
    Submission,
    SubmissionFile,
    Version,
)

# Where a decision must have a note, and the note is gone.
ERASED_NOTE = "(erased)"
_BATCH = 1_000


@transaction.atomic
def erase(user: User) -> None:
    """Delete every word and byte a person sent, and what was written about their records. Repeating changes nothing.

    The caller has withdrawn their submissions and records before: content that is in use is not pulled away from under
    a review.
    """
    mine = Record.objects.filter(contributor=user, status=Record.Status.WITHDRAWN).order_by("id")
    ids = list(mine.values_list("pk", flat=True))
    for start in range(0, len(ids), _BATCH):
        registration.erase_content(list(Record.objects.filter(pk__in=ids[start : start + _BATCH])))
    _erase_submissions(user)
    gold.erase_of(user)
    _erase_words(user)


def _erase_submissions(user: User) -> None:
    files = SubmissionFile.objects.filter(submission__contributor=user)
    keys = {key for parts, original in files.values_list("parts", "storage_key") for key in (*parts, original) if key}
    BrokenRow.objects.filter(file__in=files).delete()
    CheckResult.objects.filter(submission__contributor=user).delete()
    files.update(name="", parts=[], storage_key="", sha256="", declared_sha256="", error_params={})
    Submission.objects.filter(contributor=user).update(title="", description="", source_url="", status_params={})
    transaction.on_commit(partial(storage.delete_all, keys))


def _erase_words(user: User) -> None:
    """Notes, texts and answers: their own, and those of others about their records, which may quote them."""
    theirs = Q(record__contributor=user)
    Review.objects.filter(Q(curator=user) | theirs).update(note="", evidence={})
    Appeal.objects.filter(theirs).update(text="", note="")
    Appeal.objects.filter(decided_by=user).update(note="")
    reports = Report.objects.filter(Q(reporter=user) | Q(decided_by=user) | theirs)
    reports.exclude(note="").update(note=ERASED_NOTE)
    reports.filter(Q(reporter=user) | theirs).update(text="")
    AccessRequest.objects.filter(user=user).update(purpose="", answer="")
    AccessRequest.objects.filter(answered_by=user).update(answer="")
    Version.objects.filter(created_by=user).exclude(note="").update(note="")
