"""Money moved by hand to put a mistake right: one admin proposes it with a written reason, another one decides.

It goes between wallets and the platform's own account. Pools, lots and payout runs are out of reach: what is paid out of
them follows rules that anybody can recompute.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, notifications
from .errors import Invalid, NotAllowed, NotReady
from .models import ERASED, SUPPLY_NANO, Adjustment

REASON_CHARS_MAX = 400


@transaction.atomic
def propose(*, payer: User | None, payee: User | None, amount_nano: int, reason: str, by: User) -> Adjustment:
    """Write down what should move and why. Nothing moves before another admin has approved it.

    payer, payee: Whose wallet; None: the platform's account.

    Raises:
        NotAllowed: not an admin, or one whose own money it is.
        Invalid: no reason, no amount, or both sides are the same.
    """
    if payer == payee:
        raise Invalid(_("An adjustment goes from one account to another one."))
    if not 0 < amount_nano <= SUPPLY_NANO:
        raise Invalid(_("Move more than 0, and at most the whole supply."))
    if not 0 < len(reason.strip()) <= REASON_CHARS_MAX:
        raise Invalid(_("Say why, in at most 400 characters."))
    adjustment = Adjustment(
        payer=payer,
        payee=payee,
        amount_nano=amount_nano,
        reason=reason.strip(),
        posting_id=ledger.new_id(),
        proposed_by=by,
    )
    _check_may_decide(adjustment, by)
    adjustment.save(force_insert=True)
    audit.record(
        by,
        "propose_adjustment",
        f"adjustment:{adjustment.pk}",
        amount_nano=str(amount_nano),
        payer=_account(payer),
        payee=_account(payee),
    )
    return adjustment


@transaction.atomic
def approve(adjustment: Adjustment, *, by: User) -> Adjustment:
    """The second pair of eyes: the money moves. Approving twice changes nothing.

    Raises:
        NotAllowed: not an admin, the one who proposed it, or one whose own money it is. NotReady: it was refused.
        ledger.InsufficientFunds: the payer has less. Nothing was changed.
    """
    adjustment = _locked(adjustment)
    _check_may_decide(adjustment, by)
    if adjustment.status == Adjustment.Status.POSTED:
        return adjustment
    if adjustment.status == Adjustment.Status.REFUSED:
        raise NotReady(_("This adjustment was refused. Nothing was changed."))
    if adjustment.proposed_by_id == by.pk:
        raise NotAllowed(_("Another admin must approve what you proposed."))
    _decide(adjustment, Adjustment.Status.POSTED, by)
    ledger.post(
        id=adjustment.posting_id,
        kind=ledger.Kind.ADJUSTMENT,
        reference=f"adjustment:{adjustment.pk}",
        moves=[ledger.Move(_account(adjustment.payer), _account(adjustment.payee), adjustment.amount_nano)],
    )
    audit.record(by, "approve_adjustment", f"adjustment:{adjustment.pk}")
    url, amount_nano = reverse("wallet"), str(adjustment.amount_nano)
    for person, kind in ((adjustment.payer, "adjusted_out"), (adjustment.payee, "adjusted_in")):
        if person is not None:
            notifications.notify(person, kind, url=url, amount_nano=amount_nano)
    return adjustment


@transaction.atomic
def refuse(adjustment: Adjustment, *, by: User) -> Adjustment:
    """Say no, or take one's own proposal back. Refusing twice changes nothing.

    Raises: NotAllowed: not an admin, or one whose own money it is. NotReady: the money has moved.
    """
    adjustment = _locked(adjustment)
    _check_may_decide(adjustment, by)
    if adjustment.status == Adjustment.Status.REFUSED:
        return adjustment
    if adjustment.status == Adjustment.Status.POSTED:
        raise NotReady(_("This adjustment is booked. Propose the reverse."))
    _decide(adjustment, Adjustment.Status.REFUSED, by)
    audit.record(by, "refuse_adjustment", f"adjustment:{adjustment.pk}")
    return adjustment


def reasons_of(posting_ids: Collection[UUID]) -> dict[UUID, str]:
    """Why money was moved by hand, by posting, for who reads a statement with it."""
    return dict(Adjustment.objects.filter(posting_id__in=posting_ids).values_list("posting_id", "reason"))


def forget_words_about(user: User) -> None:
    """Erase why a person's money was moved. That it was, who decided and when, stands."""
    Adjustment.objects.filter(Q(payer=user) | Q(payee=user)).update(reason=ERASED)


def _locked(adjustment: Adjustment) -> Adjustment:
    """The row, held until this transaction ends: two decisions take turns."""
    found = Adjustment.objects.select_for_update(of=("self",)).select_related("payer", "payee")
    return found.get(pk=adjustment.pk)


def _check_may_decide(adjustment: Adjustment, by: User) -> None:
    if not by.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
    if by.pk in (adjustment.payer_id, adjustment.payee_id):
        raise NotAllowed(_("Other admins must decide about your own money."))


def _decide(adjustment: Adjustment, status: Adjustment.Status, by: User) -> None:
    adjustment.status, adjustment.decided_by, adjustment.decided_at = status, by, timezone.now()
    adjustment.save(update_fields=["status", "decided_by", "decided_at"])


def _account(person: User | None) -> str:
    return chart.FEES if person is None else chart.wallet(person.pk)
