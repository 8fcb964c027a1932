"""Frozen, hashed sets of approved records. Once written, nothing of a version changes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import leaders, roots, services, statistics, storage
from .columns import columns_of
from .errors import NotAllowed, NotReady
from .models import Datanet, DisputedRecord, Record, RecordBody, Version, VersionFollower

CHUNK_ROWS = 2_000


@dataclass(frozen=True)
class VersionRecord:
    """A record as a version holds it. leader_id: whom it follows, else its own id. body: None once erased."""

    id: int
    identity: str
    contributor_id: int
    approver_id: int
    is_leader: bool
    leader_id: int
    body: dict | None
    media_key: str


@transaction.atomic
def freeze(datanet: Datanet, *, by: User, note: str = "") -> Version:
    """Freeze all approved records whose decision can no longer be undone, and fix who leads each cluster of copies.

    Raises:
        NotAllowed: not the owner. NotReady: nothing changed since the last version, or nothing is approved yet.
    """
    datanet = Datanet.objects.select_for_update(no_key=True).get(pk=datanet.pk)
    if not services.can_own(by, datanet):
        raise NotAllowed(_("Only the owner of this Datanet publishes versions."))
    last = datanet.versions.order_by("-number").first()
    settled = _settled()
    added = list(
        Record.objects.select_for_update(no_key=True)
        .filter(settled, datanet=datanet, added_in=None)
        .order_by("id")
        .values_list("id", "identity")
    )
    gone = ~Q(status=Record.Status.APPROVED) | Q(pk__in=_awarded())
    removed = list(_members(last).filter(gone).values_list("id", "identity")) if last else []
    if not added and not removed:
        raise NotReady(_("Nothing has changed since the last version. Decisions can be undone for a while first."))
    number = last.number + 1 if last else 1
    Record.objects.filter(pk__in=[pk for pk, _identity in added]).update(added_in=number)
    Record.objects.filter(pk__in=[pk for pk, _identity in removed]).update(removed_in=number)
    identities = dict(_members_at(datanet, number).order_by("id").values_list("id", "identity"))
    followers = _leader_map(datanet, number, settled)
    names = identities | dict(
        Record.objects.filter(pk__in=set(followers.values()) - identities.keys()).values_list("id", "identity")
    )
    leader_map_sha256 = roots.leader_map_hash({names[pk]: names[leader] for pk, leader in followers.items()})
    pk = uuid.uuid4()
    version = Version(
        id=pk,
        datanet=datanet,
        number=number,
        root=roots.version_root(identities.values(), leader_map_sha256),
        leader_map_sha256=leader_map_sha256,
        record_count=len(identities),
        leader_count=len(identities) - len(followers),
        added_count=len(added),
        removed_count=len(removed),
        licences=_licences(datanet, number),
        statistics=statistics.describe(columns_of(datanet.kind, datanet.schema), _bodies(datanet, number)),
        note=note,
        manifest_key=f"versions/{pk}/manifest.json",
        created_by=by,
    )
    _store_manifest(
        version,
        previous_root=last.root if last else None,
        added=[identity for _pk, identity in added],
        removed=[identity for _pk, identity in removed],
        leader_identities={names[pk]: names[leader] for pk, leader in followers.items()},
    )
    version.save(force_insert=True)
    VersionFollower.objects.bulk_create(
        (VersionFollower(version=version, record_id=pk, leader_id=leader) for pk, leader in followers.items()),
        batch_size=1000,
    )
    return version


def forget_statistics(records: Iterable[Record]) -> None:
    """Drop the statistics of every version that holds one of these records, whose content is erased.

    `describe_again` makes them of what is left: over many rows that takes longer than an erasure may.
    """
    spans = {
        (record.datanet_id, record.added_in, record.removed_in) for record in records if record.added_in is not None
    }
    for datanet_id, added_in, removed_in in spans:
        held_in = Version.objects.filter(datanet_id=datanet_id, number__gte=added_in).exclude(statistics={})
        if removed_in is not None:
            held_in = held_in.filter(number__lt=removed_in)
        held_in.update(statistics={})


def describe_again() -> int:
    """Make the statistics that erasures dropped, of the rows whose content is kept. Returns of how many versions."""
    dropped = list(Version.objects.filter(statistics={}).select_related("datanet"))
    for version in dropped:
        datanet = version.datanet
        described = statistics.describe(columns_of(datanet.kind, datanet.schema), _bodies(datanet, version.number))
        Version.objects.filter(pk=version.pk).update(statistics=described)
    return len(dropped)


def records_of(version: Version) -> list[VersionRecord]:
    """All records of a version with their content, in the order of their ids; two queries."""
    followers = leader_map(version)
    rows = _members(version).order_by("id")
    columns = ("id", "identity", "contributor_id", "decided_by_id", "body__body", "body__media_key")
    return [
        VersionRecord(
            id=pk,
            identity=identity,
            contributor_id=contributor_id,
            approver_id=approver_id,
            is_leader=pk not in followers,
            leader_id=followers.get(pk, pk),
            body=body,
            media_key=media_key or "",
        )
        for pk, identity, contributor_id, approver_id, body, media_key in rows.values_list(*columns)
    ]


def leader_map(version: Version) -> dict[int, int]:
    """{follower: leader} of a version, as it was frozen. A leader may stand in another Datanet."""
    return dict(VersionFollower.objects.filter(version=version).values_list("record_id", "leader_id"))


def merged_leaders(versions: Iterable[Version]) -> dict[int, int]:
    """{follower: leader} over several versions together: of each cluster, the earliest record that is in one of them or
    leads in one of them. Depends on frozen facts only; of a single version it is its own map."""
    versions = list(versions)
    named = set(VersionFollower.objects.filter(version__in=versions).values_list("leader_id", flat=True))
    inside = Q(pk__in=[])
    for version in versions:
        inside |= Q(pk__in=_members(version).values("pk"))
    copies = dict(Record.objects.filter(inside, copy_of__isnull=False).values_list("id", "copy_of_id"))
    firsts = Record.objects.filter(inside, pk__in=set(copies.values())).values_list("id", flat=True)
    leading = dict(Record.objects.filter(pk__in=named | set(firsts)).values_list("id", "copy_of_id"))
    known = copies | leading
    return _first_of_each_cluster((pk, known[pk]) for pk in sorted(known))


def difference(version: Version) -> tuple[QuerySet[Record], QuerySet[Record]]:
    """(added, removed) against the version before."""
    records = Record.objects.filter(datanet_id=version.datanet_id)
    return records.filter(added_in=version.number), records.filter(removed_in=version.number)


def _settled() -> Q:
    """Approved, and no longer to be undone; not planted, not under a lost theft dispute.

    What has been in a version is settled for good."""
    latest = timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S)
    settled = Q(decided_at__lte=latest) | Q(added_in__isnull=False)
    return Q(status=Record.Status.APPROVED, is_gold=False) & settled & ~Q(pk__in=_awarded())


def _awarded() -> QuerySet:
    """Records that their author never gave: the versions that hold them stay and pay the author, the next has none."""
    return DisputedRecord.objects.filter(state=DisputedRecord.State.AWARDED).values("record_id")


def _members(version: Version) -> QuerySet[Record]:
    return Record.objects.in_version(version)


def _members_at(datanet: Datanet, number: int) -> QuerySet[Record]:
    return Record.objects.in_version(Version(datanet=datanet, number=number))


def _leader_map(datanet: Datanet, number: int, settled: Q) -> dict[int, int]:
    """Who follows whom. A cluster reaches over the whole site: what was taken from another Datanet follows it."""
    copies = dict(_members_at(datanet, number).filter(copy_of__isnull=False).values_list("id", "copy_of_id"))
    clusters = set(copies.values())
    alike = Record.objects.filter(Q(pk__in=clusters) | Q(copy_of__in=clusters)).filter(settled).order_by("id")
    found = _first_of_each_cluster(alike.values_list("id", "copy_of_id"))
    return {pk: leader for pk, leader in found.items() if pk in copies}


def _first_of_each_cluster(rows: Iterable[tuple[int, int | None]]) -> dict[int, int]:
    """{follower: leader} of records given as (id, copy_of), in the order of their ids."""
    return cast(dict[int, int], leaders.leader_map(leaders.Member(pk, copy_of, True) for pk, copy_of in rows))


def _bodies(datanet: Datanet, number: int) -> Iterator[dict]:
    members = _members_at(datanet, number).values("pk")
    bodies = RecordBody.objects.filter(record__in=members).order_by("record_id")
    return bodies.values_list("body", flat=True).iterator(chunk_size=CHUNK_ROWS)


def _licences(datanet: Datanet, number: int) -> dict:
    """The licence, and how many records were given under which text of the rights statement."""
    counted = _members_at(datanet, number).values_list("submission__rights_statement_sha256")
    statements = dict(counted.annotate(records=Count("pk")).order_by())
    return {"licence": datanet.licence, "rights_statements": statements}


def _store_manifest(
    version: Version,
    *,
    previous_root: str | None,
    added: list[str],
    removed: list[str],
    leader_identities: dict[str, str],
) -> None:
    """What makes this version out of the last one, with all that its root can be recomputed from."""
    datanet = version.datanet
    told = {
        "format": "open-version/1",
        "datanet_id": str(datanet.pk),
        "version": version.number,
        "root": version.root,
        "previous_root": previous_root,
        "leader_map_sha256": version.leader_map_sha256,
        "record_count": version.record_count,
        "leader_count": version.leader_count,
        "added": sorted(added),
        "removed": sorted(removed),
        "leaders": dict(sorted(leader_identities.items())),
        "kind": datanet.kind,
        "schema": datanet.schema,
        "licences": version.licences,
        "created_at": version.created_at.isoformat(),
    }
    storage.put(version.manifest_key, json.dumps(told, ensure_ascii=False, indent=1).encode())
