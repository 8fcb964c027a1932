"""Another split rule for a model that people rely on: proposed, told to those it pays, in force after a lock, or withdrawn.

propose      at once a row in public; it takes effect with the first price list from `not_before` on
tell_people  those whose records are in the model, with the old and the new parts and what the last 30 days would have
             paid each of them more or less
take_effect  by `listings.set_prices`, in its transaction; calls that started before keep their rule
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from attribution import planning
from attribution.bundles import Damaged
from datanets.models import Record

from . import audit, notifications, rules, tasks, whatif
from .errors import Invalid, NotAllowed, NotReady
from .models import ListedModel, Notification, PriceList, RuleProposal

logger = logging.getLogger(__name__)


@transaction.atomic
def propose(model: ListedModel, *, by: User, parts: Mapping[str, int]) -> RuleProposal:
    """Propose a split rule for a model. Whoever sees the model sees it; nothing is split by it yet.

    Args:
        parts: As of `rules.adopt`.

    Raises:
        NotAllowed: not the owner. Invalid: the parts are no rule, pay data for an operator model, or are the rule in
            force. NotReady: one is proposed already, or nobody relies on the model yet, so that its settings change the
            rule at once.
    """
    _check_owner(model, by)
    model = ListedModel.objects.select_for_update(no_key=True).get(pk=model.pk)
    if not rules.is_in_use(model):
        raise NotReady(_("Nobody relies on this model yet: change its split rule in its settings, at once."))
    if model.rule_proposals.open().exists():
        raise NotReady(_("A rule is proposed already. Withdraw it first."))
    rule = rules.adopt(name=model.name[: rules.NAME_CHARS], parts=parts, by=by)
    rules.check_fits(model.engine, rule)
    if rule.pk == model.split_rule_id:
        raise Invalid(_("This is the rule in force. Nothing was proposed."))
    now = timezone.now()
    proposal = RuleProposal.objects.create(
        model=model,
        split_rule=rule,
        instead_of_id=model.split_rule_id,
        proposed_by=by,
        proposed_at=now,
        not_before=now + timedelta(days=settings.RULE_LOCK_DAYS),
    )
    audit.record(by, "propose_rule", f"model:{model.pk}", rule=rule.sha256)
    transaction.on_commit(lambda: tasks.tell_of_rules.delay(), robust=True)  # beat rings again
    return proposal


@transaction.atomic
def withdraw(proposal: RuleProposal, *, by: User) -> RuleProposal:
    """Take a proposal back before it takes effect. Twice changes nothing. Who was told of it is told.

    Raises:
        NotAllowed: not the owner. NotReady: it is in force.
    """
    _check_owner(proposal.model, by)
    ListedModel.objects.select_for_update(no_key=True).get(pk=proposal.model_id)  # a price list waits, or was before
    proposal = RuleProposal.objects.select_related("model__owner", "split_rule", "instead_of").get(pk=proposal.pk)
    if proposal.adopted_at is not None:
        raise NotReady(_("This rule is in force. Propose another one."))
    if proposal.withdrawn_at is None:
        proposal.withdrawn_at = timezone.now()
        proposal.save(update_fields=["withdrawn_at"])
        audit.record(by, "withdraw_rule", f"model:{proposal.model_id}", rule=proposal.split_rule.sha256)
        _tell_told(proposal, "rule_withdrawn")
    return proposal


def due(model: ListedModel) -> RuleProposal | None:
    """The proposal that takes effect with the next price list, once its lock is over."""
    return model.rule_proposals.open().filter(not_before__lte=timezone.now()).select_related("split_rule").first()


def take_effect(proposal: RuleProposal, model: ListedModel, *, prices: PriceList, by: User) -> None:
    """Let a due rule hold with a new price list. The caller holds the lock of the model."""
    model.split_rule = proposal.split_rule
    model.save(update_fields=["split_rule"])
    rules.keep_terms(model, by=by)
    proposal.adopted_at, proposal.price_list = prices.effective_at, prices
    proposal.save(update_fields=["adopted_at", "price_list"])
    audit.record(by, "adopt_rule", f"model:{model.pk}", rule=proposal.split_rule.sha256)
    _tell_told(proposal, "rule_adopted")


def tell_waiting() -> int:
    """Tell of every proposal that nobody was told of yet. Repeating tells nobody twice. Returns how many lines were new."""
    waiting = RuleProposal.objects.open().filter(told_at__isnull=True)
    return sum(tell_people(proposal) for proposal in waiting.select_related("model__owner", "split_rule", "instead_of"))


def tell_people(proposal: RuleProposal) -> int:
    """Tell contributors and curators whose records are in a model what is proposed, and what it would have meant for them."""
    model = proposal.model
    try:
        found = whatif.by_person(model, proposal.split_rule.parts, now=proposal.proposed_at)
        changes, known = dict(found.changes), not found.forgotten
        people = people_of(model) | found.paid
    except (Damaged, FileNotFoundError):
        logger.exception("what rule proposal %s would have meant cannot be computed yet", proposal.pk)
        return 0
    lines = [
        Notification(
            user_id=user_id,
            kind="rule_proposed",
            subject=str(proposal.pk),
            params=_said(proposal)
            | {"day": f"{proposal.not_before:%Y-%m-%d}"}
            | ({"difference_nano": str(changes.get(user_id, 0))} if known else {}),
            url=_address(model),
        )
        for user_id in sorted(people - {model.owner_id})
    ]
    new = notifications.tell(lines)
    RuleProposal.objects.filter(pk=proposal.pk).update(told_at=timezone.now())
    return len(new)


def people_of(model: ListedModel) -> set[int]:
    """Contributors and curators of the records that the newest version pays; nobody of an operator model."""
    version = model.versions.order_by("-number").first()
    if version is None or model.is_operator_model:
        return set()
    records = Record.objects.filter(pk__in=planning.roster_of(version.artifact_sha256).record_ids.tolist())
    rows = records.order_by().values_list("contributor_id", "decided_by_id").distinct()
    return {user_id for row in rows for user_id in row if user_id is not None}


def _tell_told(proposal: RuleProposal, kind: str) -> None:
    told = Notification.objects.filter(kind="rule_proposed", subject=str(proposal.pk)).values("user_id")
    url = _address(proposal.model)
    notifications.tell_users(User.objects.filter(pk__in=told), kind, url=url, **_said(proposal))


def _said(proposal: RuleProposal) -> dict[str, object]:
    return {
        "model": proposal.model.path,
        "old": proposal.instead_of.parts,
        "new": proposal.split_rule.parts,
    }


def _address(model: ListedModel) -> str:
    return notifications.address_of("model_tab", model.owner.username, model.slug, "rules")


def _check_owner(model: ListedModel, user: User) -> None:
    if model.owner_id != user.pk:
        raise NotAllowed(_("Only the owner of a model may change it. Nothing was changed."))
