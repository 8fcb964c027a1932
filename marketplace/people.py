"""Who somebody is to the shop: what they may administer, and what they agreed to."""

from __future__ import annotations

import hashlib

from django.conf import settings

from accounts.models import Consent, User
from datanets.models import Membership

from .models import PayoutDestination


def needs_second_factor(user: User) -> bool:
    """Admins, curators and whoever has set a payout destination (design of security)."""
    return (
        user.is_staff
        or Membership.objects.filter(user=user, role=Membership.Role.CURATOR).exists()
        or PayoutDestination.objects.filter(user=user).exists()
    )


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


def document_text(document: Consent.Document | str) -> tuple[str, str]:
    """The version in force and the English text, which is the one that binds."""
    version = (
        settings.CONTRIBUTOR_AGREEMENT_VERSION if document == Consent.Document.CONTRIBUTOR else settings.TERMS_VERSION
    )
    path = settings.BASE_DIR / "docs" / "legal" / f"{document}-{version}.md"
    return version, path.read_text(encoding="utf-8")
