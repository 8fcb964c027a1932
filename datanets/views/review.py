"""Curators at work: the queue, one submission, decisions and their undo, appeals, guidelines."""

from __future__ import annotations

import uuid
from datetime import timedelta

import nh3
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_POST
from markdown_it import MarkdownIt

from accounts.models import User
from datanets import appeals, records, relations, reviews, sentences, services
from datanets.checks import CHECKS_FOR
from datanets.errors import DatanetError
from datanets.forms import AppealAnswerForm, DecisionForm
from datanets.models import CheckResult, Claim, Datanet, Membership, Record, Review, Submission

from . import contribute, reading

QUEUE_SHOWN = 50
RECORDS_SHOWN = 10
APPEALS_SHOWN = 20
STATES = [
    ("mine", gettext_lazy("Mine")),
    ("open", gettext_lazy("Open")),
    ("disputed", gettext_lazy("Disputed")),
    ("done", gettext_lazy("Done")),
]
TABS = ("look", "all", "checks", "provenance")
Status = Record.Status


@login_required
@require_GET
def review(request: HttpRequest) -> HttpResponse:
    """The queue, with its first submission open beside it."""
    _require_curator(request.user)
    where = _where(request, request.GET)
    queue = _queue(request.user, where)
    return _desk(request, where, queue, queue[0] if queue else None)


@login_required
def review_submission(request: HttpRequest, submission_id) -> HttpResponse:
    """One submission: look at its records, decide on them. POST: decide."""
    submission = _reviewable(request.user, submission_id)
    where = _where(request, request.POST if request.method == "POST" else request.GET)
    if request.method == "POST":
        return _decide(request, submission, where)
    return _desk(request, where, _queue(request.user, where), submission)


@login_required
@require_POST
def review_claim(request: HttpRequest, submission_id) -> HttpResponse:
    """Work on a submission alone for half an hour, or give it back."""
    submission = _reviewable(request.user, submission_id)
    if request.POST.get("act") == "release":
        reviews.release(submission, curator=request.user)
        messages.success(request, _("You gave the submission back."))
    else:
        claim = reviews.claim(submission, curator=request.user)
        minutes = round((claim.until - timezone.now()).total_seconds() / 60)
        messages.success(request, _("It is yours for %(minutes)s minutes.") % {"minutes": minutes})
    return redirect(_address(submission, _where(request, request.POST)))


@login_required
@require_POST
def review_bulk(request: HttpRequest) -> HttpResponse:
    """Approve whole submissions that no check flagged; what happened to each is told one by one."""
    _require_curator(request.user)
    where = _where(request, request.POST)
    ids = [each for each in map(_uuid_or_none, request.POST.getlist("submission")) if each]
    chosen = list(Submission.objects.filter(pk__in=ids[:QUEUE_SHOWN]).select_related("datanet", "contributor"))
    chosen = [each for each in chosen if services.can_curate(request.user, each.datanet)]
    result = reviews.approve_clean(chosen, curator=request.user)
    told = [
        {"title": _title(each), "done": True, "act": str(act)}
        for each, act in zip(result.done, result.acts, strict=True)
    ]
    told += [{"title": _title(each), "done": False, "why": why} for each, why in result.skipped]
    request.session["review_report"] = told
    if not told:
        messages.error(request, _("Tick at least one submission."))
    return redirect(reverse("review") + _query(where))


@login_required
@require_POST
def review_act_undo(request: HttpRequest, act: uuid.UUID) -> HttpResponse:
    """Take back one decision, while that is possible."""
    submission = Submission.objects.filter(records__reviews__act=act, records__reviews__curator=request.user).first()
    count = reviews.undo(act, by=request.user)
    if count:
        undone = ngettext(
            "The decision on %(count)s record was undone.", "The decision on %(count)s records was undone.", count
        )
        messages.success(request, undone % {"count": count})
    else:
        messages.info(request, _("There is nothing to undo."))
    where = _where(request, request.POST)
    return redirect(_address(submission, where) + "#work" if submission else reverse("review") + _query(where))


@login_required
@require_GET
def review_appeals(request: HttpRequest) -> HttpResponse:
    """Appeals this curator may answer: records they have not voted on, without the names of those who have."""
    _require_curator(request.user)
    found = list(
        appeals.open_appeals(request.user).select_related("record__datanet__owner", "record__body")[:APPEALS_SHOWN]
    )
    shown = [{"appeal": each, "reading": _alone(each.record, request.user), "form": None} for each in found]
    for entry in shown:
        record = entry["appeal"].record
        entry["reason"] = Review.Reason(record.reject_reason).label if record.reject_reason else ""
        entry["note"] = _rejection_note(record)
    return render(request, "datanets/review/appeals.html", {"entries": shown})


@login_required
@require_POST
def review_appeal(request: HttpRequest, appeal_id) -> HttpResponse:
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
    for level in range(5, 0, -1):
        html = html.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
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


def _desk(
    request: HttpRequest, where: dict, queue: list[Submission], submission: Submission | None, **more
) -> HttpResponse:
    """The three panes."""
    status = more.pop("status", 200)
    counts = {state: reviews.queue(request.user, datanet=where["datanet"], state=state).count() for state, _l in STATES}
    context = {
        "queue": queue,
        "queue_full": len(queue) == QUEUE_SHOWN,
        "where": where,
        "query": _query(where),
        "states": [
            {
                "label": label,
                "count": counts[state],
                "current": state == where["state"],
                "url": _state_url(where, state),
            }
            for state, label in STATES
        ],
        "datanets": _curated(request.user),
        "undo": _last_act(request.user),
        "undo_minutes": max(1, round(settings.REVIEW_UNDO_S / 60)),
        "undo_s": settings.REVIEW_UNDO_S,
        "report": request.session.pop("review_report", None),
        "appeal_count": appeals.open_appeals(request.user).count(),
        "form": DecisionForm(),
        "reasons": Review.Reason.choices,
    }
    if submission is not None:
        context |= _selected(request, submission, where, queue)
    return render(request, "datanets/review/desk.html", context | more, status=status)


def _selected(request: HttpRequest, submission: Submission, where: dict, queue: list[Submission]) -> dict:
    """Everything about the submission in the middle pane."""
    curator, datanet = request.user, submission.datanet
    counted = Record.objects.filter(submission=submission).exclude(status=Status.WITHDRAWN)
    mine = Q(reviews__curator=curator, reviews__undone_at=None)
    numbers = counted.aggregate(
        total=Count("pk", distinct=True),
        waiting=Count("pk", filter=Q(status=Status.WAITING), distinct=True),
        voted=Count("pk", filter=Q(status=Status.WAITING) & mine, distinct=True),
        flagged=Count("pk", filter=Q(status=Status.WAITING) & ~Q(flags=[]), distinct=True),
    )
    numbers["for_me"] = numbers["waiting"] - numbers["voted"]
    tab = request.GET.get("tab", "")
    if tab not in TABS:
        tab = "look" if numbers["flagged"] else "all"
    claim = Claim.objects.filter(submission=submission, until__gt=timezone.now()).select_related("curator").first()
    context = {
        "submission": submission,
        "datanet": datanet,
        "numbers": numbers,
        "tab": tab,
        "tabs": _tabs(submission, where, tab, numbers),
        "claim": claim,
        "claim_is_mine": bool(claim and claim.curator_id == curator.pk),
        "claimed_by_other": bool(claim and claim.curator_id != curator.pk),
        "can_decide": submission.status == Submission.Status.IN_REVIEW and numbers["for_me"] > 0,
        "signals": _signals(submission),
        "next": _next(queue, submission),
        "disputed": any(each.pk == submission.pk for each in queue) and where["state"] == "disputed",
    }
    if tab in ("look", "all"):
        context |= _records(request, submission, tab)
    elif tab == "checks":
        files = list(submission.files.filter(dropped_at=None))
        context["checks"] = contribute.check_rows(submission, files)
    else:
        context["provenance"] = _provenance(submission)
    return context


def _records(request: HttpRequest, submission: Submission, tab: str) -> dict:
    found = Record.objects.filter(submission=submission).exclude(status=Status.WITHDRAWN)
    if tab == "look":
        found = found.filter(status=Status.WAITING).exclude(flags=[])
    found = found.select_related("body").defer("signature", "bands")
    rows, after = records.page(found, after=_int_or_none(request.GET.get("after")), limit=RECORDS_SHOWN)
    shown = reading.read(rows, datanet=submission.datanet, viewer=request.user)
    reading.add_nearest(shown, datanet=submission.datanet)
    votes: dict[int, list[Review]] = {row.pk: [] for row in rows}
    cast = Review.objects.filter(record__in=rows, undone_at=None).select_related("curator").order_by("decided_at", "id")
    for vote in cast:
        votes[vote.record_id].append(vote)
    for each in shown:
        standing = votes[each.record.pk]
        each.voted = any(vote.curator_id == request.user.pk for vote in standing)
        # blind until you vote: then, and once a record is decided, all votes are shown
        each.votes = standing if each.voted or each.record.status != Status.WAITING else []
    return {"readings": shown, "after": after}


def _decide(request: HttpRequest, submission: Submission, where: dict) -> HttpResponse:
    form = DecisionForm(request.POST)
    told = form.cleaned_data if form.is_valid() else {}
    chosen = _chosen(request, submission, told) if told else []
    if told and not chosen:
        form.add_error(None, _("Tick at least one record that waits for your decision."))
    if form.errors:
        return _desk(request, where, _queue(request.user, where), submission, form=form, status=422)
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
        return _desk(request, where, _queue(request.user, where), submission, form=form, status=409)
    submission.refresh_from_db()
    left = _for_me(submission, request.user).exists()
    if left:
        return redirect(_address(submission, where) + "#work")
    queue = _queue(request.user, where)
    return redirect(_address(queue[0], where) + "#work" if queue else reverse("review") + _query(where))


def _chosen(request: HttpRequest, submission: Submission, told: dict) -> list[Record]:
    """The records a decision is about: all that wait, the ticked ones, or the one in view."""
    mine = _for_me(submission, request.user).only("pk")
    if told["decision"] == DecisionForm.APPROVE_ALL:
        return list(mine)
    ids = [each for each in map(_int_or_none, request.POST.getlist("record")) if each]
    if not ids and told["decision"] != DecisionForm.APPROVE and told.get("shown"):
        ids = [told["shown"]]
    return list(mine.filter(pk__in=ids))


def _for_me(submission: Submission, curator: User):
    """The records of a submission that wait for this curator's vote."""
    waiting = Record.objects.filter(submission=submission).awaiting_review()
    return waiting.exclude(pk__in=Review.objects.filter(curator=curator, undone_at=None).values("record_id"))


def _signals(submission: Submission) -> list[dict]:
    """What each check found in all, as a line."""
    names = [check.NAME for check in CHECKS_FOR[submission.datanet.kind]]
    rows: list[dict] = [{"name": sentences.title_of_check(name), "key": name} for name in names]
    counts: dict[str, int] = {}
    bad: set[str] = set()
    summaries = CheckResult.objects.filter(submission=submission, record=None, file__dropped_at=None)
    for result in summaries:
        if result.code == f"{result.check_name}.some":
            counts[result.check_name] = counts.get(result.check_name, 0) + result.params.get("count", 0)
        if result.severity == CheckResult.Severity.FAIL:
            bad.add(result.check_name)
    for row in rows:
        count = counts.get(row["key"], 0)
        row["count"] = count
        row["tone"] = "bad" if row["key"] in bad and count else "warn" if count else "ok"
    return rows


def _provenance(submission: Submission) -> dict:
    """Where it comes from, who signed what, and what a revision changed."""
    found = {"files": list(submission.files.filter(dropped_at=None).order_by("created_at", "pk"))}
    past = Record.objects.filter(datanet=submission.datanet, contributor=submission.contributor)
    past = past.exclude(submission=submission).aggregate(
        approved=Count("pk", filter=Q(status=Status.APPROVED)), rejected=Count("pk", filter=Q(status=Status.REJECTED))
    )
    found["past"] = past
    if old := submission.revision_of:
        before = set(
            Record.objects.filter(submission=old).exclude(content_hmac="").values_list("content_hmac", flat=True)
        )
        now = set(
            Record.objects.filter(submission=submission).exclude(content_hmac="").values_list("content_hmac", flat=True)
        )
        found["revision"] = {"same": len(before & now), "new": len(now - before), "gone": len(before - now)}
    return found


def _alone(record: Record, viewer: User) -> reading.Reading:
    return reading.read([record], datanet=record.datanet, viewer=viewer)[0]


def _rejection_note(record: Record) -> str:
    rejected = Review.objects.filter(record=record, undone_at=None, decision="reject").order_by("decided_at")
    return rejected.values_list("note", flat=True).first() or ""


def _last_act(curator: User) -> dict | None:
    """The newest decision that can still be undone, for the Undo button."""
    since = timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S)
    last = Review.objects.filter(curator=curator, undone_at=None, decided_at__gte=since).order_by("-decided_at").first()
    if last is None or Record.objects.filter(reviews__act=last.act, added_in__isnull=False).exists():
        return None
    count = Review.objects.filter(act=last.act, undone_at=None).count()
    submission = Submission.objects.select_related("datanet").get(records=last.record_id)
    return {
        "act": last.act,
        "count": count,
        "approved": last.decision == Review.Decision.APPROVE,
        "title": _title(submission),
        "until": last.decided_at + timedelta(seconds=settings.REVIEW_UNDO_S),
    }


def _queue(curator: User, where: dict) -> list[Submission]:
    return list(reviews.queue(curator, datanet=where["datanet"], state=where["state"])[:QUEUE_SHOWN])


def _next(queue: list[Submission], submission: Submission) -> Submission | None:
    position = next((number for number, each in enumerate(queue) if each.pk == submission.pk), -1)
    return queue[position + 1] if position + 1 < len(queue) else None


def _curated(curator: User) -> list[Datanet]:
    mine = Membership.objects.filter(user=curator, role__in=[Membership.Role.OWNER, Membership.Role.CURATOR])
    return list(Datanet.objects.filter(pk__in=mine.values("datanet")).select_related("owner").order_by("name"))


def _where(request: HttpRequest, told) -> dict:
    """Which queue somebody looks at; it lives in the address."""
    state = told.get("state", "open")
    datanet = None
    if pk := _uuid_or_none(told.get("datanet", "")):
        datanet = Datanet.objects.filter(pk=pk).first()
    return {"state": state if state in dict(STATES) else "open", "datanet": datanet}


def _query(where: dict, **more) -> str:
    told = {"state": where["state"]} | ({"datanet": where["datanet"].pk} if where["datanet"] else {}) | more
    return "?" + urlencode(told)


def _state_url(where: dict, state: str) -> str:
    return reverse("review") + _query(where | {"state": state})


def _address(submission: Submission, where: dict, **more) -> str:
    return reverse("review_submission", args=[submission.pk]) + _query(where, **more)


def _tabs(submission: Submission, where: dict, current: str, numbers: dict) -> list[dict]:
    labels = {
        "look": _("Records to look at"),
        "all": _("All records"),
        "checks": _("Checks"),
        "provenance": _("Provenance"),
    }
    counts = {"look": numbers["flagged"], "all": numbers["total"]}
    return [
        {
            "label": labels[tab],
            "count": counts.get(tab, ""),
            "url": _address(submission, where, tab=tab),
            "current": tab == current,
        }
        for tab in TABS
    ]


def _title(submission: Submission) -> str:
    return submission.title or _("To %(datanet)s") % {"datanet": submission.datanet.name}


def _require_curator(user: User) -> None:
    if not Membership.objects.filter(user=user, role__in=[Membership.Role.OWNER, Membership.Role.CURATOR]).exists():
        raise PermissionDenied(_("Only curators of a Datanet see its review queue."))


def _reviewable(curator: User, submission_id) -> Submission:
    """404 for who does not curate its Datanet; SelfReview or NotAllowed, said on a page, for whom it is too close to."""
    submission = get_object_or_404(
        Submission.objects.select_related("datanet__owner", "contributor", "revision_of"), pk=submission_id
    )
    if not services.can_curate(curator, submission.datanet):
        raise Http404
    relations.require_reviewer(submission, curator)
    return submission


def _uuid_or_none(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None


def _int_or_none(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


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
