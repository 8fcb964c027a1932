"""A buyer contests a call: the developer answers in time, or the buyer wins; where they disagree, admins decide.

    open -> refunded (accepted, or not answered in time) | refused | withdrawn
    refused -> refunded (two admins, or the developer after all) | kept (an admin) | withdrawn

While a dispute stands, every lot that the call paid is on hold, so that a refund finds its money however long it takes.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import reversals
from ledger import chart
from ledger import services as ledger

from . import audit, holds, notifications, refunds, roles
from .errors import AlreadyRefunded, Invalid, NotAllowed, NotBookedYet, NotReady, WindowOver
from .models import ERASED, Call, Dispute, Payback, Refund, Role, WalletMember

logger = logging.getLogger(__name__)

TEXT_CHARS_MAX = 400


@transaction.atomic
def open_dispute(call: Call, *, by: User, reason: str) -> Dispute:
    """The buyer contests a call, with a reason, until its window ends. What it paid is held at once.

    Raises:
        NotAllowed: not the buyer. Invalid: no reason, or the buyer paid nothing. NotReady: disputed before.
        WindowOver, AlreadyRefunded, NotBookedYet: as for refunds.
    """
    call = refunds.locked(call)
    if not may_dispute(call, by):
        raise NotAllowed(_("Only the buyer of a call may dispute it."))
    reason = _checked(reason)
    if not call.cost_nano or call.free:
        raise Invalid(_("You paid nothing for this call. There is nothing to refund."))
    if Refund.objects.filter(call=call, status=Refund.Status.MADE).exists():
        raise AlreadyRefunded
    if Dispute.objects.filter(call=call).exists():
        raise NotReady(_("This call was disputed before. A call can be disputed once."))
    if not refunds.is_open(call):
        raise WindowOver
    now = timezone.now()
    dispute = Dispute.objects.create(
        call=call, reason=reason, opened_at=now, answer_due_at=now + timedelta(seconds=settings.DISPUTE_ANSWER_S)
    )
    reversals.lock(call.model_id)
    if not holds.hold_for(dispute, _lots_of_charge(call)) or not _hold_lines(dispute):
        raise WindowOver
    audit.record(by, "open_dispute", f"call:{call.pk}")
    _tell(dispute, call.model.owner, "dispute_opened")
    return dispute


@transaction.atomic
def refuse(dispute: Dispute, *, by: User, answer: str) -> Dispute:
    """The developer refuses, with a reason: the admins decide. An open dispute only, and in time."""
    dispute = _locked(dispute)
    if dispute.call.model.owner_id != by.pk:
        raise NotAllowed(_("Only the developer of the model may answer."))
    answer = _checked(answer)
    if dispute.status != Dispute.Status.OPEN:
        raise NotReady(_("This dispute does not wait for an answer any more. Nothing was changed."))
    if dispute.answer_due_at <= timezone.now():
        raise NotReady(_("The time to answer is over: the call is refunded. Nothing was changed."))
    dispute.status, dispute.answer, dispute.answered_at = Dispute.Status.REFUSED, answer, timezone.now()
    dispute.save(update_fields=["status", "answer", "answered_at"])
    audit.record(by, "refuse_dispute", f"call:{dispute.call_id}")
    _tell(dispute, dispute.call.buyer, "dispute_refused")
    for admin in User.objects.filter(is_staff=True, is_active=True):
        notifications.notify(admin, "dispute_to_decide", url=_page("admin_refunds"), model=dispute.call.model.path)
    return dispute


def accept(dispute: Dispute, *, by: User) -> Refund:
    """The developer gives in: the call is refunded. Also after having refused, while the admins have not decided."""
    if dispute.status not in Dispute.STANDING:
        raise NotReady(_("This dispute has ended. Nothing was changed."))
    return refunds.give_back(dispute.call, by=by, reason=dispute.reason)


@transaction.atomic
def keep(dispute: Dispute, *, by: User, decision: str) -> Dispute:
    """An admin decides, with a reason, that the charge stands. (For a refund, two approve: `refunds.approve`.)"""
    if not by.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
    dispute = _locked(dispute)
    if by.pk == dispute.call.model.owner_id or roles.role_in(dispute.call.buyer, by):
        raise NotAllowed(_("Other admins must decide about your own dispute."))
    decision = _checked(decision)
    if dispute.status != Dispute.Status.REFUSED:
        raise NotReady(_("This dispute does not wait for the admins. Nothing was changed."))
    dispute.decision, dispute.decided_by = decision, by
    _end(dispute, Dispute.Status.KEPT)
    audit.record(by, "keep_charge", f"call:{dispute.call_id}")
    for person in (dispute.call.buyer, dispute.call.model.owner):
        _tell(dispute, person, "dispute_kept")
    return dispute


@transaction.atomic
def withdraw(dispute: Dispute, *, by: User) -> Dispute:
    """The buyer takes a dispute back. Twice changes nothing."""
    dispute = _locked(dispute)
    if not may_dispute(dispute.call, by):
        raise NotAllowed(_("Only the buyer of a call may do this."))
    if dispute.status == Dispute.Status.WITHDRAWN:
        return dispute
    if dispute.status not in Dispute.STANDING:
        raise NotReady(_("This dispute has ended. Nothing was changed."))
    _end(dispute, Dispute.Status.WITHDRAWN)
    audit.record(by, "withdraw_dispute", f"call:{dispute.call_id}")
    _tell(dispute, dispute.call.model.owner, "dispute_withdrawn")
    return dispute


def seen_by(user: User) -> QuerySet[Dispute]:
    """Disputes about one's own calls, and about calls to one's own models."""
    mine = roles.bought_by(user, prefix="call__") | Q(call__model__owner=user)
    return Dispute.objects.filter(mine).select_related(
        "call__model__owner", "call__version__model__owner", "call__refund"
    )


def to_decide() -> QuerySet[Dispute]:
    """What waits for the admins."""
    found = Dispute.objects.filter(status=Dispute.Status.REFUSED)
    return found.select_related("call__model__owner", "call__buyer", "call__refund__first_admin")


def forget_words_of(user: User) -> None:
    """Erase what a person wrote about calls: who leaves leaves no sentence behind. What was decided stands.

    Of a shared wallet that they own, whoever wrote it: a dispute does not tell its author.
    """
    owned = WalletMember.objects.filter(user=user, role=Role.OWNER).values("wallet__account")
    bought = Q(call__buyer=user) | Q(call__key__made_by=user) | Q(call__buyer__in=owned)
    sold = Q(call__model__owner=user)
    Refund.objects.filter(bought, reason=F("call__dispute__reason")).update(reason=ERASED)
    Dispute.objects.filter(bought).update(reason=ERASED)
    Dispute.objects.filter(sold).exclude(answer="").update(answer=ERASED)
    Refund.objects.filter(sold, grounds=Refund.Grounds.DEVELOPER).update(reason=ERASED)
    Payback.objects.filter(sold).update(reason=ERASED)


def forget_words_about(user: User) -> None:
    """Erase what others wrote about a person's calls, bought or sold. What came of it stands."""
    theirs = Q(call__buyer=user) | Q(call__model__owner=user)
    Refund.objects.filter(theirs).update(reason=ERASED)
    Payback.objects.filter(theirs).update(reason=ERASED)
    for words in ("reason", "answer", "decision"):
        Dispute.objects.filter(theirs).exclude(**{words: ""}).update(**{words: ERASED})


def may_dispute(call: Call, person: User) -> bool:
    """Its buyer; of a shared wallet its owners, and the spender whose key it was."""
    role = roles.role_in(call.buyer, person)
    return role is Role.OWNER or (role is Role.SPENDER and call.key is not None and call.key.made_by_id == person.pk)


# --- By the clock


def refund_unanswered(now: datetime | None = None) -> int:
    """Refund the disputes that nobody answered in time. Returns how many; one that must wait is refunded the next time."""
    due = Dispute.objects.filter(status=Dispute.Status.OPEN, answer_due_at__lte=now or timezone.now())
    refunded = 0
    for dispute_id in list(due.order_by("answer_due_at").values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                dispute = _locked(Dispute.objects.get(pk=dispute_id))
                if dispute.status != Dispute.Status.OPEN:
                    continue
                refund = refunds.opened_by_dispute(dispute.call, reason=dispute.reason)
                refunds.make(refund, grounds=Refund.Grounds.DISPUTE, by=None)
                refunded += 1
        except NotBookedYet:
            logger.info("dispute %s waits for a settlement", dispute_id)
        except (ledger.LedgerError, AlreadyRefunded):
            # One that cannot be refunded must not keep the others from it. It stays open, and admins see that it is late.
            logger.exception("dispute %s cannot be refunded", dispute_id)
    return refunded


def hold_settled_lines() -> int:
    """Hold what was settled since a dispute was opened: the lots did not exist then. Returns how many were held."""
    before = _held_by_disputes()
    for dispute_id in list(Dispute.objects.filter(status__in=Dispute.STANDING).values_list("pk", flat=True)):
        with transaction.atomic():
            dispute = _locked(Dispute.objects.get(pk=dispute_id))
            if dispute.status in Dispute.STANDING:
                reversals.lock(dispute.call.model_id)
                if not _hold_lines(dispute):
                    logger.error("a lot of dispute %s has vested before it was held", dispute_id)
    return _held_by_disputes() - before


def _held_by_disputes() -> int:
    return holds.standing().filter(dispute__isnull=False).count()


def _locked(dispute: Dispute) -> Dispute:
    """The dispute as it stands, its call locked: refunds and disputes of one call take turns."""
    call = refunds.locked(dispute.call)
    dispute = Dispute.objects.get(pk=dispute.pk)
    dispute.call = call
    return dispute


def _lots_of_charge(call: Call) -> list[ledger.LotRow]:
    """What the charge itself paid to the developer and to owners."""
    charge = ledger.posting_of(call.pk)
    lots = ledger.lots_of(call.pk)
    paid = {move.target for move in charge.moves if chart.user_of(move.target)} if charge else {""}
    if paid != {lot.account for lot in lots}:  # the fold has not reached it
        raise NotBookedYet
    return lots


def _hold_lines(dispute: Dispute) -> bool:
    """Hold the lots of the call's settled lines, if it is settled. False: one had vested."""
    try:
        lots = reversals.lots_behind(dispute.call_id, model_id=dispute.call.model_id)
    except reversals.BeingSettled:
        return True  # the next look finds them
    return holds.hold_for(dispute, lots)


def _end(dispute: Dispute, status: Dispute.Status) -> None:
    reversals.lock(dispute.call.model_id)
    dispute.status, dispute.ended_at = status, timezone.now()
    dispute.save(update_fields=["status", "ended_at", "decision", "decided_by"])
    holds.let_go(dispute)


def _tell(dispute: Dispute, user: User, kind: str) -> None:
    notifications.notify(user, kind, url=_page("refunds"), model=dispute.call.model.path)


def _page(name: str) -> str:
    return notifications.without_language(reverse(name))


def _checked(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= TEXT_CHARS_MAX:
        raise Invalid(_("Say why, in at most 400 characters."))
    return text
