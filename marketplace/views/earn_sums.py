"""What one record earned in one epoch, as the sum over its calls: every factor as the whole number that was used."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import Sum
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import path

from accounts.requests import SignedInRequest
from attribution import explain_sums
from attribution.models import Epoch, RecordEpoch, paid_to
from datanets.models import Record

from .. import statements

CALLS_SHOWN = 100
COLUMNS = explain_sums.Share._fields


@login_required
def earnings_record(request: SignedInRequest, epoch_id: UUID, record_id: int) -> HttpResponse:
    """The calls that paid a record of mine in an epoch, the largest first, and what they add up to."""
    epoch, amount_nano = _mine(request, epoch_id, record_id)
    shares = sorted(explain_sums.sum_of(record_id, epoch), key=lambda share: -share.amount_nano)
    shown, rest = shares[:CALLS_SHOWN], shares[CALLS_SHOWN:]
    computed_nano = sum(share.amount_nano for share in shares)
    context = {
        "epoch": epoch,
        "model": statements.names({epoch.model_id}).get(epoch.model_id, epoch.model_id),
        "record": get_object_or_404(Record.objects.select_related("datanet").defer("signature", "bands"), pk=record_id),
        "shares": shown,
        "rest_count": len(rest),
        "rest_nano": sum(share.amount_nano for share in rest),
        "erased_nano": amount_nano - computed_nano,
        "amount_nano": amount_nano,
    }
    return render(request, "marketplace/earn/record_sum.html", context)


@login_required
def earnings_record_file(request: SignedInRequest, epoch_id: UUID, record_id: int) -> HttpResponseBase:
    """All of its calls as CSV, in the order of the log."""
    epoch, _amount_nano = _mine(request, epoch_id, record_id)
    response = StreamingHttpResponse(_csv(record_id, epoch), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="record-{record_id}-epoch-{epoch.number}.csv"'
    return response


def _csv(record_id: int, epoch: Epoch) -> Iterator[str]:
    yield statements.csv_line(COLUMNS)
    for share in explain_sums.sum_of(record_id, epoch):
        yield statements.csv_line(share)


def _mine(request: SignedInRequest, epoch_id: UUID, record_id: int) -> tuple[Epoch, int]:
    """The epoch, and what it paid this person for the record; 404 where it had no call that used it, or paid another."""
    epoch = get_object_or_404(Epoch.objects.exclude(status=Epoch.Status.CLOSED), pk=epoch_id)
    mine = RecordEpoch.objects.filter(paid_to(request.user.pk), epoch=epoch, record=record_id)
    total = mine.aggregate(total=Sum("amount_nano"))["total"]
    if total is None:
        raise Http404
    return epoch, total


pages = [
    path("earnings/payments/<uuid:epoch_id>/records/<int:record_id>/", earnings_record, name="earnings_record"),
    path(
        "earnings/payments/<uuid:epoch_id>/records/<int:record_id>/calls.csv",
        earnings_record_file,
        name="earnings_record_file",
    ),
]
