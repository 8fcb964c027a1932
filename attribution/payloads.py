"""What a charge tells attribution, and the ids both sides compute. Pure: the gateway uses it without Django."""

from __future__ import annotations

import uuid
from uuid import UUID

TOPIC = "attribution.tasks.trace_charge"
ATTRIBUTED_NAMESPACE = uuid.UUID("6f2a1c1e-58a4-5f0e-9d53-0c8f3a4e7b10")


def attributed_entry_id(charge_id: UUID) -> UUID:
    """The id of the `call.attributed` entry of a call: the second part of its receipt."""
    return uuid.uuid5(ATTRIBUTED_NAMESPACE, str(charge_id))


def payload_of(
    *,
    charge_id: UUID | str,
    source: str,
    model_id: UUID | str,
    model_version_id: UUID | str,
    artifact_sha256: str,
    engine: str,
    rule_sha256: str,
    data_nano: int,
    curation_nano: int,
    abstained: bool = False,
    context: dict | None = None,
    sealed: str | None = None,
    sealed_key: str | None = None,
) -> dict:
    """The outbox payload of a charge. Pure JSON; `sealed` is, in base64, what `content.seal` made of a chat call's content.

    Where the model `abstained` there is no answer to attribute, so neither context nor content.
    """
    return {
        "charge_id": str(charge_id),
        "source": source,
        "model_id": str(model_id),
        "model_version_id": str(model_version_id),
        "artifact_sha256": artifact_sha256,
        "engine": engine,
        "rule_sha256": rule_sha256,
        "data_nano": data_nano,
        "curation_nano": curation_nano,
        "abstained": abstained,
        "context": context,
        "sealed": sealed,
        "sealed_key": sealed_key,
    }
