"""Models in the shop: what they cost and pay, and what their owners do with them."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import JSONField, OuterRef, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.response import Response

from attribution import attacked, explain, fitting, methods
from attribution.models import Artifact
from attribution.reasons import unattributed_sentence
from datanets.models import Datanet, Version

from .. import listings, querysets, releasing, retiring, rules, training
from ..errors import Invalid, NotAllowed
from ..models import FALLBACKS_MAX, FREE_CALLS_MAX, ListedModel, ModelTerms, ModelVersion, PriceList, TrainingRun
from ..views.explanations import training_sentence
from .base import (
    ApiView,
    PageQuery,
    PublicView,
    ReadableView,
    body_of,
    endpoint,
    find,
    page,
    page_of,
    query_of,
    require_fresh_session,
)
from .fields import Amount, Anything, Choice, Moment, Number, Shown, Strict, Text, Whole, money


class ModelShown(Shown):
    id = serializers.UUIDField()
    path = serializers.CharField(help_text="What a program sends as `model`.")
    name = serializers.CharField()
    purpose = serializers.CharField()
    engine = serializers.CharField()
    access_mode = serializers.CharField()
    version = serializers.IntegerField(source="version_number", allow_null=True, help_text="The newest one.")
    price_call_nano, price_call_open = money("price_call_nano", nullable=True)
    price_in_nano, price_in_open = money("price_in_nano", nullable=True)
    price_out_nano, price_out_open = money("price_out_nano", nullable=True)
    price_abstain_nano, price_abstain_open = money("price_abstain_nano", nullable=True)
    pass_price_nano, pass_price_open = money("pass_price_nano", nullable=True)
    pass_days = serializers.IntegerField(allow_null=True)
    free_calls_per_day = serializers.IntegerField(
        help_text="Per account, while the developer's promotion wallet lasts."
    )
    calls_30d = serializers.IntegerField()
    listed_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class Parts(Shown):
    """Basis points per role; they add up to 10,000."""

    data = serializers.IntegerField()  # type: ignore[assignment]
    curation = serializers.IntegerField()
    developer = serializers.IntegerField()
    platform = serializers.IntegerField()
    owner = serializers.IntegerField()


class ModelDetail(ModelShown):
    card = serializers.CharField()
    split = Parts(source="split_rule.parts")
    split_sha256 = serializers.CharField(source="split_rule.sha256")
    context_tokens = serializers.IntegerField()
    max_output_tokens = serializers.IntegerField()
    retire_from = serializers.DateTimeField(allow_null=True, help_text="Announced: no new calls from then on.")
    retired_at = serializers.DateTimeField(allow_null=True)


class GivenParts(Strict):
    """Basis points per role; they add up to 10,000, and the platform has one."""

    data = Whole(max_value=10_000)  # type: ignore[assignment]
    curation = Whole(max_value=10_000)
    developer = Whole(max_value=10_000)
    platform = Whole(max_value=10_000)
    owner = Whole(max_value=10_000)


class Retirement(Strict):
    on = Moment(required=False, allow_null=True, help_text="Without it: from now on.")


class Prices(Strict):
    price_call_nano = Amount()
    price_in_nano = Amount(help_text="Per prompt token.")
    price_out_nano = Amount(help_text="Per answer token.")
    price_abstain_nano = Amount(
        required=False, help_text="Of a call at which the model abstains; at most price_call_nano. Without it: 0."
    )


class NewModel(Strict):
    name = Text(max_length=120)
    slug = Text(max_length=60, required=False)
    purpose = Text(max_length=300)
    engine = Choice(choices=[one for one in ListedModel.Engine.choices if one[0] != ListedModel.Engine.EMBEDDING])
    card = Text(max_length=50_000, required=False, allow_blank=True)
    access_mode = Choice(choices=ListedModel.AccessMode.choices, required=False)
    pass_price_nano = Amount(required=False)
    pass_days = Whole(min_value=1, max_value=3650, required=False)
    free_calls_per_day = Whole(max_value=FREE_CALLS_MAX, required=False)
    split = GivenParts(required=False)
    prices = Prices(required=False)
    upstream_url = Text(max_length=300, required=False, allow_blank=True)
    upstream_model = Text(max_length=120, required=False, allow_blank=True)
    upstream_key = Text(max_length=300, required=False, allow_blank=True, write_only=True)


class ModelChanges(Strict):
    """What is left out stays. The address, the engine and the upstream stay in any case."""

    name = Text(max_length=120, required=False)
    purpose = Text(max_length=300, required=False)
    card = Text(max_length=50_000, required=False, allow_blank=True)
    access_mode = Choice(choices=ListedModel.AccessMode.choices, required=False)
    pass_price_nano = Amount(required=False)
    pass_days = Whole(min_value=1, max_value=3650, required=False)
    free_calls_per_day = Whole(max_value=FREE_CALLS_MAX, required=False)
    split = GivenParts(required=False, help_text="Until the model is in use; after that a rule is proposed.")


class GivenFallback(Strict):
    """Who answers when the upstream does not. Without a key: the one stored for the same address and name."""

    url = Text(max_length=300)
    model_name = Text(max_length=120, required=False, allow_blank=True)
    key = Text(max_length=300, required=False, allow_blank=True, write_only=True)


class GivenKey(Strict):
    """Kept encrypted, and never shown again."""

    key = Text(max_length=listings.UPSTREAM_KEY_CHARS_MAX, allow_blank=True, write_only=True)


class GivenFallbacks(Strict):
    fallbacks = serializers.ListField(
        child=GivenFallback(), max_length=FALLBACKS_MAX, help_text="In the order of asking."
    )


class FallbackShown(Shown):
    url = serializers.CharField()
    model_name = serializers.CharField()
    has_key = serializers.BooleanField(help_text="The key itself is never shown.")


class FallbacksShown(Shown):
    fallbacks = FallbackShown(many=True)


class ModelQuery(PageQuery):
    engine = serializers.ChoiceField(choices=ListedModel.Engine.choices, required=False)
    access_mode = serializers.ChoiceField(choices=ListedModel.AccessMode.choices, required=False)
    mine = serializers.BooleanField(required=False, default=False)


class TermsShown(Shown):
    split = Parts(source="split_rule.parts")
    split_sha256 = serializers.CharField(source="split_rule.sha256")
    access_mode = serializers.CharField()
    pass_price_nano, pass_price_open = money("pass_price_nano", nullable=True)
    pass_days = serializers.IntegerField(allow_null=True)
    free_calls_per_day = serializers.IntegerField()
    adopted_at = serializers.DateTimeField()


class PricesShown(Shown):
    price_version = serializers.CharField(source="sha256", help_text="What a call may pin.")
    price_call_nano, price_call_open = money("price_call_nano")
    price_in_nano, price_in_open = money("price_in_nano")
    price_out_nano, price_out_open = money("price_out_nano")
    price_abstain_nano, price_abstain_open = money("price_abstain_nano")
    effective_at = serializers.DateTimeField()


class ModelVersionShown(Shown):
    id = serializers.UUIDField()
    path = serializers.CharField()
    number = serializers.IntegerField()
    artifact_sha256 = serializers.CharField()
    datanet_versions = serializers.SerializerMethodField(help_text="owner/slug@vN of each.")
    method = serializers.CharField(
        allow_null=True, help_text="How answers are attributed; null where no Datanet shaped the model."
    )
    method_about = serializers.SerializerMethodField(help_text="code, name, statement, formula, source, is_not.")
    attacks = serializers.SerializerMethodField(
        help_text="What attacks on its method gained, as measured on public data; null where none was measured."
    )
    fee_method = serializers.CharField(
        allow_null=True, help_text="How money of passes and training runs is split; equal shares say so."
    )
    fee_method_about = serializers.SerializerMethodField(help_text="As method_about.")
    metrics = Anything(help_text="Measured on held-out rows when it was made.")
    settings = serializers.SerializerMethodField(help_text="l2 of a linear engine, named or chosen; k of neighbours.")
    notes = serializers.CharField()
    created_at = serializers.DateTimeField()

    def get_datanet_versions(self, version) -> list[str]:
        return _paths(version.learned_from)

    def get_method_about(self, version) -> dict[str, str] | None:
        return methods.shown(version.method)._asdict() if version.method else None

    def get_attacks(self, version) -> dict[str, Any] | None:
        found = attacked.measured(version.method) if version.method else None
        return found.as_json() if found else None

    def get_fee_method_about(self, version) -> dict[str, str] | None:
        return methods.shown(version.fee_method)._asdict() if version.fee_method else None

    def get_settings(self, version) -> dict[str, float]:
        return {name: value for name, value in version.artifact_settings.items() if name in ("l2", "k")}


class RunShown(Shown):
    id = serializers.UUIDField()
    model = serializers.CharField(source="model.path")
    status = serializers.CharField()
    sentence = serializers.SerializerMethodField()
    error_code = serializers.CharField()
    fee_nano, fee_open = money("fee_nano")
    datanet_versions = serializers.SerializerMethodField()
    settings = Anything()
    receipt_id = serializers.UUIDField(source="posting_id", help_text="Of the charge, once it is done.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_sentence(self, run) -> str:
        return training_sentence(run)

    def get_datanet_versions(self, run) -> list[str]:
        return _paths(run.versions.all())


class EngineSettings(Strict):
    """What an engine takes: linear l2 and image_side, neighbours k and image_side, the others nothing."""

    l2 = Number(
        required=False,
        min_value=0,
        help_text="Left out: chosen on held-out rows, the strongest from 1 to 100 that answers about as well as the best; "
        "1 for fewer than 50 records.",
    )
    k = Whole(min_value=1, max_value=99, required=False)
    image_side = Whole(min_value=4, max_value=64, required=False)


class NewRun(Strict):
    versions = serializers.ListField(
        child=Text(max_length=110), min_length=1, max_length=5, help_text="owner/slug@vN of each Datanet version."
    )
    settings = EngineSettings(required=False)


class Unattributed(Shown):
    reason = serializers.CharField()
    sentence = serializers.CharField()
    amount_nano, amount_open = money("amount_nano")


class ModelTotals(Shown):
    pool_nano, pool_open = money("pool_nano")
    paid_nano, paid_open = money("paid_nano")
    unattributed_nano, unattributed_open = money("unattributed_nano")
    waiting_nano, waiting_open = money("waiting_nano")
    released_nano, released_open = money("released_nano")
    coverage_millionths = serializers.IntegerField()
    last_posted_at = serializers.DateTimeField(allow_null=True)
    unattributed = Unattributed(many=True)


class ModelsView(ReadableView):
    """The shop."""

    @endpoint(
        "models_list", "List models with their prices.", query=ModelQuery, answers=page_of(ModelShown), reads=True
    )
    def get(self, request):
        told = query_of(request, ModelQuery)
        wanted = {name: told[name] for name in ("engine", "access_mode") if name in told}
        found = querysets.models_for(request.user).filter(**wanted)
        if told["mine"]:
            found = found.filter(owner=request.user.pk)
        return page(request, found, ModelShown, told=told)

    @endpoint(
        "models_create", "Make a model. Train a version, then list it.", body=NewModel, answers=ModelDetail, status=201
    )
    def post(self, request):
        given = body_of(request, NewModel)
        prices, parts = given.pop("prices", None), given.pop("split", None)
        with transaction.atomic():
            rule = rules.adopt(name=given["name"][:80], parts=dict(parts), by=request.user) if parts else None
            model = listings.create_model(owner=request.user, split_rule=rule, **given)
            if prices:
                listings.set_prices(model, by=request.user, **prices)
        return Response(_detail(request, model), status=201)


class ModelView(ReadableView):
    """One model."""

    @endpoint("models_read", "Read one model: prices, split, card.", answers=ModelDetail, reads=True)
    def get(self, request, owner, slug):
        return Response(_detail(request, visible(request, owner, slug)))

    @endpoint(
        "models_change",
        "Change what a model says, who may call it, or its split. For the owner.",
        body=ModelChanges,
        answers=ModelDetail,
    )
    def patch(self, request, owner, slug):
        model = owned(request, owner, slug)
        given = body_of(request, ModelChanges)
        parts = given.pop("split", None)
        names = ("name", "purpose", "card", "access_mode", "pass_price_nano", "pass_days", "free_calls_per_day")
        kept = {name: getattr(model, name) for name in names}
        with transaction.atomic():
            rule = model.split_rule
            if parts:
                rule = rules.adopt(name=(kept | given)["name"][:80], parts=dict(parts), by=request.user)
            listings.change_model(model, by=request.user, split_rule=rule, **kept | given)
        return Response(_detail(request, model))


class FallbacksView(ApiView):
    """Who answers in place of a model's upstream."""

    @endpoint("fallbacks_list", "See a model's fallbacks. For the owner.", answers=FallbacksShown, reads=True)
    def get(self, request, owner, slug):
        return Response(_fallbacks(owned(request, owner, slug)))

    @endpoint(
        "fallbacks_set",
        "Say who answers when a model's upstream does not. For the owner.",
        body=GivenFallbacks,
        answers=FallbacksShown,
    )
    def put(self, request, owner, slug):
        model = owned(request, owner, slug)
        given = body_of(request, GivenFallbacks)["fallbacks"]
        listings.set_fallbacks(model, by=request.user, fallbacks=[listings.FallbackWanted(**one) for one in given])
        return Response(_fallbacks(model))


class UpstreamKeyView(ApiView):
    """The key with which a model's upstream is called."""

    @endpoint(
        "models_upstream_key",
        "Say with which key a model's upstream is called; empty: with none. For the owner.",
        body=GivenKey,
        status=204,
    )
    def put(self, request, owner, slug):
        listings.replace_upstream_key(owned(request, owner, slug), by=request.user, **body_of(request, GivenKey))
        return Response(status=204)


class TermsView(PublicView):
    """What its rules were."""

    @endpoint(
        "models_rules",
        "List a model's split rules and ways in, the newest in force.",
        query=PageQuery,
        answers=page_of(TermsShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        found = ModelTerms.objects.filter(model=visible(request, owner, slug)).select_related("split_rule")
        return page(request, found, TermsShown, key="adopted_at")


class PricesView(ReadableView):
    """Price lists."""

    @endpoint(
        "prices_list",
        "List a model's price lists, the newest in force.",
        query=PageQuery,
        answers=page_of(PricesShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        found = PriceList.objects.filter(model=visible(request, owner, slug))
        return page(request, found, PricesShown, key="effective_at")

    @endpoint("prices_set", "Publish a price list. For the owner.", body=Prices, answers=PricesShown, status=201)
    def post(self, request, owner, slug):
        model = visible(request, owner, slug)
        prices = listings.set_prices(model, by=request.user, **body_of(request, Prices))
        return Response(PricesShown(prices).data, status=201)


class ListingView(ApiView):
    """In the shop, or not."""

    @endpoint("models_list_it", "Offer a model to callers. For the owner.", answers=ModelDetail)
    def put(self, request, owner, slug):
        return Response(_detail(request, listings.list_model(visible(request, owner, slug), by=request.user)))

    @endpoint("models_unlist", "Take a model out of the shop. For the owner.", status=204)
    def delete(self, request, owner, slug):
        listings.unlist_model(visible(request, owner, slug), by=request.user)
        return Response(status=204)


class RetirementView(ApiView):
    """The end of a model."""

    @endpoint(
        "models_retire",
        "Announce from when on a model takes no calls. Needs a fresh session. For the owner.",
        body=Retirement,
        answers=ModelDetail,
        refusals=(402,),
    )
    def put(self, request, owner, slug):
        model = visible(request, owner, slug)
        retiring.check_owner(model, request.user)
        require_fresh_session(request)
        return Response(_detail(request, retiring.announce(model, by=request.user, **body_of(request, Retirement))))

    @endpoint("models_keep", "Take the announcement back, until its day. For the owner.", status=204)
    def delete(self, request, owner, slug):
        retiring.call_off(visible(request, owner, slug), by=request.user)
        return Response(status=204)


_NOTHING = Value({}, output_field=JSONField())  # an operator model has no artifact of attribution


class ModelVersionsView(PublicView):
    """What answers."""

    @endpoint(
        "model_versions_list",
        "List a model's versions with what was measured.",
        query=PageQuery,
        answers=page_of(ModelVersionShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        found = ModelVersion.objects.filter(model=visible(request, owner, slug)).select_related("model__owner")
        artifact = Artifact.objects.filter(pk=OuterRef("artifact_sha256"))
        found = found.annotate(
            method=Subquery(artifact.values("method")[:1]),
            fee_method=Subquery(artifact.values("fee_method")[:1]),
            metrics=Coalesce(Subquery(artifact.values("metrics")[:1]), _NOTHING),
            artifact_settings=Coalesce(Subquery(artifact.values("settings")[:1]), _NOTHING),
        )
        found = found.select_related("training_run").prefetch_related("training_run__versions__datanet__owner")
        return page(request, found, ModelVersionShown, key="number")


class TotalsView(PublicView):
    """Where a model's money went."""

    @endpoint(
        "models_attribution",
        "See what a model's epochs paid, and what nothing supported.",
        answers=ModelTotals,
        reads=True,
    )
    def get(self, request, owner, slug):
        model = visible(request, owner, slug)
        left = explain.unattributed_by_reason(model.pk)
        rows = [
            {"reason": code, "sentence": unattributed_sentence(code), "amount_nano": nano}
            for code, nano in left.items()
        ]
        released = {
            "waiting_nano": releasing.waiting_nano(model.pk),
            "released_nano": releasing.released_nano(model.pk),
        }
        return Response(ModelTotals(explain.model_totals(model.pk) | released | {"unattributed": rows}).data)


class RunsView(ApiView):
    """Training runs of one's own model."""

    @endpoint(
        "training_runs_list",
        "List a model's training runs. For the owner.",
        query=PageQuery,
        answers=page_of(RunShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        return page(request, _runs(request).filter(model=owned(request, owner, slug)), RunShown)

    @endpoint(
        "training_runs_create",
        "Train a version; the fee is held now, charged when done. For the owner.",
        body=NewRun,
        answers=RunShown,
        status=201,
        refusals=(402,),
    )
    def post(self, request, owner, slug):
        model = owned(request, owner, slug)
        given = body_of(request, NewRun)
        settings = dict(given.get("settings", {}))
        if unknown := set(settings) - set(fitting.SETTINGS.get(model.engine, ())):
            raise Invalid(_("This engine does not take %(names)s.") % {"names": ", ".join(sorted(unknown))})
        versions = [_version(request, path) for path in given["versions"]]
        run = training.request(model=model, by=request.user, versions=versions, settings=settings)
        return Response(RunShown(run).data, status=201)


class RunView(ApiView):
    """One training run."""

    @endpoint("training_runs_read", "See where your training run stands.", answers=RunShown, reads=True)
    def get(self, request, run_id):
        return Response(RunShown(find(_runs(request), pk=run_id)).data)


def visible(request, owner: str, slug: str) -> ListedModel:
    """A listed model, or one's own."""
    return find(listings.visible_to(request.user), owner__username=owner, slug=slug)


def owned(request, owner: str, slug: str) -> ListedModel:
    """One's own model: 403 for a listed one of somebody else, 404 for what is not listed."""
    model = visible(request, owner, slug)
    if model.owner_id != request.user.pk:
        raise NotAllowed(_("Only the owner of a model may do this."))
    return model


def _detail(request, model: ListedModel) -> dict:
    found = querysets.models_for(request.user).get(pk=model.pk)
    return ModelDetail(found).data


def _fallbacks(model: ListedModel) -> dict:
    return FallbacksShown({"fallbacks": model.fallbacks.all()}).data


def _runs(request):
    found = TrainingRun.objects.filter(requested_by=request.user).select_related("model__owner")
    return found.prefetch_related("versions__datanet__owner")


def _paths(versions) -> list[str]:
    return [f"{version.datanet.path}@{version.label}" for version in versions]


def _version(request, path: str) -> Version:
    """A version by owner/slug@vN, of a Datanet one may know of."""
    found = listings.MODEL_PATH.match(path)
    if found is None or not found["number"]:
        raise Invalid(_("Name each version as owner/datanet@vN."))
    pools = Datanet.objects.visible_to(request.user).filter(owner__username=found["owner"], slug=found["slug"])
    versions = Version.objects.select_related("datanet__owner")
    return find(versions, datanet__in=pools.values("pk"), number=int(found["number"]))
