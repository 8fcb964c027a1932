"""What every page knows."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from . import navigation


def site(request: HttpRequest) -> dict:
    """The site's name, the navigation rail, the balance in the top bar and the demo's progress."""
    return {
        "SITE_NAME": settings.SITE_NAME,
        "SITE_URL": settings.SITE_URL,
        "GATEWAY_URL": settings.GATEWAY_URL,
        "DEMO_STATE": settings.DEMO_STATE,
        **navigation.for_request(request),
    }
