"""A model for whoever may call it: prices, split, what it learned from, how well it answers, and why."""

from __future__ import annotations

from statistics import median
from uuid import uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest
from attribution import attacked, cardwords, explain, methods, noise_words
from attribution.models import Artifact, Epoch, RecordEpoch
from attribution.reasons import unattributed_sentence
from datanets import services as datanets
from datanets.models import Datanet, Version

from .. import (
    access,
    charts,
    listings,
    markdown,
    measuring,
    playground,
    promotion,
    querysets,
    releasing,
    sharing,
    snippets,
)
from ..forms_explore import playground_form
from ..models import ApiKey, Call, ListedModel, ModelVersion, Role
from ..templatetags import figures
from . import explore, rule_history

MILLION = 1_000_000
HISTORY_ROWS = 20
TIMED_CALLS = 100
SORTS = {
    "used": gettext_lazy("Most used, 30 days"),
    "cheap": gettext_lazy("Cheapest"),
    "newest": gettext_lazy("Newest"),
}
FIGURES = {
    "accuracy": gettext_lazy("Accuracy on rows it had not seen"),
    "baseline_accuracy": gettext_lazy("Always answering the most common class"),
    "r2": gettext_lazy("R² on rows it had not seen"),
    "mean_absolute_error": gettext_lazy("Mean absolute error"),
    "judged_rows": gettext_lazy("Rows judged"),
    "records": gettext_lazy("Records bound"),
    "leaders": gettext_lazy("Records that lead"),
    "passages": gettext_lazy("Passages it can quote"),
    "words": gettext_lazy("Words its answers are compared with"),
}
SETTINGS = {
    "l2": gettext_lazy("Regularisation (l2)"),
    "k": gettext_lazy("Neighbours asked (k)"),
}


def models(request: HttpRequest) -> HttpResponse:
    """All models one may see, with what they cost."""
    sort = request.GET.get("sort", "used")
    sort = sort if sort in SORTS else "used"
    engine, mode = request.GET.get("engine", ""), request.GET.get("access", "")
    found = querysets.models_for(request.user)
    if engine in ListedModel.Engine.values:
        found = found.filter(engine=engine)
    if mode in ListedModel.AccessMode.values:
        found = found.filter(access_mode=mode)
    key = querysets.MODEL_SORTS[sort]
    page = querysets.page_by(found, key, after=request.GET.get("after", ""), before=request.GET.get("before", ""))
    coverage = querysets.coverage_of([model.pk for model in page.rows])
    for model in page.rows:
        model.coverage = coverage[model.pk]
        model.price_in = _per_million(model.price_in_nano)
        model.price_out = _per_million(model.price_out_nano)
    context = {
        "page": page,
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
        "sorts": SORTS.items(),
        "sort": sort,
        "engines": [("", _("All kinds")), *ListedModel.Engine.choices],
        "engine": engine,
        "modes": [("", _("All access modes")), *ListedModel.AccessMode.choices],
        "mode": mode,
    }
    return render(request, "marketplace/explore/models.html", context)


def _per_million(price_nano: int | None) -> int | None:
    return None if price_nano is None else price_nano * MILLION


def model(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """The default tab: try it, what it costs, what it learned from."""
    found, version = find(request, owner, slug)
    return render(request, "marketplace/explore/model.html", page_of(request, found, version))


def page_of(request: HttpRequest, found: ListedModel, version: ModelVersion | None, form=None, quote=None) -> dict:
    """Everything the default tab shows. form: one with errors; quote: what the gateway quoted."""
    learned, datanet = _learned_from(version)
    score_card = cardwords.of_version(version.pk) if version else None
    artifact = score_card.artifact if score_card else None
    if version and artifact is None:
        artifact = Artifact.objects.filter(sha256=version.artifact_sha256).first()
    prices = listings.prices_of(found)
    may_call = request.user.is_authenticated and access.may_call(request.user, found)
    return _frame(request, found, version, "about") | {
        "learned": learned,
        "learned_total_nano": sum(row["paid_nano"] for row in learned),
        "artifact": artifact,
        "figures": _figures(artifact),
        "methods": _methods(artifact, score_card),
        "score_card": score_card,
        "may_measure": _may_measure(request, found),
        "attack_gains": attacked.measured(artifact.method) if artifact else None,
        "prices": prices,
        "free_calls_last": found.free_calls_per_day > 0 and promotion.summary(found.owner).total_nano > 0,
        "stats": _stats(found, prices),
        "may_call": may_call,
        "form": form or (playground_form(found, datanet, example=_example(request, learned)) if datanet else None),
        "is_chat": found.engine in (ListedModel.Engine.RETRIEVAL, ListedModel.Engine.CONNECTED),
        "nonce": uuid4().hex,
        "refusals": playground.refusals(),
        "quote": quote,
        "said": _last_answer(request, found),
        "snippets": snippets.of(found, datanet, key=_key_prefix(request)),
    }


def model_tab(request: HttpRequest, owner: str, slug: str, tab: str) -> HttpResponse:
    """Attribution, versions, rules, usage: each a page of its own."""
    found, version = find(request, owner, slug)
    if tab not in TABS:
        raise Http404
    context = _frame(request, found, version, tab) | TABS[tab](found)
    return render(request, f"marketplace/explore/model_{tab}.html", context)


def _attribution(found: ListedModel) -> dict:
    reasons = explain.unattributed_by_reason(found.pk)
    rule = found.split_rule
    return {
        "totals": explain.model_totals(found.pk),
        "released_nano": releasing.released_nano(found.pk),
        "waiting_nano": releasing.waiting_nano(found.pk),
        "kept_days": settings.UNATTRIBUTED_KEPT_S // 86400,
        "coverage_bp": querysets.coverage_of([found.pk])[found.pk],
        "noise": noise_words.sentence_of(noise_words.newest_of(found.pk)),
        "reasons": [(unattributed_sentence(code), nano) for code, nano in reasons.items()],
        "epochs": Epoch.objects.filter(model_id=found.pk).order_by("-number")[:HISTORY_ROWS],
        "rule": rule,
        "rule_bar": explore.split_bar(rule),
        "roles": explore.split_roles(rule),
    }


def _versions(found: ListedModel) -> dict:
    rows = list(
        found.versions.select_related("training_run")
        .prefetch_related("training_run__versions__datanet__owner")
        .order_by("-number")[:HISTORY_ROWS]
    )
    artifacts = Artifact.objects.in_bulk([row.artifact_sha256 for row in rows])
    return {
        "rows": [
            {
                "version": row,
                "figures": _figures(artifacts.get(row.artifact_sha256))[:2],
                "learned": row.learned_from,
            }
            for row in rows
        ]
    }


def _usage(found: ListedModel) -> dict:
    counts = querysets.calls_per_day(models=[found.pk])[found.pk]
    finding = _("%(n)s calls in 30 days") % {"n": figures.number_text(sum(counts))}
    return {
        "chart": charts.line(
            labels=[figures.day_text(day) for day in querysets.days()],
            values=counts,
            title=_("Calls per day"),
            finding=finding,
            value_label=_("Calls"),
        ),
        "finding": finding,
    }


TABS = {"attribution": _attribution, "versions": _versions, "rules": rule_history.of_model, "usage": _usage}


def find(request: HttpRequest, owner: str, slug: str) -> tuple[ListedModel, ModelVersion | None]:
    """A model the person may see, with its newest version; others are 404."""
    found = get_object_or_404(listings.visible_to(request.user), owner__username=owner, slug=slug)
    return found, found.versions.select_related("training_run").order_by("-number").first()


def datanet_of(version: ModelVersion | None) -> Datanet | None:
    """A Datanet that tells the kind and the schema of a version's data; all it is bound to agree on them."""
    bound = (
        Version.objects.filter(training_runs__model_version=version).select_related("datanet").first()
        if version
        else None
    )
    return bound.datanet if bound else None


def _frame(request: HttpRequest, found: ListedModel, version: ModelVersion | None, current: str) -> dict:
    here = [found.owner.username, found.slug]
    names = [
        ("about", _("Model")),
        ("attribution", _("Attribution")),
        ("versions", _("Versions")),
        ("rules", _("Rules and prices")),
        ("usage", _("Use")),
    ]
    user = request.user
    return {
        "model": found,
        "version": version,
        "owns": user.is_authenticated and found.owner_id == user.pk,
        "pass": access.running(found, user).first() if user.is_authenticated else None,
        "wallets": sharing.of(user).exclude(role=Role.VIEWER) if user.is_authenticated else (),
        "card": markdown.to_html(found.card),
        "tabs": [
            {
                "url": reverse("model", args=here) if tab == "about" else reverse("model_tab", args=[*here, tab]),
                "label": label,
                "current": tab == current,
            }
            for tab, label in names
        ],
    }


def _learned_from(version: ModelVersion | None) -> tuple[list[dict], Datanet | None]:
    """The frozen versions behind a model version, and which part of what its calls paid went to each Datanet."""
    if version is None or version.training_run is None:
        return [], None
    bound = list(version.training_run.versions.select_related("datanet__owner").order_by("datanet__name"))
    paid = dict(
        RecordEpoch.objects.filter(model_version_id=version.pk)
        .order_by()
        .values_list("record__datanet_id")
        .annotate(total=Sum("amount_nano"))
    )
    total = sum(paid.values())
    rows = [
        {
            "version": row,
            "paid_nano": paid.get(row.datanet_id, 0),
            "share": paid.get(row.datanet_id, 0) / total if total else None,
        }
        for row in bound
    ]
    return rows, bound[0].datanet if bound else None


def _figures(artifact: Artifact | None) -> list[tuple[str, str]]:
    """What held-out rows said when the version was made, and the settings it was made with."""
    if artifact is None:
        return []
    shown = []
    for name, label in FIGURES.items():
        value = artifact.metrics.get(name)
        if value is not None:
            is_share = name in ("accuracy", "baseline_accuracy")
            text = (
                figures.share_text(float(value), 1)
                if is_share
                else figures.number_text(value, 0 if type(value) is int else 3)
            )
            shown.append((str(label), text))
    for name, label in SETTINGS.items():
        if name in artifact.settings:
            shown.append((str(label), figures.significant_text(artifact.settings[name])))
    return shown


def _methods(
    artifact: Artifact | None, score_card: cardwords.CardShown | None
) -> list[tuple[str, methods.MethodShown]]:
    """How its calls are attributed, and how money of passes and training runs is split; below the floor equally, both."""
    if artifact is None:
        return []
    if score_card is not None and score_card.is_below:
        return [(_("Calls, passes and training runs"), methods.shown(methods.EQUAL_BELOW_FLOOR))]
    return [
        (_("Calls"), methods.shown(artifact.method)),
        (_("Passes and training runs"), methods.shown(artifact.fee_method)),
    ]


def _stats(found: ListedModel, prices) -> list[dict]:
    recent = Call.objects.filter(model=found, status=Call.Status.SUCCEEDED).order_by("-finished_at")
    times = [
        (finished - started).total_seconds()
        for started, finished in recent.values_list("started_at", "finished_at")[:TIMED_CALLS]
    ]
    items = []
    if prices is not None:
        items = [
            {"label": _("Per call"), "amount_nano": prices.price_call_nano, "places": 4},
            {
                "label": _("Input"),
                "amount_nano": prices.price_in_nano * MILLION,
                "places": 4,
                "note": _("per million tokens"),
            },
        ]
    if prices is not None and not found.is_operator_model:
        items += [
            {
                "label": _("Output"),
                "amount_nano": prices.price_out_nano * MILLION,
                "places": 4,
                "note": _("per million tokens"),
            },
            {
                "label": _("When it abstains"),
                "amount_nano": prices.price_abstain_nano,
                "places": 4,
                "note": _("per call whose caller requires more of the data"),
            },
        ]
    shown = _duration(median(times)) if times else "—"
    items.append(
        {"label": _("Time of an answer"), "value": shown, "note": _("median of the last %(n)s") % {"n": len(times)}}
    )
    calls = querysets.calls_per_day(models=[found.pk])[found.pk]
    items.append({"label": _("Calls"), "value": figures.number_text(sum(calls)), "note": _("in 30 days")})
    return items


def _duration(seconds: float) -> str:
    return (
        f"{figures.number_text(seconds, 1)} s" if seconds >= 1 else f"{figures.number_text(round(seconds * 1000))} ms"
    )


def _key_prefix(request: HttpRequest) -> str:
    if not request.user.is_authenticated:
        return ""
    mine = ApiKey.objects.filter(owner=request.user, revoked_at__isnull=True, is_playground=False)
    return mine.order_by("-created_at").values_list("prefix", flat=True).first() or ""


def _example(request: HttpRequest, learned: list[dict]) -> dict:
    """A row to start from: the medians and the most frequent values of the newest data, for those who may read it."""
    version = learned[0]["version"] if learned else None
    if version is None or not datanets.can_read(request.user, version.datanet):
        return {}
    columns = version.statistics.get("columns", [])
    return {
        each["name"]: float(f"{each['q50']:.4g}") if "q50" in each else each.get("top")
        for each in columns
        if each.get("type") != "text"
    }


def _last_answer(request: HttpRequest, found: ListedModel) -> dict | None:
    """The answer of this session that the address asks for (?call=), ready to be shown."""
    wanted = request.GET.get("call", "")
    kept = playground.kept(request.session, found) if wanted and request.user.is_authenticated else None
    if kept is None or kept["answer"].get("open", {}).get("receipt_id") != wanted:
        return None
    return {"question": kept["question"], "call_id": wanted} | snippets.shown_answer(kept["answer"])


@login_required
@require_POST
def buy_pass(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Buy the pass of a model."""
    found, _version = find(request, owner, slug)
    buyer = request.user
    if wallet := request.POST.get("wallet"):
        buyer = get_object_or_404(sharing.of(request.user), wallet__account__username=wallet).wallet.account
    bought = access.buy_pass(found, buyer=buyer, by=request.user)
    assert bought.ends_at is not None  # only an invitation has no end
    messages.success(
        request,
        _("Your pass runs until %(date)s. It does not renew itself.")
        % {"date": date_format(bought.ends_at, _("j M Y"))},
    )
    return redirect("model", owner, slug)


def model_score_card(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """The score card alone, for htmx; a post has the newest version measured again, for its owner and admins."""
    found, version = find(request, owner, slug)
    if version is None:
        raise Http404
    if request.method == "POST":
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        measuring.measure_again(version, by=request.user)
        messages.success(request, _("The model is being measured again."))
        return redirect(reverse("model", args=[owner, slug]) + "#score-card")
    context = {
        "model": found,
        "score_card": cardwords.of_version(version.pk),
        "may_measure": _may_measure(request, found),
    }
    return render(request, "marketplace/explore/_score_card.html", context)


def _may_measure(request: HttpRequest, found: ListedModel) -> bool:
    user = request.user
    return user.is_authenticated and (user.is_staff or found.owner_id == user.pk)


_HERE = "models/<slug:owner>/<slug:slug>/"
pages = [
    path("models/", models, name="models"),
    path(_HERE, model, name="model"),
    path(f"{_HERE}pass/", buy_pass, name="model_pass"),
    path(f"{_HERE}score-card/", model_score_card, name="model_score_card"),
    path(f"{_HERE}<slug:tab>/", model_tab, name="model_tab"),
]
plain: list = []
