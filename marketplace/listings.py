"""Models in the shop: create, change, price, list, retire, find."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.requests import Visitor

from . import audit, outbound, pricing, proposals, rules
from .errors import Invalid, NotAllowed, NotReady
from .models import FALLBACKS_MAX, FREE_CALLS_MAX, Fallback, ListedModel, ModelVersion, PriceList, SplitRule

MODEL_PATH = re.compile(r"^(?P<owner>[a-z0-9-]{1,40})/(?P<slug>[a-z0-9-]{1,60})(?:@v(?P<number>[1-9]\d{0,5}))?$")
UPSTREAM_KEY_CHARS_MAX = 300
PRICE_NANO_MAX = 10**15  # a million OPEN per token is a typing error


@dataclass(frozen=True)
class FallbackWanted:
    """An address that answers in place of a model's own. Without a key: the one stored for
    the same address and name, if there is one."""

    url: str
    model_name: str = ""
    key: str = ""


@transaction.atomic
def create_model(
    *,
    owner: User,
    name: str,
    purpose: str,
    engine: str,
    slug: str = "",
    card: str = "",
    access_mode: str = ListedModel.AccessMode.OPEN,
    pass_price_nano: int | None = None,
    pass_days: int | None = None,
    free_calls_per_day: int = 0,
    split_rule: SplitRule | None = None,
    upstream_url: str = "",
    upstream_model: str = "",
    upstream_key: str = "",
    made_by: User | None = None,
) -> ListedModel:
    """Create a model that is not listed yet: it needs a version and a price list first.

    made_by: The admin who makes an operator model; other models make their owners themselves.

    Raises:
        Invalid: the name or the address is taken or not acceptable, a connected model's upstream may not be reached, or the
            rule of an operator model pays data. NotAllowed: an operator model that no admin makes.
    """
    if engine == ListedModel.Engine.EMBEDDING and not (made_by and made_by.is_staff):
        raise NotAllowed(_("Only an admin may list a model that no Datanet shaped."))
    split_rule = split_rule or rules.default_rule()
    rules.check_fits(engine, split_rule)
    slug = slugify(slug or name)[:60].strip("-")
    if not slug or not name.strip():
        raise Invalid(_("A model needs a name with letters or digits in it."))
    if ListedModel.objects.filter(owner=owner, slug=slug).exists():
        raise Invalid(_("You already have a model at this address. Choose another name."))
    pass_price_nano, pass_days = _pass_terms(access_mode, pass_price_nano, pass_days)
    _check_free_calls(free_calls_per_day)
    if engine == ListedModel.Engine.CONNECTED:
        _check_upstream(upstream_url)
    model = ListedModel.objects.create(
        owner=owner,
        slug=slug,
        name=name.strip(),
        purpose=purpose.strip(),
        card=card,
        engine=engine,
        access_mode=access_mode,
        pass_price_nano=pass_price_nano,
        pass_days=pass_days,
        free_calls_per_day=free_calls_per_day,
        split_rule=split_rule,
        upstream_url=upstream_url,
        upstream_model=upstream_model,
        upstream_key_token=seal_field(upstream_key) if upstream_key else "",
    )
    rules.keep_terms(model, by=made_by or owner)
    return model


@transaction.atomic
def change_model(
    model: ListedModel,
    *,
    by: User,
    name: str,
    purpose: str,
    card: str,
    access_mode: str,
    pass_price_nano: int | None,
    pass_days: int | None,
    free_calls_per_day: int,
    split_rule: SplitRule,
) -> list[str]:
    """Change what a model says of itself, who may call it, its free calls and its split. The same again changes nothing.

    Its address, its engine and its upstream stay: programs call the first, and its versions were made with the others.
    (The key of the upstream: `replace_upstream_key`.) Every call keeps the rule it was made under, and a pass that was sold
    its days. Once people rely on it, its rule changes through a proposal (`proposals.propose`) only.

    Returns:
        The names of the fields that are different now; `model` holds their new values.

    Raises:
        NotAllowed: not the owner. Invalid: no name, an access mode that does not exist, a pass without price or days,
            more free calls than may be given, or a rule that pays data for an operator model. NotReady: another rule for a
            model in use.
    """
    _check_owner(model, by)
    rules.check_fits(model.engine, split_rule)
    if not name.strip() or not purpose.strip():
        raise Invalid(_("A model needs a name and a purpose."))
    pass_price_nano, pass_days = _pass_terms(access_mode, pass_price_nano, pass_days)
    _check_free_calls(free_calls_per_day)
    wanted = {
        "name": name.strip(),
        "purpose": purpose.strip(),
        "card": card.strip(),
        "access_mode": access_mode,
        "pass_price_nano": pass_price_nano,
        "pass_days": pass_days,
        "free_calls_per_day": free_calls_per_day,
        "split_rule_id": split_rule.pk,
    }
    stored = ListedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
    changed = [field for field, value in wanted.items() if getattr(stored, field) != value]
    if "split_rule_id" in changed and rules.is_in_use(stored):
        raise NotReady(_("This model is in use: propose another split rule, so that those it pays hear of it in time."))
    if changed:
        for field in changed:
            setattr(model, field, wanted[field])
        model.save(update_fields=changed)
        if set(changed) & set(rules.TERMS):
            rules.keep_terms(model, by=by)
        audit.record(
            by, "change_model", f"model:{model.pk}", **audit.changes({field: wanted[field] for field in changed})
        )
        announce_catalogue()
    return changed


@transaction.atomic
def replace_upstream_key(model: ListedModel, *, by: User, key: str) -> None:
    """Say with which key the model's upstream is called from now on; empty: with none. Nobody reads it again.

    Raises:
        NotAllowed: not the owner. Invalid: the model has no upstream, or this cannot be a key.
    """
    _check_owner(model, by)
    if not model.upstream_url:
        raise Invalid(_("This model has no upstream: this site answers itself."))
    key = key.strip()
    if len(key) > UPSTREAM_KEY_CHARS_MAX or not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid(_("A key is printable ASCII without spaces."))
    model.upstream_key_token = seal_field(key) if key else ""
    model.save(update_fields=["upstream_key_token"])
    audit.record(by, "replace_upstream_key", f"model:{model.pk}")
    announce_catalogue()


@transaction.atomic
def set_fallbacks(model: ListedModel, *, by: User, fallbacks: Sequence[FallbackWanted]) -> bool:
    """Say who answers, in this order, when the model's own upstream does not. An empty list: nobody.

    The price stays the model's, whoever answers. A running call keeps the list it began with.

    Returns:
        Whether anything is different now.

    Raises:
        NotAllowed: not the owner. Invalid: the model does not chat, there are too many, or an address may not be reached.
    """
    _check_owner(model, by)
    if fallbacks and model.engine not in (ListedModel.Engine.CONNECTED, ListedModel.Engine.RETRIEVAL):
        raise Invalid(_("Only chat models have fallbacks: the others are answered by this site itself."))
    if len(fallbacks) > FALLBACKS_MAX:
        raise Invalid(_("A model has at most %(most)s fallbacks.") % {"most": FALLBACKS_MAX})
    for wanted in fallbacks:
        _check_upstream(wanted.url)
    _lock(model)
    before = list(model.fallbacks.all())
    known = {(one.url, one.model_name): one.key_token for one in before}
    same = [(one.url, one.model_name) for one in before] == [(one.url, one.model_name) for one in fallbacks]
    if same and not any(one.key for one in fallbacks):
        return False
    model.fallbacks.all().delete()
    Fallback.objects.bulk_create(
        Fallback(
            model=model,
            place=place,
            url=one.url,
            model_name=one.model_name,
            key_token=seal_field(one.key) if one.key else known.get((one.url, one.model_name), ""),
        )
        for place, one in enumerate(fallbacks, start=1)
    )
    audit.record(by, "set_fallbacks", f"model:{model.pk}", fallbacks=len(fallbacks))
    announce_catalogue()
    return True


@transaction.atomic
def set_prices(
    model: ListedModel,
    *,
    by: User,
    price_call_nano: int,
    price_in_nano: int,
    price_out_nano: int,
    price_abstain_nano: int = 0,
) -> PriceList:
    """Publish a price list. It holds for calls that start after it, and so does a proposed split rule whose lock is over.

    The same prices again change nothing, unless a rule takes effect with them.

    Args:
        price_abstain_nano: Of a call at which the model abstains, because what its caller requires is not met.
    """
    _check_owner(model, by)
    values = (price_call_nano, price_in_nano, price_out_nano, price_abstain_nano)
    if any(not 0 <= value <= PRICE_NANO_MAX for value in values):
        raise Invalid(_("A price is 0 or more, and at most a million OPEN."))
    if price_abstain_nano > price_call_nano:
        raise Invalid(_("A call at which the model abstains costs at most what every call costs."))
    sha256 = pricing.price_sha256(pricing.Prices(*values))
    _lock(model)
    due = proposals.due(model)
    current = prices_of(model)
    if current is not None and current.sha256 == sha256 and due is None:
        return current
    prices = PriceList.objects.create(
        model=model,
        price_call_nano=price_call_nano,
        price_in_nano=price_in_nano,
        price_out_nano=price_out_nano,
        price_abstain_nano=price_abstain_nano,
        sha256=sha256,
    )
    if due is not None:
        proposals.take_effect(due, model, prices=prices, by=by)
    announce_catalogue()
    return prices


def prices_of(model: ListedModel) -> PriceList | None:
    """The price list in force now."""
    return model.price_lists.order_by("-effective_at").first()


@transaction.atomic
def list_model(model: ListedModel, *, by: User) -> ListedModel:
    """Offer a model to callers. Needs a version that answers and a price list."""
    _check_owner(model, by)
    if model.takes_no_calls:
        raise NotReady(_("A retired model cannot be listed again. Create a new one."))
    if not model.versions.exists():
        raise NotReady(_("Train a version first: there is nothing to call yet."))
    if prices_of(model) is None:
        raise NotReady(_("Set a price list first. A price may be 0."))
    if model.listed_at is None:
        model.listed_at = timezone.now()
        model.save(update_fields=["listed_at"])
        audit.record(by, "list_model", f"model:{model.pk}")
        announce_catalogue()
    return model


@transaction.atomic
def unlist_model(model: ListedModel, *, by: User) -> ListedModel:
    """Take a model out of the shop: no new calls. Its versions, receipts and earnings stay."""
    _check_owner(model, by)
    if model.listed_at is not None:
        model.listed_at = None
        model.save(update_fields=["listed_at"])
        audit.record(by, "unlist_model", f"model:{model.pk}")
        announce_catalogue()
    return model


def resolve(path: str) -> tuple[ListedModel, ModelVersion | None] | None:
    """Find `owner/model` (its newest version) or `owner/model@vN`; None when there is no such thing."""
    found = MODEL_PATH.match(path)
    if found is None:
        return None
    model = (
        ListedModel.objects.select_related("owner").filter(owner__username=found["owner"], slug=found["slug"]).first()
    )
    if model is None:
        return None
    versions = model.versions.order_by("-number")
    if found["number"]:
        version = versions.filter(number=int(found["number"])).first()
        return (model, version) if version else None
    return model, versions.first()


def visible_to(user: Visitor) -> QuerySet[ListedModel]:
    """Listed models, and one's own."""
    condition = Q(listed_at__isnull=False, retired_at__isnull=True)
    if user is not None and user.is_authenticated:
        condition |= Q(owner=user)
    return ListedModel.objects.filter(condition).select_related("owner", "split_rule")


def announce_catalogue() -> None:
    """Tell the gateways, when this transaction commits, that models, prices, keys or accesses changed."""
    with connection.cursor() as cursor:
        cursor.execute("NOTIFY openledger_catalogue")


def seal_field(text: str) -> str:
    """Encrypt a secret that must be read again (an upstream's key, a payout destination) under FIELD_KEYS."""
    return _fernet().encrypt(text.encode()).decode()


def open_field(token: str) -> str:
    """Read what `seal_field` wrote; rotated keys still open what they sealed."""
    return _fernet().decrypt(token.encode()).decode()


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FIELD_KEYS])


def _lock(model: ListedModel) -> None:
    """Two savings at once are one after the other, not half of each."""
    ListedModel.objects.select_for_update(no_key=True).get(pk=model.pk)


def _pass_terms(access_mode: str, price_nano: int | None, days: int | None) -> tuple[int | None, int | None]:
    """Price and days of a pass; nothing for the other modes. Raises Invalid."""
    if access_mode not in ListedModel.AccessMode.values:
        raise Invalid(_("This access mode does not exist."))
    if access_mode != ListedModel.AccessMode.PASS:
        return None, None
    if price_nano is None or not days:
        raise Invalid(_("A pass needs a price and a number of days."))
    if not 0 <= price_nano <= PRICE_NANO_MAX:
        raise Invalid(_("A price is 0 or more, and at most a million OPEN."))
    return price_nano, days


def _check_free_calls(per_day: int) -> None:
    if not 0 <= per_day <= FREE_CALLS_MAX:
        raise Invalid(_("A model gives 0 to %(most)s free calls a day to each account.") % {"most": FREE_CALLS_MAX})


def _check_owner(model: ListedModel, user: User) -> None:
    if model.owner_id != user.pk:
        raise NotAllowed(_("Only the owner of a model may change it. Nothing was changed."))


def _check_upstream(url: str) -> None:
    try:
        outbound.resolve(url, allow=settings.OUTBOUND_ALLOW)
    except outbound.OutboundRefused as refused:
        raise Invalid(str(refused)) from refused
