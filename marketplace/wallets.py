"""Money in and out of wallets. Every act that posts holds its posting's id, so repeating it is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, listings, notifications, roles
from .errors import Invalid, NotAllowed, NotReady
from .models import SUPPLY_NANO, Deposit, PayoutDestination, Withdrawal

TEST_DEPOSIT_NANO = 50 * 10**9
# A withdrawal waits for its payout run as a hold; the hold must outlive any run.
WITHDRAWAL_HOLD_S = 10 * 365 * 86400


@dataclass(frozen=True)
class Summary:
    """A person's money: spendable now, on the way, held for something, set aside for free calls."""

    available_nano: int
    pending_nano: int
    held_nano: int
    disputed_nano: int
    promotion_nano: int


def summary(user: User, *, lots: Sequence[ledger.LotRow] | None = None) -> Summary:
    """What a person has. Pending lots become available when their window ends; disputed ones are held.

    lots: The person's `ledger.pending_of`, for who has read them already.
    """
    found = ledger.balances([chart.wallet(user.pk), chart.promotion(user.pk)])
    wallet, promotion = found[chart.wallet(user.pk)], found[chart.promotion(user.pk)]
    if lots is None:
        lots = ledger.pending_of(chart.pending(user.pk))
    return Summary(
        available_nano=wallet.available_nano,
        pending_nano=sum(lot.open_nano for lot in lots if lot.state == "pending"),
        held_nano=wallet.held_nano,
        disputed_nano=sum(lot.open_nano for lot in lots if lot.state == "held"),
        promotion_nano=promotion.available_nano + promotion.held_nano,
    )


# --- In


@transaction.atomic
def record_deposit(*, user: User, amount_nano: int, external_reference: str, by: User) -> Deposit:
    """Record money that came in from outside. Above the limit a second admin must approve it.

    Raises:
        NotAllowed: not an admin.
        Invalid: the amount is not positive, exceeds the supply, or the reference was used before.
    """
    _check_admin(by)
    reference = external_reference.strip()
    if not 0 < amount_nano <= SUPPLY_NANO:
        raise Invalid(_("A deposit is greater than 0 and at most the whole supply."))
    if not reference:
        raise Invalid(_("Give the outside reference of the payment: it must be unique."))
    try:
        # The unique reference decides, also between two admins who record one payment at once.
        with transaction.atomic():
            deposit = Deposit.objects.create(
                user=user,
                amount_nano=amount_nano,
                external_reference=reference,
                posting_id=ledger.new_id(),
                recorded_by=by,
            )
    except IntegrityError as taken:
        if not Deposit.objects.filter(external_reference=reference).exists():
            raise
        raise Invalid(_("A deposit with this outside reference is recorded already. Nothing was changed.")) from taken
    audit.record(by, "record_deposit", f"deposit:{deposit.pk}", amount_nano=str(amount_nano), user=user.pk)
    if amount_nano <= settings.DEPOSIT_SINGLE_MAX_NANO:
        _post_deposit(deposit)
    return deposit


@transaction.atomic
def approve_deposit(deposit: Deposit, *, by: User) -> Deposit:
    """Second pair of eyes on a large deposit. Approving twice changes nothing."""
    _check_admin(by)
    deposit = Deposit.objects.select_for_update().get(pk=deposit.pk)
    if deposit.status == Deposit.Status.POSTED:
        return deposit
    if deposit.recorded_by_id == by.pk:
        raise NotAllowed(_("Another admin must approve what you recorded."))
    deposit.approved_by = by
    deposit.save(update_fields=["approved_by"])
    audit.record(by, "approve_deposit", f"deposit:{deposit.pk}")
    _post_deposit(deposit)
    return deposit


@transaction.atomic
def test_deposit(user: User) -> Deposit:
    """Give play money, in a demo state only."""
    if not settings.DEMO_STATE:
        raise NotAllowed(_("Test deposits exist in a demo only."))
    deposit = Deposit.objects.create(
        user=user,
        amount_nano=TEST_DEPOSIT_NANO,
        external_reference=f"test:{ledger.new_id()}",
        is_test=True,
        posting_id=ledger.new_id(),
        recorded_by=user,
    )
    _post_deposit(deposit)
    return deposit


# --- Out


@transaction.atomic
def set_destination(user: User, *, kind: str, details: str, by: User | None = None) -> PayoutDestination:
    """Say where withdrawals go. The view asks for re-authentication first; a change waits before it counts.

    user, by: Whose wallet it is, and (of a shared one) the owner who says so.
    """
    by = by or user
    roles.require_owner(user, by)
    details = "".join(details.split())
    if not 8 <= len(details) <= 120 or not details.isascii() or not details.isprintable():
        raise Invalid(_("Give the whole account number or address: 8 to 120 letters and digits."))
    known = PayoutDestination.objects.filter(user=user).exists()
    wait_s = settings.PAYOUT_CHANGE_WAIT_S if known else 0
    now = timezone.now()
    destination, _created = PayoutDestination.objects.update_or_create(
        user=user,
        defaults={
            "kind": kind,
            "details_token": listings.seal_field(details),
            "hint": f"…{details[-4:]}",
            "set_at": now,
            "usable_from": now + timedelta(seconds=wait_s),
        },
    )
    audit.record(by, "set_payout_destination", f"user:{user.pk}", kind=destination.kind)
    notifications.notify(user, "payout_destination_set", hint=destination.hint)
    return destination


@transaction.atomic
def request_withdrawal(user: User, *, amount_nano: int, by: User | None = None) -> Withdrawal:
    """Ask for money out: it is held in the wallet until a payout run takes it, or until it is cancelled.

    Args:
        user, by: Whose wallet it is, and (of a shared one) the owner who asks.

    Raises:
        NotAllowed: they do not own it.
        NotReady: there is no destination, or a new one still waits.
        ledger.InsufficientFunds: the wallet has less available. Nothing was held.
    """
    by = by or user
    roles.require_owner(user, by)
    destination = PayoutDestination.objects.select_for_update().filter(user=user).first()
    if destination is None:
        raise NotReady(_("Say first where the money should go."))
    if destination.usable_from > timezone.now():
        raise NotReady(_("Your new payout destination is not usable yet. Nothing was changed."))
    if amount_nano <= 0:
        raise Invalid(_("Withdraw more than 0."))
    withdrawal = Withdrawal.objects.create(
        user=user,
        amount_nano=amount_nano,
        destination_kind=destination.kind,
        destination_token=destination.details_token,
        destination_hint=destination.hint,
        hold_id=ledger.new_id(),
        in_run_posting_id=ledger.new_id(),
        end_posting_id=ledger.new_id(),
    )
    ledger.hold(
        id=withdrawal.hold_id,
        account=chart.wallet(user.pk),
        amount_nano=amount_nano,
        expires_in_s=WITHDRAWAL_HOLD_S,
        owner=f"withdrawal:{withdrawal.pk}",
    )
    audit.record(by, "request_withdrawal", f"withdrawal:{withdrawal.pk}", amount_nano=str(amount_nano))
    return withdrawal


@transaction.atomic
def cancel_withdrawal(withdrawal: Withdrawal, *, by: User) -> Withdrawal:
    """Take a request back, until it is in a payout run. Cancelling twice changes nothing."""
    withdrawal = Withdrawal.objects.select_for_update(of=("self",)).select_related("user").get(pk=withdrawal.pk)
    if not roles.may_manage(withdrawal.user, by):
        raise NotAllowed(_("Only its author may cancel a withdrawal."))
    if withdrawal.status == Withdrawal.Status.CANCELLED:
        return withdrawal
    if withdrawal.status != Withdrawal.Status.REQUESTED:
        raise NotReady(_("This withdrawal is in a payout run already and cannot be cancelled."))
    withdrawal.status = Withdrawal.Status.CANCELLED
    withdrawal.ended_at = timezone.now()
    withdrawal.save(update_fields=["status", "ended_at"])
    ledger.close(withdrawal.hold_id)
    audit.record(by, "cancel_withdrawal", f"withdrawal:{withdrawal.pk}")
    return withdrawal


def _post_deposit(deposit: Deposit) -> None:
    deposit.status = Deposit.Status.POSTED
    deposit.posted_at = timezone.now()
    deposit.save(update_fields=["status", "posted_at"])
    ledger.post(
        id=deposit.posting_id,
        kind=ledger.Kind.DEPOSIT,
        reference=f"deposit:{deposit.pk}",
        moves=[ledger.Move(chart.WORLD, chart.wallet(deposit.user_id), deposit.amount_nano)],
    )
    notifications.notify(deposit.user, "deposit_posted", amount_nano=str(deposit.amount_nano))


def _check_admin(user: User) -> None:
    if not user.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
