"""What people are told before it hurts: keys near their limits or their end, wallets that run low, earnings that came.

Read beside the paid path, every few seconds, of whatever was used lately. Each crossing is told once: a notification's
subject is unique (limits, ends, epochs), and a wallet is told of again only after new money has come in (WalletWatch).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Max, Min, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution.models import Epoch, Line
from ledger import chart
from ledger import services as ledger

from . import audit, notifications, roles
from .errors import Invalid
from .eventtypes import TYPE_OF_KIND
from .models import SUPPLY_NANO, ApiKey, Call, ListedModel, Notification, SharedWallet, WalletWatch, WebhookEndpoint

NEAR_PERCENT = 80
USED_LATELY = timedelta(days=1)
REFUSED_LATELY = timedelta(minutes=10)
EXPIRES_SOON = timedelta(days=3)
SETTLED_LATELY = timedelta(days=1)


# --- Keys


def tell_limits() -> int:
    """Tell whose keys have used 80 % of a spend cap, or all of it. Once per cap and period. Returns how many lines were new.

    A cap is also reached when a call was refused because less was left than it could cost.
    """
    return len(notifications.tell(list(_near_limits(timezone.now()))))


def tell_key_ends() -> int:
    """Tell whose keys end in three days, or have ended. Returns how many lines were new."""
    now = timezone.now()
    ending = ApiKey.objects.filter(revoked_at=None, replaced_until=None, is_playground=False)
    lines = []
    for key in ending.filter(expires_at__gt=now - notifications.NEWS_LASTS, expires_at__lte=now + EXPIRES_SOON):
        assert key.expires_at is not None  # it was chosen by that
        is_over = key.expires_at <= now
        if is_over or key.expires_at - key.created_at > EXPIRES_SOON:  # who made it for a day knows that
            kind = "key_expired" if is_over else "key_expiring"
            lines.append(_of_key(kind, key=key, subject=key.expires_at.isoformat()))
    return len(notifications.tell(lines))


def _near_limits(now: datetime) -> Iterator[Notification]:
    found = _counters(now)
    keys = ApiKey.objects.in_bulk({row[0] for row in found})
    short = _keys_refused(now)
    least: dict = {}
    for key_id, kind, _starts_on, most, used in found:
        least[key_id] = min(least.get(key_id, (most - used, kind)), (most - used, kind))
    for key_id, kind, starts_on, most, used in found:
        reached = used >= most or (key_id in short and least[key_id] == (most - used, kind))
        if reached or 100 * used >= NEAR_PERCENT * most:
            yield _of_key(
                "key_limit_reached" if reached else "key_limit_near",
                key=keys[key_id],
                subject=f"{kind} {starts_on} {most}",
                limit=kind,
                limit_nano=str(most),
                used_nano=str(used),
            )


def _counters(now: datetime) -> list[tuple]:
    """(key, kind, start, most, used) of the spend caps, in their running periods, of keys that were used lately.

    By the first key of those that replaced each other. What leases have used is counted, as it will be when they end.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT u.key_id, u.kind, u.starts_on, CASE u.kind WHEN 'day' THEN k.spend_cap_day_nano
                        WHEN 'month' THEN k.spend_cap_month_nano ELSE k.spend_cap_nano END,
                      u.used + coalesce(sum(l.used), 0)::bigint
               FROM marketplace_apikey k JOIN marketplace_keyuse u ON u.key_id = k.id
               LEFT JOIN marketplace_keylease l ON l.key_id = k.id AND l.use = 'spend'
                 AND CASE u.kind WHEN 'day' THEN l.day WHEN 'month' THEN date_trunc('month', l.day)::date
                     ELSE u.starts_on END = u.starts_on
               WHERE k.id IN (SELECT coalesce(limits_of_id, id) FROM marketplace_apikey WHERE last_used_at >= %s)
                 AND (u.kind = 'total' OR u.kind = 'day' AND u.starts_on = %s
                      OR u.kind = 'month' AND u.starts_on = %s)
               GROUP BY u.id, k.id""",
            [now - USED_LATELY, now.date(), now.date().replace(day=1)],
        )
        return cursor.fetchall()


def _keys_refused(now: datetime) -> set:
    """Whose caps refused a call lately: the keys that the caps are counted by."""
    keys = ApiKey.objects.filter(last_used_at__gte=now - USED_LATELY)
    refused = _refused(now, "spend_cap_reached").filter(key__in=keys.values("pk"))
    return {first or key_id for key_id, first in refused.values_list("key_id", "key__limits_of").distinct()}


def _refused(now: datetime, code: str) -> QuerySet[Call]:
    lately = Call.objects.filter(finished_at__gte=now - REFUSED_LATELY, status=Call.Status.REFUSED, error_code=code)
    return lately.order_by()


def _of_key(kind: str, *, key: ApiKey, subject: str, **params) -> Notification:
    """For who made the key, also where a shared wallet pays: it is their program that stops."""
    return Notification(
        user_id=key.made_by_id,
        kind=kind,
        subject=f"{key.pk} {subject}",
        params={"key": key.name, "key_id": str(key.pk), "prefix": key.prefix, **params},
        url=notifications.address_of("build_keys"),
    )


# --- Wallets


@transaction.atomic
def set_low_balance(account: User, *, low_nano: int | None, by: User) -> WalletWatch:
    """Say below which balance of a wallet its owners are told; None: of an empty one only.

    Raises:
        Invalid: the amount. NotAllowed: `by` is no owner of it.
    """
    roles.require_owner(account, by)
    if low_nano is not None and not 0 < low_nano <= SUPPLY_NANO:
        raise Invalid(_("Give an amount greater than 0, or leave it empty."))
    watch, _created = WalletWatch.objects.update_or_create(
        user=account, defaults={"low_nano": low_nano, "told_low": False}
    )
    audit.record(by, "set_low_balance", f"user:{account.pk}", low_nano=str(low_nano))
    return watch


def tell_balances() -> int:
    """Tell whose wallets have run below what they set, or are empty. Returns how many lines were new.

    Empty is a wallet with nothing in it, or one that did not cover a call. Told of what calls from keys do, and of
    wallets with a threshold.
    """
    now = timezone.now()
    spending = ApiKey.objects.filter(last_used_at__gte=now - USED_LATELY).values("owner_id")
    watched = User.objects.filter(Q(pk__in=spending) | Q(wallet_watch__low_nano__isnull=False), is_active=True)
    users = list(watched.values_list("pk", flat=True))
    balances = ledger.balances([chart.wallet(pk) for pk in users])
    refused = dict(
        _refused(now, "insufficient_balance")
        .filter(buyer__in=spending)
        .values_list("buyer_id")
        .annotate(at=Max("started_at"))  # it may be stored after money has come
    )
    known = WalletWatch.objects.in_bulk(users)
    told = 0
    for pk in users:
        balance, watch = balances[chart.wallet(pk)], known.get(pk)
        low_nano = (watch and watch.low_nano) or 0
        if watch is not None or balance.available_nano <= low_nano or pk in refused:
            told += _tell_balance(pk, balance, refused.get(pk))
    return told


@transaction.atomic
def _tell_balance(user_id: int, balance: ledger.Balance, refused_at: datetime | None) -> int:
    WalletWatch.objects.get_or_create(user_id=user_id, defaults={"armed_at": timezone.now() - REFUSED_LATELY})
    watch = WalletWatch.objects.select_for_update().get(user_id=user_id)
    before = (watch.told_low, watch.told_empty, watch.credited_nano)
    is_low = watch.low_nano is not None and balance.available_nano < watch.low_nano
    if balance.credited_nano > watch.credited_nano:  # money has come: what is short from now on is told again
        watch.told_low, watch.told_empty = watch.told_low and is_low, watch.told_empty and balance.available_nano <= 0
        if watch.credited_nano:
            watch.armed_at = timezone.now()
        watch.credited_nano = balance.credited_nano
    is_short = refused_at is not None and refused_at > watch.armed_at
    left_nano = balance.available_nano + balance.held_nano  # what gateways have leased pays calls, too
    is_empty = balance.credited_nano > 0 and (left_nano <= 0 or is_short)
    kinds = []
    if is_empty and not watch.told_empty:
        kinds, watch.told_empty, watch.told_low = ["balance_empty"], True, watch.low_nano is not None
    elif is_low and not watch.told_low:
        kinds, watch.told_low = ["balance_low"], True
    if (watch.told_low, watch.told_empty, watch.credited_nano) != before:
        watch.save()
    return len(notifications.tell([_of_wallet(kind, user_id=user_id, balance=balance) for kind in kinds]))


def _of_wallet(kind: str, *, user_id: int, balance: ledger.Balance) -> Notification:
    """For its owner; of a shared wallet, whose owners have others too, it names the wallet."""
    params, url = {"amount_nano": str(balance.available_nano)}, notifications.address_of("wallet")
    if shared := SharedWallet.objects.filter(account=user_id).first():
        params["wallet"], url = shared.name, notifications.address_of("shared_wallet", shared.pk)
    return Notification(user_id=user_id, kind=kind, url=url, params=params)


# --- Earnings


def tell_settled() -> int:
    """Tell programs of what epochs paid their people. Returns how many lines were new.

    Only webhooks are told: an inbox with a line for every epoch of every model would be read by nobody.
    """
    wanted = Q(events=[]) | Q(events__contains=[TYPE_OF_KIND["epoch_settled"]])
    since = dict(WebhookEndpoint.objects.filter(wanted).values_list("owner_id").annotate(since=Min("created_at")))
    posted = Epoch.objects.filter(posted_at__gte=timezone.now() - SETTLED_LATELY) if since else Epoch.objects.none()
    epochs = {epoch.pk: epoch for epoch in posted}
    paid = Line.objects.filter(epoch__in=epochs, payee__in=since).order_by()
    rows = paid.values_list("epoch_id", "payee_id").annotate(nano=Sum("amount_nano"))
    paths = _paths(epoch.model_id for epoch in epochs.values())
    lines = []
    for epoch_id, payee_id, nano in rows:
        epoch = epochs[epoch_id]
        if epoch.posted_at is not None and epoch.posted_at >= since[payee_id]:
            told = {"epoch_id": str(epoch_id), "number": epoch.number, "model": paths[epoch.model_id]}
            lines.append(
                Notification(
                    user_id=payee_id,
                    kind="epoch_settled",
                    subject=str(epoch_id),
                    is_silent=True,
                    params=told | {"amount_nano": str(nano)},
                    url=notifications.address_of("earnings"),
                )
            )
    return len(notifications.tell(lines))


def _paths(model_ids: Iterable) -> dict:
    found = ListedModel.objects.filter(pk__in=set(model_ids)).select_related("owner")
    return {model.pk: model.path for model in found}
