"""An epoch of many calls whose traces are written at once: one by one, as calls come, they would take minutes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from attribution.engines import ENGINES
from attribution.models import Cut, Epoch, Trace
from marketplace.models import ModelVersion
from marketplace.pricing import split_charge
from marketplace.rules import DEFAULT_PARTS


def closed_epoch(
    version: ModelVersion, contexts: Sequence[dict[str, Any]], *, place: int = 0, first_charge: int = 1
) -> Epoch:
    """An epoch of a linear model, closed, with a call for each context, at prices that leave remainders.

    Args:
        place: Of its cut, among those of several epochs.
        first_charge: Its charges are numbered from here: `charge_id.int`.
    """
    traces = []
    for number, context in enumerate(contexts):
        parts = split_charge(1_000 + number * 7, DEFAULT_PARTS)
        traces.append(
            Trace(
                charge_id=uuid.UUID(int=first_charge + number),
                model_id=version.model_id,
                model_version_id=version.pk,
                artifact_id=version.artifact_sha256,
                rule_sha256="0" * 64,
                data_nano=parts["data"],
                curation_nano=parts["curation"],
                status=Trace.Status.DONE,
                context=context,
                method=ENGINES["linear"].METHOD,
                charged_at=timezone.now(),
            )
        )
    Trace.objects.bulk_create(traces, batch_size=2000)
    leaves = {"first_leaf": place, "end_leaf": place + 1}
    return Epoch.objects.create(
        id=uuid.uuid4(),
        cut=Cut.objects.create(boundary=place + 1, **leaves),
        model_id=version.model_id,
        number=1,
        charge_ids=[str(trace.charge_id) for trace in traces],
        **leaves,
    )
