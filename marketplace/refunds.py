"""A call given back: whole or not at all, once, until its window ends - or after it, through a dispute opened before.

One batch, one posting per debited account: the reverse of the charge. What is not settled comes out of the model's pools,
what is settled out of the payees' pending lots, never out of wallets; the money returns to who paid.

After the window nobody's earnings are asked back: a developer can pay the price back, out of a wallet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import reversals
from attribution.reversals import Part
from ledger import chart
from ledger import services as ledger

from . import audit, holds, notifications, roles
from .errors import AlreadyRefunded, Invalid, NotAllowed, NotBookedYet, NotReady, WindowOver
from .models import Call, Dispute, Payback, Refund

REASON_CHARS_MAX = 400


@transaction.atomic
def give_back(call: Call, *, by: User, reason: str) -> Refund:
    """The developer of the model refunds a call.

    Raises:
        NotAllowed: not the owner of the model. Invalid: no reason, or the call cost nothing.
        WindowOver, AlreadyRefunded. NotBookedYet: being settled at this moment.
    """
    call = locked(call)
    if call.model.owner_id != by.pk:
        raise NotAllowed(_("Only the developer of the model, or two admins, may refund a call."))
    refund = _opened(call, reason=reason)
    _check_window(call)
    return make(refund, grounds=Refund.Grounds.DEVELOPER, by=by)


@transaction.atomic
def pay_back(call: Call, *, by: User, reason: str) -> Payback:
    """The developer gives the price of a call back after its window, out of a wallet: what others earned stays theirs.

    Raises:
        NotAllowed: not the owner of the model. Invalid: no reason, it cost nothing, or the developer paid it.
        NotReady: its window is open, or a dispute stands: refund it. AlreadyRefunded: either way.
        ledger.InsufficientFunds: the wallet holds less. Nothing was changed.
    """
    call = locked(call)
    if call.model.owner_id != by.pk:
        raise NotAllowed(_("Only the developer of the model, or two admins, may refund a call."))
    _check(call, reason)
    if Payback.objects.filter(call=call).exists():
        raise AlreadyRefunded
    if can_be_refunded(call):
        raise NotReady(_("This call can still be refunded, by everybody who earned of it. Nothing was changed."))
    charge = ledger.posting_of(call.pk)
    payer = charge.moves[0].source if charge else ""
    payee_id = chart.user_of(payer)
    if payee_id is None or payee_id == by.pk:
        raise Invalid(_("You paid this call yourself."))
    payback = Payback.objects.create(
        call=call, amount_nano=call.cost_nano, reason=reason.strip(), posting_id=ledger.new_id()
    )
    ledger.post(
        id=payback.posting_id,
        kind=ledger.Kind.REFUND,
        reference=f"payback:{call.pk}",
        moves=[ledger.Move(chart.wallet(by.pk), payer, payback.amount_nano)],
    )
    audit.record(by, "pay_call_back", f"call:{call.pk}", amount_nano=str(payback.amount_nano))
    paid_back = User.objects.get(pk=payee_id)
    url, amount_nano = reverse("receipt", args=[call.pk]), str(payback.amount_nano)
    notifications.notify(paid_back, "call_refunded", url=url, amount_nano=amount_nano, model=call.model.path)
    return payback


@transaction.atomic
def approve(call: Call, *, by: User, reason: str) -> Refund:
    """An admin asks for a refund; a second one makes it. The same admin twice counts once, and so does the second's reason.

    Raises: as `give_back`; NotAllowed: not an admin, or the buyer of the call.
    """
    call = locked(call)
    refund = approved(call, by=by, reason=reason)
    _check_window(call)
    return make(refund, grounds=Refund.Grounds.ADMINS, by=by) if refund.second_admin_id else refund


def approved(call: Call, *, by: User, reason: str) -> Refund:
    """Give one of the two approvals, on a call that is `locked`. `second_admin` says whether both are there."""
    if not by.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
    if roles.role_in(call.buyer, by):
        raise NotAllowed(_("Other admins must decide about a call that you paid."))
    refund = _opened(call, reason=reason)
    if refund.first_admin_id == by.pk:
        return refund
    if refund.first_admin_id is None:
        refund.first_admin = by
        refund.save(update_fields=["first_admin"])
    else:
        refund.second_admin = by
        refund.save(update_fields=["second_admin"])
    audit.record(by, "approve_refund", f"call:{call.pk}", second=refund.second_admin_id is not None)
    return refund


def opened_by_dispute(call: Call, *, reason: str) -> Refund:
    """The refund of a call whose dispute is won, to be made: on a call that is `locked`."""
    return _opened(call, reason=reason)


def make(refund: Refund, *, grounds: Refund.Grounds, by: User | None) -> Refund:
    """Move the money, say so in the public log, and end the call's dispute. The call is `locked`, its window was looked at.

    by: Who did it; None where a time did.

    Raises:
        NotBookedYet: the charge or its settlement is on its way. ledger.LotUnavailable: a payee's lot has vested.
        Nothing was changed.
    """
    call = refund.call
    charge = ledger.posting_of(call.pk)
    if charge is None:
        raise NotBookedYet
    try:
        given_back = reversals.reverse(charge, model_id=call.model_id)
    except reversals.BeingSettled as unsettled:
        raise NotBookedYet from unsettled
    parts = [*_parts_of_roles(call, charge), *given_back.parts]
    payer = charge.moves[0].source
    postings = _postings(call, parts, payer)
    try:
        with transaction.atomic():
            ledger.post_many(postings)
    except ledger.InsufficientFunds as unfolded:
        # Pools and fees hold what was charged, as soon as it is folded.
        raise NotBookedYet from unfolded
    ledger.record_fact(
        id=refund.pk,
        reference=f"refund:{call.pk}",
        entry=ledger.Entry(
            type="refund.made",
            public={"reverses": str(call.pk)},
            private={"buyer": payer, "price": str(refund.amount_nano)},
            split=[
                {"payee": part.account, "role": part.role, "item": part.item, "amount": str(part.amount_nano)}
                for part in parts
            ],
        ),
    )
    refund.status, refund.grounds, refund.made_at = Refund.Status.MADE, grounds, timezone.now()
    refund.was_settled = given_back.was_settled
    refund.posting_ids = [posting.id for posting in postings]
    refund.save(update_fields=["status", "grounds", "made_at", "was_settled", "posting_ids"])
    dispute = Dispute.objects.filter(call=call, status__in=Dispute.STANDING).first()
    if dispute is not None:
        dispute.status, dispute.ended_at = Dispute.Status.REFUNDED, refund.made_at
        dispute.save(update_fields=["status", "ended_at"])
        holds.let_go(dispute)
    audit.record(by, "refund_call", f"call:{call.pk}", amount_nano=str(refund.amount_nano), grounds=str(grounds))
    _tell(refund, parts, payer, by)
    return refund


def drop_late() -> int:
    """Forget the refunds that no second admin approved in time. Returns how many."""
    dropped = 0
    for refund in Refund.objects.filter(status=Refund.Status.WAITING).select_related("call"):
        with transaction.atomic():
            call = locked(refund.call)
            if not can_be_refunded(call):
                dropped += Refund.objects.filter(pk=refund.pk, status=Refund.Status.WAITING).delete()[0]
                audit.record(None, "drop_refund", f"call:{call.pk}")
    return dropped


def locked(call: Call) -> Call:
    """The call's row, held until this transaction ends: refunds and disputes of one call take turns."""
    return Call.objects.select_for_update(of=("self",)).select_related("model__owner", "buyer").get(pk=call.pk)


def window_ends(call: Call) -> datetime | None:
    """Until when a call can be refunded or disputed: the window that its charge gave it. None: it was not charged."""
    charge = ledger.posting_of(call.pk)
    return None if charge is None else window_of(charge)


def window_of(charge: ledger.PostingRow | ledger.EntryRow) -> datetime:
    """Until when the call of a charge can be refunded or disputed."""
    seconds = settings.CHALLENGE_WINDOW_S if charge.vest_after_s is None else charge.vest_after_s
    return charge.at + timedelta(seconds=seconds)


def is_open(call: Call) -> bool:
    """Whether the call's window runs."""
    ends_at = window_ends(call)
    return ends_at is not None and timezone.now() < ends_at


def can_be_refunded(call: Call) -> bool:
    """Whether it is in time. A dispute that stands keeps the window open: what the call paid is on hold."""
    return is_open(call) or Dispute.objects.filter(call=call, status__in=Dispute.STANDING).exists()


def seen_by(user: User) -> QuerySet[Refund]:
    """Refunds of one's own calls, and of calls to one's own models."""
    mine = roles.bought_by(user, prefix="call__") | Q(call__model__owner=user)
    return Refund.objects.filter(mine).select_related("call__model__owner", "call__version__model__owner")


def _opened(call: Call, *, reason: str) -> Refund:
    """The call's one refund, waiting; made now if nobody asked before."""
    _check(call, reason)
    refund = Refund.objects.filter(call=call).first()
    if refund is None:
        refund = Refund.objects.create(call=call, amount_nano=call.cost_nano, reason=reason.strip())
    refund.call = call
    return refund


def _check(call: Call, reason: str) -> None:
    if not 0 < len(reason.strip()) <= REASON_CHARS_MAX:
        raise Invalid(_("Say why, in at most 400 characters."))
    if not call.cost_nano:
        raise Invalid(_("This call cost nothing. There is nothing to refund."))
    if Refund.objects.filter(call=call, status=Refund.Status.MADE).exists():
        raise AlreadyRefunded


def _check_window(call: Call) -> None:
    if not can_be_refunded(call):
        raise WindowOver


def _parts_of_roles(call: Call, charge: ledger.PostingRow) -> list[Part]:
    """What the charge gave to the platform and into lots of its own: the developer's part, and the owners'."""
    lots = {lot.account for lot in ledger.lots_of(charge.id)}
    parts = []
    for move in charge.moves:
        if move.target == chart.FEES:
            parts.append(Part(move.target, "platform", "", move.amount_nano))
        elif move.target.startswith("pending:"):
            if move.target not in lots:  # the fold has not reached the charge
                raise NotBookedYet
            role = "developer" if move.target == chart.pending(call.model.owner_id) else "owner"
            parts.append(Part(move.target, role, "", move.amount_nano, charge.id))
    return parts


def _postings(call: Call, parts: Sequence[Part], payer: str) -> list[ledger.Posting]:
    """One per account and lot. Their references name the call, so that no second batch can stand beside this one."""
    owed: dict[tuple[str, UUID | None], int] = {}
    for part in parts:
        key = (part.account, part.takes_from)
        owed[key] = owed.get(key, 0) + part.amount_nano
    return [
        ledger.Posting(
            id=ledger.new_id(),
            kind=ledger.Kind.REFUND,
            reference=f"refund:{call.pk}:{number}",
            moves=[ledger.Move(account, payer, amount_nano)],
            takes_from=takes_from,
        )
        for number, ((account, takes_from), amount_nano) in enumerate(owed.items(), start=1)
    ]


def _tell(refund: Refund, parts: Sequence[Part], payer: str, by: User | None) -> None:
    """One line for who is paid back, and one for everybody whose pending earnings went back."""
    model, url = refund.call.model.path, reverse("receipt", args=[refund.pk])
    paid_back = User.objects.get(pk=chart.user_of(payer) or 0)  # whoever pays a call has an account
    notifications.notify(paid_back, "call_refunded", url=url, amount_nano=str(refund.amount_nano), model=model)
    taken: dict[int, int] = {}
    for part in parts:
        user_id = chart.user_of(part.account)
        if user_id is not None and (by is None or user_id != by.pk):
            taken[user_id] = taken.get(user_id, 0) + part.amount_nano
    for user in User.objects.filter(pk__in=taken):
        notifications.notify(user, "earnings_refunded", url=url, amount_nano=str(taken[user.pk]), model=model)
