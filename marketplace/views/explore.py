"""The public pages: home, the list of Datanets, search, profiles, the site's state, documentation."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from uuid import UUID

from django.conf import settings
from django.conf.locale import LANG_INFO
from django.db.models import Count, Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import get_language, get_language_info, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from accounts.models import User
from attribution.models import Epoch
from datanets.models import Datanet, Record
from ledger import services as ledger

from .. import keeping, listings, markdown, people, querysets
from ..models import SplitRule
from ..templatetags import figures

FOUND_MAX = 10
PROBE_S = 1.0
PROBES_KEPT_S = 10
DOCS = {
    "api": gettext_lazy("Use the API"),
    "payouts": gettext_lazy("How payouts work"),
    "receipts": gettext_lazy("Verify a receipt"),
    "contributing": gettext_lazy("Contribute data"),
    "accessibility": gettext_lazy("Accessibility"),
}
LEGAL = {
    "terms": gettext_lazy("Terms of use"),
    "privacy": gettext_lazy("Privacy notice"),
    "contributor": gettext_lazy("Contributor agreement"),
}
SORTS = {
    "used": gettext_lazy("Most used, 30 days"),
    "newest": gettext_lazy("Newest"),
    "needs": gettext_lazy("Needs contributions"),
    "quality": gettext_lazy("Highest quality"),
}
QUALITY_FLOORS = ("60", "80", "90")
FILTERS = ("kind", "language", "licence", "access")


def home(request: HttpRequest) -> HttpResponse:
    """The promise, one call somebody chose to show, four totals, and the Datanets."""
    context = _explore(request) | {"totals": _stats(querysets.totals()), "sample": _sample()}
    return render(request, "marketplace/explore/home.html", context)


def datanets(request: HttpRequest) -> HttpResponse:
    """Every Datanet one may know of, filtered and sorted by the address."""
    return render(request, "marketplace/explore/datanets.html", _explore(request))


def _explore(request: HttpRequest) -> dict:
    """The filtered list: what home and the list of Datanets share."""
    chosen = {name: request.GET.getlist(name) for name in FILTERS}
    words = request.GET.get("q", "").strip()
    sort = request.GET.get("sort", "used")
    sort = sort if sort in SORTS else "used"
    found = querysets.datanets_for(request.user)
    for name, values in chosen.items():
        if values:
            found = found.filter(**{f"{name}__in": values})
    quality = request.GET.get("quality", "")
    quality = quality if quality in QUALITY_FLOORS else ""
    if quality:
        found = found.filter(quality_mean__gte=int(quality))
    if words:
        found = found.filter(Q(name__icontains=words) | Q(purpose__icontains=words) | Q(topics__icontains=words))
    page = querysets.page_by(
        found,
        querysets.DATANET_SORTS[sort],
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    counts = querysets.facets(request.user)
    sparks = querysets.calls_per_day(datanets=[datanet.pk for datanet in page.rows])
    for datanet in page.rows:
        datanet.spark = sparks[datanet.pk]
        datanet.spark_label = ngettext("%(n)s call in 30 days", "%(n)s calls in 30 days", datanet.calls_30d) % {
            "n": figures.number_text(datanet.calls_30d)
        }
    return {
        "page": page,
        "previous_url": cursor_url(request, "before", page.previous),
        "next_url": cursor_url(request, "after", page.next),
        "filters": [_facet(name, counts[name], chosen[name]) for name in FILTERS if counts[name]],
        "chips": [
            {"name": name, "value": value, "label": _value_label(name, value)}
            for name, values in [*chosen.items(), ("quality", [quality] if quality else [])]
            for value in values
        ],
        "quality": quality,
        "floors": [("", _("Any quality")), *((floor, _value_label("quality", floor)) for floor in QUALITY_FLOORS)],
        "words": words,
        "sort": sort,
        "sorts": SORTS.items(),
    }


def _facet(name: str, counts: dict[str, int], chosen: list[str]) -> dict:
    legends = {"kind": _("Kind of data"), "language": _("Language"), "licence": _("Licence"), "access": _("Access")}
    return {
        "name": name,
        "legend": legends[name],
        "options": [(value, _value_label(name, value), count, value in chosen) for value, count in counts.items()],
    }


def _value_label(name: str, value: str) -> str:
    choices = {"kind": Datanet.Kind, "access": Datanet.Access}.get(name)
    if choices is not None and value in choices.values:
        return str(choices(value).label)
    if name == "quality":
        return _("Quality from %(score)s") % {"score": value}
    return language_name(value) if name == "language" else value


def language_name(code: str) -> str:
    """A language by its name in the language of the page, where Django knows it, else its code."""
    return get_language_info(code)["name_translated"].capitalize() if code in LANG_INFO else code


def cursor_url(request: HttpRequest, name: str, cursor: str) -> str:
    """This page at a cursor, with its filters; empty where there is no such page."""
    if not cursor:
        return ""
    query = request.GET.copy()
    for stale in ("after", "before"):
        query.pop(stale, None)
    query[name] = cursor
    return f"?{query.urlencode()}"


def _stats(totals: querysets.Totals) -> list[dict]:
    matches = totals.difference_nano == 0
    return [
        {"label": "Datanets", "value": figures.number_text(totals.datanets)},
        {"label": _("Approved records"), "value": figures.number_text(totals.records)},
        {"label": _("Contributors paid"), "value": figures.number_text(totals.contributors)},
        {
            "label": _("Paid to contributors"),
            "amount_nano": totals.paid_nano,
            "note": _("Equal to the ledger") if matches else _("Differs from the ledger: being looked into"),
        },
    ]


def _sample() -> dict | None:
    found = querysets.sample_call()
    if found is None:
        return None
    call = found.call
    return {"call": call, "lines": split_lines(call, found.people)} | {"bar": split_bar(call.split_rule)}


def split_lines(call, people_of: dict[str, int]) -> list[dict]:
    """The roles of a charge with colour, words, part and amount, in the order in which pages show them."""
    data, curation = people_of.get("data", 0), people_of.get("curation", 0)
    data_label = ngettext("%(n)s data contributor", "%(n)s data contributors", data) % {"n": data}
    curation_label = ngettext("%(n)s curator", "%(n)s curators", curation) % {"n": curation}
    rule = call.split_rule
    rows = [
        ("v5", _("Model developer"), rule.developer_bp, call.developer_nano, False),
        ("v2", data_label if data else _("Data contributors"), rule.data_bp, call.data_nano, True),
        ("v1", curation_label if curation else _("Curators"), rule.curation_bp, call.curation_nano, False),
        ("v3", _("Datanet owners"), rule.owner_bp, call.owner_nano, False),
        ("", _("Platform"), rule.platform_bp, call.platform_nano, False),
    ]
    return [
        {"colour": colour, "label": label, "bp": bp, "amount_nano": nano, "on": on}
        for colour, label, bp, nano, on in rows
        if bp
    ]


def split_bar(rule) -> str:
    """The parts of a rule for components/bar.html."""
    parts = [(rule.developer_bp, "v5"), (rule.data_bp, "v2"), (rule.curation_bp, "v1"), (rule.owner_bp, "v3")]
    return ",".join(f"{bp / 100}:{colour}" for bp, colour in [*parts, (rule.platform_bp, "v0")] if bp)


def split_roles(rule: SplitRule) -> list[tuple[str, str, int]]:
    """(colour, whom, basis points) of each part of a rule."""
    return [
        ("v5", _("Model developer"), rule.developer_bp),
        ("v2", _("Data contributors"), rule.data_bp),
        ("v1", _("Curators"), rule.curation_bp),
        ("v3", _("Datanet owners"), rule.owner_bp),
        ("", _("Platform"), rule.platform_bp),
    ]


def search(request: HttpRequest) -> HttpResponse:
    """Datanets, models and people by word; a receipt by its id."""
    text = request.GET.get("q", "").strip()[:100]
    if receipt := _receipt_address(text):
        return redirect(receipt)
    context: dict = {"text": text, "datanets": [], "models": [], "people": []}
    if text:
        said = Q(name__icontains=text) | Q(purpose__icontains=text) | Q(slug__icontains=text)
        by_topic = said | Q(topics__icontains=text)
        context["datanets"] = (
            Datanet.objects.visible_to(request.user).select_related("owner").filter(by_topic)[:FOUND_MAX]
        )
        context["models"] = listings.visible_to(request.user).filter(said).order_by("name")[:FOUND_MAX]
        named = Q(username__icontains=text) | Q(display_name__icontains=text)
        context["people"] = User.objects.filter(named, is_active=True, is_wallet=False).order_by("username")[:FOUND_MAX]
    return render(request, "marketplace/explore/search.html", context)


def _receipt_address(text: str) -> str:
    """Where a receipt of this id would stand; empty for what is no id."""
    try:
        return f"/r/{UUID(text)}" if len(text) >= 32 else ""
    except ValueError:
        return ""


def person(request: HttpRequest, handle: str) -> HttpResponse:
    """What somebody has built: public work only, no amounts."""
    user = get_object_or_404(User, username=handle, is_active=True, is_wallet=False)
    visible = Datanet.objects.visible_to(request.user).select_related("owner")
    given = (
        Record.objects.filter(contributor=user, status=Record.Status.APPROVED, datanet__in=visible)
        .order_by()
        .values("datanet__name", "datanet__slug", "datanet__owner__username")
        .annotate(records=Count("pk"))
        .order_by("-records")
    )
    context = {
        "person": user,
        "owned": visible.filter(owner=user).order_by("name"),
        "models": listings.visible_to(request.user).filter(owner=user).order_by("name"),
        "given": given,
    }
    return render(request, "marketplace/explore/person.html", context)


def status(request: HttpRequest) -> HttpResponse:
    """How far the ledger, the log and settlement have come, and which parts answer."""
    head, newest = ledger.head(), ledger.head(quorum=False)
    settled = Epoch.objects.aggregate(at=Max("posted_at"))
    context = {
        "sequenced": ledger.log_size(),
        "head": head,
        "signed": newest,
        "lag": max(ledger.log_size() - head.size, 0),
        "witnesses_needed": settings.WITNESS_QUORUM,
        "open_epochs": Epoch.objects.exclude(status=Epoch.Status.POSTED).count(),
        "settled_at": settled["at"],
        "epoch_s": settings.EPOCH_S,
        "parts": keeping.kept("status-probes", _probes, for_s=PROBES_KEPT_S),
    }
    return render(request, "marketplace/explore/status.html", context)


def _probes() -> list[tuple[str, bool]]:
    return [
        ("gateway", _answers(f"{settings.GATEWAY_URL}/healthz")),
        ("models", _answers(f"{settings.MODELS_URL}/health")),
    ]


def _answers(url: str) -> bool:
    """Whether something speaks HTTP there; any answer counts, an error page too."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_S):  # noqa: S310  (our own settings)
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def docs_index(request: HttpRequest) -> HttpResponse:
    return render(request, "marketplace/explore/docs_index.html", {"docs": DOCS.items(), "legal": LEGAL.items()})


def docs(request: HttpRequest, page: str) -> HttpResponse:
    """One page of documentation: docs/site/<page>.<language>.md, in English where there is no other."""
    if page == "status":
        return redirect("status")
    if page not in DOCS:
        raise Http404
    folder = settings.BASE_DIR / "docs" / "site"
    translated = folder / f"{page}.{(get_language() or 'en')[:2]}.md"
    file = translated if translated.exists() else folder / f"{page}.en.md"
    text = file.read_text(encoding="utf-8").replace("{{ gateway }}", settings.GATEWAY_URL)
    title, rest = markdown.title_of(text.replace("{{ site }}", settings.SITE_URL))
    context = {"title": title, "html": markdown.to_html(_without_first_level(rest)), "language": file.stem[-2:]}
    return render(request, "marketplace/explore/document.html", context | {"docs": DOCS.items(), "current": page})


def legal(request: HttpRequest, document: str) -> HttpResponse:
    """The version in force of a document that people agree to. The English text binds."""
    version, text = people.document_text(document)
    language = (get_language() or "en")[:2]
    translated = settings.BASE_DIR / "docs" / "legal" / f"{document}-{version}.{language}.md"
    if translated.exists():
        text = translated.read_text(encoding="utf-8")
    title, rest = markdown.title_of(text)
    shown = language if translated.exists() else "en"
    context = {"title": title, "html": markdown.to_html(rest), "language": shown, "version": version}
    return render(request, "marketplace/explore/document.html", context | {"docs": LEGAL.items(), "current": document})


def _without_first_level(text: str) -> str:
    """Sections of our own pages are written with ##; rendering moves headings down, so they start at #."""
    return re.sub(r"^##", "#", text, flags=re.MULTILINE)


def settings_root(request: HttpRequest) -> HttpResponse:
    return redirect(reverse("settings_profile"))


pages = [
    path("", home, name="home"),
    path("datanets/", datanets, name="datanets"),
    path("search/", search, name="search"),
    path("people/<slug:handle>/", person, name="people"),
    path("status/", status, name="status"),
    path("docs/", docs_index, name="docs_index"),
    path("docs/<slug:page>/", docs, name="docs"),
    path("terms/", legal, {"document": "terms"}, name="terms"),
    path("privacy/", legal, {"document": "privacy"}, name="privacy"),
    path("contributor-agreement/", legal, {"document": "contributor"}, name="contributor_agreement"),
    path("settings/", settings_root, name="settings"),
]
plain: list = []
