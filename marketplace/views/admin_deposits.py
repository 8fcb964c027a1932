"""Money in: deposits recorded one by one or as a file; large ones wait for a second admin."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import querysets, wallets
from ..errors import MarketplaceError
from ..forms_admin import DepositForm, DepositImportForm, find_user, read_amount
from ..models import Deposit
from ..templatetags import figures
from .admin import address, staff_only


@staff_only
def admin_deposits(request: SignedInRequest) -> HttpResponse:
    """Record a deposit; see all of them."""
    form = DepositForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                deposit = wallets.record_deposit(**form.cleaned_data, by=request.user)
            except MarketplaceError as error:
                form.add_error(None, str(error))
            else:
                messages.success(request, _said(deposit))
                return redirect("admin_deposits")
    return _page(request, form=form, status=status)


@staff_only
@require_POST
def admin_deposit_import(request: HttpRequest) -> HttpResponse:
    """Book the rows of a file, each on its own, and say what became of each."""
    upload = DepositImportForm(request.POST, request.FILES)
    if not upload.is_valid():
        return _page(request, upload=upload, status=422)
    results = [(row, *_book(row, by=request.user)) for row in upload.cleaned_data["file"]]
    done = sum(ok for _row, ok, _text in results)
    messages.success(
        request,
        ngettext("%(n)s deposit was recorded.", "%(n)s deposits were recorded.", done) % {"n": done},
    )
    return _page(request, results=results)


@staff_only
@require_POST
def admin_deposit_approve(request: SignedInRequest, id: UUID) -> HttpResponse:
    """The second pair of eyes."""
    deposit = get_object_or_404(Deposit, pk=id)
    try:
        wallets.approve_deposit(deposit, by=request.user)
    except MarketplaceError as error:
        return _page(request, error=str(error), status=error.status)
    messages.success(request, _("Deposit approved and booked."))
    return redirect("admin_deposits")


def _book(row: dict, *, by) -> tuple[bool, str]:
    try:
        deposit = wallets.record_deposit(
            user=find_user(row.get("handle") or ""),
            amount_nano=read_amount(row.get("amount") or ""),
            external_reference=(row.get("reference") or "")[:120],
            by=by,
        )
    except forms.ValidationError as error:
        return False, " ".join(error.messages)
    except MarketplaceError as error:
        return False, str(error)
    return True, _said(deposit)


def _said(deposit: Deposit) -> str:
    if deposit.status == Deposit.Status.POSTED:
        return _("Deposit of %(amount)s OPEN booked.") % {"amount": figures.open_text(deposit.amount_nano)}
    return _("Deposit of %(amount)s OPEN recorded. Another admin must approve it.") % {
        "amount": figures.open_text(deposit.amount_nano)
    }


def _page(
    request: HttpRequest, *, form=None, upload=None, results=(), error: str = "", status: int = 200
) -> HttpResponse:
    found = Deposit.objects.select_related("user", "recorded_by", "approved_by")
    page = querysets.page_by(
        found, "created_at", after=request.GET.get("after", ""), before=request.GET.get("before", "")
    )
    context = {
        "form": form if form is not None else DepositForm(),
        "upload": upload if upload is not None else DepositImportForm(),
        "results": results,
        "error": error,
        "deposits": page.rows,
        "previous_url": address(before=page.previous) if page.previous else "",
        "next_url": address(after=page.next) if page.next else "",
        "single_max_nano": settings.DEPOSIT_SINGLE_MAX_NANO,
    }
    return render(request, "marketplace/admin/deposits.html", context, status=status)


pages = [
    path("admin-desk/deposits/", admin_deposits, name="admin_deposits"),
    path("admin-desk/deposits/import/", admin_deposit_import, name="admin_deposit_import"),
    path("admin-desk/deposits/<uuid:id>/approve/", admin_deposit_approve, name="admin_deposit_approve"),
]
plain: list = []
