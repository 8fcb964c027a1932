"""Refunds and disputes for the people in them: a buyer contests a call, its developer answers, or refunds it unasked."""

from __future__ import annotations

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from ledger import services as ledger

from .. import disputes, querysets, refunds, roles
from ..errors import MarketplaceError, sentence_of
from ..forms_refunds import FindCallForm, ReasonForm
from ..models import Call, Dispute
from . import explore

DISPUTES_SHOWN = 50


@login_required
def my_refunds(request: SignedInRequest) -> HttpResponse:
    """Disputes to answer, disputes of mine, and every refund I am in."""
    find = FindCallForm(request.GET if "call" in request.GET else None)
    if find.is_valid():
        mine = Call.objects.filter(pk=find.cleaned_data["call"], model__owner=request.user)
        if mine.exists():
            return redirect("call_refund", find.cleaned_data["call"])
        find.add_error("call", _("None of your models was called with this id."))
    page = querysets.page_by(
        refunds.seen_by(request.user),
        "created_at",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    found = disputes.seen_by(request.user).order_by("-opened_at")
    context = {
        "find": find,
        "sells": request.user.models.exists(),
        "to_answer": found.filter(call__model__owner=request.user, status__in=Dispute.STANDING)[:DISPUTES_SHOWN],
        "disputes": found.filter(roles.bought_by(request.user, prefix="call__"))[:DISPUTES_SHOWN],
        "refunds": page.rows,
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
    }
    return render(request, "marketplace/refunds/refunds.html", context, status=422 if find.errors else 200)


@login_required
def call_dispute(request: SignedInRequest, call_id: UUID) -> HttpResponse:
    """Contest one of my calls, with a reason."""
    call = get_object_or_404(_calls().filter(roles.bought_by(request.user)), pk=call_id)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            disputes.open_dispute(call, by=request.user, reason=form.cleaned_data["reason"])
        except MarketplaceError as problem:
            form.add_error(None, sentence_of(problem))
        else:
            messages.success(request, _("The dispute is open. What the call paid is held until it ends."))
            return redirect("refunds")
    return _page_of_call(request, call, form, act="dispute")


@login_required
@reauthentication_required
def call_refund(request: SignedInRequest, call_id: UUID) -> HttpResponse:
    """Give back a call to one of my models, whole; after its window out of my wallet."""
    call = get_object_or_404(_calls().filter(model__owner=request.user), pk=call_id)
    form = ReasonForm(request.POST or None)
    in_time = refunds.can_be_refunded(call)
    if request.method == "POST" and form.is_valid():
        try:
            # What the page said counts: whose window ends meanwhile is told so, and pays nothing unasked.
            act = refunds.pay_back if request.POST.get("from_wallet") else refunds.give_back
            act(call, by=request.user, reason=form.cleaned_data["reason"])
        except (MarketplaceError, ledger.LedgerError) as problem:
            form.add_error(None, sentence_of(problem))
        else:
            messages.success(request, _("The call is refunded: the whole price went back to who paid it."))
            return redirect("refunds")
    return _page_of_call(request, call, form, act="refund" if in_time else "pay_back")


@login_required
@reauthentication_required
@require_POST
def dispute_act(request: SignedInRequest, dispute_id: UUID, act: str) -> HttpResponse:
    """accept or refuse a dispute about my model; withdraw one of mine."""
    dispute = get_object_or_404(disputes.seen_by(request.user), pk=dispute_id)
    try:
        if act == "accept":
            disputes.accept(dispute, by=request.user)
            messages.success(request, _("The call is refunded: the whole price went back to who paid it."))
        elif act == "refuse":
            disputes.refuse(dispute, by=request.user, answer=request.POST.get("reason", ""))
            messages.success(request, _("Your answer is sent. Admins decide now."))
        elif act == "withdraw":
            disputes.withdraw(dispute, by=request.user)
            messages.success(request, _("The dispute is withdrawn. Nothing is held for it any more."))
        else:
            raise Http404
    except (MarketplaceError, ledger.LedgerError) as problem:
        messages.error(request, sentence_of(problem))
    return redirect("refunds")


def _page_of_call(request: HttpRequest, call: Call, form: ReasonForm, *, act: str) -> HttpResponse:
    context = {"call": call, "form": form, "act": act, "window_ends": refunds.window_ends(call)}
    if act == "pay_back":
        form.fields["from_wallet"] = forms.CharField(widget=forms.HiddenInput, initial="1", required=False)
    return render(request, "marketplace/refunds/call.html", context, status=422 if form.errors else 200)


def _calls():
    return Call.objects.select_related("version__model__owner", "model__owner")


pages = [
    path("build/refunds/", my_refunds, name="refunds"),
    path("build/calls/<uuid:call_id>/dispute/", call_dispute, name="call_dispute"),
    path("build/calls/<uuid:call_id>/refund/", call_refund, name="call_refund"),
    path("build/disputes/<uuid:dispute_id>/<slug:act>/", dispute_act, name="dispute_act"),
]
plain: list = []
