"""The end of a model: announced for a day, then no new calls, a last epoch, and empty pools before it counts as retired.

Running passes get back the part of their time that is left, out of the developer's wallet: the money of a sale was divided
long ago. What that will be is held from the announcement on, and no pass is sold after it, so that it is there on the day.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import product
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution.models import Epoch
from ledger import chart
from ledger import services as ledger

from . import access, audit, listings, notifications
from .errors import Invalid, NotAllowed, NotReady
from .models import Access, ListedModel, PassRefund, TrainingRun

logger = logging.getLogger(__name__)

HOLD_S = 10 * 365 * 86400  # it must outlive any announcement
#: A call that began before the day may be charged this much later; its pool is settled, too, before the model is retired.
LAST_CALLS_S = 900
_MICROSECOND = timedelta(microseconds=1)


@transaction.atomic
def announce(model: ListedModel, *, by: User, on: datetime | None = None) -> ListedModel:
    """Say from when on a model takes no calls; None: from now on. What its running passes get back is held.

    Raises:
        NotAllowed: not its owner. Invalid: a moment that is over. NotReady: announced before, or retired.
        ledger.InsufficientFunds: the wallet holds less than the passes get back. Nothing was changed.
    """
    model = _locked(model)
    check_owner(model, by)
    now = timezone.now()
    if on is not None and on < now:
        raise Invalid(_("This day is over. Choose a later one."))
    if model.retire_from is not None:
        raise NotReady(_("This model’s retirement is announced already. Nothing was changed."))
    model.retire_from = on or now
    owed_nano = owed(model, from_=model.retire_from)
    if owed_nano:
        model.retirement_hold_id = ledger.new_id()
        ledger.hold(
            id=model.retirement_hold_id,
            account=chart.wallet(model.owner_id),
            amount_nano=owed_nano,
            expires_in_s=HOLD_S,
            owner=f"retirement:{model.pk}",
        )
    model.save(update_fields=["retire_from", "retirement_hold_id"])
    audit.record(by, "announce_retirement", f"model:{model.pk}", on=model.retire_from.isoformat(), held=str(owed_nano))
    day = model.retire_from.date().isoformat()
    url = notifications.address_of("model", model.owner.username, model.slug)
    holders = User.objects.filter(pk__in=running_passes(model, from_=now).values("buyer_id"))
    notifications.tell_users(holders, "model_retires", url=url, model=model.path, day=day)
    others = access.users_of(model).exclude(pk__in=holders.values("pk"))
    notifications.tell_users(others, "model_retiring", url=url, model=model.path, day=day)
    listings.announce_catalogue()
    return model


@transaction.atomic
def call_off(model: ListedModel, *, by: User) -> ListedModel:
    """Take the announcement back, until its day. Without one nothing changes."""
    model = _locked(model)
    check_owner(model, by)
    if model.retire_from is None:
        return model
    if model.takes_no_calls:
        raise NotReady(_("The day has come: this model is retiring. Create a new one."))
    if model.retirement_hold_id is not None:
        ledger.close(model.retirement_hold_id)
    model.retire_from = model.retirement_hold_id = None
    model.save(update_fields=["retire_from", "retirement_hold_id"])
    audit.record(by, "call_off_retirement", f"model:{model.pk}")
    return model


def owed(model: ListedModel, *, from_: datetime) -> int:
    """What the running passes of a model get back if it ends then."""
    return sum(_pro_rata_nano(sold, from_) for sold in running_passes(model, from_=from_))


def running_passes(model: ListedModel, *, from_: datetime) -> QuerySet[Access]:
    """Passes whose time is not over then."""
    return model.accesses.filter(mode=Access.Mode.PASS, revoked_at=None, ends_at__gt=from_).order_by("starts_at", "pk")


# --- By the clock


def carry_out(now: datetime | None = None) -> int:
    """End what is announced and due: passes are paid back, the shop closes, empty pools end it. Returns how many retired."""
    now = now or timezone.now()
    due = ListedModel.objects.filter(retire_from__lte=now, retired_at=None)
    retired = 0
    for model_id in list(due.order_by("retire_from").values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                retired += _end(model_id, now)
        except ledger.LedgerError:
            logger.exception("model %s cannot be retired", model_id)
    return retired


def _end(model_id: UUID, now: datetime) -> bool:
    model = _locked(ListedModel(pk=model_id))
    assert model.retire_from is not None  # it was chosen by that
    if model.retired_at is not None:
        return False
    if model.listed_at is not None:
        model.listed_at = None
        model.save(update_fields=["listed_at"])
        listings.announce_catalogue()
    _pay_passes_back(model)
    if not _has_ended(model, now):
        return False
    model.retired_at = now
    model.save(update_fields=["retired_at"])
    audit.record(None, "retire_model", f"model:{model.pk}")
    notifications.notify(model.owner, "model_retired", model=model.path)
    return True


def _pay_passes_back(model: ListedModel) -> None:
    """Each once, out of what was held; what is left of the hold goes back to the developer."""
    if model.retirement_hold_id is None:
        return
    assert model.retire_from is not None
    draws = []
    for sold in running_passes(model, from_=model.retire_from).filter(refund=None).select_related("buyer"):
        amount_nano = _pro_rata_nano(sold, model.retire_from)
        sold.ends_at = model.retire_from
        sold.save(update_fields=["ends_at"])
        if not amount_nano:
            continue
        refund = PassRefund.objects.create(access=sold, amount_nano=amount_nano, posting_id=ledger.new_id())
        posting = ledger.Posting(
            id=refund.posting_id,
            kind=ledger.Kind.REFUND,
            reference=f"access:{sold.pk}",
            moves=[ledger.Move(chart.wallet(model.owner_id), chart.wallet(sold.buyer_id), amount_nano)],
        )
        draws.append(ledger.Draw(hold_id=model.retirement_hold_id, posting=posting))
        notifications.notify(sold.buyer, "pass_refunded", amount_nano=str(amount_nano), model=model.path)
    ledger.draw(draws)
    ledger.close(model.retirement_hold_id)
    model.retirement_hold_id = None
    model.save(update_fields=["retirement_hold_id"])


def _has_ended(model: ListedModel, now: datetime) -> bool:
    """Whether nothing can come any more, and everything that came is paid."""
    assert model.retire_from is not None
    if now < model.retire_from + timedelta(seconds=LAST_CALLS_S):
        return False
    if model.training_runs.filter(status__in=[TrainingRun.Status.WAITING, TrainingRun.Status.RUNNING]).exists():
        return False
    if Epoch.objects.filter(model_id=model.pk).exclude(status=Epoch.Status.POSTED).exists():
        return False
    sources: tuple[chart.PoolFor, ...] = ("calls", "access", "training")
    parts: tuple[chart.PoolPart, ...] = ("data", "curation")
    pools = [chart.pool(model.pk, source, part) for source, part in product(sources, parts)]
    return all(balance.credited_nano == balance.debited_nano for balance in ledger.balances(pools).values())


def _pro_rata_nano(access: Access, from_: datetime) -> int:
    """The part of a pass's price that its time after `from_` is of all its time, in whole nano."""
    assert access.ends_at is not None  # a pass ends
    left = access.ends_at - max(from_, access.starts_at)
    return access.price_nano * (left // _MICROSECOND) // ((access.ends_at - access.starts_at) // _MICROSECOND)


def _locked(model: ListedModel) -> ListedModel:
    """The model's row, which the sale of a pass locks, too."""
    return ListedModel.objects.select_for_update(of=("self",)).select_related("owner").get(pk=model.pk)


def check_owner(model: ListedModel, user: User) -> None:
    """Raise NotAllowed for everybody but the owner."""
    if model.owner_id != user.pk:
        raise NotAllowed(_("Only the owner of a model may retire it."))
