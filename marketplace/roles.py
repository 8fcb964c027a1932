"""Who may do what with a wallet. Everybody owns their own; of a shared one it is what their membership says."""

from __future__ import annotations

from django.db.models import Q
from django.utils.translation import gettext as _

from accounts.models import User

from .errors import NotAllowed
from .models import Role, SharedWallet, WalletMember


def role_in(account: User, person: User) -> Role | None:
    """Somebody's role in the wallet of an account: their own, or a shared one; None: no business of theirs."""
    if account.pk == person.pk:
        return Role.OWNER
    if not account.is_wallet:
        return None
    found = WalletMember.objects.filter(wallet__account=account, user=person, wallet__closed_at=None)
    role = found.values_list("role", flat=True).first()
    return Role(role) if role else None


def may_spend(account: User, person: User) -> bool:
    """Whether somebody may make keys on a wallet, and buy with it."""
    return role_in(account, person) in (Role.OWNER, Role.SPENDER)


def may_manage(account: User, person: User) -> bool:
    """Whether somebody may take money out of a wallet, and say who else may use it."""
    return role_in(account, person) is Role.OWNER


def require_spender(account: User, person: User) -> None:
    """Let nobody spend from a wallet who may not. Holds until the transaction ends: nobody is removed meanwhile.

    Raises: NotAllowed.
    """
    _lock(account)
    if not may_spend(account, person):
        raise NotAllowed(_("Only an owner or a spender of a wallet may do this."))


def require_owner(account: User, person: User) -> None:
    """As `require_spender`, for its owners. Raises: NotAllowed."""
    _lock(account)
    if not may_manage(account, person):
        raise NotAllowed(_("Only an owner of a wallet may do this."))


def _lock(account: User) -> None:
    if account.is_wallet:
        SharedWallet.objects.select_for_update().get(account=account)


def seen_accounts(person: User) -> list[int]:
    """The accounts whose passes and withdrawals somebody may see: their own, and wallets that they own or may look at."""
    mine = WalletMember.objects.filter(user=person, wallet__closed_at=None).exclude(role=Role.SPENDER)
    return [person.pk, *mine.values_list("wallet__account", flat=True)]


def bought_by(person: User, *, prefix: str = "") -> Q:
    """Which calls somebody may see as their buyer: their own; of a shared wallet all, or as a spender those of their keys.

    prefix: Of the relation from the filtered model to the call, such as "call__".
    """
    mine = WalletMember.objects.filter(user=person, wallet__closed_at=None)
    seeing = mine.exclude(role=Role.SPENDER).values("wallet__account")
    spending = mine.filter(role=Role.SPENDER).values("wallet__account")
    return (
        Q(**{f"{prefix}buyer": person})
        | Q(**{f"{prefix}buyer__in": seeing})
        | Q(**{f"{prefix}buyer__in": spending, f"{prefix}key__made_by": person})
    )
