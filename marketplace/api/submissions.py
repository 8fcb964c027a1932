"""Sending data: start, upload, correct, describe, sign and send, take back. One's own only: others' do not exist."""

from __future__ import annotations

from django.conf import settings
from django.db.models import Count
from django.urls import reverse
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response

from datanets import findings, sentences, submissions, uploads
from datanets.models import BrokenRow, CheckResult, Record, Submission, SubmissionFile

from .base import (
    ApiView,
    PageQuery,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    require_agreement,
)
from .datanets import named
from .fields import Anything, Id, Shown, Strict, Text, Values, YesNo


class SubmissionShown(Shown):
    id = serializers.UUIDField()
    datanet = serializers.CharField(source="datanet.path")
    title = serializers.CharField()
    status = serializers.CharField()
    status_code = serializers.CharField()
    sentence = serializers.SerializerMethodField(help_text="What is going on, and what to do next.")
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)

    def get_sentence(self, submission) -> str:
        return sentences.of_state(submission.status_code, submission.status_params)


class FileShown(Shown):
    id = serializers.UUIDField()
    name = serializers.CharField()
    size_bytes = serializers.IntegerField()
    received_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()
    status = serializers.CharField()
    error = serializers.SerializerMethodField(help_text="Why it failed, as a sentence; else empty.")
    records = serializers.IntegerField(source="records_ok")
    broken_rows = serializers.IntegerField(source="rows_broken")

    def get_error(self, file) -> str:
        return sentences.of_problem(file.error_code, file.error_params) if file.error_code else ""


class CheckShown(Shown):
    name = serializers.CharField()
    title = serializers.CharField()
    files_done = serializers.IntegerField()
    files_total = serializers.IntegerField()
    findings = serializers.ListField(child=serializers.CharField())


class SubmissionDetail(SubmissionShown):
    description = serializers.CharField()
    source_url = serializers.CharField()
    rights_statement = serializers.CharField(source="datanet.rights_statement", help_text="What sending signs.")
    revision_of = serializers.UUIDField(source="revision_of_id", allow_null=True)
    files = FileShown(many=True)
    checks = CheckShown(many=True)
    records = serializers.DictField(child=serializers.IntegerField(), help_text="How many, by status.")
    tus_url = serializers.URLField(help_text="Where large files go, resumable; for sessions. Programs post to files/.")


class NewSubmission(Strict):
    datanet = Text(max_length=101, help_text="owner/slug")
    title = Text(max_length=160, required=False, allow_blank=True)
    revision_of = Id(required=False, allow_null=True, help_text="A decided submission of yours that this one improves.")


class Description(Strict):
    title = Text(max_length=160, required=False, allow_blank=True)
    description = Text(max_length=20_000, required=False, allow_blank=True)
    source_url = Text(max_length=500, required=False, allow_blank=True)


class Upload(Strict):
    file = serializers.FileField(allow_empty_file=True, max_length=255)
    sha256 = serializers.RegexField(r"^[0-9a-f]{64}$", required=False, help_text="What the bytes must hash to.")


class RowShown(Shown):
    id = serializers.IntegerField()
    file = serializers.UUIDField(source="file_id")
    line = serializers.IntegerField()
    name = serializers.CharField()
    column = serializers.CharField()
    code = serializers.CharField()
    sentence = serializers.SerializerMethodField()
    values = Anything()
    record = serializers.IntegerField(source="record_id", allow_null=True, help_text="The record it became.")

    def get_sentence(self, row) -> str:
        return sentences.of_problem(row.code, row.params)


class RowValues(Strict):
    values = Values(help_text="By column, as text or as the column's type.")


class Signature(Strict):
    sign_rights = YesNo(help_text="true: you sign the Datanet's rights statement.")


class OwnRecord(Shown):
    id = serializers.IntegerField()
    identity = serializers.CharField()
    title = serializers.CharField()
    status = serializers.CharField()
    reject_reason = serializers.CharField()
    copy_of = serializers.IntegerField(source="copy_of_id", allow_null=True)
    flags = serializers.ListField(child=serializers.CharField())
    quality = serializers.IntegerField(allow_null=True)


class SubmissionsView(ApiView):
    """One's submissions."""

    @endpoint(
        "submissions_list", "List your submissions.", query=PageQuery, answers=page_of(SubmissionShown), reads=True
    )
    def get(self, request):
        return page(request, _mine(request), SubmissionShown)

    @endpoint("submissions_create", "Start to send data.", body=NewSubmission, answers=SubmissionDetail, status=201)
    def post(self, request):
        given = body_of(request, NewSubmission)
        require_agreement(request.user)
        pool = named(request.user, given["datanet"])
        old = find(_mine(request), pk=given["revision_of"]) if given.get("revision_of") else None
        found = submissions.start(datanet=pool, contributor=request.user, title=given.get("title", ""), revision_of=old)
        return _answer(request, found, status=201)


class SubmissionView(ApiView):
    """One submission."""

    @endpoint(
        "submissions_read",
        "See where a submission stands: files, checks, what to do next.",
        answers=SubmissionDetail,
        reads=True,
    )
    def get(self, request, submission_id):
        return _answer(request, own(request, submission_id))

    @endpoint(
        "submissions_describe",
        "Say what the data is and where it comes from.",
        body=Description,
        answers=SubmissionDetail,
    )
    def patch(self, request, submission_id):
        found = own(request, submission_id)
        told = {name: getattr(found, name) for name in ("title", "description", "source_url")}
        submissions.describe(found, by=request.user, **told | body_of(request, Description))
        return _answer(request, found)


class FilesView(ApiView):
    """The files of a submission."""

    parser_classes = (MultiPartParser,)

    @endpoint(
        "submissions_upload",
        "Upload one file, whole.",
        body={"multipart/form-data": Upload},
        answers=FileShown,
        status=201,
    )
    def post(self, request, submission_id):
        found = own(request, submission_id)
        given = body_of(request, Upload)
        file = uploads.receive_file(
            found,
            name=given["file"].name,
            stream=given["file"],
            size_bytes=given["file"].size,
            sha256=given.get("sha256", ""),
        )
        if not given["file"].size:
            file = uploads.finish_file(file)
        return Response(FileShown(file).data, status=201)


class FileView(ApiView):
    """One file."""

    @endpoint("submissions_file_drop", "Go on without a file: its bytes and records are erased.", status=204)
    def delete(self, request, submission_id, file_id):
        files = SubmissionFile.objects.filter(submission=own(request, submission_id)).select_related("submission")
        submissions.drop_file(find(files, pk=file_id), by=request.user)
        return Response(status=204)


class RowsView(ApiView):
    """Rows that did not fit."""

    @endpoint(
        "submissions_rows",
        "List the broken rows, the newest first.",
        query=PageQuery,
        answers=page_of(RowShown),
        reads=True,
    )
    def get(self, request, submission_id):
        rows = BrokenRow.objects.awaiting_author().filter(file__submission=own(request, submission_id))
        return page(request, rows, RowShown, key="pk")


class FileRowsView(ApiView):
    """The broken rows of one file."""

    @endpoint("submissions_rows_drop", "Go on without all broken rows of a file.", status=204)
    def delete(self, request, submission_id, file_id):
        file = find(SubmissionFile.objects.filter(submission=own(request, submission_id)), pk=file_id)
        for row in BrokenRow.objects.still_broken().filter(file=file):
            submissions.drop_row(row, by=request.user)
        return Response(status=204)


class RowView(ApiView):
    """One row."""

    @endpoint(
        "submissions_row_fix",
        "Correct a broken row. It becomes a record, or says what is still wrong.",
        body=RowValues,
        answers=RowShown,
    )
    def post(self, request, submission_id, row_id):
        row = _row(request, submission_id, row_id)
        submissions.fix_row(row, by=request.user, values=body_of(request, RowValues)["values"])
        row.refresh_from_db()
        return Response(RowShown(row).data)

    @endpoint("submissions_row_drop", "Go on without a row.", status=204)
    def delete(self, request, submission_id, row_id):
        submissions.drop_row(_row(request, submission_id, row_id), by=request.user)
        return Response(status=204)


class SendView(ApiView):
    """Sign and send."""

    @endpoint(
        "submissions_send", "Sign the rights statement and send for review.", body=Signature, answers=SubmissionDetail
    )
    def post(self, request, submission_id):
        found = own(request, submission_id)
        if not body_of(request, Signature)["sign_rights"]:
            raise serializers.ValidationError({"sign_rights": ["Nothing is sent without it."]})
        require_agreement(request.user)
        return _answer(request, submissions.sign_and_send(found, by=request.user))


class WithdrawView(ApiView):
    """Take it back."""

    @endpoint(
        "submissions_withdraw", "Take a submission back: what is not decided is erased.", answers=SubmissionDetail
    )
    def post(self, request, submission_id):
        return _answer(request, submissions.withdraw(own(request, submission_id), by=request.user))


class OwnRecordsView(ApiView):
    """What became of the rows."""

    @endpoint(
        "submissions_records",
        "List the records of a submission.",
        query=PageQuery,
        answers=page_of(OwnRecord),
        reads=True,
    )
    def get(self, request, submission_id):
        found = Record.objects.filter(submission=own(request, submission_id)).defer("signature", "bands")
        return page(request, found, OwnRecord, key="pk")


def own(request, submission_id) -> Submission:
    """A submission of the person who asks."""
    return find(_mine(request), pk=submission_id)


def detail(request, found: Submission) -> dict:
    """A submission with its files, checks and counts."""
    counts = Record.objects.filter(submission=found).order_by().values_list("status").annotate(count=Count("pk"))
    told = {
        "files": list(found.files.filter(dropped_at=None).order_by("created_at", "pk")),
        "checks": _checks(found),
        "records": dict(counts),
        "tus_url": settings.SITE_URL + reverse("tus_create"),
    }
    return SubmissionDetail(_Told(found, told)).data


class _Told:
    """A submission, with what its row does not hold in place of its relations."""

    def __init__(self, submission: Submission, told: dict):
        self._submission = submission
        self.__dict__.update(told)

    def __getattr__(self, name: str):
        return getattr(self._submission, name)


def _mine(request):
    return Submission.objects.filter(contributor=request.user).select_related("datanet__owner", "contributor")


def _row(request, submission_id, row_id: int) -> BrokenRow:
    rows = BrokenRow.objects.filter(file__submission=own(request, submission_id))
    return find(rows.select_related("file__submission"), pk=row_id)


def _answer(request, found: Submission, *, status: int = 200) -> Response:
    return Response(detail(request, own(request, found.pk)), status=status)


def _checks(found: Submission) -> list[dict]:
    told: dict[str, list[str]] = {}
    results = CheckResult.objects.filter(submission=found, record=None, file__dropped_at=None).order_by("id")
    for result in results:
        told.setdefault(result.check_name, []).append(sentences.of_finding(result.code, result.params))
    return [
        {
            "name": name,
            "title": sentences.title_of_check(name),
            "files_done": done,
            "files_total": total,
            "findings": told.get(name, []),
        }
        for name, done, total in findings.progress(found)
    ]
