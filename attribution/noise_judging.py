"""What the rule of noise says of an epoch: reads a model's artifact and its records' running sums, stores nothing.

    incumbents   rows of the Datanets' first versions, and those that were judged under an earlier version of the model
    validation   the fifth of them whose commitments draw it; in no fit, and nobody can choose it
    new rows     those that came later; per contributor and Datanet in blocks of about 64, in the order of their commitments

Rows of a case that runs or was upheld are neither; those of one that was cleared or lapsed are incumbents from then on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.conf import settings

from attribution import bundles, frozen, noise
from attribution.bundles import Bundle
from attribution.models import Artifact, Epoch, NoiseRecord, NoiseReport, RecordEpoch, Source, Trace
from datanets.models import Record

LEFT_OUT = -3
LOTS = 5
FIRST_VERSION = 1
Outcome, Reason = NoiseReport.Outcome, NoiseReport.Reason


class Convicted(NamedTuple):
    """Rows of one contributor in one Datanet that nothing speaks for, and the figures that say so."""

    contributor_id: int
    datanet_id: UUID
    record_ids: list[int]
    figures: dict[str, Any]


class Finding(NamedTuple):
    """Of one model version: the fields of its report, and who is accused."""

    model_version_id: UUID | None
    fields: dict[str, Any]
    convicted: list[Convicted]


def waiting() -> list[Epoch]:
    """The newest posted epoch of each model, where it was not judged yet: its sums hold those of all before it."""
    newest = Epoch.objects.filter(status=Epoch.Status.POSTED).order_by("model_id", "-number").distinct("model_id")
    judged = set(NoiseReport.objects.filter(epoch__in=newest.values("pk")).values_list("epoch_id", flat=True))
    return [epoch for epoch in newest if epoch.pk not in judged]


def findings(epoch: Epoch) -> list[Finding]:
    """Judge every model version that was called in an epoch.

    Raises:
        bundles.Damaged, FileNotFoundError: the files of an artifact are not there; nothing is judged by wrong ones.
    """
    called = Trace.objects.filter(charge_id__in=epoch.charge_ids, source=Source.CALL).exclude(artifact=None)
    versions = dict(called.order_by().values_list("model_version_id", "artifact_id").distinct())
    if not versions:
        return [Finding(None, {"outcome": Outcome.NOT_JUDGED, "reason": Reason.NO_CALLS}, [])]
    return [
        _of_version(epoch, version_id, bundles.load(sha256))
        for version_id, sha256 in sorted(versions.items(), key=lambda item: str(item[0]))
    ]


def _of_version(epoch: Epoch, version_id: UUID, bundle: Bundle) -> Finding:
    if bundle.artifact.engine != "linear" or bundle.artifact.settings["task"] != "classification":
        return Finding(version_id, {"outcome": Outcome.NOT_JUDGED, "reason": Reason.ENGINE}, [])
    rows = _Rows(epoch, version_id, bundle)
    try:
        if not rows.blocks and rows.unjudged:
            raise noise.Refused(Reason.FEW_ROWS, found=rows.unjudged, needed=noise.BLOCK_ROWS_MIN)
        found = noise.judge(
            rows.task,
            incumbents_min=settings.NOISE_INCUMBENTS_MIN,
            validation_min=settings.NOISE_VALIDATION_MIN,
        )
    except noise.Refused as refused:
        said = {"reason": refused.code, "found": refused.found, "needed": refused.needed}
        return Finding(version_id, {"outcome": Outcome.NOT_JUDGED, **said}, [])
    except ArithmeticError:
        return Finding(version_id, {"outcome": Outcome.NOT_JUDGED, "reason": Reason.NOT_CONVERGED}, [])
    convicted = rows.accused(found)
    fields = {
        "outcome": Outcome.CASES if convicted else Outcome.NO_CASE,
        "figures": {**_joint(found), "blocks": len(found.blocks), "unjudged": rows.unjudged},
        "judged_through": {str(datanet_id): number for datanet_id, number in rows.versions.items()},
    }
    return Finding(version_id, fields, convicted)


class _Rows:
    """The leaders of an artifact as a task, and which block is whose."""

    def __init__(self, epoch: Epoch, version_id: UUID, bundle: Bundle) -> None:
        a = bundle.artifact.arrays
        self.record_ids = np.array(bundle.record_ids, dtype=np.int64)[a["record_index"]]
        artifact = Artifact.objects.get(pk=bundle.sha256)
        self.versions: dict[UUID, int] = dict(artifact.versions.values_list("datanet_id", "number"))
        self.blocks: dict[int, tuple[int, UUID]] = {}  # number -> contributor, Datanet
        self.unjudged = 0  # new rows of contributors who sent too few
        block = self._sorted_out(epoch.model_id, version_id)
        taking_part = block != LEFT_OUT
        self.record_ids, self.block = self.record_ids[taking_part], block[taking_part]
        claims = _claims(version_id)
        self.task = noise.Task(
            rows=a["X"][taking_part],
            labels=a["targets"][taking_part],
            block=self.block,
            claims=np.array([claims.get(int(record_id), 0.0) for record_id in self.record_ids]),
            settings=bundle.artifact.settings,
        )

    def accused(self, found: noise.Judgement) -> list[Convicted]:
        guilty: dict[tuple[int, UUID], list[noise.Block]] = defaultdict(list)
        for one in found.convicted:
            guilty[self.blocks[one.number]].append(one)
        return [
            Convicted(
                contributor_id,
                datanet_id,
                sorted(self.record_ids[np.isin(self.block, [one.number for one in blocks])].tolist()),
                {**_joint(found), "rows": sum(one.rows for one in blocks), "looks": [_looks(one) for one in blocks]},
            )
            for (contributor_id, datanet_id), blocks in sorted(guilty.items(), key=lambda item: str(item[0]))
        ]

    def _sorted_out(self, model_id: UUID, version_id: UUID) -> np.ndarray:
        known = Record.objects.filter(pk__in=self.record_ids.tolist())
        about: dict[int, tuple[int, UUID, int | None, str]] = {
            pk: (contributor_id, datanet_id, added_in, identity)
            for pk, contributor_id, datanet_id, added_in, identity in known.values_list(
                "pk", "contributor_id", "datanet_id", "added_in", "identity"
            )
        }
        cases = dict(NoiseRecord.objects.filter(model_id=model_id).values_list("record_id", "case__status"))
        through = self._judged_before(model_id, version_id)
        block = np.full(len(self.record_ids), LEFT_OUT, dtype=np.int64)
        new: dict[tuple[int, UUID], list[tuple[bytes, int]]] = defaultdict(list)
        for place, record_id in enumerate(self.record_ids.tolist()):
            if record_id not in about or cases.get(record_id) in frozen.NOISE_STANDS:
                continue
            contributor_id, datanet_id, added_in, identity = about[record_id]
            lot = hashlib.sha256(bytes.fromhex(identity)).digest()
            if record_id in cases or (added_in or 0) <= through.get(datanet_id, FIRST_VERSION):
                drawn = int.from_bytes(lot[:4]) % LOTS == 0
                block[place] = noise.Task.VALIDATION if drawn else noise.Task.INCUMBENT
            else:
                new[contributor_id, datanet_id].append((lot, place))
        for whose, rows in sorted(new.items(), key=lambda item: str(item[0])):
            if len(rows) < noise.BLOCK_ROWS_MIN:
                self.unjudged += len(rows)
                continue
            places = np.array([place for _lot, place in sorted(rows)])
            for part in np.array_split(places, max(1, round(len(places) / noise.BLOCK_ROWS))):
                block[part] = len(self.blocks)
                self.blocks[len(self.blocks)] = whose
        return block

    def _judged_before(self, model_id: UUID, version_id: UUID) -> dict[UUID, int]:
        """Datanet -> the newest of its versions whose rows were judged under another version of the model."""
        through: dict[UUID, int] = {}
        reports = NoiseReport.objects.filter(model_id=model_id).exclude(outcome=Outcome.NOT_JUDGED)
        for said in reports.exclude(model_version_id=version_id).values_list("judged_through", flat=True).distinct():
            for datanet_id, number in said.items():
                through[UUID(datanet_id)] = max(number, through.get(UUID(datanet_id), FIRST_VERSION))
        return through


def _claims(version_id: UUID) -> dict[int, float]:
    """Record -> its summed score over all calls of a model version so far; a number to compare with, nothing is paid by it."""
    newest = (
        RecordEpoch.objects.filter(model_version_id=version_id, epoch__status=Epoch.Status.POSTED)
        .order_by("record_id", "-id")
        .distinct("record_id")
    )
    return {record_id: float(net) for record_id, net in newest.values_list("record_id", "net")}


def _joint(found: noise.Judgement) -> dict[str, Any]:
    return {
        "method": noise.METHOD,
        "value": round(found.value, 6),
        "expected": round(found.expected, 6),
        "deviation": round(found.deviation, 6),
        "z": round(found.z, 2),
        "incumbents": found.incumbents,
        "validation": found.validation,
    }


def _looks(block: noise.Block) -> dict[str, Any]:
    return {"rows": block.rows} | {name: round(value, 1) for name, value in block.typicality._asdict().items()}
