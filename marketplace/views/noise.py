"""Noise cases: read by who sent the rows, decided by somebody who is not told who that is."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from attribution import noise_cases as data
from attribution.models import NoiseCase
from datanets.errors import NotAllowed, SelfReview
from datanets.views import reading

from .. import noise_cases
from ..forms_noise import NoiseDecisionForm, NoiseTextForm
from ..models import ListedModel

SHOWN = 50
ROWS_SHOWN = 20
Status = NoiseCase.Status


@login_required
@require_GET
def noise_cases_list(request: SignedInRequest) -> HttpResponse:
    """Cases I may decide, cases about my records, and for administrators all of them."""
    everybodys = NoiseCase.objects.select_related("datanet__owner").order_by("-opened_at", "pk")
    context = {
        "to_decide": data.to_decide(request.user)[:SHOWN],
        "mine": data.of_contributor(request.user)[:SHOWN],
        "everybodys": everybodys[:SHOWN] if request.user.is_staff else None,
    }
    return render(request, "marketplace/noise/list.html", context)


@login_required
@require_GET
def noise_case(request: SignedInRequest, case_id: UUID) -> HttpResponse:
    """One case: the figures, some of the rows, what was said, and what I may do about it."""
    case = get_object_or_404(data.seen_by(request.user), pk=case_id)
    runs = case.ended_at is None and case.due_at > timezone.now()
    is_mine = request.user.pk == case.contributor_id
    context = {
        "case": case,
        "model": ListedModel.objects.select_related("owner").get(pk=case.model_id),
        "readings": _rows(case, request.user),
        "row_count": case.figures["rows"],
        "steps": _steps(case),
        "runs": runs,
        "is_mine": is_mine,
        "may_state": runs and is_mine and case.status == Status.OPEN and case.stated_at is None,
        "may_appeal": runs and is_mine and case.status == Status.UPHELD,
        "may_decide": runs and case.status in (Status.OPEN, Status.APPEALED) and _may_decide(case, request.user),
        "held_nano": noise_cases.held_nano(case) if is_mine and case.ended_at is None else None,
        "returned_nano": noise_cases.returned_nano(case) if case.status == Status.RETURNED and is_mine else None,
        # Who appeals is heard by somebody who has not read the first reasons.
        "shows_first": is_mine or case.ended_at is not None or request.user.pk == case.decided_by_id,
    }
    return render(request, "marketplace/noise/case.html", context)


@login_required
@require_POST
def noise_state(request: SignedInRequest, case_id: UUID) -> HttpResponse:
    """Say my side of it."""
    return _write(
        request, case_id, noise_cases.state, _("Your statement was sent. Whoever decides reads it, without your name.")
    )


@login_required
@require_POST
def noise_decide(request: SignedInRequest, case_id: UUID) -> HttpResponse:
    """Say whether the rows are noise: the first decision, or the answer to an appeal."""
    case = get_object_or_404(data.seen_by(request.user), pk=case_id)
    form = NoiseDecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose an answer and say why: the contributor is sent your note."))
        return redirect("noise_case", case.pk)
    uphold = form.cleaned_data["answer"] == "uphold"
    decided = noise_cases.decide(case, by=request.user, uphold=uphold, note=form.cleaned_data["note"])
    messages.success(
        request,
        {
            Status.UPHELD: _("You said that they are noise. Nothing is taken before the time to appeal is over."),
            Status.RETURNED: _("The decision stands: what is held of the records goes to nobody."),
            Status.CLEARED: _("The records are cleared: what was held is let go."),
        }[Status(decided.status)],
    )
    return redirect("noise_case", case.pk)


@login_required
@require_POST
def noise_appeal(request: SignedInRequest, case_id: UUID) -> HttpResponse:
    """Ask for a second look by somebody else."""
    return _write(
        request,
        case_id,
        noise_cases.appeal,
        _("Your appeal was sent. Somebody else decides, and nothing is taken before."),
    )


def _write(request: SignedInRequest, case_id: UUID, act: Callable[..., NoiseCase], sent: str) -> HttpResponse:
    """Hand the contributor's text to a service, and tell them that it was `sent`."""
    case = get_object_or_404(data.seen_by(request.user), pk=case_id)
    form = NoiseTextForm(request.POST)
    if form.is_valid():
        act(case, by=request.user, text=form.cleaned_data["text"])
        messages.success(request, sent)
    else:
        messages.error(request, _("Write your answer: it was empty or too long."))
    return redirect("noise_case", case.pk)


def _rows(case: NoiseCase, viewer: User) -> list[reading.Reading]:
    """Some of the rows, numbered anew: neither their numbers nor their places tell whose they are."""
    rows = list(data.records_of(case).defer("signature", "bands")[:ROWS_SHOWN])
    unmarked: dict[int, list] = {row.pk: [] for row in rows}
    shown = reading.read(rows, datanet=case.datanet, viewer=viewer, with_leaders=False, findings=unmarked)
    for place, each in enumerate(shown, start=1):
        each.record.position = place
    return shown


def _may_decide(case: NoiseCase, user: User) -> bool:
    try:
        data.require_decider(case, user)
    except (NotAllowed, SelfReview):
        return False
    return True


def _steps(case: NoiseCase) -> list[dict]:
    """What happened, and what comes."""
    steps = [{"text": _("Opened by the rule"), "at": case.opened_at, "state": "done"}]
    if case.stated_at:
        steps.append({"text": _("Answered by the contributor"), "at": case.stated_at, "state": "done"})
    if case.decided_by_id and not (case.status == Status.CLEARED and case.appealed_at is None):
        steps.append({"text": _("Noise, says a first person"), "at": case.decided_at, "state": "done"})
    if case.appealed_at:
        steps.append({"text": _("Appealed"), "at": case.appealed_at, "state": "done"})
    if case.ended_at:
        state = "bad" if case.status == Status.LAPSED else "done"
        steps.append({"text": case.get_status_display(), "at": case.ended_at, "state": state})
    else:
        text = _("To be appealed by") if case.status == Status.UPHELD else _("To be decided by")
        steps.append({"text": text, "at": case.due_at, "state": "now"})
    return steps


pages = [
    path("noise/", noise_cases_list, name="noise_cases"),
    path("noise/<uuid:case_id>/", noise_case, name="noise_case"),
    path("noise/<uuid:case_id>/statement/", noise_state, name="noise_state"),
    path("noise/<uuid:case_id>/decide/", noise_decide, name="noise_decide"),
    path("noise/<uuid:case_id>/appeal/", noise_appeal, name="noise_appeal"),
]
