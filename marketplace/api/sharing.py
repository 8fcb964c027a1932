"""Shared wallets: what is in them, who is in them, and the way in."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from .. import movements, sharing, usagequeries, wallets, watching
from ..models import PayoutDestination, Role, WalletInvitation, WalletWatch, Withdrawal
from .base import (
    ApiView,
    PageQuery,
    bad_cursor,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    page_response,
    query_of,
    require_fresh_session,
)
from .fields import Choice, Shown, Strict, Text, money
from .wallets import (
    Destination,
    LowBalance,
    Movement,
    NewDestination,
    NewLowBalance,
    NewTransfer,
    NewWithdrawal,
    WithdrawalShown,
)


class MembershipShown(Shown):
    id = serializers.UUIDField(source="wallet_id")
    name = serializers.CharField(source="wallet.name")
    account = serializers.CharField(source="wallet.account.username", help_text="How admins and developers name it.")
    role = serializers.ChoiceField(Role.choices)


class SharedWalletShown(MembershipShown):
    available_nano, available_open = money("money.available_nano")
    held_nano, held_open = money("money.held_nano")
    destination = Destination(allow_null=True)


class MemberShown(Shown):
    handle = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(Role.choices)
    since = serializers.DateTimeField()


class InvitationShown(Shown):
    id = serializers.UUIDField()
    wallet = serializers.UUIDField(source="wallet_id")
    name = serializers.CharField(source="wallet.name")
    address = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    invited_by = serializers.CharField(source="invited_by.username")
    created_at = serializers.DateTimeField()


class SharedCall(Shown):
    id = serializers.UUIDField()
    model = serializers.CharField(source="version.path")
    key = serializers.CharField(source="key.prefix", allow_null=True, default=None)
    made_by = serializers.CharField(source="key.made_by.username", allow_null=True, default=None)
    status = serializers.CharField()
    prompt_tokens = serializers.IntegerField()
    answer_tokens = serializers.IntegerField()
    cost_nano, cost_open = money("cost_nano")
    finished_at = serializers.DateTimeField()


class TransferIn(Shown):
    id = serializers.UUIDField()
    amount_nano, amount_open = money("amount_nano")
    reference = serializers.CharField()
    posting_id = serializers.UUIDField()
    created_at = serializers.DateTimeField()


class NewWallet(Strict):
    name = Text(max_length=80)


class NewInvitation(Strict):
    address = Text(max_length=254, help_text="A handle or an e-mail address; whether anybody has it is not told.")
    role = Choice(choices=Role.choices)


class NewRole(Strict):
    role = Choice(choices=Role.choices)


class SharedWalletsView(ApiView):
    """The ones I am in."""

    @endpoint(
        "shared_wallets_list",
        "List the shared wallets that you are in.",
        query=PageQuery,
        answers=page_of(MembershipShown),
        reads=True,
    )
    def get(self, request):
        return page(request, sharing.of(request.user).order_by(), MembershipShown, key="since")

    @endpoint(
        "shared_wallets_create",
        "Open a shared wallet; you own it.",
        body=NewWallet,
        answers=MembershipShown,
        status=201,
    )
    def post(self, request):
        wallet = sharing.create(by=request.user, **body_of(request, NewWallet))
        return Response(MembershipShown(_me(request, wallet.pk)).data, status=201)


class SharedWalletView(ApiView):
    """One of them."""

    @endpoint(
        "shared_wallets_read", "See what is in a shared wallet, and your role.", answers=SharedWalletShown, reads=True
    )
    def get(self, request, wallet_id):
        me = _me(request, wallet_id)
        me.money = wallets.summary(me.wallet.account)
        me.destination = PayoutDestination.objects.filter(user=me.wallet.account).first()
        return Response(SharedWalletShown(me).data)

    @endpoint(
        "shared_wallets_close", "Close an empty shared wallet. For its owners. Needs a fresh session.", status=204
    )
    def delete(self, request, wallet_id):
        require_fresh_session(request)
        sharing.close(_me(request, wallet_id, Role.OWNER).wallet, by=request.user)
        return Response(status=204)


class SharedStatementView(ApiView):
    """Every movement."""

    @endpoint(
        "shared_wallet_statement",
        "List what came into and went out of a shared wallet. For its owners and viewers.",
        query=PageQuery,
        answers=page_of(Movement),
        reads=True,
    )
    def get(self, request, wallet_id):
        me, told = _me(request, wallet_id, Role.OWNER, Role.VIEWER), query_of(request, PageQuery)
        after = told.get("after", "")
        if after and not movements.is_cursor(after):
            raise bad_cursor()
        account = movements.account_of(me.wallet.account, "wallet")
        found = movements.page(account, after=after, limit=told["limit"])
        return page_response(request, Movement(found.rows, many=True).data, found.next)


class SharedCallsView(ApiView):
    """What it paid."""

    @endpoint(
        "shared_wallet_calls",
        "List the calls that a shared wallet paid; as a spender those of your keys.",
        query=PageQuery,
        answers=page_of(SharedCall),
        reads=True,
    )
    def get(self, request, wallet_id):
        me = _me(request, wallet_id)
        found = usagequeries.paid_by(me.wallet.account, seen_by=request.user)
        return page(
            request, found.select_related("version__model__owner", "key__made_by"), SharedCall, key="finished_at"
        )


class SharedFundView(ApiView):
    """Money into it."""

    @endpoint(
        "shared_wallet_fund",
        "Move money from your own wallet into a shared one. Needs a fresh session.",
        body=NewTransfer,
        answers=TransferIn,
        status=201,
        refusals=(402,),
    )
    def post(self, request, wallet_id):
        require_fresh_session(request)
        wallet = _me(request, wallet_id, Role.OWNER, Role.SPENDER).wallet
        return Response(
            TransferIn(sharing.transfer(wallet, by=request.user, **body_of(request, NewTransfer))).data, 201
        )


class SharedDestinationView(ApiView):
    """Where its withdrawals go."""

    @endpoint(
        "shared_wallet_destination",
        "Say where withdrawals of a shared wallet go. For its owners. Needs a fresh session.",
        body=NewDestination,
        answers=Destination,
    )
    def put(self, request, wallet_id):
        require_fresh_session(request)
        account = _me(request, wallet_id, Role.OWNER).wallet.account
        saved = wallets.set_destination(account, by=request.user, **body_of(request, NewDestination))
        return Response(Destination(saved).data)


class SharedLowBalanceView(ApiView):
    """Below which balance its owners are told."""

    @endpoint(
        "shared_wallet_low_balance",
        "See below which balance of a shared wallet its owners are told. For its owners.",
        answers=LowBalance,
        reads=True,
    )
    def get(self, request, wallet_id):
        account = _me(request, wallet_id, Role.OWNER).wallet.account
        found = WalletWatch.objects.filter(user=account).first()
        return Response(LowBalance(found or WalletWatch(user=account)).data)

    @endpoint(
        "shared_wallet_set_low_balance",
        "Say below which balance of a shared wallet its owners are told; null: of an empty one only. For its owners.",
        body=NewLowBalance,
        answers=LowBalance,
    )
    def put(self, request, wallet_id):
        account = _me(request, wallet_id, Role.OWNER).wallet.account
        given = body_of(request, NewLowBalance)
        return Response(LowBalance(watching.set_low_balance(account, by=request.user, **given)).data)


class SharedWithdrawalsView(ApiView):
    """Money out of it."""

    @endpoint(
        "shared_wallet_withdrawals",
        "List the withdrawals of a shared wallet. For its owners and viewers.",
        query=PageQuery,
        answers=page_of(WithdrawalShown),
        reads=True,
    )
    def get(self, request, wallet_id):
        account = _me(request, wallet_id, Role.OWNER, Role.VIEWER).wallet.account
        return page(request, Withdrawal.objects.filter(user=account), WithdrawalShown)

    @endpoint(
        "shared_wallet_withdraw",
        "Ask for money out of a shared wallet. For its owners. Needs a fresh session.",
        body=NewWithdrawal,
        answers=WithdrawalShown,
        status=201,
        refusals=(402,),
    )
    def post(self, request, wallet_id):
        require_fresh_session(request)
        account = _me(request, wallet_id, Role.OWNER).wallet.account
        asked = wallets.request_withdrawal(account, by=request.user, **body_of(request, NewWithdrawal))
        return Response(WithdrawalShown(asked).data, status=201)


class SharedWithdrawalView(ApiView):
    """One withdrawal of it."""

    @endpoint(
        "shared_wallet_withdrawal_cancel",
        "Take a withdrawal of a shared wallet back. For its owners.",
        answers=WithdrawalShown,
    )
    def delete(self, request, wallet_id, withdrawal_id):
        account = _me(request, wallet_id, Role.OWNER).wallet.account
        asked = find(Withdrawal.objects.filter(user=account), pk=withdrawal_id)
        return Response(WithdrawalShown(wallets.cancel_withdrawal(asked, by=request.user)).data)


class MembersView(ApiView):
    """Who is in it."""

    @endpoint(
        "wallet_members_list",
        "List the members of a shared wallet.",
        query=PageQuery,
        answers=page_of(MemberShown),
        reads=True,
    )
    def get(self, request, wallet_id):
        found = _me(request, wallet_id).wallet.members.select_related("user")
        return page(request, found, MemberShown, key="since")


class MemberView(ApiView):
    """One member."""

    @endpoint("wallet_members_set", "Give a member another role. For owners.", body=NewRole, answers=MemberShown)
    def put(self, request, wallet_id, handle):
        member = _other(request, wallet_id, handle)
        return Response(
            MemberShown(sharing.set_role(member, by=request.user, role=Role(body_of(request, NewRole)["role"]))).data
        )

    @endpoint("wallet_members_remove", "Remove a member and their keys, as an owner; or leave.", status=204)
    def delete(self, request, wallet_id, handle):
        sharing.remove(_other(request, wallet_id, handle), by=request.user)
        return Response(status=204)


class WalletInvitationsView(ApiView):
    """Who is asked to join it."""

    @endpoint(
        "wallet_invitations_list",
        "List who is asked to join a shared wallet. For its owners.",
        query=PageQuery,
        answers=page_of(InvitationShown),
        reads=True,
    )
    def get(self, request, wallet_id):
        found = _me(request, wallet_id, Role.OWNER).wallet.invitations.select_related("wallet", "invited_by")
        return page(request, found, InvitationShown)

    @endpoint(
        "wallet_invitations_create",
        "Ask somebody to join a shared wallet. For its owners.",
        body=NewInvitation,
        answers=InvitationShown,
        status=201,
    )
    def post(self, request, wallet_id):
        wallet = _me(request, wallet_id, Role.OWNER).wallet
        given = body_of(request, NewInvitation)
        made = sharing.invite(wallet, by=request.user, address=given["address"], role=Role(given["role"]))
        return Response(InvitationShown(made).data, status=201)


class WalletInvitationView(ApiView):
    """One of those."""

    @endpoint("wallet_invitations_take_back", "Take an invitation back. For owners.", status=204)
    def delete(self, request, wallet_id, invitation_id):
        wallet = _me(request, wallet_id, Role.OWNER).wallet
        sharing.take_back(find(WalletInvitation.objects.filter(wallet=wallet), pk=invitation_id), by=request.user)
        return Response(status=204)


class MyInvitationsView(ApiView):
    """What I am asked."""

    @endpoint(
        "my_wallet_invitations",
        "List the shared wallets that you are asked to join.",
        query=PageQuery,
        answers=page_of(InvitationShown),
        reads=True,
    )
    def get(self, request):
        return page(request, sharing.invitations_of(request.user).order_by(), InvitationShown)


class MyInvitationView(ApiView):
    """My answer."""

    @endpoint("wallet_invitations_accept", "Join a shared wallet.", answers=MembershipShown)
    def post(self, request, invitation_id):
        asked = find(sharing.invitations_of(request.user), pk=invitation_id)
        return Response(MembershipShown(_me(request, sharing.accept(asked, by=request.user).wallet_id)).data)

    @endpoint("wallet_invitations_decline", "Decline to join a shared wallet.", status=204)
    def delete(self, request, invitation_id):
        sharing.decline(find(sharing.invitations_of(request.user), pk=invitation_id), by=request.user)
        return Response(status=204)


def _me(request, wallet_id, *allowed: Role):
    """My membership, in one of these roles; else the wallet does not exist for me."""
    return find(sharing.of(request.user), wallet=wallet_id, role__in=allowed or Role.values)


def _other(request, wallet_id, handle: str):
    found = _me(request, wallet_id).wallet.members.select_related("wallet__account", "user")
    return find(found, user__username=handle)
