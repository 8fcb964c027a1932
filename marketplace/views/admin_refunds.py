"""The admins' side of refunds: disputes to decide, second approvals, and earnings held or let go with a written reason."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.requests import SignedInRequest
from ledger import chart
from ledger import services as ledger

from .. import disputes, holds, refunds
from ..errors import MarketplaceError, sentence_of
from ..forms_refunds import FindCallForm, HoldForm, ReasonForm
from ..models import Call, Dispute, LotHold, Refund
from .admin import staff_only

ROWS_SHOWN = 100


@staff_only
@require_safe
def admin_refunds(request: HttpRequest) -> HttpResponse:
    """What waits for an admin, what is held, and one person's pending earnings."""
    find = FindCallForm(request.GET if "call" in request.GET else None)
    if find.is_valid():
        if Call.objects.filter(pk=find.cleaned_data["call"]).exists():
            return redirect("admin_call_refund", find.cleaned_data["call"])
        find.add_error("call", _("There is no call with this id."))
    handle = request.GET.get("handle", "").strip()
    payee = User.objects.filter(username=handle).first() if handle else None
    waiting = Refund.objects.filter(status=Refund.Status.WAITING).select_related("call__model__owner", "first_admin")
    context = {
        "find": find,
        "to_decide": disputes.to_decide().order_by("answered_at")[:ROWS_SHOWN],
        "waiting": waiting.order_by("-created_at")[:ROWS_SHOWN],
        "holds": holds.listed().order_by("-placed_at")[:ROWS_SHOWN],
        "handle": handle,
        "payee": payee,
        "lots": _lots_of(payee) if payee else [],
    }
    return render(request, "marketplace/admin/refunds.html", context, status=422 if find.errors else 200)


@staff_only
@reauthentication_required
def admin_call_refund(request: SignedInRequest, call_id: UUID) -> HttpResponse:
    """Give one of the two approvals of a refund."""
    call = get_object_or_404(Call.objects.select_related("version__model__owner", "model__owner", "buyer"), pk=call_id)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            refund = refunds.approve(call, by=request.user, reason=form.cleaned_data["reason"])
        except (MarketplaceError, ledger.LedgerError) as problem:
            form.add_error(None, sentence_of(problem))
        else:
            if refund.is_made:
                messages.success(request, _("The call is refunded: the whole price went back to who paid it."))
            else:
                messages.success(request, _("Your approval counts. Another admin must give the second."))
            return redirect("admin_refunds")
    context = {
        "call": call,
        "form": form,
        "act": "approve",
        "window_ends": refunds.window_ends(call),
        "refund": Refund.objects.filter(call=call).select_related("first_admin").first(),
    }
    return render(request, "marketplace/refunds/call.html", context, status=422 if form.errors else 200)


@staff_only
@reauthentication_required
@require_POST
def admin_dispute_keep(request: SignedInRequest, dispute_id: UUID) -> HttpResponse:
    """Decide that a disputed charge stands."""
    dispute = get_object_or_404(Dispute, pk=dispute_id)
    try:
        disputes.keep(dispute, by=request.user, decision=request.POST.get("reason", ""))
    except MarketplaceError as problem:
        messages.error(request, sentence_of(problem))
    else:
        messages.success(request, _("The charge stands. Both sides are told why."))
    return redirect("admin_refunds")


@staff_only
@reauthentication_required
@require_POST
def admin_lot_hold(request: SignedInRequest) -> HttpResponse:
    """Keep a lot of somebody's earnings from vesting."""
    form = HoldForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Give a reason, and a time or none. Nothing was changed."))
        return redirect("admin_refunds")
    given = form.cleaned_data
    until = given["until"].replace(tzinfo=UTC) if given["until"] else None
    try:
        holds.hold(given["lot"], by=request.user, reason=given["reason"], until=until)
    except MarketplaceError as problem:
        messages.error(request, sentence_of(problem))
    else:
        messages.success(request, _("The lot is held. Its payee sees the reason."))
    return redirect("admin_refunds")


@staff_only
@reauthentication_required
@require_POST
def admin_lot_release(request: SignedInRequest, hold_id: UUID) -> HttpResponse:
    """Let go what an admin held."""
    held = get_object_or_404(LotHold, pk=hold_id)
    try:
        holds.release(held, by=request.user, reason=request.POST.get("reason", ""))
    except MarketplaceError as problem:
        messages.error(request, sentence_of(problem))
    else:
        messages.success(request, _("The lot is released: it vests when it is due."))
    return redirect("admin_refunds")


def _lots_of(payee: User) -> list[tuple[ledger.LotRow, HoldForm]]:
    """A person's open lots, each with the form that holds it."""
    lots = ledger.pending_of(chart.pending(payee.pk))[:ROWS_SHOWN]
    return [(lot, HoldForm(initial={"lot": lot.id}, auto_id=f"id_{lot.id}_%s")) for lot in lots]


pages = [
    path("admin-desk/refunds/", admin_refunds, name="admin_refunds"),
    path("admin-desk/refunds/calls/<uuid:call_id>/", admin_call_refund, name="admin_call_refund"),
    path("admin-desk/refunds/disputes/<uuid:dispute_id>/keep/", admin_dispute_keep, name="admin_dispute_keep"),
    path("admin-desk/refunds/holds/", admin_lot_hold, name="admin_lot_hold"),
    path("admin-desk/refunds/holds/<uuid:hold_id>/release/", admin_lot_release, name="admin_lot_release"),
]
plain: list = []
