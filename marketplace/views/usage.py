"""What my wallet or a shared one paid: by key, model and day, and each call with how it ended."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.requests import SignedInRequest

from .. import charts, pricing, querysets, samples, sharing, usagequeries
from ..models import ApiKey, Call, Role, WalletMember
from ..templatetags import figures
from . import explore

SERIES_MAX = 5
DAYS_MAX = 366


@login_required
def build_usage(request: SignedInRequest) -> HttpResponse:
    """Sums, a chart and the calls of some days."""
    chosen = _chosen(request)
    found = chosen.calls(request.user)
    page = querysets.page_by(
        found.select_related("model__owner", "version", "key__made_by", "refund"),
        "finished_at",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    total = usagequeries.total(found)
    days, per_model = usagequeries.per_day(found, since=chosen.since, until=chosen.until)
    context = {
        "page": page,
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
        "total": total,
        "stats": _stats(total),
        "chart": _chart(days, per_model, total["cost_nano"]) if per_model else None,
        "by_key": usagequeries.by_key(found),
        "by_model": usagequeries.by_model(found),
        "since": chosen.since,
        "until": chosen.until,
        "member": chosen.member,
        "wallet": str(chosen.member.wallet_id) if chosen.member else "",
        "wallets": [("", _("My own wallet")), *_shared(request)],
        "key": str(chosen.key or ""),
        "model": str(chosen.model or ""),
        "keys": [("", _("All keys")), *_keys_of(request, chosen.member)],
        "models": [("", _("All models")), *_models_called(request, chosen.member)],
        "query": request.GET.urlencode(),
        "here": request.get_full_path(),
    }
    return render(request, "marketplace/build/usage.html", context)


@login_required
def build_usage_export(request: SignedInRequest) -> StreamingHttpResponse:
    """The same calls as CSV, oldest first."""
    chosen = _chosen(request)
    writer = csv.writer(Echo())
    rows = usagequeries.export_rows(chosen.calls(request.user), site_url=settings.SITE_URL, exact=pricing.nano_to_open)

    def lines():
        yield writer.writerow(usagequeries.EXPORT_COLUMNS)
        for row in rows:
            yield writer.writerow(row)

    name = f"usage-{chosen.since}-{chosen.until}.csv"
    return StreamingHttpResponse(
        lines(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@login_required
@require_POST
def build_usage_show(request: SignedInRequest, call_id: UUID) -> HttpResponse:
    """Show one of my calls on the home page, or stop."""
    call = get_object_or_404(Call, pk=call_id, buyer=request.user)
    shown = request.POST.get("shown") == "1"
    samples.show(call, by=request.user, shown=shown)
    messages.success(request, _("The call is shown on the home page.") if shown else _("The call is no longer shown."))
    back = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        return redirect(back)
    return redirect("build_usage")


class Echo:
    """A file that hands each line back instead of keeping it."""

    def write(self, line: str) -> str:
        return line


class _Chosen(NamedTuple):
    """Whose calls a page or a file is about. member: in the shared wallet that paid them; None: my own paid."""

    member: WalletMember | None
    since: date
    until: date
    key: UUID | None
    model: UUID | None

    def calls(self, person: User) -> QuerySet[Call]:
        """These calls, as far as somebody may see them."""
        found = usagequeries.paid_by(_account(person, self.member), seen_by=person)
        return usagequeries.in_days(found, since=self.since, until=self.until, key=self.key, model=self.model)


def _account(person: User, member: WalletMember | None) -> User:
    return member.wallet.account if member else person


def _chosen(request: SignedInRequest) -> _Chosen:
    """What the address says; what cannot be read counts as not given. A wallet that I am not in does not exist for me."""
    today = datetime.now(UTC).date()
    until = min(_day(request.GET.get("until"), today), today)
    since = _day(request.GET.get("since"), until - timedelta(days=29))
    since = max(min(since, until), until - timedelta(days=DAYS_MAX - 1))
    wallet_id = _id(request.GET.get("wallet"))
    member = get_object_or_404(sharing.of(request.user), wallet=wallet_id) if wallet_id else None
    return _Chosen(member, since, until, _id(request.GET.get("key")), _id(request.GET.get("model")))


def _day(text: str | None, default: date) -> date:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return default


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None


def _shared(request: SignedInRequest) -> list[tuple[str, str]]:
    return [(str(one.wallet_id), one.wallet.name) for one in sharing.of(request.user)]


def _keys_of(request: SignedInRequest, member: WalletMember | None) -> list[tuple[str, str]]:
    found = ApiKey.objects.filter(owner=_account(request.user, member)).order_by("name")
    if member and member.role == Role.SPENDER:
        found = found.filter(made_by=request.user)
    return [(str(pk), name) for pk, name in found.values_list("pk", "name")]


def _models_called(request: SignedInRequest, member: WalletMember | None) -> list[tuple[str, str]]:
    found = usagequeries.paid_by(_account(request.user, member), seen_by=request.user).order_by("model__slug")
    rows = found.values_list("model_id", "model__owner__username", "model__slug").distinct()
    return [(str(pk), f"{owner}/{slug}") for pk, owner, slug in rows]


def _stats(total: dict[str, int]) -> list[dict]:
    ended_otherwise = _("%(failed)s failed, %(left)s left, %(abstained)s abstained, %(refused)s refused") % total
    free = ngettext(
        "and %(n)s free call, for which its developer paid %(amount)s OPEN",
        "and %(n)s free calls, for which developers paid %(amount)s OPEN",
        total["free_calls"],
    ) % {"n": figures.number_text(total["free_calls"]), "amount": figures.open_text(total["free_nano"], 4)}
    tokens = _("%(in)s in, %(out)s out") % {
        "in": figures.number_text(total["prompt_tokens"]),
        "out": figures.number_text(total["answer_tokens"]),
    }
    return [
        {
            "label": _("Cost"),
            "amount_nano": total["cost_nano"],
            "places": 4,
            "note": free if total["free_calls"] else "",
        },
        {"label": _("Calls"), "value": figures.number_text(total["calls"]), "note": ended_otherwise},
        {
            "label": _("Tokens"),
            "value": figures.number_text(total["prompt_tokens"] + total["answer_tokens"]),
            "note": tokens,
        },
    ]


def _chart(days: list[date], per_model: dict[str, list[int]], cost_nano: int) -> charts.Chart:
    first = list(per_model.items())[:SERIES_MAX]
    series = [charts.Series(name, values, f"v{place}") for place, (name, values) in enumerate(first, start=1)]
    if rest := list(per_model.values())[SERIES_MAX:]:
        series.append(charts.Series(_("Others"), [sum(values) for values in zip(*rest, strict=True)], "v0"))
    return charts.stacked_bars(
        labels=[figures.day_text(day) for day in days],
        series=series,
        title=_("Cost per day and model"),
        finding=_("%(amount)s OPEN in %(days)s days") % {"amount": figures.open_text(cost_nano, 4), "days": len(days)},
        text=charts.open_4,
        scale=charts.OPEN,
        total_label=_("Total"),
    )


pages = [
    path("build/usage/", build_usage, name="build_usage"),
    path("build/usage/export.csv", build_usage_export, name="build_usage_export"),
    path("build/usage/<uuid:call_id>/show/", build_usage_show, name="build_usage_show"),
]
plain: list = []
