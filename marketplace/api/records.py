"""One record: what it is, what it earned, and if nothing, why. Its contributor takes it back, or appeals;
anybody reports it."""

from __future__ import annotations

from django.db.models import Q
from rest_framework import serializers
from rest_framework.response import Response

from attribution import explain_records
from datanets import records, reviews
from datanets import services as datanets
from datanets.models import Datanet, Record, Report

from .. import earnings, publishing
from ..errors import NotAllowed
from ..views.explanations import why_sentence, zeros_shown
from .base import ApiView, PublicView, body_of, endpoint, find
from .fields import Anything, Choice, Shown, Strict, Text, money


class Zero(Shown):
    model = serializers.CharField(help_text="Path and version.")
    epochs = serializers.CharField(help_text="Numbers and ranges: 1\u20133, 7.")
    calls = serializers.IntegerField()
    reason = serializers.CharField()
    sentence = serializers.CharField()


class Earned(Shown):
    earned_nano, earned_open = money("earned_nano", nullable=True)
    calls = serializers.IntegerField(
        source="call_count",
        allow_null=True,
        help_text="null, as the amounts, for who is neither its contributor nor a curator: it would tell which calls used it.",
    )
    reason = serializers.CharField(help_text="Why it earned nothing; empty when it earned something.")
    sentence = serializers.CharField()
    zeros = Zero(
        many=True, allow_null=True, help_text="Where calls used it and paid nothing, by model; null as the calls."
    )
    leader_id = serializers.IntegerField(allow_null=True)


class RecordDetail(Shown):
    id = serializers.IntegerField()
    datanet = serializers.CharField(source="datanet.path")
    identity = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField()
    contributor = serializers.CharField(source="contributor.username")
    copy_of = serializers.IntegerField(source="copy_of_id", allow_null=True)
    versions = serializers.ListField(child=serializers.CharField())
    body = Anything(allow_null=True, help_text="null for who may not read it, and once it is erased.")
    earned = Earned()


class AppealText(Strict):
    text = Text(max_length=4000)


class AppealShown(Shown):
    id = serializers.UUIDField()
    record = serializers.IntegerField(source="record_id")
    text = serializers.CharField()
    status = serializers.CharField()
    note = serializers.CharField()
    due_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)


class ReportText(Strict):
    reason = Choice(choices=Report.Reason.choices)
    text = Text(max_length=4000)


class ReportShown(Shown):
    id = serializers.UUIDField()
    record = serializers.IntegerField(source="record_id")
    reason = serializers.CharField()
    text = serializers.CharField()
    status = serializers.CharField()
    created_at = serializers.DateTimeField()


class RecordView(PublicView):
    """One record."""

    @endpoint("records_read", "Read one record, what it earned, and why.", answers=RecordDetail, reads=True)
    def get(self, request, record_id):
        return Response(_detail(request, known(request, record_id)))


class RecordWithdrawView(ApiView):
    """Take a record back."""

    @endpoint(
        "records_withdraw", "Take a record back: out of answers at once, out of the next version.", answers=RecordDetail
    )
    def post(self, request, record_id):
        publishing.withdraw_record(known(request, record_id), by=request.user)
        return Response(_detail(request, known(request, record_id)))


class RecordAppealView(ApiView):
    """A second look."""

    @endpoint(
        "records_appeal",
        "Ask another curator to look at your rejected record again.",
        body=AppealText,
        answers=AppealShown,
        status=201,
    )
    def post(self, request, record_id):
        record = known(request, record_id)
        if record.contributor_id != request.user.pk:
            raise NotAllowed
        return Response(
            AppealShown(reviews.appeal(record, by=request.user, **body_of(request, AppealText))).data, status=201
        )


class RecordReportView(ApiView):
    """Something is wrong with it."""

    @endpoint(
        "records_report",
        "Report a record to its curators, who are not told who you are.",
        body=ReportText,
        answers=ReportShown,
        status=201,
        refusals=(429,),
    )
    def post(self, request, record_id):
        record = known(request, record_id)
        report = publishing.report_record(record, by=request.user, **body_of(request, ReportText))
        return Response(ReportShown(report).data, status=201)


def known(request, record_id: int) -> Record:
    """A record one may know of: one's own; approved or withdrawn ones of visible Datanets; all for their curators."""
    found = find(
        Record.objects.defer("signature", "bands")
        .select_related("datanet__owner", "submission", "contributor", "body")
        .filter(Q(contributor=request.user.pk) | Q(datanet__in=Datanet.objects.visible_to(request.user).values("pk"))),
        pk=record_id,
    )
    public = found.status in (Record.Status.APPROVED, Record.Status.WITHDRAWN)
    if not public and request.user.pk != found.contributor_id and not datanets.can_curate(request.user, found.datanet):
        return find(Record.objects.none(), pk=record_id)
    return found


def _detail(request, record: Record) -> dict:
    explanation = explain_records.why_record(record)
    sees_earnings = earnings.are_known_to(request.user, record)
    readable = records.can_see(request.user, record)
    return RecordDetail(
        {
            "id": record.pk,
            "datanet": record.datanet,
            "identity": record.identity,
            "title": record.title if readable else "",
            "status": record.status,
            "contributor": record.contributor,
            "copy_of_id": record.copy_of_id,
            "versions": [version.label for version in records.versions_with(record)],
            "body": records.content_of(record) if readable else None,
            "earned": {
                "earned_nano": explanation.earned_nano if sees_earnings else None,
                "call_count": explanation.call_count if sees_earnings else None,
                "reason": explanation.reason,
                "sentence": why_sentence(explanation, record, in_figures=sees_earnings),
                "zeros": zeros_shown(explanation.zeros, request.user) if sees_earnings else None,
                "leader_id": explanation.leader_id,
            },
        }
    ).data
