"""Theft disputes: opened by who says that records are theirs, answered by their contributor, decided by two who are neither."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from datanets import thefts as data
from datanets.models import TheftDispute

from .. import thefts
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of
from .fields import Choice, RecordId, Shown, Strict, Text, money
from .records import known


class TheftGiven(Strict):
    records = serializers.ListField(
        child=RecordId(),
        min_length=1,
        max_length=data.RECORDS_MAX,
        help_text="Numbers of records of one contributor, in one Datanet.",
    )
    statement = Text(max_length=data.TEXT_CHARS_MAX, help_text="What is yours, and since when.")
    evidence = Text(max_length=data.TEXT_CHARS_MAX, help_text="How others can see that.")
    own_record = RecordId(
        required=False,
        allow_null=True,
        help_text="Your own record here, older than those you dispute, if there is one.",
    )


class TheftText(Strict):
    text = Text(max_length=data.TEXT_CHARS_MAX)


class TheftDecision(Strict):
    answer = Choice(choices=("uphold", "dismiss"), help_text="To uphold takes two people; one dismissal ends it.")
    note = Text(max_length=data.TEXT_CHARS_MAX)


class TheftShown(Shown):
    id = serializers.UUIDField()
    datanet = serializers.CharField(source="datanet.path")
    claimant = serializers.CharField(source="claimant.username")
    contributor = serializers.CharField(source="contributor.username")
    status = serializers.ChoiceField(choices=TheftDispute.Status.choices)
    statement = serializers.CharField()
    evidence = serializers.CharField()
    own_record = serializers.IntegerField(source="own_record_id", allow_null=True)
    answer = serializers.CharField()
    note = serializers.CharField(help_text="Of the last decision; empty before it, and where nobody decided.")
    opened_at = serializers.DateTimeField()
    decide_by = serializers.DateTimeField(help_text="When nobody decided it by then, it lapses, and nothing is held.")
    ended_at = serializers.DateTimeField(allow_null=True)


class TheftMore(Shown):
    records = serializers.ListField(child=serializers.IntegerField())
    moved_nano, moved_open = money("moved_nano")


class TheftDetail(TheftMore, TheftShown):
    """A dispute with its records, and what its author was given of what was pending."""


class TheftsView(ApiView):
    """Disputes one is a party to."""

    @endpoint(
        "theft_disputes_list",
        "List the theft disputes that you opened, or that are about your records.",
        query=PageQuery,
        answers=page_of(TheftShown),
        reads=True,
    )
    def get(self, request):
        return page(request, data.of_party(request.user), TheftShown, key="opened_at")

    @endpoint(
        "theft_disputes_open",
        "Say that records are yours: what they earned and is pending is held until it is decided.",
        body=TheftGiven,
        answers=TheftDetail,
        status=201,
        refusals=(429,),
    )
    def post(self, request):
        given = body_of(request, TheftGiven)
        own = given.get("own_record")
        dispute = thefts.open_dispute(
            [known(request, number) for number in given["records"]],
            by=request.user,
            statement=given["statement"],
            evidence=given["evidence"],
            own_record=known(request, own) if own else None,
        )
        return Response(_detail(request, dispute), status=201)


class TheftsToDecideView(ApiView):
    """Disputes that wait for oneself."""

    @endpoint(
        "theft_disputes_to_decide",
        "List the theft disputes that you may decide on now.",
        query=PageQuery,
        answers=page_of(TheftShown),
        reads=True,
    )
    def get(self, request):
        return page(request, data.to_decide(request.user), TheftShown, key="opened_at")


class TheftView(ApiView):
    """One dispute."""

    @endpoint("theft_disputes_read", "Read one theft dispute.", answers=TheftDetail, reads=True)
    def get(self, request, dispute_id):
        return Response(_detail(request, _found(request, dispute_id)))


class TheftAnswerView(ApiView):
    """The contributor's side."""

    @endpoint(
        "theft_disputes_answer",
        "Answer a theft dispute about your records, once.",
        body=TheftText,
        answers=TheftDetail,
    )
    def post(self, request, dispute_id):
        found, given = _found(request, dispute_id), body_of(request, TheftText)
        return Response(_detail(request, thefts.answer(found, by=request.user, **given)))


class TheftDecisionView(ApiView):
    """A decision."""

    @endpoint(
        "theft_disputes_decide",
        "Uphold a theft dispute, or dismiss it, and say why. For curators and administrators who are no party to it.",
        body=TheftDecision,
        answers=TheftDetail,
    )
    def post(self, request, dispute_id):
        found, given = _found(request, dispute_id), body_of(request, TheftDecision)
        decided = thefts.decide(found, by=request.user, uphold=given["answer"] == "uphold", note=given["note"])
        return Response(_detail(request, decided))


class TheftWithdrawView(ApiView):
    """A second thought."""

    @endpoint("theft_disputes_withdraw", "Take back a theft dispute that you opened.", answers=TheftDetail)
    def post(self, request, dispute_id):
        found = _found(request, dispute_id)
        return Response(_detail(request, thefts.withdraw(found, by=request.user)))


def _found(request, dispute_id) -> TheftDispute:
    return find(data.seen_by(request.user), pk=dispute_id)


def _detail(request, dispute: TheftDispute) -> dict:
    shown = TheftShown(dispute, context={"user": request.user}).data
    records = list(dispute.records.order_by("record_id").values_list("record_id", flat=True))
    return dict(shown) | dict(TheftMore({"records": records, "moved_nano": thefts.moved_nano(dispute)}).data)
