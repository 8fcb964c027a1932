"""For admins: payout runs and the revenue report. To everybody else these addresses do not exist.

An approval, a sent run and the end of an item need a fresh session: a stolen token reads, and moves nothing.
"""

from __future__ import annotations

from django.db.models import BigIntegerField, Count, Sum
from django.db.models.functions import Cast, Coalesce
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.response import Response

from .. import audit, payouts, revenue
from ..models import PayoutRun, Withdrawal
from .base import (
    AdminView,
    AnyAnswer,
    PageQuery,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    query_of,
    require_fresh_session,
)
from .fields import Shown, Strict, Text, money


class PayoutRunShown(Shown):
    """A batch of withdrawals."""

    id = serializers.UUIDField()
    number = serializers.IntegerField()
    status = serializers.CharField()
    items = serializers.IntegerField()
    total_nano, total_open = money("total_nano")
    created_by = serializers.CharField(source="created_by.username")
    first_approver = serializers.CharField(source="first_approver.username", allow_null=True, default=None)
    second_approver = serializers.CharField(source="second_approver.username", allow_null=True, default=None)
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)


class ItemShown(Shown):
    id = serializers.UUIDField()
    who = serializers.CharField(source="user.username")
    status = serializers.CharField()
    amount_nano, amount_open = money("amount_nano")
    destination_kind = serializers.CharField()
    destination_hint = serializers.CharField()
    returned_reason = serializers.CharField()
    ended_at = serializers.DateTimeField(allow_null=True)


class RecomputedShown(Shown):
    """Both are zero when everything adds up."""

    rows_that_differ = serializers.IntegerField(help_text="Rows of the revenue report.")
    run_difference_nano, run_difference_open = money("run_difference_nano")


class Reason(Strict):
    reason = Text(max_length=200)


class RevenueRow(Shown):
    role = serializers.CharField()
    payee = serializers.CharField()
    books_nano, books_open = money("books_nano")
    business_nano, business_open = money("business_nano")
    difference_nano, difference_open = money("difference_nano")


class PeriodQuery(Strict):
    """Without them: all time."""

    since = serializers.DateField(required=False, help_text="First day, UTC.")
    until = serializers.DateField(required=False, help_text="Last day, UTC, included.")


class Report(Shown):
    """opening + charged - refunded = platform + developers + contributors + curators + unattributed + still in pools."""

    opening_nano, opening_open = money("opening_nano")
    charged_nano, charged_open = money("charged_nano")
    refunded_nano, refunded_open = money("refunded_nano")
    difference_nano, difference_open = money("difference_nano")
    rows = RevenueRow(many=True)


class RevenueView(AdminView):
    """What buyers paid and where it is."""

    @endpoint(
        "revenue_read",
        "Read the revenue report of some days or of all time, derived twice. For admins.",
        query=PeriodQuery,
        answers=Report,
        reads=True,
    )
    def get(self, request):
        told = query_of(request, PeriodQuery)
        return Response(Report(revenue.report(revenue.days(told.get("since"), told.get("until")))).data)


class RunsView(AdminView):
    """Payout runs."""

    @endpoint(
        "payout_runs_list",
        "List payout runs. For admins.",
        query=PageQuery,
        answers=page_of(PayoutRunShown),
        reads=True,
    )
    def get(self, request):
        return page(request, _runs(), PayoutRunShown, key="number")

    @endpoint(
        "payout_runs_create",
        "Collect every open withdrawal into a run. For admins.",
        answers=PayoutRunShown,
        status=201,
    )
    def post(self, request):
        require_fresh_session(request)
        return _answer(payouts.create_run(by=request.user), status=201)


class RunView(AdminView):
    """One run."""

    @endpoint("payout_runs_read", "Read one payout run. For admins.", answers=PayoutRunShown, reads=True)
    def get(self, request, run_id):
        return Response(PayoutRunShown(find(_runs(), pk=run_id)).data)


class ItemsView(AdminView):
    """Its items."""

    @endpoint(
        "payout_items_list",
        "List the items of a run. For admins.",
        query=PageQuery,
        answers=page_of(ItemShown),
        reads=True,
    )
    def get(self, request, run_id):
        run = find(PayoutRun.objects.all(), pk=run_id)
        return page(request, Withdrawal.objects.filter(run=run).select_related("user"), ItemShown)


class RecomputeView(AdminView):
    """Everything derived again, before an approval."""

    @endpoint(
        "payout_runs_recompute",
        "Derive a run from the journal and the lines again; its trail keeps the result. For admins.",
        answers=RecomputedShown,
    )
    def post(self, request, run_id):
        found = payouts.recompute(find(PayoutRun.objects.all(), pk=run_id), by=request.user)
        return Response(RecomputedShown(found).data)


class ExportView(AdminView):
    """The file for the bank."""

    content_negotiation_class = AnyAnswer

    @endpoint(
        "payout_runs_export",
        "Download an approved run for the bank: destinations in clear. Needs a fresh session. For admins.",
        answers=OpenApiTypes.BINARY,
        media="text/csv",
        reads=True,
        refusals=(409,),
    )
    def get(self, request, run_id):
        run = find(PayoutRun.objects.all(), pk=run_id)
        require_fresh_session(request)
        content = payouts.export_csv(run)
        audit.record(request.user, "export_payout_run", f"payout_run:{run.pk}")
        response = HttpResponse(content, content_type="text/csv")
        response["Content-Disposition"] = f'attachment; filename="payout-run-{run.number}.csv"'
        return response


class ApproveView(AdminView):
    """One of two approvals."""

    @endpoint(
        "payout_runs_approve",
        "Give one of the two approvals; refused while the report is not zero. For admins.",
        answers=PayoutRunShown,
    )
    def post(self, request, run_id):
        run = find(PayoutRun.objects.all(), pk=run_id)
        require_fresh_session(request)
        return _answer(payouts.approve_run(run, by=request.user))


class SendView(AdminView):
    """The file went to the bank."""

    @endpoint("payout_runs_send", "Say that the file went to the bank. For admins.", answers=PayoutRunShown)
    def post(self, request, run_id):
        run = find(PayoutRun.objects.all(), pk=run_id)
        require_fresh_session(request)
        return _answer(payouts.mark_sent(run, by=request.user))


class ConfirmView(AdminView):
    """The money arrived."""

    @endpoint("payout_items_confirm", "Say that an item arrived. For admins.", answers=ItemShown)
    def post(self, request, run_id, item_id):
        item = find(Withdrawal.objects.filter(run=run_id).select_related("user"), pk=item_id)
        require_fresh_session(request)
        return Response(ItemShown(payouts.confirm_item(item, by=request.user)).data)


class ReturnView(AdminView):
    """The money came back."""

    @endpoint("payout_items_return", "Say that an item came back, and why. For admins.", body=Reason, answers=ItemShown)
    def post(self, request, run_id, item_id):
        item = find(Withdrawal.objects.filter(run=run_id).select_related("user"), pk=item_id)
        require_fresh_session(request)
        return Response(ItemShown(payouts.return_item(item, by=request.user, **body_of(request, Reason))).data)


def _runs():
    found = PayoutRun.objects.select_related("created_by", "first_approver", "second_approver")
    total = Coalesce(Cast(Sum("withdrawals__amount_nano"), BigIntegerField()), 0)
    return found.annotate(items=Count("withdrawals"), total_nano=total)


def _answer(run: PayoutRun, *, status: int = 200) -> Response:
    return Response(PayoutRunShown(_runs().get(pk=run.pk)).data, status=status)
