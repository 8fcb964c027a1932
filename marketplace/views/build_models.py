"""A developer's models: create, change, price, list, invite, train."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from attribution.models import Artifact
from datanets import licences
from datanets.models import Datanet, Version
from ledger import chart
from ledger import services as ledger

from .. import access, listings, promotion, querysets, retiring, rules, training
from ..errors import Invalid, NotAllowed, NotReady, sentence_of
from ..forms_build import (
    FallbacksForm,
    ModelForm,
    ModelSettingsForm,
    PriceForm,
    RuleChoiceForm,
    RuleForm,
    TrainForm,
    UpstreamKeyForm,
)
from ..forms_explore import HandleForm, amount_text
from ..forms_refunds import RetireForm
from ..models import Access, Call, ListedModel, PriceList, Refund, SplitRule, TrainingRun
from . import explore
from .explanations import training_sentence

TOKENS = 1_000_000
RUNS_SHOWN = 20
VERSIONS_SHOWN = 200


@login_required
def build_models(request: HttpRequest) -> HttpResponse:
    """My models, what they cost and what they earned me."""
    found = querysets.models_for(request.user).filter(owner=request.user)
    page = querysets.page_by(
        found, "created_at", after=request.GET.get("after", ""), before=request.GET.get("before", "")
    )
    ids = [model.pk for model in page.rows]
    earned = dict(
        Call.objects.filter(model__in=ids)
        .exclude(refund__status=Refund.Status.MADE)
        .order_by()
        .values_list("model")
        .annotate(total=Sum("developer_nano"))
    )
    running = set(
        TrainingRun.objects.filter(model__in=ids, status__in=["waiting", "running"]).values_list("model_id", flat=True)
    )
    for model in page.rows:
        model.earned_nano = earned.get(model.pk, 0)
        model.is_training = model.pk in running
    context = {
        "page": page,
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
    }
    return render(request, "marketplace/build/models.html", context)


@login_required
def build_model_new(request: SignedInRequest) -> HttpResponse:
    """A new model. It has no version yet: the next page trains one."""
    form = ModelForm(request.POST or None)
    rule_form = RuleForm(request.POST if request.POST.get("own_rule") else None, prefix="rule")
    own_rule = bool(request.POST.get("own_rule"))
    if request.method != "POST":
        return render(request, "marketplace/build/model_new.html", {"form": form, "rule_form": rule_form})
    if form.is_valid() and (not own_rule or rule_form.is_valid()):
        try:
            model = _create(request.user, form, rule_form if own_rule else None)
        except Invalid as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, _("%(name)s is created. Train its first version now.") % {"name": model.name})
            return redirect("build_train", model.pk)
    context = {"form": form, "rule_form": rule_form, "own_rule": own_rule}
    return render(request, "marketplace/build/model_new.html", context, status=422)


@transaction.atomic
def _create(owner: User, form: ModelForm, rule_form: RuleForm | None) -> ListedModel:
    """The model with its first price list, all or nothing."""
    given = form.cleaned_data
    upstream = {name: given[name] for name in ("upstream_url", "upstream_model", "upstream_key")}
    model = listings.create_model(
        owner=owner,
        engine=given["engine"],
        split_rule=_adopt(rule_form, name=given["name"], by=owner) if rule_form else None,
        **form.settings(),
        **upstream,
    )
    listings.set_prices(model, by=owner, **form.prices())
    return model


def _adopt(rule_form: RuleForm, *, name: str, by: User) -> SplitRule:
    """A rule of the owner's, named after the model as far as the name of a rule goes."""
    return rules.adopt(name=name[: rules.NAME_CHARS], parts=rule_form.parts(), by=by)


@login_required
def build_settings(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """What my model says of itself, who may call it, and how its income is split."""
    model = _mine(request, model_id)
    given = request.POST if request.method == "POST" else None
    form = ModelSettingsForm(given, initial=ModelSettingsForm.initial_of(model))
    is_in_use = rules.is_in_use(model)
    # The page of a model in use does not ask for its rule.
    choice = RuleChoiceForm({"rule": RuleChoiceForm.KEEP, **given.dict()} if given and is_in_use else given)
    own_rule = request.POST.get("rule") == RuleChoiceForm.OWN
    rule_form = RuleForm(given if own_rule else None, prefix="rule", parts=model.split_rule.parts)
    context = {
        "model": model,
        "title": model.name,
        "form": form,
        "key_form": UpstreamKeyForm(),
        "choice": choice,
        "rule_form": rule_form,
        "own_rule": own_rule,
        "rule_bar": explore.split_bar(model.split_rule),
        "is_in_use": is_in_use,
    }
    if given is None:
        return render(request, "marketplace/build/model_settings.html", context)
    # All of them: each says what is wrong in its own fields.
    if all([form.is_valid(), choice.is_valid(), not own_rule or rule_form.is_valid()]):
        try:
            changed = _change(request.user, model, form, choice.cleaned_data["rule"], rule_form)
        except (Invalid, NotReady) as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, _("The settings are saved.") if changed else _("Nothing was different."))
            return redirect("build_settings", model_id)
    return render(request, "marketplace/build/model_settings.html", context, status=422)


@transaction.atomic
def _change(owner: User, model: ListedModel, form: ModelSettingsForm, choice: str, rule_form: RuleForm) -> list[str]:
    """The settings with the rule that was chosen, all or nothing."""
    rule = model.split_rule
    if choice == RuleChoiceForm.DEFAULT:
        rule = rules.default_rule()
    elif choice == RuleChoiceForm.OWN:
        rule = _adopt(rule_form, name=form.cleaned_data["name"], by=owner)
    return listings.change_model(model, by=owner, split_rule=rule, **form.settings())


@login_required
@require_POST
def build_upstream_key(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """With which key my model's upstream is called from now on."""
    model = _mine(request, model_id)
    form = UpstreamKeyForm(request.POST)
    # What is too long is refused by the service, too.
    key = form.cleaned_data["upstream_key"] if form.is_valid() else request.POST.get("upstream_key", "")
    listings.replace_upstream_key(model, by=request.user, key=key)
    messages.success(request, _("The key of the upstream is replaced: calls from now on use the new one."))
    return redirect("build_settings", model_id)


@login_required
def build_fallbacks(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Who answers when my model's upstream does not."""
    model = _mine(request, model_id)
    form = FallbacksForm(request.POST if request.method == "POST" else None, model=model)
    context = {"model": model, "form": form}
    if request.method != "POST":
        return render(request, "marketplace/build/fallbacks.html", context)
    if form.is_valid():
        try:
            changed = listings.set_fallbacks(model, by=request.user, fallbacks=form.fallbacks())
        except Invalid as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, _("The fallbacks are saved.") if changed else _("Nothing was different."))
            return redirect("build_fallbacks", model_id)
    return render(request, "marketplace/build/fallbacks.html", context, status=422)


@login_required
def build_model(request: HttpRequest, model_id: UUID) -> HttpResponse:
    """One of my models: prices, the shop, invitations, training runs, versions."""
    model = _mine(request, model_id)
    return render(request, "marketplace/build/model.html", _page(model))


def _page(model: ListedModel, **forms) -> dict:
    """Everything the page of a model shows; `forms` replaces a form by one with errors."""
    prices = listings.prices_of(model)
    runs: list[Any] = list(
        model.training_runs.prefetch_related("versions__datanet__owner").order_by("-created_at")[:RUNS_SHOWN]
    )
    for run in runs:
        run.sentence = training_sentence(run)
    versions: list[Any] = list(model.versions.order_by("-number")[:RUNS_SHOWN])
    made = Artifact.objects.in_bulk([version.artifact_sha256 for version in versions])
    for version in versions:
        version.artifact = made.get(version.artifact_sha256)
    return {
        "model": model,
        "prices": prices,
        "price_form": PriceForm(initial=_price_texts(prices)),
        "invite_form": HandleForm(),
        "accesses": model.accesses.filter(revoked_at__isnull=True).select_related("buyer").order_by("-starts_at")[:100],
        "runs": runs,
        "is_training": any(run.status in ("waiting", "running") for run in runs),
        "versions": versions,
        "rule_bar": explore.split_bar(model.split_rule),
        "promotion": promotion.summary(model.owner),
        "retire_form": RetireForm(),
        "owed_nano": retiring.owed(model, from_=timezone.now()),
        "can_list": bool(versions) and prices is not None and not model.takes_no_calls,
    } | forms


def _price_texts(prices: PriceList | None) -> dict[str, str]:
    """The prices as people write them, without needless zeros."""
    if prices is None:
        return {}
    amounts = {
        "price_call": prices.price_call_nano,
        "price_in": prices.price_in_nano * TOKENS,
        "price_out": prices.price_out_nano * TOKENS,
        "price_abstain": prices.price_abstain_nano,
    }
    return {name: amount_text(nano) for name, nano in amounts.items()}


@login_required
@require_POST
def build_prices(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Publish a price list."""
    model = _mine(request, model_id)
    form = PriceForm(request.POST)
    if not form.is_valid():
        return render(request, "marketplace/build/model.html", _page(model, price_form=form), status=422)
    listings.set_prices(model, by=request.user, **form.prices())
    messages.success(request, _("The prices hold for calls that start from now on."))
    return redirect("build_model", model_id)


@login_required
@require_POST
def build_listing(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Offer the model in the shop, or take it out."""
    model = _mine(request, model_id)
    if request.POST.get("act") == "unlist":
        listings.unlist_model(model, by=request.user)
        messages.success(request, _("The model is out of the shop. Receipts and earnings stay."))
    else:
        listings.list_model(model, by=request.user)
        messages.success(request, _("The model is in the shop."))
    return redirect("build_model", model_id)


@login_required
@require_POST
def build_invite(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Invite somebody to an invite model, or end an invitation."""
    model = _mine(request, model_id)
    if request.POST.get("act") == "revoke":
        ended = get_object_or_404(Access, pk=request.POST.get("access"), model=model)
        access.revoke_invitation(ended, by=request.user)
        messages.success(request, _("The invitation is ended."))
        return redirect("build_model", model_id)
    form = HandleForm(request.POST)
    if not form.is_valid():
        return render(request, "marketplace/build/model.html", _page(model, invite_form=form), status=422)
    invited = access.invite(model, by=request.user, buyer=form.cleaned_data["handle"])
    messages.success(request, _("%(name)s may call this model now.") % {"name": invited.buyer.label})
    return redirect("build_model", model_id)


@login_required
def build_runs(request: HttpRequest, model_id: UUID) -> HttpResponse:
    """What htmx asks for while a training run is under way."""
    model = _mine(request, model_id)
    return render(request, "marketplace/build/_progress.html", _page(model))


@login_required
def build_train(request: SignedInRequest, model_id: UUID) -> HttpResponse:
    """Choose versions and settings; the fee and the consequences are shown before anything is held."""
    model = _mine(request, model_id)
    if model.is_operator_model:
        raise NotReady(_("No Datanet shapes this model, so it is not trained. Nothing was held."))
    offered = _trainable(request.user, model)
    form = TrainForm(request.POST or None, model=model, versions=offered)
    fees = querysets.fees_of(version.datanet_id for version in offered)
    rows = [{"version": version, "fee_nano": fees.get(version.datanet_id, 0)} for version in offered]
    context = {"model": model, "form": form, "rows": rows, "balance_nano": _balance_nano(request.user)}
    chosen = {str(pk) for pk in request.POST.getlist("versions")} | set(request.GET.getlist("version"))
    context["chosen"] = chosen
    if request.method != "POST":
        return render(request, "marketplace/build/train.html", context)
    if not form.is_valid():
        return render(request, "marketplace/build/train.html", context, status=422)
    versions = list(form.cleaned_data["versions"])
    if request.POST.get("act") == "confirm":
        try:
            training.request(model=model, by=request.user, versions=versions, settings=form.settings())
        except (Invalid, NotAllowed, NotReady, ledger.InsufficientFunds) as problem:
            form.add_error(None, sentence_of(problem))
        else:
            messages.success(request, _("The training run is waiting for a worker. The fee is held, not charged yet."))
            return redirect("build_model", model.pk)
        return render(request, "marketplace/build/train.html", context, status=422)
    allowed, reason = licences.mixture_allowed([version.datanet.licence for version in versions])
    context["summary"] = {
        "rows": [row for row in rows if row["version"] in versions],
        "fee_nano": sum(fees.get(version.datanet_id, 0) for version in versions),
        "allowed": allowed,
        "reason": _(licences.REASONS[reason]),
    }
    return render(request, "marketplace/build/train.html", context)


def _trainable(user: User, model: ListedModel) -> QuerySet[Version]:
    """The newest version of each Datanet that this person may read and this engine can learn from."""
    readable = Datanet.objects.readable_by(user)
    if model.engine == ListedModel.Engine.RETRIEVAL:
        readable = readable.filter(kind=Datanet.Kind.TEXT)
    newest = Version.objects.filter(datanet__in=readable.values("pk")).order_by("datanet_id", "-number")
    ids = list(newest.distinct("datanet_id").values_list("pk", flat=True)[:VERSIONS_SHOWN])
    return Version.objects.filter(pk__in=ids).select_related("datanet__owner").order_by("datanet__name")


def _balance_nano(user: User) -> int:
    return ledger.balance_nano(chart.wallet(user.pk))


def _mine(request: HttpRequest, model_id: UUID) -> ListedModel:
    """One of my own models; others are 404."""
    return get_object_or_404(ListedModel.objects.select_related("owner", "split_rule"), pk=model_id, owner=request.user)


pages = [
    path("build/models/", build_models, name="build_models"),
    path("build/models/new/", build_model_new, name="build_model_new"),
    path("build/models/<uuid:model_id>/", build_model, name="build_model"),
    path("build/models/<uuid:model_id>/settings/", build_settings, name="build_settings"),
    path("build/models/<uuid:model_id>/upstream-key/", build_upstream_key, name="build_upstream_key"),
    path("build/models/<uuid:model_id>/fallbacks/", build_fallbacks, name="build_fallbacks"),
    path("build/models/<uuid:model_id>/prices/", build_prices, name="build_prices"),
    path("build/models/<uuid:model_id>/listing/", build_listing, name="build_listing"),
    path("build/models/<uuid:model_id>/invite/", build_invite, name="build_invite"),
    path("build/models/<uuid:model_id>/runs/", build_runs, name="build_runs"),
    path("build/models/<uuid:model_id>/train/", build_train, name="build_train"),
]
plain: list = []
