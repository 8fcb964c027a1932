"""What the public log says of settled epochs: rows for pages, read by key."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import BigIntegerField, Count, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from ledger import commitments
from ledger.models import Leaf


def epochs(models: Iterable[str] | None = None, *, after: int | None = None, limit: int) -> list[dict]:
    """Settled epochs, newest first; the next page comes with `after` = the `index` of the last row.

    models: Ids of the models whose epochs they are; None: of all.
    """
    found = _settled(models)
    if after is not None:
        found = found.filter(index__lt=after)
    return [
        {
            "index": leaf.index,
            "model_id": leaf.entry["model_id"],
            "number": leaf.entry["epoch"],
            "hour": leaf.entry["hour"],
            **{f"{name}_nano": int(leaf.entry[name]) for name in ("pool", "paid", "unattributed")},
        }
        for leaf in found.order_by("-index")[:limit]
    ]


def totals_per_model(
    models: Iterable[str] | None = None, *, after: tuple[int, str] | None = None, limit: int
) -> list[dict]:
    """What the settled epochs of each model add up to, largest first; `after`: `pool_nano` and `model_id` of the last row."""

    def total(name: str) -> Sum:
        return Sum(Cast(KT(f"body__{name}"), BigIntegerField()))

    found = (
        _settled(models)
        .annotate(model_id=KT("body__model_id"))
        .values("model_id")
        .annotate(
            epochs=Count("index"), pool_nano=total("pool"), paid_nano=total("paid"), left_nano=total("unattributed")
        )
    )
    if after is not None:
        nano, model_id = after
        found = found.filter(Q(pool_nano__lt=nano) | Q(pool_nano=nano, model_id__gt=model_id))
    return [dict(row) for row in found.order_by("-pool_nano", "model_id")[:limit]]


def _settled(models: Iterable[str] | None) -> QuerySet[Leaf]:
    found = Leaf.objects.filter(type=commitments.EPOCH_SETTLED)
    return found if models is None else found.filter(body__model_id__in=list(models))
