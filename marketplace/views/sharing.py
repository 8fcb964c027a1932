"""Shared wallets: which ones I am in, what is in them, who else is, and what I may do there by my role."""

from __future__ import annotations

import csv
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from ledger import chart
from ledger import services as ledger

from .. import keys, movements, pricing, sharing, usagequeries, wallets, watching
from ..errors import MarketplaceError, sentence_of
from ..forms_earn import LowBalanceForm
from ..forms_sharing import InviteForm, NewWalletForm
from ..models import Access, PayoutDestination, Role, WalletInvitation, WalletMember, Withdrawal
from .usage import Echo
from .wallet import low_balance_form, movement_label

STATEMENT_ROWS = CALLS_SHOWN = 50
EVERYBODY = (Role.OWNER, Role.SPENDER, Role.VIEWER)


@login_required
def my_wallets(request: SignedInRequest) -> HttpResponse:
    """My own wallet, those that I share, and who asks me to join. Open another one."""
    form = NewWalletForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            wallet = sharing.create(name=form.cleaned_data["name"], by=request.user)
        except MarketplaceError as problem:
            form.add_error(None, sentence_of(problem))
        else:
            return redirect("shared_wallet", wallet.pk)
    members = list(sharing.of(request.user))
    found = ledger.balances([chart.wallet(one.wallet.account_id) for one in members])
    context = {
        "form": form,
        "own": wallets.summary(request.user),
        "members": [(one, found[chart.wallet(one.wallet.account_id)]) for one in members],
        "invitations": sharing.invitations_of(request.user),
    }
    return render(request, "marketplace/wallet/wallets.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def answer_invitation(request: SignedInRequest, invitation_id: UUID, act: str) -> HttpResponse:
    """accept or decline an invitation to me."""
    invitation = get_object_or_404(sharing.invitations_of(request.user), pk=invitation_id)
    if act == "accept":
        member = sharing.accept(invitation, by=request.user)
        return redirect("shared_wallet", member.wallet_id)
    if act != "decline":
        raise Http404
    sharing.decline(invitation, by=request.user)
    messages.success(request, _("The invitation is declined."))
    return redirect("wallets")


@login_required
def shared_wallet(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """What is in it, what it paid, and its statement. A spender sees what their own keys did."""
    return _wallet_page(request, member_of(request, wallet_id, *EVERYBODY))


def _wallet_page(
    request: SignedInRequest, me: WalletMember, *, low_form: LowBalanceForm | None = None, status: int = 200
) -> HttpResponse:
    account = me.wallet.account
    calls = _calls(request, me)
    by_key = usagequeries.by_key(calls)
    context = {
        "me": me,
        "wallet": me.wallet,
        "money": wallets.summary(account),
        "total": {name: sum(row[name] for row in by_key) for name in ("calls", "cost_nano")},
        "by_key": by_key,
        "calls": calls.select_related("version__model__owner", "key__made_by").order_by("-finished_at", "-pk")[
            :CALLS_SHOWN
        ],
        "passes": Access.objects.filter(buyer=account).select_related("model__owner").order_by("-starts_at")[:20],
        "keys": keys.of(request.user).filter(owner=account, revoked_at=None).count(),
        "may_spend": me.role != Role.VIEWER,
        "is_owner": me.role == Role.OWNER,
        "sees_all": me.role != Role.SPENDER,
        "now": timezone.now(),
    }
    if me.role != Role.SPENDER:
        context |= _statement(request, me) | {
            "withdrawals": Withdrawal.objects.filter(user=account).order_by("-created_at", "-pk")[:CALLS_SHOWN],
            "destination": PayoutDestination.objects.filter(user=account).first(),
        }
    if me.role == Role.OWNER:
        context["low_form"] = low_form or low_balance_form(account)
    return render(request, "marketplace/wallet/shared.html", context, status=status)


@login_required
def shared_wallet_members(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """Who is in, in which role; an owner asks others to join."""
    me = member_of(request, wallet_id, *EVERYBODY)
    form = InviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            sharing.invite(me.wallet, by=request.user, **form.cleaned_data)
        except MarketplaceError as problem:
            form.add_error(None, sentence_of(problem))
        else:
            messages.success(request, _("The invitation waits until it is accepted, for 30 days."))
            return redirect("shared_wallet_members", wallet_id)
    context = {
        "me": me,
        "wallet": me.wallet,
        "is_owner": me.role == Role.OWNER,
        "form": form,
        "members": me.wallet.members.select_related("user").order_by("since", "pk"),
        "invitations": me.wallet.invitations.order_by("created_at") if me.role == Role.OWNER else [],
        "roles": Role.choices,
    }
    return render(request, "marketplace/wallet/members.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def shared_wallet_member(request: SignedInRequest, wallet_id: UUID, member_id: int) -> HttpResponse:
    """Give a member another role, or none; leave."""
    me = member_of(request, wallet_id, *EVERYBODY)
    member = get_object_or_404(me.wallet.members.select_related("wallet__account", "user"), pk=member_id)
    try:
        if role := request.POST.get("role"):
            if role not in Role.values:
                raise Http404
            sharing.set_role(member, role=Role(role), by=request.user)
            messages.success(request, _("The role is changed."))
        else:
            sharing.remove(member, by=request.user)
            messages.success(request, _("%(name)s is no longer a member.") % {"name": member.user.username})
    except MarketplaceError as problem:
        messages.error(request, sentence_of(problem))
    if not WalletMember.objects.filter(wallet=wallet_id, user=request.user).exists():
        return redirect("wallets")
    return redirect("shared_wallet_members", wallet_id)


@login_required
@require_POST
def shared_wallet_uninvite(request: SignedInRequest, wallet_id: UUID, invitation_id: UUID) -> HttpResponse:
    """Take an invitation back."""
    me = member_of(request, wallet_id, Role.OWNER)
    sharing.take_back(get_object_or_404(WalletInvitation, pk=invitation_id, wallet=me.wallet), by=request.user)
    messages.success(request, _("The invitation is taken back."))
    return redirect("shared_wallet_members", wallet_id)


@login_required
@require_POST
def shared_wallet_low(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """Say below which balance its owners are told, as an owner."""
    me = member_of(request, wallet_id, Role.OWNER)
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        return _wallet_page(request, me, low_form=form, status=422)
    watching.set_low_balance(me.wallet.account, low_nano=form.cleaned_data["low"], by=request.user)
    messages.success(request, _("Its owners are told of an empty wallet in any case, and of a low one as you said."))
    return redirect("shared_wallet", wallet_id)


@login_required
@reauthentication_required
@require_POST
def shared_wallet_close(request: SignedInRequest, wallet_id: UUID) -> HttpResponse:
    """End it, empty, as an owner."""
    me = member_of(request, wallet_id, Role.OWNER)
    try:
        sharing.close(me.wallet, by=request.user)
    except MarketplaceError as problem:
        messages.error(request, sentence_of(problem))
        return redirect("shared_wallet_members", wallet_id)
    messages.success(request, _("The shared wallet is closed."))
    return redirect("wallets")


@login_required
def shared_wallet_statement(request: SignedInRequest, wallet_id: UUID) -> StreamingHttpResponse:
    """Every movement as CSV, for owners and viewers."""
    me = member_of(request, wallet_id, Role.OWNER, Role.VIEWER)
    rows = movements.every(movements.account_of(me.wallet.account, "wallet"))
    return _file(movements.as_csv(rows), "statement")


@login_required
def shared_wallet_usage(request: SignedInRequest, wallet_id: UUID) -> StreamingHttpResponse:
    """Its calls as CSV, oldest first; a spender's own."""
    me = member_of(request, wallet_id, *EVERYBODY)
    rows = usagequeries.export_rows(_calls(request, me), site_url=settings.SITE_URL, exact=pricing.nano_to_open)
    writer = csv.writer(Echo())
    return _file((writer.writerow(row) for row in (usagequeries.EXPORT_COLUMNS, *rows)), "usage")


def member_of(request: SignedInRequest, wallet_id: UUID, *allowed: Role) -> WalletMember:
    """My membership, in one of these roles; else the wallet does not exist for me."""
    mine = sharing.of(request.user).select_related("wallet__account__wallet_watch")
    return get_object_or_404(mine, wallet=wallet_id, role__in=allowed)


def _calls(request: SignedInRequest, me: WalletMember):
    return usagequeries.paid_by(me.wallet.account, seen_by=request.user)


def _statement(request: SignedInRequest, me: WalletMember) -> dict:
    account = movements.account_of(me.wallet.account, "wallet")
    found = movements.page(account, after=request.GET.get("after", ""), limit=STATEMENT_ROWS)
    return {
        "rows": [{"row": row, "label": movement_label(row.kind)} for row in found.rows],
        "next_url": f"{request.path}?after={found.next}" if found.next else "",
        "first_url": request.path if request.GET.get("after") else "",
        "files": [{"url": reverse("shared_wallet_statement", args=[me.wallet_id]), "label": "CSV"}],
    }


def _file(lines, name: str) -> StreamingHttpResponse:
    disposition = f'attachment; filename="{name}-{timezone.now():%Y-%m-%d}.csv"'
    return StreamingHttpResponse(
        lines, content_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition}
    )


HERE = "wallets/<uuid:wallet_id>/"
pages = [
    path("wallets/", my_wallets, name="wallets"),
    path("wallets/invitations/<uuid:invitation_id>/<slug:act>/", answer_invitation, name="wallet_invitation"),
    path(HERE, shared_wallet, name="shared_wallet"),
    path(f"{HERE}members/", shared_wallet_members, name="shared_wallet_members"),
    path(f"{HERE}members/<int:member_id>/", shared_wallet_member, name="shared_wallet_member"),
    path(f"{HERE}invitations/<uuid:invitation_id>/", shared_wallet_uninvite, name="shared_wallet_uninvite"),
    path(f"{HERE}low/", shared_wallet_low, name="shared_wallet_low"),
    path(f"{HERE}close/", shared_wallet_close, name="shared_wallet_close"),
    path(f"{HERE}statement.csv", shared_wallet_statement, name="shared_wallet_statement"),
    path(f"{HERE}usage.csv", shared_wallet_usage, name="shared_wallet_usage"),
]
plain: list = []
