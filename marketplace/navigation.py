"""The left rail, the balance chip and the demo line: what surrounds every page."""

from __future__ import annotations

from functools import cache, partial

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import JSONObject
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from datanets import relations
from ledger import chart
from ledger import services as ledger

from .models import DemoProgress

DEMO_STEPS = {
    "more records": gettext_lazy("more records"),
    "more reviews": gettext_lazy("more reviews"),
    "second versions": gettext_lazy("second versions"),
    "second models": gettext_lazy("second models"),
    "calls": gettext_lazy("calls"),
    "settlement": gettext_lazy("the settlement of their epochs"),
    "score cards": gettext_lazy("the score cards of the models"),
}


def for_request(request: HttpRequest) -> dict:
    """Values for the base template. Two queries for a signed-in person, one for a visitor."""
    user = getattr(request, "user", None)
    steps = DemoProgress.objects.order_by("position").values_list("step", "done_at")
    if user is None or not user.is_authenticated:
        return {"demo_progress": _demo_progress([(step, done_at is not None) for step, done_at in steps])}
    curates, unread, steps_of_demo = (
        User.objects.annotate(
            curates=Exists(relations.curating().filter(user=OuterRef("pk"))),
            unread=Count("notifications", filter=Q(notifications__read_at__isnull=True)),
            demo=ArraySubquery(steps.values(told=JSONObject(step="step", done_at="done_at"))),
        )
        .values_list("curates", "unread", "demo")
        .get(pk=user.pk)
    )
    return {
        "demo_progress": _demo_progress([(one["step"], one["done_at"] is not None) for one in steps_of_demo]),
        "unread_notifications": unread,
        # Asked for by the template only: a view that knows it says it.
        "header_balance_nano": cache(partial(ledger.balance_nano, chart.wallet(user.pk))),
        "rail": _rail(request.path, curates=curates, is_staff=user.is_staff),
    }


def _rail(path: str, *, curates: bool, is_staff: bool) -> list[dict]:
    groups = [
        (
            _("Contribute"),
            [
                ("contribute_new", _("New submission"), "upload"),
                ("contribute", _("My submissions"), "files"),
                ("earnings", _("Earnings"), "wallet"),
                ("thefts", _("Theft disputes"), "gavel"),
                ("noise_cases", _("Noise cases"), "triangle-alert"),
            ],
        ),
        (
            _("Curate"),
            [("review", _("Review queue"), "list-checks"), ("review_accuracy", _("Your accuracy"), "target")]
            if curates
            else [],
        ),
        (
            _("Build"),
            [
                ("build_models", _("My models"), "box"),
                ("build_keys", _("API keys"), "key"),
                ("build_usage", _("Usage"), "chart"),
                ("wallet", _("Wallet"), "coins"),
                ("refunds", _("Refunds and disputes"), "undo-2"),
            ],
        ),
        (
            _("Administer"),
            [
                ("admin_revenue", _("Revenue report"), "scale"),
                ("admin_accounts", _("Accounts"), "book-open"),
                ("admin_payouts", _("Payout runs"), "banknote"),
                ("admin_deposits", _("Deposits"), "landmark"),
                ("admin_adjustments", _("Adjustments"), "sliders-horizontal"),
                ("admin_refunds", _("Refunds and disputes"), "gavel"),
                ("admin_exceptions", _("Exceptions"), "triangle-alert"),
                ("admin_audit", _("Audit log"), "scroll"),
            ]
            if is_staff
            else [],
        ),
    ]
    return [
        {
            "label": label,
            "items": [
                {"url": url, "label": text, "icon": icon, "current": path == url} for url, text, icon in _known(items)
            ],
        }
        for label, items in groups
        if items
    ]


def _known(items):
    """Items whose page exists."""
    for name, text, icon in items:
        try:
            yield reverse(name), text, icon
        except NoReverseMatch:
            continue


def _demo_progress(steps: list[tuple[str, bool]]) -> dict | None:
    """Steps done of all, while a demo loads; None once it is complete or where there is none. steps: (name, done)."""
    waiting = [step for step, done in steps if not done]
    if not waiting:
        return None
    return {"done": len(steps) - len(waiting), "total": len(steps), "step": DEMO_STEPS.get(waiting[0], waiting[0])}
