"""An epoch that is too large for one worker: its calls in shards, each computed by whoever is free, twice.

    sums   each shard adds up what its calls add to the running sums; whole numbers, so their sum is the same for any shards
    lines  with the net factors of the whole epoch, each shard makes the lines of its calls

A shard is a row with what it is computed from, under one hash: asked for twice it is one row, done twice it has one
result. The plan waits for them as it waits for traces, and puts them together in the order of the calls.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
from django.db import transaction

from attribution import bundles, measured, planning, tasks
from attribution.models import PlanShard, Trace
from attribution.netting import Sums
from attribution.planned import Part, PlannedLine, PlannedRecordLine
from ledger import services as ledger

logger = logging.getLogger(__name__)

TOPIC = "attribution.tasks.settle_shard"


class Waiting(Exception):
    """Some shards are not done yet."""


class OverWorkers:
    """`planning.Shards` of an epoch: as many calls each as `calls_each` says."""

    def __init__(self, epoch_id: UUID, *, calls_each: int, authors: Mapping[int, int]) -> None:
        self.epoch_id, self.calls_each = epoch_id, calls_each
        self.authors = dict(sorted(authors.items()))

    def sums(self, version_id: UUID, found: Sequence[Trace]) -> list[Sums]:
        """Raises Waiting."""
        results = self._results(PlanShard.Phase.SUMS, version_id, found, np.zeros(0, dtype=np.int64))
        return [Sums.of_limbs(arrays["limbs"], said) for arrays, said in results]

    def parts(self, version_id: UUID, found: Sequence[Trace], phi: np.ndarray) -> list[Part]:
        """Raises Waiting."""
        return [_part(*result) for result in self._results(PlanShard.Phase.LINES, version_id, found, phi)]

    def _results(
        self, phase: PlanShard.Phase, version_id: UUID, found: Sequence[Trace], phi: np.ndarray
    ) -> list[tuple]:
        charge_ids = [str(trace.charge_id) for trace in found]
        asked = json.dumps([charge_ids, list(self.authors.items()), self.calls_each]).encode() + phi.tobytes()
        same = {
            "epoch_id": self.epoch_id,
            "model_version_id": version_id,
            "phase": phase,
            "inputs_sha256": hashlib.sha256(asked).hexdigest(),
        }
        starts = range(0, len(charge_ids), self.calls_each)
        rows = list(PlanShard.objects.filter(**same).order_by("number"))
        if len(rows) < len(starts):
            with transaction.atomic():
                for number, start in enumerate(starts):
                    row, _created = PlanShard.objects.get_or_create(
                        **same,
                        number=number,
                        defaults={
                            "charge_ids": charge_ids[start : start + self.calls_each],
                            "authors": list(self.authors.items()),
                            # Of all shards alike, so that only the first one keeps it.
                            "phi": b"" if number else _packed({"phi": phi}, None),
                        },
                    )
                    ledger.enqueue(topic=TOPIC, reference=f"shard:{row.pk}", payload={"shard": row.pk})
            rows = list(PlanShard.objects.filter(**same).order_by("number"))
        if missing := sum(row.result is None for row in rows):
            raise Waiting(f"{missing} of {len(rows)} shards of its {phase} are not done")
        return [_unpacked(bytes(row.result)) for row in rows if row.result is not None]


def compute(reference: str) -> None:
    """Do the shard of an outbox row. Doing it twice changes nothing, also when two are at it."""
    payload = ledger.outbox_payload(TOPIC, reference)
    if payload is None:
        return
    row = PlanShard.objects.select_related("epoch").filter(pk=payload["shard"]).first()
    if row is None or row.result is not None:  # planned meanwhile, or done
        ledger.outbox_done(TOPIC, reference)
        return
    try:
        result = _computed(row)
    except (bundles.Damaged, FileNotFoundError) as problem:
        logger.error("shard %s of epoch %s cannot be computed: %s", row.pk, row.epoch_id, problem)
        ledger.outbox_failed(TOPIC, reference, str(problem))
        return
    with transaction.atomic():
        PlanShard.objects.filter(pk=row.pk, result=None).update(result=result)
        ledger.outbox_done(TOPIC, reference)
        transaction.on_commit(lambda: _ring(row))


def forget(epoch_id: UUID) -> None:
    """Delete the shards of an epoch that is planned: its lines say it all."""
    PlanShard.objects.filter(epoch=epoch_id).delete()


def _computed(row: PlanShard) -> bytes:
    known = Trace.objects.in_bulk([UUID(charge_id) for charge_id in row.charge_ids])
    found = [known[UUID(charge_id)] for charge_id in row.charge_ids]
    behind = planning.Behind(
        planning.artifact_of(found),
        dict(row.authors),
        measured.of_epoch(row.epoch_id),
        pays_equally=row.epoch.pays_equally(row.model_version_id),
    )
    if row.phase == PlanShard.Phase.SUMS:
        sums = planning.sums_of(found, behind)
        return _packed({"limbs": sums.limbs()}, sums.added_nano)
    first = PlanShard.objects.get(
        epoch=row.epoch_id,
        model_version_id=row.model_version_id,
        phase=row.phase,
        inputs_sha256=row.inputs_sha256,
        number=0,
    )
    part = planning.part_of(found, _unpacked(bytes(first.phi))[0]["phi"], behind)
    return _packed({"earned": part.earned, "used": part.used}, [part.lines, part.record_lines])


def _part(arrays: Mapping[str, np.ndarray], said: list) -> Part:
    lines, record_lines = said
    return Part(
        [PlannedLine(source, UUID(source_id), *rest) for source, source_id, *rest in lines],
        [PlannedRecordLine(UUID(source_id), *rest) for source_id, *rest in record_lines],
        arrays["earned"],
        arrays["used"],
    )


def _ring(row: PlanShard) -> None:
    """Ring the plan at once when nothing of this phase is left; its outbox row would ring it later."""
    if not PlanShard.objects.filter(epoch=row.epoch_id, phase=row.phase, result=None).exists():
        tasks.plan_epoch.delay([f"epoch:{row.epoch_id}"])


def _packed(arrays: Mapping[str, np.ndarray], said: object) -> bytes:
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(said, default=str).encode(), dtype=np.uint8)
    np.savez_compressed(file, allow_pickle=False, said=text, **arrays)
    return file.getvalue()


def _unpacked(packed: bytes) -> tuple[dict[str, np.ndarray], object]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(arrays.pop("said").tobytes())
