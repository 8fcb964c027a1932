"""From charges to payments, an epoch at a time. Close and post run in the sequencer, plan in a worker.

    close_due    at each boundary of EPOCH_S: the log since the last cut, one epoch per model with money in it; charges of a
                 model that no Datanet shaped are in none
    plan         exact integers: lines per payee, the largest records of each charge, running sums, postings; charges that
                 were given back before (`reversals`) pay nobody
    post_planned the pools pay; call.attributed and epoch.settled go into the public log

Each step is resumable and does nothing the second time: a cut has one row per boundary, an epoch's id follows from its
cut and model, and a posting's id was made with its plan.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from attribution import bundles, cards, frozen, measured, methods, planning, reversals, sharding
from attribution.models import Cut, Epoch, Line, PlannedPosting, RecordEpoch, RecordFee, RecordLine, Source, Trace
from attribution.netting import Unattributed
from attribution.payloads import attributed_entry_id
from attribution.planned import Planned, PlannedLine
from datanets import thefts
from ledger import chart, commitments
from ledger import services as ledger

logger = logging.getLogger(__name__)

PLAN_TOPIC = "attribution.tasks.plan_epoch"
CHARGES = {"call.charged": "call", "access.charged": "access", "training.charged": "training"}
POOL_OF_SOURCE: dict[str, chart.PoolFor] = {"call": "calls", "access": "access", "training": "training"}
POOL_PART: dict[str, chart.PoolPart] = {"data": "data", "curation": "curation"}
LEGS_MAX = 1000
EPOCHS = uuid.UUID("6f2a1c1e-58a4-5f0e-9d53-0c8f3a4e7b10")  # namespace of epoch ids


class NotYet(Exception):
    """Some charge of the epoch has no trace yet. The outbox rings again."""


# --- Close


@transaction.atomic
def close_due(now: datetime | None = None) -> int:
    """End the epochs whose boundary has passed. Returns how many epochs were closed; models without money have none."""
    now = now or timezone.now()
    boundary = int(now.timestamp()) // settings.EPOCH_S
    last = Cut.objects.order_by("-boundary").first()
    if last is not None and last.boundary >= boundary:
        return 0
    first_leaf, end_leaf = (last.end_leaf if last else 0), ledger.log_size()
    by_model: dict[str, list[str]] = defaultdict(list)
    for row in ledger.entries(first_leaf, end_leaf, types=list(CHARGES)):
        if not _is_of_no_data(row.public["version_id"]):
            by_model[row.public["model_id"]].append(str(row.id))
    if not by_model:
        return 0
    cut, created = Cut.objects.get_or_create(
        boundary=boundary, defaults={"first_leaf": first_leaf, "end_leaf": end_leaf, "at": now}
    )
    if not created:
        return 0
    for model_id, charge_ids in sorted(by_model.items()):
        previous = Epoch.objects.filter(model_id=model_id).aggregate(number=Max("number"))["number"] or 0
        epoch = Epoch.objects.create(
            id=uuid.uuid5(EPOCHS, f"{boundary}:{model_id}"),
            cut=cut,
            model_id=model_id,
            number=previous + 1,
            first_leaf=first_leaf,
            end_leaf=end_leaf,
            charge_ids=charge_ids,
            cards=cards.in_force(model_id),
            closed_at=now,
        )
        ledger.enqueue(topic=PLAN_TOPIC, reference=f"epoch:{epoch.pk}", payload={"epoch_id": str(epoch.pk)})
    return len(by_model)


@lru_cache(maxsize=1000)
def _is_of_no_data(version_id: str) -> bool:
    """Whether the log says that a model version is of no Datanet version: then no pool holds a part of its charges. What the
    log says stays, so it is remembered."""
    published = ledger.entry_of(uuid.UUID(version_id))
    return published is not None and published.public.get("versions") == []


# --- Plan


def plan(reference: str) -> Epoch | None:
    """Plan the epoch of an outbox row, or leave the row for the next ring while traces are missing."""
    payload = ledger.outbox_payload(PLAN_TOPIC, reference)
    if payload is None:
        return None
    try:
        return plan_epoch(payload["epoch_id"])
    except (NotYet, sharding.Waiting) as waiting:
        ledger.outbox_failed(PLAN_TOPIC, reference, str(waiting))
        return None
    except (bundles.Damaged, FileNotFoundError) as problem:
        # Nobody is paid out of wrong files, and no other epoch waits: `verify` names this one until they are back.
        logger.error("epoch %s cannot be planned: %s", payload["epoch_id"], problem)
        ledger.outbox_failed(PLAN_TOPIC, reference, str(problem))
        return None


def plan_epoch(epoch_id: uuid.UUID | str) -> Epoch:
    """Turn a closed epoch into lines and postings. Planning twice changes nothing, also when two plan at once.

    The arithmetic runs outside the transaction: an open one would hold back the fold and the log of the whole site.
    What it reads stays as it is: traces are written once, and so are the sums of planned epochs. Only charges may have
    been given back meanwhile, and records to their authors; that is looked at again under the lock, and planned anew.

    Raises:
        NotYet: a charge younger than TRACE_WAIT_S has no trace, or an earlier epoch of the model is not planned.
        sharding.Waiting: it is large, and workers are at its shards.
    """
    epoch = Epoch.objects.get(pk=epoch_id)
    if epoch.status != Epoch.Status.CLOSED:
        return epoch
    if Epoch.objects.filter(model_id=epoch.model_id, number__lt=epoch.number, status=Epoch.Status.CLOSED).exists():
        raise NotYet("an earlier epoch of this model is not planned")
    while True:
        given_back, authors = reversals.before_plan(epoch), thefts.authors()
        found = _traces_of(epoch, without=given_back.left_out)
        taken_out = list(Trace.objects.filter(charge_id__in=given_back.taken_out, source=Source.CALL))
        earlier = earlier_sums(epoch, [*found, *taken_out])
        planned = planning.plan(
            found,
            earlier=earlier,
            accuracy=measured.freeze(epoch, found),
            taken_out=taken_out,
            authors=authors,
            shards=_shards(epoch, found, authors),
            equally=epoch.equal_versions,
        )
        with transaction.atomic():
            reversals.lock(epoch.model_id)
            epoch = Epoch.objects.select_for_update().get(pk=epoch_id)
            if epoch.status != Epoch.Status.CLOSED:
                return epoch
            if (reversals.before_plan(epoch), thefts.authors()) == (given_back, authors):
                _store(epoch, planned, found)
                reversals.mark_netted(given_back, epoch)
                sharding.forget(epoch.pk)
                ledger.outbox_done(PLAN_TOPIC, f"epoch:{epoch.pk}")
                return epoch


def _shards(epoch: Epoch, found: Sequence[Trace], authors: dict[int, int]) -> planning.Shards | None:
    """A large epoch is shared out to workers; a small one is planned sooner here."""
    if len(found) <= settings.PLAN_SHARD_CALLS:
        return None
    return sharding.OverWorkers(epoch.pk, calls_each=settings.PLAN_SHARD_CALLS, authors=authors)


def _traces_of(epoch: Epoch, *, without: frozenset[uuid.UUID]) -> list[Trace]:
    """The traces of an epoch's charges, in the order of their leaves; of those given back before, none."""
    charge_ids = [charge_id for charge_id in epoch.charge_ids if uuid.UUID(charge_id) not in without]
    by_id = {str(trace.charge_id): trace for trace in Trace.objects.filter(charge_id__in=charge_ids)}
    missing = [charge_id for charge_id in charge_ids if charge_id not in by_id]
    if missing:
        if epoch.closed_at > timezone.now() - timedelta(seconds=settings.TRACE_WAIT_S):
            raise NotYet(f"{len(missing)} charges have no trace yet")
        for charge_id in missing:
            by_id[charge_id] = _not_attributable(epoch, uuid.UUID(charge_id))
    return [by_id[charge_id] for charge_id in charge_ids]


def _not_attributable(epoch: Epoch, charge_id: uuid.UUID) -> Trace:
    """A charge that nobody could trace in time: its part goes to `unattributed`. The amounts are the posting's own."""
    posting = ledger.posting_of(charge_id)
    entry = ledger.entry_of(charge_id)
    if posting is None or entry is None:
        raise NotYet(f"charge {charge_id} is not in the books")
    parts = {"data": 0, "curation": 0}
    for move in posting.moves:
        if move.target.startswith("pool:"):
            parts[move.target.rsplit(":", 1)[1]] += move.amount_nano
    stored, _created = Trace.objects.get_or_create(  # a trace may come at the last moment
        charge_id=charge_id,
        defaults={
            "source": CHARGES[entry.type],
            "model_id": epoch.model_id,
            "model_version_id": uuid.UUID(int=0),
            "rule_sha256": entry.public["rule"].removeprefix("sha256:"),
            "data_nano": parts["data"],
            "curation_nano": parts["curation"],
            "charged_at": posting.at,
            "status": Trace.Status.FAILED,
            "reason": Unattributed.NOT_ATTRIBUTABLE,
            "method": methods.NONE,
        },
    )
    return stored


def earlier_sums(epoch: Epoch, found: Sequence[Trace]) -> dict[uuid.UUID, dict[int, tuple[int, int]]]:
    """(net, positive) per record at the end of the last epoch that touched it, of the versions called in this one."""
    called = {trace.model_version_id for trace in found if trace.source == Source.CALL}
    rows = (
        RecordEpoch.objects.filter(model_version_id__in=called, epoch__number__lt=epoch.number)
        .order_by("model_version_id", "record_id", "-id")  # epochs of a model are planned one after the other
        .distinct("model_version_id", "record_id")
        .values_list("model_version_id", "record_id", "net", "positive")
    )
    sums: dict[uuid.UUID, dict[int, tuple[int, int]]] = defaultdict(dict)
    for version_id, record_id, net, positive in rows:
        sums[version_id][record_id] = (int(net), int(positive))
    return sums


def _store(epoch: Epoch, planned: Planned, found: Sequence[Trace]) -> None:
    Line.objects.bulk_create([Line(epoch=epoch, **line._asdict()) for line in planned.lines], batch_size=2000)
    RecordLine.objects.bulk_create(
        [RecordLine(epoch=epoch, **line._asdict()) for line in planned.record_lines], batch_size=2000
    )
    RecordEpoch.objects.bulk_create(
        [RecordEpoch(epoch=epoch, **row._asdict()) for row in planned.record_epochs], batch_size=2000
    )
    RecordFee.objects.bulk_create(
        [RecordFee(epoch=epoch, **row._asdict()) for row in planned.record_fees], batch_size=2000
    )
    postings = _postings(epoch, planned, {trace.charge_id: trace.source for trace in found})
    PlannedPosting.objects.bulk_create(
        [
            PlannedPosting(id=ledger.new_id(), epoch=epoch, number=number, moves=[list(move) for move in moves])
            for number, moves in enumerate(postings, start=1)
        ]
    )
    epoch.pool_nano = sum(trace.data_nano + trace.curation_nano for trace in found)
    epoch.paid_nano = sum(line.amount_nano for line in planned.lines if line.payee_id is not None)
    epoch.unattributed_nano = sum(line.amount_nano for line in planned.lines if line.payee_id is None)
    epoch.lines_secret = secrets.token_bytes(commitments.SECRET_BYTES)
    epoch.lines_root = commitments.lines_root([said(line) for line in planned.lines], epoch.lines_secret)
    epoch.status, epoch.planned_at = Epoch.Status.PLANNED, timezone.now()
    epoch.save()
    frozen.hold_what_is_planned(epoch)


class Leg(NamedTuple):
    """One move of a settlement."""

    source: str
    target: str
    amount_nano: int


def _postings(epoch: Epoch, planned: Planned, source_of: dict[uuid.UUID, str]) -> list[list[Leg]]:
    """Batches of at most LEGS_MAX legs, each out of one pool."""
    owed: dict[tuple[str, str], int] = defaultdict(int)
    for line in planned.lines:
        pool = chart.pool(epoch.model_id, POOL_OF_SOURCE[source_of[line.source_id]], POOL_PART[line.role])
        target = chart.unattributed(epoch.model_id) if line.payee_id is None else chart.pending(line.payee_id)
        owed[pool, target] += line.amount_nano
    by_pool: dict[str, list[Leg]] = defaultdict(list)
    for (pool, target), amount_nano in sorted(owed.items()):
        by_pool[pool].append(Leg(pool, target, amount_nano))
    return [legs[start : start + LEGS_MAX] for legs in by_pool.values() for start in range(0, len(legs), LEGS_MAX)]


def said(line: PlannedLine | Line) -> dict[str, str]:
    """One line as the epoch's public root commits to it."""
    return {
        "source": str(line.source_id),
        "role": line.role,
        "payee": "" if line.payee_id is None else chart.pending(line.payee_id),
        "item": line.reason,
        "amount": str(line.amount_nano),
    }


# --- Post


def post_planned(limit: int = 20) -> int:
    """Post the epochs that are planned, each in one transaction. Returns how many were posted."""
    waiting = Epoch.objects.filter(status=Epoch.Status.PLANNED).order_by("planned_at")[:limit]
    return sum(_post(epoch.pk) for epoch in waiting)


def _post(epoch_id: uuid.UUID) -> bool:
    try:
        with transaction.atomic():
            return _post_locked(epoch_id)
    except ledger.InsufficientFunds:
        # The pool's credits are not folded yet: the next round posts it.
        logger.info("epoch %s waits for its pool to be folded", epoch_id)
    except ledger.LedgerError:
        # One plan that the books refuse must not keep every other model from being paid. `verify` names it after an hour.
        logger.exception("epoch %s cannot be posted", epoch_id)
    return False


def _post_locked(epoch_id: uuid.UUID) -> bool:
    reversals.lock_beside_others()
    epoch = Epoch.objects.select_for_update().get(pk=epoch_id)
    if epoch.status != Epoch.Status.PLANNED:
        return False
    now = timezone.now()
    planned = list(epoch.postings.order_by("number"))
    ledger.post_many(
        [
            ledger.Posting(
                id=posting.pk,
                kind=ledger.Kind.SETTLEMENT,
                reference=f"epoch:{epoch.pk}:{posting.number}",
                moves=[ledger.Move(*move) for move in posting.moves],
                vest_after_s=settings.CHALLENGE_WINDOW_S
                if any(target.startswith("pending:") for _source, target, _amount in posting.moves)
                else None,
            )
            for posting in planned
        ]
    )
    _publish_attributions(epoch)
    ledger.record_fact(
        id=epoch.pk,
        reference=f"epoch:{epoch.pk}",
        entry=ledger.Entry(
            type="epoch.settled",
            public={
                "model_id": str(epoch.model_id),
                "epoch": epoch.number,
                "pool": str(epoch.pool_nano),
                "paid": str(epoch.paid_nano),
                "unattributed": str(epoch.unattributed_nano),
                "lines_root": epoch.lines_root,
                "equally": cards.said_of(epoch),
            },
        ),
    )
    epoch.postings.update(posted_at=now)
    epoch.status, epoch.posted_at = Epoch.Status.POSTED, now
    epoch.save(update_fields=["status", "posted_at"])
    return True


def _publish_attributions(epoch: Epoch) -> None:
    """The second receipt of every call: who got which part of its data and curation money, committed."""
    splits: dict[uuid.UUID, list[dict[str, str]]] = defaultdict(list)
    for line in epoch.lines.select_related("epoch").order_by("pk"):
        splits[line.source_id].append(
            {"payee": line.account, "role": line.role_said, "item": line.reason, "amount": str(line.amount_nano)}
        )
    for charge_id, split in splits.items():
        ledger.record_fact(
            id=attributed_entry_id(charge_id),
            reference=f"attributed:{charge_id}",
            entry=ledger.Entry(
                type="call.attributed",
                public={"charge": str(charge_id), "epoch": str(epoch.pk)},
                private={"price": str(sum(int(line["amount"]) for line in split))},
                split=split,
            ),
        )
