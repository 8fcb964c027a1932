"""API keys: see them, make, change or replace one (after signing in again), revoke one. Test money, and its calls."""

from __future__ import annotations

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import keys, listings, sharing, testmoney
from ..errors import Invalid, NotAllowed
from ..forms_keys import OVERLAPS, KeyChangeForm, KeyForm, KeyReplaceForm
from ..models import Call, ListedModel, Role, TestCall

KEYS_SHOWN = 200
TEST_CALLS_SHOWN = 50
_SESSION = "new_key"


@login_required
@never_cache
def build_keys(request: SignedInRequest) -> HttpResponse:
    """My keys. A secret that was just made is shown here, once."""
    now = timezone.now()
    ended = Q(revoked_at__isnull=False) | Q(expires_at__lte=now) | Q(replaced_until__lte=now)
    # Pages make keys for themselves: those that have ended tell their person nothing.
    found = (
        keys.of(request.user)
        .exclude(ended, is_playground=True)
        .select_related("owner", "made_by")
        .prefetch_related("allowed_models__owner")
    )
    found = found.annotate(spent_nano=_spent())
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
def build_tests(request: SignedInRequest) -> HttpResponse:
    """Test money, and the calls it paid."""
    calls = TestCall.objects.filter(buyer=request.user).select_related("version__model__owner", "key")
    context = {
        "money": testmoney.summary(request.user),
        "grant_nano": testmoney.GRANT_NANO,
        "calls": calls.order_by("-finished_at", "-pk")[:TEST_CALLS_SHOWN],
    }
    return render(request, "marketplace/build/tests.html", context)


@login_required
@require_POST
def build_tests_top_up(request: SignedInRequest) -> HttpResponse:
    """Today's test money."""
    testmoney.top_up(request.user)
    messages.success(request, _("Today’s test money is yours. It can be spent in a moment."))
    return redirect("build_tests")


@login_required
@reauthentication_required
def build_key_new(request: SignedInRequest) -> HttpResponse:
    """Make a key."""
    form = KeyForm(
        request.POST or None,
        models=listings.visible_to(request.user).order_by("name"),
        wallets=sharing.of(request.user).exclude(role=Role.VIEWER),
        initial={"wallet": request.GET.get("wallet", "")},
    )
    if request.method != "POST":
        return render(request, "marketplace/build/key_new.html", {"form": form})
    if form.is_valid():
        try:
            owner = form.account() or request.user
            _key, secret = keys.create(owner=owner, made_by=request.user, **form.limits())
        except (Invalid, NotAllowed) as problem:
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
    key = get_object_or_404(keys.of(request.user), pk=key_id)
    # Also models that it names and its owner does not see any more: saving must not drop them unseen.
    offered = ListedModel.objects.filter(Q(pk__in=listings.visible_to(request.user).values("pk")) | Q(keys=key))
    form = KeyChangeForm(
        request.POST if request.method == "POST" else None,
        initial=KeyChangeForm.initial_of(key),
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
    key = get_object_or_404(keys.of(request.user), pk=key_id)
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
    key = get_object_or_404(keys.of(request.user), pk=key_id)
    keys.revoke(key, by=request.user)
    messages.success(
        request, _("The key %(name)s is revoked: calls with it are refused from now on.") % {"name": key.name}
    )
    return redirect("build_keys")


def _spent() -> Coalesce:
    """What a key's calls cost, or (of a test key) its test calls."""
    paid = Call.objects.filter(key=OuterRef("pk"), free=False).values("key")
    tested = TestCall.objects.filter(key=OuterRef("pk")).values("key")
    totals = [Subquery(found.annotate(total=Sum("cost_nano")).values("total")) for found in (paid, tested)]
    return Coalesce(*totals, 0)


pages = [
    path("build/tests/", build_tests, name="build_tests"),
    path("build/tests/top-up/", build_tests_top_up, name="build_tests_top_up"),
    path("build/keys/", build_keys, name="build_keys"),
    path("build/keys/new/", build_key_new, name="build_key_new"),
    path("build/keys/<uuid:key_id>/change/", build_key_change, name="build_key_change"),
    path("build/keys/<uuid:key_id>/replace/", build_key_replace, name="build_key_replace"),
    path("build/keys/<uuid:key_id>/revoke/", build_key_revoke, name="build_key_revoke"),
]
plain: list = []
