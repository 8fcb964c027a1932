"""The public log: facts in, receipts out. The sequencer turns postings and facts into leaves in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.db.models import Count, QuerySet, Subquery

from ledger import database, merkle, receipts
from ledger.models import Checkpoint, Cosignature, Cursor, Fact, Journal, Leaf, Opening
from ledger.postings import Entry, posting_of

Status = Literal["waiting", "sequenced", "proved"]
POSTING_MADE = receipts.POSTING_MADE


@dataclass(frozen=True)
class Head:
    """A signed head. `checkpoint` is the signed note with its cosignatures, `note` without; "" if there is none."""

    size: int
    root: bytes
    checkpoint: str
    note: str
    cosigned_by: list[str]


@dataclass(frozen=True)
class LogRow:
    """What anybody may see of one leaf; `public` are the type's clear fields."""

    index: int
    id: UUID
    type: str
    public: dict
    reference: str


@dataclass(frozen=True)
class EntryRow:
    """One entry with what it commits to; private and split are None once erased."""

    id: UUID
    type: str
    public: dict
    private: dict | None
    split: list[dict] | None
    reference: str
    at: datetime


@dataclass(frozen=True)
class Receipt:
    """waiting: no leaf yet. sequenced: no cosigned head covers it yet. proved: `body` is an open-receipt/1."""

    status: Status
    body: dict | None


def record_fact(*, id: UUID, reference: str, entry: Entry) -> bool:
    """Record something that should be provable and moves no money. Returns False if exactly it was there already.

    Raises:
        PayloadMismatch: the id was used for something else.
        receipts.Malformed: the log could not publish the entry.
    """
    entry.check()
    said = database.as_json([{"id": id, "reference": reference, "entry": entry.said()}])
    return bool(database.rows("SELECT ledger_record(%s)", said))


def head(*, quorum: bool = True) -> Head:
    """Read the newest head that enough witnesses cosigned; with quorum=False the newest signed one."""
    found = Checkpoint.objects.order_by("-size")
    if quorum and settings.WITNESS_QUORUM:
        found = found.filter(size=Subquery(_witnessed().order_by("-size_id")[:1]))
    newest = found.first()
    return Head(0, merkle.EMPTY_ROOT, "", "", []) if newest is None else _head(newest)


def first_head(size: int) -> Head:
    """Read the first witnessed head over at least `size` leaves; there must be one."""
    found = Checkpoint.objects.order_by("size").filter(size__gte=size)
    if settings.WITNESS_QUORUM:
        found = found.filter(size=Subquery(_witnessed().filter(size_id__gte=size).order_by("size_id")[:1]))
    return _head(found[0])


def log_size() -> int:
    """How many leaves are sequenced; a head over all of them follows within a second or so."""
    return Cursor.objects.get(name="log").next_index


def leaf_of(entry_id: UUID) -> int | None:
    """The index of an entry's leaf; None while it waits."""
    return Leaf.objects.filter(entry_id=entry_id).values_list("index", flat=True).first()


def entries(
    first: int, last: int, *, types: Sequence[str] | None = None, public_filter: Mapping[str, object] | None = None
) -> Iterator[LogRow]:
    """Read the leaves with first <= index < last, in order; only of these types, only with these clear fields."""
    found = Leaf.objects.filter(index__gte=first, index__lt=last).order_by("index")
    if types is not None:
        found = found.filter(type__in=types)
    if public_filter:
        found = found.filter(entry__contains=dict(public_filter))
    for leaf in found.iterator():
        yield LogRow(leaf.index, leaf.entry_id, leaf.type, _public(leaf), leaf.reference)


def entry_of(entry_id: UUID) -> EntryRow | None:
    """Read one entry, before or after it was sequenced; None if there is none."""
    source = _source(entry_id)
    if source is None:
        return None
    leaf = Leaf.objects.filter(entry_id=entry_id).first()
    opening = _opening(entry_id, leaf)
    if leaf:
        type, public = leaf.type, _public(leaf)
    else:  # an opening is kept at least until its leaf exists
        assert opening is not None and opening.type is not None
        type, public = opening.type, opening.public or {}
    private, split = (opening.private, opening.split) if opening else (None, None)
    return EntryRow(entry_id, type, public, private, split, source.reference, source.at)


def receipt(entry_id: UUID, *, with_openings: bool) -> Receipt | None:
    """Build the receipt of an entry; None if there is no such entry.

    Openings are for those who took part, and the caller decides who that is; after an erasure there are none.
    """
    leaf = Leaf.objects.filter(entry_id=entry_id).first()
    if leaf is None:
        return Receipt("waiting", None) if _source(entry_id) else None
    newest = head()
    if newest.size <= leaf.index:
        return Receipt("sequenced", None)
    hashes = merkle.inclusion_proof(
        leaf.index, newest.size, stored(merkle.required_nodes(merkle.inclusion_proof, leaf.index, newest.size))
    )
    opening = _opening(entry_id, leaf) if with_openings else None
    opened = receipts.openings(opening.private or {}, opening.split, bytes(opening.secret)) if opening else None
    return Receipt("proved", receipts.build_receipt(leaf.entry, opened, leaf.index, hashes, newest.checkpoint))


def consistency(old_size: int, new_size: int) -> str | None:
    """Prove that one signed head extends another: one base64 hash a line. None unless both sizes are of signed heads."""
    sizes = {old_size, new_size}
    if old_size > new_size or Checkpoint.objects.filter(size__in=sizes).count() < len(sizes):
        return None
    wanted = merkle.required_nodes(merkle.consistency_proof, old_size, new_size)
    proof = merkle.consistency_proof(old_size, new_size, stored(wanted))
    return "".join(f"{receipts.encode_hash(digest)}\n" for digest in proof)


def erase_openings(entry_ids: Iterable[UUID]) -> int:
    """Forget what entries commit to, for ever; entries that wait for their leaf are left. Returns how many."""
    return database.value("SELECT ledger_erase(%s::uuid[])", list(entry_ids))


def stored(wanted: Sequence[tuple[int, int]]) -> merkle.HashSource:
    """Read stored hashes of the tree, (level, index), in one query."""
    found = {
        (level, index): bytes(digest)
        for level, index, digest in database.rows(
            """SELECT w.level, w.index, coalesce(n.hash, l.hash)
               FROM unnest(%s::int[], %s::bigint[]) AS w(level, index)
               LEFT JOIN ledger_node n ON n.level = w.level AND n.index = w.index
               LEFT JOIN ledger_leaf l ON w.level = 0 AND l.index = w.index""",
            [level for level, _ in wanted],
            [index for _, index in wanted],
        )
    }
    return lambda level, index: found[level, index]


def _witnessed() -> QuerySet[Cosignature, Any]:
    """The sizes of the heads that enough witnesses cosigned.

    From the cosignatures, not from the heads: after a day without witnesses 80,000 heads have none.
    """
    signed = Cosignature.objects.values("size_id").annotate(witnesses=Count("witness"))
    return signed.filter(witnesses__gte=settings.WITNESS_QUORUM).values("size_id")


def _head(checkpoint: Checkpoint) -> Head:
    signed = list(checkpoint.cosignatures.order_by("witness"))
    return Head(
        checkpoint.size,
        bytes(checkpoint.root),
        checkpoint.note + "".join(cosignature.line for cosignature in signed),
        checkpoint.note,
        [cosignature.witness for cosignature in signed],
    )


def _public(leaf: Leaf) -> dict:
    return {name: value for name, value in leaf.entry.items() if name not in ("v", "type", "id", "hour", "commit")}


def _source(entry_id: UUID) -> Journal | Fact | None:
    return Journal.objects.filter(pk=entry_id).first() or Fact.objects.filter(pk=entry_id).first()


def _opening(entry_id: UUID, leaf: Leaf | None) -> Opening | None:
    """Read what the entry commits to, unsaved: a plain posting's opening is filled in from the journal."""
    opening = Opening.objects.filter(pk=entry_id).first()
    # Before it has a leaf, a plain posting has no opening; afterwards that means it was erased.
    if opening is None and leaf or opening and opening.type and (not leaf or leaf.type == opening.type):
        return opening
    return plain_opening(entry_id)


def plain_opening(entry_id: UUID) -> Opening | None:
    """What a plain posting's entry says and commits to, unsaved, from the journal; None for a fact."""
    posting = posting_of(entry_id)
    if posting is None:
        return None
    opening = Opening.objects.filter(pk=entry_id).first() or Opening(pk=entry_id)
    moves = [{"source": m.source, "target": m.target, "amount": str(m.amount_nano)} for m in posting.moves]
    opening.type, opening.public = POSTING_MADE, {"kind": posting.kind.value}
    opening.private, opening.split = {"moves": moves}, None
    return opening
