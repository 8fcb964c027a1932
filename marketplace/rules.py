"""Split rules: published, hashed, immutable. The same parts are always the same rule."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ledger import services as ledger

from . import pricing
from .errors import Invalid
from .models import Access, Call, ListedModel, ModelTerms, SplitRule

DEFAULT_PARTS = {"data": 3500, "curation": 500, "developer": 5500, "platform": 500, "owner": 0}
# A training fee is paid by the developer, so it has no developer's part.
TRAINING_PARTS = {"data": 9000, "curation": 500, "developer": 0, "platform": 500, "owner": 0}
# Of a model that no Datanet shaped: the parts of data, curators and owners are 0.
OPERATOR_PARTS = {"data": 0, "curation": 0, "developer": 9500, "platform": 500, "owner": 0}
DATA_ROLES = ("data", "curation", "owner")
WHOLE_BP = 10_000
NAME_CHARS = 80
#: What a row of a model's rule history keeps of it.
TERMS = ("split_rule_id", "access_mode", "pass_price_nano", "pass_days", "free_calls_per_day")


def default_rule() -> SplitRule:
    """The rule of a model that publishes none of its own."""
    return adopt(name="Default", parts=DEFAULT_PARTS, by=None)


def training_rule() -> SplitRule:
    """The rule of every training fee."""
    return adopt(name="Training", parts=TRAINING_PARTS, by=None)


def operator_rule() -> SplitRule:
    """The rule of a model that no Datanet shaped: nobody's data is paid."""
    return adopt(name="Operator model", parts=OPERATOR_PARTS, by=None)


@transaction.atomic
def adopt(*, name: str, parts: Mapping[str, int], by: User | None) -> SplitRule:
    """Adopt a rule and say so in the public log. Adopting the same parts again returns the first rule.

    Args:
        parts: Role -> basis points for data, curation, developer, platform, owner.

    Raises:
        Invalid: as `check` says.
    """
    check(parts)
    sha256 = pricing.rule_sha256(parts)
    rule, created = SplitRule.objects.get_or_create(
        sha256=sha256,
        defaults={"name": name, "adopted_by": by, **{f"{role}_bp": bp for role, bp in parts.items()}},
    )
    if created:
        ledger.record_fact(
            id=rule.pk,
            reference=f"rule:{rule.pk}",
            entry=ledger.Entry(type="rule.adopted", public={"rule": f"sha256:{sha256}", "parts": dict(parts)}),
        )
    return rule


def check(parts: Mapping[str, int]) -> None:
    """Raise Invalid unless these are a rule: five roles, no part negative, 10,000 in all, and one for the platform."""
    if set(parts) != set(DEFAULT_PARTS) or any(type(bp) is not int or bp < 0 for bp in parts.values()):
        raise Invalid(_("A split rule names a part of 0 or more for each of the five roles."))
    if sum(parts.values()) != WHOLE_BP or parts["platform"] == 0:
        raise Invalid(_("The parts of a split rule add up to 100 %, and the platform has one."))


def check_fits(engine: str, rule: SplitRule) -> None:
    """Raise Invalid if a rule pays data for an operator model. The database refuses it, too."""
    if engine == ListedModel.Engine.EMBEDDING and any(rule.parts[role] for role in DATA_ROLES):
        raise Invalid(
            _("No Datanet shaped this model: its rule gives nothing to contributors, curators or Datanet owners.")
        )


def is_in_use(model: ListedModel) -> bool:
    """Whether people rely on how a model's charges are split: it is in the shop, or somebody paid for it."""
    if model.listed_at is not None:
        return True
    return Call.objects.filter(model=model).exists() or Access.objects.filter(model=model).exists()


def keep_terms(model: ListedModel, *, by: User) -> None:
    """What holds for a model from now on: a new row of its rule history."""
    ModelTerms.objects.create(model=model, adopted_by=by, **{name: getattr(model, name) for name in TERMS})
