"""Theft disputes: opened from a record's page, read by both parties, decided by two who are none."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from datanets import thefts as data
from datanets.errors import DatanetError, NotAllowed, SelfReview
from datanets.forms import TheftAnswerForm, TheftDecisionForm, TheftForm
from datanets.models import TheftDispute

from .. import thefts
from ..errors import MarketplaceError, sentence_of
from . import explore_record

SHOWN = 50


@login_required
def record_theft(request: SignedInRequest, record_id: int) -> HttpResponse:
    """Say that a record, and others of its contributor, are mine."""
    found = explore_record.find(request, record_id)
    form = TheftForm(request.POST if request.method == "POST" else None, initial={"records": str(found.pk)})
    status = 422 if form.is_bound else 200
    if form.is_valid():
        try:
            dispute = _opened(request, form.cleaned_data)
        except (DatanetError, MarketplaceError) as problem:
            form.add_error(None, sentence_of(problem))
            status = problem.status
        except Http404:
            form.add_error("records", _("There is no such record, or it is not yours to see."))
        else:
            messages.success(request, _("The dispute is open. What is pending of these records is held until it ends."))
            return redirect("theft", dispute.pk)
    context = {"record": found, "datanet": found.datanet, "form": form}
    return render(request, "marketplace/thefts/open.html", context, status=status)


@login_required
@require_GET
def thefts_list(request: SignedInRequest) -> HttpResponse:
    """Disputes I may decide, disputes I opened, and disputes about my records."""
    context = {
        "to_decide": data.to_decide(request.user)[:SHOWN],
        "mine": data.of_party(request.user)[:SHOWN],
    }
    return render(request, "marketplace/thefts/list.html", context)


@login_required
@require_GET
def theft(request: SignedInRequest, dispute_id: UUID) -> HttpResponse:
    """One dispute: what both sides say, how far it is, and what I may do about it."""
    dispute = get_object_or_404(data.seen_by(request.user), pk=dispute_id)
    runs = dispute.status in TheftDispute.RUNNING and dispute.decide_by > data.clock()
    is_contributor, is_claimant = request.user.pk == dispute.contributor_id, request.user.pk == dispute.claimant_id
    context = {
        "dispute": dispute,
        "records": _records(dispute),
        "steps": _steps(dispute),
        "runs": runs,
        "may_answer": runs and is_contributor and not dispute.answer,
        "may_withdraw": runs and is_claimant,
        "may_decide": runs and _may_decide(dispute, request.user),
        # A second decision is made without knowing the first one's reasons.
        "shows_first": dispute.first_by_id is not None
        and (dispute.ended_at is not None or dispute.first_by_id == request.user.pk),
        "held_nano": thefts.held_nano(dispute) if runs and (is_contributor or request.user.is_staff) else None,
        "moved_nano": thefts.moved_nano(dispute) if dispute.status == TheftDispute.Status.WON else None,
    }
    return render(request, "marketplace/thefts/dispute.html", context)


@login_required
@require_POST
def theft_answer(request: SignedInRequest, dispute_id: UUID) -> HttpResponse:
    """Say my side of a dispute about my records."""
    dispute = get_object_or_404(data.seen_by(request.user), pk=dispute_id)
    form = TheftAnswerForm(request.POST)
    if form.is_valid():
        thefts.answer(dispute, by=request.user, text=form.cleaned_data["text"])
        messages.success(request, _("Your answer was sent. Those who decide read it."))
    else:
        messages.error(request, _("Write your answer: it was empty or too long."))
    return redirect("theft", dispute.pk)


@login_required
@require_POST
def theft_decide(request: SignedInRequest, dispute_id: UUID) -> HttpResponse:
    """Uphold a dispute, or dismiss it."""
    dispute = get_object_or_404(data.seen_by(request.user), pk=dispute_id)
    form = TheftDecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose an answer and say why: both parties are sent your note."))
        return redirect("theft", dispute.pk)
    uphold = form.cleaned_data["answer"] == "uphold"
    decided = thefts.decide(dispute, by=request.user, uphold=uphold, note=form.cleaned_data["note"])
    messages.success(
        request,
        {
            TheftDispute.Status.UPHELD: _("You upheld it. It takes a second person; nothing moves before."),
            TheftDispute.Status.WON: _("The dispute is won: what is pending of the records goes to their author."),
            TheftDispute.Status.LOST: _("The dispute is dismissed: what was held is let go."),
        }[TheftDispute.Status(decided.status)],
    )
    return redirect("theft", dispute.pk)


@login_required
@require_POST
def theft_withdraw(request: SignedInRequest, dispute_id: UUID) -> HttpResponse:
    """Take my dispute back."""
    dispute = get_object_or_404(data.seen_by(request.user), pk=dispute_id)
    thefts.withdraw(dispute, by=request.user)
    messages.success(request, _("The dispute is taken back: what it held is let go."))
    return redirect("theft", dispute.pk)


def _opened(request: SignedInRequest, told: dict) -> TheftDispute:
    own = told["own_record"]
    return thefts.open_dispute(
        [explore_record.find(request, number) for number in told["records"][: data.RECORDS_MAX + 1]],
        by=request.user,
        statement=told["statement"],
        evidence=told["evidence"],
        own_record=explore_record.find(request, own) if own else None,
    )


def _may_decide(dispute: TheftDispute, user: User) -> bool:
    try:
        data.require_decider(dispute, user)
    except (NotAllowed, SelfReview):
        return False
    return dispute.first_by_id != user.pk


def _records(dispute: TheftDispute) -> QuerySet:
    return dispute.records.select_related("record").order_by("record_id").defer("record__signature", "record__bands")


def _steps(dispute: TheftDispute) -> list[dict]:
    """What happened, and what comes."""
    steps = [{"text": _("Opened"), "at": dispute.opened_at, "state": "done"}]
    if dispute.answered_at:
        steps.append({"text": _("Answered by the contributor"), "at": dispute.answered_at, "state": "done"})
    if dispute.first_by_id:
        steps.append({"text": _("Upheld by a first person"), "note": _("a second one is needed"), "state": "done"})
    if dispute.ended_at:
        state = "bad" if dispute.status == TheftDispute.Status.LAPSED else "done"
        steps.append({"text": dispute.get_status_display(), "at": dispute.ended_at, "state": state})
    else:
        steps.append({"text": _("To be decided by"), "at": dispute.decide_by, "state": "now"})
    return steps


pages = [
    path("records/<int:record_id>/theft/", record_theft, name="record_theft"),
    path("thefts/", thefts_list, name="thefts"),
    path("thefts/<uuid:dispute_id>/", theft, name="theft"),
    path("thefts/<uuid:dispute_id>/answer/", theft_answer, name="theft_answer"),
    path("thefts/<uuid:dispute_id>/decide/", theft_decide, name="theft_decide"),
    path("thefts/<uuid:dispute_id>/withdraw/", theft_withdraw, name="theft_withdraw"),
]
plain: list = []
