"""What keeps somebody's pending earnings from vesting: a dispute of a call or of records, a noise case, an admin's reason.

The ledger keeps one state per lot, and a lot may be held for several reasons: it is let go when the last one ends. The
ledger's row of the lot is the lock: it is always written first.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import frozen
from attribution.frozen import BY_NOISE, BY_THEFT
from attribution.models import NoiseCase
from datanets.models import TheftDispute
from ledger import chart
from ledger import services as ledger

from . import audit, notifications
from .errors import Invalid, NotAllowed, NotReady
from .models import ERASED, Dispute, LotHold

REASON_CHARS_MAX = 400
BY_DISPUTE, BY_ADMIN = "dispute", "admin"  # what the ledger, and so the payee, is told of who holds


@transaction.atomic
def hold(lot_id: UUID, *, by: User, reason: str, until: datetime | None = None) -> LotHold:
    """An admin keeps a lot from vesting, until a time or until released.

    Raises:
        NotAllowed: not an admin. Invalid: no such lot, no reason, or a time that is over.
        NotReady: an admin holds it already, or it has vested.
    """
    _check_admin(by)
    reason = _checked(reason)
    lot = ledger.lot_of(lot_id)
    if lot is None:
        raise Invalid(_("There is no such lot."))
    if until is not None and until <= timezone.now():
        raise Invalid(_("This time is over. Choose a later one, or none."))
    if not ledger.hold_lot(lot.id, reason=reason, by=BY_ADMIN, until=until) or lot.state == "taken":
        raise NotReady(_("This lot is paid out or was given back. Nothing was changed."))
    if _standing(lot.id).filter(placed_by__isnull=False).exists():
        raise NotReady(_("An admin holds this lot already. Nothing was changed."))
    # One that ended by its time makes room.
    LotHold.objects.filter(lot_id=lot.id, placed_by__isnull=False, released_at=None).update(
        released_at=timezone.now(), released_by=by, release_reason="its time was over"
    )
    placed = _placed(lot, placed_by=by, reason=reason, until=until)
    apply(lot.id)
    audit.record(by, "hold_lot", f"lot:{lot.id}", payee=f"user:{placed.payee_id}")
    return placed


@transaction.atomic
def release(held: LotHold, *, by: User, reason: str) -> LotHold:
    """An admin lets go what an admin held. Releasing twice changes nothing.

    Raises:
        NotAllowed: not an admin. Invalid: no reason. NotReady: a dispute holds it; it ends with the dispute.
    """
    _check_admin(by)
    reason = _checked(reason)
    held = LotHold.objects.select_for_update(of=("self",)).select_related("payee").get(pk=held.pk)
    if held.placed_by_id is None:
        raise NotReady(_("This lot is held by a dispute. It is released when the dispute ends."))
    if held.released_at is not None:
        return held
    held.released_at, held.released_by, held.release_reason = timezone.now(), by, reason
    held.save(update_fields=["released_at", "released_by", "release_reason"])
    apply(held.lot_id)
    audit.record(by, "release_lot", f"lot:{held.lot_id}", payee=f"user:{held.payee_id}")
    notifications.notify(held.payee, "earnings_released", amount_nano=str(held.amount_nano))
    return held


def hold_for(dispute: Dispute, lots: Iterable[ledger.LotRow]) -> bool:
    """Hold lots while a dispute stands; those it holds already are left. Returns False if one of them had vested.

    Runs under the lock of the model's settlement, as refunds do: two of them never meet crosswise on the same lots.
    """
    known = set(dispute.holds.values_list("lot_id", flat=True))
    for lot in lots:
        if lot.id in known:
            continue
        if not ledger.hold_lot(lot.id, reason=BY_DISPUTE, by=BY_DISPUTE):
            return False
        _placed(lot, dispute=dispute)
        apply(lot.id)
    return True


def hold_for_theft(theft: TheftDispute, lots: Iterable[ledger.LotRow]) -> int:
    """Hold lots while a theft dispute runs, until it lapses at the latest. Returns how many that were.

    Those it holds already are left, and so is what has vested: nobody's wallet is asked.
    """
    known = set(theft.holds.values_list("lot_id", flat=True))
    placed = 0
    for lot in lots:
        if lot.id not in known and ledger.hold_lot(lot.id, reason=BY_THEFT, by=BY_THEFT, until=theft.decide_by):
            _placed(lot, theft=theft, until=theft.decide_by)
            apply(lot.id)
            placed += 1
    return placed


def hold_for_noise(case: NoiseCase, lots: Iterable[ledger.LotRow]) -> int:
    """Hold lots until a noise case ends. Returns how many that were; those it holds already, and what has vested, are left."""
    known = set(case.holds.values_list("lot_id", flat=True))
    placed = 0
    for lot in lots:
        if lot.id not in known and ledger.hold_lot(lot.id, reason=BY_NOISE, by=BY_NOISE):
            _placed(lot, noise=case)
            apply(lot.id)
            placed += 1
    return placed


def let_go(dispute: Dispute | TheftDispute | NoiseCase) -> None:
    """End what a dispute or a case held. Other reasons to hold the same lots stand."""
    now = timezone.now()
    for held in dispute.holds.filter(released_at=None).order_by("placed_at", "pk"):
        held.released_at = now
        held.save(update_fields=["released_at"])
        apply(held.lot_id)


def apply(lot_id: UUID) -> None:
    """Write to the ledger what its one state follows from: an admin's reason, a buyer's dispute, a theft dispute, a noise
    case, in this order, and the latest end."""
    # First, because it waits for everybody who is at this lot; what stands is read after them.
    ledger.release_lot(lot_id, by="")
    standing = list(_standing(lot_id).filter(theft=None, noise=None).order_by("placed_at"))
    ends = [one.until for one in standing]
    # Not by the rows here: a lot that was held from its first moment has none yet.
    lot = ledger.lot_of(lot_id)
    by_records = frozen.of(lot.posting_id, lot.account) if lot else None
    by_admin = next((one for one in standing if one.dispute_id is None), None)
    if by_admin:
        by, reason = BY_ADMIN, by_admin.reason
    elif standing:
        by, reason = BY_DISPUTE, BY_DISPUTE
    elif by_records:
        by = reason = by_records.by
    else:
        return
    ends += [by_records.until] if by_records else []
    ledger.hold_lot(lot_id, reason=reason, by=by, until=None if None in ends else max(end for end in ends if end))


def forget_words_about(user: User) -> None:
    """Erase why admins held a person's earnings, and let them go. That they did, who and when, stands."""
    LotHold.objects.filter(payee=user).exclude(reason="").update(reason=ERASED)
    LotHold.objects.filter(payee=user).exclude(release_reason="").update(release_reason=ERASED)
    ledger.forget_reasons(chart.pending(user.pk))


def sentence(lot: ledger.LotRow) -> str:
    """Why a lot is held and by whom, for its payee. What a buyer wrote is not for everybody who earned of the call."""
    if lot.held_by == BY_DISPUTE:
        return _("A buyer disputes a call that paid a part of this. It is held until the dispute ends.")
    if lot.held_by == BY_THEFT:
        return _(
            "Somebody says that records that earned a part of this are theirs, not yours. Curators of the Datanet and "
            "administrators who are no party to it decide, by %(day)s at the latest; until then it is held."
        ) % {"day": date_format(lot.held_until, "DATETIME_FORMAT") if lot.held_until else "\u2014"}
    if lot.held_by == BY_NOISE:
        return _(
            "Records that earned a part of this look like noise for a model. A curator who does not know whose they are "
            "decides; until then it is held, and nothing is taken."
        )
    return _("An admin holds this: %(reason)s") % {"reason": lot.hold_reason}


def standing() -> QuerySet[LotHold]:
    """What is held now."""
    running = Q(until__isnull=True) | Q(until__gt=timezone.now())
    return LotHold.objects.filter(running, released_at=None).select_related(
        "payee", "placed_by", "dispute__call__model", "theft", "noise"
    )


def listed() -> QuerySet[LotHold]:
    """What is held now, for administrators: without noise cases, which they decide without knowing whose they are."""
    return standing().filter(noise=None)


def _standing(lot_id: UUID) -> QuerySet[LotHold]:
    return standing().filter(lot_id=lot_id)


def _placed(lot: ledger.LotRow, **why) -> LotHold:
    payee = User.objects.get(pk=chart.user_of(lot.account) or 0)  # a lot is always somebody's
    placed = LotHold.objects.create(lot_id=lot.id, payee=payee, amount_nano=lot.open_nano, **why)
    if placed.theft_id is None and placed.noise_id is None:  # of these the payee is told once, not lot by lot
        kind = "earnings_held" if placed.dispute_id is None else "earnings_disputed"
        notifications.notify(payee, kind, amount_nano=str(lot.open_nano), reason=placed.reason)
    return placed


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not 0 < len(reason) <= REASON_CHARS_MAX:
        raise Invalid(_("Say why, in at most 400 characters."))
    return reason


def _check_admin(user: User) -> None:
    if not user.is_staff:
        raise NotAllowed(_("Only an admin may do this."))
