"""Payout runs: prepared, recomputed, approved by two admins, exported, and ended item by item.

Each act, and the file with the bank details, wants a fresh proof of who asks, as the API does: an open desk moves nothing.
"""

from __future__ import annotations

from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.db.models import Count, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import SignedInRequest
from ledger import chart
from ledger import services as ledger

from .. import audit, payouts, querysets
from ..errors import Invalid, MarketplaceError, NotAllowed, NotReady
from ..forms_admin import ApproveRunForm
from ..models import AuditEvent, PayoutRun, Withdrawal
from .admin import address, staff_only

ITEMS_SHOWN = 100
TRAIL_SHOWN = 50


@staff_only
@require_safe
def admin_payouts(request: HttpRequest) -> HttpResponse:
    """Requests that wait, and every run."""
    page = _runs(request)
    waiting = Withdrawal.objects.filter(status=Withdrawal.Status.REQUESTED).aggregate(
        count=Count("pk"), total_nano=Sum("amount_nano")
    )
    context = {
        "runs": page.rows,
        "previous_url": address(before=page.previous) if page.previous else "",
        "next_url": address(after=page.next) if page.next else "",
        "waiting_count": waiting["count"],
        "waiting_nano": waiting["total_nano"] or 0,
    }
    return render(request, "marketplace/admin/payouts.html", context)


@staff_only
@reauthentication_required
@require_POST
def admin_payout_create(request: SignedInRequest) -> HttpResponse:
    """Collect every open request into a new run."""
    try:
        run = payouts.create_run(by=request.user)
    except MarketplaceError as error:
        messages.error(request, str(error))
        return redirect("admin_payouts")
    messages.success(request, _("Payout run %(number)s is prepared.") % {"number": run.number})
    return redirect("admin_payout", run.pk)


@staff_only
@require_safe
def admin_payout(request: HttpRequest, id: UUID) -> HttpResponse:
    """One run: its sum, its items, its trail."""
    return _page(request, _run(id))


@staff_only
@reauthentication_required
@require_POST
def admin_payout_act(request: SignedInRequest, id: UUID, act: str) -> HttpResponse:
    """recompute, approve or send a run."""
    acts = {"recompute": _recompute, "approve": _approve, "send": _send}
    if act not in acts:
        raise Http404
    run = _run(id)
    try:
        said = acts[act](request, run)
    except MarketplaceError as error:
        return _page(request, _run(id), error=str(error), status=error.status)
    messages.success(request, said)
    return redirect("admin_payout", run.pk)


@staff_only
@reauthentication_required
@require_safe
def admin_payout_export(request: SignedInRequest, id: UUID) -> HttpResponse:
    """The file for the bank: destinations in clear, so the export is remembered."""
    run = _run(id)
    try:
        content = payouts.export_csv(run)
    except MarketplaceError as error:
        return _page(request, run, error=str(error), status=error.status)
    audit.record(request.user, "export_payout_run", f"payout_run:{run.pk}")
    response = HttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="payout-run-{run.number}.csv"'
    response["Cache-Control"] = "no-store"
    return response


@staff_only
@reauthentication_required
@require_POST
def admin_payout_item(request: SignedInRequest, id: UUID, item: UUID, act: str) -> HttpResponse:
    """confirm or return one item."""
    if act not in ("confirm", "return"):
        raise Http404
    run = _run(id)
    withdrawal = get_object_or_404(Withdrawal, pk=item, run=run)
    try:
        if act == "confirm":
            payouts.confirm_item(withdrawal, by=request.user)
            messages.success(request, _("Item confirmed."))
        else:
            payouts.return_item(withdrawal, by=request.user, reason=request.POST.get("reason", "")[:200])
            messages.success(request, _("Item returned: the amount is in the wallet again."))
    except MarketplaceError as error:
        return _page(request, _run(id), error=str(error), status=error.status)
    return redirect("admin_payout", run.pk)


# --- Acts


def _recompute(request: SignedInRequest, run: PayoutRun) -> str:
    """Derive everything again; the trail remembers the result."""
    found = payouts.recompute(run, by=request.user)
    if found.rows_that_differ or found.run_difference_nano:
        raise NotReady(
            ngettext(
                "Recomputed: %(n)s row of the revenue report differs.",
                "Recomputed: %(n)s rows of the revenue report differ.",
                found.rows_that_differ,
            )
            % {"n": found.rows_that_differ}
        )
    return _("Recomputed from the journal and from the lines: the difference is 0.000000000.")


def _approve(request: SignedInRequest, run: PayoutRun) -> str:
    form = ApproveRunForm(request.POST, word=word_of(run))
    if not form.is_valid():
        raise Invalid(" ".join(str(error) for error in form.errors["confirmation"]))
    if run.status != PayoutRun.Status.DRAFT:
        raise NotReady(_("This run is approved already."))
    if run.first_approver_id == request.user.pk:
        raise NotAllowed(_("You gave the first approval. Another admin must give the second."))
    run = payouts.approve_run(run, by=request.user)
    if run.status == PayoutRun.Status.APPROVED:
        return _("Second approval given: the run can be exported and sent.")
    return _("First approval given. Another admin must give the second.")


def _send(request: SignedInRequest, run: PayoutRun) -> str:
    payouts.mark_sent(run, by=request.user)
    return _("Marked as sent. Each item is in the public log.")


# --- What the page shows


def word_of(run: PayoutRun) -> str:
    """What an admin types to approve a run."""
    return f"run-{run.number}"


def _run(id: UUID) -> PayoutRun:
    people = ("created_by", "first_approver", "second_approver")
    return get_object_or_404(PayoutRun.objects.select_related(*people), pk=id)


def _runs(request: HttpRequest) -> querysets.Page:
    found = PayoutRun.objects.select_related("created_by", "first_approver", "second_approver")
    found = found.annotate(items=Count("withdrawals"), total_nano=Sum("withdrawals__amount_nano"))
    return querysets.page_by(found, "number", after=request.GET.get("after", ""), before=request.GET.get("before", ""))


def _equation(run: PayoutRun) -> list[dict]:
    """before - items = after: the wallets by the books, the items by their rows."""
    payees = list(run.withdrawals.values_list("user_id", flat=True).distinct())
    wallets = ledger.balances([chart.wallet(user_id) for user_id in payees])
    after_nano = sum(one.available_nano for one in wallets.values())
    returned = ledger.movements(accounts=[chart.withdrawals(run.pk)], kinds=[ledger.Kind.WITHDRAWAL_RETURNED])
    returned_nano = sum(leg.debited_nano for leg in returned)
    before_nano = after_nano + payouts.taken_nano(run) - returned_nano
    items = run.withdrawals.exclude(status=Withdrawal.Status.RETURNED).aggregate(total=Sum("amount_nano"))["total"] or 0
    return [
        {"label": _("Available before"), "amount_nano": before_nano, "note": _("the payees’ wallets, by the books")},
        {"label": _("Sum of items"), "amount_nano": items, "op": "−", "note": _("without returned ones")},
        {"label": _("Available after"), "amount_nano": after_nano, "op": "=", "note": _("now, by the books")},
        {
            "label": _("Difference"),
            "amount_nano": before_nano - items - after_nano,
            "op": "Δ",
            "note": _("must be zero"),
        },
    ]


def _page(request: HttpRequest, run: PayoutRun, *, error: str = "", status: int = 200) -> HttpResponse:
    items = querysets.page_by(
        run.withdrawals.select_related("user"),
        "amount_nano",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
        limit=ITEMS_SHOWN,
    )
    terms, item_count = _equation(run), run.withdrawals.count()
    context = {
        "run": run,
        "error": error,
        "terms": terms,
        "difference_nano": terms[-1]["amount_nano"],
        "total_nano": payouts.total_nano(run),
        "item_count": item_count,
        "items": items.rows,
        "previous_url": address(before=items.previous) if items.previous else "",
        "next_url": address(after=items.next) if items.next else "",
        "word": word_of(run),
        "is_first_approver": run.first_approver_id == request.user.pk,
        "trail": _trail(run),
        "facts": [
            (_("Leaves the wallets"), _("%(n)s items") % {"n": item_count}),
            (_("Can be undone"), _("No")),
        ],
        "approve_url": reverse("admin_payout_act", args=[run.pk, "approve"]),
    }
    return render(request, "marketplace/admin/payout.html", context, status=status)


def _trail(run: PayoutRun) -> list[dict]:
    """Who did what to the run, oldest first, and the step that comes next."""
    words = {
        "create_payout_run": _("Prepared by %(who)s"),
        "recompute_payout_run": _("Recomputed by %(who)s"),
        "approve_payout_run": _("Approved by %(who)s"),
        "export_payout_run": _("Exported by %(who)s"),
        "send_payout_run": _("Marked as sent by %(who)s"),
    }
    events = AuditEvent.objects.filter(target=f"payout_run:{run.pk}").select_related("actor").order_by("at", "pk")
    done = [
        {
            "text": words.get(event.act, event.act) % {"who": event.actor.username if event.actor else "—"}
            + (f" ({event.detail['run_difference']})" if "run_difference" in event.detail else ""),
            "at": event.at,
            "state": "bad" if event.detail.get("rows_that_differ") else "done",
        }
        for event in events[:TRAIL_SHOWN]
    ]
    next_step = {
        PayoutRun.Status.DRAFT: _("Second approval") if run.first_approver_id else _("First approval"),
        PayoutRun.Status.APPROVED: _("Export and send"),
        PayoutRun.Status.SENT: _("Confirm or return each item"),
    }.get(PayoutRun.Status(run.status))
    return done + ([{"text": next_step, "state": "now"}] if next_step else [])


pages = [
    path("admin-desk/payouts/", admin_payouts, name="admin_payouts"),
    path("admin-desk/payouts/new/", admin_payout_create, name="admin_payout_create"),
    path("admin-desk/payouts/<uuid:id>/", admin_payout, name="admin_payout"),
    path("admin-desk/payouts/<uuid:id>/export.csv", admin_payout_export, name="admin_payout_export"),
    path("admin-desk/payouts/<uuid:id>/<slug:act>/", admin_payout_act, name="admin_payout_act"),
    path("admin-desk/payouts/<uuid:id>/items/<uuid:item>/<slug:act>/", admin_payout_item, name="admin_payout_item"),
]
plain: list = []
