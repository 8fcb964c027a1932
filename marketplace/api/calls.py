"""One's calls, who got which part of them, and receipts for everybody."""

from __future__ import annotations

import json

from django.db.models import OuterRef, Subquery
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from attribution import explain
from attribution.reasons import unattributed_sentence

from .. import receipts, samples
from ..models import Call, Refund
from .base import ApiView, PageQuery, PublicView, endpoint, find, page, page_of, query_of
from .fields import Anything, Shown, Strict, money


class CallShown(Shown):
    id = serializers.UUIDField(help_text="The receipt's id, too.")
    model = serializers.CharField(source="version.path")
    key = serializers.CharField(source="key.prefix", allow_null=True, default=None)
    endpoint = serializers.CharField()
    status = serializers.CharField()
    error_code = serializers.CharField()
    streamed = serializers.BooleanField()
    free = serializers.BooleanField(help_text="Paid by the developer.")
    prompt_tokens = serializers.IntegerField()
    answer_tokens = serializers.IntegerField()
    cost_nano, cost_open = money("cost_nano")
    refunded = serializers.UUIDField(source="refund_id", allow_null=True, help_text="The refund's receipt, if it was.")
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()


class Split(Shown):
    """The parts of a charge; they add up to its cost."""

    data_nano, data_open = money("data_nano")
    curation_nano, curation_open = money("curation_nano")
    developer_nano, developer_open = money("developer_nano")
    platform_nano, platform_open = money("platform_nano")
    owner_nano, owner_open = money("owner_nano")


class CallDetail(CallShown):
    price_version = serializers.CharField(source="price_list.sha256")
    split_sha256 = serializers.CharField(source="split_rule.sha256")
    split = Split(source="*")
    attribution = serializers.SerializerMethodField(
        help_text="waiting, attributed, planned, posted, refunded or no_data."
    )

    def get_attribution(self, call) -> str:
        return explain.status_of(call.pk)


class CallQuery(PageQuery):
    since = serializers.DateField(required=False, help_text="First day, UTC.")
    until = serializers.DateField(required=False, help_text="Last day, UTC, included.")
    model = serializers.UUIDField(required=False)
    key = serializers.UUIDField(required=False)
    status = serializers.ChoiceField(choices=Call.Status.choices, required=False)


class ShareShown(Shown):
    """amount = floor(split * weight / weights), and 1 nano more where got_remainder; weight = max(score, 0) * phi."""

    record_id = serializers.IntegerField()
    score = serializers.CharField(help_text="Signed whole number, in text.")
    phi = serializers.IntegerField()
    weight = serializers.CharField(help_text="Whole number, in text.")
    amount_nano, amount_open = money("amount_nano")
    got_remainder = serializers.BooleanField()


class LineShown(Shown):
    payee = serializers.CharField(source="payee.username", allow_null=True, default=None)
    role = serializers.CharField()
    reason = serializers.CharField(help_text="Why it is unattributed; else empty.")
    sentence = serializers.SerializerMethodField()
    amount_nano, amount_open = money("amount_nano")

    def get_sentence(self, line) -> str:
        return unattributed_sentence(line.reason)


class Explanation(Shown):
    """split = floor(data * causal / 1,000,000): what is divided over records."""

    charge_id = serializers.UUIDField()
    status = serializers.CharField()
    reason = serializers.CharField()
    method = serializers.CharField()
    data_nano, data_open = money("data_nano")
    curation_nano, curation_open = money("curation_nano")
    causal_millionths = serializers.IntegerField()
    split_nano, split_open = money("split_nano")
    weights_total = serializers.CharField()
    records = ShareShown(many=True)
    lines = LineShown(many=True)


class ReceiptQuery(Strict):
    part = serializers.ChoiceField(
        choices=("attribution",), required=False, help_text="The second receipt of a charge."
    )


class ReceiptShown(Shown):
    id = serializers.UUIDField()
    type = serializers.CharField()
    status = serializers.CharField(help_text="waiting, sequenced or proved.")
    sentence = serializers.CharField()
    leaf_index = serializers.IntegerField(allow_null=True)
    is_holder = serializers.BooleanField(help_text="Whether all openings are for you.")
    public = Anything(help_text="The clear fields of the entry.")
    receipt = Anything(allow_null=True, help_text="open-receipt/1 with the openings you may have; null until proved.")


class Step(Shown):
    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    result = serializers.CharField()
    text = serializers.CharField()


class Verdict(Shown):
    verified = serializers.BooleanField()
    steps = Step(many=True)


class CallsView(ApiView):
    """One's calls."""

    @endpoint("calls_list", "List your calls.", query=CallQuery, answers=page_of(CallShown), reads=True)
    def get(self, request):
        told = query_of(request, CallQuery)
        columns = {"since": "finished_at__date__gte", "until": "finished_at__date__lte"}
        wanted = {
            columns.get(name, name): told[name] for name in ("since", "until", "model", "key", "status") if name in told
        }
        return page(request, _mine(request).filter(**wanted), CallShown, key="finished_at", told=told)


class CallView(ApiView):
    """One call."""

    @endpoint("calls_read", "Read one call: cost, and the parts it was split into.", answers=CallDetail, reads=True)
    def get(self, request, call_id):
        return Response(CallDetail(find(_mine(request), pk=call_id)).data)


class CallSampleView(ApiView):
    """A call as an example for visitors: price, split and receipt, never what was asked or answered."""

    @endpoint("calls_show", "Show your call on the home page.", answers=CallDetail)
    def put(self, request, call_id):
        call = find(_mine(request), pk=call_id)
        samples.show(call, by=request.user, shown=True)
        return Response(CallDetail(call).data)

    @endpoint("calls_hide", "Stop showing your call.", status=204)
    def delete(self, request, call_id):
        samples.show(find(_mine(request), pk=call_id), by=request.user, shown=False)
        return Response(status=204)


class CallAttributionView(ApiView):
    """Who got what of a call."""

    @endpoint(
        "calls_attribution",
        "See which records shaped the answer, with the integers that reproduce each amount.",
        answers=Explanation,
        reads=True,
    )
    def get(self, request, call_id):
        call = find(_mine(request), pk=call_id)
        found = explain.why_call(call.pk)
        if found is None:
            raise exceptions.NotFound
        return Response(Explanation(found).data)


class ReceiptView(PublicView):
    """The public entry, with what this person may have opened."""

    @endpoint(
        "receipts_read",
        "Read a receipt: the public entry and its proof; openings for who took part.",
        query=ReceiptQuery,
        answers=ReceiptShown,
        status=(200, 202),
        reads=True,
    )
    def get(self, request, receipt_id):
        if query_of(request, ReceiptQuery).get("part"):
            receipt_id = receipts.attributed_id(receipt_id)
        seen = receipts.viewing(receipt_id, request.user)
        if seen is None:
            raise exceptions.NotFound
        status, body = receipts.body(seen)
        told = {
            "id": seen.entry.id,
            "type": seen.entry.type,
            "status": status,
            "sentence": receipts.sentence(seen, request.user),
            "leaf_index": seen.entry.leaf_index,
            "is_holder": seen.is_holder,
            "public": seen.entry.public,
            "receipt": body,
        }
        headers = None if body else {"Retry-After": "1"}
        return Response(ReceiptShown(told).data, status=200 if body else 202, headers=headers)


class VerifyView(PublicView):
    """Check a receipt with this site's pinned keys."""

    @endpoint(
        "receipts_verify",
        "Check a receipt step by step. verify_receipt.py does it without us.",
        body={"application/json": {"type": "object"}},
        answers=Verdict,
    )
    def post(self, request):
        try:
            content = json.dumps(request.data, ensure_ascii=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            raise exceptions.ParseError from None
        steps = receipts.check(content)
        return Response(Verdict({"verified": receipts.is_verified(steps), "steps": steps}).data)


def _mine(request):
    made = Refund.objects.filter(call=OuterRef("pk"), status=Refund.Status.MADE)
    return (
        Call.objects.filter(buyer=request.user)
        .select_related("version__model__owner", "key", "price_list", "split_rule")
        .annotate(refund_id=Subquery(made.values("pk")))
    )
