"""Curators at work: the queue, one submission, decisions and their undo, appeals, guidelines."""

from __future__ import annotations

import re
import uuid

import nh3
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_POST
from markdown_it import MarkdownIt

from accounts.models import User
from accounts.requests import SignedInRequest
from datanets import appeals, relations, reviews, services
from datanets.errors import DatanetError
from datanets.forms import AppealAnswerForm, DecisionForm
from datanets.models import Datanet, Record, Review, Submission

from . import desk, reading

NO_CURATOR = gettext_lazy("Only curators of a Datanet see its review queue.")
_HEADING = re.compile(r"</?h([1-6])>")


@login_required
@require_GET
def review(request: SignedInRequest) -> HttpResponse:
    """The queue, with its first submission open beside it."""
    curated = desk.curated_by(request.user)
    if not curated:
        raise PermissionDenied(NO_CURATOR)
    where = _where(request, request.GET)
    queue = desk.queue_of(request.user, where)
    return desk.show(request, where, queue, queue[0] if queue else None, curated=curated)


@login_required
def review_submission(request: SignedInRequest, submission_id) -> HttpResponse:
    """One submission: look at its records, decide on them. POST: decide."""
    curated = desk.curated_by(request.user)
    submission = _reviewable(request.user, submission_id, curated=curated)
    where = _where(request, request.POST if request.method == "POST" else request.GET)
    if request.method == "POST":
        return _decide(request, submission, where)
    return desk.show(request, where, desk.queue_of(request.user, where), submission, curated=curated)


@login_required
@require_POST
def review_claim(request: SignedInRequest, submission_id) -> HttpResponse:
    """Work on a submission alone for half an hour, or give it back."""
    submission = _reviewable(request.user, submission_id)
    if request.POST.get("act") == "release":
        reviews.release(submission, curator=request.user)
        messages.success(request, _("You gave the submission back."))
    else:
        claim = reviews.claim(submission, curator=request.user)
        minutes = round((claim.until - timezone.now()).total_seconds() / 60)
        messages.success(request, _("It is yours for %(minutes)s minutes.") % {"minutes": minutes})
    return redirect(desk.address_of(submission, _where(request, request.POST)))


@login_required
@require_POST
def review_bulk(request: SignedInRequest) -> HttpResponse:
    """Approve whole submissions that no check flagged; what happened to each is told one by one."""
    _require_curator(request.user)
    where = _where(request, request.POST)
    ids = [each for each in map(_uuid_or_none, request.POST.getlist("submission")) if each]
    chosen = list(Submission.objects.filter(pk__in=ids[: desk.QUEUE_SHOWN]).select_related("datanet", "contributor"))
    chosen = [each for each in chosen if services.can_curate(request.user, each.datanet)]
    result = reviews.approve_clean(chosen, curator=request.user)
    told = [
        {"title": desk.title_of(each), "done": True, "act": str(act)}
        for each, act in zip(result.done, result.acts, strict=True)
    ]
    told += [{"title": desk.title_of(each), "done": False, "why": why} for each, why in result.skipped]
    request.session["review_report"] = told
    if not told:
        messages.error(request, _("Tick at least one submission."))
    return redirect(reverse("review") + desk.query_of(where))


@login_required
@require_POST
def review_act_undo(request: SignedInRequest, act: uuid.UUID) -> HttpResponse:
    """Take back one decision, while that is possible."""
    mine = Submission.objects.filter(records__reviews__act=act, records__reviews__curator=request.user).distinct()
    submission = get_object_or_404(mine)
    count = reviews.undo(act, by=request.user)
    if count:
        undone = ngettext(
            "The decision on %(count)s record was undone.", "The decision on %(count)s records was undone.", count
        )
        messages.success(request, undone % {"count": count})
    else:
        messages.info(request, _("There is nothing to undo."))
    return redirect(desk.address_of(submission, _where(request, request.POST)) + "#work")


@login_required
@require_GET
def review_appeals(request: SignedInRequest) -> HttpResponse:
    """Appeals this curator may answer: records they have not voted on, without the names of those who have."""
    _require_curator(request.user)
    found = list(
        appeals.open_appeals(request.user).select_related("record__datanet__owner", "record__body")[
            : desk.APPEALS_SHOWN
        ]
    )
    rows = [each.record for each in found]
    notes = _rejection_notes(rows)
    entries = [
        {
            "appeal": each,
            "reading": shown,
            "reason": Review.Reason(each.record.reject_reason).label if each.record.reject_reason else "",
            "note": notes.get(each.record_id, ""),
        }
        for each, shown in zip(found, reading.read(rows, viewer=request.user), strict=True)
    ]
    return render(request, "datanets/review/appeals.html", {"entries": entries})


@login_required
@require_POST
def review_appeal(request: SignedInRequest, appeal_id) -> HttpResponse:
    """Answer an appeal."""
    appeal = get_object_or_404(appeals.open_appeals(request.user), pk=appeal_id)
    form = AppealAnswerForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose an answer and say why: the contributor is sent your note."))
        return redirect(reverse("review_appeals") + f"#appeal-{appeal.pk}")
    overturn = form.cleaned_data["answer"] == "overturn"
    appeals.decide_appeal(appeal, curator=request.user, overturn=overturn, note=form.cleaned_data["note"])
    messages.success(request, _("The record was approved.") if overturn else _("The rejection stands."))
    return redirect("review_appeals")


@require_GET
def review_guidelines(request: HttpRequest, owner: str, slug: str) -> HttpResponse:
    """What a Datanet wants, and what it does not: for contributors and curators alike."""
    datanet = get_object_or_404(
        Datanet.objects.visible_to(request.user).select_related("owner"), owner__username=owner, slug=slug
    )
    context = {"datanet": datanet, "guidelines": markdown(datanet.guidelines)}
    return render(request, "datanets/review/guidelines.html", context)


def markdown(text: str) -> SafeString:
    """Markdown of a stranger as harmless HTML, its headings below the page's own."""
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    highest = min((int(level) for level in _HEADING.findall(html)), default=2)
    html = _HEADING.sub(lambda tag: tag[0].replace(tag[1], str(min(6, int(tag[1]) - highest + 2))), html)
    tags = {
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "ul",
        "ol",
        "li",
        "em",
        "strong",
        "code",
        "pre",
        "blockquote",
        "a",
        "hr",
        "br",
    }
    tags |= {"table", "thead", "tbody", "tr", "th", "td"}
    return mark_safe(nh3.clean(html, tags=tags, url_schemes={"http", "https", "mailto"}))  # noqa: S308  (cleaned)


def _decide(request: SignedInRequest, submission: Submission, where: dict) -> HttpResponse:
    form = DecisionForm(request.POST)
    told = form.cleaned_data if form.is_valid() else {}
    chosen = _chosen(request, submission, told) if told else []
    if told and not chosen:
        form.add_error(None, _("Tick at least one record that waits for your decision."))
    if form.errors:
        return desk.show(request, where, desk.queue_of(request.user, where), submission, form=form, status=422)
    approves = told["decision"] in (DecisionForm.APPROVE_ALL, DecisionForm.APPROVE)
    try:
        reviews.decide(
            chosen,
            curator=request.user,
            decision=Review.Decision.APPROVE if approves else Review.Decision.REJECT,
            reason="" if approves else told["reason"],
            note=told["note"],
            evidence={"quote": told["quote"]} if told["quote"] and not approves else None,
        )
    except DatanetError as error:
        if error.status == 403:
            raise
        form.add_error(None, str(error))
        return desk.show(request, where, desk.queue_of(request.user, where), submission, form=form, status=409)
    submission.refresh_from_db()
    left = _for_me(submission, request.user).exists()
    if left:
        return redirect(desk.address_of(submission, where) + "#work")
    queue = desk.queue_of(request.user, where)
    return redirect(desk.address_of(queue[0], where) + "#work" if queue else reverse("review") + desk.query_of(where))


def _chosen(request: SignedInRequest, submission: Submission, told: dict) -> list[Record]:
    """The records a decision is about: all that wait, the ticked ones, or the one in view."""
    mine = _for_me(submission, request.user).only("pk")
    if told["decision"] == DecisionForm.APPROVE_ALL:
        return list(mine)
    ids = [each for each in map(desk.int_or_none, request.POST.getlist("record")) if each]
    if not ids and told["decision"] != DecisionForm.APPROVE and told.get("shown"):
        ids = [told["shown"]]
    return list(mine.filter(pk__in=ids))


def _for_me(submission: Submission, curator: User):
    """The records of a submission that wait for this curator's vote."""
    waiting = Record.objects.filter(submission=submission).awaiting_review()
    return waiting.exclude(pk__in=Review.objects.filter(curator=curator, undone_at=None).values("record_id"))


def _rejection_notes(rows: list[Record]) -> dict[int, str]:
    """Why each of these records was rejected, by the first who did."""
    rejected = Review.objects.filter(record__in=rows, undone_at=None, decision="reject")
    first = rejected.order_by("record_id", "decided_at").distinct("record_id")
    return dict(first.values_list("record_id", "note"))


def _where(request: SignedInRequest, told) -> dict:
    """Which queue somebody looks at; it lives in the address. A Datanet that they do not curate is not named to them."""
    state = told.get("state", "open")
    datanet = None
    if pk := _uuid_or_none(told.get("datanet", "")):
        datanet = Datanet.objects.curated_by(request.user).filter(pk=pk).first()
    return {"state": state if state in dict(desk.STATES) else "open", "datanet": datanet}


def _require_curator(user: User) -> None:
    if not services.curates_any(user):
        raise PermissionDenied(NO_CURATOR)


def _reviewable(curator: User, submission_id, *, curated: list[Datanet] | None = None) -> Submission:
    """404 for who does not curate its Datanet; SelfReview, said on a page, for whom it is too close to.

    curated: `desk.curated_by`, for who has read it.
    """
    submission = get_object_or_404(
        Submission.objects.select_related("datanet__owner", "contributor", "revision_of", "claim__curator"),
        pk=submission_id,
    )
    datanet = submission.datanet
    if not (services.can_curate(curator, datanet) if curated is None else datanet in curated):
        raise Http404
    relations.require_unrelated(submission, curator)
    return submission


def _uuid_or_none(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None


pages = [
    path("review/", review, name="review"),
    path("review/bulk/", review_bulk, name="review_bulk"),
    path("review/appeals/", review_appeals, name="review_appeals"),
    path("review/appeals/<uuid:appeal_id>/", review_appeal, name="review_appeal"),
    path("review/acts/<uuid:act>/undo/", review_act_undo, name="review_act_undo"),
    path("review/guidelines/<slug:owner>/<slug:slug>/", review_guidelines, name="review_guidelines"),
    path("review/<uuid:submission_id>/", review_submission, name="review_submission"),
    path("review/<uuid:submission_id>/claim/", review_claim, name="review_claim"),
]
