"""The public log for everybody: heads and who witnessed them, entries, what each epoch paid. Nothing private is here."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import BigIntegerField, Count, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from ledger import receipts
from ledger import services as ledger
from ledger.models import Checkpoint, Cosignature, Leaf

ENTRIES_SHOWN = 25
CHECKPOINTS_SHOWN = 10
EPOCHS_SHOWN = 10
#: For so long receipts may wait for witnesses before the explorer says so.
UNWITNESSED_MAX_S = 60

TYPES = {
    receipts.CALL_CHARGED: gettext_lazy("Call charged"),
    receipts.CALL_ATTRIBUTED: gettext_lazy("Call attributed"),
    receipts.ACCESS_CHARGED: gettext_lazy("Pass charged"),
    receipts.TRAINING_CHARGED: gettext_lazy("Training charged"),
    receipts.REFUND_MADE: gettext_lazy("Refund made"),
    receipts.EPOCH_SETTLED: gettext_lazy("Epoch settled"),
    receipts.VERSION_PUBLISHED: gettext_lazy("Datanet version published"),
    receipts.MODEL_PUBLISHED: gettext_lazy("Model published"),
    receipts.RULE_ADOPTED: gettext_lazy("Split rule adopted"),
    receipts.CONSENT_WITHDRAWN: gettext_lazy("Consent withdrawn"),
    receipts.WITHDRAWAL_SENT: gettext_lazy("Withdrawal sent"),
    receipts.KEY_ROTATED: gettext_lazy("Log key rotated"),
    receipts.POSTING_MADE: gettext_lazy("Posting made"),
}


@require_safe
def ledger_explorer(request: HttpRequest) -> HttpResponse:
    """Head, witnesses, checkpoints, entries and settled epochs; a search for an id, a number, a model or a Datanet."""
    asked = request.GET.get("q", "").strip()
    if asked and (found := _find(asked)):
        return redirect(*found)
    models = _models_named(asked) if asked else {}
    before = request.GET.get("before", "")
    leaves = (_entries_about(asked, models) if asked else Leaf.objects.all()).order_by("-index")
    if before.isdecimal():
        leaves = leaves.filter(index__lt=int(before))
    page = list(leaves[: ENTRIES_SHOWN + 1])
    entries = page[:ENTRIES_SHOWN]
    head = ledger.head()
    context = {
        "head": head,
        "leaves": ledger.log_size(),
        "waits_since": _waiting_since(head),
        "witnesses": _witnesses(),
        "quorum": settings.WITNESS_QUORUM,
        "log_vkey": ledger.log_vkey(),
        "former_vkeys": ledger.log_vkeys()[1:],
        "files_url": f"{settings.SITE_URL}/log/",
        "checkpoints": _checkpoints(),
        "entries": [(leaf, type_label(leaf.type), _told(leaf.entry)) for leaf in entries],
        "next_url": f"?{urlencode(_asked(asked) | {'before': entries[-1].index})}" if len(page) > ENTRIES_SHOWN else "",
        "first_url": f"{request.path}?{urlencode(_asked(asked))}" if before.isdecimal() else "",
        **_settlements(models if asked else None),
        "asked": asked,
        "is_found": bool(models or entries),
    }
    return render(request, "ledger/explorer.html", context)


@require_safe
def ledger_checkpoint(request: HttpRequest, size: int) -> HttpResponse:
    """One signed head with its cosignatures, as anybody may store it."""
    checkpoint = get_object_or_404(Checkpoint.objects.prefetch_related("cosignatures"), size=size)
    signed = sorted(checkpoint.cosignatures.all(), key=lambda one: one.witness)
    context = {
        "checkpoint": checkpoint,
        "root": bytes(checkpoint.root).hex(),
        "cosignatures": signed,
        "quorum": settings.WITNESS_QUORUM,
        "note": checkpoint.note + "".join(one.line for one in signed),
        "previous": Checkpoint.objects.filter(size__lt=size).order_by("-size").values_list("size", flat=True).first(),
        "newest": ledger.head().size,
        "next": Checkpoint.objects.filter(size__gt=size).order_by("size").values_list("size", flat=True).first(),
    }
    return render(request, "ledger/checkpoint.html", context)


@require_safe
def ledger_entry(request: HttpRequest, index: int) -> HttpResponse:
    """One entry, exactly as it is hashed."""
    leaf = get_object_or_404(Leaf, index=index)
    head = ledger.head()
    context = {
        "leaf": leaf,
        "label": type_label(leaf.type),
        "leaf_hash": bytes(leaf.hash).hex(),
        "entry_text": json.dumps(leaf.entry, indent=1, ensure_ascii=False),
        "hour": leaf.entry["hour"],
        "told": _told(leaf.entry),
        "covered_by": Checkpoint.objects.filter(size__gt=index).order_by("size").first(),
        "is_proved": head.size > index,
        "previous": index - 1 if index else None,
        "next": index + 1 if index + 1 < ledger.log_size() else None,
    }
    return render(request, "ledger/entry.html", context)


def type_label(type: str) -> str:
    """The words for an entry's type."""
    return str(TYPES.get(type, type))


# --- What the pages show


def _find(asked: str) -> tuple | None:
    """Where a search leads at once: an index, or the id of a receipt, a posting or a fact."""
    if asked.isdecimal() and len(asked) < 18:
        index = int(asked)
        return ("ledger_entry", index) if Leaf.objects.filter(index=index).exists() else None
    try:
        entry_id = UUID(asked)
    except ValueError:
        return None
    leaf = ledger.leaf_of(entry_id)
    if leaf is not None:
        return "ledger_entry", leaf
    return ("receipt", entry_id) if ledger.entry_of(entry_id) else None


def _asked(asked: str) -> dict[str, str]:
    return {"q": asked} if asked else {}


def _named(field: str, asked: str) -> Q:
    """Entries whose field is a path, `owner/name`, that starts with the words or whose name does."""
    return Q(**{f"entry__{field}__istartswith": asked}) | Q(**{f"entry__{field}__icontains": f"/{asked}"})


def _entries_about(asked: str, models: dict[str, str]) -> QuerySet[Leaf]:
    """What was published under a name, and what its models settled. Of calls there are too many to search."""
    return Leaf.objects.filter(
        Q(type=receipts.VERSION_PUBLISHED) & _named("datanet", asked)
        | Q(type__in=[receipts.MODEL_PUBLISHED, receipts.EPOCH_SETTLED], entry__model_id__in=list(models))
    )


def _models_named(asked: str) -> dict[str, str]:
    """Model id -> path of the models of that name, and of those that learned from a Datanet of that name."""
    text = json.dumps(asked, ensure_ascii=False)[1:-1]
    published = Leaf.objects.filter(type=receipts.MODEL_PUBLISHED).annotate(learned=KT("entry__versions"))
    found = published.filter(
        _named("model", asked) | Q(learned__icontains=f'"{text}') | Q(learned__icontains=f"/{text}")
    ).order_by("index")
    return {leaf.entry["model_id"]: leaf.entry["model"].split("@")[0] for leaf in found[:50]}


def _names(model_ids: set[str]) -> dict[str, str]:
    found = Leaf.objects.filter(type=receipts.MODEL_PUBLISHED, entry__model_id__in=list(model_ids))
    return {leaf.entry["model_id"]: leaf.entry["model"].split("@")[0] for leaf in found.order_by("index")}


def _settled(models: dict[str, str] | None):
    found = Leaf.objects.filter(type=receipts.EPOCH_SETTLED)
    return found if models is None else found.filter(entry__model_id__in=list(models))


def _settlements(models: dict[str, str] | None) -> dict[str, list[dict]]:
    """The newest settled epochs, and what all of them add up to per model; the models' names are read once."""
    epochs, totals = _epochs(models), _totals_per_model(models)
    names = _names({row["model_id"] for row in [*epochs, *totals]})
    for row in [*epochs, *totals]:
        row["model"] = names.get(row["model_id"], row["model_id"])
    return {"epochs": epochs, "totals": totals}


def _epochs(models: dict[str, str] | None) -> list[dict]:
    return [
        {
            "index": leaf.index,
            "model_id": leaf.entry["model_id"],
            "number": leaf.entry["epoch"],
            "hour": leaf.entry["hour"],
            **{f"{name}_nano": int(leaf.entry[name]) for name in ("pool", "paid", "unattributed")},
        }
        for leaf in _settled(models).order_by("-index")[:EPOCHS_SHOWN]
    ]


def _totals_per_model(models: dict[str, str] | None) -> list[dict]:
    """What the settled epochs of each model add up to, largest first."""

    def total(name: str) -> Sum:
        return Sum(Cast(KT(f"entry__{name}"), BigIntegerField()))

    return list(
        _settled(models)
        .annotate(model_id=KT("entry__model_id"))
        .values("model_id")
        .annotate(
            epochs=Count("index"), pool_nano=total("pool"), paid_nano=total("paid"), left_nano=total("unattributed")
        )
        .order_by("-pool_nano", "model_id")[:20]
    )


def _checkpoints() -> list[dict]:
    found = Checkpoint.objects.order_by("-size").prefetch_related("cosignatures")[:CHECKPOINTS_SHOWN]
    return [
        {
            "size": one.size,
            "root": bytes(one.root).hex(),
            "signed_at": one.signed_at,
            "witnesses": len(one.cosignatures.all()),
            "is_enough": len(one.cosignatures.all()) >= settings.WITNESS_QUORUM,
        }
        for one in found
    ]


def _witnesses() -> list[dict]:
    """Each witness we ask: the newest head it cosigned, and when."""
    names = [receipts.decode_vkey(vkey).name for vkey in ledger.witness_vkeys()]
    # One look into an index each: grouped by witness, every cosignature since the first would be read.
    newest = [Cosignature.objects.filter(witness=name).order_by("-size_id").first() for name in names]
    return [
        {"name": name, "size": last and last.size_id, "at": last and last.at}
        for name, last in zip(names, newest, strict=True)
    ]


def _waiting_since(head: ledger.Head):
    """When the oldest head without enough witnesses was signed, if that is longer ago than it should be."""
    oldest = Checkpoint.objects.filter(size__gt=head.size).order_by("size").first()
    if oldest is None or oldest.signed_at > timezone.now() - timedelta(seconds=UNWITNESSED_MAX_S):
        return None
    return oldest.signed_at


def _told(entry: dict) -> str:
    """The clear fields of an entry in one line: what it is about."""
    for name in ("model", "datanet", "reverses", "charge", "kind", "run", "rule"):
        if isinstance(entry.get(name), str):
            return entry[name]
    return _("no clear field")


pages = [
    path("ledger/", ledger_explorer, name="ledger_explorer"),
    path("ledger/checkpoints/<int:size>/", ledger_checkpoint, name="ledger_checkpoint"),
    path("ledger/entries/<int:index>/", ledger_entry, name="ledger_entry"),
]
