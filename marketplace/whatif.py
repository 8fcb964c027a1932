"""What the last 30 days of a model would have paid under another split rule. Exact; reads only.

    by_role    every charge of the window split again by the other rule, beside what was booked. How a split is rounded
               depends on the price modulo 10,000 nano alone, so that the database counts charges by that.
    by_person  the epochs that closed in the window planned again with the other parts: sums, net factors and lines, as
               they would have been booked. Sums from before the window stay as they are.

Charges that went back to their buyers are left out on both sides. Training fees have a rule of their own and do not move.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from attribution import measured, planning, settlement
from attribution.models import Epoch, Line, RecordEpoch, RecordFee, Reversal, Source, Trace
from attribution.shares import ROLES

from . import pricing
from .models import Access, Call, ListedModel, Refund

DAYS = 30
#: A page replays no more settled charges than this for its reader; a proposal replays all of them, in a worker.
PAGE_CHARGES_MAX = 2000
BATCH_CHARGES = 5000  # read at once


@dataclass(frozen=True)
class Roles:
    """All charges of the window: what they cost, and what each role got and would have got. Both add up to the cost."""

    charges: int
    charged_nano: int
    booked: dict[str, int]
    instead: dict[str, int]

    @property
    def rows(self) -> list[tuple[str, int, int, int]]:
        """(role, booked, instead, difference), in the order of the roles."""
        return [(role, self.booked[role], self.instead[role], self.instead[role] - self.booked[role]) for role in ROLES]


@dataclass
class People:
    """What contributors and curators would have got more (or less), by user; nobody whose pay stays the same is named.

    Args:
        charges: How many settled charges were planned again.
        unattributed_nano: The same difference of what nobody gets.
        forgotten: Charges of epochs that cannot be planned again: what a buyer asked was erased.
    """

    changes: Counter[int] = field(default_factory=Counter)
    paid: set[int] = field(default_factory=set)
    charges: int = 0
    unattributed_nano: int = 0
    forgotten: int = 0

    @property
    def gain(self) -> int:
        return sum(nano > 0 for nano in self.changes.values())

    @property
    def lose(self) -> int:
        return sum(nano < 0 for nano in self.changes.values())

    @property
    def same(self) -> int:
        return len(self.paid) - self.gain - self.lose


def by_role(model: ListedModel, parts: Mapping[str, int], *, now: datetime) -> Roles:
    """Split each charge of the last 30 days again.

    Args:
        parts: Role -> basis points of the other rule.
    """
    since = now - timedelta(days=DAYS)
    booked, instead = (dict.fromkeys(ROLES, 0) for _ in range(2))
    charged_nano = 0
    calls = (
        Call.objects.filter(model=model, finished_at__gte=since, finished_at__lte=now, cost_nano__gt=0)
        .exclude(refund__status=Refund.Status.MADE)
        .order_by()
    )
    counts: Counter[int] = Counter()
    rests = calls.values_list(F("cost_nano") % pricing.SPLIT_EVERY_NANO)
    rows = rests.annotate(Count("pk"), Sum("cost_nano"), *(Sum(f"{role}_nano") for role in ROLES))
    for rest, count, cost, *sums in rows.iterator():
        counts[rest] += count
        charged_nano += int(cost)
        for role, total in zip(ROLES, sums, strict=True):
            booked[role] += int(total)
    for price_nano, rule in _passes(model, since, now):
        counts[price_nano % pricing.SPLIT_EVERY_NANO] += 1
        charged_nano += price_nano
        for role, nano in pricing.split_charge(price_nano, rule).items():
            booked[role] += nano
    instead |= pricing.split_charges(counts, charged_nano, parts)
    return Roles(counts.total(), charged_nano, booked, instead)


def _passes(model: ListedModel, since: datetime, now: datetime) -> Iterable[tuple[int, dict[str, int]]]:
    sold = Access.objects.filter(model=model, price_nano__gt=0, starts_at__gte=since, starts_at__lte=now)
    return ((one.price_nano, one.split_rule.parts) for one in sold.select_related("split_rule") if one.split_rule)


def by_person(model: ListedModel, parts: Mapping[str, int], *, now: datetime) -> People:
    """Plan the settled epochs of the last 30 days again, each after the other, with the other rule's parts.

    In a fixed number of queries for each `BATCH_CHARGES` charges.

    Raises:
        bundles.Damaged, FileNotFoundError: the files of an artifact cannot be read.
    """
    return _again(_epochs(model, now).iterator(), parts)


def for_page(model: ListedModel, parts: Mapping[str, int], *, now: datetime) -> People | None:
    """`by_person` for who waits for a page; None where that takes too long, or cannot be computed any more."""
    epochs = list(_epochs(model, now))
    if sum(len(epoch.charge_ids) for epoch in epochs) > PAGE_CHARGES_MAX:
        return None
    found = _again(epochs, parts)
    return None if found.forgotten else found


def _again(epochs: Iterable[Epoch], parts: Mapping[str, int]) -> People:
    found = People()
    # version -> record -> sums after the epochs that were planned again
    sums: dict[UUID, dict[int, tuple[int, int]]] = defaultdict(dict)
    for several in _batches(epochs):
        batch = _Batch(several, parts)
        for epoch in several:
            batch.replan(found, epoch, sums)
    found.changes = Counter({user_id: nano for user_id, nano in found.changes.items() if nano})
    return found


def _epochs(model: ListedModel, now: datetime) -> QuerySet[Epoch]:
    since = now - timedelta(days=DAYS)
    settled = Epoch.objects.filter(~Q(status=Epoch.Status.CLOSED), model_id=model.pk)
    return settled.filter(closed_at__gte=since, closed_at__lte=now).order_by("number")


def _batches(epochs: Iterable[Epoch]) -> Iterator[list[Epoch]]:
    batch: list[Epoch] = []
    size = 0
    for epoch in epochs:
        if batch and size + len(epoch.charge_ids) > BATCH_CHARGES:
            yield batch
            batch, size = [], 0
        batch.append(epoch)
        size += len(epoch.charge_ids)
    if batch:
        yield batch


class _Batch:
    """What is read once for several epochs."""

    def __init__(self, epochs: Sequence[Epoch], parts: Mapping[str, int]) -> None:
        self.parts = parts
        ids = [UUID(charge_id) for epoch in epochs for charge_id in epoch.charge_ids]
        numbers = [epoch.pk for epoch in epochs]
        reversal = Reversal.objects.filter(charge_id=OuterRef("charge_id"))
        call, access = (
            Call.objects.filter(pk=OuterRef("charge_id")).values("cost_nano"),
            Access.objects.filter(posting_id=OuterRef("charge_id")).values("price_nano"),
        )
        netted_here = Q(charge_id__in=Reversal.objects.filter(netted_in__in=numbers).values("pk"))
        found = Trace.objects.filter(Q(charge_id__in=ids) | netted_here).annotate(
            was_settled=Subquery(reversal.values("was_settled")),
            netted_in=Subquery(reversal.values("netted_in")),
            price_nano=Coalesce(Subquery(call), Subquery(access)),  # none of a training run
        )
        self.traces: dict[UUID, Any] = {trace.charge_id: trace for trace in found}
        self.netted: dict[UUID, list[UUID]] = defaultdict(list)
        for charge_id, trace in self.traces.items():
            self.netted[trace.netted_in].append(charge_id)
        self.authors: dict[UUID, dict[int, int]] = defaultdict(dict)
        of_calls, of_fees = (
            sums.objects.filter(epoch__in=numbers, payee__isnull=False).values_list("epoch_id", "record_id", "payee_id")
            for sums in (RecordEpoch, RecordFee)
        )
        for epoch_id, record_id, author in of_calls.union(of_fees):
            self.authors[epoch_id][record_id] = author
        self.lines: dict[UUID, list[tuple[UUID, int | None, int]]] = defaultdict(list)
        booked = Line.objects.filter(epoch__in=numbers).values_list("epoch_id", "source_id", "payee_id", "amount_nano")
        for epoch_id, source_id, payee_id, nano in booked.iterator():
            self.lines[epoch_id].append((source_id, payee_id, nano))
        self.earlier = settlement.earlier_sums(epochs[0], list(self.traces.values()))
        self.accuracy = measured.of_epochs(numbers)
        self.readings: dict[tuple[frozenset, frozenset], planning.Reading] = {}

    def replan(self, found: People, epoch: Epoch, sums: dict[UUID, dict[int, tuple[int, int]]]) -> None:
        known = [self.traces[pk] for pk in map(UUID, epoch.charge_ids) if pk in self.traces]
        known = [trace for trace in known if trace.was_settled is not False]
        charges = [self._by_rule(trace) for trace in known]
        out = [self._by_rule(self.traces[pk]) for pk in self.netted[epoch.pk]]
        out = [trace for trace in out if trace.source == Source.CALL]
        if any(trace.forgotten_at for trace in (*charges, *out)):
            found.forgotten += len(charges)
            return
        authors, accuracy = self.authors[epoch.pk], self.accuracy[epoch.pk]
        planned = planning.plan(
            charges,
            earlier={
                version_id: {**self.earlier.get(version_id, {}), **sums.get(version_id, {})}
                for version_id in {*self.earlier, *sums}
            },
            accuracy=accuracy,
            taken_out=out,
            authors=authors,
            reading=self._reading(authors, accuracy),
            equally=epoch.equal_versions,
        )
        for row in planned.record_epochs:
            sums[row.model_version_id][row.record_id] = (row.net, row.positive)
        left_out = {trace.charge_id for trace in known if trace.was_settled}
        found.charges += len(charges) - len(left_out)
        for line in planned.lines:
            _add(found, line.source_id, line.payee_id, line.amount_nano, left_out)
        for source_id, payee_id, nano in self.lines[epoch.pk]:
            _add(found, source_id, payee_id, -nano, left_out)

    def _reading(self, authors: dict[int, int], accuracy: planning.Accuracy) -> planning.Reading:
        key = frozenset(authors.items()), frozenset(accuracy.items())
        return self.readings.setdefault(key, planning.Reading(authors, accuracy))

    def _by_rule(self, trace: Any) -> Trace:
        """The trace as the other rule would have made it. No rule of a model splits training fees: they stay."""
        if trace.price_nano is None:
            return trace
        split = pricing.split_charge(trace.price_nano, self.parts)
        other = copy(trace)
        other.data_nano, other.curation_nano = split["data"], split["curation"]
        return other


def _add(found: People, source_id: UUID, payee_id: int | None, nano: int, left_out: set[UUID]) -> None:
    if source_id in left_out:
        return
    if payee_id is None:
        found.unattributed_nano += nano
    else:
        found.paid.add(payee_id)
        found.changes[payee_id] += nano
