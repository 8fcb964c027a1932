"""The public log for everybody: heads and who witnessed them, entries, what each epoch paid. Nothing private is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from ledger import commitments, notes, settled
from ledger import services as ledger
from ledger.models import Checkpoint, Cosignature, Leaf

ENTRIES_SHOWN = 25
CHECKPOINTS_SHOWN = 10
EPOCHS_SHOWN = 10
TOTALS_SHOWN = 20
ROWS_SHOWN = 50
MODELS_FOUND = 50
#: Clear fields that hold the id of something with a name, the most telling first.
NAMED = ("version_id", "model_id", "datanet_id")
#: For so long receipts may wait for witnesses before the explorer says so.
UNWITNESSED_MAX_S = 60

TYPES = {
    commitments.CALL_CHARGED: gettext_lazy("Call charged"),
    commitments.CALL_ATTRIBUTED: gettext_lazy("Call attributed"),
    commitments.ACCESS_CHARGED: gettext_lazy("Pass charged"),
    commitments.TRAINING_CHARGED: gettext_lazy("Training charged"),
    commitments.REFUND_MADE: gettext_lazy("Refund made"),
    commitments.EPOCH_SETTLED: gettext_lazy("Epoch settled"),
    commitments.VERSION_PUBLISHED: gettext_lazy("Datanet version published"),
    commitments.MODEL_PUBLISHED: gettext_lazy("Model published"),
    commitments.RULE_ADOPTED: gettext_lazy("Split rule adopted"),
    commitments.CONSENT_WITHDRAWN: gettext_lazy("Consent withdrawn"),
    commitments.WITHDRAWAL_SENT: gettext_lazy("Withdrawal sent"),
    commitments.KEY_ROTATED: gettext_lazy("Log key rotated"),
    commitments.POSTING_MADE: gettext_lazy("Posting made"),
}


class Names(Protocol):
    """What the ids in the log are called. The log has no names, and this app knows nothing that has one: its caller does."""

    def of(self, ids: Collection[str], viewer) -> dict[str, str]:
        """Id -> name of the models, model versions and Datanets among these that this viewer may read the name of."""

    def called(self, text: str, viewer) -> list[str]:
        """Ids of the models and Datanets whose name or path starts with a text."""


def pages_with(names: Names) -> list:
    """The addresses of these pages, which say names as `names` tells them."""
    said = {"names": names}
    return [
        path("ledger/", ledger_explorer, said, name="ledger_explorer"),
        path("ledger/epochs/", ledger_epochs, said, name="ledger_epochs"),
        path("ledger/totals/", ledger_totals, said, name="ledger_totals"),
        path("ledger/checkpoints/<int:size>/", ledger_checkpoint, name="ledger_checkpoint"),
        path("ledger/entries/<int:index>/", ledger_entry, said, name="ledger_entry"),
    ]


@require_safe
def ledger_explorer(request: HttpRequest, names: Names) -> HttpResponse:
    """Head, witnesses, checkpoints, entries and settled epochs; a search for an id, a number, a model or a Datanet."""
    asked = request.GET.get("q", "").strip()
    if asked and (found := _find(asked)):
        return redirect(*found)
    called = names.called(asked, request.user) if asked else []
    versions, models = _published_of(called) if called else ([], [])
    before = request.GET.get("before", "")
    leaves = (_entries_about(versions, models) if asked else Leaf.objects.all()).order_by("-index")
    if before.isdecimal():
        leaves = leaves.filter(index__lt=int(before))
    page = list(leaves[: ENTRIES_SHOWN + 1])
    entries = page[:ENTRIES_SHOWN]
    head = ledger.head()
    about = models if asked else None
    epochs = settled.epochs(about, limit=EPOCHS_SHOWN)
    totals = settled.totals_per_model(about, limit=TOTALS_SHOWN)
    ids = {row["model_id"] for row in [*epochs, *totals]}.union(*(_ids_in(leaf.entry) for leaf in entries))
    named = names.of(ids, request.user)
    for row in [*epochs, *totals]:
        row["model"] = named.get(row["model_id"], row["model_id"])
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
        "entries": [(leaf, type_label(leaf.type), _told(leaf.entry, named)) for leaf in entries],
        "next_url": f"?{urlencode(_asked(asked) | {'before': entries[-1].index})}" if len(page) > ENTRIES_SHOWN else "",
        "first_url": f"{request.path}?{urlencode(_asked(asked))}" if before.isdecimal() else "",
        "epochs": epochs,
        "totals": totals,
        "more": f"?{urlencode(_asked(asked))}" if asked else "",
        "asked": asked,
        "is_found": bool(models or entries),
    }
    return render(request, "ledger/explorer.html", context)


@require_safe
def ledger_epochs(request: HttpRequest, names: Names) -> HttpResponse:
    """Every settled epoch, newest first, or those of what is asked for."""
    asked, before = request.GET.get("q", "").strip(), request.GET.get("before", "")
    after = int(before) if before.isdecimal() and len(before) < 18 else None
    rows = settled.epochs(_models_called(asked, names, request), after=after, limit=ROWS_SHOWN + 1)
    context = _page(request, rows, asked, names, lambda row: {"before": row["index"]}, is_first=after is None)
    return render(request, "ledger/epochs.html", context)


@require_safe
def ledger_totals(request: HttpRequest, names: Names) -> HttpResponse:
    """What the settled epochs of each model add up to, largest first."""
    asked = request.GET.get("q", "").strip()
    nano, _separator, model_id = request.GET.get("after", "").partition(":")
    after = (int(nano), model_id) if nano.isdecimal() and len(nano) < 20 else None
    rows = settled.totals_per_model(_models_called(asked, names, request), after=after, limit=ROWS_SHOWN + 1)
    context = _page(
        request,
        rows,
        asked,
        names,
        lambda row: {"after": f"{row['pool_nano']}:{row['model_id']}"},
        is_first=after is None,
    )
    return render(request, "ledger/totals.html", context)


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
def ledger_entry(request: HttpRequest, index: int, names: Names) -> HttpResponse:
    """One entry, exactly as it is hashed."""
    leaf = get_object_or_404(Leaf, index=index)
    head = ledger.head()
    context = {
        "leaf": leaf,
        "label": type_label(leaf.type),
        "leaf_hash": bytes(leaf.hash).hex(),
        "entry_text": json.dumps(leaf.entry, indent=1, ensure_ascii=False),
        "hour": leaf.entry["hour"],
        "told": _told(leaf.entry, names.of(_ids_in(leaf.entry), request.user)),
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


def _models_called(asked: str, names: Names, request: HttpRequest) -> list[str] | None:
    """The models that a search is for; None: nothing is searched."""
    return _published_of(names.called(asked, request.user))[1] if asked else None


def _page(
    request: HttpRequest,
    rows: list[dict],
    asked: str,
    names: Names,
    cursor: Callable[[dict], dict],
    *,
    is_first: bool,
) -> dict:
    """One page of rows of models, of which one more was read than is shown."""
    shown = rows[:ROWS_SHOWN]
    named = names.of({row["model_id"] for row in shown}, request.user)
    following = urlencode(_asked(asked) | cursor(shown[-1])) if len(rows) > ROWS_SHOWN else ""
    return {
        "rows": [row | {"model": named.get(row["model_id"], row["model_id"])} for row in shown],
        "asked": asked,
        "next_url": f"?{following}" if following else "",
        "first_url": "" if is_first else f"{request.path}?{urlencode(_asked(asked))}",
    }


def _published_of(ids: Collection[str]) -> tuple[list[UUID], list[str]]:
    """Of these Datanets the entries of their versions; of these models, and those that learned from them, the ids."""
    published = Leaf.objects.filter(type=commitments.VERSION_PUBLISHED, body__datanet_id__in=ids)
    versions = list(published.values_list("entry_id", flat=True))
    learned = Q(body__versions__has_any_keys=[str(id) for id in versions])
    found = Leaf.objects.filter(Q(body__model_id__in=ids) | learned, type=commitments.MODEL_PUBLISHED).order_by("index")
    return versions, list(dict.fromkeys(leaf.entry["model_id"] for leaf in found[:MODELS_FOUND]))


def _entries_about(versions: Iterable[UUID], models: Iterable[str]) -> QuerySet[Leaf]:
    """These publications, and what these models published and settled. Of calls there are too many to search."""
    about = Q(type__in=[commitments.MODEL_PUBLISHED, commitments.EPOCH_SETTLED], body__model_id__in=list(models))
    return Leaf.objects.filter(Q(entry_id__in=list(versions)) | about)


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
    names = [notes.decode_vkey(vkey).name for vkey in ledger.witness_vkeys()]
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


def _ids_in(entry: dict) -> set[str]:
    """The ids in an entry that may have a name."""
    return {entry[field] for field in NAMED if field in entry}


def _told(entry: dict, named: dict[str, str]) -> str:
    """The clear fields of an entry in one line: what it is about."""
    for field in (*NAMED, "reverses", "charge", "kind", "run", "rule"):
        if isinstance(entry.get(field), str):
            return named.get(entry[field], entry[field])
    return _("no clear field")
