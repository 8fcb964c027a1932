"""Datanets, their versions, their records, and who may read them."""

from __future__ import annotations

from urllib.parse import urljoin

from django.conf import settings
from django.db import transaction
from django.http import FileResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from accounts.models import User
from datanets import exports, media, questions, records, schemas, storage
from datanets import services as datanets
from datanets.models import AccessRequest, Datanet, Membership, Version

from .. import notifications, publishing, querysets, training
from ..errors import Invalid, NotAllowed
from .base import (
    AnyAnswer,
    ApiView,
    PageQuery,
    PublicView,
    ReadableView,
    bad_cursor,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    page_response,
    query_of,
)
from .fields import Amount, Anything, AnyValue, Choice, Number, Shown, Strict, Text, Whole, YesNo, money


class DatanetShown(Shown):
    id = serializers.UUIDField()
    path = serializers.CharField(help_text="owner/slug")
    name = serializers.CharField()
    purpose = serializers.CharField()
    kind = serializers.CharField()
    licence = serializers.CharField()
    language = serializers.CharField()
    topics = serializers.ListField(child=serializers.CharField())
    access = serializers.CharField()
    version = serializers.IntegerField(source="version_number", allow_null=True, help_text="The newest one.")
    records = serializers.IntegerField(source="record_count")
    contributors = serializers.IntegerField(source="contributor_count")
    calls_30d = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class DatanetDetail(DatanetShown):
    schema = Anything()
    rights_statement = serializers.CharField()
    guidelines = serializers.CharField()
    attribution_note = serializers.CharField()
    answers = serializers.DictField(child=serializers.CharField(), help_text="By question of the card.")
    approvals_needed = serializers.IntegerField()
    training_fee_nano, training_fee_open = money("training_fee_nano")
    may_read = serializers.BooleanField()
    may_curate = serializers.BooleanField()
    may_export = serializers.BooleanField()


class Column(Strict):
    name = Text(max_length=120)
    type = Choice(choices=schemas.TYPES, required=False)
    required = YesNo(required=False)  # type: ignore[assignment]
    min = Number(required=False)
    max = Number(required=False)
    values = serializers.ListField(child=Text(max_length=200), required=False, max_length=1000)
    description = Text(max_length=300, required=False, allow_blank=True)


class Schema(Strict):
    """A table has columns and perhaps a label among them; texts and images have at most a list of labels."""

    columns = Column(many=True, required=False)
    label = Text(max_length=120, required=False, allow_null=True)  # type: ignore[assignment]
    label_type = serializers.ChoiceField(choices=("category", "number"), required=False)
    labels = serializers.ListField(child=Text(max_length=120), required=False, max_length=1000)


class Answers(Strict):
    """To the questions of a Datanet's card; together they replace those there were."""

    collection = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)
    people = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)
    changes = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)
    gaps = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)
    uses = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)
    misuses = Text(max_length=questions.ANSWER_CHARS_MAX, required=False, allow_blank=True)


class NewDatanet(Strict):
    name = Text(max_length=120)
    slug = Text(max_length=60, required=False, help_text="Made of the name when left out.")
    purpose = Text(max_length=300)
    kind = Choice(choices=Datanet.Kind.choices)
    schema = Schema(required=False)
    licence = Text(max_length=40, help_text="An SPDX identifier from the site's list.")
    rights_statement = Text(max_length=10_000)
    guidelines = Text(max_length=50_000, required=False, allow_blank=True)
    attribution_note = Text(max_length=5_000, required=False, allow_blank=True)
    answers = Answers(required=False)
    language = Text(max_length=8, required=False, allow_blank=True)
    topics = serializers.ListField(child=Text(max_length=60), required=False, max_length=20)
    access = Choice(choices=Datanet.Access.choices, required=False)
    approvals_needed = Whole(min_value=1, max_value=3, required=False)
    preview_rows = Whole(max_value=10_000, required=False)
    export_allowed = YesNo(required=False)
    training_fee_nano = Amount(required=False)


class DatanetChanges(Strict):
    """What an owner may change; what is left out stays. The rest is what records were contributed under."""

    purpose = Text(max_length=300, required=False)
    guidelines = Text(max_length=50_000, required=False, allow_blank=True)
    attribution_note = Text(max_length=5_000, required=False, allow_blank=True)
    answers = Answers(required=False)
    topics = serializers.ListField(child=Text(max_length=60), required=False, max_length=20)
    access = Choice(choices=Datanet.Access.choices, required=False)
    approvals_needed = Whole(min_value=1, max_value=3, required=False)
    preview_rows = Whole(max_value=10_000, required=False)
    export_allowed = YesNo(required=False)


class DatanetQuery(PageQuery):
    kind = serializers.ChoiceField(choices=Datanet.Kind.choices, required=False)
    licence = serializers.CharField(required=False, max_length=40)
    access = serializers.ChoiceField(choices=Datanet.Access.choices, required=False)


class Fee(Strict):
    training_fee_nano = Amount()


class FeeShown(Shown):
    training_fee_nano, training_fee_open = money("training_fee_nano")
    adopted_at = serializers.DateTimeField()


class RuleChangeShown(Shown):
    rule = serializers.CharField()
    before = AnyValue()
    after = AnyValue()
    changed_by = serializers.CharField(source="changed_by.username")
    changed_at = serializers.DateTimeField()


class VersionShown(Shown):
    id = serializers.UUIDField()
    version = serializers.CharField(source="label")
    number = serializers.IntegerField()
    root = serializers.CharField(  # type: ignore[assignment]
        help_text="Merkle root over identities and leader map; in the public log."
    )
    leader_map_sha256 = serializers.CharField()
    records = serializers.IntegerField(source="record_count")
    leaders = serializers.IntegerField(source="leader_count")
    added = serializers.IntegerField(source="added_count")
    removed = serializers.IntegerField(source="removed_count")
    note = serializers.CharField()
    created_at = serializers.DateTimeField()


class VersionDetail(VersionShown):
    statistics = Anything(allow_null=True, help_text="Over all rows; null for who may not read the Datanet.")
    exports = serializers.DictField(
        child=serializers.URLField(), help_text="By format; empty for who may not download."
    )


class Note(Strict):
    note = Text(max_length=500, required=False, allow_blank=True)


def media_url() -> serializers.SerializerMethodField:
    return serializers.SerializerMethodField(
        help_text="Where the picture is, for 15 minutes, to whoever has the address; null for a record without one."
    )


def media_url_of(record) -> str | None:
    if not hasattr(record, "body") or not record.body.media_key:
        return None
    return urljoin(settings.SITE_URL, media.url_of(record.body.media_key))


class RecordShown(Shown):
    id = serializers.IntegerField()
    identity = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField()
    contributor = serializers.CharField(source="contributor.username")
    copy_of = serializers.IntegerField(source="copy_of_id", allow_null=True)
    body = serializers.SerializerMethodField()
    media_url = media_url()

    def get_body(self, record) -> dict | None:
        return record.body.body if hasattr(record, "body") else None

    def get_media_url(self, record) -> str | None:
        return media_url_of(record)


class RecordQuery(PageQuery):
    q = serializers.CharField(required=False, max_length=200, help_text="Words as they stand, in any case.")


class RequestShown(Shown):
    id = serializers.UUIDField()
    who = serializers.CharField(source="user.username")
    purpose = serializers.CharField()
    status = serializers.CharField()
    answer = serializers.CharField()
    created_at = serializers.DateTimeField()
    answered_at = serializers.DateTimeField(allow_null=True)


class Purpose(Strict):
    purpose = Text(max_length=2000)


class Answer(Strict):
    grant = YesNo()
    answer = Text(max_length=1000, required=False, allow_blank=True)


class Handle(Strict):
    handle = Text(max_length=40)


class Member(Shown):
    handle = serializers.CharField(source="user.username")
    role = serializers.CharField()
    since = serializers.DateTimeField()


def visible(user, owner: str, slug: str) -> Datanet:
    """A Datanet that a person may know of."""
    return find(Datanet.objects.visible_to(user).select_related("owner"), owner__username=owner, slug=slug)


def named(user, path: str) -> Datanet:
    """The same, by `owner/slug`."""
    owner, _slash, slug = path.partition("/")
    return visible(user, owner, slug)


def person(handle: str) -> User:
    """Somebody named in a body. Raises Invalid."""
    found = User.objects.filter(username=handle.strip().lstrip("@").lower(), is_active=True).first()
    if found is None:
        raise Invalid(_("Nobody has this handle."))
    return found


def _detail(request, found: Datanet) -> dict:
    pool = querysets.datanets_for(request.user).get(pk=found.pk)
    pool.training_fee_nano = training.fee_nano(pool)
    pool.may_read = datanets.can_read(request.user, pool)
    pool.may_curate = datanets.can_curate(request.user, pool)
    pool.may_export = exports.may_export(request.user, pool)
    return DatanetDetail(pool).data


class DatanetsView(ReadableView):
    """All Datanets one may know of."""

    @endpoint("datanets_list", "List Datanets.", query=DatanetQuery, answers=page_of(DatanetShown), reads=True)
    def get(self, request):
        told = query_of(request, DatanetQuery)
        wanted = {name: told[name] for name in ("kind", "licence", "access") if name in told}
        return page(request, querysets.datanets_for(request.user).filter(**wanted), DatanetShown, told=told)

    @endpoint("datanets_create", "Make a Datanet; you own it.", body=NewDatanet, answers=DatanetDetail, status=201)
    def post(self, request):
        given = body_of(request, NewDatanet)
        fee_nano = given.pop("training_fee_nano", 0)
        with transaction.atomic():
            pool = datanets.create_datanet(owner=request.user, **given)
            if fee_nano:
                training.set_fee(pool, by=request.user, training_fee_nano=fee_nano)
        return Response(_detail(request, pool), status=201)


class DatanetView(ReadableView):
    """One Datanet."""

    @endpoint(
        "datanets_read", "Read one Datanet: its rules, and what you may do there.", answers=DatanetDetail, reads=True
    )
    def get(self, request, owner, slug):
        return Response(_detail(request, visible(request.user, owner, slug)))

    @endpoint(
        "datanets_change",
        "Change purpose, rules or access of a Datanet. For the owner.",
        body=DatanetChanges,
        answers=DatanetDetail,
    )
    def patch(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        publishing.change_datanet(pool, by=request.user, **body_of(request, DatanetChanges))
        return Response(_detail(request, pool))


class FeeView(ApiView):
    """What a training run costs."""

    @endpoint("datanets_fee", "Set the training fee. For the owner.", body=Fee, answers=FeeShown, status=201)
    def post(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        terms = training.set_fee(pool, by=request.user, **body_of(request, Fee))
        return Response(FeeShown(terms).data, status=201)


class RulesView(PublicView):
    """What its rules were."""

    @endpoint(
        "datanets_rules",
        "List what an owner changed of the rules of a Datanet, newest first.",
        query=PageQuery,
        answers=page_of(RuleChangeShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        return page(request, pool.rule_changes.select_related("changed_by"), RuleChangeShown, key="changed_at")


class VersionsView(ReadableView):
    """Frozen versions."""

    @endpoint(
        "versions_list", "List the versions of a Datanet.", query=PageQuery, answers=page_of(VersionShown), reads=True
    )
    def get(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        return page(request, Version.objects.filter(datanet=pool), VersionShown, key="number")

    @endpoint(
        "versions_publish", "Freeze the approved records. For the owner.", body=Note, answers=VersionShown, status=201
    )
    def post(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        version = publishing.publish_version(pool, by=request.user, note=body_of(request, Note).get("note", ""))
        return Response(VersionShown(version).data, status=201)


class VersionView(PublicView):
    """One version."""

    @endpoint(
        "versions_read", "Read one version: statistics, and links to its files.", answers=VersionDetail, reads=True
    )
    def get(self, request, owner, slug, number):
        pool = visible(request.user, owner, slug)
        version = find(Version.objects.filter(datanet=pool), number=number)
        version.exports = {}
        if exports.may_export(request.user, pool):
            version.exports = {
                fmt: request.build_absolute_uri(reverse("api_export", args=[owner, slug, number, fmt]))
                for fmt in exports.FORMATS
            }
        if not datanets.can_read(request.user, pool):
            version.statistics = None
        return Response(VersionDetail(version).data)


class ExportView(ApiView):
    """A version as a file."""

    content_negotiation_class = AnyAnswer

    @endpoint(
        "versions_export",
        "Download a version as parquet, csv or jsonl.",
        answers=OpenApiTypes.BINARY,
        media="application/octet-stream",
        reads=True,
    )
    def get(self, request, owner, slug, number, fmt):
        pool = visible(request.user, owner, slug)
        version = find(Version.objects.filter(datanet=pool).select_related("datanet"), number=number)
        if fmt not in exports.FORMATS:
            raise exceptions.NotFound
        if not exports.may_export(request.user, pool):
            raise NotAllowed(_("You may not download this Datanet. Ask its owner for access."))
        file = storage.open_file(exports.write(version, fmt=fmt))
        name = exports.file_name(version, fmt=fmt)
        return FileResponse(file, as_attachment=True, filename=name, content_type="application/octet-stream")


class PreviewView(PublicView):
    """The approved records one may read."""

    @endpoint(
        "records_preview",
        "Preview records, in the order of their ids.",
        query=RecordQuery,
        answers=page_of(RecordShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        told = query_of(request, RecordQuery)
        pool = visible(request.user, owner, slug)
        if not datanets.can_read(request.user, pool):
            raise NotAllowed(_("The records of this Datanet are not open to you. Ask its owner for access."))
        found = records.search(
            records.preview(pool, viewer=request.user).select_related("contributor"), told.get("q", ""), pool=pool
        )
        after = told.get("after", "")
        if after and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise bad_cursor()
        rows, cursor = records.page(found, after=int(after) if after else None, limit=told["limit"])
        return page_response(request, RecordShown(rows, many=True).data, str(cursor) if cursor else "")


class RequestsView(ApiView):
    """Who wants to read an on-request Datanet."""

    @endpoint(
        "access_requests_list",
        "List access requests: all for the owner, else your own.",
        query=PageQuery,
        answers=page_of(RequestShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        return page(request, _requests(request.user, pool), RequestShown)

    @endpoint(
        "access_requests_create", "Ask to read the whole Datanet.", body=Purpose, answers=RequestShown, status=201
    )
    def post(self, request, owner, slug):
        pool = visible(request.user, owner, slug)
        asked = datanets.request_access(pool, user=request.user, **body_of(request, Purpose))
        address = reverse("datanet_tab", args=[owner, slug, "access"])
        notifications.notify(pool.owner, "access_requested", url=address, datanet=pool.path, by=request.user.username)
        return Response(RequestShown(asked).data, status=201)


class RequestAnswerView(ApiView):
    """The owner's answer."""

    @endpoint("access_requests_answer", "Grant or refuse a request. For the owner.", body=Answer, answers=RequestShown)
    def post(self, request, owner, slug, request_id):
        pool = visible(request.user, owner, slug)
        asked = find(_requests(request.user, pool), pk=request_id)
        given = body_of(request, Answer)
        asked = datanets.answer_access_request(
            asked, by=request.user, grant=given["grant"], answer=given.get("answer", "")
        )
        kind = "access_granted" if given["grant"] else "access_refused"
        notifications.notify(asked.user, kind, url=reverse("datanet", args=[owner, slug]), datanet=pool.path)
        return Response(RequestShown(asked).data)


def _requests(user, pool: Datanet):
    found = AccessRequest.objects.filter(datanet=pool).select_related("user")
    return found if datanets.can_own(user, pool) else found.filter(user=user)


class CuratorsView(ApiView):
    """Who reviews."""

    @endpoint("curators_list", "List who may review here. For the owner.", answers=Member(many=True), reads=True)
    def get(self, request, owner, slug):
        return Response(_members(_owned(request, owner, slug), Membership.Role.CURATOR))

    @endpoint(
        "curators_add", "Let somebody review here. For the owner.", body=Handle, answers=Member(many=True), status=201
    )
    def post(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        datanets.add_curator(pool, user=person(body_of(request, Handle)["handle"]), by=request.user)
        return Response(_members(pool, Membership.Role.CURATOR), status=201)


class CuratorView(ApiView):
    """One curator."""

    @endpoint("curators_remove", "Let a curator go. For the owner.", status=204)
    def delete(self, request, owner, slug, handle):
        pool = _owned(request, owner, slug)
        datanets.remove_curator(pool, user=_member(pool, handle, Membership.Role.CURATOR), by=request.user)
        return Response(status=204)


class ReadersView(ApiView):
    """Who reads a Datanet that is not open."""

    @endpoint("readers_list", "List who was let in to read. For the owner.", answers=Member(many=True), reads=True)
    def get(self, request, owner, slug):
        return Response(_members(_owned(request, owner, slug), Membership.Role.READER))

    @endpoint(
        "readers_add", "Let somebody read here. For the owner.", body=Handle, answers=Member(many=True), status=201
    )
    def post(self, request, owner, slug):
        pool = _owned(request, owner, slug)
        datanets.add_reader(pool, user=person(body_of(request, Handle)["handle"]), by=request.user)
        return Response(_members(pool, Membership.Role.READER), status=201)


class ReaderView(ApiView):
    """One reader."""

    @endpoint("readers_remove", "Let somebody read here no longer. For the owner.", status=204)
    def delete(self, request, owner, slug, handle):
        pool = _owned(request, owner, slug)
        datanets.remove_reader(pool, user=_member(pool, handle, Membership.Role.READER), by=request.user)
        return Response(status=204)


def _owned(request, owner: str, slug: str) -> Datanet:
    pool = visible(request.user, owner, slug)
    if not datanets.can_own(request.user, pool):
        raise NotAllowed(_("Only the owner of this Datanet may do this."))
    return pool


def _members(pool: Datanet, role: Membership.Role):
    found = pool.memberships.filter(role=role).select_related("user").order_by("since")
    return Member(found, many=True).data


def _member(pool: Datanet, handle: str, role: Membership.Role) -> User:
    return find(User.objects.all(), username=handle, memberships__datanet=pool, memberships__role=role)
