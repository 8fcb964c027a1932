"""Who somebody is to the shop: what they may administer, what they agreed to, and how they leave."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from accounts.models import ApiToken, Consent, User
from attribution.models import NoiseCase
from datanets import relations
from datanets import thefts as datanet_thefts
from ledger import chart
from ledger import services as ledger

from . import audit, disputes, keys, noise_cases, pricing, sharing, thefts
from .errors import NotReady
from .models import (
    ApiKey,
    Deposit,
    Dispute,
    ListedModel,
    Notification,
    PayoutDestination,
    Role,
    WalletMember,
    WalletWatch,
    WebhookEndpoint,
    Withdrawal,
)

# The beginning of the handles of closed accounts; nobody can choose one (accounts_adapter).
CLOSED_PREFIX = "closed-"
# And of those of shared wallets, which follow it by chance.
WALLET_PREFIX = "wallet-"

# --- The second factor


def needs_second_factor(user: User) -> bool:
    """Admins, whoever decides over records (curators and owners of Datanets), and whoever a payout destination pays out for."""
    return User.objects.filter(_is_trusted(), pk=user.pk).exists()


def lacks_second_factor(user: User) -> bool:
    """Whether a person must still enrol an authenticator app or a passkey. One query."""
    enrolled = Authenticator.objects.filter(user=OuterRef("pk"), type__in=_SECOND_FACTORS)
    return User.objects.filter(_is_trusted(), ~Exists(enrolled), pk=user.pk).exists()


# Recovery codes are no factor of their own: they stand in for a lost one.
_SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


def _is_trusted() -> Q:
    decides = relations.curating().filter(user=OuterRef("pk"))
    is_paid = PayoutDestination.objects.filter(user=OuterRef("pk"))
    pays_out = WalletMember.objects.filter(
        user=OuterRef("pk"), role=Role.OWNER, wallet__account__payout_destination__isnull=False
    )
    return Q(is_staff=True) | Q(Exists(decides)) | Q(Exists(is_paid)) | Q(Exists(pays_out))


# --- Consent


def give_consent(user: User, document: Consent.Document | str) -> Consent:
    """Log that a person agreed to the current version of a document. Repeating changes nothing."""
    version, text = document_text(document)
    consent, _created = Consent.objects.get_or_create(
        user=user,
        document=document,
        version=version,
        defaults={"text_sha256": hashlib.sha256(text.encode()).hexdigest()},
    )
    return consent


def has_consented(user: User, document: Consent.Document | str) -> bool:
    """Whether a person agreed to the version that is in force now."""
    return Consent.objects.filter(user=user, document=document, version=document_text(document)[0]).exists()


def agreed_to_older_terms(user: User) -> bool:
    """Whether a person agreed to the terms once, but not to the version in force. One query: it runs before every page."""
    versions = Consent.objects.filter(user=user, document=Consent.Document.TERMS).values_list("version", flat=True)
    agreed = set(versions)
    return bool(agreed) and settings.TERMS_VERSION not in agreed


def document_text(document: Consent.Document | str) -> tuple[str, str]:
    """The version in force and the English text, which is the one that binds."""
    version = (
        settings.CONTRIBUTOR_AGREEMENT_VERSION if document == Consent.Document.CONTRIBUTOR else settings.TERMS_VERSION
    )
    path = settings.BASE_DIR / "docs" / "legal" / f"{document}-{version}.md"
    return version, path.read_text(encoding="utf-8")


# --- Addresses


@transaction.atomic
def release_address(email: str, *, owner: User) -> None:
    """Take a just confirmed address from accounts that claimed it and never confirmed it."""
    EmailAddress.objects.filter(email__iexact=email, verified=False).exclude(user=owner).delete()
    confirmed = EmailAddress.objects.filter(user=OuterRef("pk"), email__iexact=email, verified=True)
    User.objects.filter(~Exists(confirmed), email__iexact=email).exclude(pk=owner.pk).update(email="")


# --- Leaving


@transaction.atomic
def close_account(user: User) -> User:
    """End an account for good: keys and sessions stop, nobody can sign in, and the name is gone from every page.

    Records, receipts and the books stay: they name the account by its number. Closing twice changes nothing.

    Raises:
        NotReady: money is left or on its way, a model is still offered, or a shared wallet would have no owner.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    if not user.is_active:
        return user
    _check_nothing_is_left(user)
    for key in ApiKey.objects.filter(owner=user, revoked_at__isnull=True):
        keys.revoke(key, by=user)
    for session in UserSession.objects.filter(user=user):
        session.end()
    ApiToken.objects.filter(user=user).delete()
    Authenticator.objects.filter(user=user).delete()
    EmailAddress.objects.filter(user=user).delete()
    PayoutDestination.objects.filter(user=user).delete()
    WebhookEndpoint.objects.filter(owner=user).delete()
    WalletWatch.objects.filter(user=user).delete()
    disputes.forget_words_of(user)
    sharing.leave_all(user)
    thefts.forget_words_of(user)
    noise_cases.forget_words_of(user)
    _forget_news_that_names(user)
    _forget_who_it_was(user)
    audit.record(user, "close_account", f"user:{user.pk}")
    return user


def identity_of(user: User) -> dict[str, Any]:
    """What is kept about how a person signs in and is paid: for the export of everything we hold.

    Secrets are named and dated, never shown: passwords, TOTP secrets and passkeys are of no use outside this site.
    """
    destination = PayoutDestination.objects.filter(user=user).first()
    return {
        "email_addresses": list(EmailAddress.objects.filter(user=user).values("email", "verified", "primary")),
        "second_factors": list(Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at")),
        "sessions": list(
            UserSession.objects.filter(user=user).values("ip", "user_agent", "created_at", "last_seen_at")
        ),
        "last_login": user.last_login,
        "payout_destination": destination
        and {"kind": destination.kind, "hint": destination.hint, "set_at": destination.set_at},
    }


def _check_nothing_is_left(user: User) -> None:
    balances = ledger.balances([chart.wallet(user.pk), chart.pending(user.pk), chart.promotion(user.pk)])
    left_nano = sum(balance.available_nano + balance.held_nano for balance in balances.values())
    if left_nano:
        raise NotReady(
            _("There are %(amount)s OPEN in your accounts. Withdraw or spend them first. Nothing was closed.")
            % {"amount": pricing.nano_to_open(left_nano)}
        )
    ended = [Withdrawal.Status.CONFIRMED, Withdrawal.Status.RETURNED, Withdrawal.Status.CANCELLED]
    if Withdrawal.objects.filter(user=user).exclude(status__in=ended).exists():
        raise NotReady(_("A withdrawal is on its way. Close the account once it has arrived. Nothing was closed."))
    if Deposit.objects.filter(user=user, status=Deposit.Status.WAITING).exists():
        raise NotReady(_("A deposit waits for its second approval. Nothing was closed."))
    about_records = datanet_thefts.of_party(user).filter(ended_at=None)
    noise = NoiseCase.objects.filter(contributor=user, ended_at=None)
    if disputes.seen_by(user).filter(status__in=Dispute.STANDING).exists() or about_records.exists() or noise.exists():
        raise NotReady(_("A dispute of yours has not ended. Nothing was closed."))
    if ListedModel.objects.filter(owner=user, listed_at__isnull=False, retired_at__isnull=True).exists():
        raise NotReady(_("A model of yours is still offered. Take it off the list first. Nothing was closed."))


def _forget_news_that_names(user: User) -> None:
    """Delete the lines of other inboxes that say a name which is given up."""
    handle = user.username
    named = Q(params__by=handle) | Q(params__buyer=handle) | Q(url__contains=f"/{handle}/")
    for path in ("model", "datanet"):
        named |= Q(**{f"params__{path}__startswith": f"{handle}/"})
    Notification.objects.filter(named).exclude(user=user).delete()


def _forget_who_it_was(user: User) -> None:
    user.username = f"{CLOSED_PREFIX}{secrets.token_hex(6)}"
    user.email = user.display_name = user.organisation = user.first_name = user.last_name = ""
    user.is_active = user.is_staff = user.is_superuser = False
    user.set_unusable_password()
    user.save()
    # A model's page names the key that it makes for itself after the model, and so after its owner.
    for model in ListedModel.objects.filter(owner=user).select_related("owner"):
        ApiKey.objects.filter(is_playground=True, allowed_models=model).update(name=model.path)
