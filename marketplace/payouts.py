"""Payout runs: a batch of withdrawals, two admins, a file, and an end for each item.

Money moves wallet -> withdrawals:<run> when a request joins a run, withdrawals:<run> -> world when it is confirmed,
and back to the wallet when it is returned.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Max, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, listings, notifications, pricing, revenue
from .errors import Invalid, NotAllowed, NotReady
from .models import PayoutRun, Withdrawal


@transaction.atomic
def create_run(*, by: User) -> PayoutRun:
    """Collect every open request into a new run.

    Raises:
        NotReady: nobody asked for money.
    """
    _check_admin(by)
    waiting = list(
        Withdrawal.objects.select_for_update().filter(status=Withdrawal.Status.REQUESTED).order_by("created_at", "pk")
    )
    if not waiting:
        raise NotReady(_("Nobody has asked for a withdrawal. There is nothing to pay out."))
    number = (PayoutRun.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    run = PayoutRun.objects.create(number=number, created_by=by)
    for withdrawal in waiting:
        withdrawal.run = run
        withdrawal.status = Withdrawal.Status.IN_RUN
        withdrawal.save(update_fields=["run", "status"])
        ledger.draw(
            [
                ledger.Draw(
                    hold_id=withdrawal.hold_id,
                    posting=ledger.Posting(
                        id=withdrawal.in_run_posting_id,
                        kind=ledger.Kind.WITHDRAWAL_IN_RUN,
                        reference=f"withdrawal:{withdrawal.pk}",
                        moves=[
                            ledger.Move(
                                chart.wallet(withdrawal.user_id), chart.withdrawals(run.pk), withdrawal.amount_nano
                            )
                        ],
                    ),
                    close=True,
                )
            ]
        )
    audit.record(by, "create_payout_run", f"payout_run:{run.pk}", items=len(waiting))
    return run


def approve_run(run: PayoutRun, *, by: User) -> PayoutRun:
    """Give one of the two approvals. The same admin twice counts once.

    Raises:
        NotReady: the books and the lines disagree, or the run's account does not hold exactly its items.
    """
    _check_admin(by)
    _check_zero(run)  # outside the transaction below: the report reads one snapshot of its own
    return _approve(run, by=by)


@transaction.atomic
def _approve(run: PayoutRun, *, by: User) -> PayoutRun:
    run = PayoutRun.objects.select_for_update(of=("self",)).get(pk=run.pk)
    if run.status != PayoutRun.Status.DRAFT or run.first_approver_id == by.pk:
        return run
    if run.first_approver_id is None:
        run.first_approver, run.first_approved_at = by, timezone.now()
        run.save(update_fields=["first_approver", "first_approved_at"])
    else:
        run.second_approver, run.second_approved_at = by, timezone.now()
        run.status = PayoutRun.Status.APPROVED
        run.save(update_fields=["second_approver", "second_approved_at", "status"])
        run.withdrawals.filter(status=Withdrawal.Status.IN_RUN).update(status=Withdrawal.Status.APPROVED)
    audit.record(by, "approve_payout_run", f"payout_run:{run.pk}", second=run.second_approver_id is not None)
    return run


@transaction.atomic
def mark_sent(run: PayoutRun, *, by: User) -> PayoutRun:
    """Say that the file went to the bank. The public log gets one committed entry per item."""
    _check_admin(by)
    run = PayoutRun.objects.select_for_update(of=("self",)).get(pk=run.pk)
    if run.status == PayoutRun.Status.SENT:
        return run
    if run.status != PayoutRun.Status.APPROVED:
        raise NotReady(_("Two admins must approve a payout run before it is sent."))
    run.status, run.sent_at = PayoutRun.Status.SENT, timezone.now()
    run.save(update_fields=["status", "sent_at"])
    for withdrawal in run.withdrawals.filter(status=Withdrawal.Status.APPROVED).select_related("user"):
        withdrawal.status = Withdrawal.Status.SENT
        withdrawal.save(update_fields=["status"])
        ledger.record_fact(
            id=withdrawal.pk,
            reference=f"withdrawal:{withdrawal.pk}",
            entry=ledger.Entry(
                type="withdrawal.sent",
                public={"run": str(run.pk)},
                private={
                    "payee": chart.wallet(withdrawal.user_id),
                    "amount": str(withdrawal.amount_nano),
                    "destination": f"{withdrawal.destination_kind}:{withdrawal.destination_hint}",
                },
            ),
        )
        notifications.notify(withdrawal.user, "withdrawal_sent", amount_nano=str(withdrawal.amount_nano))
    audit.record(by, "send_payout_run", f"payout_run:{run.pk}")
    return run


@transaction.atomic
def confirm_item(withdrawal: Withdrawal, *, by: User) -> Withdrawal:
    """The money arrived. Confirming twice changes nothing; a returned item stays returned."""
    return _end_item(withdrawal, by=by, status=Withdrawal.Status.CONFIRMED, reason="")


@transaction.atomic
def return_item(withdrawal: Withdrawal, *, by: User, reason: str) -> Withdrawal:
    """The money came back: it is in the wallet again, with the reason."""
    if not reason.strip():
        raise Invalid(_("Say why the payment came back."))
    return _end_item(withdrawal, by=by, status=Withdrawal.Status.RETURNED, reason=reason.strip())


def export_csv(run: PayoutRun) -> str:
    """The file for the bank: one row per item still to be paid, exact amounts, destinations in clear.

    Once sent, what arrived or came back is no longer in it, so that paying a second file pays nobody twice.

    Raises:
        NotReady: the run is not approved yet, or every item has ended.
    """
    if run.status == PayoutRun.Status.DRAFT:
        raise NotReady(_("Two admins must approve a payout run before it is exported."))
    if run.status == PayoutRun.Status.CLOSED:
        raise NotReady(_("Every item of this payout run has ended. There is nothing left to pay."))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["withdrawal_id", "handle", "kind", "destination", "amount", "unit"])
    to_pay = run.withdrawals.filter(status__in=[Withdrawal.Status.APPROVED, Withdrawal.Status.SENT])
    for item in to_pay.select_related("user").order_by("created_at", "pk"):
        writer.writerow(
            [
                item.pk,
                item.user.username,
                item.destination_kind,
                _neutral(listings.open_field(item.destination_token)),
                pricing.nano_to_open(item.amount_nano),
                "OPEN",
            ]
        )
    return out.getvalue()


@dataclass(frozen=True)
class Recomputed:
    """What deriving everything again found: rows of the revenue report that differ, and the run against the journal."""

    rows_that_differ: int
    run_difference_nano: int


def recompute(run: PayoutRun, *, by: User) -> Recomputed:
    """Derive everything again and remember the result in the run's trail."""
    _check_admin(by)
    found = Recomputed(len(revenue.differences()), taken_nano(run) - total_nano(run))
    audit.record(
        by,
        "recompute_payout_run",
        f"payout_run:{run.pk}",
        rows_that_differ=found.rows_that_differ,
        run_difference=pricing.nano_to_open(found.run_difference_nano),
    )
    return found


def taken_nano(run: PayoutRun) -> int:
    """What this run took out of wallets, by the journal."""
    found = ledger.movements(accounts=[chart.withdrawals(run.pk)], kinds=[ledger.Kind.WITHDRAWAL_IN_RUN])
    return sum(leg.credited_nano for leg in found)


def total_nano(run: PayoutRun) -> int:
    """The sum of a run's items."""
    return run.withdrawals.aggregate(total=Sum("amount_nano"))["total"] or 0


def _end_item(withdrawal: Withdrawal, *, by: User, status: Withdrawal.Status, reason: str) -> Withdrawal:
    _check_admin(by)
    withdrawal = Withdrawal.objects.select_for_update(of=("self",)).select_related("run", "user").get(pk=withdrawal.pk)
    if withdrawal.status == status:
        return withdrawal
    if withdrawal.status != Withdrawal.Status.SENT or withdrawal.run is None:
        raise NotReady(_("Only an item that was sent can be confirmed or returned."))
    confirmed = status == Withdrawal.Status.CONFIRMED
    withdrawal.status, withdrawal.returned_reason, withdrawal.ended_at = status, reason, timezone.now()
    withdrawal.save(update_fields=["status", "returned_reason", "ended_at"])
    target = chart.WORLD if confirmed else chart.wallet(withdrawal.user_id)
    ledger.post(
        id=withdrawal.end_posting_id,
        kind=ledger.Kind.WITHDRAWAL_CONFIRMED if confirmed else ledger.Kind.WITHDRAWAL_RETURNED,
        reference=f"withdrawal:{withdrawal.pk}",
        moves=[ledger.Move(chart.withdrawals(withdrawal.run.pk), target, withdrawal.amount_nano)],
    )
    audit.record(by, f"{status}_withdrawal", f"withdrawal:{withdrawal.pk}")
    notifications.notify(
        withdrawal.user, f"withdrawal_{status}", amount_nano=str(withdrawal.amount_nano), reason=reason
    )
    if not withdrawal.run.withdrawals.filter(status=Withdrawal.Status.SENT).exists():
        withdrawal.run.status, withdrawal.run.closed_at = PayoutRun.Status.CLOSED, timezone.now()
        withdrawal.run.save(update_fields=["status", "closed_at"])
    return withdrawal


def _check_zero(run: PayoutRun) -> None:
    held = ledger.total_by_prefix(chart.withdrawals(run.pk))
    if held != total_nano(run):
        raise NotReady(_("The run's account does not hold exactly the sum of its items. Nothing was approved."))
    differences = revenue.differences()
    if differences:
        first = differences[0]
        raise NotReady(
            _("The revenue report is not zero: %(role)s, %(payee)s differs by %(amount)s OPEN. Nothing was approved.")
            % {"role": first.role, "payee": first.payee, "amount": pricing.nano_to_open(first.difference_nano)}
        )


def _neutral(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _check_admin(user: User) -> None:
    if not user.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
