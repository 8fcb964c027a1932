"""A receipt's page: what happened, the proof step by step, who was paid. No language prefix: the id is the address."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_safe

from attribution import explain
from attribution.models import Line
from ledger import commitments, strict
from ledger import services as ledger

from .. import disputes, receipts, refunds
from ..models import Call, ModelVersion, TestCall
from ..templatetags import figures

FILE_BYTES_MAX = strict.RECEIPT_CHARS_MAX
SECOND_PART = "attribution"


@require_safe
def receipt(request: HttpRequest, id: UUID) -> HttpResponse:
    """The public entry for everybody; openings, payees and records for whoever took part."""
    seen = receipts.viewing(id, request.user)
    if seen is None or _is_of_test_call(request, seen):
        return _of_uncharged(request, id)
    status, body = receipts.body(seen)
    steps = receipts.check(body) if body else []
    is_charge = seen.entry.type in receipts.CHARGES
    settlement = receipts.settlement(seen, request.user) if is_charge and seen.is_holder else None
    state = _state(seen, settlement) if is_charge else ""
    context = {
        "id": id,
        "entry": seen.entry,
        "sentence": receipts.sentence(seen, request.user),
        "is_holder": seen.is_holder,
        "status": status,
        "steps": steps,
        "is_verified": bool(steps) and receipts.is_verified(steps),
        "entry_text": json.dumps(body["entry"], indent=1, ensure_ascii=False) if body else "",
        "leaf_index": seen.entry.leaf_index,
        "command": receipts.command(id),
        "settlement": settlement,
        "is_charge": is_charge,
        "attributed_id": receipts.attributed_id(id) if is_charge else None,
        "attribution_state": state,
        "is_of_operator_model": state == "no_data" and _is_of_operator_model(seen),
        "charge_id": seen.entry.public.get("charge") or seen.entry.public.get("reverses"),
        "mine": _mine(request, seen, settlement),
        **_refund_of(request, seen),
        **_checker(),
    }
    response = render(request, "marketplace/receipts/receipt.html", context, status=200 if body else 202)
    if not body:
        response["Retry-After"] = "1"
    response["Cache-Control"] = "private, no-cache"
    return response


@require_safe
def receipt_json(request: HttpRequest, id: UUID) -> HttpResponse:
    """Exactly the receipt object, as this person may have it; `?part=attribution` is the second one."""
    if request.GET.get("part") == SECOND_PART:
        charge = ledger.entry_of(id)
        id = receipts.attributed_id(id)
        if charge is not None and explain.status_of(charge.id) in ("refunded", "no_data"):
            raise Http404  # nobody is paid for it, so there will be none
        if charge is not None and charge.type in receipts.CHARGES and ledger.entry_of(id) is None:
            # As the gateway answers: it is made when the epoch is settled.
            now_s = int(timezone.now().timestamp())
            ends_at = datetime.fromtimestamp((now_s // settings.EPOCH_S + 1) * settings.EPOCH_S, UTC)
            said = {"status": "waiting", "epoch_ends_at": ends_at.isoformat(timespec="seconds")}
            return JsonResponse(said, status=202, headers={"Retry-After": "1"})
    seen = receipts.viewing(id, request.user)
    if seen is None:
        raise Http404
    status, body = receipts.body(seen)
    if body is None:
        return JsonResponse({"status": status}, status=202, headers={"Retry-After": "1"})
    return HttpResponse(
        json.dumps(body, separators=(",", ":"), ensure_ascii=False),
        content_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="receipt-{id}.json"',
            "Cache-Control": "private, no-cache",
        },
    )


@csrf_protect
def receipt_verify(request: HttpRequest) -> HttpResponse:
    """Check a receipt file: in the browser where scripts run, else here. Nothing of it is stored."""
    context = _checker()
    file = request.FILES.get("receipt")
    status = 200
    if request.method == "POST":
        if file is None or (file.size or 0) > FILE_BYTES_MAX:
            status = 422
            context["is_missing"] = True
        else:
            content = file.read()
            steps = receipts.check(content)
            ok = receipts.is_verified(steps)
            context |= {"steps": steps, "is_verified": ok, "is_checked": True, "name": file.name}
            if ok:
                context |= _opened(content)
            status = 200 if ok else 422
    return render(request, "marketplace/receipts/verify.html", context, status=status)


@require_safe
def receipt_verifier(request: HttpRequest) -> FileResponse:
    """The one-file verifier itself."""
    path = settings.BASE_DIR / "verify_receipt.py"
    return FileResponse(path.open("rb"), as_attachment=True, filename="verify_receipt.py", content_type="text/x-python")


def _is_of_test_call(request: HttpRequest, seen: receipts.Viewing) -> bool:
    """To its buyer a test call's posting is the call; to everybody else it is a posting that says nothing."""
    is_plain = seen.entry.type == commitments.POSTING_MADE and request.user.is_authenticated
    return is_plain and TestCall.objects.filter(pk=seen.entry.id, buyer=request.user.pk).exists()


def _of_uncharged(request: HttpRequest, id: UUID) -> HttpResponse:
    """A call that cost nothing, or test money, proves nothing; its buyer is told so, everybody else finds nothing."""
    user = request.user
    for kind in (Call, TestCall) if user.is_authenticated else ():
        call = kind.objects.filter(pk=id, buyer=user.pk).select_related("version__model__owner").first()
        if call is not None:
            context = {"call": call, "is_test": kind is TestCall}
            return render(request, "marketplace/receipts/uncharged.html", context)
    raise Http404


def _state(seen: receipts.Viewing, settlement: receipts.Settlement | None) -> str:
    """Where the attribution of a charge stands."""
    if settlement is None:
        return explain.status_of(seen.entry.id)
    is_traced = True if settlement.call else None
    return explain.status_of(seen.entry.id, lines=settlement.lines, is_traced=is_traced)


def _is_of_operator_model(seen: receipts.Viewing) -> bool:
    """Whether no Datanet shaped the model of a charge."""
    return ModelVersion.objects.filter(pk=seen.entry.public["version_id"], training_run=None).exists()


def _mine(request: HttpRequest, seen: receipts.Viewing, settlement: receipts.Settlement | None) -> list[Line]:
    """A payee's own lines of a charge or of its attribution."""
    if not request.user.is_authenticated:
        return []
    if settlement is not None:
        return [line for line in settlement.lines if line.payee_id == request.user.pk]
    source = seen.entry.public.get("charge", seen.entry.id)
    if seen.entry.type == commitments.EPOCH_SETTLED:
        found = Line.objects.filter(epoch=seen.entry.id, payee=request.user).order_by("-amount_nano", "pk")[:20]
    else:
        found = Line.objects.filter(source_id=source, payee=request.user).order_by("role")
    return list(found)


def _refund_of(request: HttpRequest, seen: receipts.Viewing) -> dict:
    """Whether a call was or can be given back: for its buyer and the developer of its model."""
    call = seen.call
    if call is None or not (seen.is_holder or request.user.pk == call.model.owner_id):
        return {}
    refund, dispute = getattr(call, "refund", None), getattr(call, "dispute", None)
    is_made = refund is not None and refund.is_made
    window_ends = refunds.window_of(seen.entry)
    in_time = not is_made and timezone.now() < window_ends
    return {
        "refund": refund if is_made else None,
        "dispute": dispute,
        "window_ends": window_ends if in_time else None,
        "can_dispute": in_time and dispute is None and not call.free and _may_dispute(request, call),
        "payback": getattr(call, "payback", None),
        "can_refund": not is_made and call.model.owner_id == request.user.pk != call.buyer_id,
    }


def _may_dispute(request: HttpRequest, call: Call) -> bool:
    return request.user.is_authenticated and disputes.may_dispute(call, request.user)


def _opened(content: bytes) -> dict:
    """What a verified file opens, for the page: the fields, and the lines without their padding."""
    receipt: Any = strict.parse_json(content)
    opened = receipt.get("openings", {})
    lines = [
        one["value"] for name, one in opened.items() if name.startswith("split.") and one["value"]["role"] != "pad"
    ]
    return {
        "entry_type": receipt["entry"]["type"],
        "entry_id": receipt["entry"]["id"],
        "lines": [
            {"payee": line["payee"], "role": receipts.role_label(line["role"]), "amount_nano": int(line["amount"])}
            for line in lines
        ],
        "total_nano": sum(int(line["amount"]) for line in lines),
    }


def _checker() -> dict:
    """What static/js/receipt.js needs: pinned keys, quorum, sentences."""
    return {
        "log_vkey": ledger.log_vkey(),
        "former_vkeys": " ".join(ledger.log_vkeys()[1:]),
        "witness_vkeys": " ".join(ledger.witness_vkeys()),
        "quorum": settings.WITNESS_QUORUM,
        "words": receipts.words(),
        "file_limit": figures.bytes_text(FILE_BYTES_MAX),
    }


pages: list = []
plain = [
    path("r/<uuid:id>", receipt, name="receipt"),
    path("r/<uuid:id>.json", receipt_json, name="receipt_json"),
    path("r/verify", receipt_verify, name="receipt_verify"),
    path("r/verify_receipt.py", receipt_verifier, name="receipt_verifier"),
]
