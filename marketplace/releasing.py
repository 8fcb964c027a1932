"""Unattributed money: public for UNATTRIBUTED_KEPT_S, then given to the bounties of the model's Datanets, epoch by epoch."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from attribution import reversals, shares
from attribution.models import Epoch
from ledger import chart
from ledger import services as ledger

from .models import Dispute, ListedModel, UnattributedRelease

logger = logging.getLogger(__name__)


def release_due(now: datetime | None = None) -> int:
    """Give away what waited long enough. Returns how many epochs; each is released once, however often this runs."""
    now = now or timezone.now()
    # Never before the window in which a refund would take some of it back.
    kept = timedelta(seconds=max(settings.UNATTRIBUTED_KEPT_S, settings.CHALLENGE_WINDOW_S))
    due = Epoch.objects.filter(
        status=Epoch.Status.POSTED, posted_at__lte=now - kept, unattributed_nano__gt=0, release=None
    )
    released = 0
    for epoch_id in list(due.order_by("posted_at").values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                released += _release(epoch_id)
        except ledger.LedgerError:
            # One epoch that the books refuse must not keep the others.
            logger.exception("what epoch %s left cannot be released", epoch_id)
    return released


def released_nano(model_id: UUID) -> int:
    """What a model's epochs gave to bounties so far: public."""
    return UnattributedRelease.objects.filter(model=model_id).aggregate(total=Sum("amount_nano"))["total"] or 0


def waiting_nano(model_id: UUID) -> int:
    """What is in a model's unattributed account now: public."""
    return ledger.balance_nano(chart.unattributed(model_id))


def _release(epoch_id: UUID) -> bool:
    epoch = Epoch.objects.get(pk=epoch_id)
    # The lock that refunds take: what one takes back is not given away, and the other way round.
    reversals.lock(epoch.model_id)
    if UnattributedRelease.objects.filter(epoch=epoch).exists() or _is_disputed(epoch):
        return False
    weights = _records_by_datanet(epoch)
    if not weights:
        return False
    amount_nano = reversals.left_unattributed(epoch)
    datanet_ids = sorted(weights)
    amounts = shares.largest_remainder(amount_nano, [weights[one] for one in datanet_ids])
    parts = [(str(one), nano) for one, nano in zip(datanet_ids, amounts, strict=True) if nano]
    release = UnattributedRelease.objects.create(
        epoch=epoch,
        model=ListedModel.objects.get(pk=epoch.model_id),
        amount_nano=amount_nano,
        parts=parts,
        posting_id=ledger.new_id(),
    )
    if amount_nano:
        ledger.post(
            id=release.posting_id,
            kind=ledger.Kind.UNATTRIBUTED_RELEASED,
            reference=f"epoch:{epoch.pk}",
            moves=[ledger.Move(chart.unattributed(epoch.model_id), chart.bounty(one), nano) for one, nano in parts],
        )
    return True


def _is_disputed(epoch: Epoch) -> bool:
    standing = Dispute.objects.filter(call__model=epoch.model_id, status__in=Dispute.STANDING)
    charges = set(epoch.charge_ids)
    return any(str(call_id) in charges for call_id in standing.values_list("call_id", flat=True))


def _records_by_datanet(epoch: Epoch) -> Counter[UUID]:
    """Records per Datanet behind the version that was the model's newest when the epoch closed."""
    model = ListedModel.objects.get(pk=epoch.model_id)
    version = model.versions.filter(Q(created_at__lte=epoch.closed_at)).order_by("-number").first()
    found: Counter[UUID] = Counter()
    if version is not None:
        for one in version.learned_from:
            found[one.datanet_id] += one.record_count
    return +found
