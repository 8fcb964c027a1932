"""The checks of one file: run each, keep what it found, and mark the records it flagged."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from types import ModuleType
from typing import cast

from django.db import transaction
from django.db.models import F

from . import checks, storage
from .checks.shapes import Checked, Context, Finding, summary
from .models import BrokenRow, CheckResult, Datanet, Record, Submission, SubmissionFile

logger = logging.getLogger(__name__)

REFERENCE_RECORDS_MAX = 1_000
FLAG_COSTS, FAIL_COSTS = 20, 50  # of a quality of 100
_REMARKABLE = (CheckResult.Severity.FLAG, CheckResult.Severity.FAIL)


def run_checks(file: SubmissionFile) -> list[int]:
    """Run every check of the Datanet's kind over a file's records; each one's findings are committed as it ends.

    Repeating replaces the findings. Flags and quality of records that have been decided on stay. Returns the ids of the
    records that were checked: a record that came later has passed no check.
    """
    datanet = file.submission.datanet
    records = _checked(Record.objects.filter(file=file).exclude(status=Record.Status.WITHDRAWN))
    context = _context(file, datanet)
    for check in checks.CHECKS_FOR[datanet.kind]:
        _replace(file, check, _findings(check, records, context))
    checked = [cast(int, record.key) for record in records]
    _mark(file, checked)
    return checked


def progress(submission: Submission) -> list[tuple[str, int, int]]:
    """(check, files it has finished, files in all) of a submission, in the order in which the checks run."""
    files = submission.files.filter(dropped_at=None)
    return progress_of(
        submission, files, CheckResult.objects.filter(file__in=files, record=None).only("check_name", "file_id")
    )


def progress_of(
    submission: Submission, files: Iterable[SubmissionFile], results: Iterable[CheckResult]
) -> list[tuple[str, int, int]]:
    """`progress`, for who has read its files and what the checks said of them."""
    counted = {file.pk for file in files if file.status != SubmissionFile.Status.FAILED}
    finished: dict[str, set] = defaultdict(set)
    for result in results:
        finished[result.check_name].add(result.file_id)
    names = [check.NAME for check in checks.CHECKS_FOR[submission.datanet.kind]]
    return [(name, len(finished[name] & counted), len(counted)) for name in names]


def _findings(check: ModuleType, records: list[Checked], context: Context) -> list[Finding]:
    try:
        found = check.run(records, context)
    except Exception:  # a check advises; one that breaks on a strange record must not stop a file for ever
        logger.exception("check %s broke", check.NAME)
        return [Finding(check.NAME, None, "info", None, "check.broke")]
    return found or [summary(check.NAME, flagged=0, of=len(records))]


def _replace(file: SubmissionFile, check: ModuleType, found: Iterable[Finding]) -> None:
    rows = [
        CheckResult(
            submission_id=file.submission_id,
            file=file,
            record_id=cast(int | None, finding.record_key),
            check_name=check.NAME,
            check_version=check.VERSION,
            severity=finding.severity,
            number=finding.number,
            code=finding.code,
            params=finding.params,
            evidence=finding.evidence,
        )
        for finding in found
        if finding.record_key is None or finding.severity != "pass"
    ]
    with transaction.atomic():
        CheckResult.objects.filter(file=file, check_name=check.NAME).delete()
        CheckResult.objects.bulk_create(rows, batch_size=1000)


def _mark(file: SubmissionFile, checked: list[int]) -> None:
    """Write on each checked record which checks flagged it, and its quality: 100 less a fixed cost for each of them."""
    flags: dict[int, set[str]] = defaultdict(set)
    costs: dict[int, dict[str, int]] = defaultdict(dict)
    results = CheckResult.objects.filter(file=file, record__isnull=False, severity__in=_REMARKABLE)
    for pk, name, severity in results.values_list("record_id", "check_name", "severity"):
        flags[pk].add(name)
        cost = FAIL_COSTS if severity == CheckResult.Severity.FAIL else FLAG_COSTS
        costs[pk][name] = max(cost, costs[pk].get(name, 0))
    alike: dict[tuple[tuple[str, ...], int], list[int]] = defaultdict(list)
    for pk, checks_by in flags.items():
        alike[tuple(sorted(checks_by)), max(0, 100 - sum(costs[pk].values()))].append(pk)
    with transaction.atomic():
        undecided = Record.objects.filter(file=file, status__in=(Record.Status.CHECKING, Record.Status.WAITING))
        undecided.filter(pk__in=set(checked) - flags.keys()).update(flags=[], quality=100)
        for (names, quality), pks in alike.items():
            undecided.filter(pk__in=pks).update(flags=list(names), quality=quality)


def _context(file: SubmissionFile, datanet: Datanet) -> Context:
    copies: dict[Hashable, tuple[Hashable, float]] = {}
    equal_to: dict[Hashable, Hashable] = {}
    elsewhere: set[Hashable] = set()
    followers = Record.objects.filter(file=file, copy_of__isnull=False).annotate(
        leader_hmac=F("copy_of__content_hmac"), leader_datanet=F("copy_of__datanet_id")
    )
    for record in followers.defer("signature", "bands"):
        copies[record.pk] = (record.copy_of_id, record.copy_distance or 0.0)
        # what is planted has no fingerprint to compare, so that nobody finds it by one (registration.py)
        if record.copy_distance == 0 if record.is_gold else record.leader_hmac == record.content_hmac:
            equal_to[record.pk] = record.copy_of_id
        if record.leader_datanet != datanet.pk:
            elsewhere.add(record.copy_of_id)
    approved = Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED, copy_of=None, is_gold=False)
    approved = approved.order_by("-id")
    return Context(
        kind=datanet.kind,
        schema=datanet.schema,
        language=datanet.language,
        problems=_problems(file),
        equal_to=equal_to,
        copies=copies,
        elsewhere=frozenset(elsewhere),
        reference=_checked(approved[:REFERENCE_RECORDS_MAX]),
    )


def _problems(file: SubmissionFile) -> list[dict]:
    rows = BrokenRow.objects.filter(file=file, fixed_at=None).order_by("line", "id")
    return [
        {
            "line": row.line or None,
            "column": row.column,
            "name": row.name,
            "code": row.params.get("outcome", ""),
            "reason": row.code,
            "params": row.params,
        }
        for row in rows
    ]


def _checked(records) -> list[Checked]:
    rows = records.values_list("pk", "position", "body__body", "body__media_key", "body__thumb_key")
    return [
        Checked(pk, body, _reader_of(media_key), position, _reader_of(thumb_key))
        for pk, position, body, media_key, thumb_key in rows
        if body is not None
    ]


def _reader_of(key: str) -> Callable[[], bytes] | None:
    return partial(storage.get, key) if key else None


def forget(file: SubmissionFile) -> None:
    """Delete what the checks and the reading said about a dropped file: they quote it."""
    BrokenRow.objects.filter(file=file).delete()
    CheckResult.objects.filter(file=file).delete()
