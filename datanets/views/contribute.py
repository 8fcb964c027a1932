"""Sending data: upload, checks as they finish, broken rows, and what happens afterwards.

The page itself is marketplace.views.contribute.submission, because it shows what records earn; here are its parts and
what its forms do. Every form works without JavaScript: an act, then a redirect to the page.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from datanets import findings, reviews, sentences, states, submissions
from datanets.checks import CHECKS_FOR
from datanets.errors import DatanetError
from datanets.forms import AppealForm, RowForm
from datanets.models import Appeal, BrokenRow, CheckResult, Datanet, Record, Review, Submission, SubmissionFile

from . import reading

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


def own_submission(request: HttpRequest, submission_id) -> Submission:
    """The submission of the person who asks; to everybody else it does not exist."""
    return get_object_or_404(
        Submission.objects.select_related("datanet__owner", "contributor", "revision_of"),
        pk=submission_id,
        contributor=request.user,
    )


def page_of(submission: Submission) -> dict:
    """All that the submission's page shows, by its state."""
    context = live_of(submission) | rows_of(submission)
    datanet = submission.datanet
    context |= {
        "accepted": ACCEPTED[datanet.kind],
        "limit_bytes": settings.UPLOAD_FILE_MAX_BYTES,
        "steps": _steps(submission, context),
        "todo": _todo(submission, context),
        "timeline": _timeline(submission),
        "in_review": submission.status in (Status.IN_REVIEW, Status.DECIDED),
    }
    if context["open"]:
        context["copies"] = _copies(submission)
    else:
        context["rejected"] = _rejected(submission)
    return context


@login_required
@require_GET
def submission_live(request: HttpRequest, submission_id) -> HttpResponse:
    """The part of the page that moves: the files, the checks, and, when the state has changed, what to do next."""
    submission = own_submission(request, submission_id)
    context = page_of(submission)
    context["with_rest"] = request.GET.get("seen") != context["stamp"]
    response = render(request, "datanets/contribute/_live_answer.html", context)
    if not context["open"]:
        response["HX-Refresh"] = "true"  # sent, and its checks are done: this is another page now
    return response


@login_required
@require_POST
def submission_upload(request: HttpRequest, submission_id) -> HttpResponse:
    """Files from a plain form. One that is refused never cancels the others."""
    submission = own_submission(request, submission_id)
    files = request.FILES.getlist("files")
    if not files:
        messages.error(request, _("Choose at least one file."))
    for file in files:
        try:
            submissions.receive_file(submission, name=file.name, stream=file, size_bytes=file.size)
        except DatanetError as error:
            messages.error(request, _("%(name)s: %(error)s") % {"name": file.name, "error": error})
    return _to_page(submission)


@login_required
@require_POST
def submission_file_drop(request: HttpRequest, submission_id, file_id) -> HttpResponse:
    """Go on without a file."""
    submission = own_submission(request, submission_id)
    file = get_object_or_404(SubmissionFile, pk=file_id, submission=submission)
    submissions.drop_file(file, by=request.user)
    messages.success(request, _("%(name)s was removed.") % {"name": file.name})
    return _to_page(submission)


@login_required
@require_POST
def submission_row(request: HttpRequest, submission_id, row_id: int) -> HttpResponse:
    """Correct one broken row, or go on without it."""
    submission = own_submission(request, submission_id)
    row = get_object_or_404(
        BrokenRow.objects.select_related("file__submission"), pk=row_id, file__submission=submission
    )
    form = None
    if request.POST.get("act") == "drop":
        submissions.drop_row(row, by=request.user)
        told = _("The row was dropped.")
    else:
        form = RowForm(request.POST, row=row, datanet=submission.datanet)
        form.full_clean()
        fixed = submissions.fix_row(row, by=request.user, values=form.values())
        told = "" if isinstance(fixed, BrokenRow) else _("Line %(line)s is a record now.") % {"line": row.line}
    row.refresh_from_db()
    if request.htmx:
        return _row_answer(request, submission, row, told)
    if told:
        messages.success(request, told)
    else:
        messages.error(request, _line_and(row, sentences.of_problem(row.code, row.params)))
    return redirect(reverse("submission", args=[submission.pk]) + "#rows")


@login_required
@require_POST
def submission_rows_drop(request: HttpRequest, submission_id, file_id) -> HttpResponse:
    """Go on without all rows of a file that are still broken."""
    submission = own_submission(request, submission_id)
    rows = list(BrokenRow.objects.still_broken().filter(file=file_id, file__submission=submission))
    for row in rows:
        submissions.drop_row(row, by=request.user)
    dropped = ngettext("%(count)s row was dropped.", "%(count)s rows were dropped.", len(rows)) % {"count": len(rows)}
    messages.success(request, dropped)
    return _to_page(submission)


@login_required
@require_POST
def submission_withdraw(request: HttpRequest, submission_id) -> HttpResponse:
    """Take back what is not decided."""
    submission = submissions.withdraw(own_submission(request, submission_id), by=request.user)
    messages.success(request, _("The submission was withdrawn. What nobody had decided on is erased."))
    return _to_page(submission)


@login_required
@require_POST
def submission_revise(request: HttpRequest, submission_id) -> HttpResponse:
    """Start an improved submission in the place of a decided one."""
    old = own_submission(request, submission_id)
    new = submissions.start(datanet=old.datanet, contributor=request.user, title=old.title, revision_of=old)
    submissions.describe(new, by=request.user, title=old.title, description=old.description, source_url=old.source_url)
    messages.success(request, _("A revision was started. Add the improved files."))
    return _to_page(new)


@login_required
@require_POST
def record_appeal(request: HttpRequest, record_id: int) -> HttpResponse:
    """Ask another curator for a second look at a rejected record."""
    record = get_object_or_404(Record.objects.select_related("submission"), pk=record_id, contributor=request.user)
    form = AppealForm(request.POST)
    if form.is_valid():
        reviews.appeal(record, by=request.user, text=form.cleaned_data["text"])
        messages.success(request, _("Another curator will look at it within 7 days, without seeing who rejected it."))
    else:
        messages.error(request, _("Say why the record should be looked at again."))
    return redirect(reverse("submission", args=[record.submission_id]) + f"#record-{record.pk}")


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
    broken = BrokenRow.objects.still_broken().filter(file__submission=submission, file__dropped_at=None)
    rows = list(broken.select_related("file").order_by("file__created_at", "line", "id")[: ROWS_SHOWN + 1])
    total = len(rows) if len(rows) <= ROWS_SHOWN else broken.count()
    return {"rows": [_row(row, submission.datanet) for row in rows[:ROWS_SHOWN]], "rows_total": total}


def _row(row: BrokenRow, datanet: Datanet) -> dict:
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


def _line_and(row: BrokenRow, sentence: str) -> str:
    return _("%(place)s: %(sentence)s") % {"place": _place(row), "sentence": sentence}


def _row_answer(request: HttpRequest, submission: Submission, row: BrokenRow, told: str) -> HttpResponse:
    submission.refresh_from_db()
    context = page_of(submission) | {"told": told, "with_rest": True, "keep_rows": True}
    context["entry"] = _row(row, submission.datanet) | {"done": bool(told)}
    return render(request, "datanets/contribute/_row_answer.html", context, status=200 if told else 422)


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
    told: dict[str, list[CheckResult]] = defaultdict(list)
    for result in CheckResult.objects.filter(submission=submission, file__in=counted, record=None).order_by("id"):
        told[result.check_name].append(result)
    marked = _marked_records(submission, counted)
    rows = []
    for name, done, total in findings.progress(submission):
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


def _copies(submission: Submission) -> list[reading.Reading]:
    rows = Record.objects.filter(submission=submission, copy_of__isnull=False).exclude(status=Record.Status.WITHDRAWN)
    rows = rows.select_related("body").defer("signature", "bands").order_by("copy_distance", "id")[:COPIES_SHOWN]
    return reading.read(list(rows), datanet=submission.datanet, viewer=submission.contributor)


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
    records = Record.objects.filter(submission=submission)
    used = records.filter(added_in__isnull=False).order_by("added_in").values_list("added_in", flat=True).first()
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


def _to_page(submission: Submission) -> HttpResponse:
    return redirect("submission", submission.pk)


pages = [
    path("contribute/<uuid:submission_id>/live/", submission_live, name="submission_live"),
    path("contribute/<uuid:submission_id>/upload/", submission_upload, name="submission_upload"),
    path("contribute/<uuid:submission_id>/files/<uuid:file_id>/drop/", submission_file_drop, name="submission_file"),
    path(
        "contribute/<uuid:submission_id>/files/<uuid:file_id>/rows/drop/",
        submission_rows_drop,
        name="submission_rows_drop",
    ),
    path("contribute/<uuid:submission_id>/rows/<int:row_id>/", submission_row, name="submission_row"),
    path("contribute/<uuid:submission_id>/withdraw/", submission_withdraw, name="submission_withdraw"),
    path("contribute/<uuid:submission_id>/revise/", submission_revise, name="submission_revise"),
    path("records/<int:record_id>/appeal/", record_appeal, name="record_appeal"),
]
