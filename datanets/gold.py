"""Planted submissions: an owner knows the right decision, and curators cannot tell them from any other.

    in stock   the owner's file, which nobody else sees
    planted    a submission of a newcomer, who is nobody: it goes the way of every other one, from upload and checks to the
               decision and its undo. Reviews, pages and API never ask whether a submission is planted
    revealed   decided, and past its undo: its records are taken back, and each curator may see how they decided
    retired    by the owner: it measures nobody from then on

Its records are in no version (a check of the table), earn nothing, and lead nobody's. What is planted is decided by whoever
comes to it first, as everything in the queue is; the same file is planted once.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import records, registration, sandbox, sentences, services, storage, submissions, uploads
from .errors import Invalid, NotAllowed, NotReady
from .models import Datanet, GoldItem, GoldShare, Record, Review, Submission, SubmissionFile

SHARE_PERCENT_MAX = 10
SHARE_DAYS = 30  # the share is of what was sent for review in these days
RECORDS_MAX = 200
FILE_BYTES_MAX = 8 * 1024**2
MADE_FROM = (Record.Status.REJECTED, Record.Status.APPROVED)
Decision, Reason = Review.Decision, Review.Reason

_FIRST = "ada amir anna ben clara dario elif emil eva farid finn greta hana ines ivan jana joel karim lea leo".split()
_FIRST += (
    "lina luis maja malik marta mila nils noor olga omar paul rosa sami sara theo tina vera yann yara zeno".split()
)
_LAST = "bauer berg blanc brand costa diaz ferrari fischer garcia hart horn ito jansen keller klein kovacs lang".split()
_LAST += "lopez marin mazur meyer moreau nagy novak olsen ortiz park petit popa rey rossi roth sato silva wolf".split()


# --- The stock


def add_file(
    datanet: Datanet, *, by: User, name: str, content: bytes, decision: str, reason: str = "", title: str = ""
) -> GoldItem:
    """Put a file in stock, whose records all have the same right decision.

    Raises:
        NotAllowed: not the owner. Invalid: no decision or reason, or a file that does not hold 1 to RECORDS_MAX records
            and nothing else.
    """
    _require_owner(datanet, by)
    _check_decision(decision, reason)
    if len(content) > FILE_BYTES_MAX:
        raise Invalid(_("The file is too large: at most 8 MiB, please."))
    count = _count_records(datanet, name, content)
    return _store(datanet, by, None, name, content, count, decision, reason, title)


def add_record(record: Record, *, by: User, reason: str = "") -> GoldItem:
    """Put a copy of a decided record in stock, to be rejected: a rejected one for its reason or another one, an approved
    one as the copy that it is.

    An approved record cannot be planted to be approved: a curator finds the first one beside it.

    Raises:
        NotAllowed: not the owner. NotReady: not decided, in stock already, or its content is erased. Invalid: the reason.
    """
    datanet = record.datanet
    _require_owner(datanet, by)
    with transaction.atomic():
        record = Record.objects.select_for_update(no_key=True).select_related("file", "datanet").get(pk=record.pk)
        if record.status not in MADE_FROM or record.is_gold:
            raise NotReady(_("Only a decided record can be planted."))
        if GoldItem.objects.filter(source=record, retired_at=None).exists():
            raise NotReady(_("This record is planted already, or in stock."))
        reason = Reason.COPY if record.status == Record.Status.APPROVED else reason or record.reject_reason
        _check_decision(Decision.REJECT, reason)
        name, content = _file_of(record)
        return _store(datanet, by, record, name, content, 1, Decision.REJECT, reason, "")


@transaction.atomic
def retire(item: GoldItem, *, by: User) -> GoldItem:
    """Take an item out: of the stock, or of the queue, and of what measures curators in epochs that close later.

    Its content is deleted. Repeating changes nothing. Raises NotAllowed.
    """
    _require_owner(item.datanet, by)
    return _retire(item)


def retire_made_of(record: Record) -> None:
    """When a record is taken back, so is every item that was made from it. Runs in the transaction of the withdrawal."""
    for item in GoldItem.objects.filter(source=record, retired_at=None):
        _retire(item)


def erase_of(user: User) -> None:
    """Retire what a person put in stock or planted, and forget what they called it. Repeating changes nothing."""
    theirs = GoldItem.objects.filter(added_by=user)
    for item in theirs.filter(retired_at=None):
        _retire(item)
    Submission.objects.filter(gold__in=theirs).update(title="")
    SubmissionFile.objects.filter(submission__gold__in=theirs).update(name="")
    theirs.update(title="", file_name="")


def set_share(datanet: Datanet, *, by: User, percent: int) -> None:
    """How many of a hundred submissions may be planted ones, 0 to SHARE_PERCENT_MAX. Raises NotAllowed, Invalid."""
    _require_owner(datanet, by)
    if not 0 <= percent <= SHARE_PERCENT_MAX:
        raise Invalid(_("Between 0 and 10 of a hundred submissions can be planted ones."))
    GoldShare.objects.update_or_create(datanet=datanet, defaults={"percent": percent})


def share_of(datanet: Datanet) -> int:
    """Percent; 0 until the owner states one."""
    return GoldShare.objects.filter(datanet=datanet).values_list("percent", flat=True).first() or 0


# --- Into the queue, and out of it


def plant_due(now: datetime | None = None) -> int:
    """Plant one item in each Datanet whose share allows it. Returns how many were planted."""
    return sum(_plant_one(share.datanet, share.percent, now) for share in _shares())


def _shares() -> list[GoldShare]:
    stocked = GoldItem.objects.filter(submission=None, retired_at=None).values("datanet_id")
    return list(GoldShare.objects.filter(percent__gt=0, datanet__in=stocked).select_related("datanet"))


def _plant_one(datanet: Datanet, percent: int, now: datetime | None) -> bool:
    with transaction.atomic():
        GoldShare.objects.select_for_update().get(pk=datanet.pk)
        since = (now or timezone.now()) - timedelta(days=SHARE_DAYS)
        real = Submission.objects.filter(datanet=datanet, sent_at__gte=since, gold=None).count()
        planted = GoldItem.objects.filter(datanet=datanet, planted_at__gte=since).count()
        if planted >= -(-real * percent // 100):
            return False
        stock = GoldItem.objects.filter(datanet=datanet, submission=None, retired_at=None)
        chosen = list(stock.values_list("pk", flat=True))
        if not chosen:
            return False
        plant(stock.get(pk=secrets.choice(chosen)))
    return True


@transaction.atomic
def plant(item: GoldItem) -> Submission:
    """Send an item for review as any contributor sends a file. Planting it again returns its submission.

    Raises:
        NotReady: retired.
    """
    item = GoldItem.objects.select_for_update(no_key=True, of=("self",)).select_related("datanet").get(pk=item.pk)
    if item.submission is not None:
        return item.submission
    if item.retired_at is not None:
        raise NotReady(_("This item is retired."))
    sender = _newcomer()
    services.note_contributor(item.datanet, sender)  # so that a closed Datanet takes it
    submission = submissions.start(datanet=item.datanet, contributor=sender, title=item.title)
    item.submission, item.planted_at = submission, timezone.now()
    item.save(update_fields=["submission", "planted_at"])
    content = storage.get(item.storage_key)
    uploads.receive_file(submission, name=item.file_name, stream=io.BytesIO(content), size_bytes=len(content))
    # Nobody uploads and sends within a moment.
    started = submission.created_at - timedelta(seconds=60 + secrets.randbelow(900))
    Submission.objects.filter(pk=submission.pk).update(created_at=started)
    return submissions.sign_and_send(submission, by=sender)


def reveal_final(now: datetime | None = None) -> int:
    """Take back what is decided and can no longer be undone, and let its curators see it. Returns how many items."""
    latest = (now or timezone.now()) - timedelta(seconds=settings.REVIEW_UNDO_S)
    due = GoldItem.objects.filter(
        submission__status=Submission.Status.DECIDED,
        submission__decided_at__lte=latest,
        revealed_at=None,
        retired_at=None,
    )
    revealed = 0
    for pk in due.values_list("pk", flat=True):
        with transaction.atomic():
            item = GoldItem.objects.select_for_update(no_key=True).get(pk=pk)
            if item.revealed_at is None and item.retired_at is None:
                _take_back(item)
                item.revealed_at = now or timezone.now()
                item.save(update_fields=["revealed_at"])
                revealed += 1
    return revealed


# --- Below


def _require_owner(datanet: Datanet, by: User) -> None:
    if not services.can_own(by, datanet):
        raise NotAllowed(_("Only the owner of this Datanet plants records."))


def _check_decision(decision: str, reason: str) -> None:
    if decision not in Decision.values or (decision == Decision.APPROVE) != (reason == ""):
        raise Invalid(_("Say what the right decision is, and of a rejection why."))
    if reason and reason not in Reason.values:
        raise Invalid(_("A rejection needs a reason from the list."))


def _store(
    datanet: Datanet,
    by: User,
    source: Record | None,
    name: str,
    content: bytes,
    count: int,
    decision: str,
    reason: str,
    title: str,
) -> GoldItem:
    key = storage.new_key("originals")
    storage.put(key, io.BytesIO(content))
    return GoldItem.objects.create(
        datanet=datanet,
        decision=decision,
        reason=reason,
        source=source,
        title=title.strip()[:160],
        file_name=name[:255],
        storage_key=key,
        record_count=count,
        added_by=by,
    )


def _count_records(datanet: Datanet, name: str, content: bytes) -> int:
    """How many records a file holds. Raises Invalid: it does not hold records and nothing else."""
    with tempfile.TemporaryDirectory(prefix="openledger-gold-") as folder:
        path = Path(folder, "original")
        path.write_bytes(content)
        try:
            events = list(sandbox.parse_file(path, kind=datanet.kind, schema=datanet.schema, name=name))
        except sandbox.Refused as refused:
            raise Invalid(sentences.of_problem(refused.reason, refused.params)) from refused
        except sandbox.SandboxError as error:
            raise Invalid(sentences.of_problem(error.code, {})) from error
    for event in events:
        if event["type"] == "problem":
            raise Invalid(sentences.of_problem(event["reason"], event["params"]))
    if not 1 <= len(events) <= RECORDS_MAX:
        raise Invalid(_("A planted file holds between 1 and 200 records."))
    return len(events)


def _file_of(record: Record) -> tuple[str, bytes]:
    """A file that holds this record alone, named like the one it came in. Raises NotReady: its content is erased."""
    body = records.content_of(record)
    if body is None:
        raise NotReady(_("The content of this record is erased."))
    stem = Path(record.file.name).stem or "data"
    if record.datanet.kind != Datanet.Kind.IMAGE:
        fields = {name: value for name, value in body.items() if value is not None}
        return f"{stem}.jsonl", json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    picture = storage.get(record.body.media_key)
    suffix = ".jpg" if picture.startswith(b"\xff\xd8") else ".png"
    if not body.get("label"):
        return f"{stem}{suffix}", picture
    labels, packed = io.StringIO(), io.BytesIO()
    csv.writer(labels).writerows([("file", "label"), (f"{stem}{suffix}", body["label"])])
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{stem}{suffix}", picture)
        archive.writestr("labels.csv", labels.getvalue())
    return f"{stem}.zip", packed.getvalue()


def _newcomer() -> User:
    """Somebody who signs in nowhere, named as people name themselves."""
    while True:
        first, last = secrets.choice(_FIRST), secrets.choice(_LAST)
        number = secrets.choice(["", "", str(1 + secrets.randbelow(99))])
        handle = secrets.choice([f"{first}-{last}{number}", f"{first}{last}{number}", f"{first[0]}{last}{number}"])
        try:
            with transaction.atomic():
                joined = timezone.now() - timedelta(seconds=3600 + secrets.randbelow(20 * 86_400))
                return User.objects.create_user(username=handle, email="", password=None, date_joined=joined)
        except IntegrityError:
            continue


def _retire(item: GoldItem) -> GoldItem:
    item = GoldItem.objects.select_for_update(no_key=True).get(pk=item.pk)
    if item.retired_at is not None:
        return item
    if item.submission is not None:
        if item.submission.status not in (Submission.Status.DECIDED, Submission.Status.WITHDRAWN):
            submissions.withdraw(item.submission, by=item.submission.contributor)
        registration.erase_content(_take_back(item))
    key = item.storage_key
    item.retired_at, item.storage_key = timezone.now(), ""
    if item.source_id is not None:  # its name is a contributor's word, too
        item.file_name = ""
        SubmissionFile.objects.filter(submission=item.submission).update(name="")
    item.save(update_fields=["retired_at", "storage_key", "file_name"])
    transaction.on_commit(lambda: storage.delete_all([key]))
    return item


def _take_back(item: GoldItem) -> Sequence[Record]:
    """Withdraw what was approved of a planted item. Returns all its records."""
    planted = Record.objects.filter(submission=item.submission).select_related("contributor", "datanet")
    for record in planted.filter(status=Record.Status.APPROVED):
        records.withdraw(record, by=record.contributor)
    return list(planted)
