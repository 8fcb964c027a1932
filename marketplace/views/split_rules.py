"""Split rules as public contracts: a page of each, what another would have paid, and what a developer proposes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import listings, proposals, whatif
from ..errors import Invalid, NotReady
from ..forms_build import RuleForm
from ..models import ListedModel, ModelTerms, RuleProposal, SplitRule
from . import explore

MODELS_SHOWN = 100
ROLES = {
    "data": gettext_lazy("Data contributors"),
    "curation": gettext_lazy("Curators"),
    "developer": gettext_lazy("Model developer"),
    "platform": gettext_lazy("Platform"),
    "owner": gettext_lazy("Datanet owners"),
}


def split_rule(request: HttpRequest, sha256: str) -> HttpResponse:
    """One rule: its parts, its hash, and which models one may see are split by it, or were."""
    rule = get_object_or_404(SplitRule, sha256=sha256)
    seen = listings.visible_to(request.user)
    used = (
        ModelTerms.objects.filter(split_rule=rule, model__in=seen)
        .values("model")
        .annotate(first=Min("adopted_at"), last=Max("adopted_at"))
        .order_by("-last")[:MODELS_SHOWN]
    )
    since = {row["model"]: row["first"] for row in used}
    found = {model.pk: model for model in seen.filter(pk__in=since)}
    context = {
        "rule": rule,
        "bar": explore.split_bar(rule),
        "roles": explore.split_roles(rule),
        "used": [(found[pk], first, found[pk].split_rule_id == rule.pk) for pk, first in since.items() if pk in found],
    }
    return render(request, "marketplace/explore/split_rule.html", context)


def what_if(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """What the last 30 days of a model would have paid under another rule: per role, and for whom reads it."""
    model = get_object_or_404(listings.visible_to(request.user), owner__username=owner, slug=slug)
    asked = any(name.startswith("rule-") for name in request.GET)
    form = RuleForm(request.GET if asked else None, prefix="rule", parts=model.split_rule.parts)
    return render(request, "marketplace/explore/what_if.html", _shown(request, model, form), status=_status(form))


def _status(form: RuleForm) -> int:
    return 200 if not form.is_bound or form.is_valid() else 422


def _shown(request: HttpRequest, model: ListedModel, form: RuleForm, problem: str = "") -> dict[str, Any]:
    now = timezone.now()
    context: dict[str, Any] = {
        "model": model,
        "form": form,
        "problem": problem,
        "owns": request.user.is_authenticated and model.owner_id == request.user.pk,
        "lock_days": settings.RULE_LOCK_DAYS,
        "days": whatif.DAYS,
    }
    if not form.is_bound or not form.is_valid():
        return context
    if context["owns"]:
        context["proposed"] = model.rule_proposals.open().exists()
    roles = whatif.by_role(model, form.parts(), now=now)
    context |= {
        "roles": roles,
        "rows": [(str(ROLES[role]), *amounts) for role, *amounts in roles.rows],
    }
    if request.user.is_authenticated:
        people = whatif.for_page(model, form.parts(), now=now)
        context |= {"people": people, "mine_nano": people.changes.get(request.user.pk, 0) if people else 0}
    return context


@login_required
@require_POST
def build_rule(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Propose a split rule for my model, or withdraw the proposal."""
    model = get_object_or_404(
        ListedModel.objects.select_related("owner", "split_rule"), pk=model_id, owner=request.user
    )
    rules_url = reverse("model_tab", args=[model.owner.username, model.slug, "rules"])
    if request.POST.get("act") == "withdraw":
        proposal = get_object_or_404(
            RuleProposal.objects.open().select_related("model"), pk=request.POST.get("proposal"), model=model
        )
        proposals.withdraw(proposal, by=request.user)
        messages.success(request, _("The proposal is withdrawn. The rule in force stays."))
        return redirect(rules_url)
    form = RuleForm(request.POST, prefix="rule", parts=model.split_rule.parts)
    problem = ""
    if form.is_valid():
        try:
            proposals.propose(model, by=request.user, parts=form.parts())
        except (Invalid, NotReady) as refused:
            problem = str(refused)
        else:
            messages.success(request, _("The rule is proposed. Those whose records are in the model are told."))
            return redirect(rules_url)
    return render(request, "marketplace/explore/what_if.html", _shown(request, model, form, problem), status=422)


pages = [
    path("rules/<slug:sha256>/", split_rule, name="split_rule"),
    path("models/<slug:owner>/<slug:slug>/what-if/", what_if, name="what_if"),
    path("build/models/<uuid:model_id>/rule/", build_rule, name="build_rule"),
]
plain: list = []
