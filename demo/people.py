"""The cast of the demo. Everybody signs up the same way; what they are follows from what they do."""

from __future__ import annotations

import secrets
import string

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import Consent, User
from marketplace import people

# role in demo.json -> (handle, name shown)
CAST = {
    "contributor": ("alice", "Alice Moreau"),
    "contributor2": ("bob", "Bob Lindqvist"),
    "curator": ("carol", "Carol Nwosu"),
    "owner": ("olivia", "Olivia Brandt"),
    "developer": ("devi", "Devi Raman"),
    "buyer": ("dan", "Dan Okafor"),
    "admin": ("erin", "Erin Walsh"),
    "admin2": ("frank", "Frank Sorel"),
}
# Contributors whose behaviour the product has to find out by itself.
OTHERS = {"mallory": "Mallory Quist", "max": "Max Feldt", "jules": "Jules Perrin"}
ADMINS = ("erin", "frank")
ALPHABET = string.ascii_letters + string.digits


def person(handle: str) -> User:
    """Somebody of the cast."""
    return User.objects.get(username=handle)


def email_of(handle: str) -> str:
    return f"{handle}@openledger.test"


def create_all(passwords: dict[str, str]) -> None:
    """Create whoever does not exist yet, with a confirmed address and all agreements signed."""
    names = dict(CAST.values()) | OTHERS
    for handle, name in names.items():
        if not User.objects.filter(username=handle).exists():
            _create(handle, name, passwords.setdefault(handle, new_password()))


def new_password() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(20))


@transaction.atomic
def _create(handle: str, name: str, password: str) -> None:
    user = User.objects.create_user(
        username=handle,
        email=email_of(handle),
        password=password,
        display_name=name,
        is_staff=handle in ADMINS,
    )
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    for document in Consent.Document.values:
        people.give_consent(user, document)
