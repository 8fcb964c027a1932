"""API keys: see them, make, change or replace one (after signing in again), revoke one."""

from __future__ import annotations

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F, Q, Sum
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import keys, listings
from ..errors import Invalid
from ..forms_keys import OVERLAPS, KeyForm, KeyReplaceForm
from ..models import ApiKey, ListedModel

KEYS_SHOWN = 200
_SESSION = "new_key"


@login_required
@never_cache
def build_keys(request: SignedInRequest) -> HttpResponse:
    """My keys. A secret that was just made is shown here, once."""
    now = timezone.now()
    ended = Q(revoked_at__isnull=False) | Q(expires_at__lte=now) | Q(replaced_until__lte=now)
    # Pages make keys for themselves: those that have ended tell their person nothing.
    found = (
        ApiKey.objects.filter(owner=request.user)
        .exclude(ended, is_playground=True)
        .prefetch_related("allowed_models__owner")
    )
    found = found.annotate(spent_nano=Sum("calls__cost_nano", filter=Q(calls__free=False)))
    found = found.order_by(F("revoked_at").desc(nulls_first=True), "-created_at")[:KEYS_SHOWN]
    sealed = request.session.pop(_SESSION, "")
    context = {
        "keys": found,
        "secret": listings.open_field(sealed) if sealed else "",
        "now": now,
        "overlaps": OVERLAPS.items(),
    }
    return render(request, "marketplace/build/keys.html", context)


@login_required
@reauthentication_required
def build_key_new(request: SignedInRequest) -> HttpResponse:
    """Make a key."""
    form = KeyForm(request.POST or None, models=listings.visible_to(request.user).order_by("name"))
    if request.method != "POST":
        return render(request, "marketplace/build/key_new.html", {"form": form})
    if form.is_valid():
        try:
            _key, secret = keys.create(owner=request.user, **form.limits())
        except Invalid as problem:
            form.add_error(None, str(problem))
        else:
            # Sealed, and taken out by the next page: the secret never lies readable in the session table.
            request.session[_SESSION] = listings.seal_field(secret)
            return redirect("build_keys")
    return render(request, "marketplace/build/key_new.html", {"form": form}, status=422)


@login_required
@reauthentication_required
def build_key_change(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    """Other limits or rights for a key; its secret stays."""
    key = get_object_or_404(ApiKey, pk=key_id, owner=request.user)
    # Also models that it names and its owner does not see any more: saving must not drop them unseen.
    offered = ListedModel.objects.filter(Q(pk__in=listings.visible_to(request.user).values("pk")) | Q(keys=key))
    form = KeyForm(
        request.POST if request.method == "POST" else None,
        initial=KeyForm.initial_of(key),
        models=offered.select_related("owner").distinct().order_by("name"),
    )
    if request.method == "POST" and form.is_valid():
        wanted = form.limits()
        if "expires_on" not in form.changed_data:
            wanted["expires_at"] = key.expires_at  # to the moment, where a program has set one
        try:
            keys.change(key, by=request.user, **wanted)
        except Invalid as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, _("The key %(name)s is changed: it works so from now on.") % {"name": key.name})
            return redirect("build_keys")
    status = 422 if form.is_bound else 200
    return render(request, "marketplace/build/key_change.html", {"form": form, "key": key}, status=status)


@login_required
@reauthentication_required
@require_POST
def build_key_replace(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    """A new secret for the same program: same name, same limits, and the old secret ends, at once or after a while."""
    key = get_object_or_404(ApiKey, pk=key_id, owner=request.user)
    form = KeyReplaceForm(request.POST)
    # What is none of the choices is refused by the service.
    overlap_s = form.cleaned_data["overlap_s"] or 0 if form.is_valid() else -1
    _key, secret = keys.replace(key, by=request.user, overlap_s=overlap_s)
    request.session[_SESSION] = listings.seal_field(secret)
    messages.success(request, _("The key %(name)s is replaced: give its program the new secret.") % {"name": key.name})
    return redirect("build_keys")


@login_required
@require_POST
def build_key_revoke(request: SignedInRequest, key_id: UUID) -> HttpResponse:
    """Stop a key at once."""
    key = get_object_or_404(ApiKey, pk=key_id, owner=request.user)
    keys.revoke(key, by=request.user)
    messages.success(
        request, _("The key %(name)s is revoked: calls with it are refused from now on.") % {"name": key.name}
    )
    return redirect("build_keys")


pages = [
    path("build/keys/", build_keys, name="build_keys"),
    path("build/keys/new/", build_key_new, name="build_key_new"),
    path("build/keys/<uuid:key_id>/change/", build_key_change, name="build_key_change"),
    path("build/keys/<uuid:key_id>/replace/", build_key_replace, name="build_key_replace"),
    path("build/keys/<uuid:key_id>/revoke/", build_key_revoke, name="build_key_revoke"),
]
plain: list = []
