"""Periods of time as people write them: a month, a day, days, or numbers of a model's epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.utils.translation import gettext as _

from attribution.models import Epoch

from .errors import Invalid

CHARS_MAX = 30
_MONTH = re.compile(r"^(\d{4})-(\d\d)$", re.ASCII)
_DAYS = re.compile(r"^(\d{4}-\d\d-\d\d)(?:/(\d{4}-\d\d-\d\d))?$", re.ASCII)
_EPOCHS = re.compile(r"^([1-9]\d{0,8})(?:/([1-9]\d{0,8}))?$", re.ASCII)


@dataclass(frozen=True)
class Period:
    """From `since` up to, not including, `until`. `text`: as it was written."""

    text: str
    since: datetime
    until: datetime


def period(text: str, *, model_id: UUID | None = None) -> Period:
    """Read a period: a month (2026-11), a day, days with a slash between, or numbers of a model's epochs (12, 12/14).

    Days are UTC, and both ends are included.

    Raises:
        Invalid: it is none of these, the days are in the wrong order, or the epochs are of no model or not closed.
    """
    text = text.strip()
    try:
        if found := _MONTH.match(text):
            first = date(int(found[1]), int(found[2]), 1)
            return _days(text, first, (first + timedelta(days=31)).replace(day=1))
        if found := _DAYS.match(text):
            first, last = date.fromisoformat(found[1]), date.fromisoformat(found[2] or found[1])
            return _days(text, first, last + timedelta(days=1))
        if found := _EPOCHS.match(text):
            return _epochs(text, int(found[1]), int(found[2] or found[1]), model_id)
    except (ValueError, OverflowError):
        pass
    raise Invalid(
        _(
            "A period is a month (2026-11), a day (2026-11-03), days (2026-11-03/2026-11-09) or numbers of epochs (12/14)."
        )
    )


def _days(text: str, first: date, end: date) -> Period:
    if first >= end:
        raise Invalid(_("The first day comes after the last one."))
    return Period(
        text, datetime.combine(first, datetime.min.time(), UTC), datetime.combine(end, datetime.min.time(), UTC)
    )


def _epochs(text: str, first: int, last: int, model_id: UUID | None) -> Period:
    if model_id is None:
        raise Invalid(_("Numbers of epochs need a model: each model has its own."))
    ends = dict(Epoch.objects.filter(model_id=model_id, number__in=(first, last)).values_list("number", "closed_at"))
    if first > last or not {first, last} <= ends.keys():
        raise Invalid(_("This model has no such epochs."))
    return Period(text, ends[first], ends[last] + timedelta(microseconds=1))


def last_weeks(now: datetime) -> tuple[str, str]:
    """The seven days up to today, and the seven before, as `period` reads them; the earlier first."""
    today = now.astimezone(UTC).date()
    ends = [today - timedelta(days=days) for days in (13, 7, 6, 0)]
    return f"{ends[0]}/{ends[1]}", f"{ends[2]}/{ends[3]}"


def last_months(now: datetime) -> tuple[str, str]:
    """This month, and the one before."""
    first = now.astimezone(UTC).date().replace(day=1)
    return f"{first - timedelta(days=1):%Y-%m}", f"{first:%Y-%m}"


def last_days(now: datetime) -> tuple[str, str]:
    """Today, and yesterday."""
    today = now.astimezone(UTC).date()
    return str(today - timedelta(days=1)), str(today)
