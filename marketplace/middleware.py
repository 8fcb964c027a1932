"""What every request passes: an id for its log lines, its language, business errors as pages, the second factor for those
who need it, and the terms for those who agreed to an older version."""

from __future__ import annotations

import re
import uuid
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect
from rest_framework.exceptions import APIException

from . import errors, people, tokens

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


class OnwardLanguageMiddleware:
    """What signs people in has no language in its address: it speaks that of the page it leads on to.

    allauth answers a form again after the password, by its address: that of a French page exists in French only.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path_info.startswith("/accounts/"):
            onward = request.POST.get("next") or request.GET.get("next") or ""
            language = translation.get_language_from_path(onward)
            if language:
                translation.activate(language)
                request.LANGUAGE_CODE = language
        return self.get_response(request)


class BusinessErrorMiddleware:
    """A broken rule that no view repaired becomes a page that says what happened (marketplace.errors)."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        return errors.page_for(request, exception)


class SecondFactorMiddleware:
    """Admins, curators and people with a payout destination must hold a second factor while `REQUIRE_MFA` is on.

    A page leads them to enrolment; a program gets 403 and says why. What signs in, enrols and signs out stays open.
    """

    OPEN = ("/accounts/", "/static/", "/i18n/", "/healthz")
    PROGRAMS = ("/api/", "/files/")

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if not settings.REQUIRE_MFA or request.path.startswith(self.OPEN):
            return self.get_response(request)
        user = self._user(request)
        if user is None or not people.lacks_second_factor(user):
            return self.get_response(request)
        said = _("This account needs a second factor: an authenticator app or a passkey. Add one to go on.")
        if request.path.startswith(self.PROGRAMS):
            error = {"code": "second_factor_required", "message": said}
            return JsonResponse({"error": error, "fields": {}}, status=403)
        messages.warning(request, said)
        target = reverse("mfa_index")
        return HttpResponseClientRedirect(target) if request.htmx else redirect(target)

    def _user(self, request):
        """Who asks: the session's person, or the holder of an API token (which the view itself checks again)."""
        if request.user.is_authenticated:
            return request.user
        if request.path.startswith(self.PROGRAMS):
            try:
                found = tokens.ApiTokenAuthentication().authenticate(request)
            except APIException:
                return None
            return found[0] if found else None
        return None


class TermsMiddleware:
    """Who agreed to an older version of the terms reads the new one before the next page.

    Only pages that are opened: a form that is on its way, a part that htmx fetches and programs go through. What tells of the
    terms, signs out, and lets a person leave with their data stays open.
    """

    ASKED = "terms_asked"
    OPEN = frozenset({"terms", "privacy", "settings_terms", "settings_data", "settings_data_export", "healthz"})
    ELSEWHERE = ("/accounts/", "/api/", "/files/", "/static/", "/media/", "/i18n/")

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_view(self, request, view, args, kwargs):
        if request.method != "GET" or request.htmx or request.path.startswith(self.ELSEWHERE):
            return None
        if request.resolver_match.url_name in self.OPEN or not request.user.is_authenticated:
            return None
        if request.session.get(self.ASKED) == settings.TERMS_VERSION:
            return None
        if not people.agreed_to_older_terms(request.user):
            request.session[self.ASKED] = settings.TERMS_VERSION  # once per session, not once per page
            return None
        return redirect(f"{reverse('settings_terms')}?{urlencode({'next': request.get_full_path()})}")
