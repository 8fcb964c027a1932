"""What the page of a submission shows: its files, checks, broken rows, copies, rejections and history."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import timedelta

from django.conf import settings
from django.db.models import Count, Min, Window
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from datanets import findings, sentences, states
from datanets.checks import CHECKS_FOR
from datanets.forms import AppealForm, RowForm
from datanets.models import Appeal, BrokenRow, CheckResult, Datanet, Record, Review, Submission, SubmissionFile

from . import first_records, reading

ROWS_SHOWN = 20
COPIES_SHOWN = 10
EVIDENCE_SHOWN = 5
REJECTED_SHOWN = 50
SLOW_AFTER = timedelta(minutes=1)

FileStatus = SubmissionFile.Status
Status = Submission.Status
_ICONS = {"csv": "file-spreadsheet", "parquet": "file-spreadsheet", "jsonl": "file-json", "zip": "file-archive"}
_PICTURES = ("png", "jpg", "jpeg", "webp")
ACCEPTED = {
    Datanet.Kind.TEXT: ".txt,.md,.jsonl,.csv,.pdf,.docx,.zip",
    Datanet.Kind.TABULAR: ".csv,.jsonl,.parquet",
    Datanet.Kind.IMAGE: ".png,.jpg,.jpeg,.webp,.zip",
}


def page_of(submission: Submission) -> dict:
    """All that the submission's page shows, by its state."""
    context = live_of(submission) | rows_of(submission)
    datanet = submission.datanet
    context |= {
        "accepted": ACCEPTED[Datanet.Kind(datanet.kind)],
        "limit_bytes": settings.UPLOAD_FILE_MAX_BYTES,
        "steps": _steps(submission, context),
        "todo": _todo(submission, context),
        "timeline": _timeline(submission),
        "in_review": submission.status in (Status.IN_REVIEW, Status.DECIDED),
    }
    if context["open"]:
        files = [each["file"] for each in context["files"]]
        copies, first = _copies(submission), first_records.records_of(files)
        findings = reading.findings_of([*copies, *first])
        context["copies"] = reading.read(copies, datanet=datanet, viewer=submission.contributor, findings=findings)
        context["first"] = first_records.of(submission, files, first, findings)
    else:
        context["rejected"] = _rejected(submission)
    return context


def live_of(submission: Submission) -> dict:
    """The files, the checks and the state, as they are now."""
    files = list(submission.files.filter(dropped_at=None).order_by("created_at", "pk"))
    shown = [_file_row(file) for file in files]
    is_open = submission.status in states.BEFORE_REVIEW
    busy = any(file.status in (FileStatus.WAITING, FileStatus.CHECKING) for file in files) and is_open
    since = timezone.now() - (submission.status_at or submission.created_at)
    return {
        "submission": submission,
        "datanet": submission.datanet,
        "open": is_open,
        "sentence": sentences.of_state(submission.status_code, submission.status_params),
        "files": shown,
        "checks": check_rows(submission, files),
        "polling": ("every 2s" if since < SLOW_AFTER else "every 10s") if busy else "",
        "stamp": _stamp(submission, files),
    }


def rows_of(submission: Submission) -> dict:
    """Broken rows with a form each: the first of them, and how many there are."""
    if submission.status not in states.BEFORE_REVIEW:
        return {"rows": [], "rows_total": 0}
    broken = BrokenRow.objects.awaiting_author().filter(file__submission=submission)
    first = broken.select_related("file").order_by("file__created_at", "line", "id").annotate(of=Window(Count("pk")))
    rows = list(first[:ROWS_SHOWN])
    return {"rows": [row_of(row, submission.datanet) for row in rows], "rows_total": rows[0].of if rows else 0}


def row_of(row: BrokenRow, datanet: Datanet) -> dict:
    correctable = datanet.kind != Datanet.Kind.IMAGE and bool(row.line)
    return {
        "row": row,
        "sentence": sentences.of_problem(row.code, row.params),
        "form": RowForm(row=row, datanet=datanet) if correctable else None,
        "place": _place(row),
    }


def _place(row: BrokenRow) -> str:
    if not row.line:
        return row.name or row.file.name
    if row.column:
        return _("Line %(line)s, column %(column)s") % {"line": row.line, "column": row.column}
    return _("Line %(line)s") % {"line": row.line}


def line_and(row: BrokenRow, sentence: str) -> str:
    return _("%(place)s: %(sentence)s") % {"place": _place(row), "sentence": sentence}


def _file_row(file: SubmissionFile) -> dict:
    suffix = file.name.rpartition(".")[2].lower()
    percent = 100 * file.received_bytes // file.size_bytes if file.size_bytes else 0
    row = {
        "file": file,
        "icon": "file-image" if suffix in _PICTURES else _ICONS.get(suffix, "file-text"),
        "state": "needs_you" if file.status == FileStatus.NEEDS_AUTHOR else file.status,
        "label": file.get_status_display(),
        "percent": 100,
        "note": "",
        "text": "",
    }
    if file.status == FileStatus.UPLOADING:
        row |= {
            "percent": percent,
            "text": _("Stopped at %(percent)s%%. Choose the file again to go on.") % {"percent": percent},
        }
    elif file.status == FileStatus.WAITING:
        row["text"] = _("Uploaded; it is checked next.")
    elif file.status == FileStatus.CHECKING:
        row |= {"percent": "", "text": _("Reading and checking")}
    elif file.status == FileStatus.FAILED:
        row["text"] = sentences.of_problem(file.error_code, file.error_params)
    elif file.rows_broken:
        row["text"] = ngettext("%(count)s row needs you", "%(count)s rows need you", file.rows_broken) % {
            "count": file.rows_broken
        }
    else:
        row["text"] = _("Uploaded, checked")
    if file.parsed_at:
        row["note"] = ngettext("%(count)s record", "%(count)s records", file.records_ok) % {"count": file.records_ok}
    return row


def check_rows(submission: Submission, files: list[SubmissionFile]) -> list[dict]:
    """One row per check: running, or what it found over all files, with the first records it marked."""
    counted = [file for file in files if file.status not in (FileStatus.FAILED, FileStatus.UPLOADING)]
    if not counted:
        return []
    results = list(CheckResult.objects.filter(submission=submission, file__in=files, record=None).order_by("id"))
    told: dict[str, list[CheckResult]] = defaultdict(list)
    known = {file.pk for file in counted}
    for result in results:
        if result.file_id in known:
            told[result.check_name].append(result)
    marked = _marked_records(submission, counted)
    rows = []
    for name, done, total in findings.progress_of(submission, files, results):
        row = {"name": sentences.title_of_check(name), "key": name, "number": ""}
        if done < total:
            row |= {
                "result": "run",
                "word": _("running"),
                "text": _("%(done)s of %(total)s files") % {"done": done, "total": total},
            }
        else:
            row |= _finished(name, told[name], marked[name])
        rows.append(row)
    return rows


def _finished(name: str, results: list[CheckResult], marked: list[CheckResult]) -> dict:
    some = [each for each in results if each.code == f"{name}.some"]
    none = [each for each in results if each.code == f"{name}.none"]
    count = sum(each.params.get("count", 0) for each in some)
    other = [sentences.of_finding(each.code, each.params) for each in results if each not in some and each not in none]
    if some:
        of = sum(each.params.get("of", 0) for each in some) + sum(each.params.get("count", 0) for each in none)
        text = sentences.of_finding(f"{name}.some", {"count": count, "of": of})
    elif none:
        total = sum(each.params.get("count", 0) for each in none)
        text = sentences.of_finding(f"{name}.none", {"count": total})
    else:
        text = other[0] if other else ""
    severities = {each.severity for each in results}
    row = {"text": text, "number": count if some else "", "result": "ok", "word": _("passed")}
    if "fail" in severities:
        row |= {"result": "bad", "word": _("failed")}
    elif some or "flag" in severities:
        row |= {"result": "warn", "word": _("flagged")}
    elif severities == {"info"} and not none:
        row |= {"result": "skip", "word": _("note")}
    if row["result"] in ("bad", "warn"):
        context = {
            "action": sentences.action_of_check(name),
            "marked": [
                {"record": each.record, "sentence": sentences.of_finding(each.code, each.params)} for each in marked
            ],
        }
        row["evidence"] = render_to_string("datanets/contribute/_evidence.html", context)
        row |= _action(name)
    return row


def _action(name: str) -> dict:
    if name == "file_format":
        return {"action_url": "#rows", "action_label": _("Correct")}
    if name in ("exact_copies", "near_copies"):
        return {"action_url": "#copies", "action_label": _("Compare")}
    return {}


def _marked_records(submission: Submission, files: list[SubmissionFile]) -> dict[str, list[CheckResult]]:
    """The first records each check marked."""
    found: dict[str, list[CheckResult]] = {name.NAME: [] for name in CHECKS_FOR[submission.datanet.kind]}
    results = CheckResult.objects.filter(submission=submission, file__in=files, record__isnull=False)
    results = results.filter(severity__in=("flag", "fail")).select_related("record")
    first = results.defer("record__signature", "record__bands").order_by("check_name", "record_id", "id")
    for result in first[:500]:
        if len(found.setdefault(result.check_name, [])) < EVIDENCE_SHOWN:
            found[result.check_name].append(result)
    return found


def _copies(submission: Submission) -> list[Record]:
    rows = Record.objects.filter(submission=submission, copy_of__isnull=False).exclude(status=Record.Status.WITHDRAWN)
    rows = rows.select_related("body", *reading.LEADER).defer("signature", "bands", *reading.NOT_OF_LEADER)
    return list(rows.order_by("copy_distance", "id")[:COPIES_SHOWN])


def _rejected(submission: Submission) -> list[dict]:
    rows = Record.objects.filter(submission=submission, status=Record.Status.REJECTED).select_related("body")
    shown = reading.read(
        list(rows.defer("signature", "bands").order_by("id")[:REJECTED_SHOWN]),
        datanet=submission.datanet,
        viewer=submission.contributor,
        with_leaders=False,
    )
    ids = [each.record.pk for each in shown]
    votes: dict[int, Review] = {}
    for vote in Review.objects.filter(record__in=ids, undone_at=None, decision="reject").order_by("-decided_at"):
        votes[vote.record_id] = vote
    appeals = {appeal.record_id: appeal for appeal in Appeal.objects.filter(record__in=ids).order_by("created_at")}
    return [
        {
            "reading": each,
            "reason": Review.Reason(each.record.reject_reason).label,
            "vote": votes.get(each.record.pk),
            "appeal": appeals.get(each.record.pk),
            "form": AppealForm(auto_id=f"appeal-{each.record.pk}-%s"),
        }
        for each in shown
    ]


def _steps(submission: Submission, context: dict) -> list[dict]:
    ready = submission.status_code in ("not_sent",) or not context["open"]
    described = bool(submission.title)
    files = len(context["files"])
    told = ngettext("%(count)s file", "%(count)s files", files) % {"count": files} if files else ""
    return [
        {"label": _("Choose Datanet"), "note": submission.datanet.name, "state": "done"},
        {"label": _("Upload and check"), "note": told, "state": "done" if ready else "now"},
        {"label": _("Describe"), "state": "done" if described else ("now" if ready else "")},
        {
            "label": _("Send for review"),
            "state": "done" if submission.sent_at else ("now" if ready and described else ""),
        },
    ]


def _todo(submission: Submission, context: dict) -> list[tuple[bool, str]]:
    """What must be true before sending, and whether it is."""
    done = [file for file in context["files"] if file["file"].status == FileStatus.READY]
    return [
        (bool(context["files"]), _("At least one file has arrived")),
        (bool(context["files"]) and len(done) == len(context["files"]), _("Every file is checked, none needs you")),
        (bool(submission.title), _("A title says what the data is")),
        (bool(submission.rights_signed_at), _("You have signed for the rights")),
    ]


def _timeline(submission: Submission) -> list[dict]:
    """Received, checked, sent, in review, decided, in use."""
    used = None
    if submission.status not in states.BEFORE_REVIEW:
        used = Record.objects.filter(submission=submission).aggregate(first=Min("added_in"))["first"]
    params = submission.status_params if submission.status_code in ("in_review", "decided") else {}
    items: list[dict] = [{"text": _("Received"), "at": submission.created_at, "state": "done"}]

    def add(text: str, at, *, now: bool, note: str = "") -> None:
        items.append({"text": text, "at": at, "note": note, "state": "done" if at else ("now" if now else "")})

    add(_("Checked"), submission.checked_at, now=submission.status in states.BEFORE_REVIEW)
    add(_("Sent"), submission.sent_at, now=False)
    waiting = params.get("waiting", 0)
    note = ngettext("%(count)s record waits", "%(count)s records wait", waiting) % {"count": waiting} if waiting else ""
    add(
        _("In review"), None if waiting else submission.decided_at, now=submission.status == Status.IN_REVIEW, note=note
    )
    add(_("Decided"), submission.decided_at, now=False)
    if submission.status == Status.WITHDRAWN:
        items.append({"text": _("Withdrawn"), "at": submission.status_at, "state": "bad"})
    elif used:
        items.append({"text": _("In use since version v%(number)s") % {"number": used}, "state": "done"})
    else:
        items.append({"text": _("In use"), "note": _("From the next published version"), "state": ""})
    return items


def _stamp(submission: Submission, files: list[SubmissionFile]) -> str:
    """Changes whenever the page's forms must change; while it is the same, what somebody types is left alone."""
    told = [submission.status, submission.status_code, submission.status_params, str(submission.sent_at)]
    told += [[str(file.pk), file.status if file.status != FileStatus.CHECKING else "waiting"] for file in files]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
