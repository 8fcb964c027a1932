"""The end of one of my models: announced, or taken back."""

from __future__ import annotations

from datetime import UTC
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from ledger import services as ledger

from .. import retiring
from ..errors import MarketplaceError, sentence_of
from ..forms_refunds import RetireForm
from ..models import ListedModel


@login_required
@reauthentication_required
@require_POST
def build_retire(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Announce the retirement of my model, or take the announcement back. It sets money aside: a fresh session only."""
    model = get_object_or_404(ListedModel, pk=model_id, owner=request.user)
    form = RetireForm(request.POST)
    try:
        if request.POST.get("act") == "call_off":
            retiring.call_off(model, by=request.user)
            messages.success(request, _("The announcement is taken back."))
        elif form.is_valid():
            on = form.cleaned_data["on"]
            retiring.announce(model, by=request.user, on=on.replace(tzinfo=UTC) if on else None)
            messages.success(request, _("The retirement is announced. Who holds a pass is told."))
        else:
            messages.error(request, _("This is not a day and a time. Nothing was changed."))
    except (MarketplaceError, ledger.LedgerError) as problem:
        messages.error(request, sentence_of(problem))
    return redirect("build_model", model_id)


pages = [path("build/models/<uuid:model_id>/retire/", build_retire, name="build_retire")]
plain: list = []
