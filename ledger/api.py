"""The public log as JSON-ready dicts: what anybody may read of heads and entries. Nothing private is here."""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings

from ledger import services as ledger
from ledger.models import Checkpoint, Leaf


def head() -> dict:
    """The newest witnessed head, and the keys to check it with. size 0 while there is none."""
    newest = ledger.head()
    return {
        "size": newest.size,
        "root": newest.root.hex() if newest.size else "",
        "checkpoint": newest.checkpoint,
        "witnesses": newest.cosigned_by,
        "quorum": settings.WITNESS_QUORUM,
        "leaves": ledger.log_size(),
        "log_vkey": ledger.log_vkey(),
        "former_log_vkeys": ledger.log_vkeys()[1:],
        "witness_vkeys": ledger.witness_vkeys(),
    }


def checkpoints(*, before: int | None, limit: int) -> list[dict]:
    """Signed heads with a size below `before`, largest first."""
    found = Checkpoint.objects.order_by("-size").prefetch_related("cosignatures")
    if before is not None:
        found = found.filter(size__lt=before)
    return [_checkpoint(one) for one in found[:limit]]


def checkpoint(size: int) -> dict | None:
    """The signed head of this size."""
    found = Checkpoint.objects.prefetch_related("cosignatures").filter(size=size).first()
    return _checkpoint(found) if found else None


def consistency(old: int, new: int) -> dict | None:
    """The proof that the signed head of size `new` extends the one of size `old`."""
    proof = ledger.consistency(old, new)
    return None if proof is None else {"old": old, "new": new, "proof": proof.splitlines()}


def entries(*, before: int | None, limit: int, wanted: Mapping[str, str]) -> list[dict]:
    """Entries with an index below `before`, newest first. wanted: `type`, and clear fields that must be equal."""
    found = Leaf.objects.order_by("-index")
    clear = dict(wanted)
    if type := clear.pop("type", ""):
        found = found.filter(type=type)
    if clear:
        found = found.filter(body__contains=clear)
    if before is not None:
        found = found.filter(index__lt=before)
    return [_entry(leaf) for leaf in found[:limit]]


def entry(index: int) -> dict | None:
    """The entry at this index."""
    leaf = Leaf.objects.filter(index=index).first()
    return _entry(leaf) if leaf else None


def _checkpoint(one: Checkpoint) -> dict:
    signed = sorted(one.cosignatures.all(), key=lambda cosignature: cosignature.witness)
    return {
        "size": one.size,
        "root": bytes(one.root).hex(),
        "note": one.note + "".join(cosignature.line for cosignature in signed),
        "witnesses": [cosignature.witness for cosignature in signed],
        "signed_at": one.signed_at,
    }


def _entry(leaf: Leaf) -> dict:
    return {
        "index": leaf.index,
        "id": leaf.entry_id,
        "type": leaf.type,
        "entry": leaf.entry,
        "leaf_hash": bytes(leaf.hash).hex(),
    }
