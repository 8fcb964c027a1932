"""The API's description: OpenAPI for programs, one page with a table for people."""

from __future__ import annotations

import re

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import include, path
from django.views.decorators.cache import cache_page
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView
from redis import RedisError

from .. import markdown

SCHEMA_KEPT_S = 3600


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """docs/api.md, as it is in the repository."""
    text = (settings.BASE_DIR / "docs" / "api.md").read_text(encoding="utf-8")
    title, rest = markdown.title_of(text)
    # Sections start at ## in the file, and rendering moves headings down by one.
    context = {
        "title": title,
        "html": markdown.to_html(re.sub(r"^##", "#", rest, flags=re.MULTILINE)),
        "language": "en",
        "docs": [],
        "current": "",
    }
    return render(request, "marketplace/explore/document.html", context)


_fresh_schema = SpectacularAPIView.as_view()
_kept_schema = cache_page(SCHEMA_KEPT_S)(_fresh_schema)


def schema(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document, kept for an hour; made anew while the cache does not answer."""
    try:
        return _kept_schema(request)
    except RedisError:
        return _fresh_schema(request)


plain = [
    path("api/v1/", include("marketplace.api.urls")),
    path("api/schema/", schema, name="api_schema"),
    path("api/docs/", reference, name="api_docs"),
]
