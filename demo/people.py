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


def new_passwords() -> dict[str, str]:
    return {handle: "".join(secrets.choice(ALPHABET) for _ in range(20)) for handle in _names()}


def create_all(passwords: dict[str, str]) -> None:
    """Create whoever does not exist yet, with a confirmed address and all agreements signed."""
    for handle, name in _names().items():
        if not User.objects.filter(username=handle).exists():
            _create(handle, name, passwords[handle])


def accounts(known: dict[str, str]) -> tuple[dict[str, str], dict[str, dict]]:
    """Passwords by handle, and what demo.json tells of each role: its address and its password.

    Somebody whose password is not known any more (the file was deleted) gets a new one. Who has left is left out.
    """
    passwords = new_passwords() | known
    present = {user.username: user for user in User.objects.filter(username__in=_names())}
    for handle in present.keys() - known.keys():
        present[handle].set_password(passwords[handle])
        present[handle].save(update_fields=["password"])
    users = {
        role: {"email": present[handle].email, "password": passwords[handle]}
        for role, (handle, _name) in CAST.items()
        if handle in present
    }
    return passwords, users


def _names() -> dict[str, str]:
    return dict(CAST.values()) | OTHERS


@transaction.atomic
def _create(handle: str, name: str, password: str) -> None:
    user = User.objects.create_user(
        username=handle,
        email=f"{handle}@openledger.test",
        password=password,
        display_name=name,
        is_staff=handle in ADMINS,
    )
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    for document in Consent.Document.values:
        people.give_consent(user, document)
