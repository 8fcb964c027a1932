"""Pictures of records by short-lived signed addresses, on an origin of their own where one is configured."""

from __future__ import annotations

from django.conf import settings
from django.core import signing
from django.http import FileResponse, Http404, HttpRequest
from django.urls import path, reverse

from . import storage

VALID_S = 900
_SIGNER = signing.TimestampSigner(salt="datanets.media")
_FOLDERS = ("records/", "thumbs/")


def url_of(key: str) -> str:
    """An address that shows the picture under this storage key for 15 minutes, to whoever holds it."""
    return settings.MEDIA_ORIGIN + reverse("media", args=[_SIGNER.sign_object(key)])


def serve(request: HttpRequest, token: str) -> FileResponse:
    """GET /media/<token>: the picture. 404 for a token that is not ours or too old."""
    try:
        key = _SIGNER.unsign_object(token, max_age=VALID_S)
        if not key.startswith(_FOLDERS):
            raise Http404
        file = storage.open_file(key)
    except (signing.BadSignature, FileNotFoundError):
        raise Http404
    kind = "image/png" if file.read(4) == b"\x89PNG" else "image/jpeg"
    file.seek(0)
    headers = {"Cache-Control": f"private, max-age={VALID_S}", "X-Content-Type-Options": "nosniff"}
    return FileResponse(file, content_type=kind, headers=headers | {"Content-Security-Policy": "default-src 'none'"})


urlpatterns = [path("media/<str:token>", serve, name="media")]
