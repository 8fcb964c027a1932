"""Acts on a Datanet: make one, change its settings, publish a version, answer requests, download."""

from __future__ import annotations

import csv
import io
import json

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.requests import SignedInRequest
from datanets import exports, licences, storage
from datanets import services as datanets
from datanets.errors import DatanetError, NotAllowed
from datanets.models import AccessRequest, Datanet, Version

from .. import forms_explore as forms
from .. import notifications, publishing, training
from ..errors import Invalid
from ..templatetags import figures
from . import explore_datanet


@login_required
@require_POST
def publish(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Freeze the approved records into the next version."""
    pool = explore_datanet.find(request, owner, slug)
    version = publishing.publish_version(pool, by=request.user, note=request.POST.get("note", "").strip()[:500])
    messages.success(
        request,
        _("Version %(number)s is published: %(records)s records.")
        % {"number": version.label, "records": figures.number_text(version.record_count)},
    )
    return redirect("datanet_tab", owner, slug, "versions")


@login_required
@require_POST
def access_request(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Ask the owner for the whole data."""
    pool = explore_datanet.find(request, owner, slug)
    form = forms.PurposeForm(request.POST)
    if not form.is_valid():
        context = (
            explore_datanet.frame(request, pool, "access") | explore_datanet.access(request, pool) | {"form": form}
        )
        return render(request, "marketplace/explore/datanet_access.html", context, status=422)
    asked = datanets.request_access(pool, user=request.user, purpose=form.cleaned_data["purpose"])
    address = reverse("datanet_tab", args=[owner, slug, "access"])
    notifications.notify(pool.owner, "access_requested", url=address, datanet=pool.path, by=asked.user.username)
    messages.success(request, _("Your request was sent to the owner."))
    return redirect(address)


@login_required
@require_POST
def access_answer(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Grant or refuse somebody's request."""
    pool = explore_datanet.find(request, owner, slug)
    form = forms.AnswerForm(request.POST)
    if not form.is_valid():
        raise Http404
    asked = get_object_or_404(AccessRequest, pk=form.cleaned_data["request"], datanet=pool)
    grant = request.POST.get("act") == "grant"
    asked = datanets.answer_access_request(asked, by=request.user, grant=grant, answer=form.cleaned_data["answer"])
    kind = "access_granted" if grant else "access_refused"
    notifications.notify(asked.user, kind, url=reverse("datanet", args=[owner, slug]), datanet=pool.path)
    messages.success(request, _("The request was granted.") if grant else _("The request was refused."))
    return redirect("datanet_tab", owner, slug, "access")


@login_required
@require_POST
def curators(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Add a curator, or let one go."""
    pool = explore_datanet.find(request, owner, slug)
    if not datanets.can_own(request.user, pool):
        raise NotAllowed
    form = forms.HandleForm(request.POST)
    if not form.is_valid():
        context = (
            explore_datanet.frame(request, pool, "access")
            | explore_datanet.access(request, pool)
            | {"curator_form": form}
        )
        return render(request, "marketplace/explore/datanet_access.html", context, status=422)
    someone = form.cleaned_data["handle"]
    if request.POST.get("act") == "remove":
        datanets.remove_curator(pool, user=someone, by=request.user)
        messages.success(request, _("%(name)s no longer reviews here.") % {"name": someone.label})
    else:
        datanets.add_curator(pool, user=someone, by=request.user)
        messages.success(request, _("%(name)s may review here now.") % {"name": someone.label})
    return redirect("datanet_tab", owner, slug, "access")


@login_required
@require_POST
def readers(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """Let somebody read a Datanet that is not open, or no longer."""
    pool = explore_datanet.find(request, owner, slug)
    if not datanets.can_own(request.user, pool):
        raise NotAllowed
    form = forms.HandleForm(request.POST, auto_id=explore_datanet.READER_FIELDS)
    if not form.is_valid():
        context = (
            explore_datanet.frame(request, pool, "access")
            | explore_datanet.access(request, pool)
            | {"reader_form": form}
        )
        return render(request, "marketplace/explore/datanet_access.html", context, status=422)
    someone = form.cleaned_data["handle"]
    if request.POST.get("act") == "remove":
        datanets.remove_reader(pool, user=someone, by=request.user)
        messages.success(request, _("%(name)s no longer reads here.") % {"name": someone.label})
    else:
        datanets.add_reader(pool, user=someone, by=request.user)
        messages.success(request, _("%(name)s may read here now.") % {"name": someone.label})
    return redirect("datanet_tab", owner, slug, "access")


@login_required
def datanet_export(request: SignedInRequest, owner: str, slug: str, fmt: str) -> FileResponse:
    """A whole version as a file: ?version=2, else the newest."""
    pool = explore_datanet.find(request, owner, slug)
    if fmt not in exports.FORMATS:
        raise Http404
    if not exports.may_export(request.user, pool):
        raise NotAllowed(_("You may not download this Datanet. Ask its owner for access."))
    versions = pool.versions.select_related("datanet").order_by("-number")
    number = explore_datanet.whole_number(request.GET.get("version"))
    version: Version | None = versions.filter(number=number).first() if number else versions.first()
    if version is None:
        raise Http404
    file = storage.open_file(exports.write(version, fmt=fmt))
    return FileResponse(file, as_attachment=True, filename=exports.file_name(version, fmt=fmt))


def datanet_template(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """An empty file with the columns of the Datanet, or with ?sample=1 one with made-up rows."""
    pool = explore_datanet.find(request, owner, slug)
    if pool.kind == Datanet.Kind.TABULAR:
        columns = pool.schema["columns"]
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([exports.neutral(column["name"]) for column in columns])
        if request.GET.get("sample"):
            writer.writerows([[_made_up(column, n) for column in columns] for n in range(3)])
        return _download(out.getvalue(), f"{slug}-template.csv", "text/csv; charset=utf-8")
    row = {"title": _("A title"), "text": _("The text of one record."), "source_url": "https://example.org/source"}
    if labels := pool.schema.get("labels"):
        row["label"] = labels[0]
    if pool.kind == Datanet.Kind.IMAGE:
        label = (pool.schema.get("labels") or [""])[0]
        return _download(f"name,label\npicture-1.png,{label}\n", "labels.csv", "text/csv; charset=utf-8")
    return _download(json.dumps(row, ensure_ascii=False) + "\n", f"{slug}-sample.jsonl", "application/jsonl")


def _made_up(column: dict, n: int):
    if column["type"] in ("number", "integer"):
        low = column.get("min", 0)
        high = column.get("max", low + 10)
        return min(int(low) + n + 1, high) if high >= 1 else high
    if column["type"] == "boolean":
        return "true" if n % 2 else "false"
    values = column.get("values") or ["example"]
    return exports.neutral(values[n % len(values)])


def _download(text: str, name: str, content_type: str) -> HttpResponse:
    return HttpResponse(
        text, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@login_required
def datanet_new(request: SignedInRequest) -> HttpResponse:
    """Make a Datanet. `more` adds rows for columns without JavaScript."""
    form = forms.DatanetForm(request.POST or None, owner=request.user)
    columns = forms.ColumnFormSet(request.POST or None, prefix="columns")
    if request.method != "POST":
        return render(request, "marketplace/explore/datanet_new.html", {"form": form, "columns": columns})
    if "more" in request.POST:
        given = request.POST.copy()
        given["columns-TOTAL_FORMS"] = str(min(len(columns.forms) + forms.COLUMN_ROWS, 200))
        context = {"form": form, "columns": forms.ColumnFormSet(given, prefix="columns"), "unchecked": True}
        return render(request, "marketplace/explore/datanet_new.html", context)
    if form.is_valid() and columns.is_valid():
        try:
            return redirect(_create(request.user, form.cleaned_data, columns.cleaned_data))
        except (ValidationError, DatanetError) as problem:
            form.add_error(None, problem if isinstance(problem, ValidationError) else str(problem))
    return render(request, "marketplace/explore/datanet_new.html", {"form": form, "columns": columns}, status=422)


@transaction.atomic
def _create(owner, given: dict, columns: list[dict]) -> str:
    """The Datanet with its fee and its curators, all or nothing; returns its address."""
    schema = forms.schema_of(given["kind"], given.pop("labels"), columns)
    fee_nano, curator_list = given.pop("training_fee"), given.pop("curators")
    pool = datanets.create_datanet(owner=owner, schema=schema, **given)
    if fee_nano:
        training.set_fee(pool, by=owner, training_fee_nano=fee_nano)
    for curator in curator_list:
        datanets.add_curator(pool, user=curator, by=owner)
    return reverse("datanet", args=[owner.username, pool.slug])


@login_required
def datanet_settings(request: SignedInRequest, owner: str, slug: str) -> HttpResponse:
    """What its owner may change of a Datanet. For everybody else there is no such page."""
    pool = explore_datanet.find(request, owner, slug)
    if not datanets.can_own(request.user, pool):
        raise Http404
    initial = forms.DatanetSettingsForm.initial_of(pool, fee_nano=training.fee_nano(pool))
    form = forms.DatanetSettingsForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            changed = _change(pool, request.user, form)
        except (DatanetError, Invalid) as problem:
            form.add_error(None, str(problem))
        else:
            messages.success(request, _("The settings are saved.") if changed else _("Nothing was different."))
            return redirect("datanet_settings", owner, slug)
    licence = licences.LICENCES.get(pool.licence)
    stored = explore_datanet.find(request, owner, slug)  # read again: a refused change may have touched `pool`
    context = explore_datanet.frame(request, stored, "settings") | {
        "form": form,
        "licence": licence.name if licence else pool.licence,
        "fees": pool.terms.order_by("-adopted_at", "-pk")[: explore_datanet.LISTED_MAX],
    }
    return render(
        request,
        "marketplace/explore/datanet_settings.html",
        context,
        status=422 if request.method == "POST" else 200,
    )


@transaction.atomic
def _change(pool: Datanet, owner: User, form: forms.DatanetSettingsForm) -> bool:
    """The settings and the fee, all or nothing. Returns whether anything is different."""
    changed = publishing.change_datanet(pool, by=owner, **form.changes())
    fee_nano = form.cleaned_data["training_fee"] or 0
    if fee_nano == training.fee_nano(pool):
        return bool(changed)
    training.set_fee(pool, by=owner, training_fee_nano=fee_nano)
    return True


_HERE = "datanets/<slug:owner>/<slug:slug>/"
pages = [
    path("datanets/new/", datanet_new, name="datanet_new"),
    path(f"{_HERE}settings/", datanet_settings, name="datanet_settings"),
    path(f"{_HERE}publish/", publish, name="datanet_publish"),
    path(f"{_HERE}access/request/", access_request, name="datanet_access_request"),
    path(f"{_HERE}access/answer/", access_answer, name="datanet_access_answer"),
    path(f"{_HERE}access/curators/", curators, name="datanet_curators"),
    path(f"{_HERE}access/readers/", readers, name="datanet_readers"),
    path(f"{_HERE}export.<slug:fmt>", datanet_export, name="datanet_export"),
    path(f"{_HERE}template/", datanet_template, name="datanet_template"),
]
plain: list = []
