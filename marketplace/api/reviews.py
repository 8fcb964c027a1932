"""Curators at work: queue, claim, decide, undo, bulk approval, appeals, reports. Submissions of other Datanets do not exist."""

from __future__ import annotations

from django.db.models import Prefetch
from django.utils.translation import gettext as _
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from datanets import appeals, relations, reports, reviews, sentences
from datanets import services as datanets
from datanets.models import CheckResult, Datanet, Record, Review, Submission

from .. import publishing
from ..errors import NotAllowed
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of, query_of
from .datanets import media_url, media_url_of, named
from .fields import Anything, Choice, Id, RecordId, Shown, Strict, Text
from .submissions import SubmissionDetail, detail

QUEUE_ROWS = 100
RECORDS_MAX = 5_000


class QueueRow(Shown):
    id = serializers.UUIDField()
    datanet = serializers.CharField(source="datanet.path")
    title = serializers.CharField()
    contributor = serializers.CharField(source="contributor.username")
    status = serializers.CharField()
    waiting = serializers.IntegerField(source="waiting_count")
    flagged = serializers.IntegerField(source="flagged_count")
    claimed_by_me = serializers.SerializerMethodField()
    claimed = serializers.SerializerMethodField()
    sent_at = serializers.DateTimeField(allow_null=True)

    def get_claimed_by_me(self, row) -> bool:
        return row.claimed_by_id == self.context["user"].pk

    def get_claimed(self, row) -> bool:
        return row.claimed_by_id is not None


class QueueQuery(Strict):
    state = serializers.ChoiceField(choices=("open", "mine", "disputed", "done"), default="open")
    datanet = serializers.CharField(max_length=101, required=False, help_text="owner/slug")


class Vote(Shown):
    curator = serializers.CharField(source="curator.username")
    decision = serializers.CharField()
    reason = serializers.CharField()
    note = serializers.CharField()
    decided_at = serializers.DateTimeField()


class Finding(Shown):
    check_name = serializers.CharField()
    severity = serializers.CharField()
    sentence = serializers.SerializerMethodField()
    number = serializers.FloatField(allow_null=True, help_text="What was measured; its meaning is in the sentence.")
    evidence = Anything(help_text="Places to point at: spans of fields, an earlier record, neighbours.")

    def get_sentence(self, result) -> str:
        return sentences.of_finding(result.code, result.params)


class ReviewedRecord(Shown):
    id = serializers.IntegerField()
    identity = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField()
    flags = serializers.ListField(child=serializers.CharField())
    quality = serializers.IntegerField(allow_null=True)
    copy_of = serializers.IntegerField(source="copy_of_id", allow_null=True)
    body = serializers.SerializerMethodField()
    media_url = media_url()
    findings = Finding(many=True, source="findings_shown")
    votes = serializers.SerializerMethodField(help_text="Empty until you have voted, or it is decided.")

    def get_body(self, record) -> dict | None:
        return record.body.body if hasattr(record, "body") else None

    def get_media_url(self, record) -> str | None:
        return media_url_of(record)

    def get_votes(self, record) -> list[dict]:
        mine = any(vote.curator_id == self.context["user"].pk for vote in record.standing)
        shown = record.standing if mine or record.status != Record.Status.WAITING else []
        return list(Vote(shown, many=True).data)


class ClaimShown(Shown):
    submission = serializers.UUIDField(source="submission_id")
    until = serializers.DateTimeField()


class Evidence(Strict):
    quote = Text(max_length=1000)


class Decision(Strict):
    records = serializers.ListField(child=RecordId(), min_length=1, max_length=RECORDS_MAX)
    decision = Choice(choices=Review.Decision.choices)
    reason = Choice(choices=Review.Reason.choices, required=False)
    note = Text(max_length=4000, required=False, allow_blank=True)
    evidence = Evidence(required=False)


class Act(Shown):
    act = serializers.UUIDField(help_text="What undo takes back.")
    records = serializers.IntegerField()


class Undone(Shown):
    votes = serializers.IntegerField()


class Chosen(Strict):
    submissions = serializers.ListField(child=Id(), min_length=1, max_length=QUEUE_ROWS)


class Skipped(Shown):
    submission = serializers.UUIDField()
    reason = serializers.CharField()


class Bulk(Shown):
    done = serializers.ListField(child=serializers.UUIDField())
    acts = serializers.ListField(child=serializers.UUIDField())
    skipped = Skipped(many=True)


class OpenAppeal(Shown):
    id = serializers.UUIDField()
    record = serializers.IntegerField(source="record_id")
    datanet = serializers.CharField(source="record.datanet.path")
    text = serializers.CharField()
    reject_reason = serializers.CharField(source="record.reject_reason")
    body = Anything(source="record.body.body", allow_null=True, default=None)
    due_at = serializers.DateTimeField()


class AppealAnswer(Strict):
    answer = Choice(choices=("overturn", "uphold"))
    note = Text(max_length=4000)


class AnsweredAppeal(Shown):
    id = serializers.UUIDField()
    status = serializers.CharField()
    note = serializers.CharField()
    decided_at = serializers.DateTimeField()


class OpenReport(Shown):
    """Not who filed it."""

    id = serializers.UUIDField()
    record = serializers.IntegerField(source="record_id")
    datanet = serializers.CharField(source="record.datanet.path")
    reason = serializers.CharField()
    text = serializers.CharField()
    body = Anything(source="record.body.body", allow_null=True, default=None)
    media_url = media_url()
    created_at = serializers.DateTimeField()

    def get_media_url(self, report) -> str | None:
        return media_url_of(report.record)


class ReportAnswer(Strict):
    answer = Choice(choices=("dismiss", "withdraw"))
    note = Text(max_length=4000)


class AnsweredReport(Shown):
    id = serializers.UUIDField()
    record = serializers.IntegerField(source="record_id")
    status = serializers.CharField()
    note = serializers.CharField()
    closed_at = serializers.DateTimeField()


class QueueView(ApiView):
    """What waits for a curator."""

    @endpoint(
        "reviews_queue",
        "List what waits for you: flagged first, then oldest; at most 100.",
        query=QueueQuery,
        answers=QueueRow(many=True),
        reads=True,
    )
    def get(self, request):
        told = query_of(request, QueueQuery)
        _require_curator(request.user)
        pool: Datanet | None = named(request.user, told["datanet"]) if "datanet" in told else None
        rows = reviews.queue(request.user, datanet=pool, state=told["state"])
        rows = rows.select_related("datanet__owner", "contributor")[:QUEUE_ROWS]
        return Response(QueueRow(rows, many=True, context={"user": request.user}).data)


class ReviewedView(ApiView):
    """A submission, as a curator sees it."""

    @endpoint("reviews_read", "Read a submission that you may review.", answers=SubmissionDetail, reads=True)
    def get(self, request, submission_id):
        return Response(detail(request, reviewable(request, submission_id)))


class ReviewedRecordsView(ApiView):
    """Its records."""

    @endpoint(
        "reviews_records",
        "List the records of a submission you review, with findings.",
        query=PageQuery,
        answers=page_of(ReviewedRecord),
        reads=True,
    )
    def get(self, request, submission_id):
        submission = reviewable(request, submission_id)
        standing = Review.objects.filter(undone_at=None).select_related("curator").order_by("decided_at", "id")
        found = (
            Record.objects.filter(submission=submission)
            .exclude(status=Record.Status.WITHDRAWN)
            .defer("signature", "bands")
            .select_related("body")
            .prefetch_related(
                Prefetch("reviews", standing, to_attr="standing"),
                Prefetch("check_results", CheckResult.objects.order_by("id"), to_attr="findings_shown"),
            )
        )
        return page(request, found, ReviewedRecord, key="pk")


class ClaimView(ApiView):
    """Work on a submission alone."""

    @endpoint("reviews_claim", "Work on a submission alone for half an hour.", answers=ClaimShown)
    def post(self, request, submission_id):
        return Response(ClaimShown(reviews.claim(reviewable(request, submission_id), curator=request.user)).data)

    @endpoint("reviews_release", "Give a submission back.", status=204)
    def delete(self, request, submission_id):
        reviews.release(reviewable(request, submission_id), curator=request.user)
        return Response(status=204)


class DecisionsView(ApiView):
    """Votes on records of one submission."""

    @endpoint(
        "reviews_decide",
        "Approve or reject records. A rejection needs a reason.",
        body=Decision,
        answers=Act,
        status=201,
    )
    def post(self, request, submission_id):
        submission = reviewable(request, submission_id)
        given = body_of(request, Decision)
        chosen = list(Record.objects.filter(submission=submission, pk__in=given["records"]).only("pk"))
        if len(chosen) != len(set(given["records"])):
            raise exceptions.NotFound
        act = reviews.decide(
            chosen,
            curator=request.user,
            decision=given["decision"],
            reason=given.get("reason", ""),
            note=given.get("note", ""),
            evidence=dict(given.get("evidence", {})),
        )
        return Response(Act({"act": act, "records": len(chosen)}).data, status=201)


class ActView(ApiView):
    """One act of one's own."""

    @endpoint("reviews_undo", "Take back one of your decisions, while that is possible.", answers=Undone)
    def delete(self, request, act):
        if not Review.objects.filter(act=act, curator=request.user).exists():
            raise exceptions.NotFound
        return Response(Undone({"votes": reviews.undo(act, by=request.user)}).data)


class ApproveCleanView(ApiView):
    """Whole submissions at once."""

    @endpoint(
        "reviews_approve_clean",
        "Approve submissions that no check flagged; each is reported.",
        body=Chosen,
        answers=Bulk,
    )
    def post(self, request):
        given = body_of(request, Chosen)
        _require_curator(request.user)
        found = Submission.objects.filter(pk__in=given["submissions"]).select_related("datanet", "contributor")
        chosen = [one for one in found if datanets.can_curate(request.user, one.datanet)]
        if len(chosen) != len(set(given["submissions"])):
            raise exceptions.NotFound
        result = reviews.approve_clean(chosen, curator=request.user)
        told = {
            "done": [one.pk for one in result.done],
            "acts": result.acts,
            "skipped": [{"submission": one.pk, "reason": why} for one, why in result.skipped],
        }
        return Response(Bulk(told).data)


class AppealsView(ApiView):
    """Rejections to look at again."""

    @endpoint(
        "appeals_list", "List the appeals you may answer.", query=PageQuery, answers=page_of(OpenAppeal), reads=True
    )
    def get(self, request):
        _require_curator(request.user)
        found = appeals.open_appeals(request.user).select_related("record__datanet__owner", "record__body")
        return page(request, found, OpenAppeal)


class AppealView(ApiView):
    """One appeal."""

    @endpoint(
        "appeals_answer",
        "Answer an appeal: overturn or uphold, and say why.",
        body=AppealAnswer,
        answers=AnsweredAppeal,
    )
    def post(self, request, appeal_id):
        appeal = find(appeals.open_appeals(request.user), pk=appeal_id)
        given = body_of(request, AppealAnswer)
        appeal = appeals.decide_appeal(
            appeal, curator=request.user, overturn=given["answer"] == "overturn", note=given["note"]
        )
        return Response(AnsweredAppeal(appeal).data)


class ReportsView(ApiView):
    """Records that should not be there, somebody says."""

    @endpoint(
        "reports_list",
        "List the reports of records that you may decide on.",
        query=PageQuery,
        answers=page_of(OpenReport),
        reads=True,
    )
    def get(self, request):
        _require_curator(request.user)
        found = reports.open_reports(request.user).select_related("record__datanet__owner", "record__body")
        return page(request, found, OpenReport)


class ReportView(ApiView):
    """One report."""

    @endpoint(
        "reports_decide",
        "Dismiss a report, or withdraw its record, and say why.",
        body=ReportAnswer,
        answers=AnsweredReport,
    )
    def post(self, request, report_id):
        report = find(reports.open_reports(request.user), pk=report_id)
        given = body_of(request, ReportAnswer)
        report = publishing.decide_report(
            report, by=request.user, withdraw=given["answer"] == "withdraw", note=given["note"]
        )
        return Response(AnsweredReport(report).data)


def reviewable(request, submission_id) -> Submission:
    """404 for who does not curate its Datanet, 403 for whom it is too close to."""
    found = find(Submission.objects.select_related("datanet__owner", "contributor"), pk=submission_id)
    if not datanets.can_curate(request.user, found.datanet):
        raise exceptions.NotFound
    relations.require_reviewer(found, request.user)
    return found


def _require_curator(user) -> None:
    if not datanets.curates_any(user):
        raise NotAllowed(_("Only curators of a Datanet see its review queue."))
