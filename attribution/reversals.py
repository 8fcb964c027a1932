"""Charges that are given back: who returns the data and curation parts, and what settlement does with such a charge.

    before its epoch is planned   the parts come out of the pools; the plan leaves the charge out
    planned, not yet posted       not now (`BeingSettled`): a plan is posted within seconds
    posted                        each payee gives back their line, out of the lot it is in; the lines stand, and the
                                  next plan of the model takes the call's scores out of the running sums

Giving back and storing a plan take one lock per model: whoever comes second sees what the first one did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet, Sum, Value

from attribution import disputed
from attribution.models import Epoch, Line, Reversal, Transfer, TransferReturn
from ledger import chart
from ledger import services as ledger


class BeingSettled(Exception):
    """The charge is between its plan and its payees' accounts. A moment later it can be given back."""


class Part(NamedTuple):
    """What one account returns. `takes_from` names the posting whose lot it is in; None for pools and unattributed."""

    account: str
    role: str
    item: str
    amount_nano: int
    takes_from: UUID | None = None


class GivenBack(NamedTuple):
    """Where the parts of a charge were, and who returns them."""

    was_settled: bool
    parts: list[Part]


class BeforePlan(NamedTuple):
    """What the plan of an epoch must know: charges of its own to leave out, earlier calls to take out of the sums."""

    left_out: frozenset[UUID]
    taken_out: frozenset[UUID]


def lock(model_id: UUID) -> None:
    """Hold the settlement of a model until this transaction ends. Taken before rows of its epochs and of the books."""
    lock_beside_others()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"settlement:{model_id}"])


def lock_beside_others() -> None:
    """Keep out who holds every settlement, until this transaction ends, and nobody else."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended('settlement', 0))")


def lock_every() -> None:
    """Hold the settlement of every model until this transaction ends: nothing is planned, posted or given back meanwhile.

    For theft disputes: a record may be in the versions of any model.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement', 0))")


def reverse(charge: ledger.PostingRow, *, model_id: UUID) -> GivenBack:
    """Mark a charge as given back, once, and say what its posting to the pools must be undone by.

    Runs in the transaction that moves the money.

    Raises:
        BeingSettled: planned and not posted, or posted and not folded yet. Nothing was changed.
    """
    lock(model_id)
    epoch = _epoch_of(charge.id, model_id)
    if epoch is not None and epoch.status == Epoch.Status.PLANNED:
        raise BeingSettled
    was_settled = epoch is not None and epoch.status == Epoch.Status.POSTED
    parts = _in_lots(epoch, charge.id) if was_settled and epoch else _in_pools(charge)
    Reversal.objects.create(charge_id=charge.id, model_id=model_id, was_settled=was_settled)
    return GivenBack(was_settled, parts)


def lots_behind(charge_id: UUID, *, model_id: UUID) -> list[ledger.LotRow]:
    """The lots in which the settled lines of a charge lie; [] while it is not settled.

    Those of authors who were given a part of them since are among them.

    Raises:
        BeingSettled: posted, and not folded yet.
    """
    epoch = _epoch_of(charge_id, model_id)
    if epoch is None or epoch.status != Epoch.Status.POSTED:
        return []
    moved = disputed.moved_of_call(epoch, charge_id)
    lots = [lot for _line, lot in _lines_with_lots(epoch, charge_id) if lot is not None]
    return lots + list(_lots_of_authors(moved).values())


def changes(*, refunded: QuerySet, moved: QuerySet[Transfer]) -> Counter[tuple[str, int | None]]:
    """(role, payee) -> nano, signed: what changed hands after it was settled.

    refunded: the ids of settled charges that went back: their lines are taken from who was paid.
    moved: what theft disputes gave to authors, and noise cases to nobody. Of a refunded charge it is they who give back, not
        the contributor.
    """
    back = TransferReturn.objects.filter(charge_id__in=refunded)
    data = Value(Line.Role.DATA)
    parts: list[tuple[QuerySet, str | Value, str, int]] = [
        (Line.objects.filter(source_id__in=refunded), "role", "payee_id", -1),
        (moved, data, "author_id", 1),
        (moved, data, "payee_id", -1),
        (back, data, "transfer__author_id", -1),
        (back, data, "transfer__payee_id", 1),
    ]
    first, *rest = (
        rows.order_by().values_list(role, payee).annotate(total=Sum(F("amount_nano") * sign))
        for rows, role, payee, sign in parts
    )
    found: Counter[tuple[str, int | None]] = Counter()
    for role, payee_id, nano in first.union(*rest, all=True):
        found[role, payee_id] += nano
    return found


def left_unattributed(epoch: Epoch) -> int:
    """What a posted epoch left unattributed, less what went back with refunds of its charges. Read it under the lock."""
    given_back = Reversal.objects.filter(model_id=epoch.model_id, was_settled=True).values("charge_id")
    lines = epoch.lines.filter(payee=None).exclude(source_id__in=given_back)
    return lines.aggregate(total=Sum("amount_nano"))["total"] or 0


# --- For the plan


def before_plan(epoch: Epoch) -> BeforePlan:
    """What was given back so far and concerns the next plan of this epoch's model."""
    mine = Reversal.objects.filter(model_id=epoch.model_id, netted_in=None)
    left_out = mine.filter(was_settled=False, charge_id__in=epoch.charge_ids)
    taken_out = mine.filter(was_settled=True)
    return BeforePlan(
        frozenset(left_out.values_list("charge_id", flat=True)),
        frozenset(taken_out.values_list("charge_id", flat=True)),
    )


def mark_netted(given_back: BeforePlan, epoch: Epoch) -> None:
    """Remember in which plan the running sums lost these calls: they lose them once."""
    Reversal.objects.filter(charge_id__in=given_back.taken_out).update(netted_in=epoch)


def _epoch_of(charge_id: UUID, model_id: UUID) -> Epoch | None:
    """The epoch that covers a charge; None while it waits for its cut."""
    leaf = ledger.leaf_of(charge_id)
    if leaf is None:
        return None
    return Epoch.objects.filter(model_id=model_id, first_leaf__lte=leaf, end_leaf__gt=leaf).first()


def _in_pools(charge: ledger.PostingRow) -> list[Part]:
    return [
        Part(move.target, f"{move.target.rpartition(':')[2]}-pool", "", move.amount_nano)
        for move in charge.moves
        if move.target.startswith("pool:")
    ]


def _in_lots(epoch: Epoch, charge_id: UUID) -> list[Part]:
    """Each payee's line out of the lot it is in; what has moved since, out of where it is."""
    moved = disputed.moved_of_call(epoch, charge_id)
    _lots_of_authors(moved)
    gone: dict[int, int] = defaultdict(int)
    to_author: dict[tuple[int, UUID], int] = defaultdict(int)
    to_nobody = 0
    for transfer, amount_nano in moved:
        gone[transfer.payee_id] += amount_nano
        if transfer.author_id is None:
            to_nobody += amount_nano
        else:
            to_author[transfer.author_id, transfer.posting_id] += amount_nano
    parts = []
    for line, lot in _lines_with_lots(epoch, charge_id):
        is_data = line.role == Line.Role.DATA and line.payee_id is not None
        amount_nano = line.amount_nano - (gone[line.payee_id] if is_data and line.payee_id else 0)
        if amount_nano:
            parts.append(Part(line.account, line.role_said, line.reason, amount_nano, lot.posting_id if lot else None))
    disputed.give_back(charge_id, moved)
    if to_nobody:
        parts.append(Part(chart.unattributed(epoch.model_id), "unattributed", "", to_nobody))
    return parts + [
        Part(chart.pending(author_id), "contributor", "", amount_nano, posting_id)
        for (author_id, posting_id), amount_nano in to_author.items()
    ]


def _lots_of_authors(moved: Collection[tuple[Transfer, int]]) -> dict[UUID, ledger.LotRow]:
    """Posting -> the lot that it made for an author. Raises BeingSettled: the fold has not made all of them yet."""
    accounts = {
        transfer.posting_id: chart.pending(transfer.author_id)
        for transfer, _amount in moved
        if transfer.author_id is not None
    }
    lots = {lot.posting_id: lot for lot in ledger.lots_in(accounts, accounts=set(accounts.values()))}
    if lots.keys() != accounts.keys():
        raise BeingSettled
    return lots


def _lines_with_lots(epoch: Epoch, charge_id: UUID) -> list[tuple[Line, ledger.LotRow | None]]:
    """The lines of a charge of a posted epoch, each with the lot it is in; None for the unattributed account.

    Raises:
        BeingSettled: the fold has not made all of these lots yet.
    """
    lines = list(epoch.lines.filter(source_id=charge_id).select_related("epoch").order_by("role", "pk"))
    # Each posting of a settlement empties one pool: its first leg names it.
    pool_of = dict(epoch.postings.values_list("pk", "moves__0__0"))
    lots = ledger.lots_in(pool_of, accounts={line.account for line in lines if line.payee_id is not None})
    lot_in = {(pool_of[lot.posting_id], lot.account): lot for lot in lots}
    found = []
    for line in lines:
        pool = chart.pool(epoch.model_id, "calls", "data" if line.role == Line.Role.DATA else "curation")
        lot = lot_in.get((pool, line.account))
        if lot is None and line.payee_id is not None:
            raise BeingSettled
        found.append((line, lot))
    return found
