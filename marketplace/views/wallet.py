"""The wallet: what is in it, how it got there, and the way out. Money leaves after re-authentication only."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from uuid import UUID, uuid4

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, re_path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from ledger import services as ledger

from .. import adjustments, holds, movements, promotion, statements, wallets, watching
from ..errors import MarketplaceError, sentence_of
from ..forms_earn import DestinationForm, LowBalanceForm, PromotionForm, WithdrawalForm
from ..forms_explore import amount_text
from ..models import Access, ListedModel, PayoutDestination, PromotionTransfer, Withdrawal
from ..templatetags import figures

STATEMENT_ROWS = 50
FILE_LABELS = {"csv": "CSV", "parquet": "Parquet"}
WITHDRAWALS_SHOWN = 50


@login_required
def wallet(request: SignedInRequest) -> HttpResponse:
    """Balance, statement, withdrawals and passes."""
    return _wallet_page(request)


def _wallet_page(
    request: SignedInRequest, *, low_form: LowBalanceForm | None = None, status: int = 200
) -> HttpResponse:
    user = User.objects.select_related("payout_destination", "wallet_watch").get(pk=request.user.pk)
    destination: PayoutDestination | None = getattr(user, "payout_destination", None)
    context = _statement(request, "wallet") | {
        "stats": _stats(user),
        "withdrawals": Withdrawal.objects.filter(user=user)
        .select_related("run")
        .order_by("-created_at", "-pk")[:WITHDRAWALS_SHOWN],
        "destination": destination,
        "destination_waits": destination is not None and destination.usable_from > timezone.now(),
        "passes": Access.objects.filter(buyer=user).select_related("model__owner").order_by("-starts_at")[:20],
        "now": timezone.now(),
        "test_deposit_nano": wallets.TEST_DEPOSIT_NANO if settings.DEMO_STATE else 0,
        "low_form": low_form or low_balance_form(user),
    }
    return render(request, "marketplace/wallet/wallet.html", context, status=status)


def low_balance_form(account: User) -> LowBalanceForm:
    """The form that says below which balance the owners of a wallet are told, with what they said last."""
    low_nano = account.wallet_watch.low_nano if hasattr(account, "wallet_watch") else None
    return LowBalanceForm(initial={"low": low_nano and amount_text(low_nano)})


@login_required
@require_POST
def wallet_test_deposit(request: SignedInRequest) -> HttpResponse:
    """Play money, in a demo only."""
    wallets.test_deposit(request.user)
    messages.success(request, _("The test deposit is booked. It can be spent in a moment."))
    return redirect("wallet")


@login_required
@require_POST
def wallet_low(request: SignedInRequest) -> HttpResponse:
    """Say below which balance to be told."""
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        return _wallet_page(request, low_form=form, status=422)
    watching.set_low_balance(request.user, low_nano=form.cleaned_data["low"], by=request.user)
    messages.success(request, _("You are told of an empty wallet in any case, and of a low one as you said."))
    return redirect("wallet")


@login_required
@reauthentication_required
def wallet_withdraw(request: SignedInRequest) -> HttpResponse:
    """Ask for money out."""
    form = WithdrawalForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                withdrawal = wallets.request_withdrawal(request.user, amount_nano=form.cleaned_data["amount_nano"])
            except ledger.InsufficientFunds:
                form.add_error("amount_nano", _("Your wallet has less available. Nothing was changed."))
            except MarketplaceError as error:
                form.add_error(None, str(error))
            else:
                amount = figures.open_text(withdrawal.amount_nano)
                messages.success(request, _("Withdrawal of %(amount)s OPEN requested.") % {"amount": amount})
                return redirect("wallet")
    context = {
        "form": form,
        "available_nano": wallets.summary(request.user).available_nano,
        "destination": PayoutDestination.objects.filter(user=request.user).first(),
        "now": timezone.now(),
    }
    return render(request, "marketplace/wallet/withdraw.html", context, status=status)


@login_required
@require_POST
def wallet_cancel(request: SignedInRequest, id: UUID) -> HttpResponse:
    """Take a withdrawal back before a payout run took it."""
    withdrawal = get_object_or_404(Withdrawal, pk=id, user=request.user)
    wallets.cancel_withdrawal(withdrawal, by=request.user)
    messages.success(request, _("Withdrawal cancelled. The amount is available again."))
    return redirect("wallet")


@login_required
@reauthentication_required
def wallet_promotion(request: SignedInRequest) -> HttpResponse:
    """What pays the free calls of my models: set money aside, take it back, see where it went."""
    form = PromotionForm(request.POST or None, initial={"reference": uuid4().hex})
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            given = form.cleaned_data
            is_funding = given.pop("direction") == PromotionTransfer.Direction.FUND
            try:
                moved = (promotion.fund if is_funding else promotion.take_back)(request.user, **given)
            except (MarketplaceError, ledger.InsufficientFunds) as problem:
                form.add_error("amount_nano", sentence_of(problem))
            else:
                said = (
                    _("%(amount)s OPEN set aside for free calls.")
                    if is_funding
                    else _("%(amount)s OPEN are back in your wallet.")
                )
                messages.success(request, said % {"amount": figures.open_text(moved.amount_nano)})
                return redirect("wallet_promotion")
    context = _statement(request, "promotion") | {
        "form": form,
        "wallet_nano": wallets.summary(request.user).available_nano,
        "promotion": promotion.summary(request.user),
        "offering": ListedModel.objects.filter(owner=request.user, free_calls_per_day__gt=0)
        .select_related("owner")
        .order_by("slug"),
    }
    return render(request, "marketplace/wallet/promotion.html", context, status=status)


@login_required
def wallet_pending(request: SignedInRequest) -> HttpResponse:
    """What waits for its window to end: each arrival, and each move into the wallet."""
    lots = statements.waiting(request.user)
    context = _statement(request, "pending") | {
        "money": wallets.summary(request.user, lots=lots),
        "held": [(lot, holds.sentence(lot)) for lot in lots if lot.state == "held"],
    }
    return render(request, "marketplace/wallet/pending.html", context)


@login_required
def wallet_statement(request: SignedInRequest, account: str, fmt: str) -> HttpResponseBase:
    """Every movement of one account as a file."""
    return statement_file(movements.account_of(request.user, account), name=account, fmt=fmt)


@login_required
@reauthentication_required
def settings_payout(request: SignedInRequest) -> HttpResponse:
    """Where withdrawals go. A change waits before it counts."""
    form = DestinationForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                destination = wallets.set_destination(request.user, **form.cleaned_data)
            except MarketplaceError as error:
                form.add_error("details", str(error))
            else:
                messages.success(request, _("Payout destination %(hint)s saved.") % {"hint": destination.hint})
                return redirect("wallet")
    context = {
        "form": form,
        "destination": PayoutDestination.objects.filter(user=request.user).first(),
        "wait_hours": settings.PAYOUT_CHANGE_WAIT_S // 3600,
        "now": timezone.now(),
    }
    return render(request, "marketplace/wallet/destination.html", context, status=status)


def movement_label(kind: ledger.Kind) -> str:
    """What a line of a wallet's statement is, in a word."""
    return {
        ledger.Kind.DEPOSIT: _("Deposit"),
        ledger.Kind.WITHDRAWAL_IN_RUN: _("Withdrawal, in a payout run"),
        ledger.Kind.WITHDRAWAL_CONFIRMED: _("Withdrawal confirmed"),
        ledger.Kind.WITHDRAWAL_RETURNED: _("Withdrawal returned"),
        ledger.Kind.CALL_CHARGED: _("Call"),
        ledger.Kind.ACCESS_CHARGED: _("Pass"),
        ledger.Kind.TRAINING_CHARGED: _("Training run"),
        ledger.Kind.SETTLEMENT: _("Settlement"),
        ledger.Kind.VESTING: _("Earnings available"),
        ledger.Kind.REFUND: _("Refund"),
        ledger.Kind.ADJUSTMENT: _("Adjustment"),
        ledger.Kind.UNATTRIBUTED_RELEASED: _("Unattributed money released"),
        ledger.Kind.PROMOTION_FUNDED: _("Free calls funded"),
        ledger.Kind.PROMOTION_RETURNED: _("Free calls: money taken back"),
        ledger.Kind.WALLET_FUNDED: _("Moved into a shared wallet"),
        ledger.Kind.TEST_GRANTED: _("Test money"),
        ledger.Kind.TEST_CHARGED: _("Test call"),
    }[kind]


def _statement(request: SignedInRequest, account: str) -> dict:
    """One page of the movements of one of a person's accounts, newest first."""
    urls = {fmt: reverse("wallet_statement", args=[account, fmt]) for fmt in FILE_LABELS}
    return statement_context(request, movements.account_of(request.user, account), urls)


def statement_context(request: HttpRequest, code: str, file_urls: Mapping[str, str]) -> dict:
    """What `wallet/_statement.html` shows: one page of an account's movements, newest first, and its files."""
    after = request.GET.get("after", "")
    found = movements.page(code, after=after, limit=STATEMENT_ROWS)
    by_hand = [row.posting_id for row in found.rows if row.kind == ledger.Kind.ADJUSTMENT]
    reasons = adjustments.reasons_of(by_hand) if by_hand else {}
    return {
        "rows": [
            {"row": row, "label": movement_label(row.kind), "why": reasons.get(row.posting_id, "")}
            for row in found.rows
        ],
        "next_url": f"{request.path}?after={found.next}" if found.next else "",
        "first_url": request.path if after else "",
        "files": [{"url": url, "label": FILE_LABELS[fmt]} for fmt, url in file_urls.items()],
    }


def statement_file(code: str, *, name: str, fmt: str) -> HttpResponseBase:
    """Every movement of an account as CSV or Parquet: the rows of the page, to the last nano."""
    rows = movements.every(code)
    if fmt == "csv":
        response: HttpResponseBase = StreamingHttpResponse(
            movements.as_csv(rows), content_type="text/csv; charset=utf-8"
        )
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it
        movements.write_parquet(rows, file)
        file.seek(0)
        response = FileResponse(file, content_type="application/vnd.apache.parquet")
    response["Content-Disposition"] = f'attachment; filename="{name}-{timezone.now():%Y-%m-%d}.{fmt}"'
    return response


def _stats(user) -> list[dict]:
    money = wallets.summary(user)
    stats = [
        {
            "label": _("Available"),
            "amount_nano": money.available_nano,
            "url": reverse("wallet_withdraw"),
            "url_label": _("Withdraw"),
        },
        {
            "label": _("Held"),
            "amount_nano": money.held_nano,
            "note": _("for running calls, training and open withdrawals"),
        },
        {
            "label": _("Pending"),
            "amount_nano": money.pending_nano,
            "url": reverse("wallet_pending"),
            "url_label": _("What waits, and since when"),
        },
    ]
    if money.promotion_nano:
        stats.append(
            {
                "label": _("For free calls"),
                "amount_nano": money.promotion_nano,
                "url": reverse("wallet_promotion"),
                "url_label": _("Fund or take back"),
            }
        )
    if money.disputed_nano:
        stats.append({"label": _("Held in a dispute"), "amount_nano": money.disputed_nano})
    return stats


pages = [
    path("wallet/", wallet, name="wallet"),
    path("wallet/low/", wallet_low, name="wallet_low"),
    path("wallet/test-deposit/", wallet_test_deposit, name="wallet_test_deposit"),
    path("wallet/withdraw/", wallet_withdraw, name="wallet_withdraw"),
    path("wallet/withdrawals/<uuid:id>/cancel/", wallet_cancel, name="wallet_cancel"),
    path("wallet/promotion/", wallet_promotion, name="wallet_promotion"),
    path("wallet/pending/", wallet_pending, name="wallet_pending"),
    re_path(
        r"^wallet/(?P<account>wallet|pending|promotion)\.(?P<fmt>csv|parquet)$",
        wallet_statement,
        name="wallet_statement",
    ),
    path("settings/payout/", settings_payout, name="settings_payout"),
]
plain: list = []
