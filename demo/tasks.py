"""The rest of the demo, as ordinary Celery work. Found by marketplace.celery, so that no other process imports it."""

import logging

from celery import shared_task
from django.db import connection

from demo import loader, progress

logger = logging.getLogger(__name__)

AGAIN_S = 5


@shared_task(acks_late=True, ignore_result=True)
def load_demo() -> None:
    """Go on with the demo's first unfinished step, and ring again until all are done.

    Every start rings, and the queue outlives them: of two chains that meet, one ends here.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended('demo', 0))")
        if not cursor.fetchone()[0]:
            return
        try:
            again_s = _go_on()
        finally:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended('demo', 0))")
    if again_s is not None:
        load_demo.apply_async(countdown=again_s)


def _go_on() -> int | None:
    """Seconds until the next ring; None: all is done."""
    step = progress.next_of(loader.REST)
    if step is None:
        return None
    try:
        return 0 if loader.ring(step) else 1
    except Exception:
        # A process restarts, or somebody changed what the step needs. A chain that ends here would end in silence.
        logger.exception("the demo's step %r will be tried again", step)
        return AGAIN_S
