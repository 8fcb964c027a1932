"""Doorbells of the shop: each takes ids, calls a service, and may ring twice."""

import logging

from celery import shared_task

from demo import loader

from . import training
from .models import DemoProgress

logger = logging.getLogger(__name__)


@shared_task(acks_late=True, max_retries=5, retry_backoff=True, autoretry_for=(OSError,))
def train(training_run_id: str) -> None:
    training.run(training_run_id)


@shared_task
def fail_overdue_training() -> None:
    training.fail_overdue()


@shared_task(acks_late=True, ignore_result=True)
def load_demo() -> None:
    """Go on with the demo's first unfinished step, and ring again in a second until all are done."""
    waiting = DemoProgress.objects.filter(done_at__isnull=True).order_by("position").first()
    if waiting is None:
        return
    try:
        finished = loader.ring(waiting.step)
    except OSError:
        # A process restarts or is full: the step goes on where it stood.
        logger.warning("the demo's step %r will be tried again", waiting.step, exc_info=True)
        finished = False
    load_demo.apply_async(countdown=0 if finished else 1)
