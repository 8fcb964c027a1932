"""Planted records, for the owner of a Datanet; to everybody else they do not exist. And the accuracy of curators."""

from __future__ import annotations

from django.utils.translation import gettext as _
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from datanets import gold, goldresults
from datanets import services as datanets
from datanets.models import Datanet, GoldItem, Record, Review

from ..errors import Invalid, NotAllowed
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of
from .datanets import visible
from .fields import Choice, RecordId, Shown, Strict, Text, Whole


class Decided(Shown):
    curator = serializers.CharField()
    is_right = serializers.BooleanField()
    decided_at = serializers.DateTimeField()


class GoldItemShown(Shown):
    id = serializers.UUIDField()
    state = serializers.CharField(help_text="stock, planted, revealed or retired.")
    file_name = serializers.CharField()
    title = serializers.CharField()
    records = serializers.IntegerField(source="record_count")
    decision = serializers.CharField()
    reason = serializers.CharField()
    made_from = serializers.IntegerField(source="source_id", allow_null=True, help_text="A record.")
    submission = serializers.UUIDField(source="submission_id", allow_null=True)
    added_at = serializers.DateTimeField()
    planted_at = serializers.DateTimeField(allow_null=True)
    revealed_at = serializers.DateTimeField(allow_null=True)
    retired_at = serializers.DateTimeField(allow_null=True)


class GoldItemResults(GoldItemShown):
    votes = serializers.SerializerMethodField(help_text="How each curator decided.")

    def get_votes(self, item) -> list[dict]:
        return list(Decided(goldresults.of_items([item])[item.pk], many=True).data)


class NewGoldItem(Strict):
    """Either the content of a file, or a decided record to plant a copy of."""

    record = RecordId(required=False)
    file_name = Text(max_length=255, required=False)
    content = Text(max_length=1_000_000, required=False, help_text="Text: what the file holds.")
    title = Text(max_length=160, required=False, allow_blank=True)
    decision = Choice(choices=Review.Decision.choices, required=False)
    reason = Choice(choices=Review.Reason.choices, required=False)


class GoldShare(Strict):
    percent = Whole(max_value=gold.SHARE_PERCENT_MAX)


class GoldShareShown(Shown):
    percent = serializers.IntegerField()


class AccuracyShown(Shown):
    datanet = serializers.CharField(source="datanet.path")
    curator = serializers.CharField(source="curator.username")
    accuracy_millionths = serializers.IntegerField(source="millionths")
    is_measured = serializers.BooleanField()
    gold_right = serializers.IntegerField(source="counts.gold_right")
    gold_wrong = serializers.IntegerField(source="counts.gold_wrong")
    stood = serializers.IntegerField(source="counts.stood")
    overturned = serializers.IntegerField(source="counts.overturned")


class GoldView(ApiView):
    """What an owner planted."""

    @endpoint(
        "gold_list",
        "List your planted items, newest first. For the owner.",
        query=PageQuery,
        answers=page_of(GoldItemShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        return page(request, GoldItem.objects.filter(datanet=pool), GoldItemShown, key="added_at")

    @endpoint(
        "gold_add",
        "Put a file, or a copy of a decided record, in stock. For the owner.",
        body=NewGoldItem,
        answers=GoldItemShown,
        status=201,
    )
    def post(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        told = body_of(request, NewGoldItem)
        if "record" in told:
            record = find(Record.objects.filter(datanet=pool, is_gold=False), pk=told["record"])
            item = gold.add_record(record, by=request.user, reason=told.get("reason", ""))
        elif not told.get("file_name") or not told.get("content"):
            raise Invalid(_("Send file_name and content, or record."))
        else:
            item = gold.add_file(
                pool,
                by=request.user,
                name=told["file_name"],
                content=told["content"].encode(),
                decision=told.get("decision", ""),
                reason=told.get("reason", ""),
                title=told.get("title", ""),
            )
        return Response(GoldItemShown(item).data, status=201)


class GoldItemView(ApiView):
    """One of them."""

    @endpoint(
        "gold_read", "Read a planted item, and how it was decided. For the owner.", answers=GoldItemResults, reads=True
    )
    def get(self, request, owner, slug, gold_id):
        pool = _owned(request, owner, slug)
        return Response(GoldItemResults(find(GoldItem.objects.filter(datanet=pool), pk=gold_id)).data)

    @endpoint("gold_retire", "Take an item out of stock, queue and measure. For the owner.", status=204)
    def delete(self, request, owner, slug, gold_id):
        pool = _owned(request, owner, slug)
        gold.retire(find(GoldItem.objects.filter(datanet=pool), pk=gold_id), by=request.user)
        return Response(status=204)


class GoldShareView(ApiView):
    """How many are planted."""

    @endpoint(
        "gold_share",
        "Read how many of a hundred submissions may be planted. For the owner.",
        answers=GoldShareShown,
        reads=True,
    )
    def get(self, request, owner, slug):
        return Response(GoldShareShown({"percent": gold.share_of(_owned(request, owner, slug))}).data)

    @endpoint(
        "gold_share_set",
        "State how many of a hundred may be planted, 0 to 10. For the owner.",
        body=GoldShare,
        answers=GoldShareShown,
    )
    def put(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        gold.set_share(pool, by=request.user, **body_of(request, GoldShare))
        return Response(GoldShareShown({"percent": gold.share_of(pool)}).data)


class CuratorAccuraciesView(ApiView):
    """How right its curators are."""

    @endpoint(
        "accuracies_list",
        "List the accuracies of a Datanet's curators. For the owner.",
        answers=AccuracyShown(many=True),
        reads=True,
    )
    def get(self, request, owner, slug):
        return Response(AccuracyShown(goldresults.of_datanet(_owned(request, owner, slug)), many=True).data)


class OwnAccuracyView(ApiView):
    """How right oneself is."""

    @endpoint(
        "reviews_accuracy",
        "See your own accuracy, Datanet by Datanet, with its counts.",
        answers=AccuracyShown(many=True),
        reads=True,
    )
    def get(self, request):
        if not datanets.curates_any(request.user):
            raise NotAllowed(_("Only curators of a Datanet have an accuracy."))
        return Response(AccuracyShown(goldresults.of_curator(request.user), many=True).data)


def _owned(request, owner: str, slug: str) -> Datanet:
    """404 for everybody else: a curator does not even learn that items are planted here."""
    pool = visible(request.user, owner, slug)
    if not datanets.can_own(request.user, pool):
        raise exceptions.NotFound
    return pool
