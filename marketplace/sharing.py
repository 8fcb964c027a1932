"""Shared wallets: who is in, in which role, and the way in for money. Each has an owner; who is removed loses their keys."""

from __future__ import annotations

import secrets

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import chart
from ledger import services as ledger

from . import audit, keys, notifications, people, roles, transfers
from .errors import Invalid, NotAllowed, NotReady
from .models import ApiKey, Role, SharedWallet, WalletInvitation, WalletMember, WalletTransfer

WALLETS_MAX, MEMBERS_MAX, INVITATIONS_MAX = 20, 100, 100


@transaction.atomic
def create(*, name: str, by: User) -> SharedWallet:
    """Open a shared wallet, owned by who opens it. Raises: Invalid: no name, or too many wallets."""
    if not 0 < len(name.strip()) <= 80:
        raise Invalid(_("Give the wallet a name of 1 to 80 characters."))
    User.objects.select_for_update(no_key=True).get(pk=by.pk)
    if WalletMember.objects.filter(user=by, role=Role.OWNER, wallet__closed_at=None).count() >= WALLETS_MAX:
        raise Invalid(_("You own the most shared wallets that one account can."))
    account = User(username=f"{people.WALLET_PREFIX}{secrets.token_hex(6)}", is_wallet=True, display_name=name.strip())
    account.set_unusable_password()
    account.save()
    wallet = SharedWallet.objects.create(account=account, name=name.strip())
    WalletMember.objects.create(wallet=wallet, user=by, role=Role.OWNER)
    audit.record(by, "create_wallet", f"wallet:{wallet.pk}")
    return wallet


def of(person: User) -> QuerySet[WalletMember]:
    """Somebody's shared wallets, each with their role."""
    found = WalletMember.objects.filter(user=person, wallet__closed_at=None)
    return found.select_related("wallet__account").order_by("wallet__name", "pk")


# --- Invitations


@transaction.atomic
def invite(wallet: SharedWallet, *, address: str, role: Role, by: User) -> WalletInvitation:
    """Ask somebody to join, by handle or e-mail address. Nobody is told whether such an account exists; again is a new role.

    Raises:
        NotAllowed: not an owner. Invalid: no address, a member already, or too many.
    """
    roles.require_owner(wallet.account, by)
    address = address.strip().lstrip("@").lower()
    if not 0 < len(address) <= 254:
        raise Invalid(_("Give the handle or the e-mail address of a person."))
    if wallet.invitations.count() >= INVITATIONS_MAX or wallet.members.count() >= MEMBERS_MAX:
        raise Invalid(_("A wallet has at most %(most)s members.") % {"most": MEMBERS_MAX})
    if wallet.members.filter(user__username=address).exists():
        raise Invalid(_("This person is a member already. Change their role instead."))
    invitation, _is_new = WalletInvitation.objects.update_or_create(
        wallet=wallet,
        address=address,
        defaults={"role": role, "invited_by": by, "created_at": timezone.now()},
    )
    audit.record(by, "invite_to_wallet", f"wallet:{wallet.pk}", role=str(role))
    for invitee in _who_has(address):
        notifications.notify(invitee, "wallet_invited", url=notifications.without_language(reverse("wallets")))
    return invitation


def _who_has(address: str) -> QuerySet[User]:
    proved = EmailAddress.objects.filter(email__iexact=address, verified=True).values("user")
    return User.objects.filter(Q(username=address) | Q(pk__in=proved), is_active=True, is_wallet=False)


@transaction.atomic
def take_back(invitation: WalletInvitation, *, by: User) -> None:
    """Take an invitation back. Raises: NotAllowed."""
    roles.require_owner(invitation.wallet.account, by)
    invitation.delete()


def invitations_of(person: User) -> QuerySet[WalletInvitation]:
    """The invitations that somebody can accept: to their handle, or to an address that they have proved to be theirs."""
    addresses = EmailAddress.objects.filter(user=person, verified=True).values_list("email", flat=True)
    mine = [person.username, *(address.lower() for address in addresses)]
    found = WalletInvitation.objects.standing().filter(address__in=mine, wallet__closed_at=None)
    return found.select_related("wallet", "invited_by").order_by("created_at")


@transaction.atomic
def accept(invitation: WalletInvitation, *, by: User) -> WalletMember:
    """Join. Who is a member already keeps their role. Raises: NotAllowed: it is not to this person, or is gone."""
    SharedWallet.objects.select_for_update().get(pk=invitation.wallet_id)
    found = invitations_of(by).filter(pk=invitation.pk).first()
    if found is None or by.is_wallet:
        raise NotAllowed(_("This invitation is not yours, or was taken back."))
    member, _is_new = WalletMember.objects.get_or_create(
        wallet_id=found.wallet_id, user=by, defaults={"role": found.role}
    )
    found.delete()
    audit.record(by, "join_wallet", f"wallet:{member.wallet_id}", role=member.role)
    for owner in owners_of(member.wallet.account).exclude(pk=by.pk):
        notifications.notify(owner, "wallet_joined", wallet=member.wallet.name, by=by.username)
    return member


@transaction.atomic
def decline(invitation: WalletInvitation, *, by: User) -> None:
    """Say no. Raises: NotAllowed."""
    if not invitations_of(by).filter(pk=invitation.pk).exists():
        raise NotAllowed(_("This invitation is not yours, or was taken back."))
    invitation.delete()


# --- Members


def owners_of(account: User) -> QuerySet[User]:
    """The people who own the shared wallet of an account."""
    return User.objects.filter(wallet_roles__wallet__account=account, wallet_roles__role=Role.OWNER)


@transaction.atomic
def set_role(member: WalletMember, *, role: Role, by: User) -> WalletMember:
    """Give a member another role. Raises: NotAllowed; NotReady: they are the last owner."""
    roles.require_owner(member.wallet.account, by)
    member = WalletMember.objects.select_related("wallet__account").get(pk=member.pk)
    if role != Role.OWNER:
        _check_another_owner(member)
    member.role = role
    member.save(update_fields=["role"])
    if role == Role.VIEWER:
        _revoke_keys(member)
    audit.record(by, "set_wallet_role", f"wallet:{member.wallet_id}", user=member.user_id, role=str(role))
    return member


@transaction.atomic
def remove(member: WalletMember, *, by: User) -> None:
    """End a membership, by an owner, or by the member who leaves. Their keys on the wallet stop within a second.

    Raises: NotAllowed; NotReady: they are the last owner.
    """
    SharedWallet.objects.select_for_update().get(pk=member.wallet_id)
    member = WalletMember.objects.select_related("wallet__account").get(pk=member.pk)
    if member.user_id != by.pk and not roles.may_manage(member.wallet.account, by):
        raise NotAllowed(_("Only an owner of a wallet may do this."))
    _check_another_owner(member)
    _revoke_keys(member)
    audit.record(by, "remove_from_wallet", f"wallet:{member.wallet_id}", user=member.user_id)
    member.delete()


def _check_another_owner(member: WalletMember) -> None:
    """The row of the wallet is locked, so two owners who leave at once cannot both find the other."""
    others = member.wallet.members.filter(role=Role.OWNER).exclude(pk=member.pk)
    if member.role == Role.OWNER and not others.exists():
        raise NotReady(_("A wallet always has an owner. Make somebody else an owner first. Nothing was changed."))


def _revoke_keys(member: WalletMember) -> None:
    for key in ApiKey.objects.filter(owner=member.wallet.account, made_by=member.user, revoked_at=None):
        keys.stop(key, by=member.user)


# --- Money, and the end


@transaction.atomic
def transfer(wallet: SharedWallet, *, by: User, amount_nano: int, reference: str) -> WalletTransfer:
    """Move money from one's own wallet into a shared one. The same reference again moves nothing more.

    Raises:
        NotAllowed: not an owner or a spender. Invalid: the amount, the reference, or it was used for another transfer.
        ledger.InsufficientFunds: nothing was moved.
    """
    roles.require_spender(wallet.account, by)
    moved, is_new = transfers.once(WalletTransfer, user=by, amount_nano=amount_nano, reference=reference, wallet=wallet)
    if not is_new:
        return moved
    ledger.post(
        id=moved.posting_id,
        kind=ledger.Kind.WALLET_FUNDED,
        reference=f"wallet_transfer:{moved.pk}",
        moves=[ledger.Move(chart.wallet(by.pk), chart.wallet(wallet.account_id), amount_nano)],
    )
    audit.record(by, "fund_wallet", f"wallet:{wallet.pk}", amount_nano=str(amount_nano))
    return moved


@transaction.atomic
def close(wallet: SharedWallet, *, by: User) -> None:
    """End an empty wallet for good: its keys stop, and nobody is in it any more.

    Raises: NotAllowed; NotReady: money is left or on its way.
    """
    roles.require_owner(wallet.account, by)
    for key in ApiKey.objects.filter(owner=wallet.account, revoked_at=None):
        keys.stop(key, by=by)
    people.close_account(wallet.account)
    wallet.members.all().delete()
    wallet.invitations.all().delete()
    wallet.name, wallet.closed_at = "", timezone.now()
    wallet.save(update_fields=["name", "closed_at"])
    audit.record(by, "close_wallet", f"wallet:{wallet.pk}")


def leave_all(person: User) -> None:
    """End every membership of somebody whose account ends, and what they were asked to join.

    Raises: NotReady: they are the only owner of a wallet.
    """
    for member in of(person):
        remove(member, by=person)
    mine = Q(pk__in=invitations_of(person).values("pk")) | Q(invited_by=person)
    WalletInvitation.objects.filter(mine).delete()
