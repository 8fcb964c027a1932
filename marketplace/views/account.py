"""My profile, my data, my notifications."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import mydata, notifications, people, querysets
from ..errors import NotReady
from ..forms_build import CloseForm, ProfileForm
from ..models import Notification
from . import explore
from .explanations import notification_sentence


@login_required
def settings_profile(request: HttpRequest) -> HttpResponse:
    """What others see of me."""
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Your profile is saved."))
        return redirect("settings_profile")
    context = {"form": form, "tabs": _tabs("profile")}
    return render(request, "marketplace/build/settings_profile.html", context, status=422 if request.POST else 200)


@login_required
def settings_data(request: SignedInRequest) -> HttpResponse:
    """What the site holds of me, what I agreed to, and the way out."""
    context = {
        "consents": request.user.consents.order_by("-given_at"),
        "close_form": CloseForm(user=request.user),
        "tabs": _tabs("data"),
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
            people.close_account(request.user)
        except NotReady as problem:
            form.add_error(None, str(problem))
        else:
            logout(request)
            messages.success(request, _("Your account is closed."))
            return redirect("home")
    context = {"consents": request.user.consents.order_by("-given_at"), "close_form": form, "tabs": _tabs("data")}
    return render(request, "marketplace/build/settings_data.html", context, status=422)


@login_required
def inbox(request: SignedInRequest) -> HttpResponse:
    """What happened to my things, newest first."""
    if request.method == "POST":
        notifications.mark_read(request.user)
        return redirect("inbox")
    page = querysets.page_by(
        Notification.objects.filter(user=request.user),
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
        "unread": Notification.objects.filter(user=request.user, read_at__isnull=True).exists(),
    }
    return render(request, "marketplace/build/inbox.html", context)


def _tabs(current: str) -> list[dict]:
    found = []
    for key, name, label in (
        ("profile", "settings_profile", _("Profile")),
        ("email", "account_email", _("E-mail")),
        ("password", "account_change_password", _("Password")),
        ("mfa", "mfa_index", _("Second factor")),
        ("sessions", "usersessions_list", _("Sessions")),
        ("payout", "settings_payout", _("Payout")),
        ("data", "settings_data", _("My data")),
    ):
        try:
            found.append({"url": reverse(name), "label": label, "current": key == current})
        except NoReverseMatch:
            continue
    return found


pages = [
    path("settings/profile/", settings_profile, name="settings_profile"),
    path("settings/data/", settings_data, name="settings_data"),
    path("settings/data/export.json", settings_data_export, name="settings_data_export"),
    path("settings/close/", settings_close, name="settings_close"),
    path("inbox/", inbox, name="inbox"),
]
plain: list = []
