"""Single records: read them, search them, take them back, erase them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from functools import partial

from django.db import transaction
from django.db.models import F, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.requests import Visitor

from . import exports, gold, registration, services, states
from .columns import columns_of, label_of
from .errors import NotAllowed, NotReady
from .models import Datanet, Record, RecordBody, Report, Version


@transaction.atomic
def withdraw(record: Record, *, by: User) -> Record:
    """Take a record back: out of previews and retrieval at once, out of the next version. Repeating changes nothing.

    Its contributor may, and for a takedown the Datanet's owner, administrators, and the curator who upheld a report of it.
    Reports that nobody decided lapse. The content is still kept: `erase`.

    Raises:
        NotAllowed.
    """
    submission = states.locked(record.submission_id)
    record = Record.objects.select_for_update(no_key=True).get(pk=record.pk)
    if not (by.pk == record.contributor_id or may_take_down(by, record)) and not (
        record.reports.filter(status=Report.Status.UPHELD, decided_by=by).exists()
    ):
        raise NotAllowed(_("Only its contributor may withdraw a record."))
    if record.status != Record.Status.WITHDRAWN:
        record.status, record.withdrawn_at, record.withdrawn_by = Record.Status.WITHDRAWN, timezone.now(), by
        record.save(update_fields=["status", "withdrawn_at", "withdrawn_by"])
        record.reports.filter(status=Report.Status.OPEN).update(
            status=Report.Status.LAPSED, closed_at=record.withdrawn_at
        )
        states.advance(submission)
        gold.retire_made_of(record)
        for version in versions_with(record):
            transaction.on_commit(partial(exports.forget, version))
    return record


def may_take_down(user: Visitor, record: Record) -> bool:
    """Whether somebody may withdraw a record that is not theirs, for a reason of their own."""
    return user is not None and user.is_authenticated and (user.is_staff or services.can_own(user, record.datanet))


def erase(record: Record) -> None:
    """Delete all a withdrawn record says: body, salt, pictures, fingerprints, findings, and the file it came in.

    Its row, its identity and every root over it stay and say nothing. Repeating changes nothing.

    Raises:
        NotReady: the record is not withdrawn.
    """
    record.refresh_from_db()
    if record.status != Record.Status.WITHDRAWN:
        raise NotReady(_("Withdraw the record first."))
    registration.erase_content([record])


def excluded(version_ids: Iterable, *, at: datetime | None = None) -> set[int]:
    """The records of these versions that have been withdrawn after the freeze: they score nothing from then on.

    at: Only those that were by this moment; None: by now.
    """
    gone: set[int] = set()
    for version in Version.objects.filter(pk__in=list(version_ids)):
        found = withdrawn_from(version) if at is None else withdrawn_from(version).filter(withdrawn_at__lte=at)
        gone |= set(found.values_list("id", flat=True))
    return gone


def versions_with(record: Record) -> QuerySet[Version]:
    """The versions a record is in: what a certificate of its withdrawal lists."""
    removed_in = F("datanet__records__removed_in")
    found = Version.objects.filter(
        Q(datanet__records__removed_in=None) | Q(number__lt=removed_in),
        datanet__records=record.pk,
        number__gte=F("datanet__records__added_in"),
    )
    return found.order_by("number")


def content_of(record: Record) -> dict | None:
    """The body, or None once it is erased."""
    return RecordBody.objects.filter(record=record).values_list("body", flat=True).first()


def can_see(user: Visitor, record: Record, *, curates: bool = False) -> bool:
    """Whether a person may see a record's content: its contributor and the curators always; readers once it is approved
    and inside the preview. Withdrawn content is its contributor's alone.

    curates: `services.can_curate`, for who has asked already.
    """
    if curates and record.status != Record.Status.WITHDRAWN:
        return True
    return record.pk in seen_by(user, [record])


def seen_by(user: Visitor, found: Iterable[Record]) -> set[int]:
    """Which of these records a person may see, as `can_see` says of each: one query, from however many Datanets they are.

    The records have their Datanets with them (`select_related`).
    """
    user_id = user.pk if user is not None and user.is_authenticated else None
    own, others = set(), []
    for record in found:
        if record.contributor_id == user_id:
            own.add(record.pk)
        elif record.status != Record.Status.WITHDRAWN:
            others.append(record)
    if not others:
        return own
    in_preview = Q()
    for datanet in {record.datanet for record in others}:
        in_preview |= Q(pk__in=_first_of(datanet))
    shown = Record.objects.filter(
        Q(datanet__in=Datanet.objects.curated_by(user)) | Q(datanet__in=Datanet.objects.readable_by(user)) & in_preview,
        pk__in=[record.pk for record in others],
    )
    return own | set(shown.values_list("pk", flat=True))


def preview(
    datanet: Datanet, *, viewer: Visitor, reads_all: bool | None = None, reads: bool | None = None
) -> QuerySet[Record]:
    """The approved records a person may read in a Datanet, in the order of their ids.

    Its owner and curators read all; others, where they may read at all, the first `preview_rows`.

    reads_all, reads: `services.can_curate` and `services.can_read`, for who has asked already.
    """
    approved = Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED).order_by("id")
    approved = approved.defer("signature", "bands").select_related("body")
    if services.can_curate(viewer, datanet) if reads_all is None else reads_all:
        return approved
    if not (services.can_read(viewer, datanet) if reads is None else reads):
        return approved.none()
    return approved.filter(pk__in=_first_of(datanet))


def _first_of(datanet: Datanet) -> QuerySet[Record, int]:
    """The ids of the records in the preview of a Datanet: what a reader may read of it."""
    approved = Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED)
    return approved.order_by("id").values_list("id", flat=True)[: datanet.preview_rows]


def search(found: QuerySet[Record], words: str, *, pool: Datanet, label: str = "") -> QuerySet[Record]:
    """Narrow records of one Datanet to those whose title or content contains these words as they stand, in any case,
    and to those with this label."""
    if "\x00" in words + label:  # no record holds one, and the database takes none
        return found.none()
    if words.strip():
        found = found.annotate(written=Cast("body__body", TextField()))
        found = found.filter(Q(written__icontains=words.strip()) | Q(title__icontains=words.strip()))
    name = label_of(pool.kind, pool.schema)
    if label and name:
        # not body__body__<name>: a column may be called like a lookup, "range" or "contains"
        found = found.filter(body__body__contains={name: _label_value(label, name, pool)})
    return found


def withdrawn_from(version: Version) -> QuerySet[Record]:
    """The records of a version that have been withdrawn after the freeze."""
    return Record.objects.in_version(version).filter(status=Record.Status.WITHDRAWN)


def page(found: QuerySet[Record], *, after: int | None = None, limit: int = 50) -> tuple[list[Record], int | None]:
    """(records, cursor of the next page or None) by key: page 10,000 costs what page 1 costs."""
    rows = list((found.filter(pk__gt=after) if after else found).order_by("id")[: limit + 1])
    return rows[:limit], rows[limit - 1].pk if len(rows) > limit else None


def contributors_of(datanet: Datanet) -> QuerySet[User]:
    """Who has an approved record in a Datanet."""
    approved = Record.objects.filter(datanet=datanet, status=Record.Status.APPROVED)
    return User.objects.filter(pk__in=approved.values("contributor_id")).order_by("username")


def _label_value(label: str, name: str, pool: Datanet) -> str | bool | float:
    """A label from an address, in the type of its column; a text that is none of that type matches no record."""
    types = {column.name: column.type for column in columns_of(pool.kind, pool.schema)}
    if types[name] == "boolean":
        return {"true": True, "false": False}.get(label.lower(), label)
    if types[name] in ("number", "integer"):
        try:
            return float(label) if math.isfinite(float(label)) else label
        except ValueError:
            return label
    return label
