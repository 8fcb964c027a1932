"""For contributors: their submissions, a new one, and the page of one, with what such data has earned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q, Sum, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts.models import Consent
from accounts.requests import SignedInRequest
from attribution import explain
from attribution.models import Epoch, RecordEpoch
from datanets import sentences, submissions
from datanets.forms import DescribeForm
from datanets.models import Datanet, Record, Submission
from datanets.views import contribute as datanet_pages
from datanets.views import submission_page
from marketplace import people

PAGE_ROWS = 25
ESTIMATE_DAYS = 30
ESTIMATE_SUBMISSIONS_MIN = 3
_OPEN_NOW = (Submission.Status.RECEIVING, Submission.Status.CHECKING, Submission.Status.NEEDS_AUTHOR)


class StartForm(forms.Form):
    """Which Datanet the data is for, and the contributor agreement where it has not been agreed to."""

    datanet = forms.ModelChoiceField(
        label=gettext_lazy("Datanet"),
        queryset=Datanet.objects.none(),
        widget=forms.Select(attrs={"class": "select"}),
        empty_label=gettext_lazy("Choose a Datanet"),
    )
    agree = forms.BooleanField(
        label=gettext_lazy("I have read the contributor agreement and agree to it"),
        widget=forms.CheckboxInput(attrs={"class": "check"}),
        error_messages={"required": gettext_lazy("Nothing is sent without the contributor agreement.")},
    )

    def __init__(self, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["datanet"].queryset = (
            Datanet.objects.visible_to(user).select_related("owner").order_by("name", "owner__username")
        )
        self.fields["datanet"].label_from_instance = lambda datanet: f"{datanet.name} ({datanet.path})"
        if people.has_consented(user, Consent.Document.CONTRIBUTOR):
            del self.fields["agree"]


class SendForm(forms.Form):
    """What a contributor signs."""

    rights = forms.BooleanField(
        widget=forms.CheckboxInput(attrs={"class": "check"}),
        error_messages={"required": gettext_lazy("Sign the rights statement to send.")},
    )
    agree = forms.BooleanField(
        label=gettext_lazy("I have read the contributor agreement and agree to it"),
        widget=forms.CheckboxInput(attrs={"class": "check"}),
        error_messages={"required": gettext_lazy("Nothing is sent without the contributor agreement.")},
    )

    def __init__(self, *args, submission: Submission, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["rights"].label = submission.datanet.rights_statement
        if people.has_consented(submission.contributor, Consent.Document.CONTRIBUTOR):
            del self.fields["agree"]


@dataclass(frozen=True)
class Estimate:
    """What records like these earned in this Datanet: a past range, never a promise. None: too little to say."""

    low_nano: int | None
    high_nano: int | None
    submissions: int
    records: int
    days: int = ESTIMATE_DAYS


@login_required
def contribute(request: SignedInRequest) -> HttpResponse:
    """My submissions: where each stands, and what to do next."""
    found = Submission.objects.filter(contributor=request.user).select_related("datanet__owner")
    rows = list(_older_than(found, request.GET.get("after", "")).order_by("-created_at", "-pk")[: PAGE_ROWS + 1])
    more = len(rows) > PAGE_ROWS
    rows = rows[:PAGE_ROWS]
    ids = [row.pk for row in rows]
    counts = {row["submission"]: row for row in _record_counts(ids)}
    shown = [
        {
            "submission": row,
            "sentence": sentences.of_state(row.status_code, row.status_params),
            "counts": counts.get(row.pk, {}),
            "needs_me": row.status in _OPEN_NOW,
        }
        for row in rows
    ]
    context = {
        "rows": shown,
        "next_url": f"?after={rows[-1].pk}" if more else "",
        "first_url": reverse("contribute") if request.GET.get("after") else "",
        "needs_me": [row for row in shown if row["submission"].status == Submission.Status.NEEDS_AUTHOR],
    }
    return render(request, "marketplace/contribute/list.html", context)


@login_required
def contribute_new(request: SignedInRequest) -> HttpResponse:
    """Choose a Datanet, agree once to the contributor agreement, and begin."""
    initial = {"datanet": _named_datanet(request)}
    form = StartForm(request.POST or None, user=request.user, initial=initial)
    if request.method == "POST" and form.is_valid():
        submission = submissions.start(datanet=form.cleaned_data["datanet"], contributor=request.user)
        if form.cleaned_data.get("agree"):
            people.give_consent(request.user, Consent.Document.CONTRIBUTOR)
        return redirect("submission", submission.pk)
    version, text = people.document_text(Consent.Document.CONTRIBUTOR)
    context = {"form": form, "agreement": text, "agreement_version": version}
    return render(request, "marketplace/contribute/new.html", context, status=422 if form.is_bound else 200)


@login_required
def submission(request: HttpRequest, submission_id) -> HttpResponse:
    """One page that follows its submission: upload, checks, description, sending, and what became of it."""
    return _page(request, datanet_pages.own_submission(request, submission_id))


@login_required
@require_POST
def submission_describe(request: SignedInRequest, submission_id) -> HttpResponse:
    """Save the description; with act=send, sign and send as well."""
    found = datanet_pages.own_submission(request, submission_id)
    describing = DescribeForm(request.POST, instance=found)
    sends = request.POST.get("act") == "send"
    sending = SendForm(request.POST if sends else None, submission=found)
    if not describing.is_valid() or (sends and not sending.is_valid()):
        found.refresh_from_db()
        return _page(request, found, describing=describing, sending=sending, status=422)
    submissions.describe(found, by=request.user, **describing.cleaned_data)
    if sends:
        if sending.cleaned_data.get("agree"):
            people.give_consent(request.user, Consent.Document.CONTRIBUTOR)
        sent = submissions.sign_and_send(found, by=request.user)
        in_review = sent.status == Submission.Status.IN_REVIEW
        told = _("Sent for review.") if in_review else _("Sent. It goes to review when nothing in it needs you.")
        messages.success(request, told)
    else:
        messages.success(request, _("The description was saved."))
    return redirect("submission", found.pk)


def _page(request: HttpRequest, found: Submission, *, describing=None, sending=None, status: int = 200) -> HttpResponse:
    version, text = people.document_text(Consent.Document.CONTRIBUTOR)
    context = submission_page.page_of(found) | {
        "describing": describing or DescribeForm(instance=found),
        "sending": sending or SendForm(submission=found),
        "estimate": estimate(found) if found.status in _OPEN_NOW else None,
        "agreement": text,
        "agreement_version": version,
    }
    if not context["open"]:
        context["earned_nano"] = _earned_nano(found)
    return render(request, "marketplace/contribute/submission.html", context, status=status)


def estimate(found: Submission) -> Estimate:
    """What as many new records earned in calls of the last days: the 10th to the 90th percentile of past submissions."""
    fresh = Record.objects.filter(submission=found, copy_of=None).exclude(
        status__in=(Record.Status.WITHDRAWN, Record.Status.REJECTED)
    )
    since = timezone.now() - timedelta(days=ESTIMATE_DAYS)
    past = Record.objects.filter(datanet=found.datanet, status=Record.Status.APPROVED, added_in__isnull=False)
    paid = RecordEpoch.objects.filter(
        record__datanet=found.datanet, epoch__status=Epoch.Status.POSTED, epoch__posted_at__gte=since
    )
    counted = [
        rows.values_list(Value(what), "submission").annotate(total=Count("pk"))
        for what, rows in (("fresh", fresh), ("approved", past.exclude(submission=found)))
    ]
    earned_by = paid.exclude(record__submission=found).values_list(Value("earned"), "record__submission")
    totals: dict[str, dict] = {"fresh": {}, "approved": {}, "earned": {}}
    for what, submission_id, total in earned_by.annotate(total=Sum("amount_nano")).union(*counted, all=True):
        totals[what][submission_id] = total
    records = totals["fresh"].get(found.pk, 0)
    rates = sorted(totals["earned"].get(key, 0) // count for key, count in totals["approved"].items())
    if len(rates) < ESTIMATE_SUBMISSIONS_MIN or not records or not any(rates):
        return Estimate(None, None, len(rates), records)
    low, high = rates[len(rates) // 10], rates[(9 * (len(rates) - 1) + 9) // 10]
    return Estimate(low * records, high * records, len(rates), records)


def _earned_nano(found: Submission) -> int:
    """What its records earned in calls so far."""
    rows = RecordEpoch.objects.filter(record__submission=found)
    return rows.aggregate(total=Sum(explain.KEPT))["total"] or 0


def _record_counts(ids: list):
    rows = Record.objects.filter(submission__in=ids).order_by().values("submission")
    return rows.annotate(
        total=Count("pk", filter=~Q(status=Record.Status.WITHDRAWN)),
        approved=Count("pk", filter=Q(status=Record.Status.APPROVED)),
        rejected=Count("pk", filter=Q(status=Record.Status.REJECTED)),
    )


def _older_than(found, cursor: str):
    """By key: the next page costs what the first one costs."""
    try:
        last = found.get(pk=cursor) if cursor else None
    except (Submission.DoesNotExist, ValueError, forms.ValidationError):
        last = None
    if last is None:
        return found
    return found.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, pk__lt=last.pk))


def _named_datanet(request: HttpRequest) -> Datanet | None:
    """The Datanet of ?datanet=owner/slug, if it is listed for this person."""
    owner, _slash, slug = request.GET.get("datanet", "").partition("/")
    if not slug:
        return None
    return get_object_or_404(Datanet.objects.visible_to(request.user), owner__username=owner, slug=slug)


pages = [
    path("contribute/", contribute, name="contribute"),
    path("contribute/new/", contribute_new, name="contribute_new"),
    path("contribute/<uuid:submission_id>/", submission, name="submission"),
    path("contribute/<uuid:submission_id>/describe/", submission_describe, name="submission_describe"),
]
plain: list = []
