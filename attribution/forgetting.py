"""What attribution forgets of an erased person: the inputs of their calls, and whose answers quoted their records.

Lines, sums and receipts stand: they are what others were paid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from attribution import bundles
from attribution.models import Artifact, Epoch, Line, Reversal, Trace

QUOTING = ("retrieval", "connected")  # engines whose answers may hold the words of records


def forgettable(charge_ids: Collection[UUID]) -> QuerySet[Trace]:
    """Traces whose context nothing needs any more: their epoch is posted, or they will never be in one.

    Whether a charge can still be given back is for the caller to know: then its scores leave the running sums.
    """
    posted = Line.objects.filter(source_id=OuterRef("charge_id"), epoch__status=Epoch.Status.POSTED)
    left_out = Reversal.objects.filter(charge_id=OuterRef("charge_id"), was_settled=False)
    to_be_netted = Reversal.objects.filter(charge_id=OuterRef("charge_id"), was_settled=True, netted_in=None)
    found = Trace.objects.filter(charge_id__in=charge_ids, scores__isnull=True, forgotten_at=None).exclude(context={})
    over = Exists(posted) | Exists(left_out) | Q(data_nano=0, curation_nano=0)
    return found.filter(over, ~Exists(to_be_netted))


def forget_inputs(charge_ids: Collection[UUID]) -> int:
    """Erase what these charges were about: the numbers of the row that was classified. Returns how many were."""
    return forgettable(charge_ids).update(context={}, forgotten_at=timezone.now())


def charges_that_quote(record_ids: Iterable[int], *, traced_since: datetime) -> list[UUID]:
    """Charges of answers that quoted or repeated one of these records, as far as they were attributed since a moment."""
    records = set(record_ids)
    found: list[UUID] = []
    quoting = Artifact.objects.filter(engine__in=QUOTING, versions__datanet__records__in=records).distinct()
    for sha256 in quoting.values_list("sha256", flat=True):
        bundle = bundles.load(sha256)
        places = {place for place, record_id in enumerate(bundle.record_ids) if record_id in records}
        quoted = Trace.objects.filter(artifact=sha256, context__has_key="records", created_at__gte=traced_since)
        for charge_id, cited in quoted.values_list("charge_id", "context__records"):
            if places.intersection(cited):
                found.append(charge_id)
    return found
