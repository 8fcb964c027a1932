"""Refunds, disputes and held earnings. Giving money back needs a fresh session: a stolen token moves none."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from .. import disputes, holds, refunds, roles
from ..models import Call, Dispute, LotHold, Refund
from .base import (
    AdminView,
    ApiView,
    PageQuery,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    query_of,
    require_fresh_session,
)
from .fields import Id, Moment, Nano, Open, Shown, Strict, Text, YesNo, money


class RefundReason(Strict):
    reason = Text(max_length=refunds.REASON_CHARS_MAX)


class GivenRefund(RefundReason):
    from_wallet = YesNo(
        required=False, default=False, help_text="true: after its window, pay the price back out of your own wallet."
    )


class DisputeAnswer(Strict):
    accept = YesNo(help_text="true: the call is refunded.")
    reason = Text(max_length=disputes.TEXT_CHARS_MAX, required=False, help_text="Needed to refuse.")


class HoldGiven(RefundReason):
    lot = Id()
    until = Moment(required=False, allow_null=True, help_text="Without it: until an admin releases it.")


class HandleQuery(Strict):
    handle = serializers.CharField(max_length=40)


class RefundShown(Shown):
    """A call given back, or asked to be. Its id is that of its receipt once it is made."""

    id = serializers.UUIDField()
    call = serializers.UUIDField(source="call_id")
    model = serializers.CharField(source="call.version.path")
    amount_nano, amount_open = money("amount_nano")
    status = serializers.CharField(help_text="waiting (for a second admin) or made.")
    grounds = serializers.CharField(
        help_text="developer, admins or dispute (nobody answered it); empty while it waits."
    )
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    made_at = serializers.DateTimeField(allow_null=True)


class GivenBackShown(Shown):
    """A call given back, by those who had earned of it or out of its developer's wallet."""

    call = serializers.UUIDField(source="call_id")
    amount_nano, amount_open = money("amount_nano")
    reason = serializers.CharField()
    made_at = serializers.DateTimeField()


class AdminRefundShown(RefundShown):
    first_admin = serializers.CharField(source="first_admin.username", allow_null=True, default=None)
    second_admin = serializers.CharField(source="second_admin.username", allow_null=True, default=None)


class DisputeShown(Shown):
    id = serializers.UUIDField()
    call = serializers.UUIDField(source="call_id")
    model = serializers.CharField(source="call.version.path")
    cost_nano = Nano(source="call.cost_nano")
    cost_open = Open(source="call.cost_nano")
    status = serializers.CharField(help_text="open, refused, refunded, kept or withdrawn.")
    reason = serializers.CharField()
    opened_at = serializers.DateTimeField()
    answer_due_at = serializers.DateTimeField(help_text="Without an answer until then the call is refunded.")
    answer = serializers.CharField()
    decision = serializers.CharField()
    ended_at = serializers.DateTimeField(allow_null=True)


class LotShown(Shown):
    """A part of somebody's pending earnings that vests at once."""

    id = serializers.UUIDField()
    amount_nano = Nano(source="open_nano")
    amount_open = Open(source="open_nano")
    due_at = serializers.DateTimeField()
    state = serializers.CharField(help_text="pending or held.")
    held_by = serializers.SerializerMethodField(help_text="dispute, theft, noise or admin; empty if it is not held.")
    held_because = serializers.SerializerMethodField()
    held_until = serializers.DateTimeField(allow_null=True)

    def get_held_by(self, lot) -> str:
        return lot.held_by if lot.state == "held" else ""

    def get_held_because(self, lot) -> str:
        return holds.sentence(lot) if lot.state == "held" else ""


class Lots(Shown):
    results = LotShown(many=True)


class LotHoldShown(Shown):
    id = serializers.UUIDField()
    lot = serializers.UUIDField(source="lot_id")
    payee = serializers.CharField(source="payee.username")
    amount_nano, amount_open = money("amount_nano")
    dispute = serializers.UUIDField(source="dispute_id", allow_null=True)
    theft_dispute = serializers.UUIDField(source="theft_id", allow_null=True)
    placed_by = serializers.CharField(source="placed_by.username", allow_null=True, default=None)
    reason = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)
    placed_at = serializers.DateTimeField()
    released_at = serializers.DateTimeField(allow_null=True)


class RefundsView(ApiView):
    """Refunds one is in."""

    @endpoint(
        "refunds_list",
        "List the refunds of your calls and of calls to your models.",
        query=PageQuery,
        answers=page_of(RefundShown),
        reads=True,
    )
    def get(self, request):
        return page(request, refunds.seen_by(request.user), RefundShown)


class CallRefundView(ApiView):
    """A call to one's own model."""

    @endpoint(
        "calls_refund",
        "Refund a call to your model, whole. Needs a fresh session.",
        body=GivenRefund,
        answers=GivenBackShown,
        status=201,
        refusals=(402, 410),
    )
    def post(self, request, call_id):
        call = find(Call.objects.filter(model__owner=request.user), pk=call_id)
        require_fresh_session(request)
        told = body_of(request, GivenRefund)
        act = refunds.pay_back if told["from_wallet"] else refunds.give_back
        return Response(GivenBackShown(act(call, by=request.user, reason=told["reason"])).data, status=201)


class CallDisputeView(ApiView):
    """A call of one's own."""

    @endpoint(
        "calls_dispute",
        "Dispute your call; what it paid is held until the dispute ends.",
        body=RefundReason,
        answers=DisputeShown,
        status=201,
        refusals=(410,),
    )
    def post(self, request, call_id):
        call = find(Call.objects.filter(roles.bought_by(request.user)), pk=call_id)
        dispute = disputes.open_dispute(call, by=request.user, **body_of(request, RefundReason))
        return Response(DisputeShown(dispute).data, status=201)


class DisputesView(ApiView):
    """Disputes one is in."""

    @endpoint(
        "disputes_list",
        "List the disputes about your calls and about your models.",
        query=PageQuery,
        answers=page_of(DisputeShown),
        reads=True,
    )
    def get(self, request):
        return page(request, disputes.seen_by(request.user), DisputeShown, key="opened_at")


class DisputeView(ApiView):
    """One of them."""

    @endpoint("disputes_read", "Read one dispute.", answers=DisputeShown, reads=True)
    def get(self, request, dispute_id):
        return Response(DisputeShown(find(disputes.seen_by(request.user), pk=dispute_id)).data)

    @endpoint("disputes_withdraw", "Withdraw your dispute.", status=204)
    def delete(self, request, dispute_id):
        disputes.withdraw(find(disputes.seen_by(request.user), pk=dispute_id), by=request.user)
        return Response(status=204)


class DisputeAnswerView(ApiView):
    """The developer's word."""

    @endpoint(
        "disputes_answer",
        "Accept a dispute about your model, which refunds the call, or refuse it. Needs a fresh session.",
        body=DisputeAnswer,
        answers=DisputeShown,
        refusals=(402, 410),
    )
    def post(self, request, dispute_id):
        dispute = find(disputes.seen_by(request.user), pk=dispute_id)
        require_fresh_session(request)
        told = body_of(request, DisputeAnswer)
        if told["accept"]:
            disputes.accept(dispute, by=request.user)
        else:
            disputes.refuse(dispute, by=request.user, answer=told.get("reason", ""))
        return Response(DisputeShown(disputes.seen_by(request.user).get(pk=dispute_id)).data)


class LotsView(ApiView):
    """What waits for its challenge window, or is held."""

    @endpoint(
        "earnings_lots", "List your pending earnings, lot by lot, with what holds them.", answers=Lots, reads=True
    )
    def get(self, request):
        return _lots(request.user)


class AdminRefundsView(AdminView):
    """Every refund."""

    @endpoint(
        "admin_refunds_list",
        "List refunds, those that wait for a second admin too. For admins.",
        query=PageQuery,
        answers=page_of(AdminRefundShown),
        reads=True,
    )
    def get(self, request):
        return page(request, _refunds(), AdminRefundShown)


class AdminCallRefundView(AdminView):
    """One of two approvals."""

    @endpoint(
        "admin_calls_refund",
        "Give one of the two approvals of a refund. Needs a fresh session. For admins.",
        body=RefundReason,
        answers=AdminRefundShown,
        refusals=(402, 410),
    )
    def post(self, request, call_id):
        call = find(Call.objects.all(), pk=call_id)
        require_fresh_session(request)
        refund = refunds.approve(call, by=request.user, **body_of(request, RefundReason))
        return Response(AdminRefundShown(_refunds().get(pk=refund.pk)).data)


class AdminDisputesView(AdminView):
    """Disputes that a developer refused."""

    @endpoint(
        "admin_disputes_list",
        "List the disputes that wait for a decision. For admins.",
        query=PageQuery,
        answers=page_of(DisputeShown),
        reads=True,
    )
    def get(self, request):
        return page(request, disputes.to_decide().select_related("call__version"), DisputeShown, key="opened_at")


class KeepView(AdminView):
    """The charge stands."""

    @endpoint(
        "admin_disputes_keep",
        "Decide, with a reason, that a disputed charge stands. For admins.",
        body=RefundReason,
        answers=DisputeShown,
    )
    def post(self, request, dispute_id):
        dispute = find(Dispute.objects.all(), pk=dispute_id)
        require_fresh_session(request)
        kept = disputes.keep(dispute, by=request.user, decision=body_of(request, RefundReason)["reason"])
        return Response(DisputeShown(kept).data)


class AdminLotsView(AdminView):
    """One person's pending earnings."""

    @endpoint(
        "admin_lots_list", "List somebody's pending earnings. For admins.", query=HandleQuery, answers=Lots, reads=True
    )
    def get(self, request):
        return _lots(find(User.objects.all(), username=query_of(request, HandleQuery)["handle"]))


class LotHoldsView(AdminView):
    """What keeps earnings from vesting."""

    @endpoint(
        "lot_holds_list",
        "List what is held, by disputes and by admins. For admins.",
        query=PageQuery,
        answers=page_of(LotHoldShown),
        reads=True,
    )
    def get(self, request):
        return page(request, holds.listed(), LotHoldShown, key="placed_at")

    @endpoint(
        "lot_holds_create", "Hold a lot, with a reason. For admins.", body=HoldGiven, answers=LotHoldShown, status=201
    )
    def post(self, request):
        require_fresh_session(request)
        told = body_of(request, HoldGiven)
        placed = holds.hold(told["lot"], by=request.user, reason=told["reason"], until=told.get("until"))
        return Response(LotHoldShown(placed).data, status=201)


class LotHoldReleaseView(AdminView):
    """Its end."""

    @endpoint(
        "lot_holds_release",
        "Release what an admin held, with a reason. For admins.",
        body=RefundReason,
        answers=LotHoldShown,
    )
    def post(self, request, hold_id):
        held = find(LotHold.objects.all(), pk=hold_id)
        require_fresh_session(request)
        return Response(LotHoldShown(holds.release(held, by=request.user, **body_of(request, RefundReason))).data)


def _lots(user: User) -> Response:
    return Response(Lots({"results": ledger.pending_of(chart.pending(user.pk))}).data)


def _refunds():
    return Refund.objects.select_related("call__version__model__owner", "first_admin", "second_admin")
