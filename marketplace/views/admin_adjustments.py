"""Money moved by hand: proposed with a written reason by one admin, decided by another."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from accounts.requests import SignedInRequest
from ledger.errors import LedgerError

from .. import adjustments, querysets
from ..errors import MarketplaceError, sentence_of
from ..forms_admin import AdjustmentForm
from ..models import Adjustment
from .admin import address, staff_only

ACTS: dict[str, tuple[Callable[..., Adjustment], object]] = {
    "approve": (adjustments.approve, gettext_lazy("Adjustment approved and booked.")),
    "refuse": (adjustments.refuse, gettext_lazy("Adjustment refused. Nothing moves.")),
}


@staff_only
@require_safe
def admin_adjustments(request: HttpRequest) -> HttpResponse:
    """Propose an adjustment; see all of them."""
    return _page(request, AdjustmentForm())


@staff_only
@reauthentication_required
@require_POST
def admin_adjustment_propose(request: SignedInRequest) -> HttpResponse:
    """Write down what should move and why."""
    form = AdjustmentForm(request.POST)
    if form.is_valid():
        try:
            adjustments.propose(**form.cleaned_data, by=request.user)
        except MarketplaceError as problem:
            form.add_error(None, sentence_of(problem))
        else:
            messages.success(request, _("Adjustment proposed. Another admin must approve it."))
            return redirect("admin_adjustments")
    return _page(request, form, status=422)


@staff_only
@reauthentication_required
@require_POST
def admin_adjustment_decide(request: SignedInRequest, id: UUID, act: str) -> HttpResponse:
    """The second pair of eyes."""
    adjustment = get_object_or_404(Adjustment, pk=id)
    decide, said = ACTS[act]
    try:
        decide(adjustment, by=request.user)
    except (MarketplaceError, LedgerError) as problem:
        messages.error(request, sentence_of(problem))
    else:
        messages.success(request, str(said))
    return redirect("admin_adjustments")


def _page(request: HttpRequest, form: AdjustmentForm, status: int = 200) -> HttpResponse:
    found = Adjustment.objects.select_related("payer", "payee", "proposed_by", "decided_by")
    page = querysets.page_by(
        found, "created_at", after=request.GET.get("after", ""), before=request.GET.get("before", "")
    )
    context = {
        "form": form,
        "adjustments": [
            {"row": row, "payer": _name(row.payer), "payee": _name(row.payee), "acts": _acts(row, request.user)}
            for row in page.rows
        ],
        "previous_url": address(before=page.previous) if page.previous else "",
        "next_url": address(after=page.next) if page.next else "",
    }
    return render(request, "marketplace/admin/adjustments.html", context, status=status)


def _name(person: User | None) -> str:
    return _("The platform") if person is None else person.username


def _acts(adjustment: Adjustment, admin) -> list[tuple[str, str]]:
    """What this admin may do about it: (where, its word)."""
    if adjustment.status != Adjustment.Status.WAITING or admin.pk in (adjustment.payer_id, adjustment.payee_id):
        return []
    if adjustment.proposed_by_id == admin.pk:
        words = {"refuse": _("Take back")}
    else:
        words = {"approve": _("Approve"), "refuse": _("Refuse")}
    return [(reverse(f"admin_adjustment_{act}", args=[adjustment.pk]), word) for act, word in words.items()]


pages = [
    path("admin-desk/adjustments/", admin_adjustments, name="admin_adjustments"),
    path("admin-desk/adjustments/propose/", admin_adjustment_propose, name="admin_adjustment_propose"),
    *(
        path(
            f"admin-desk/adjustments/<uuid:id>/{act}/", admin_adjustment_decide, {"act": act}, f"admin_adjustment_{act}"
        )
        for act in ACTS
    ),
]
