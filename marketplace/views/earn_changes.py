"""What changed between two periods of somebody's earnings, in parts that add up; the same rows as a file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.requests import SignedInRequest
from attribution.models import Line

from .. import comparing, earnings, periods
from ..errors import Invalid
from ..forms_earn import ChangesForm

PARTS = {
    "calls": gettext_lazy("Number of calls"),
    "price": gettext_lazy("Price of the calls"),
    "rule": gettext_lazy("Split rule"),
    "supported": gettext_lazy("What was paid at all, not left unattributed"),
    "influence": gettext_lazy("Your share of it"),
    "first_used": gettext_lazy("Records used for the first time"),
    "withdrawn": gettext_lazy("Withdrawn records"),
    "leadership": gettext_lazy("Records that began or ceased to lead their copies"),
    "authors": gettext_lazy("Records given to their authors"),
    "passes": gettext_lazy("Passes sold"),
    "trainings": gettext_lazy("Training runs"),
    "refunds": gettext_lazy("Refunds"),
    "disputes": gettext_lazy("Theft disputes"),
}
#: What the numbers of a stage count; those of every other part are nano-OPEN.
UNITS = {"calls": gettext_lazy("calls"), "rule": gettext_lazy("nano × basis points")}


class Shown(NamedTuple):
    """A part in words."""

    label: str
    unit: str
    row: comparing.Row


class Group(NamedTuple):
    """The parts of one model and role, and what they add up to."""

    model: str
    role: str
    parts: list[Shown]
    amount_nano: int


@login_required
def earnings_changes(request: SignedInRequest) -> HttpResponse:
    """Two periods, and why one earned more than the other."""
    form, paths = _form(request)
    found = _compared(request.user, form)
    context: dict[str, Any] = {"form": form, "found": found, "quick": _quick()}
    if found:
        context |= {
            "groups": _groups(found, paths),
            "totals": [(PARTS[part], nano) for part, nano in found.totals.items()],
            "csv_url": f"{reverse('earnings_changes_file')}?{request.GET.urlencode()}",
        }
    return render(request, "marketplace/earn/changes.html", context, status=200 if found else 422)


@login_required
def earnings_changes_file(request: SignedInRequest) -> HttpResponseBase:
    """The rows of the page as CSV."""
    form, paths = _form(request)
    found = _compared(request.user, form)
    if found is None:
        raise Invalid(_("These are not two periods. Choose them on the page."))
    response = StreamingHttpResponse(comparing.as_csv(found, paths), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="earnings-changes.csv"'
    return response


def _form(request: SignedInRequest) -> tuple[ChangesForm, Mapping[UUID, str]]:
    """What the address asks for, by default the last two weeks; and the paths of the person's models."""
    paths, datanets = earnings.that_paid(request.user)
    earlier, later = periods.last_weeks(timezone.now())
    form = ChangesForm(
        {"earlier": earlier, "later": later} | request.GET.dict(),
        models=[(str(pk), name) for pk, name in paths.items()],
        datanets=[(str(pk), name) for pk, name in datanets.items()],
    )
    return form, paths


def _compared(user: User, form: ChangesForm) -> comparing.Comparison | None:
    return comparing.compare(user, form.first, form.second, form.scope) if form.is_valid() else None


def _quick() -> list[tuple[str, str]]:
    """(address, what it compares) of the usual comparisons."""
    now = timezone.now()
    return [
        (f"?earlier={earlier}&later={later}", str(label))
        for label, (earlier, later) in (
            (_("Last two weeks"), periods.last_weeks(now)),
            (_("Last two months"), periods.last_months(now)),
            (_("Yesterday and today"), periods.last_days(now)),
        )
    ]


def _groups(found: comparing.Comparison, paths: Mapping[UUID, str]) -> list[Group]:
    groups = []
    for (model_id, role), rows in groupby(found.rows, key=lambda row: (row.model_id, row.role)):
        parts = [Shown(str(PARTS[row.part]), str(UNITS.get(row.part, "nano")), row) for row in rows]
        name = paths.get(model_id, str(model_id)) if model_id else ""
        groups.append(Group(name, str(Line.Role(role).label), parts, sum(one.row.amount_nano for one in parts)))
    return groups


pages = [
    path("earnings/changes/", earnings_changes, name="earnings_changes"),
    path("earnings/changes.csv", earnings_changes_file, name="earnings_changes_file"),
]
