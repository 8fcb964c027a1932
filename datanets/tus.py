"""Resumable uploads: tus 1.0 as Django views (creation, expiration, checksum, termination).

Creation names its submission: `Upload-Metadata: submission <base64 of its uuid>,filename <base64>,sha256 <base64 of hex>`.
An upload is its owner's: to everybody else it does not exist.

Source: https://tus.io/protocols/resumable-upload version 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.http import http_date

from . import submissions, uploads
from .errors import Conflict, DatanetError, Expired
from .models import Submission, SubmissionFile

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,checksum,termination"
ALGORITHMS = ("sha256", "sha1")
CONTENT_TYPE = "application/offset+octet-stream"
METADATA_CHARS_MAX = 4096


def _speaks_tus(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """What every answer carries, what every request must carry, and business errors as status codes."""

    @wraps(view)
    def speak(request: HttpRequest, *args, **kwargs) -> HttpResponse:
        if request.method == "OPTIONS":
            response = _capabilities()
        elif not request.user.is_authenticated:
            response = HttpResponse(status=401)
        elif request.headers.get("Tus-Resumable") != VERSION:
            response = HttpResponse(status=412, headers={"Tus-Version": VERSION})
        else:
            try:
                response = view(request, *args, **kwargs)
            except DatanetError as error:
                response = _refusal(error)
            except Http404:
                response = HttpResponse(status=404)
        response["Tus-Resumable"] = VERSION
        response["Cache-Control"] = "no-store"
        return response

    return speak


@_speaks_tus
def create(request: HttpRequest) -> HttpResponse:
    """POST /files/: announce a file of one's own submission; the answer's Location takes its bytes."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST, OPTIONS"})
    size_bytes = _whole_number(request.headers.get("Upload-Length"))
    metadata = _metadata(request.headers.get("Upload-Metadata", ""))
    if size_bytes is None or metadata is None or not metadata.get("filename"):
        return _plain(400, "Upload-Length and Upload-Metadata (submission, filename) are needed.")
    try:
        submission = get_object_or_404(Submission, pk=metadata.get("submission"), contributor=request.user)
    except (ValidationError, ValueError):
        raise Http404
    file = uploads.add_file(
        submission, name=metadata["filename"], size_bytes=size_bytes, sha256=metadata.get("sha256", "")
    )
    if size_bytes == 0:
        uploads.finish_file(file)
    headers = {"Location": reverse("tus_file", args=[file.pk]), "Upload-Offset": "0"} | _expiry(file)
    return HttpResponse(status=201, headers=headers)


@_speaks_tus
def upload(request: HttpRequest, file_id: uuid.UUID) -> HttpResponse:
    """HEAD: how far it has come. PATCH: the next bytes. DELETE: give it up."""
    file = get_object_or_404(
        SubmissionFile.objects.select_related("submission"), pk=file_id, submission__contributor=request.user
    )
    if request.method == "HEAD":
        return _standing(file)
    if request.method == "PATCH":
        return _receive(request, file)
    if request.method == "DELETE":
        submissions.drop_file(file, by=file.submission.contributor)
        return HttpResponse(status=204)
    return HttpResponse(status=405, headers={"Allow": "HEAD, PATCH, DELETE, OPTIONS"})


urlpatterns = [
    path("files/", create, name="tus_create"),
    path("files/<uuid:file_id>", upload, name="tus_file"),
]


def _standing(file: SubmissionFile) -> HttpResponse:
    if file.dropped_at is not None or file.error_code == "expired":
        raise Expired
    if file.received_bytes == file.size_bytes:
        uploads.finish_file(file)  # its last part came, and the server died before making one file of the parts
    headers = {"Upload-Offset": str(file.received_bytes), "Upload-Length": str(file.size_bytes)} | _expiry(file)
    return HttpResponse(status=200, headers=headers)


def _receive(request: HttpRequest, file: SubmissionFile) -> HttpResponse:
    offset_bytes = _whole_number(request.headers.get("Upload-Offset"))
    if request.content_type != CONTENT_TYPE:
        return _plain(415, f"The body must be {CONTENT_TYPE}.")
    if offset_bytes is None:
        return _plain(400, "Upload-Offset is needed.")
    try:
        checksum = _checksum(request.headers.get("Upload-Checksum", ""))
    except ValueError:
        return _plain(400, "Upload-Checksum must be: algorithm, space, base64. Algorithms: " + ", ".join(ALGORITHMS))
    offset_bytes = uploads.receive_chunk(file, offset_bytes=offset_bytes, stream=request, checksum=checksum)
    file.refresh_from_db()
    return HttpResponse(status=204, headers={"Upload-Offset": str(offset_bytes)} | _expiry(file))


def _refusal(error: DatanetError) -> HttpResponse:
    response = _plain(error.status, str(error))
    response["X-Error-Code"] = error.code
    if isinstance(error, Conflict) and "offset_bytes" in error.params:
        response["Upload-Offset"] = str(error.params["offset_bytes"])
    return response


def _capabilities() -> HttpResponse:
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(settings.UPLOAD_FILE_MAX_BYTES),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return HttpResponse(status=204, headers=headers)


def _expiry(file: SubmissionFile) -> dict[str, str]:
    return {"Upload-Expires": http_date(file.expires_at.timestamp())} if file.expires_at else {}


def _plain(status: int, words: str) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain; charset=utf-8")


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _metadata(header: str) -> dict[str, str] | None:
    """Key-value pairs, the values in base64. None when they are not."""
    if len(header) > METADATA_CHARS_MAX:
        return None
    found = {}
    for pair in header.split(",") if header else []:
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        if "\0" in found[key]:
            return None
    return found


def _checksum(header: str) -> tuple[str, bytes] | None:
    if not header:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise ValueError(algorithm)
    return algorithm, base64.b64decode(value, validate=True)
