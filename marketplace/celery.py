"""The Celery application. It does heavy work only; money and its due times belong to the sequencer."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

app = Celery("marketplace")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["demo"])  # imported by workers only


@app.task(name="marketplace.ping")
def ping() -> str:
    """Answer at once: the canary that tells a living worker from an idle one."""
    return "pong"
