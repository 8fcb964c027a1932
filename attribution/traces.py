"""One charge becomes one trace: scores, or what recomputes them. Rung by the outbox, until it is done.

All that is needed of a charge comes in the outbox payload (CONTRACT in ARCHITECTURE.md); nothing is asked upwards.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import transaction

from attribution import bundles, content, methods, modelclient, spans
from attribution.engines import ENGINES, Answer, retrieval
from attribution.models import Artifact, Trace
from attribution.netting import Unattributed
from attribution.payloads import TOPIC
from attribution.shares import MILLION, quantise
from datanets.models import Record
from ledger import services as ledger

logger = logging.getLogger(__name__)


ATTEMPTS_MAX = 3
# Engines whose scores are recomputed from the stored context and the artifact; others keep their few scores.
RECOMPUTED = ("linear", "neighbours")
# What `trace` has counted itself when it raises it.
PASSING = (modelclient.ModelsUnavailable, ValueError, KeyError, FileNotFoundError, content.Unreadable)
# Most traces take some milliseconds; one that takes this long has asked a model server, and the next may do so, too.
SHARE_AFTER_S = 0.25
NO_SCORES = np.zeros(0, dtype=np.int64)


def trace(reference: str) -> Trace | None:
    """Attribute the charge of an outbox row and mark the row done, in one transaction. Repeating changes nothing.

    A third failure that is not a passing one ends in a trace that says *not attributable*.

    Raises:
        PASSING: counted in the row with its reason; it is rung again.
    """
    payload = ledger.outbox_payload(TOPIC, reference)
    if payload is None:
        return None
    charged_at = charge_time(UUID(payload["charge_id"]))
    try:
        found = _attributed(payload)
    except modelclient.ModelsUnavailable as problem:
        if ledger.outbox_failed(TOPIC, reference, str(problem)) < 10 * ATTEMPTS_MAX:
            raise
        found = {"status": Trace.Status.FAILED, "reason": Unattributed.NOT_ATTRIBUTABLE, "method": methods.NONE}
    except (ValueError, KeyError, FileNotFoundError, content.Unreadable) as problem:
        logger.exception("charge %s could not be attributed", reference)
        if ledger.outbox_failed(TOPIC, reference, str(problem)) < ATTEMPTS_MAX:
            raise
        found = {"status": Trace.Status.FAILED, "reason": Unattributed.NOT_ATTRIBUTABLE, "method": methods.NONE}
    with transaction.atomic():
        stored, _created = Trace.objects.get_or_create(
            charge_id=UUID(payload["charge_id"]),
            defaults={
                "source": payload["source"],
                "model_id": UUID(payload["model_id"]),
                "model_version_id": UUID(payload["model_version_id"]),
                "artifact_id": payload["artifact_sha256"],
                "rule_sha256": payload["rule_sha256"],
                "charged_at": charged_at,
                "data_nano": payload["data_nano"],
                "curation_nano": payload["curation_nano"],
                **found,
            },
        )
        ledger.outbox_done(TOPIC, reference)
    return stored


def charge_time(charge_id: UUID) -> datetime:
    """When a charge was booked: what was withdrawn later is still paid for it, however late its trace is made."""
    posting = ledger.posting_of(charge_id)
    if posting is None:
        raise KeyError(f"charge {charge_id} is not in the books")
    return posting.at


def scores_of(stored: Trace, withdrawn_at: Mapping[int, datetime] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Places in the artifact's roster, ascending, and their signed billionths; zeros left out.

    Recomputed where the trace keeps what that needs. A record that was withdrawn before the charge scores 0, even while
    a trained model still holds it.

    Args:
        withdrawn_at: `withdrawals_of` the trace's artifact, for who asks about many traces of one.
    """
    if stored.status == Trace.Status.FAILED or stored.artifact_id is None:
        return NO_SCORES, NO_SCORES
    bundle = bundles.load(stored.artifact_id)
    roster = bundle.roster
    withdrawn = {i for i in withdrawn_before(stored, withdrawn_at) if i in roster}
    if stored.scores is not None:
        kept = {int(record_id): score for record_id, score in stored.scores.items()}
        kept = {record_id: score for record_id, score in kept.items() if record_id not in withdrawn and score}
        places = roster.places_of(kept)
        order = np.argsort(places)
        return places[order], np.fromiter(kept.values(), dtype=np.int64)[order]
    if not stored.context:
        return NO_SCORES, NO_SCORES
    answer = Answer(outputs={}, context=stored.context)
    found = ENGINES[bundle.artifact.engine].attribute(bundle.artifact, answer)[roster.fit_order]
    found[roster.places_of(withdrawn)] = 0.0
    scores = quantise(found)
    places = np.flatnonzero(scores)
    return places, scores[places]


def withdrawn_before(stored: Trace, withdrawn_at: Mapping[int, datetime] | None = None) -> set[int]:
    """The records behind a trace's artifact that had been taken back when it was charged."""
    known = withdrawals_of(stored.artifact_id) if withdrawn_at is None else withdrawn_at
    return {record_id for record_id, at in known.items() if at <= stored.charged_at}


def withdrawals_of(artifact_id: str | None) -> dict[int, datetime]:
    """When each record of an artifact's Datanets that is withdrawn was taken back."""
    if artifact_id is None:
        return {}
    found = Record.objects.filter(datanet__versions__artifacts=artifact_id, withdrawn_at__isnull=False)
    return {pk: at for pk, at in found.values_list("pk", "withdrawn_at") if at is not None}


def _attributed(payload: dict) -> dict:
    """Fields of the trace besides those that the payload states."""
    if payload["source"] != "call":
        # Access and training money follows the shares of the version: measured on held-out rows, or equal, and named so.
        named = Artifact.objects.filter(pk=payload["artifact_sha256"]).values_list("fee_method", flat=True)
        return {"status": Trace.Status.DONE, "method": named.get()}
    if payload["abstained"]:
        return {
            "status": Trace.Status.DONE,
            "scores": {},
            "causal_millionths": 0,
            "reason": Unattributed.ABSTAINED,
            "method": methods.ABSTAINED,
        }
    engine = payload["engine"]
    if engine in RECOMPUTED:
        return {
            "status": Trace.Status.DONE,
            "context": _checked_context(payload),
            "method": ENGINES[engine].METHOD,
        }
    sealed, sealed_key = (base64.b64decode(payload[name]) for name in ("sealed", "sealed_key"))
    return of_content(UUID(payload["charge_id"]), payload["artifact_sha256"], sealed, sealed_key)


def _checked_context(payload: dict) -> dict:
    """The context, proved to give scores: a trace that cannot be settled later is found out now."""
    bundle = bundles.load(payload["artifact_sha256"])
    answer = Answer(outputs={}, context=payload["context"])
    quantise(ENGINES[payload["engine"]].attribute(bundle.artifact, answer))
    return payload["context"]


def of_content(call_id: UUID, artifact_sha256: str, sealed: bytes, sealed_key: bytes) -> dict:
    """Score a chat answer out of its sealed content: retrieval and connected models. Returns fields of its trace."""
    call = json.loads(content.open_sealed(settings.CONTENT_KEY, call_id, sealed, sealed_key))
    bundle = bundles.load(artifact_sha256)
    if bundle.artifact.engine == "retrieval":
        return _of_retrieval(call, bundle)
    charged_at = charge_time(call_id)
    withdrawn = {record_id for record_id, at in withdrawals_of(artifact_sha256).items() if at <= charged_at}
    return spans.traced(call["answer"], bundle, withdrawn=withdrawn)


def _of_retrieval(call: dict, bundle: bundles.Bundle) -> dict:
    passages = [retrieval.Passage(**row) for row in call["passages"]]
    answer = Answer(outputs={}, context={"records": retrieval.cited_records(passages)})
    if not passages or not call["answer"]:  # nothing was quoted, or the client left before the first word
        return {"status": Trace.Status.DONE, "scores": {}, "causal_millionths": 0, "method": retrieval.METHOD}
    if call["scorable"]:
        masks = retrieval.subsets(len(answer.context["records"]))
        prompts = [retrieval.build_messages(call["messages"], passages, mask=mask) for mask in masks]
        values = modelclient.log_probabilities(prompts, call["answer"])
        answer = retrieval.scored(answer, dict(zip(masks, values, strict=True)))
    else:
        documents = ["\n".join(p.text for p in passages if p.record == record) for record in answer.context["records"]]
        answer = retrieval.proxied(answer, call["answer"], documents)
    quantised = quantise(retrieval.attribute(bundle.artifact, answer))
    return {
        "status": Trace.Status.DONE,
        "scores": {
            str(record_id): score
            for record_id, score in zip(bundle.record_ids, quantised.tolist(), strict=True)
            if score
        },
        "causal_millionths": min(retrieval.causal_fraction_of(answer), MILLION),
        "context": {key: answer.context[key] for key in ("records", "centinats", "proxy") if key in answer.context},
        "reason": "" if call["scorable"] else Unattributed.PROXY_CAP,
        "method": answer.context["method"],
    }
