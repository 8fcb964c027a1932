"""Doorbells of attribution, rung by the ledger's outbox relay with the row's reference. Their names are the topics."""

from celery import shared_task

from attribution import cards, modelclient, settlement, sharding, traces


@shared_task(acks_late=True, ignore_result=True)
def trace_charge(reference: str) -> None:
    # A passing failure stays in the outbox, which rings again.
    try:
        traces.trace(reference)
    except (modelclient.ModelsUnavailable, ValueError, KeyError, FileNotFoundError):
        return


@shared_task(acks_late=True, ignore_result=True)
def plan_epoch(reference: str) -> None:
    settlement.plan(reference)


@shared_task(acks_late=True, ignore_result=True)
def settle_shard(reference: str) -> None:
    sharding.compute(reference)


@shared_task(acks_late=True, ignore_result=True)
def measure_score_card(card_id: int) -> None:
    cards.advance(card_id)


@shared_task(acks_late=True, ignore_result=True)
def measure_score_card_part(part_id: int) -> None:
    cards.measure(part_id)


@shared_task(ignore_result=True)
def ring_due_score_cards() -> None:
    cards.ring_due()
