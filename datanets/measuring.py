"""What was observed of curators: their decisions on planted records, and real ones that were looked at again.

As of a moment: what was revealed, answered or won after it is not counted, so that the same question has the same answer
later. Nobody is measured by what they planted, answered or judged themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from .accuracy import WINDOW_DAYS, Counts
from .models import Appeal, DisputedRecord, Review, TheftDispute

Desk = tuple[int, UUID]  # a curator in a Datanet
Window = tuple[datetime, datetime]
APPROVE, REJECT = Review.Decision.APPROVE, Review.Decision.REJECT


def counts(datanet_ids: Collection[UUID], *, at: datetime, curator_id: int | None = None) -> dict[Desk, Counts]:
    """What was observed in these Datanets within the window that ends at `at`, of everybody of whom anything was, or of one.

    Three queries, however many curators and Datanets there are.
    """
    window = (at - timedelta(days=WINDOW_DAYS), at)
    found: dict[Desk, Counter[str]] = {}

    def add(desk: Desk, name: str, number: int = 1) -> None:
        found.setdefault(desk, Counter())[name] += number

    for *desk, wrong in _planted(datanet_ids, window, curator_id):
        add((desk[0], desk[1]), "gold_wrong" if wrong else "gold_right")
    for *desk, stood, overturned in _appealed(datanet_ids, window, curator_id):
        add((desk[0], desk[1]), "stood", stood)
        add((desk[0], desk[1]), "overturned", overturned)
    for *desk, overturned in _stolen(datanet_ids, window, curator_id):
        add((desk[0], desk[1]), "overturned", overturned)
    return {desk: Counts(**each) for desk, each in sorted(found.items(), key=lambda one: (one[0][0], str(one[0][1])))}


def _votes(datanet_ids: Collection[UUID], curator_id: int | None, **which: object) -> QuerySet[Review]:
    votes = Review.objects.filter(undone_at=None, record__datanet__in=datanet_ids, **which).order_by()
    return votes if curator_id is None else votes.filter(curator=curator_id)


def _planted(datanet_ids: Collection[UUID], window: Window, curator_id: int | None) -> QuerySet:
    """(curator, Datanet, wrong votes) per planted submission and curator who voted on it, once it is revealed.

    A planted submission is one observation: wrong if any vote on its records was. Who had decided on the record that it was
    made from has seen it before, and is not measured by it.
    """
    gold = "record__submission__gold__"
    seen = Review.objects.filter(record=OuterRef(f"{gold}source"), curator=OuterRef("curator"), undone_at=None)
    revealed = {f"{gold}revealed_at__gt": window[0], f"{gold}revealed_at__lte": window[1]}
    votes = _votes(datanet_ids, curator_id, **revealed).exclude(curator=F(f"{gold}added_by")).filter(~Exists(seen))
    votes = votes.filter(Q(**{f"{gold}retired_at__isnull": True}) | Q(**{f"{gold}retired_at__gt": window[1]}))
    per_item = votes.values(f"{gold}pk", "curator_id", "record__datanet_id")
    counted = per_item.annotate(wrong=Count("pk", filter=~Q(decision=F(f"{gold}decision"))))
    return counted.values_list("curator_id", "record__datanet_id", "wrong")


def _appealed(datanet_ids: Collection[UUID], window: Window, curator_id: int | None) -> QuerySet:
    """(curator, Datanet, stood, overturned) of votes on records whose rejection was appealed: what the answer said of each."""
    appeal = "record__appeals__"
    votes = _votes(
        datanet_ids,
        curator_id,
        **{f"{appeal}decided_at__gt": window[0], f"{appeal}decided_at__lte": window[1]},
        decided_at__lt=F(f"{appeal}decided_at"),
    ).exclude(curator=F(f"{appeal}decided_by"))
    as_answered = Q(decision=APPROVE, **{f"{appeal}status": Appeal.Status.OVERTURNED}) | Q(
        decision=REJECT, **{f"{appeal}status": Appeal.Status.UPHELD}
    )
    per_desk = votes.values("curator_id", "record__datanet_id")
    counted = per_desk.annotate(
        stood=Count("pk", filter=as_answered, distinct=True), overturned=Count("pk", filter=~as_answered, distinct=True)
    )
    return counted.values_list("curator_id", "record__datanet_id", "stood", "overturned")


def _stolen(datanet_ids: Collection[UUID], window: Window, curator_id: int | None) -> QuerySet:
    """(curator, Datanet, approvals) of records that turned out to be somebody else's.

    A dispute that was lost says nothing for the approval: anybody may file one, and it would be a free right decision.
    """
    won = DisputedRecord.objects.filter(
        record=OuterRef("record"),
        dispute__status=TheftDispute.Status.WON,
        dispute__ended_at__gt=window[0],
        dispute__ended_at__lte=window[1],
    )
    judged = won.filter(Q(dispute__first_by=OuterRef("curator")) | Q(dispute__decided_by=OuterRef("curator")))
    votes = _votes(datanet_ids, curator_id, decision=APPROVE).filter(Exists(won)).exclude(Exists(judged))
    per_desk = votes.values("curator_id", "record__datanet_id").annotate(overturned=Count("pk"))
    return per_desk.values_list("curator_id", "record__datanet_id", "overturned")
