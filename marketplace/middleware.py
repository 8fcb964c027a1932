"""What every request passes: an id for its log lines, business errors as pages, the second factor for those who need it."""

from __future__ import annotations

import re
import uuid

from django.conf import settings
from django.shortcuts import redirect
from django.urls import reverse

from . import errors

REQUEST_ID = re.compile(r"^[A-Za-z0-9-]{8,40}$")


class RequestIdMiddleware:
    """`x-request-id`: taken from a proxy when it is well formed, else made here; returned to the caller."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        given = request.headers.get("x-request-id", "")
        request.request_id = given if REQUEST_ID.match(given) else uuid.uuid4().hex
        response = self.get_response(request)
        response["x-request-id"] = request.request_id
        return response


class BusinessErrorMiddleware:
    """A broken rule that no view repaired becomes a page that says what happened (marketplace.errors)."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        return errors.page_for(request, exception)


class SecondFactorMiddleware:
    """Admins, curators and people with a payout destination must hold a second factor while `REQUIRE_MFA` is on."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if settings.REQUIRE_MFA and self._must_enrol(request):
            return redirect(reverse("mfa_index"))
        return self.get_response(request)

    def _must_enrol(self, request) -> bool:
        user = request.user
        if not user.is_authenticated or request.path.startswith(("/accounts/", "/static/", "/i18n/", "/healthz")):
            return False
        from allauth.mfa.utils import is_mfa_enabled

        from .people import needs_second_factor

        return needs_second_factor(user) and not is_mfa_enabled(user)
