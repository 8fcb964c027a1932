"""API keys: made once, shown once, stored as a hash, revoked within a second."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import audit, keyformat, notifications, origins, roles
from .errors import Invalid, NotAllowed, NotReady
from .models import (
    CALLS_AT_ONCE,
    CALLS_AT_ONCE_MAX,
    CONTENT_DAYS_MAX,
    ORIGIN_CHARS_MAX,
    SCOPES,
    SUPPLY_NANO,
    TEST_REQUESTS_PER_MINUTE_MAX,
    ApiKey,
    ListedModel,
    Role,
    WalletMember,
)

KEYS_MAX = 50
ORIGINS_MAX = 20
CAPS = ("spend_cap_nano", "spend_cap_day_nano", "spend_cap_month_nano")
LIMITS = (
    *CAPS,
    "requests_per_minute",
    "tokens_per_minute",
    "calls_at_once",
)  # what keys that replaced each other share
OVERLAPS_S = (
    0,
    3600,
    86_400,
    604_800,
)  # for how long a replaced key may still work: its programs change over meanwhile


@transaction.atomic
def create(
    *,
    owner: User,
    made_by: User | None = None,
    name: str,
    spend_cap_nano: int | None = None,
    spend_cap_day_nano: int | None = None,
    spend_cap_month_nano: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    calls_at_once: int = CALLS_AT_ONCE,
    content_days: int = CONTENT_DAYS_MAX,
    expires_at: datetime | None = None,
    scopes: Iterable[str] = SCOPES,
    models: Iterable[ListedModel] = (),
    allowed_origins: Iterable[str] = (),
    is_playground: bool = False,
    is_test: bool = False,
) -> tuple[ApiKey, str]:
    """Create a key and return it with its secret, which nobody can read again.

    Args:
        owner: Whose wallet it spends from: a person, or the account of a shared wallet.
        made_by: The person who makes it; the owner by default.
        content_days: For how long questions and answers of its calls are kept, sealed; 0: until they are attributed.
        is_test: It spends test money only. A test key has a limit of requests in any case: nobody pays for its calls.

    Raises:
        NotAllowed: who makes it may not spend from that wallet.
        Invalid: it has no name, may do nothing, a limit is not positive, an origin is none, it would expire in the past, or
            the owner has too many.
    """
    made_by = made_by or owner
    roles.require_spender(owner, made_by)
    fields = _checked(
        is_test=is_test,
        name=name,
        spend_cap_nano=spend_cap_nano,
        spend_cap_day_nano=spend_cap_day_nano,
        spend_cap_month_nano=spend_cap_month_nano,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        calls_at_once=calls_at_once,
        content_days=content_days,
        expires_at=expires_at,
        scopes=scopes,
        allowed_origins=allowed_origins,
    )
    if ApiKey.objects.filter(owner=owner, revoked_at=None, replaced_until=None).count() >= KEYS_MAX:
        raise Invalid(_("You have the most keys one account can hold. Revoke one first."))
    secret = keyformat.new_secret(is_test=is_test)
    key = ApiKey.objects.create(
        owner=owner,
        made_by=made_by,
        sha256=keyformat.digest(secret),
        prefix=keyformat.shown_prefix(secret),
        is_playground=is_playground,
        is_test=is_test,
        **fields,
    )
    key.allowed_models.set(models)
    audit.record(made_by, "create_key", f"key:{key.pk}")
    return key, secret


@transaction.atomic
def change(
    key: ApiKey,
    *,
    by: User,
    name: str,
    spend_cap_nano: int | None,
    spend_cap_day_nano: int | None,
    spend_cap_month_nano: int | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    calls_at_once: int,
    content_days: int,
    expires_at: datetime | None,
    scopes: Iterable[str],
    models: Iterable[ListedModel],
    allowed_origins: Iterable[str],
) -> list[str]:
    """Give a key other limits, rights or another name; its secret stays. The gateways hear of it when this commits.

    Keys that replaced each other share their limits, so these change for all of them. A cap counts what was spent before it
    was set, in its period; one below that refuses every call. The same again changes nothing.

    Returns:
        The names of the fields that are different now; `key` holds their new values.

    Raises:
        NotAllowed: somebody else's key. NotReady: it does not work any more, or was made by a page for itself.
        Invalid: as of `create`.
    """
    if not may_use(key, by):
        raise NotAllowed(_("Only the owner of a key may change it."))
    first_id = key.limits_of_id or key.pk
    same_limits = ApiKey.objects.filter(Q(pk=first_id) | Q(limits_of=first_id))
    with connection.cursor() as cursor:
        cursor.execute("SELECT gateway_stop_captures(%s)", [first_id])
    # The weaker lock: whoever leases of the limits keeps the key from vanishing, and waits for nobody.
    list(same_limits.select_for_update(no_key=True).order_by("pk"))
    key.refresh_from_db()
    if key.is_playground or not ApiKey.objects.working().filter(pk=key.pk).exists():
        raise NotReady(_("Only a key that works can be changed. Make a new one."))
    wanted = _checked(
        is_test=key.is_test,
        name=name,
        spend_cap_nano=spend_cap_nano,
        spend_cap_day_nano=spend_cap_day_nano,
        spend_cap_month_nano=spend_cap_month_nano,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        calls_at_once=calls_at_once,
        content_days=content_days,
        expires_at=expires_at,
        scopes=scopes,
        allowed_origins=allowed_origins,
    )
    changed = [field for field, value in wanted.items() if getattr(key, field) != value]
    for field in changed:
        setattr(key, field, wanted[field])
    key.save(update_fields=changed)
    limits = {field: wanted[field] for field in changed if field in LIMITS}
    if limits:
        same_limits.update(**limits)
    if set(changed) & set(CAPS):
        with connection.cursor() as cursor:
            cursor.execute("SELECT gateway_recount_key(%s)", [first_id])
    chosen = {model.pk for model in models}
    if chosen != set(key.allowed_models.values_list("pk", flat=True)):
        key.allowed_models.set(ListedModel.objects.filter(pk__in=chosen))
        changed.append("models")
    if changed:
        told = {field: str(limits[field]) if field in limits else "(changed)" for field in changed}
        audit.record(by, "change_key", f"key:{key.pk}", **told)
        _tell_gateways(first_id)
    return changed


@transaction.atomic
def replace(key: ApiKey, *, by: User, overlap_s: int = 0) -> tuple[ApiKey, str]:
    """Make a key with the same name, rights and limits. The old one works for `overlap_s` more, or stops at once.

    Both count on the same limits, and what was spent stays spent: replacing a key is no way around its caps.

    Raises:
        NotAllowed: somebody else's key. NotReady: it does not work any more, is replaced already, or was made by a page for
            itself. Invalid: it cannot go on for that long.
    """
    key = ApiKey.objects.select_for_update(of=("self",)).select_related("owner").get(pk=key.pk)
    if not may_use(key, by):
        raise NotAllowed(_("Only the owner of a key may replace it."))
    if overlap_s not in OVERLAPS_S:
        raise Invalid(_("Choose for how long the old key goes on working."))
    now = timezone.now()
    is_over = key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)
    if is_over or key.replaced_until is not None or key.is_playground:
        raise NotReady(_("Only a key that works can be replaced. Make a new one."))
    if overlap_s:
        key.replaced_until = now + timedelta(seconds=overlap_s)
        key.save(update_fields=["replaced_until"])
        audit.record(by, "replace_key", f"key:{key.pk}", overlap_s=overlap_s)
        _tell_gateways(key.pk)
    else:
        revoke(key, by=by)
    new, secret = create(
        owner=key.owner,
        made_by=by,
        name=key.name,
        spend_cap_nano=key.spend_cap_nano,
        spend_cap_day_nano=key.spend_cap_day_nano,
        spend_cap_month_nano=key.spend_cap_month_nano,
        requests_per_minute=key.requests_per_minute,
        tokens_per_minute=key.tokens_per_minute,
        calls_at_once=key.calls_at_once,
        content_days=key.content_days,
        expires_at=key.expires_at,
        scopes=key.scopes,
        models=key.allowed_models.all(),
        allowed_origins=key.allowed_origins,
        is_test=key.is_test,
    )
    new.limits_of_id = key.limits_of_id or key.pk
    new.save(update_fields=["limits_of"])
    notifications.notify(
        by,
        "key_replaced",
        url=notifications.address_of("build_keys"),
        key=key.name,
        key_id=str(key.pk),
        prefix=key.prefix,
        new_key_id=str(new.pk),
        until=(key.replaced_until or now).isoformat(),
    )
    return new, secret


@transaction.atomic
def revoke(key: ApiKey, *, by: User) -> ApiKey:
    """Stop a key. The gateways hear of it when this commits; revoking twice changes nothing."""
    if not may_use(key, by) and not by.is_staff:
        raise NotAllowed(_("Only the owner of a key may revoke it."))
    return stop(key, by=by)


@transaction.atomic
def stop(key: ApiKey, *, by: User) -> ApiKey:
    """Stop a key of somebody who may not have it any more, whoever says so. Otherwise as `revoke`."""
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        audit.record(by, "revoke_key", f"key:{key.pk}")
        _tell_gateways(key.pk)
    return key


def may_use(key: ApiKey, person: User) -> bool:
    """Whether a key is somebody's to change, replace or revoke: made by themselves, or on a wallet that they own."""
    role = roles.role_in(key.owner, person)
    return role is Role.OWNER or (role is Role.SPENDER and key.made_by_id == person.pk)


def of(person: User) -> QuerySet[ApiKey]:
    """The keys that `may_use` says yes to."""
    mine = WalletMember.objects.filter(user=person, wallet__closed_at=None)
    owned = mine.filter(role=Role.OWNER).values("wallet__account")
    spending = mine.filter(role=Role.SPENDER).values("wallet__account")
    return ApiKey.objects.filter(Q(owner=person) | Q(owner__in=owned) | Q(owner__in=spending, made_by=person))


def _checked(
    *,
    is_test: bool,
    name: str,
    calls_at_once: int,
    content_days: int,
    expires_at: datetime | None,
    scopes: Iterable[str],
    allowed_origins: Iterable[str],
    **limits: int | None,
) -> dict[str, Any]:
    """The columns of a key with these values. Raises Invalid."""
    if not name.strip():
        raise Invalid(_("Give the key a name, so that you know later what uses it."))
    if not (chosen := sorted(set(scopes))) or not set(chosen) <= set(SCOPES):
        raise Invalid(_("Choose what the key may do."))
    if any(limit is not None and not 0 < limit <= SUPPLY_NANO for limit in limits.values()):
        raise Invalid(_("A limit is greater than 0. Leave it empty for none."))
    if is_test:
        per_minute = limits["requests_per_minute"] or TEST_REQUESTS_PER_MINUTE_MAX
        limits["requests_per_minute"] = per_minute
        if per_minute > TEST_REQUESTS_PER_MINUTE_MAX:
            raise Invalid(
                _("A test key makes at most %(most)s requests per minute.") % {"most": TEST_REQUESTS_PER_MINUTE_MAX}
            )
    if not 1 <= calls_at_once <= CALLS_AT_ONCE_MAX:
        raise Invalid(_("A key runs 1 to %(most)s calls at once.") % {"most": CALLS_AT_ONCE_MAX})
    if not 0 <= content_days <= CONTENT_DAYS_MAX:
        raise Invalid(_("What calls say is kept for 0 to %(most)s days.") % {"most": CONTENT_DAYS_MAX})
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid(_("The key would have expired already. Choose a later date."))
    return {
        "name": name.strip(),
        **limits,
        "calls_at_once": calls_at_once,
        "content_days": content_days,
        "expires_at": expires_at,
        "scopes": chosen,
        "allowed_origins": _origins(allowed_origins),
    }


def _origins(given: Iterable[str]) -> list[str]:
    found = set()
    for text in given:
        try:
            origin = origins.normalised(text)
        except ValueError:
            origin = ""
        if not 0 < len(origin) <= ORIGIN_CHARS_MAX:
            wrong = _("%(text)s is no origin of a page. Write it like https://app.example.org, without a path.")
            raise Invalid(wrong % {"text": text[:ORIGIN_CHARS_MAX]})
        found.add(origin)
    if len(found) > ORIGINS_MAX:
        raise Invalid(_("A key has at most %(most)s origins.") % {"most": ORIGINS_MAX})
    return sorted(found)


def _tell_gateways(key_id: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('openledger_keys', %s)", [str(key_id)])
