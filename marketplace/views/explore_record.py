"""One record: where it comes from, what was found, what it earned, and if nothing, why."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from attribution import explain_records
from datanets import media, records, sentences, thefts
from datanets import services as datanets
from datanets.columns import columns_of
from datanets.models import Datanet, Record

from .. import earnings, publishing
from .explanations import why_sentence, zeros_shown


def record(request: HttpRequest, record_id: int) -> HttpResponse:
    """One record: where it comes from, what was found, what it earned, and if nothing, the one reason."""
    found = find(request, record_id)
    pool = found.datanet
    is_mine = request.user.pk == found.contributor_id
    curates = not is_mine and datanets.can_curate(request.user, pool)
    insider = is_mine or curates
    readable = records.can_see(request.user, found, curates=curates)
    explanation = explain_records.why_record(found)
    sees_earnings = earnings.are_known_to(request.user, found, curates=curates)
    columns = columns_of(pool.kind, pool.schema)
    content = found.body if readable and hasattr(found, "body") else None
    body = content.body if content else {}
    context = {
        "record": found,
        "datanet": pool,
        "readable": readable,
        "insider": insider,
        "is_mine": is_mine,
        "may_take_down": records.may_take_down(request.user, found),
        "values": [(column.name, body.get(column.name), column.type == "text") for column in columns] if body else [],
        "picture_url": media.url_of(content.media_key) if content and content.media_key else "",
        "versions": records.versions_with(found).select_related("datanet"),
        "checks": [_finding(result) for result in found.check_results.order_by("check_name")] if insider else [],
        "sees_earnings": sees_earnings,
        "earned": explanation if sees_earnings else None,
        "was_paid": explanation.earned_nano > 0 and sees_earnings,
        "why": why_sentence(explanation, found, in_figures=sees_earnings),
        "zeros": zeros_shown(explanation.zeros, request.user) if sees_earnings else [],
        "leader_id": explanation.leader_id,
        "copies": found.copies.count(),
        "reported": request.user.is_authenticated
        and found.reports.filter(reporter=request.user).order_by("-created_at").first(),
        "may_dispute": request.user.pk != found.contributor_id
        and found.status in (Record.Status.APPROVED, Record.Status.WITHDRAWN),
        "theft": thefts.about(found, seen_by_user=request.user) if request.user.is_authenticated else None,
        "lines": found.lines.select_related("epoch").order_by("-amount_nano")[:10] if insider else [],
    }
    return render(request, "marketplace/explore/record.html", context)


@login_required
@require_POST
def record_withdraw(request: SignedInRequest, record_id: int) -> HttpResponse:
    """Take a record back."""
    found = find(request, record_id)
    publishing.withdraw_record(found, by=request.user)
    messages.success(
        request, _("The record is withdrawn: no new answer quotes it, and the next version leaves it out.")
    )
    return redirect("record", record_id)


def find(request: HttpRequest, record_id: int) -> Record:
    """A record one may know of: approved or withdrawn ones of visible Datanets; others for insiders only."""
    public = Q(status__in=[Record.Status.APPROVED, Record.Status.WITHDRAWN])
    insider = Q(contributor=request.user.pk) | Q(datanet__in=Datanet.objects.curated_by(request.user))
    return get_object_or_404(
        Record.objects.defer("signature", "bands").select_related(
            "datanet__owner", "submission", "contributor", "body"
        ),
        public | insider,
        pk=record_id,
        datanet__in=Datanet.objects.visible_to(request.user),
    )


def _finding(result) -> dict:
    shown = {"pass": ("ok", _("passed")), "info": ("skip", _("note")), "flag": ("warn", _("flagged"))}
    state, word = shown.get(result.severity, ("bad", _("failed")))
    return {
        "name": sentences.title_of_check(result.check_name),
        "result": state,
        "word": word,
        "text": sentences.of_finding(result.code, result.params),
    }


pages = [
    path("records/<int:record_id>/", record, name="record"),
    path("records/<int:record_id>/withdraw/", record_withdraw, name="record_withdraw"),
]
plain: list = []
