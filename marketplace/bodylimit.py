"""How much a request may send: said before anything reads it.

Django's CSRF check and DRF's parsers put a whole body on disk before any view sees it. What is announced as too large is
answered by its header alone.
"""

from __future__ import annotations

import re

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import get_language_from_request, override
from django.utils.translation import gettext as _
from django.views import defaults

FORM_BYTES = 1024 * 1024  # what a form adds to a file: its boundaries, and its other fields

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UPLOADS = re.compile(rf"/files/{_ID}|(?:/[a-z]{{2}})?/contribute/{_ID}/upload/|/api/v1/submissions/{_ID}/files/")
_PROGRAMS = ("/api/", "/files/")


class BodyLimitMiddleware:
    """413 for what is announced as larger than its address takes, 411 for what does not say how large it is."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.META.get("HTTP_TRANSFER_ENCODING") and not request.META.get("CONTENT_LENGTH"):
            return _refuse(request, 411, _length_needed)
        limit = limit_bytes(request.path_info)
        if _announced_bytes(request) > limit:
            return _refuse(request, 413, lambda: _too_large(limit))
        return self.get_response(request)


def limit_bytes(path: str) -> int:
    """What an address takes at most."""
    if _UPLOADS.fullmatch(path):
        return settings.UPLOAD_FILE_MAX_BYTES + FORM_BYTES
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400, and for a form that holds too much a page that says what."""
    if isinstance(exception, RequestDataTooBig):
        return _refuse(request, 413, lambda: _too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
    if isinstance(exception, TooManyFilesSent):
        return _refuse(request, 413, _too_many)
    return defaults.bad_request(request, exception)


def _announced_bytes(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isascii() and text.isdigit() else 0


def _refuse(request: HttpRequest, status: int, words) -> HttpResponse:
    with override(get_language_from_request(request, check_path=True)):
        said = words()
        if request.path_info.startswith(_PROGRAMS):
            code = "length_required" if status == 411 else "too_large"
            return JsonResponse({"error": {"code": code, "message": said}, "fields": {}}, status=status)
        # without the request: its context would ask the session who is there
        return HttpResponse(render_to_string("413.html", {"status": status, "message": said}), status=status)


def _length_needed() -> str:
    return _("Say how many bytes you send: a request without Content-Length is not read.")


def _too_large(limit: int) -> str:
    return _(
        "This address takes at most %(limit_mib)s MiB at once. Nothing was read; what you sent before is kept."
    ) % {"limit_mib": limit // 1024**2}


def _too_many() -> str:
    return _("A form takes at most %(limit)s files at once. Nothing was kept; send them in several turns.") % {
        "limit": settings.DATA_UPLOAD_MAX_NUMBER_FILES
    }
