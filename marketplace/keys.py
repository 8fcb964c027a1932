"""API keys: made once, shown once, stored as a hash, revoked within a second."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import audit, keyformat
from .errors import Invalid, NotAllowed, NotReady
from .models import SCOPES, ApiKey, ListedModel

KEYS_MAX = 50


@transaction.atomic
def create(
    *,
    owner: User,
    name: str,
    spend_cap_nano: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    expires_at: datetime | None = None,
    scopes: Iterable[str] = SCOPES,
    models: Iterable[ListedModel] = (),
    is_playground: bool = False,
) -> tuple[ApiKey, str]:
    """Create a key and return it with its secret, which nobody can read again.

    Raises:
        Invalid: it has no name, may do nothing, a limit is not positive, it would expire in the past, or the owner has
            too many.
    """
    if not name.strip():
        raise Invalid(_("Give the key a name, so that you know later what uses it."))
    if not (chosen := sorted(set(scopes))) or not set(chosen) <= set(SCOPES):
        raise Invalid(_("Choose what the key may do."))
    limits = (spend_cap_nano, requests_per_minute, tokens_per_minute)
    if any(limit is not None and limit <= 0 for limit in limits):
        raise Invalid(_("A limit is greater than 0. Leave it empty for none."))
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(_("The key would have expired already. Choose a later date."))
    if ApiKey.objects.filter(owner=owner, revoked_at__isnull=True).count() >= KEYS_MAX:
        raise Invalid(_("You have the most keys one account can hold. Revoke one first."))
    secret = keyformat.new_secret()
    key = ApiKey.objects.create(
        owner=owner,
        name=name.strip(),
        sha256=keyformat.digest(secret),
        prefix=keyformat.shown_prefix(secret),
        spend_cap_nano=spend_cap_nano,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        expires_at=expires_at,
        scopes=chosen,
        is_playground=is_playground,
    )
    key.allowed_models.set(models)
    audit.record(owner, "create_key", f"key:{key.pk}")
    return key, secret


@transaction.atomic
def replace(key: ApiKey, *, by: User) -> tuple[ApiKey, str]:
    """Make a key with the same name, rights and limits, and stop the old one at once. What was spent counts anew.

    Raises:
        NotAllowed: somebody else's key. NotReady: it does not work any more, or was made by a page for itself.
    """
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.owner_id != by.pk:
        raise NotAllowed(_("Only the owner of a key may replace it."))
    now = timezone.now()
    if key.revoked_at is not None or (key.expires_at and key.expires_at <= now) or key.is_playground:
        raise NotReady(_("Only a key that works can be replaced. Make a new one."))
    revoke(key, by=by)
    return create(
        owner=by,
        name=key.name,
        spend_cap_nano=key.spend_cap_nano,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        expires_at=key.expires_at,
        scopes=key.scopes,
        models=key.allowed_models.all(),
    )


@transaction.atomic
def revoke(key: ApiKey, *, by: User) -> ApiKey:
    """Stop a key. The gateways hear of it when this commits; revoking twice changes nothing."""
    if key.owner_id != by.pk and not by.is_staff:
        raise NotAllowed(_("Only the owner of a key may revoke it."))
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        audit.record(by, "revoke_key", f"key:{key.pk}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('openledger_keys', %s)", [str(key.pk)])
    return key
