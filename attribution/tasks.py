"""Doorbells of attribution, rung by the ledger's outbox with the references of some rows. Their names are the topics."""

from contextlib import suppress

from celery import shared_task

from attribution import cards, settlement, sharding, traces
from ledger import services as ledger


@shared_task(acks_late=True, ignore_result=True)
def trace_charge(references: list[str]) -> None:
    ledger.consume(traces.TOPIC, references, _trace, share_after_s=traces.SHARE_AFTER_S)


@shared_task(acks_late=True, ignore_result=True)
def plan_epoch(references: list[str]) -> None:
    ledger.consume(settlement.PLAN_TOPIC, references, settlement.plan, share_after_s=0)


@shared_task(acks_late=True, ignore_result=True)
def settle_shard(references: list[str]) -> None:
    ledger.consume(sharding.TOPIC, references, sharding.compute, share_after_s=0)


def _trace(reference: str) -> None:
    with suppress(*traces.PASSING):  # its row says so, and is rung again
        traces.trace(reference)


@shared_task(acks_late=True, ignore_result=True)
def measure_score_card(card_id: int) -> None:
    cards.advance(card_id)


@shared_task(acks_late=True, ignore_result=True)
def measure_score_card_part(part_id: int) -> None:
    cards.measure(part_id)


@shared_task(ignore_result=True)
def ring_due_score_cards() -> None:
    cards.ring_due()
