"""Who may call a model: anybody (open), whoever bought a pass, whoever was invited."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, charges, listings, notifications, roles
from .errors import NotAllowed, NotReady
from .models import Access, ApiKey, ListedModel


def running(model: ListedModel, user: User) -> QuerySet[Access]:
    """The accesses of a person to a model that hold now."""
    now = timezone.now()
    return Access.objects.filter(model=model, buyer=user, revoked_at__isnull=True, starts_at__lte=now).filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=now)
    )


def users_of(model: ListedModel) -> QuerySet[User]:
    """Who relies on a model besides its owner: who has access to it that was bought or given, or a key that names it."""
    now = timezone.now()
    has_access = model.accesses.filter(Q(ends_at=None) | Q(ends_at__gt=now), revoked_at=None)
    naming = ApiKey.objects.working().filter(allowed_models=model, is_playground=False)
    relying = Q(pk__in=has_access.values("buyer_id")) | Q(pk__in=naming.values("owner_id"))
    return User.objects.filter(relying, is_active=True).exclude(pk=model.owner_id)


def may_call(user: User, model: ListedModel) -> bool:
    """Whether a person may call a model now. Its owner may until it retires, at the list price."""
    if model.takes_no_calls:
        return False
    if model.owner_id == user.pk:
        return True
    if model.listed_at is None or model.retired_at is not None:
        return False
    return model.access_mode == ListedModel.AccessMode.OPEN or running(model, user).exists()


@transaction.atomic
def buy_pass(model: ListedModel, *, buyer: User, by: User | None = None) -> Access:
    """Sell a pass: charge its price by the model's rule and let the buyer call from now on.

    Buying again while a pass runs is refused, so that a double click is paid once.

    Args:
        buyer, by: Whose wallet pays and whose keys may call, and (of a shared wallet) the member who buys.

    Raises:
        NotAllowed: they may not spend from it.
        NotReady: the model sells no pass, or a pass is running already.
        ledger.InsufficientFunds: the wallet holds less than the price. Nothing was charged.
    """
    roles.require_spender(buyer, by or buyer)
    # The row of the model is the lock that makes two clicks wait for each other.
    model = ListedModel.objects.select_for_update(of=("self",)).select_related("owner", "split_rule").get(pk=model.pk)
    if model.access_mode != ListedModel.AccessMode.PASS or model.listed_at is None:
        raise NotReady(_("This model sells no pass."))
    if model.retire_from is not None:
        raise NotReady(_("This model retires soon and sells no pass any more. Nothing was charged."))
    if running(model, buyer).exists():
        raise NotReady(_("Your pass is still running. Nothing was charged."))
    version = model.versions.latest("number")
    now = timezone.now()
    posting_id = ledger.new_id()
    access = Access.objects.create(
        model=model,
        buyer=buyer,
        mode=Access.Mode.PASS,
        price_nano=model.pass_price_nano or 0,
        split_rule=model.split_rule,
        posting_id=posting_id,
        starts_at=now,
        ends_at=now + timedelta(days=model.pass_days or 0),
    )
    if access.price_nano:
        charge = charges.build(
            id=posting_id,
            kind=ledger.Kind.ACCESS_CHARGED,
            reference=f"access:{access.pk}",
            payer=chart.wallet(buyer.pk),
            version=version,
            rule=model.split_rule,
            amount_nano=access.price_nano,
            pool="access",
            private={"buyer": chart.wallet(buyer.pk)},
        )
        ledger.post_many([charge])
        charges.ring_attribution(charge, source="access", version=version, rule=model.split_rule)
    listings.announce_catalogue()
    notifications.notify(model.owner, "pass_sold", model=model.path, buyer=buyer.username)
    return access


@transaction.atomic
def invite(model: ListedModel, *, by: User, buyer: User) -> Access:
    """Let a person call an invite model. Inviting twice changes nothing."""
    if model.owner_id != by.pk:
        raise NotAllowed(_("Only the owner of a model may invite to it."))
    if model.access_mode != ListedModel.AccessMode.INVITE:
        raise NotReady(_("This model is not by invitation."))
    ListedModel.objects.select_for_update().get(pk=model.pk)
    access = running(model, buyer).first()
    if access is None:
        access = Access.objects.create(model=model, buyer=buyer, mode=Access.Mode.INVITE)
        listings.announce_catalogue()
        notifications.notify(buyer, "invited", model=model.path)
    return access


@transaction.atomic
def revoke_invitation(access: Access, *, by: User) -> Access:
    """End an invitation. A bought pass cannot be revoked."""
    if access.model.owner_id != by.pk or access.mode != Access.Mode.INVITE:
        raise NotAllowed(_("Only an invitation can be ended, by the owner of the model."))
    if access.revoked_at is None:
        access.revoked_at = timezone.now()
        access.save(update_fields=["revoked_at"])
        audit.record(by, "revoke_invitation", f"access:{access.pk}")
        listings.announce_catalogue()
    return access
