"""The review desk: the queue, the submission in the middle with its records, and what a decision needs."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, Func, IntegerField, OuterRef, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from accounts.requests import SignedInRequest
from datanets import records, reviews, sentences
from datanets.checks import CHECKS_FOR
from datanets.forms import DecisionForm
from datanets.models import CheckResult, Claim, Datanet, Record, Review, Submission

from . import reading, submission_page

QUEUE_SHOWN = 50
RECORDS_SHOWN = 10
APPEALS_SHOWN = 20
STATES = [
    ("mine", gettext_lazy("Mine")),
    ("open", gettext_lazy("Open")),
    ("disputed", gettext_lazy("Disputed")),
    ("done", gettext_lazy("Done")),
]
COUNTED = ("mine", "open", "disputed")  # what is done is too much to count on every page
TABS = ("look", "all", "checks", "provenance")
Status = Record.Status


def show(
    request: SignedInRequest, where: dict, queue: list[Submission], submission: Submission | None, **more
) -> HttpResponse:
    """The three panes."""
    status, curated = more.pop("status", 200), more.pop("curated", None)
    counts = reviews.counts(request.user, datanet=where["datanet"], states=COUNTED)
    context = {
        "queue": queue,
        "queue_full": len(queue) == QUEUE_SHOWN,
        "where": where,
        "query": query_of(where),
        "states": [
            {
                "label": label,
                "count": counts.get(state, ""),
                "current": state == where["state"],
                "url": _state_url(where, state),
            }
            for state, label in STATES
        ],
        "datanets": curated_by(request.user) if curated is None else curated,
        "undo": _last_act(request.user),
        "undo_minutes": max(1, round(settings.REVIEW_UNDO_S / 60)),
        "undo_s": settings.REVIEW_UNDO_S,
        "report": request.session.pop("review_report", None),
        "appeal_count": counts["appeals"],
        "report_count": counts["reports"],
        "form": DecisionForm(),
        "reasons": Review.Reason.choices,
    }
    if submission is not None:
        context |= _selected(request, submission, where, queue)
    return render(request, "datanets/review/desk.html", context | more, status=status)


def _selected(request: SignedInRequest, submission: Submission, where: dict, queue: list[Submission]) -> dict:
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
    claim: Claim | None = getattr(submission, "claim", None)
    if claim is not None and claim.until <= timezone.now():
        claim = None
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
        context["checks"] = submission_page.check_rows(submission, files)
    else:
        context["provenance"] = _provenance(submission)
    return context


def _records(request: SignedInRequest, submission: Submission, tab: str) -> dict:
    found = Record.objects.filter(submission=submission).exclude(status=Status.WITHDRAWN)
    if tab == "look":
        found = found.filter(status=Status.WAITING).exclude(flags=[])
    found = found.select_related("body", *reading.LEADER).defer("bands", *reading.NOT_OF_LEADER)
    rows, after = records.page(found, after=int_or_none(request.GET.get("after")), limit=RECORDS_SHOWN)
    shown = reading.read(rows, datanet=submission.datanet, viewer=request.user, curated=submission.datanet)
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
    found: dict = {"files": list(submission.files.filter(dropped_at=None).order_by("created_at", "pk"))}
    past = Record.objects.filter(datanet=submission.datanet, contributor=submission.contributor)
    found["past"] = past.exclude(submission=submission).aggregate(
        approved=Count("pk", filter=Q(status=Status.APPROVED)), rejected=Count("pk", filter=Q(status=Status.REJECTED))
    )
    if old := submission.revision_of:
        before = set(
            Record.objects.filter(submission=old).exclude(content_hmac="").values_list("content_hmac", flat=True)
        )
        now = set(
            Record.objects.filter(submission=submission).exclude(content_hmac="").values_list("content_hmac", flat=True)
        )
        found["revision"] = {"same": len(before & now), "new": len(now - before), "gone": len(before - now)}
    return found


def _last_act(curator: User) -> dict | None:
    """The newest decision that can still be undone, for the Undo button."""
    since = timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S)
    of_act = Review.objects.filter(act=OuterRef("act"), undone_at=None).values("pk")
    found: QuerySet = Review.objects.filter(curator=curator, undone_at=None, decided_at__gte=since).annotate(
        frozen=Exists(Record.objects.filter(reviews__act=OuterRef("act"), added_in__isnull=False)),
        count=Func(ArraySubquery(of_act), function="cardinality", output_field=IntegerField()),
    )
    found = found.select_related("record__submission__datanet").defer("record__signature", "record__bands")
    last = found.order_by("-decided_at").first()
    if last is None or last.frozen:
        return None
    return {
        "act": last.act,
        "count": last.count,
        "approved": last.decision == Review.Decision.APPROVE,
        "title": title_of(last.record.submission),
        "until": last.decided_at + timedelta(seconds=settings.REVIEW_UNDO_S),
    }


def queue_of(curator: User, where: dict) -> list[Submission]:
    return list(reviews.queue(curator, datanet=where["datanet"], state=where["state"])[:QUEUE_SHOWN])


def _next(queue: list[Submission], submission: Submission) -> Submission | None:
    position = next((number for number, each in enumerate(queue) if each.pk == submission.pk), -1)
    return queue[position + 1] if position + 1 < len(queue) else None


def curated_by(curator: User) -> list[Datanet]:
    """The Datanets somebody reviews, by name."""
    return list(Datanet.objects.curated_by(curator).select_related("owner").order_by("name"))


def query_of(where: dict, **more) -> str:
    told = {"state": where["state"]} | ({"datanet": where["datanet"].pk} if where["datanet"] else {}) | more
    return "?" + urlencode(told)


def _state_url(where: dict, state: str) -> str:
    return reverse("review") + query_of(where | {"state": state})


def address_of(submission: Submission, where: dict, **more) -> str:
    return reverse("review_submission", args=[submission.pk]) + query_of(where, **more)


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
            "url": address_of(submission, where, tab=tab),
            "current": tab == current,
        }
        for tab in TABS
    ]


def title_of(submission: Submission) -> str:
    return submission.title or _("To %(datanet)s") % {"datanet": submission.datanet.name}


def int_or_none(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
