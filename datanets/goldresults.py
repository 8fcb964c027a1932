"""How planted submissions were decided, and what accuracy follows: for owners, and for each curator of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from accounts.models import User

from . import measuring
from .accuracy import MEASURED_MIN, Counts, millionths
from .models import Datanet, GoldItem, Membership, Review


@dataclass(frozen=True)
class Measured:
    """A curator in a Datanet, as of now. An epoch that closes now pays by it."""

    curator: User
    datanet: Datanet
    counts: Counts

    @property
    def millionths(self) -> int:
        return millionths(self.counts)

    @property
    def is_measured(self) -> bool:
        """Whether enough was observed for it to count."""
        return self.counts.measured >= MEASURED_MIN


@dataclass(frozen=True)
class Vote:
    """How a curator decided on a planted submission."""

    curator: str
    is_right: bool
    decided_at: datetime


def of_datanet(datanet: Datanet) -> list[Measured]:
    """Everybody who curates a Datanet, or was observed in it within the window, by name."""
    found = measuring.counts({datanet.pk}, at=timezone.now())
    curates = Membership.objects.filter(datanet=datanet, role__in=Membership.CURATING).values("user_id")
    people = User.objects.filter(pk__in=[curator for curator, _datanet in found]) | User.objects.filter(pk__in=curates)
    return [
        Measured(person, datanet, found.get((person.pk, datanet.pk), Counts()))
        for person in people.distinct().order_by("username")
    ]


def of_curator(curator: User) -> list[Measured]:
    """Every Datanet that somebody curates, by name, with their own counts."""
    pools = list(Datanet.objects.curated_by(curator).select_related("owner").order_by("name", "pk"))
    found = measuring.counts({pool.pk for pool in pools}, at=timezone.now(), curator_id=curator.pk)
    return [Measured(curator, pool, found.get((curator.pk, pool.pk), Counts())) for pool in pools]


def revealed_to(curator: User):
    """Votes of a curator on what turned out to be planted, newest first: (submission, Datanet, what was right) of each."""
    gold = "record__submission__gold__"
    votes = Review.objects.filter(
        curator=curator, undone_at=None, **{f"{gold}revealed_at__isnull": False, f"{gold}retired_at__isnull": True}
    )
    told = votes.annotate(
        right_decision=F(f"{gold}decision"), right_reason=F(f"{gold}reason"), title=F("record__submission__title")
    )
    return (
        told.select_related("record__datanet__owner")
        .defer("record__signature", "record__bands")
        .order_by("-decided_at", "pk")
    )


def of_items(items: Iterable[GoldItem]) -> dict[UUID, list[Vote]]:
    """How each item was decided, curator by curator; in one query."""
    by_submission = {item.submission_id: item for item in items if item.submission_id}
    votes = Review.objects.filter(record__submission__in=list(by_submission), undone_at=None)
    cast = votes.values_list("record__submission_id", "curator__username", "decision", "decided_at")
    found: dict[UUID, dict[str, Vote]] = defaultdict(dict)
    for submission_id, name, decision, decided_at in cast.order_by("decided_at", "pk"):
        item = by_submission[submission_id]
        before = found[item.pk].get(name)
        is_right = decision == item.decision and (before is None or before.is_right)
        found[item.pk][name] = Vote(name, is_right, decided_at)
    return {item.pk: list(found[item.pk].values()) for item in items}
