"""The admin desk: does everything add up, what went wrong, who did what. For `is_staff` only, nothing to see else."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Func, IntegerField, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.models import User
from accounts.requests import SignedInRequest
from ledger import sequencer
from ledger import services as ledger

from .. import audit, disputes, pricing, querysets, revenue, statements
from ..forms_admin import PeriodForm
from ..models import Adjustment, AuditEvent, Deposit, Refund, TrainingRun, Withdrawal
from .explanations import training_failure

ROWS_SHOWN = 200
AUDIT_ROWS = 50
FAILED_SHOWN = 20


def staff_only(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """404 for everybody but admins: the desk does not say that it is there."""

    @wraps(view)
    def _view(request: HttpRequest, *args, **kwargs) -> HttpResponseBase:
        if not (request.user.is_authenticated and request.user.is_staff):
            raise Http404
        return view(request, *args, **kwargs)

    return _view


@staff_only
@require_safe
def admin_revenue(request: HttpRequest) -> HttpResponse:
    """What buyers paid and where it is, derived twice; the difference per role and payee must be zero."""
    form = PeriodForm(request.GET if {"since", "until"} & set(request.GET) else None)
    report = revenue.report(form.period)
    if request.GET.get("format") == "csv":
        return _revenue_csv(report)
    rows = sorted(report.rows, key=lambda row: (-abs(row.difference_nano), row.role, -row.business_nano, row.payee))
    context = {
        "form": form,
        "is_period": form.period != revenue.Period(),
        "terms": equation(report),
        "difference_nano": difference_nano(report),
        "rows": [(row, role_label(row.role)) for row in rows[:ROWS_SHOWN]],
        "row_count": len(rows),
        "shown_count": min(len(rows), ROWS_SHOWN),
        "parts": _parts(report),
    }
    return render(request, "marketplace/admin/revenue.html", context)


@staff_only
def admin_exceptions(request: SignedInRequest) -> HttpResponse:
    """What is late or failed; on demand, every invariant of every app."""
    lag = sequencer.lag()
    failures, checked = [], False
    failed = TrainingRun.objects.filter(status=TrainingRun.Status.FAILED).order_by("-created_at")
    trainings = failed.select_related("model__owner", "requested_by")[:FAILED_SHOWN]
    if request.method == "POST":
        checked, failures = True, verify_everything()
        audit.record(request.user, "verify", "site", failures=len(failures))
    context = {
        "lag": [
            {
                "label": label,
                "rows": lag.get(f"{name}_rows"),
                "seconds": lag[f"{name}_s"],
                "is_late": lag[f"{name}_s"] > sequencer.LATE_S[f"{name}_s"],
            }
            for name, label in (
                ("fold", _("Credits (fold)")),
                ("log", _("Public log")),
                ("unwitnessed", _("Witnesses")),
                ("outbox", _("Outbox")),
            )
        ],
        "outbox": sorted(ledger.pending_outbox(), key=lambda row: row.created_at)[:FAILED_SHOWN],
        "trainings": [(run, training_failure(run.error_code, run.error_params)) for run in trainings],
        **_waiting(request.user),
        "differences": [(row, role_label(row.role)) for row in revenue.differences()],
        "is_checked": checked,
        "failures": failures,
        "modules": settings.VERIFY_MODULES,
    }
    return render(request, "marketplace/admin/exceptions.html", context)


@staff_only
@require_safe
def admin_audit(request: HttpRequest) -> HttpResponse:
    """Every privileged act, newest first."""
    found = AuditEvent.objects.select_related("actor")
    act = request.GET.get("act", "").strip()
    if act:
        found = found.filter(act=act)
    page = querysets.page_by(
        found, "at", after=request.GET.get("after", ""), before=request.GET.get("before", ""), limit=AUDIT_ROWS
    )
    chosen = {"act": act} if act else {}
    context = {
        "events": [(event, ", ".join(f"{k}: {v}" for k, v in event.detail.items())) for event in page.rows],
        "act": act,
        "acts": [
            ("", _("All acts")),
            *((one, one) for one in AuditEvent.objects.order_by("act").values_list("act", flat=True).distinct()),
        ],
        "previous_url": address(before=page.previous, **chosen) if page.previous else "",
        "next_url": address(after=page.next, **chosen) if page.next else "",
    }
    return render(request, "marketplace/admin/audit.html", context)


# --- What the pages show


def _waiting(admin: User) -> dict[str, int]:
    """How many of each kind wait for a decision, in one query."""
    wanted: dict[str, QuerySet] = {
        "deposits_waiting": Deposit.objects.filter(status=Deposit.Status.WAITING),
        "adjustments_waiting": Adjustment.objects.filter(status=Adjustment.Status.WAITING),
        "withdrawals_waiting": Withdrawal.objects.filter(status=Withdrawal.Status.REQUESTED),
        "disputes_waiting": disputes.to_decide(),
        "refunds_waiting": Refund.objects.filter(status=Refund.Status.WAITING),
    }
    numbers = {
        name: Func(ArraySubquery(found.order_by().values("pk")), function="cardinality", output_field=IntegerField())
        for name, found in wanted.items()
    }
    found = User.objects.filter(pk=admin.pk).values_list(*numbers.values()).get()
    return dict(zip(numbers, found, strict=True))


def equation(report: revenue.Report) -> list[dict]:
    """in pools before + charged - refunded = platform + developers + contributors + curators + unattributed + in pools."""
    charged = [
        {"label": _("Charged"), "amount_nano": report.charged_nano, "note": _("by the books")},
        {"label": _("Refunded"), "amount_nano": report.refunded_nano, "op": "−", "note": _("by the books")},
    ]
    if report.opening_nano:
        charged[0]["op"] = "+"
        charged.insert(0, {"label": _("In pools before"), "amount_nano": report.opening_nano})
    parts = [
        {"label": label, "amount_nano": amount_nano, "op": "=" if place == 0 else "+"}
        for place, (label, amount_nano) in enumerate(_sides(report))
    ]
    last = {"label": _("Difference"), "amount_nano": difference_nano(report), "op": "Δ", "note": _("must be zero")}
    return [*charged, *parts, last]


def difference_nano(report: revenue.Report) -> int:
    """The parts less what was charged; where errors of several rows cancel out, the largest of them."""
    total = sum(nano for _label, nano in _sides(report)) - report.expected_nano
    return total or report.difference_nano


def _sides(report: revenue.Report) -> list[tuple[str, int]]:
    """The right side: people by the shop's rows and attribution's lines, the pools by the books."""
    in_pools = sum(row.books_nano for row in report.rows if row.role == "pool")
    return [
        *(
            (role_label(role, many=True), report.total_nano(role))
            for role in ("platform", "developer", "contributor", "curator", "unattributed")
        ),
        (role_label("pool", many=True), in_pools),
    ]


def _parts(report: revenue.Report) -> dict:
    """The split as one bar: role colours are fixed."""
    whole = report.expected_nano
    colours = {"developer": "5", "contributor": "2", "curator": "1", "platform": "0", "unattributed": "3", "pool": "4"}
    if whole <= 0:
        return {}
    shares = {role: 100 * report.total_nano(role) / whole for role in colours}
    return {
        "bar": ",".join(f"{share:.3f}:{colours[role]}" for role, share in shares.items() if share > 0),
        "items": [
            {
                "label": role_label(role, many=True),
                "colour": f"v{colours[role]}",
                "amount_nano": report.total_nano(role),
            }
            for role in colours
        ],
    }


def role_label(role: str, *, many: bool = False) -> str:
    """The words for a role of the revenue report."""
    one = {
        "platform": _("Platform"),
        "developer": _("Model developer"),
        "contributor": _("Data contributor"),
        "curator": _("Curator"),
        "unattributed": _("Unattributed"),
        "pool": _("Still in pools"),
        "total": _("All together"),
    }
    several = {
        "developer": _("Developers"),
        "contributor": _("Contributors"),
        "curator": _("Curators"),
    }
    return (several.get(role) if many else None) or one.get(role, role)


def verify_everything() -> list:
    """The failures of every verify module: one row per broken invariant, as `manage.py verify` names them."""
    found = []
    for name in settings.VERIFY_MODULES:
        if find_spec(name) is not None:
            found += list(import_module(name).failures())
    return found


def address(**parameters: str) -> str:
    """A query string for this page."""
    found = QueryDict(mutable=True)
    found.update({name: value for name, value in parameters.items() if value})
    return f"?{found.urlencode()}"


def _revenue_csv(report: revenue.Report) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="revenue.csv"'
    writer = csv.writer(response)
    writer.writerow(["role", "payee", "books", "business", "difference", "unit"])
    for row in report.rows:
        amounts = (row.books_nano, row.business_nano, row.difference_nano)
        writer.writerow([row.role, statements.neutral(row.payee), *map(pricing.nano_to_open, amounts), "OPEN"])
    return response


pages = [
    path("admin-desk/revenue/", admin_revenue, name="admin_revenue"),
    path("admin-desk/exceptions/", admin_exceptions, name="admin_exceptions"),
    path("admin-desk/audit/", admin_audit, name="admin_audit"),
]
plain: list = []
