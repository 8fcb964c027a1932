"""A record is reported from its page; the curators of its Datanet decide."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.requests import SignedInRequest
from datanets import reports
from datanets import services as datanets
from datanets.errors import DatanetError
from datanets.forms import ReportAnswerForm, ReportForm
from datanets.views import reading
from datanets.views.review import NO_CURATOR

from .. import publishing
from . import explore_record

REPORTS_SHOWN = 20


@login_required
def record_report(request: SignedInRequest, record_id: int) -> HttpResponse:
    """Say why a record should not be there."""
    found = explore_record.find(request, record_id)
    form = ReportForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            publishing.report_record(found, by=request.user, **form.cleaned_data)
        except DatanetError as problem:
            form.add_error(None, str(problem))
            return _form(request, found, form, status=problem.status)
        messages.success(request, _("Your report was sent to the curators."))
        return redirect("record", record_id)
    return _form(request, found, form, status=422 if form.is_bound else 200)


@login_required
@require_GET
def review_reports(request: SignedInRequest) -> HttpResponse:
    """Reports this curator may decide on, without the names of those who sent them."""
    if not datanets.curates_any(request.user):
        raise PermissionDenied(NO_CURATOR)
    found = list(
        reports.open_reports(request.user).select_related("record__datanet__owner", "record__body")[:REPORTS_SHOWN]
    )
    shown = reading.read([each.record for each in found], viewer=request.user)
    entries = [{"report": each, "reading": read} for each, read in zip(found, shown, strict=True)]
    return render(request, "datanets/review/reports.html", {"entries": entries})


@login_required
@require_POST
def review_report(request: SignedInRequest, report_id) -> HttpResponse:
    """Keep a reported record, or withdraw it."""
    report = get_object_or_404(reports.open_reports(request.user), pk=report_id)
    form = ReportAnswerForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose an answer and say why: both parties are sent your note."))
        return redirect(reverse("review_reports") + f"#report-{report.pk}")
    withdraw = form.cleaned_data["answer"] == "withdraw"
    publishing.decide_report(report, by=request.user, withdraw=withdraw, note=form.cleaned_data["note"])
    messages.success(request, _("The record was withdrawn.") if withdraw else _("The record stays."))
    return redirect("review_reports")


def _form(request: HttpRequest, record, form: ReportForm, *, status: int) -> HttpResponse:
    context = {"record": record, "datanet": record.datanet, "form": form}
    return render(request, "marketplace/explore/record_report.html", context, status=status)


pages = [
    path("records/<int:record_id>/report/", record_report, name="record_report"),
    path("review/reports/", review_reports, name="review_reports"),
    path("review/reports/<uuid:report_id>/", review_report, name="review_report"),
]
plain: list = []
