"""Doorbells of the data side. Each may be lost, or rung twice."""

from __future__ import annotations

import secrets

from celery import shared_task
from django.db import OperationalError

from . import checking, gold, sweeping, uploads


@shared_task(acks_late=True, max_retries=5, retry_backoff=True, autoretry_for=(OSError, OperationalError))
def check_file(file_id: str) -> None:
    checking.check_file(file_id)


@shared_task
def recheck_waiting_files() -> None:
    checking.recheck_waiting_files()


@shared_task
def expire_uploads() -> None:
    uploads.expire_uploads()


@shared_task(ignore_result=True)
def sweep_storage() -> None:
    sweeping.sweep()


@shared_task(ignore_result=True)
def ring_gold() -> None:
    # The clock of a bell would be written into what it plants, for who compares many of them.
    plant_gold.apply_async(countdown=secrets.randbelow(60_000) / 1000)


@shared_task(ignore_result=True)
def plant_gold() -> None:
    gold.reveal_final()
    gold.plant_due()
