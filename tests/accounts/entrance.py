"""How the tests of accounts come in: the same forms a person fills, and the letters they get."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time

from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts.models import User

PASSWORD = "wren nests in the wall 7"


def sign_up_fields(handle: str = "alice", **fields: str) -> dict[str, str]:
    return {
        "email": f"{handle}@example.org",
        "username": handle,
        "password1": PASSWORD,
        "terms": "on",
    } | fields


def member(handle: str = "alice", **fields) -> User:
    """Somebody whose address is confirmed and who knows PASSWORD."""
    user = User.objects.create_user(username=handle, email=f"{handle}@example.org", password=PASSWORD, **fields)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def sign_in(client: Client, user: User, password: str = PASSWORD, **fields: str):
    return client.post("/accounts/login/", {"login": user.email, "password": password, **fields})


def reauthenticate(client: Client) -> None:
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def link_in(message: mail.EmailMessage) -> str:
    """The path of the only address in a letter."""
    (found,) = re.findall(r"https?://[^/\s]+(/accounts/\S+)", message.body)
    return found


def code_of(secret: str, *, at: float | None = None) -> str:
    """The six figures an authenticator app shows (RFC 6238: SHA-1, 30 seconds)."""
    counter = int((at or time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", counter), hashlib.sha1)
    offset = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 10**6:06}"


def enrol_app(client: Client) -> str:
    """Set up an authenticator app. Returns its secret."""
    reauthenticate(client)
    client.get("/accounts/2fa/totp/activate/")
    secret = client.session["mfa.totp.secret"]
    answer = client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)})
    assert answer.status_code == 302, answer.content
    return secret
