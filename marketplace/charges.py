"""How a charge becomes a posting: one payer, the roles' parts, and what the public log says of it.

The gateway builds the same posting for calls in its own process (gateway/charging.py), from `splitting`, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from django.conf import settings

from attribution import payloads
from datanets.models import Datanet
from ledger import chart
from ledger import services as ledger

from . import pricing, splitting
from .models import ModelVersion, SplitRule

ENTRY_TYPE = {
    ledger.Kind.ACCESS_CHARGED: "access.charged",
    ledger.Kind.TRAINING_CHARGED: "training.charged",
}


def build(
    *,
    id: UUID,
    kind: ledger.Kind,
    reference: str,
    payer: str,
    version: ModelVersion,
    rule: SplitRule,
    amount_nano: int,
    pool: chart.PoolFor,
    private: Mapping[str, str],
    developer_id: int | None = None,
) -> ledger.Posting:
    """Build the posting of an access or a training charge.

    Args:
        payer: Account code of who pays.
        pool: "access" or "training": where the data's and the curators' parts wait.
        private: Committed fields of the entry besides `price`.
        developer_id: Who gets the developer's part; the model's owner by default.
    """
    model = version.model
    parts = pricing.split_charge(amount_nano, rule.parts)
    targets = splitting.role_targets(
        model_id=model.pk,
        pool=pool,
        parts=parts,
        developer_id=developer_id or model.owner_id,
        owner_ids=owner_ids_of(version.pk) if parts["owner"] else (),
    )
    return ledger.Posting(
        id=id,
        kind=kind,
        reference=reference,
        moves=[ledger.Move(payer, account, part_nano) for _role, account, part_nano in targets if part_nano],
        entry=ledger.Entry(
            type=ENTRY_TYPE[kind],
            public={"model_id": str(model.pk), "version_id": str(version.pk), "rule": f"sha256:{rule.sha256}"},
            private={**private, "price": str(amount_nano)},
            split=splitting.split_lines(targets),
        ),
        vest_after_s=settings.CHALLENGE_WINDOW_S
        if any(account.startswith("pending:") for _role, account, nano in targets if nano)
        else None,
    )


def ring_attribution(posting: ledger.Posting, *, source: str, version: ModelVersion, rule: SplitRule) -> None:
    """Leave an outbox row, in the transaction of the charge: its data and curation parts must reach the records.

    A charge of an operator model has no such parts, so nothing waits to be traced.
    """
    if version.model.is_operator_model:
        return
    parts = pricing.split_charge(sum(move.amount_nano for move in posting.moves), rule.parts)
    ledger.enqueue(
        topic=payloads.TOPIC,
        reference=f"{source}:{posting.id}",
        payload=payloads.payload_of(
            charge_id=posting.id,
            source=source,
            model_id=version.model_id,
            model_version_id=version.pk,
            artifact_sha256=version.artifact_sha256,
            engine=version.model.engine,
            rule_sha256=rule.sha256,
            data_nano=parts["data"],
            curation_nano=parts["curation"],
        ),
    )


def owner_ids_of(version_id: UUID) -> list[int]:
    """Owners of the Datanets that a model version is bound to, each once, in a fixed order: they share the owner's part."""
    return owner_ids_by_version([version_id])[version_id]


def owner_ids_by_version(version_ids: Collection[UUID]) -> dict[UUID, list[int]]:
    """`owner_ids_of` many versions, in one query."""
    path = "versions__training_runs__model_version"
    found = Datanet.objects.filter(**{f"{path}__in": version_ids}).values_list(path, "owner_id").distinct()
    owners: dict[UUID, list[int]] = {version_id: [] for version_id in version_ids}
    for version_id, owner_id in found.order_by("owner_id"):
        owners[version_id].append(owner_id)
    return owners
