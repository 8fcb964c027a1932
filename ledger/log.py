"""The public log: facts in, receipts out. The sequencer turns postings and facts into leaves in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject

from ledger import commitments, database, merkle, receipts, strict
from ledger.models import Checkpoint, Cosignature, Cursor, Leaf, Opening
from ledger.postings import Entry, posting_of

Status = Literal["waiting", "sequenced", "proved"]
POSTING_MADE = commitments.POSTING_MADE


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


@dataclass(frozen=True)
class EntryRow:
    """One entry with what it commits to.

    private, split, secret: None once erased. The salts of its openings come from the secret, which a plain posting has no
        sooner than its leaf.
    leaf, leaf_index: As it stands in the log; None while it waits.
    vest_after_s: Of a posting into pending accounts: seconds from `at` until it vests.
    """

    id: UUID
    type: str
    public: dict
    private: dict | None
    split: list[dict] | None
    reference: str
    at: datetime
    vest_after_s: int | None
    leaf: dict | None
    leaf_index: int | None
    secret: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Receipt:
    """waiting: no leaf yet. sequenced: no cosigned head covers it yet. proved: `body` is an open-receipt/1."""

    status: Status
    body: dict | None


def record_fact(*, id: UUID, reference: str, entry: Entry) -> bool:
    """Record something that should be provable and moves no money. Returns False if exactly it was there already.

    Raises:
        PayloadMismatch: the id was used for something else.
        strict.Malformed: the log could not publish the entry.
    """
    entry.check()
    said = database.as_json([{"id": id, "reference": reference, "entry": entry.said()}])
    return bool(database.rows("SELECT ledger_record(%s)", said))


def head(*, quorum: bool = True) -> Head:
    """Read the newest head that enough witnesses cosigned; with quorum=False the newest signed one."""
    found = Checkpoint.objects.order_by("-size")
    if quorum and settings.WITNESS_QUORUM:
        found = found.filter(size=Subquery(_witnessed().order_by("-size_id")[:1]))
    return next(_heads(found[:1]), Head(0, merkle.EMPTY_ROOT, "", "", []))


def first_head(size: int) -> Head:
    """Read the first witnessed head over at least `size` leaves; there must be one."""
    found = Checkpoint.objects.order_by("size").filter(size__gte=size)
    if settings.WITNESS_QUORUM:
        found = found.filter(size=Subquery(_witnessed().filter(size_id__gte=size).order_by("size_id")[:1]))
    return next(_heads(found[:1]))


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
        found = found.filter(body__contains=dict(public_filter))
    for leaf in found.iterator():
        yield LogRow(leaf.index, leaf.entry_id, leaf.type, _public(leaf.body))


def entry_of(entry_id: UUID) -> EntryRow | None:
    """Read one entry, before or after it was sequenced; None if there is none."""
    found = database.rows(
        """SELECT s.reference, s.at, s.vest_after_s, l.index, l.type, l.body::text,
                  o.secret, o.type, o.public::text, o.private::text, o.split::text
           FROM (SELECT id, reference, at, vest_after_s FROM ledger_journal WHERE id = %s
                 UNION ALL SELECT id, reference, at, NULL FROM ledger_fact WHERE id = %s) s
           LEFT JOIN ledger_leaf l ON l.entry_id = s.id LEFT JOIN ledger_opening o ON o.entry_id = s.id""",
        entry_id,
        entry_id,
    )
    if not found:
        return None
    reference, at, vest_after_s, index, leaf_type, body, *said = found[0]
    opening = _opening(entry_id, leaf_type, *said)
    entry = None
    if index is not None:
        body = database.from_json(body)
        entry = commitments.with_header(leaf_type, entry_id, body)
        type, public = leaf_type, _public(body)
    else:  # an opening is kept at least until its leaf exists
        assert opening is not None and opening.type is not None
        type, public = opening.type, opening.public or {}
    return EntryRow(
        id=entry_id,
        type=type,
        public=public,
        private=opening.private if opening else None,
        split=opening.split if opening else None,
        reference=reference,
        at=at,
        vest_after_s=vest_after_s,
        leaf=entry,
        leaf_index=index,
        secret=bytes(said[0]) if said[0] is not None else None,
    )


def receipt(entry_id: UUID, *, with_openings: bool) -> Receipt | None:
    """Build the receipt of an entry; None if there is no such entry.

    Openings are for those who took part, and the caller decides who that is; after an erasure there are none.
    """
    entry = entry_of(entry_id)
    return None if entry is None else receipt_of(entry, with_openings=with_openings)


def receipt_of(entry: EntryRow, *, with_openings: bool) -> Receipt:
    """Build the receipt of an entry that was read already; see `receipt`."""
    if entry.leaf is None or entry.leaf_index is None:
        return Receipt("waiting", None)
    index, newest = entry.leaf_index, head()
    if newest.size <= index:
        return Receipt("sequenced", None)
    hashes = merkle.inclusion_proof(
        index, newest.size, stored(merkle.required_nodes(merkle.inclusion_proof, index, newest.size))
    )
    opened = None
    if with_openings and entry.secret is not None:
        opened = commitments.openings(entry.private or {}, entry.split, entry.secret)
    return Receipt("proved", receipts.build_receipt(entry.leaf, opened, index, hashes, newest.checkpoint))


def consistency(old_size: int, new_size: int) -> str | None:
    """Prove that one signed head extends another: one base64 hash a line. None unless both sizes are of signed heads."""
    sizes = {old_size, new_size}
    if old_size > new_size or Checkpoint.objects.filter(size__in=sizes).count() < len(sizes):
        return None
    wanted = merkle.required_nodes(merkle.consistency_proof, old_size, new_size)
    proof = merkle.consistency_proof(old_size, new_size, stored(wanted))
    return "".join(f"{strict.encode_hash(digest)}\n" for digest in proof)


def erase_openings(entry_ids: Iterable[UUID]) -> int:
    """Forget what entries commit to, for ever; entries that wait for their leaf are left. Returns how many."""
    return database.value("SELECT ledger_erase(%s::uuid[])", list(entry_ids))


def root(size: int) -> bytes:
    """The root over the first `size` leaves, which must be there."""
    return merkle.root(size, stored(merkle.required_nodes(merkle.root, size)))


def stored(wanted: Sequence[tuple[int, int]]) -> merkle.HashSource:
    """Read hashes of the tree, (level, index), in one query: what is kept of them, the others follow."""
    kept = merkle.kept_under(wanted)
    found = {
        (level, index): bytes(digest)
        for level, index, digest in database.rows(
            """SELECT w.level, w.index, coalesce(n.hash, l.hash)
               FROM unnest(%s::int[], %s::bigint[]) AS w(level, index)
               LEFT JOIN ledger_node n ON n.level = w.level AND n.index = w.index
               LEFT JOIN ledger_leaf l ON w.level = 0 AND l.index = w.index""",
            [level for level, _ in kept],
            [index for _, index in kept],
        )
    }
    return merkle.source_of(found)


def _witnessed() -> QuerySet[Cosignature, Any]:
    """The sizes of the heads that enough witnesses cosigned.

    From the cosignatures, not from the heads: after a day without witnesses 80,000 heads have none.
    """
    signed = Cosignature.objects.values("size_id").annotate(witnesses=Count("witness"))
    return signed.filter(witnesses__gte=settings.WITNESS_QUORUM).values("size_id")


def _heads(found: QuerySet[Checkpoint]) -> Iterator[Head]:
    """Heads with their cosignatures, in one query."""
    cosignatures = Cosignature.objects.filter(size=OuterRef("size")).order_by("witness")
    signed = ArraySubquery(cosignatures.values(said=JSONObject(witness="witness", line="line")))
    for size, root, note, said in found.annotate(signed=signed).values_list("size", "root", "note", "signed"):
        lines = "".join(one["line"] for one in said)
        yield Head(size, bytes(root), note + lines, note, [one["witness"] for one in said])


def _public(body: dict) -> dict:
    return {name: value for name, value in body.items() if name not in ("hour", "commit")}


def _opening(entry_id: UUID, leaf_type: str | None, secret: Any, type: str | None, *said: str | None) -> Opening | None:
    """What an entry commits to, unsaved; None once erased. A plain posting's is filled in from the journal.

    said: Its public, private and split values, as JSON.
    """
    if secret is None and leaf_type is not None:
        return None  # erased; before it has a leaf, a plain posting has no opening
    if type is None or leaf_type not in (None, type):
        return plain_opening(entry_id)
    public, private, split = (None if text is None else database.from_json(text) for text in said)
    return Opening(entry_id=entry_id, secret=secret, type=type, public=public, private=private, split=split)


def plain_opening(entry_id: UUID) -> Opening | None:
    """What a plain posting's entry says and commits to, unsaved, from the journal; None for a fact."""
    posting = posting_of(entry_id)
    if posting is None:
        return None
    opening = Opening.objects.filter(pk=entry_id).first() or Opening(pk=entry_id)
    moves = [{"source": m.source, "target": m.target, "amount": str(m.amount_nano)} for m in posting.moves]
    opening.type, opening.public = POSTING_MADE, {"kind": posting.kind.value}
    opening.private, opening.split = {"posting": {"reference": posting.reference, "moves": moves}}, None
    return opening
