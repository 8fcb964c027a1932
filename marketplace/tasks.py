"""Doorbells of the shop: each takes ids, calls a service, and may ring twice."""

from celery import shared_task

from . import (
    delivering,
    disputes,
    housekeeping,
    mailing,
    noise_cases,
    notifications,
    proposals,
    refunds,
    releasing,
    retiring,
    thefts,
    training,
    watching,
)


@shared_task(acks_late=True, max_retries=5, retry_backoff=True, autoretry_for=(OSError,))
def train(training_run_id: str) -> None:
    training.run(training_run_id)


@shared_task(ignore_result=True)
def ring_waiting_training() -> None:
    training.ring_waiting()


@shared_task
def fail_overdue_training() -> None:
    training.fail_overdue()


@shared_task(ignore_result=True)
def keep_deadlines() -> None:
    disputes.hold_settled_lines()
    disputes.refund_unanswered()
    thefts.hold_new_lots()
    thefts.lapse_overdue()
    noise_cases.hold_new_lots()
    noise_cases.return_new()
    noise_cases.end_overdue()
    refunds.drop_late()
    releasing.release_due()
    retiring.carry_out()


@shared_task(ignore_result=True)
def forget_call_content() -> None:
    housekeeping.forget_call_content()


@shared_task(ignore_result=True)
def judge_noise() -> None:
    noise_cases.judge_due()


@shared_task(ignore_result=True)
def forget() -> None:
    housekeeping.forget_idempotency_keys()
    housekeeping.finish_erasures()
    delivering.forget_old()


@shared_task(ignore_result=True)
def tell_news() -> None:
    notifications.tell_news()
    proposals.tell_waiting()


@shared_task(ignore_result=True)
def tell_of_rules() -> None:
    proposals.tell_waiting()


@shared_task(ignore_result=True)
def watch() -> None:
    watching.tell_limits()
    watching.tell_key_ends()
    watching.tell_balances()
    mailing.send_letters()


@shared_task(ignore_result=True)
def tell_settled() -> None:
    watching.tell_settled()


@shared_task(ignore_result=True)
def deliver_webhooks() -> None:
    delivering.deliver_due()
