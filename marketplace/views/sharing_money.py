"""Money into a shared wallet and out of it."""

from __future__ import annotations

from uuid import UUID, uuid4

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from ledger import services as ledger

from .. import sharing, wallets
from ..errors import MarketplaceError, sentence_of
from ..forms_earn import DestinationForm, WithdrawalForm
from ..forms_sharing import FundForm
from ..models import PayoutDestination, Role, Withdrawal
from ..templatetags import figures
from .sharing import HERE, member_of


@login_required
@reauthentication_required
def shared_wallet_fund(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """Move money from my own wallet into it."""
    me = member_of(request, wallet_id, Role.OWNER, Role.SPENDER)
    form = FundForm(request.POST or None, initial={"reference": uuid4().hex})
    if request.method == "POST" and form.is_valid():
        try:
            moved = sharing.transfer(me.wallet, by=request.user, **form.cleaned_data)
        except (MarketplaceError, ledger.InsufficientFunds) as problem:
            form.add_error("amount_nano", sentence_of(problem))
        else:
            amount = figures.open_text(moved.amount_nano)
            messages.success(request, _("%(amount)s OPEN are moved.") % {"amount": amount})
            return redirect("shared_wallet", wallet_id)
    context = {"wallet": me.wallet, "form": form, "available_nano": wallets.summary(request.user).available_nano}
    return render(request, "marketplace/wallet/fund.html", context, status=422 if form.errors else 200)


@login_required
@reauthentication_required
def shared_wallet_withdraw(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """Ask for money out of it, as an owner."""
    me = member_of(request, wallet_id, Role.OWNER)
    account = me.wallet.account
    form = WithdrawalForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            wallets.request_withdrawal(account, amount_nano=form.cleaned_data["amount_nano"], by=request.user)
        except (MarketplaceError, ledger.InsufficientFunds) as problem:
            form.add_error("amount_nano", sentence_of(problem))
        else:
            messages.success(request, _("The withdrawal is requested."))
            return redirect("shared_wallet", wallet_id)
    context = {
        "form": form,
        "wallet": me.wallet,
        "available_nano": wallets.summary(account).available_nano,
        "destination": PayoutDestination.objects.filter(user=account).first(),
        "now": timezone.now(),
    }
    return render(request, "marketplace/wallet/withdraw.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def shared_wallet_cancel(request: SignedInRequest, wallet_id: UUID, withdrawal_id: UUID) -> HttpResponse:
    """Take a withdrawal of it back, as an owner."""
    me = member_of(request, wallet_id, Role.OWNER)
    withdrawal = get_object_or_404(Withdrawal, pk=withdrawal_id, user=me.wallet.account)
    wallets.cancel_withdrawal(withdrawal, by=request.user)
    messages.success(request, _("Withdrawal cancelled. The amount is available again."))
    return redirect("shared_wallet", wallet_id)


@login_required
@reauthentication_required
def shared_wallet_payout(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """Where its withdrawals go, as an owner."""
    me = member_of(request, wallet_id, Role.OWNER)
    form = DestinationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            saved = wallets.set_destination(me.wallet.account, by=request.user, **form.cleaned_data)
        except MarketplaceError as problem:
            form.add_error("details", sentence_of(problem))
        else:
            messages.success(request, _("Payout destination %(hint)s saved.") % {"hint": saved.hint})
            return redirect("shared_wallet", wallet_id)
    context = {
        "form": form,
        "wallet": me.wallet,
        "destination": PayoutDestination.objects.filter(user=me.wallet.account).first(),
        "wait_hours": settings.PAYOUT_CHANGE_WAIT_S // 3600,
        "now": timezone.now(),
    }
    return render(request, "marketplace/wallet/destination.html", context, status=422 if form.errors else 200)


pages = [
    path(f"{HERE}fund/", shared_wallet_fund, name="shared_wallet_fund"),
    path(f"{HERE}withdraw/", shared_wallet_withdraw, name="shared_wallet_withdraw"),
    path(f"{HERE}withdrawals/<uuid:withdrawal_id>/cancel/", shared_wallet_cancel, name="shared_wallet_cancel"),
    path(f"{HERE}payout/", shared_wallet_payout, name="shared_wallet_payout"),
]
plain: list = []
