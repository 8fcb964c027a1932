"""Sending data: upload, checks as they finish, broken rows, and what happens afterwards.

The page itself is marketplace.views.contribute.submission, because it shows what records earn; here are its parts and
what its forms do. Every form works without JavaScript: an act, then a redirect to the page.
"""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from accounts.requests import SignedInRequest
from datanets import reviews, sentences, submissions, uploads
from datanets.errors import DatanetError
from datanets.forms import AppealForm, RowForm
from datanets.models import BrokenRow, Record, Submission, SubmissionFile

from . import submission_page


def own_submission(request: HttpRequest, submission_id) -> Submission:
    """The submission of the person who asks; to everybody else it does not exist."""
    return get_object_or_404(
        Submission.objects.select_related("datanet__owner", "contributor", "revision_of"),
        pk=submission_id,
        contributor=request.user,
    )


@login_required
@require_GET
def submission_live(request: HttpRequest, submission_id) -> HttpResponse:
    """The part of the page that moves: the files, the checks, and, when the state has changed, what to do next."""
    submission = own_submission(request, submission_id)
    context = submission_page.page_of(submission)
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
            uploads.receive_file(submission, name=file.name or "", stream=file, size_bytes=file.size or 0)
        except DatanetError as error:
            messages.error(request, _("%(name)s: %(error)s") % {"name": file.name, "error": error})
    return _to_page(submission)


@login_required
@require_POST
def submission_file_drop(request: SignedInRequest, submission_id, file_id) -> HttpResponse:
    """Go on without a file."""
    submission = own_submission(request, submission_id)
    file = get_object_or_404(SubmissionFile, pk=file_id, submission=submission)
    submissions.drop_file(file, by=request.user)
    messages.success(request, _("%(name)s was removed.") % {"name": file.name})
    return _to_page(submission)


@login_required
@require_POST
def submission_row(request: SignedInRequest, submission_id, row_id: int) -> HttpResponse:
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
        messages.error(request, submission_page.line_and(row, sentences.of_problem(row.code, row.params)))
    return redirect(reverse("submission", args=[submission.pk]) + "#rows")


@login_required
@require_POST
def submission_rows_drop(request: SignedInRequest, submission_id, file_id) -> HttpResponse:
    """Go on without all rows of a file that are still broken."""
    submission = own_submission(request, submission_id)
    rows = list(BrokenRow.objects.awaiting_author().filter(file=file_id, file__submission=submission))
    for row in rows:
        submissions.drop_row(row, by=request.user)
    dropped = ngettext("%(count)s row was dropped.", "%(count)s rows were dropped.", len(rows)) % {"count": len(rows)}
    messages.success(request, dropped)
    return _to_page(submission)


@login_required
@require_POST
def submission_withdraw(request: SignedInRequest, submission_id) -> HttpResponse:
    """Take back what is not decided."""
    submission = submissions.withdraw(own_submission(request, submission_id), by=request.user)
    messages.success(request, _("The submission was withdrawn. What nobody had decided on is erased."))
    return _to_page(submission)


@login_required
@require_POST
def submission_revise(request: SignedInRequest, submission_id) -> HttpResponse:
    """Start an improved submission in the place of a decided one."""
    old = own_submission(request, submission_id)
    new = submissions.start(datanet=old.datanet, contributor=request.user, title=old.title, revision_of=old)
    submissions.describe(new, by=request.user, title=old.title, description=old.description, source_url=old.source_url)
    messages.success(request, _("A revision was started. Add the improved files."))
    return _to_page(new)


@login_required
@require_POST
def record_appeal(request: SignedInRequest, record_id: int) -> HttpResponse:
    """Ask another curator for a second look at a rejected record."""
    record = get_object_or_404(Record.objects.select_related("submission"), pk=record_id, contributor=request.user)
    form = AppealForm(request.POST)
    if form.is_valid():
        reviews.appeal(record, by=request.user, text=form.cleaned_data["text"])
        messages.success(request, _("Another curator will look at it within 7 days, without seeing who rejected it."))
    else:
        messages.error(request, _("Say why the record should be looked at again."))
    return redirect(reverse("submission", args=[record.submission_id]) + f"#record-{record.pk}")


def _row_answer(request: HttpRequest, submission: Submission, row: BrokenRow, told: str) -> HttpResponse:
    submission.refresh_from_db()
    context = submission_page.page_of(submission) | {"told": told, "with_rest": True, "keep_rows": True}
    context["entry"] = submission_page.row_of(row, submission.datanet) | {"done": bool(told)}
    return render(request, "datanets/contribute/_row_answer.html", context, status=200 if told else 422)


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
