"""Test money, and the calls that it paid."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from .. import testmoney
from ..models import TestCall
from .base import ApiView, PageQuery, endpoint, page, page_of
from .fields import Shown, money


class TestMoney(Shown):
    available_nano, available_open = money("available_nano")
    held_nano, held_open = money("held_nano")
    is_granted_today = serializers.BooleanField(help_text="Whether today's (UTC) is taken; there is more tomorrow.")


class TestCallShown(Shown):
    id = serializers.UUIDField()
    model = serializers.CharField(source="version.path")
    key = serializers.CharField(source="key.prefix", allow_null=True, default=None)
    endpoint = serializers.CharField()
    status = serializers.CharField()
    error_code = serializers.CharField()
    streamed = serializers.BooleanField()
    prompt_tokens = serializers.IntegerField()
    answer_tokens = serializers.IntegerField()
    cost_nano, cost_open = money("cost_nano")
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()


class TestMoneyView(ApiView):
    """What test keys spend."""

    @endpoint("test_money_read", "See your test money.", answers=TestMoney, reads=True)
    def get(self, request):
        return Response(TestMoney(testmoney.summary(request.user)).data)

    @endpoint("test_money_top_up", "Take today's test money; once a day, a repeat adds nothing.", answers=TestMoney)
    def post(self, request):
        testmoney.top_up(request.user)
        return Response(TestMoney(testmoney.summary(request.user)).data)


class TestCallsView(ApiView):
    """One's test calls."""

    @endpoint("test_calls_list", "List your test calls.", query=PageQuery, answers=page_of(TestCallShown), reads=True)
    def get(self, request):
        mine = TestCall.objects.filter(buyer=request.user).select_related("version__model__owner", "key")
        return page(request, mine, TestCallShown, key="finished_at")
