"""The public log, for everybody."""

from __future__ import annotations

from rest_framework import exceptions, serializers
from rest_framework.response import Response

from ledger import api as log

from .base import PageQuery, PublicView, bad_cursor, endpoint, page_of, page_response, query_of
from .fields import Anything, Shown


class HeadShown(Shown):
    size = serializers.IntegerField(help_text="0 while there is no witnessed head.")
    root = serializers.CharField()  # type: ignore[assignment]
    checkpoint = serializers.CharField(help_text="The signed note with its cosignatures.")
    witnesses = serializers.ListField(child=serializers.CharField())
    quorum = serializers.IntegerField()
    leaves = serializers.IntegerField(help_text="Entries sequenced so far.")
    log_vkey = serializers.CharField()
    former_log_vkeys = serializers.ListField(
        child=serializers.CharField(), help_text="Keys that signed before; old receipts verify by them."
    )
    witness_vkeys = serializers.ListField(child=serializers.CharField())


class CheckpointShown(Shown):
    size = serializers.IntegerField()
    root = serializers.CharField()  # type: ignore[assignment]
    note = serializers.CharField()
    witnesses = serializers.ListField(child=serializers.CharField())
    signed_at = serializers.DateTimeField()


class ConsistencyShown(Shown):
    old = serializers.IntegerField()
    new = serializers.IntegerField()
    proof = serializers.ListField(child=serializers.CharField(), help_text="Base64 hashes, in the order of RFC 6962.")


class EntryShown(Shown):
    index = serializers.IntegerField()
    id = serializers.UUIDField()
    type = serializers.CharField()
    entry = Anything(help_text="Exactly as it is hashed, but for whitespace: canonical JSON.")
    leaf_hash = serializers.CharField()


class EntryQuery(PageQuery):
    type = serializers.CharField(required=False, max_length=40, help_text="Such as call.charged.")
    model_id = serializers.UUIDField(required=False)


class HeadView(PublicView):
    """The newest head."""

    @endpoint("ledger_head", "Read the newest witnessed head and the keys to check it.", answers=HeadShown, reads=True)
    def get(self, request):
        return Response(HeadShown(log.head()).data)


class CheckpointsView(PublicView):
    """All signed heads."""

    @endpoint("ledger_checkpoints", "List signed heads.", query=PageQuery, answers=page_of(CheckpointShown), reads=True)
    def get(self, request):
        told = query_of(request, PageQuery)
        rows = log.checkpoints(before=_before(told), limit=told["limit"] + 1)
        return _page(request, rows, told["limit"], CheckpointShown, "size")


class CheckpointView(PublicView):
    """One signed head."""

    @endpoint("ledger_checkpoint", "Read the signed head of a size.", answers=CheckpointShown, reads=True)
    def get(self, request, size):
        return Response(CheckpointShown(_found(log.checkpoint(size))).data)


class ConsistencyView(PublicView):
    """That one head extends another."""

    @endpoint(
        "ledger_consistency",
        "Prove that the signed head of one size extends the one of another.",
        answers=ConsistencyShown,
        reads=True,
    )
    def get(self, request, old, new):
        return Response(ConsistencyShown(_found(log.consistency(old, new))).data)


class EntriesView(PublicView):
    """All entries."""

    @endpoint("ledger_entries", "List the log's entries.", query=EntryQuery, answers=page_of(EntryShown), reads=True)
    def get(self, request):
        told = query_of(request, EntryQuery)
        wanted = {name: str(told[name]) for name in ("type", "model_id") if name in told}
        rows = log.entries(before=_before(told), limit=told["limit"] + 1, wanted=wanted)
        return _page(request, rows, told["limit"], EntryShown, "index")


class EntryView(PublicView):
    """One entry."""

    @endpoint("ledger_entry", "Read one entry.", answers=EntryShown, reads=True)
    def get(self, request, index):
        return Response(EntryShown(_found(log.entry(index))).data)


def _found(row: dict | None) -> dict:
    if row is None:
        raise exceptions.NotFound
    return row


def _before(told: dict) -> int | None:
    after = told.get("after", "")
    if after and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise bad_cursor()
    return int(after) if after else None


def _page(request, rows: list[dict], limit: int, shown: type[Shown], key: str) -> Response:
    cursor = str(rows[limit - 1][key]) if len(rows) > limit else ""
    return page_response(request, shown(rows[:limit], many=True).data, cursor)
