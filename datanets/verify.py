"""Recomputes what versions and reviews claim, from the rows alone. Imports nothing of the code that wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import F, Q

from .models import DisputedRecord, Record, Report, Review, Submission, TheftDispute, Version, VersionFollower

# D1 roots and leader maps hash, D2 counts are true, D3 versions are in order, D4 nobody decided on
# their own record or report, D5 a decided or withdrawn submission has no record waiting, and an upheld or lapsed report
# none that is not withdrawn.
INVARIANTS = ("D1", "D2", "D3", "D4", "D5", "I10")


@dataclass(frozen=True)
class Failure:
    """One thing that is not as it must be. invariant: its name. row: which row. sentence: what is wrong with it."""

    invariant: str
    row: str
    sentence: str


def failures() -> list[Failure]:
    """Everything that is wrong with the data side; an empty list is what everybody wants."""
    found = [
        failure for version in Version.objects.select_related("datanet").iterator() for failure in _version(version)
    ]
    found += _memberships()
    found += _reviews()
    found += _reports()
    found += _thefts()
    found += _copies()
    return found


def _version(version: Version) -> Iterator[Failure]:
    row = f"version:{version.pk}"
    identities = _identities(version)
    pairs = VersionFollower.objects.filter(version=version).values_list(
        "record_id", "leader_id", "record__identity", "leader__identity"
    )
    lines = sorted(f"{follower} {leader}\n" for _, _, follower, leader in pairs)
    leader_map = hashlib.sha256("".join(lines).encode()).hexdigest()
    if leader_map != version.leader_map_sha256:
        yield Failure("D1", row, f"the leader map hashes to {leader_map}, not {version.leader_map_sha256}")
    root = _root(identities.values(), leader_map)
    if root != version.root:
        yield Failure("D1", row, f"the records hash to {root}, not {version.root}")
    if len(identities) != version.record_count:
        yield Failure("D2", row, f"{len(identities)} records are in it, {version.record_count} are stated")
    if len(identities) - len(pairs) != version.leader_count:
        yield Failure("D2", row, f"{len(identities) - len(pairs)} records lead, {version.leader_count} are stated")
    followers = {follower for follower, _, _, _ in pairs}
    for follower, leader, _, _ in pairs:
        if follower not in identities:
            yield Failure("I10", row, f"record {follower} follows in it but is not in it")
        if leader > follower:
            yield Failure("I10", row, f"record {follower} follows the later record {leader}")
        if leader in followers:
            yield Failure("I10", row, f"record {follower} follows {leader}, which follows another")


def _identities(version: Version) -> dict[int, str]:
    rows = Record.objects.filter(datanet_id=version.datanet_id, added_in__lte=version.number)
    rows = rows.filter(Q(removed_in=None) | Q(removed_in__gt=version.number))
    return dict(rows.values_list("id", "identity"))


def _root(identities, leader_map: str) -> str:
    """RFC 6962's recursion, as it is written there."""
    leaves = [f"record {identity}".encode() for identity in sorted(identities)] + [f"leaders {leader_map}".encode()]
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]

    def over(low: int, high: int) -> bytes:
        if high - low == 1:
            return hashes[low]
        split = 1 << (high - low - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + over(low, low + split) + over(low + split, high)).digest()

    return over(0, len(hashes)).hex()


def _memberships() -> Iterator[Failure]:
    """Records and versions agree on which holds which."""
    last: dict = {}
    for datanet_id, number in Version.objects.order_by("number").values_list("datanet_id", "number"):
        if number != last.get(datanet_id, 0) + 1:
            yield Failure("D3", f"datanet:{datanet_id}", f"version {number} follows version {last.get(datanet_id, 0)}")
        last[datanet_id] = number
    placed = Record.objects.filter(Q(added_in__isnull=False) | Q(removed_in__isnull=False))
    for pk, datanet_id, added, removed in placed.values_list("id", "datanet_id", "added_in", "removed_in").iterator():
        if added is None or added > last.get(datanet_id, 0) or (removed or 0) > last.get(datanet_id, 0):
            yield Failure("D3", f"record:{pk}", f"is placed in version {added}, which does not exist")
        elif removed is not None and removed <= added:
            yield Failure("D3", f"record:{pk}", f"left in version {removed}, before it came in {added}")
    for pk in placed.filter(is_gold=True).values_list("id", flat=True):
        yield Failure("D3", f"record:{pk}", "was planted and stands in a version")
    strangers = placed.filter(added_in__isnull=False, removed_in=None).exclude(status__in=("approved", "withdrawn"))
    for pk, status in strangers.values_list("id", "status"):
        yield Failure("D3", f"record:{pk}", f"is in the newest version and {status}")


def _reviews() -> Iterator[Failure]:
    """Nobody has decided on their own record; every approval has a vote behind it."""
    for pk in Record.objects.filter(decided_by=F("contributor")).values_list("id", flat=True):
        yield Failure("D4", f"record:{pk}", "was decided by its own contributor")
    for review in Review.objects.exclude(contributor=F("record__contributor")):
        yield Failure("D4", f"review:{review.pk}", "names another contributor than its record")
    votes = Review.objects.filter(undone_at=None, decision="approve", curator=F("record__decided_by"))
    unvoted = Record.objects.filter(status="approved").exclude(pk__in=votes.values("record_id"))
    for pk in unvoted.values_list("id", flat=True):
        yield Failure("D4", f"record:{pk}", "is approved without a standing vote of the curator who is paid for it")
    waiting = Record.objects.filter(status="waiting").values("submission_id")
    for submission in Submission.objects.filter(status__in=("decided", "withdrawn"), pk__in=waiting):
        yield Failure("D5", f"submission:{submission.pk}", f"is {submission.status} while records of it wait")


def _reports() -> Iterator[Failure]:
    """Nobody has decided on a report of theirs; where one was upheld, its record is gone."""
    for report in Report.objects.exclude(contributor=F("record__contributor")):
        yield Failure("D4", f"report:{report.pk}", "names another contributor than its record")
    own = Report.objects.filter(Q(decided_by=F("reporter")) | Q(decided_by=F("record__contributor")))
    for pk in own.values_list("pk", flat=True):
        yield Failure("D4", f"report:{pk}", "was decided by a party to it")
    for report in Report.objects.filter(status__in=("upheld", "lapsed")).exclude(record__status="withdrawn"):
        yield Failure(
            "D5", f"report:{report.pk}", f"is {report.status} while its record {report.record_id} is not withdrawn"
        )


def _thefts() -> Iterator[Failure]:
    """A theft dispute is about records of who it says, decided by no party, and its records stand where it stands."""
    about = DisputedRecord.objects.filter(
        ~Q(dispute__contributor=F("record__contributor")) | ~Q(dispute__datanet=F("record__datanet"))
    )
    for pk, record_id in about.values_list("dispute_id", "record_id"):
        yield Failure("D4", f"theft:{pk}", f"names another contributor or Datanet than its record {record_id}")
    wrong = Q(status="won") & (Q(first_by=F("decided_by")) | Q(first_by=None) | Q(decided_by=None))
    for party in (F("claimant"), F("contributor")):
        wrong |= Q(first_by=party) | Q(decided_by=party)
    for pk in TheftDispute.objects.filter(wrong).values_list("pk", flat=True):
        yield Failure("D4", f"theft:{pk}", "was decided by a party to it, or won by one decision")
    fits = Q(state="awarded", dispute__status="won") | Q(state="running", dispute__ended_at=None)
    fits |= Q(state="kept", dispute__status__in=["lost", "withdrawn", "lapsed"])
    for pk, record_id, state in DisputedRecord.objects.exclude(fits).values_list("dispute_id", "record_id", "state"):
        yield Failure("D4", f"theft:{pk}", f"does not fit its record {record_id}, which is {state}")


def _copies() -> Iterator[Failure]:
    """A stored leader is the first of its cluster, never a copy itself."""
    chained = Record.objects.filter(copy_of__copy_of__isnull=False)
    for pk, leader in chained.values_list("id", "copy_of_id"):
        yield Failure("I10", f"record:{pk}", f"is stored as a copy of {leader}, which is a copy itself")
