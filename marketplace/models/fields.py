"""What columns of several modules share: whose row it is, an amount of nano-OPEN, and the mark of erased words."""

from __future__ import annotations

from django.conf import settings
from django.db import models

USER = settings.AUTH_USER_MODEL
SUPPLY_NANO = 10**18
ERASED = "\u2014"  # stands for words that were erased, where there must be some


def amount(**kwargs) -> models.BigIntegerField:
    """A column of nano-OPEN."""
    return models.BigIntegerField(**kwargs)
