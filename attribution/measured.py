"""Accuracies of curators, frozen with an epoch as they were at its close: plan, shards and replay read the same integers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction

from attribution.models import CuratorAccuracy, Epoch, Trace
from attribution.planning import Accuracy
from datanets import measuring
from datanets.accuracy import RULE, millionths
from datanets.models import Version


def freeze(epoch: Epoch, found: Sequence[Trace]) -> Accuracy:
    """Measure the curators of the Datanets behind these charges, as of the close of the epoch.

    Once: the second time, also by another worker, what was frozen first is returned.
    """
    with transaction.atomic():
        locked = Epoch.objects.select_for_update().get(pk=epoch.pk)
        if not locked.accuracy_sha256:
            artifacts = {trace.artifact_id for trace in found if trace.artifact_id}
            datanets = set(Version.objects.filter(artifacts__in=artifacts).values_list("datanet_id", flat=True))
            observed = measuring.counts(datanets, at=epoch.closed_at)
            rows = [
                CuratorAccuracy(
                    epoch=epoch,
                    curator_id=curator_id,
                    datanet_id=datanet_id,
                    **counts._asdict(),
                    accuracy_millionths=millionths(counts),
                )
                for (curator_id, datanet_id), counts in observed.items()
            ]
            CuratorAccuracy.objects.bulk_create(rows, batch_size=1000)
            locked.accuracy_sha256 = fingerprint(rows)
            locked.save(update_fields=["accuracy_sha256"])
    return of_epoch(epoch.pk)


def of_epoch(epoch_id: UUID) -> Accuracy:
    """Millionths by (curator, Datanet), as they were frozen; who is not named counts in full."""
    return of_epochs([epoch_id])[epoch_id]


def of_epochs(epoch_ids: Iterable[UUID]) -> dict[UUID, Accuracy]:
    """`of_epoch` of several, in one query."""
    found: dict[UUID, dict[tuple[int, UUID], int]] = {epoch_id: {} for epoch_id in epoch_ids}
    for row in CuratorAccuracy.objects.filter(epoch__in=found):
        found[row.epoch_id][row.curator_id, row.datanet_id] = row.accuracy_millionths
    return dict(found)


def fingerprint(rows: Iterable[CuratorAccuracy]) -> str:
    """The hash that an epoch keeps of its rows, and of the rule by which they were measured."""
    said = sorted([row.curator_id, str(row.datanet_id), *row.counts, row.accuracy_millionths] for row in rows)
    return hashlib.sha256(json.dumps([RULE, said], separators=(",", ":")).encode()).hexdigest()
