"""Money of a person: balance, statement, withdrawals. Money leaves from a fresh session only, never with a token."""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from .. import movements, promotion, transfers, wallets, watching
from ..models import PayoutDestination, WalletWatch, Withdrawal
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
from .fields import Amount, Choice, Shown, Strict, Text, money


class Destination(Shown):
    kind = serializers.CharField()
    hint = serializers.CharField(help_text="The last characters; the rest is never shown.")
    usable = serializers.SerializerMethodField(help_text="A changed destination waits before it counts.")

    def get_usable(self, destination) -> bool:
        return destination.usable_from <= timezone.now()


class Wallet(Shown):
    available_nano, available_open = money("available_nano")
    held_nano, held_open = money("held_nano")
    pending_nano, pending_open = money("pending_nano")
    disputed_nano, disputed_open = money("disputed_nano")
    promotion_nano, promotion_open = money("promotion_nano")
    destination = Destination(allow_null=True)


class LowBalance(Shown):
    low_nano, low_open = money("low_nano", nullable=True)


class NewLowBalance(Strict):
    low_nano = Amount(allow_null=True)


class Movement(Shown):
    posting_id = serializers.UUIDField()
    kind = serializers.CharField()
    reference = serializers.CharField()
    at = serializers.DateTimeField()
    amount_nano, amount_open = money("amount_nano")
    balance_after_nano, balance_after_open = money("balance_after_nano")
    leaf_index = serializers.IntegerField(allow_null=True)


class DepositShown(Shown):
    id = serializers.UUIDField()
    status = serializers.CharField()
    amount_nano, amount_open = money("amount_nano")
    created_at = serializers.DateTimeField()


class WithdrawalShown(Shown):
    id = serializers.UUIDField()
    status = serializers.CharField()
    amount_nano, amount_open = money("amount_nano")
    destination_kind = serializers.CharField()
    destination_hint = serializers.CharField()
    returned_reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class NewWithdrawal(Strict):
    amount_nano = Amount()


class Promotion(Shown):
    available_nano, available_open = money("available_nano")
    held_nano, held_open = money("held_nano")


class NewTransfer(Strict):
    amount_nano = Amount()
    reference = Text(max_length=transfers.REFERENCE_CHARS_MAX, help_text="Yours; the same again moves nothing more.")


class TransferShown(Shown):
    id = serializers.UUIDField()
    direction = serializers.CharField(help_text="fund or take_back.")
    amount_nano, amount_open = money("amount_nano")
    reference = serializers.CharField()
    posting_id = serializers.UUIDField()
    created_at = serializers.DateTimeField()


class NewDestination(Strict):
    kind = Choice(choices=("bank", "wallet"))
    details = Text(max_length=120, help_text="The whole account number or address; it is never shown again.")


class WalletView(ApiView):
    """The balance."""

    @endpoint("wallet_read", "See your balance.", answers=Wallet, reads=True)
    def get(self, request):
        destination = PayoutDestination.objects.filter(user=request.user).first()
        return Response(Wallet(vars(wallets.summary(request.user)) | {"destination": destination}).data)


class WalletStatementView(ApiView):
    """Every movement."""

    @endpoint(
        "wallet_statement",
        "List what came into and went out of your wallet.",
        query=PageQuery,
        answers=page_of(Movement),
        reads=True,
    )
    def get(self, request):
        return _statement(request, "wallet")


class PendingStatementView(ApiView):
    """Every movement of what is pending."""

    @endpoint(
        "pending_statement",
        "List what waits for its window to end, and what moved on into your wallet.",
        query=PageQuery,
        answers=page_of(Movement),
        reads=True,
    )
    def get(self, request):
        return _statement(request, "pending")


class PromotionView(ApiView):
    """What pays the free calls of one's models."""

    @endpoint("promotion_read", "See what is left for the free calls of your models.", answers=Promotion, reads=True)
    def get(self, request):
        return Response(Promotion(promotion.summary(request.user)).data)


class PromotionStatementView(ApiView):
    """Every movement of the promotion wallet."""

    @endpoint(
        "promotion_statement",
        "List what came into your promotion wallet, and the calls it paid.",
        query=PageQuery,
        answers=page_of(Movement),
        reads=True,
    )
    def get(self, request):
        return _statement(request, "promotion")


class PromotionFundView(ApiView):
    """Money set aside."""

    @endpoint(
        "promotion_fund",
        "Set money aside for free calls. Needs a fresh session.",
        body=NewTransfer,
        answers=TransferShown,
        status=201,
        refusals=(402,),
    )
    def post(self, request):
        require_fresh_session(request)
        return Response(TransferShown(promotion.fund(request.user, **body_of(request, NewTransfer))).data, status=201)


class PromotionTakeBackView(ApiView):
    """Money taken back."""

    @endpoint(
        "promotion_take_back",
        "Take money for free calls back into your wallet. Needs a fresh session.",
        body=NewTransfer,
        answers=TransferShown,
        status=201,
    )
    def post(self, request):
        require_fresh_session(request)
        moved = promotion.take_back(request.user, **body_of(request, NewTransfer))
        return Response(TransferShown(moved).data, status=201)


class DestinationView(ApiView):
    """Where withdrawals go."""

    @endpoint(
        "wallet_destination",
        "Say where withdrawals go; a change waits before it counts. Needs a fresh session.",
        body=NewDestination,
        answers=Destination,
    )
    def put(self, request):
        require_fresh_session(request)
        destination = wallets.set_destination(request.user, **body_of(request, NewDestination))
        return Response(Destination(destination).data)


class LowBalanceView(ApiView):
    """Below which balance one is told."""

    @endpoint("wallet_low_balance", "See below which balance you are told.", answers=LowBalance, reads=True)
    def get(self, request):
        found = WalletWatch.objects.filter(user=request.user).first()
        return Response(LowBalance(found or WalletWatch(user=request.user)).data)

    @endpoint(
        "wallet_set_low_balance",
        "Say below which balance you are told; null: of an empty wallet only.",
        body=NewLowBalance,
        answers=LowBalance,
    )
    def put(self, request):
        given = body_of(request, NewLowBalance)
        return Response(LowBalance(watching.set_low_balance(request.user, by=request.user, **given)).data)


class TestDepositView(ApiView):
    """Play money."""

    @endpoint("wallet_test_deposit", "Get play money; in a demo only, else 404.", answers=DepositShown, status=201)
    def post(self, request):
        if not settings.DEMO_STATE:
            raise exceptions.NotFound
        return Response(DepositShown(wallets.test_deposit(request.user)).data, status=201)


class WithdrawalsView(ApiView):
    """Money out."""

    @endpoint(
        "withdrawals_list", "List your withdrawals.", query=PageQuery, answers=page_of(WithdrawalShown), reads=True
    )
    def get(self, request):
        return page(request, Withdrawal.objects.filter(user=request.user), WithdrawalShown)

    @endpoint(
        "withdrawals_create",
        "Ask for money out. Needs a fresh session.",
        body=NewWithdrawal,
        answers=WithdrawalShown,
        status=201,
        refusals=(402,),
    )
    def post(self, request):
        require_fresh_session(request)
        found = wallets.request_withdrawal(request.user, **body_of(request, NewWithdrawal))
        return Response(WithdrawalShown(found).data, status=201)


class WithdrawalView(ApiView):
    """One withdrawal."""

    @endpoint("withdrawals_read", "See where a withdrawal stands.", answers=WithdrawalShown, reads=True)
    def get(self, request, withdrawal_id):
        return Response(WithdrawalShown(_mine(request, withdrawal_id)).data)

    @endpoint("withdrawals_cancel", "Take a withdrawal back, until a payout run has it.", answers=WithdrawalShown)
    def delete(self, request, withdrawal_id):
        found = wallets.cancel_withdrawal(_mine(request, withdrawal_id), by=request.user)
        return Response(WithdrawalShown(found).data)


def _statement(request, name: str) -> Response:
    told = query_of(request, PageQuery)
    after = told.get("after", "")
    if after and not movements.is_cursor(after):
        raise bad_cursor()
    found = movements.page(movements.account_of(request.user, name), after=after, limit=told["limit"])
    return page_response(request, Movement(found.rows, many=True).data, found.next)


def _mine(request, withdrawal_id) -> Withdrawal:
    return find(Withdrawal.objects.filter(user=request.user), pk=withdrawal_id)
