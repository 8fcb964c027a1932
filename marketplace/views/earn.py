"""Earnings: what records earned, and why; a statement whose rows are the page's."""

from __future__ import annotations

from fractions import Fraction
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import path, re_path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.requests import SignedInRequest
from attribution import explain_lines, methods, spans
from attribution.engines.spans import METHOD as VERBATIM
from attribution.models import Epoch, Line
from attribution.reasons import unattributed_sentence
from datanets.models import Record

from .. import charts, holds, querysets, statements, wallets
from .. import earnings as earnings_sums
from ..forms_earn import PaymentFilterForm
from ..models import Call
from ..templatetags import figures

SERIES_MAX = 6
PARTS_SHOWN = 50
STATEMENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
}


@login_required
def earnings(request: SignedInRequest) -> HttpResponse:
    """Available, pending, 30 days, lifetime; a chart by model or Datanet; every payment with its why."""
    user, now = request.user, timezone.now()
    paths, datanets = earnings_sums.that_paid(user)
    form = _filter_form(request, paths, datanets)
    lots = statements.waiting(user)
    found = statements.page(
        user,
        form.filters,
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
        lots=lots,
        paths=paths,
    )
    by = "datanet" if request.GET.get("by") == "datanet" else "model"
    money = wallets.summary(user, lots=lots)
    context = {
        "header_balance_nano": money.available_nano,
        "stats": _stats(user, now, lots, money),
        "held": [(lot, holds.sentence(lot)) for lot in lots if lot.state == "held"],
        "chart": _chart(user, by=by, now=now, lots=lots, paths=paths),
        "by_tabs": [
            {"url": _with(request, by=name), "label": label, "current": by == name}
            for name, label in (("model", _("By model")), ("datanet", _("By Datanet")))
        ],
        "form": form,
        "payments": [(row, _why(row)) for row in found.rows],
        "previous_url": _with(request, before=found.previous, after="") if found.previous else "",
        "next_url": _with(request, after=found.next, before="") if found.next else "",
        "is_filtered": any(form.cleaned_data.values()),
        "is_of_records": bool(form.cleaned_data.get("datanet") or form.cleaned_data.get("record")),
        "statements": [
            {"url": _statement_url(request, fmt), "label": label}
            for fmt, label in (("csv", "CSV"), ("parquet", "Parquet"), ("json", "JSON"))
        ],
    }
    return render(request, "marketplace/earn/earnings.html", context, status=200 if form.is_valid() else 422)


@login_required
def earnings_statement(request: SignedInRequest, fmt: str) -> HttpResponseBase:
    """The payments of the page, with its filters, as a file."""
    rows = statements.every(request.user, _filter_form(request, *earnings_sums.that_paid(request.user)).filters)
    if fmt == "csv":
        response: HttpResponseBase = StreamingHttpResponse(statements.as_csv(rows), content_type=STATEMENT_TYPES[fmt])
    else:
        write = {"parquet": statements.as_parquet, "json": statements.as_json}[fmt]
        response = HttpResponse(write(rows), content_type=STATEMENT_TYPES[fmt])
    response["Content-Disposition"] = f'attachment; filename="earnings-{timezone.now():%Y-%m-%d}.{fmt}"'
    return response


@login_required
def earnings_payment(request: SignedInRequest, epoch_id: UUID, role: str) -> HttpResponse:
    """One payment: its sum, its records, and every call in it."""
    epoch = get_object_or_404(Epoch.objects.exclude(status=Epoch.Status.CLOSED), pk=epoch_id)
    payment = statements.payment(request.user, epoch, role)
    if payment is None:
        raise Http404
    lines = Line.objects.filter(epoch=epoch, payee=request.user, role=role).annotate(refunded=statements.GIVEN_BACK)
    page = querysets.page_by(
        lines, "amount_nano", after=request.GET.get("after", ""), before=request.GET.get("before", ""), limit=50
    )
    costs = dict(Call.objects.filter(pk__in=[line.source_id for line in page.rows]).values_list("pk", "cost_nano"))
    context = {
        "payment": payment,
        "why": _why(payment),
        "lines": [(line, costs.get(line.source_id)) for line in page.rows],
        "previous_url": _with(request, before=page.previous, after="") if page.previous else "",
        "next_url": _with(request, after=page.next, before="") if page.next else "",
    }
    return render(request, "marketplace/earn/payment.html", context)


@login_required
def earnings_why(request: SignedInRequest, line_id: int) -> HttpResponse:
    """One line down to its integers: anybody can redo the sum from what the page shows."""
    price = Subquery(Call.objects.filter(pk=OuterRef("source_id")).values("cost_nano"))
    lines = Line.objects.select_related("epoch").annotate(price_nano=price)
    line = get_object_or_404(lines, pk=line_id, payee=request.user)
    found = explain_lines.sum_of(line)
    if found is None:
        raise Http404
    shown = found.mine[:PARTS_SHOWN]
    rest = found.mine[PARTS_SHOWN:]
    records = Record.objects.filter(pk__in=[part.record_id for part in shown if part.record_id]).select_related(
        "datanet"
    )
    names = {record.pk: record for record in records.defer("signature", "bands")}
    repeats = spans.counts_of(found.charge)
    context = {
        "line": line,
        "sum": found,
        "model": statements.names({line.epoch.model_id}).get(line.epoch.model_id, line.epoch.model_id),
        "parts": [(part, names.get(part.record_id or 0), repeats.get(part.record_id or 0)) for part in shown],
        "rest_count": len(rest),
        "rest_weight": sum(part.weight for part in rest),
        "rest_nano": sum(part.amount_nano for part in rest),
        "method": methods.shown(found.method),
        "left_sentence": unattributed_sentence(found.left_reason),
        "is_call": line.source == "call",
        "is_verbatim": found.charge.method == VERBATIM,
        "is_data": line.role == Line.Role.DATA,
    }
    return render(request, "marketplace/earn/why.html", context)


# --- What the page shows


def _stats(user, now, lots, money: wallets.Summary) -> list[dict]:
    totals = earnings_sums.totals(user, now=now)
    due = min((lot.due_at for lot in lots if lot.state == "pending"), default=None)
    pending_note = (
        _("available from %(day)s, after the challenge window") % {"day": date_format(due, "DATE_FORMAT")}
        if due
        else _("nothing is waiting")
    )
    return [
        {
            "label": _("Available now"),
            "amount_nano": money.available_nano,
            "url": reverse("wallet"),
            "url_label": _("Withdraw"),
        },
        {"label": _("Pending"), "amount_nano": money.pending_nano, "note": pending_note},
        {"label": _("Last 30 days"), "amount_nano": totals.last_30_days_nano, "note": _("pending included")},
        {
            "label": _("Since you joined"),
            "amount_nano": totals.lifetime_nano,
            "note": ngettext("%(n)s charge", "%(n)s charges", totals.charges)
            % {"n": figures.number_text(totals.charges)},
        },
    ]


def _chart(user, *, by: str, now, lots, paths) -> charts.Chart | None:
    days, found = earnings_sums.earned_per_day(user, by=by, now=now, paths=paths)
    if not found:
        return None
    ranked = sorted(found.items(), key=lambda one: (one[0] == "", -sum(one[1]), one[0]))
    shown, others = ranked[: SERIES_MAX - 1], ranked[SERIES_MAX - 1 :]
    series = [
        charts.Series(name or _("Curation and fees"), amounts, f"v{place}")
        for place, (name, amounts) in enumerate(shown, start=1)
    ]
    if others:
        sums = [sum(day) for day in zip(*(amounts for _name, amounts in others), strict=True)]
        series.append(charts.Series(_("Others"), sums, "v0"))
    pending_day = earnings_sums.pending_since(lots)
    best = max(range(len(days)), key=lambda i: sum(one.values[i] for one in series))
    total = int(sum(sum(one.values) for one in series))
    return charts.stacked_bars(
        labels=[figures.day_text(day) for day in days],
        series=series,
        title=_("Earned per day"),
        finding=_("%(total)s OPEN in 30 days; the most on %(day)s.")
        % {"total": figures.open_text(total, 4), "day": date_format(days[best], "j F")},
        text=charts.open_4,
        scale=charts.OPEN,
        pending_from=max((pending_day - days[0]).days, 0) if pending_day else None,
        pending_label=_("Pending"),
        total_label=_("Total"),
    )


def _why(row: statements.Payment) -> dict:
    """The why box of a payment: what buyers paid, the role's part of it, what of that is yours."""
    part = _("The contributors’ part of them") if row.role == Line.Role.DATA else _("The curators’ part of them")
    mine = _("Your influence on these answers") if row.role == Line.Role.DATA else _("Records that you approved")
    return {
        "lines": [
            {
                "text": ngettext("Buyers paid for %(n)s charge", "Buyers paid for %(n)s charges", row.charges)
                % {"n": figures.number_text(row.charges)},
                "amount_nano": row.price_nano,
                "percent": 100,
                "colour": "v5",
            },
            {"text": part, "amount_nano": row.part_nano, "percent": _percent(row.part_nano, row), "colour": "v2"},
            {"text": mine, "amount_nano": row.amount_nano, "percent": _percent(row.amount_nano, row), "colour": "v1"},
        ],
        # Whole nano: the fraction is exact, its decimal form would not be.
        "formula": _("%(price)s nano × %(part)s/%(price)s × %(amount)s/%(part)s = %(amount)s nano")
        % {"price": row.price_nano, "part": row.part_nano, "amount": row.amount_nano},
        "note": _(
            "Influence is how much each answer changes when your records are left out; of a connected model, how much of "
            "its answers stands in them word for word."
        )
        if row.role == Line.Role.DATA
        else _("A curator is paid in proportion to what the records they approved earned, times their accuracy."),
        "records": [
            {
                "share_text": figures.share_text(Fraction(top.amount_nano, row.amount_nano)),
                "text": top.record.title or _("Record %(id)s") % {"id": top.record_id},
                "url": reverse("record", args=[top.record_id]),
                "lang": top.record.datanet.language,
                "amount_nano": top.amount_nano,
                "amount_url": reverse("earnings_record", args=[row.epoch_id, top.record_id]),
            }
            for top in row.top
        ],
        "calls_label": ngettext("See the %(n)s charge", "See the %(n)s charges", row.charges)
        % {"n": figures.number_text(row.charges)},
        "verify_url": reverse("receipt", args=[row.epoch_id]),
    }


def _percent(nano: int, row: statements.Payment) -> float:
    return 100 * nano / row.price_nano if row.price_nano else 0


def _filter_form(request: SignedInRequest, paths: dict[UUID, str], datanets: dict[UUID, str]) -> PaymentFilterForm:
    form = PaymentFilterForm(
        request.GET,
        models=[(str(pk), path) for pk, path in paths.items()],
        datanets=[(str(pk), path) for pk, path in datanets.items()],
    )
    form.is_valid()
    return form


def _with(request: HttpRequest, **changes: str) -> str:
    """This address with other parameters; empty ones are left out."""
    found = request.GET.copy()
    for name, value in changes.items():
        found[name] = value
    for name in [name for name, value in found.items() if not value]:
        del found[name]
    return f"{request.path}?{found.urlencode()}" if found else request.path


def _statement_url(request: HttpRequest, fmt: str) -> str:
    found = {
        name: request.GET[name]
        for name in ("model", "datanet", "record", "state", "since", "until")
        if request.GET.get(name)
    }
    return reverse("earnings_statement", args=[fmt], query=found or None)


pages = [
    path("earnings/", earnings, name="earnings"),
    re_path(r"^earnings/statement\.(?P<fmt>csv|parquet|json)$", earnings_statement, name="earnings_statement"),
    path("earnings/payments/<uuid:epoch_id>/<slug:role>/", earnings_payment, name="earnings_payment"),
    path("earnings/lines/<int:line_id>/", earnings_why, name="earnings_why"),
]
plain: list = []
