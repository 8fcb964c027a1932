"""Planted records and the accuracy of curators: for the owner of a Datanet, and what each curator sees of their own."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from datanets import accuracy, gold, goldresults, services
from datanets.errors import DatanetError
from datanets.models import Datanet, GoldItem, Record

from .. import forms_gold as forms
from .. import querysets
from . import explore_datanet

ITEMS_SHOWN = 25
STATES = {
    "stock": (gettext_lazy("In stock"), "line"),
    "planted": (gettext_lazy("Planted"), "info"),
    "revealed": (gettext_lazy("Revealed"), "ok"),
    "retired": (gettext_lazy("Retired"), ""),
}
NO_CURATOR = gettext_lazy("Only curators of a Datanet have an accuracy.")


@login_required
def datanet_gold(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """The owner's list of planted files, with how each was decided. POST: add a file."""
    pool = _owned(request, owner, slug)
    form = forms.GoldFileForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        told = form.cleaned_data
        try:
            gold.add_file(
                pool,
                by=request.user,
                name=told["file"].name,
                content=told["file"].read(),
                decision=told["decision"],
                reason=told["reason"],
                title=told["title"],
            )
        except DatanetError as error:
            form.add_error("file", str(error))
        else:
            messages.success(request, _("The file is in stock. It is planted when the share allows it."))
            return redirect("datanet_gold", owner, slug)
    return _page(request, pool, file_form=form, status=422 if form.errors else 200)


@login_required
@require_POST
def datanet_gold_record(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Put a copy of a decided record in stock."""
    pool = _owned(request, owner, slug)
    form = forms.GoldRecordForm(request.POST)
    if form.is_valid():
        record = Record.objects.filter(pk=form.cleaned_data["record"], datanet=pool, is_gold=False).first()
        if record is None:
            form.add_error("record", _("There is no such record in this Datanet."))
        else:
            try:
                gold.add_record(record, by=request.user, reason=form.cleaned_data["reason"])
            except DatanetError as error:
                form.add_error("record", str(error))
    if form.errors:
        return _page(request, pool, record_form=form, status=422)
    messages.success(request, _("A copy of the record is in stock. It is planted when the share allows it."))
    return redirect("datanet_gold", owner, slug)


@login_required
@require_POST
def datanet_gold_share(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """State how many of a hundred submissions may be planted ones."""
    pool = _owned(request, owner, slug)
    form = forms.GoldShareForm(request.POST)
    if not form.is_valid():
        return _page(request, pool, share_form=form, status=422)
    gold.set_share(pool, by=request.user, percent=form.cleaned_data["percent"])
    messages.success(request, _("The share was saved."))
    return redirect("datanet_gold", owner, slug)


@login_required
@require_POST
def datanet_gold_retire(request: SignedInRequest, owner: str, slug: str, gold_id) -> HttpResponse:
    """Take an item out; it measures nobody from then on."""
    pool = _owned(request, owner, slug)
    gold.retire(get_object_or_404(GoldItem, pk=gold_id, datanet=pool), by=request.user)
    messages.success(request, _("The item is retired. It measures nobody from the next epoch on."))
    return redirect("datanet_gold", owner, slug)


@login_required
def review_accuracy(request: SignedInRequest) -> HttpResponse:
    """How often a curator was right where it is known what is right, Datanet by Datanet."""
    if not services.curates_any(request.user):
        raise PermissionDenied(NO_CURATOR)
    context = {
        "rows": goldresults.of_curator(request.user),
        "seen": goldresults.revealed_to(request.user)[:ITEMS_SHOWN],
        "rule": RULE,
    }
    return render(request, "datanets/review/accuracy.html", context)


RULE = {"prior": accuracy.PRIOR_RIGHT, "least": accuracy.MEASURED_MIN, "days": accuracy.WINDOW_DAYS}


def _owned(request: HttpRequest, owner: str, slug: str) -> Datanet:
    """Whoever is not its owner learns nothing, not even that there is such a page."""
    pool = explore_datanet.find(request, owner, slug)
    if not services.can_own(request.user, pool):
        raise Http404
    return pool


def _page(request: SignedInRequest, pool: Datanet, *, status: int = 200, **given: Any) -> HttpResponse:
    items = GoldItem.objects.filter(datanet=pool).select_related("source", "submission")
    shown = querysets.page_by(
        items,
        "added_at",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
        limit=ITEMS_SHOWN,
    )
    results = goldresults.of_items(shown.rows)
    rows = [
        {"item": item, "state": STATES[item.state][0], "tone": STATES[item.state][1], "votes": results[item.pk]}
        for item in shown.rows
    ]
    share = gold.share_of(pool)
    context = explore_datanet.frame(request, pool, "gold") | {
        "items": rows,
        "previous_url": f"?before={shown.previous}" if shown.previous else "",
        "next_url": f"?after={shown.next}" if shown.next else "",
        "curators": goldresults.of_datanet(pool),
        "share": share,
        "file_form": forms.GoldFileForm(),
        "record_form": forms.GoldRecordForm(),
        "share_form": forms.GoldShareForm(initial={"percent": share}),
        "rule": RULE,
    }
    return render(request, "marketplace/explore/datanet_gold.html", context | given, status=status)


_HERE = "datanets/<slug:owner>/<slug:slug>/gold/"
pages = [
    path(_HERE, datanet_gold, name="datanet_gold"),
    path(f"{_HERE}records/", datanet_gold_record, name="datanet_gold_record"),
    path(f"{_HERE}share/", datanet_gold_share, name="datanet_gold_share"),
    path(f"{_HERE}<uuid:gold_id>/retire/", datanet_gold_retire, name="datanet_gold_retire"),
    path("review/accuracy/", review_accuracy, name="review_accuracy"),
]
