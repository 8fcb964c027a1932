"""The rest of the demo, as ordinary Celery work. Found by marketplace.celery, so that no other process imports it."""

import logging

from celery import shared_task

from demo import loader
from marketplace.models import DemoProgress

logger = logging.getLogger(__name__)


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
