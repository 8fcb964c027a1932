"""My profile, my API token, my data, my notifications."""

from __future__ import annotations

import shlex

from allauth.account.decorators import reauthentication_required
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import override
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.models import Consent
from accounts.requests import SignedInRequest

from .. import erasure, listings, mydata, notifications, people, querysets, tokens
from ..errors import NotReady
from ..forms_accounts import TermsForm
from ..forms_build import CloseForm, ProfileForm
from ..models import Notification
from . import explore
from .explanations import notification_sentence

_SESSION = "new_token"


@login_required
def settings_profile(request: SignedInRequest) -> HttpResponse:
    """What others see of me, and the language in which the site goes on at once."""
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        with override(user.language):
            messages.success(request, _("Your profile is saved."))
            response = redirect("settings_profile")
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            user.language,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return response
    context = {"form": form, "tabs": settings_tabs("profile")}
    return render(request, "marketplace/build/settings_profile.html", context, status=422 if request.POST else 200)


@login_required
@never_cache
def settings_token(request: SignedInRequest) -> HttpResponse:
    """The token with which a program acts for me. One that was just made is shown here, once."""
    sealed = request.session.pop(_SESSION, "")
    secret = listings.open_field(sealed) if sealed else ""
    header = shlex.quote(f"Authorization: Token {secret or '…'}")
    context = {
        "token": tokens.of(request.user),
        "secret": secret,
        "curl": f"curl {settings.SITE_URL}/api/v1/me/ \\\n  -H {header}\n",
        "tabs": settings_tabs("token"),
    }
    return render(request, "marketplace/build/settings_token.html", context)


@login_required
@reauthentication_required
@never_cache
def settings_token_new(request: SignedInRequest) -> HttpResponse:
    """Make a token; the one before ends."""
    if request.method == "POST":
        # Sealed, and taken out by the next page: the secret never lies readable in the session table.
        request.session[_SESSION] = listings.seal_field(tokens.replace(request.user)[1])
        return redirect("settings_token")
    context = {"token": tokens.of(request.user), "tabs": settings_tabs("token")}
    return render(request, "marketplace/build/settings_token_new.html", context)


@login_required
@require_POST
def settings_token_revoke(request: SignedInRequest) -> HttpResponse:
    """End my token at once. Without one nothing happens."""
    tokens.revoke(request.user)
    messages.success(request, _("You have no API token now: programs that used it are refused."))
    return redirect("settings_token")


@login_required
def settings_terms(request: SignedInRequest) -> HttpResponse:
    """The terms have a new version: agree to it, and go on where it interrupted."""
    onward = request.POST.get("next") or request.GET.get("next", "")
    if not url_has_allowed_host_and_scheme(onward, allowed_hosts=None):
        onward = reverse("home")
    form = TermsForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        people.give_consent(request.user, Consent.Document.TERMS)
        people.give_consent(request.user, Consent.Document.PRIVACY)
        return redirect(onward)
    context = {"form": form, "next": onward, "version": settings.TERMS_VERSION}
    return render(request, "marketplace/build/settings_terms.html", context, status=422 if request.POST else 200)


@login_required
def settings_data(request: SignedInRequest) -> HttpResponse:
    """What the site holds of me, what I agreed to, and the way out."""
    context = {
        "consents": request.user.consents.order_by("-given_at"),
        "close_form": CloseForm(user=request.user),
        "tabs": settings_tabs("data"),
    }
    return render(request, "marketplace/build/settings_data.html", context)


@login_required
def settings_data_export(request: SignedInRequest) -> JsonResponse:
    """Everything kept about me, as one JSON file."""
    name = f"my-data-{request.user.username}.json"
    return JsonResponse(
        mydata.export(request.user),
        json_dumps_params={"ensure_ascii": False, "indent": 1},
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@login_required
@reauthentication_required(allow_get=True)
@require_POST
def settings_close(request: SignedInRequest) -> HttpResponse:
    """Close my account."""
    form = CloseForm(request.POST, user=request.user)
    if form.is_valid():
        try:
            if form.cleaned_data["erase"]:
                erasure.erase_person(request.user)
            else:
                people.close_account(request.user)
        except NotReady as problem:
            form.add_error(None, str(problem))
        else:
            logout(request)
            messages.success(request, _("Your account is closed."))
            return redirect("home")
    context = {
        "consents": request.user.consents.order_by("-given_at"),
        "close_form": form,
        "tabs": settings_tabs("data"),
    }
    return render(request, "marketplace/build/settings_data.html", context, status=422)


@login_required
def inbox(request: SignedInRequest) -> HttpResponse:
    """What happened to my things, newest first."""
    if request.method == "POST":
        notifications.mark_read(request.user)
        return redirect("inbox")
    page = querysets.page_by(
        Notification.objects.filter(user=request.user, is_silent=False),
        "created_at",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    for line in page.rows:
        line.sentence = notification_sentence(line)
    context = {
        "page": page,
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
        "unread": Notification.objects.filter(user=request.user, is_silent=False, read_at__isnull=True).exists(),
    }
    return render(request, "marketplace/build/inbox.html", context)


def settings_tabs(current: str) -> list[dict]:
    """The tabs of the settings pages."""
    found = []
    for key, name, label in (
        ("profile", "settings_profile", _("Profile")),
        ("email", "account_email", _("E-mail")),
        ("password", "account_change_password", _("Password")),
        ("mfa", "mfa_index", _("Second factor")),
        ("sessions", "usersessions_list", _("Sessions")),
        ("payout", "settings_payout", _("Payout")),
        ("token", "settings_token", _("API token")),
        ("webhooks", "webhooks", _("Webhooks")),
        ("data", "settings_data", _("My data")),
    ):
        try:
            found.append({"url": reverse(name), "label": label, "current": key == current})
        except NoReverseMatch:
            continue
    return found


pages = [
    path("settings/profile/", settings_profile, name="settings_profile"),
    path("settings/token/", settings_token, name="settings_token"),
    path("settings/token/new/", settings_token_new, name="settings_token_new"),
    path("settings/token/revoke/", settings_token_revoke, name="settings_token_revoke"),
    path("settings/terms/", settings_terms, name="settings_terms"),
    path("settings/data/", settings_data, name="settings_data"),
    path("settings/data/export.json", settings_data_export, name="settings_data_export"),
    path("settings/close/", settings_close, name="settings_close"),
    path("inbox/", inbox, name="inbox"),
]
plain: list = []
