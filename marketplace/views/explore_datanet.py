"""A Datanet: preview, people, versions, payouts, access. Acts on it are in datanet_acts."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attribution import explain
from attribution.models import Epoch, RecordEpoch, RecordFee
from datanets import exports, licences, media, questions, records
from datanets import services as datanets
from datanets.columns import columns_of, label_of
from datanets.models import Datanet, Membership, Record, Version

from .. import charts, listings, markdown, querysets, training
from .. import forms_explore as forms
from ..models import ModelVersion
from ..templatetags import figures
from . import explore, rule_history

PREVIEW_ROWS = 25
PREVIEW_COLUMNS = 7
LISTED_MAX = 50
EXCERPT_CHARS = 140
READER_FIELDS = "reader_%s"  # two forms of one page ask for a handle


# --- The Datanet


def datanet(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """The default tab: records with their statistics, searched and filtered by the address."""
    pool = find(request, owner, slug)
    version = pool.versions.order_by("-number").first()
    words, label = request.GET.get("q", "").strip(), request.GET.get("label", "")
    described = {each["name"]: each for each in (version.statistics.get("columns", []) if version else [])}
    columns = columns_of(pool.kind, pool.schema)
    shown = columns if request.GET.get("columns") == "all" else _first_columns(pool, columns, described)
    everything = datanets.can_curate(request.user, pool)
    readable = everything or datanets.can_read(request.user, pool)
    found = records.preview(pool, viewer=request.user, reads_all=everything, reads=readable)
    rows, cursor = records.page(
        records.search(found.select_related("contributor"), words, pool=pool, label=label),
        after=whole_number(request.GET.get("after")),
        limit=PREVIEW_ROWS,
    )
    given, paid_nano = _people(pool, version)
    context = frame(request, pool, "preview") | {
        "version": version,
        "readable": readable,
        "everything": everything,
        "columns": [_column_head(column.name, column.type, described.get(column.name), readable) for column in shown],
        "columns_left": len(columns) - len(shown),
        "rows": [_row(record, pool, shown) for record in rows],
        "next_url": explore.cursor_url(request, "after", str(cursor) if cursor else ""),
        "first_url": explore.cursor_url(request, "after", "0") if request.GET.get("after") else "",
        "words": words,
        "label": label,
        "labels": _labels(pool, described),
        "statistics": list(described.values()) if readable else [],
        "withdrawn": records.withdrawn_from(version).count() if version and readable else 0,
        "may_export": version is not None and exports.may_export(request.user, pool, reads=readable),
        "formats": exports.FORMATS,
        "fee_nano": training.fee_nano(pool),
        "followers": version.record_count - version.leader_count if version else 0,
        "paid_nano": paid_nano,
        "quality": querysets.quality_of(given),
        "use": _use(pool),
        "people": given[:5],
        "models": querysets.models_of_datanet(pool, request.user)[:5],
    }
    return render(request, "marketplace/explore/datanet.html", context)


def datanet_tab(request: HttpRequest, owner: str, slug: str, tab: str) -> HttpResponse:
    """The other tabs, each a page of its own."""
    pool = find(request, owner, slug)
    if tab not in TABS:
        raise Http404
    context = frame(request, pool, tab) | TABS[tab](request, pool)
    return render(request, f"marketplace/explore/datanet_{tab}.html", context)


def _card(request: HttpRequest, pool: Datanet) -> dict:
    return {
        "guidelines": markdown.to_html(pool.guidelines),
        "licence": licences.LICENCES.get(pool.licence),
        # Without the key, a template would find the dictionary's own method.
        "columns": [{"values": []} | column for column in pool.schema.get("columns", [])],
        "schema_label": pool.schema.get("label"),
        "labels": pool.schema.get("labels", []),
        "answers": [(text, pool.answers.get(question, "")) for question, text in questions.QUESTIONS.items()],
        "fees": pool.terms.order_by("-adopted_at", "-pk")[:LISTED_MAX],
    }


def _contributors(request: HttpRequest, pool: Datanet) -> dict:
    return {"people": _people(pool, pool.versions.order_by("-number").first())[0]}


def _submissions(request: HttpRequest, pool: Datanet) -> dict:
    shown = pool.submissions.filter(status__in=["in_review", "decided"])
    if datanets.can_curate(request.user, pool):
        shown = pool.submissions.exclude(status="withdrawn")
    of_status = {name: Count("records", filter=Q(records__status=name)) for name in ("waiting", "approved", "rejected")}
    rows = shown.select_related("contributor").annotate(**of_status).order_by("-created_at")[:LISTED_MAX]
    return {"submissions": rows, "limit": LISTED_MAX}


def _models(request: HttpRequest, pool: Datanet) -> dict:
    found: list[Any] = list(querysets.models_of_datanet(pool, request.user)[:LISTED_MAX])
    sparks = querysets.calls_per_day(models=[model.pk for model in found])
    for model in found:
        model.spark = sparks[model.pk]
        model.spark_label = _("Calls of the last 30 days")
    return {"models": found}


def _versions(request: HttpRequest, pool: Datanet) -> dict:
    waiting = pool.records.filter(status=Record.Status.APPROVED, added_in=None)
    return {
        "versions": pool.versions.select_related("created_by").order_by("-number")[:LISTED_MAX],
        "unpublished": waiting.count() if datanets.can_own(request.user, pool) else 0,
    }


def _payouts(request: HttpRequest, pool: Datanet) -> dict:
    """What settled epochs paid this Datanet's contributors; a model's epoch pays other Datanets too."""
    bound = ModelVersion.objects.filter(training_run__versions__datanet=pool).values("model_id")
    names = {model.pk: model for model in listings.visible_to(request.user).filter(pk__in=bound)}
    epochs = Epoch.objects.filter(model_id__in=bound, status=Epoch.Status.POSTED).order_by("-posted_at")[:LISTED_MAX]
    paid = {epoch.pk: 0 for epoch in epochs}
    for sums in (RecordEpoch, RecordFee):
        found = sums.objects.filter(epoch__in=list(paid), record__datanet=pool).order_by().values_list("epoch_id")
        for epoch_id, nano in found.annotate(total=Sum("amount_nano")):
            paid[epoch_id] += nano
    rows = [
        {"epoch": epoch, "model": names.get(epoch.model_id), "here_nano": paid[epoch.pk]}
        for epoch in epochs
        if paid[epoch.pk] or epoch.model_id in names
    ]
    return {"rows": rows, "paid_nano": sum(paid.values()), "limit": LISTED_MAX}


def access(request: HttpRequest, pool: Datanet) -> dict:
    mine = None
    if request.user.is_authenticated:
        mine = pool.access_requests.filter(user=request.user).order_by("-created_at").first()
    owns = datanets.can_own(request.user, pool)
    return {
        "readable": datanets.can_read(request.user, pool),
        "mine": mine,
        "answer_time": _answer_time(pool),
        "owns": owns,
        "form": forms.PurposeForm(),
        "waiting": pool.access_requests.filter(status="waiting").select_related("user") if owns else [],
        "members": pool.memberships.exclude(role=Membership.Role.CONTRIBUTOR).select_related("user").order_by("role")
        if owns
        else [],
        "curator_form": forms.HandleForm(),
        "reader_form": forms.HandleForm(auto_id=READER_FIELDS),
    }


def _answer_time(pool: Datanet) -> str:
    found = querysets.answer_time_of(pool)
    if found is None:
        return ""
    hours = max(1, round(found.total_seconds() / 3600))
    if hours < 48:
        return ngettext("%(n)s hour", "%(n)s hours", hours) % {"n": hours}
    days = round(hours / 24)
    return ngettext("%(n)s day", "%(n)s days", days) % {"n": days}


TABS = {
    "card": _card,
    "contributors": _contributors,
    "submissions": _submissions,
    "models": _models,
    "versions": _versions,
    "rules": rule_history.of_datanet,
    "payouts": _payouts,
    "access": access,
}


def frame(request: HttpRequest, pool: Datanet, current: str) -> dict:
    """What stands above every tab: the name, the badges and the tabs."""
    here = [pool.owner.username, pool.slug]
    names = [
        ("preview", _("Preview")),
        ("card", _("Card")),
        ("contributors", _("Contributors")),
        ("submissions", _("Submissions")),
        ("models", _("Models")),
        ("versions", _("Versions")),
        ("rules", _("Rules")),
        ("payouts", _("Payouts")),
        ("access", _("Access")),
    ]
    if owns := datanets.can_own(request.user, pool):
        names.append(("gold", _("Planted records")))
    return {
        "datanet": pool,
        "language_name": explore.language_name(pool.language),
        "owns": owns,
        "tabs": [
            {
                "url": reverse("datanet", args=here) if tab == "preview" else reverse("datanet_tab", args=[*here, tab]),
                "label": label,
                "current": tab == current,
            }
            for tab, label in names
        ],
    }


def find(request: HttpRequest, owner: str, slug: str) -> Datanet:
    """A Datanet that the person may know of; others are 404, as if they did not exist."""
    visible = Datanet.objects.visible_to(request.user).select_related("owner")
    return get_object_or_404(visible, owner__username=owner, slug=slug)


def _people(pool: Datanet, version: Version | None) -> tuple[list[dict], int]:
    """Contributors with their share of the approved records and of what calls paid; and what calls paid in all."""
    given = querysets.approved_by_contributor(pool)
    total = sum(row["records"] for row in given)
    paid = explain.contributors_of([version]) if version else []
    earned = {row["record__contributor_id"]: row["amount_nano"] for row in paid}
    all_nano = sum(earned.values())
    for row in given:
        row["share"] = row["records"] / total if total else 0
        row["earned_share"] = earned.get(row["contributor_id"], 0) / all_nano if all_nano else None
    return given, all_nano


def _use(pool: Datanet) -> charts.Chart | None:
    """Calls per day of the models that learned from a Datanet; None where there was none."""
    counts = querysets.calls_per_day(datanets=[pool.pk])[pool.pk]
    if not any(counts):
        return None
    return charts.line(
        labels=[figures.day_text(day) for day in querysets.days()],
        values=counts,
        title=_("Calls per day"),
        finding=_("%(n)s calls in 30 days") % {"n": figures.number_text(sum(counts))},
        value_label=_("Calls"),
    )


def _first_columns(pool: Datanet, columns, described: dict):
    """The first columns with values, and the label: a wide table stays readable; the record's page shows all."""
    name = label_of(pool.kind, pool.schema)
    filled = [each for each in columns if described.get(each.name, {}).get("count", 1) and each.name != "source_url"]
    first = [column for column in filled if column.name != name][: PREVIEW_COLUMNS - 1]
    return [column for column in filled if column in first or column.name == name]


def _column_head(name: str, type_: str, described: dict | None, readable: bool) -> dict:
    """A column's name, its type and the shape of its values over all rows of the newest version."""
    head = {"name": name, "type": type_, "numeric": type_ in ("number", "integer"), "bars": [], "low": "", "high": ""}
    if not described or not readable or not described.get("count"):
        return head
    if "histogram" in described:
        head["bars"] = described["histogram"]["counts"]
        head["low"], head["high"] = _figure(described["min"]), _figure(described["max"])
    elif type_ != "text" and described.get("values"):
        head["bars"] = [times for _value, times in described["values"][:10]]
        head["low"] = str(described["values"][0][0])[:24]
        head["high"] = f"+{described['distinct'] - 1}" if described["distinct"] > 1 else ""
    elif "chars" in described:
        chars = described["chars"]
        head["low"] = figures.number_text(chars["min"])
        head["high"] = _("%(n)s characters") % {"n": figures.number_text(chars["max"])}
    head["label"] = _("%(column)s: from %(low)s to %(high)s") % {
        "column": name,
        "low": head["low"],
        "high": head["high"],
    }
    return head


def _figure(value: float) -> str:
    return figures.significant_text(value)


def _row(record: Record, pool: Datanet, columns) -> dict:
    body = record.body.body if hasattr(record, "body") else {}
    thumb = record.body.thumb_key if hasattr(record, "body") else ""
    cells = [(_shown(body.get(column.name)), column.type in ("number", "integer"), column.type) for column in columns]
    return {"record": record, "cells": cells, "thumb_url": media.url_of(thumb) if thumb else ""}


def _shown(value) -> str:
    if value is None:
        return "—"
    text = str(value)
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "…"


def _labels(pool: Datanet, described: dict) -> list[str]:
    """The values a reader can filter the label by."""
    column = described.get(label_of(pool.kind, pool.schema) or "") or {}
    if column.get("type") in ("number", "integer", "text"):
        return []
    return [str(value) for value, _times in column.get("values", [])]


def whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


_HERE = "datanets/<slug:owner>/<slug:slug>/"
pages = [
    path(_HERE, datanet, name="datanet"),
    path(f"{_HERE}<slug:tab>/", datanet_tab, name="datanet_tab"),
]
plain: list = []
