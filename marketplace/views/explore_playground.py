"""Try a model: ask, see the price before and after, and why the answer came out as it did."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from attribution import explain
from attribution.reasons import unattributed_sentence
from datanets import records
from datanets.models import Datanet, Record

from .. import access, playground, provenance
from ..errors import NotAllowed
from ..forms_explore import playground_form
from ..models import Call
from . import explore_model

SHOWN_RECORDS = 5
EXCERPT_CHARS = 160
SHOWN_SPANS = 5
MARKS = {"k1": "a2", "k2": "a1", "k3": "a3"}  # of a text, in the colour of its record


@login_required
@require_POST
def model_try(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Ask a model without JavaScript: `quote` tells the most it can cost, `send` asks."""
    found, version = explore_model.find(request, owner, slug)
    if not access.may_call(request.user, found):
        raise NotAllowed(_("You may not call this model. Buy a pass, or ask its developer for an invitation."))
    if found.is_operator_model:
        raise NotAllowed(_("There is no playground for this kind of model: a vector is for programs."))
    datanet = explore_model.datanet_of(version)
    if datanet is None:
        raise NotAllowed(_("This model has no version that answers yet."))
    form = playground_form(found, datanet, data=request.POST, files=request.FILES)
    if not form.is_valid():
        context = explore_model.page_of(request, found, version, form=form)
        return render(request, "marketplace/explore/model.html", context, status=422)
    secret = playground.secret_of(request.user, request.session, found)
    body = {"model": found.path, **form.body()}
    if request.POST.get("act") == "quote":
        quoted = playground.ask("/v1/quote", body, secret=secret)
        if quoted.problem:
            form.add_error(None, quoted.problem)
        context = explore_model.page_of(request, found, version, form=form, quote=quoted.body or None)
        return render(request, "marketplace/explore/model.html", context, status=422 if quoted.problem else 200)
    endpoint = playground.endpoint_of(found, datanet)
    nonce = request.POST.get("nonce", "")[:64]
    answer = playground.ask(endpoint, body, secret=secret, idempotency_key=f"playground-{nonce}" if nonce else "")
    if answer.problem:
        form.add_error(None, answer.problem)
        context = explore_model.page_of(request, found, version, form=form)
        return render(request, "marketplace/explore/model.html", context, status=422)
    playground.keep(request.session, found, form.said(), answer)
    address = reverse("model", args=[owner, slug])
    response = HttpResponse(status=303)
    response["Location"] = f"{address}?call={answer.receipt_id}#answer"
    return response


@login_required
@require_POST
@never_cache
def playground_key(request: SignedInRequest, owner: str, slug: str) -> JsonResponse:
    """The key with which a model's page calls the gateway directly: for its owner, this model and a small sum."""
    found, _version = explore_model.find(request, owner, slug)
    if not access.may_call(request.user, found):
        raise NotAllowed(_("You may not call this model. Buy a pass, or ask its developer for an invitation."))
    return JsonResponse({"key": playground.secret_of(request.user, request.session, found)})


@login_required
@never_cache
def call_why(request: HttpRequest, call_id: UUID) -> HttpResponse:
    """Which records shaped an answer, for its buyer. Fetched by htmx as a part, shown alone as a page."""
    call = get_object_or_404(Call.objects.select_related("model__owner", "split_rule"), pk=call_id, buyer=request.user)
    context = why(request, call)
    if request.headers.get("hx-request") or request.GET.get("part"):
        return render(request, "marketplace/explore/_why.html", context)
    return render(request, "marketplace/explore/call_why.html", context)


def why(request: HttpRequest, call: Call) -> dict:
    """What the panel shows: where the call stands, and its records as far as they are known."""
    lines = explain.lines_of_charge(call.pk)
    found = explain.why_call(call.pk, lines=lines)
    stands = explain.status_of(call.pk, lines=lines, is_traced=found is not None)
    shares = found.records if found else []
    positive = sum(max(share.score, 0) for share in shares)
    first = [share for share in shares if share.amount_nano or share.score > 0][:SHOWN_RECORDS]
    known = Record.objects.select_related("datanet__owner", "contributor", "body").in_bulk([s.record_id for s in first])
    seen = records.seen_by(request.user, known.values())
    repeats = provenance.of_call(call, {pk: _text_of(known[pk]) for pk in seen})
    marks: dict[int | None, str] = {None: ""}
    rows = []
    for place, share in enumerate(first, start=1):
        record = known[share.record_id]
        weighed = found.weights_total if found else 0
        part = share.weight / weighed if weighed else share.score / positive if positive else 0
        colour = f"k{min(place, 3)}"
        marks[record.pk] = MARKS[colour]
        rows.append(
            {
                "record": record,
                "share": part,
                "percent": round(100 * part, 1),
                "amount_nano": share.amount_nano if found and found.lines else None,
                "excerpt": _excerpt(record) if record.pk in seen and not repeats else "",
                "spans": repeats.spans.get(record.pk, [])[:SHOWN_SPANS] if repeats else [],
                "colour": colour,
                "mark": MARKS[colour],
                "bar": f"v{min(place, 3)}",
            }
        )
    unattributed = [line for line in (found.lines if found else []) if line.payee_id is None and line.role == "data"]
    return {
        "call": call,
        "stands": stands,
        "found": found,
        "rows": rows,
        "rest": len([share for share in shares if share.score > 0 or share.amount_nano]) - len(rows),
        "against": len([share for share in shares if share.score < 0]),
        "repeats": repeats,
        "answer": [(piece.text, marks.get(piece.record_id, "a0")) for piece in repeats.answer] if repeats else [],
        "unattributed": [(unattributed_sentence(line.reason), line.amount_nano) for line in unattributed],
        # A trace takes seconds; after it only the end of the epoch brings news.
        "every_s": 4 if stands == "waiting" else 30,
        "waits": stands in ("waiting", "attributed") and call.cost_nano > 0,
    }


def _excerpt(record: Record) -> str:
    text = _text_of(record)
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "…"


def _text_of(record: Record) -> str:
    body = record.body.body if hasattr(record, "body") else {}
    if record.datanet.kind == Datanet.Kind.TEXT:
        return str(body.get("text", ""))
    return ", ".join(f"{name}: {value}" for name, value in body.items() if value not in (None, ""))


pages = [
    path("models/<slug:owner>/<slug:slug>/try/", model_try, name="model_try"),
    path("models/<slug:owner>/<slug:slug>/key/", playground_key, name="playground_key"),
    path("calls/<uuid:call_id>/why/", call_why, name="call_why"),
]
plain: list = []
