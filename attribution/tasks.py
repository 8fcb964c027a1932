"""Doorbells of attribution, rung by the ledger's outbox relay with the row's reference."""

from celery import shared_task

from attribution import modelclient, settlement, traces

TRACE_TOPIC = traces.TOPIC
PLAN_TOPIC = settlement.PLAN_TOPIC


@shared_task(name=TRACE_TOPIC, acks_late=True, ignore_result=True)
def trace_charge(reference: str) -> None:
    # A passing failure stays in the outbox, which rings again.
    try:
        traces.trace(reference)
    except (modelclient.ModelsUnavailable, ValueError, KeyError, FileNotFoundError):
        return


@shared_task(name=PLAN_TOPIC, acks_late=True, ignore_result=True)
def plan_epoch(reference: str) -> None:
    settlement.plan(reference)
