"""The token with which a program acts for a person on the site's API: kept as a hash, shown once, ended by time."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from accounts.models import ApiToken, User

from . import audit

VALID_FOR = timedelta(days=365)
# The last use is told to the hour: writing it at every request would make reading cost a write.
USE_TOLD_EVERY = timedelta(hours=1)


@transaction.atomic
def replace(user: User) -> tuple[ApiToken, str]:
    """Make a person's token; the one before ends. Returns it with its secret, which nobody can read again."""
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two clicks wait for each other
    ApiToken.objects.filter(user=user).delete()
    secret = secrets.token_urlsafe(32)
    token = ApiToken.objects.create(user=user, sha256=sha256(secret), expires_at=timezone.now() + VALID_FOR)
    audit.record(user, "create_token", f"user:{user.pk}")
    return token, secret


@transaction.atomic
def revoke(user: User) -> None:
    """End a person's token at once. Without one nothing happens."""
    if ApiToken.objects.filter(user=user).delete()[0]:
        audit.record(user, "revoke_token", f"user:{user.pk}")


def of(user: User) -> ApiToken | None:
    """A person's token, expired or not."""
    return ApiToken.objects.filter(user=user).first()


class ApiTokenAuthentication(TokenAuthentication):
    """`Authorization: Token <secret>`."""

    def authenticate_credentials(self, key):
        now = timezone.now()
        found = ApiToken.objects.select_related("user").filter(sha256=sha256(key), expires_at__gt=now).first()
        if found is None or not found.user.is_active:
            raise AuthenticationFailed(_("This token is not known, or it has ended."))
        if found.last_used_at is None or found.last_used_at < now - USE_TOLD_EVERY:
            ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
        return found.user, found


def sha256(secret: str) -> str:
    """Plain SHA-256 is enough: a secret of 256 random bits cannot be guessed from it."""
    return hashlib.sha256(secret.encode()).hexdigest()
