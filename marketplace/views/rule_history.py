"""Which rules a Datanet or a model had, since when, and what each change changed. Anybody reads them who sees the thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import ndiff
from itertools import pairwise
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from datanets import licences
from datanets import services as datanets
from datanets.models import Datanet

from .. import forms_explore as forms
from .. import training
from ..models import ListedModel, ModelTerms, PriceList, SplitRule
from ..templatetags import figures
from . import explore

ROWS = 50
LINES_SHOWN = 12
_SIGNS = {"+": "+", "-": "\N{MINUS SIGN}"}
_TEXTS = ("guidelines", "attribution_note")
_TERMS_OF_ACCESS = ("access_mode", "pass_price_nano", "pass_days", "free_calls_per_day")


@dataclass(frozen=True)
class Change:
    """One rule that became another. lines: of a long text, those that left ("−") and those that came ("+")."""

    at: datetime
    by: str
    rule: str
    before: str = ""
    after: str = ""
    lines: list[str] = field(default_factory=list)
    lines_left: int = 0


# --- A Datanet


def of_datanet(request: HttpRequest, pool: Datanet) -> dict:
    """The rules in force with their dates, and every change, the newest first."""
    fees = list(pool.terms.select_related("adopted_by").order_by("-adopted_at", "-pk")[: ROWS + 1])
    kept = pool.rule_changes.select_related("changed_by").order_by("-changed_at", "-pk")[: ROWS + 1]
    changes = [_changed(each.rule, each.before, each.after, each.changed_at, each.changed_by.username) for each in kept]
    asked_before = [fee.training_fee_nano for fee in fees[1:]] + [0]
    for fee, before_nano in zip(fees, asked_before, strict=False):
        if fee.training_fee_nano == before_nano:  # published again as it was
            continue
        before, after = _fee(before_nano), _fee(fee.training_fee_nano)
        changes.append(Change(fee.adopted_at, fee.adopted_by.username, _label("training_fee"), before, after))
    changes.sort(key=lambda change: change.at, reverse=True)
    newest = pool.rule_changes.order_by("rule", "-changed_at").distinct("rule")
    since = dict(newest.values_list("rule", "changed_at")) | ({"training_fee": fees[0].adopted_at} if fees else {})
    licence = licences.LICENCES.get(pool.licence)
    return {
        "in_force": [
            (_label(rule), _value(rule, getattr(pool, rule)), since.get(rule, pool.created_at))
            for rule in datanets.RULES
            if rule not in _TEXTS
        ]
        + [(_label("training_fee"), _fee(training.fee_nano(pool)), since.get("training_fee", pool.created_at))],
        "texts": [
            (_label(rule), getattr(pool, rule), since.get(rule, pool.created_at))
            for rule in _TEXTS
            if getattr(pool, rule)
        ],
        "licence": licence.name if licence else pool.licence,
        "changes": changes[:ROWS],
        "is_cut": len(changes) > ROWS,
    }


def _changed(rule: str, before: Any, after: Any, at: datetime, by: str) -> Change:
    if rule not in _TEXTS:
        return Change(at, by, _label(rule), _value(rule, before), _value(rule, after))
    lines = [
        f"{_SIGNS[line[0]]} {line[2:]}"
        for line in ndiff(before.splitlines(), after.splitlines())
        if line[0] in _SIGNS and line[2:].strip()
    ]
    return Change(at, by, _label(rule), lines=lines[:LINES_SHOWN], lines_left=max(0, len(lines) - LINES_SHOWN))


def _label(rule: str) -> str:
    """As the form says it in which an owner changes the rule."""
    return str(forms.DatanetSettingsForm.base_fields[rule].label)


def _value(rule: str, value: Any) -> str:
    if rule == "access":
        return str(Datanet.Access(value).label)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return figures.number_text(value)


def _fee(fee_nano: int) -> str:
    return f"{figures.open_text(fee_nano, 4)} OPEN" if fee_nano else _("none")


# --- A model


def of_model(found: ListedModel) -> dict:
    """Split rules, price lists and ways in, each with what it changed; the first of each is in force."""
    terms = list(found.terms.select_related("split_rule").order_by("-adopted_at", "-pk")[: ROWS + 1])
    prices = list(found.price_lists.order_by("-effective_at", "-pk")[: ROWS + 1])
    proposed = found.rule_proposals.open().select_related("split_rule", "instead_of").first()
    return {
        "proposed": proposed,
        "proposed_changes": _parts_changes(proposed.split_rule, proposed.instead_of) if proposed else [],
        "split_rules": [
            {"since": new.adopted_at, "rule": new.split_rule, "changes": _split_changes(new, old)}
            for new, old in _steps(terms)
            if old is None or new.split_rule_id != old.split_rule_id
        ],
        "price_lists": [{"prices": new, "changes": _price_changes(new, old)} for new, old in _steps(prices)],
        "ways_in": [
            new
            for new, old in _steps(terms)
            if old is None or any(getattr(new, name) != getattr(old, name) for name in _TERMS_OF_ACCESS)
        ],
        "is_cut": max(len(terms), len(prices)) > ROWS,
    }


def _steps(rows: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """(row, the one before it or None), the newest first; a row whose predecessor was not read is left out."""
    yield from pairwise(rows)
    if rows and len(rows) <= ROWS:
        yield rows[-1], None


def _split_changes(new: ModelTerms, old: ModelTerms | None) -> list[tuple[str, str, str]]:
    return [] if old is None else _parts_changes(new.split_rule, old.split_rule)


def _parts_changes(new: SplitRule, old: SplitRule) -> list[tuple[str, str, str]]:
    roles = zip(explore.split_roles(old), explore.split_roles(new), strict=True)
    return list(_different((label, figures.share_text(a), figures.share_text(b)) for (_c, label, a), (*_r, b) in roles))


def _price_changes(new: PriceList, old: PriceList | None) -> list[tuple[str, str, str]]:
    if old is None:
        return []
    labels = {
        "price_call_nano": _("Per call"),
        "price_in_nano": _("Per prompt token"),
        "price_out_nano": _("Per answer token"),
        "price_abstain_nano": _("When it abstains"),
    }
    rows = ((label, getattr(old, name), getattr(new, name)) for name, label in labels.items())
    return list(_different((label, figures.open_text(a), figures.open_text(b)) for label, a, b in rows))


def _different(steps: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    return ((label, before, after) for label, before, after in steps if before != after)
