"""Bytes that arrive: in parts that may be interrupted and resumed, or at once from a plain form.

Every part is first kept as a file of its own, then counted under the lock of its row: a slow sender holds no lock and no
transaction, and of two parts for one offset exactly one counts. The last part makes one original of them.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import BinaryIO

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User

from . import states, storage, tasks
from .errors import ChecksumMismatch, Conflict, Expired, Invalid, NotReady, TooLarge
from .kinds.content import clean_name
from .models import Submission, SubmissionFile
from .storage import Readable

Status = SubmissionFile.Status

KEPT_FOR = timedelta(days=2)  # an unfinished upload, counted from its last part
FILES_MAX = 500
PARTS_MAX = 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ_BYTES = 256 * 1024


@transaction.atomic
def add_file(submission: Submission, *, name: str, size_bytes: int, sha256: str = "") -> SubmissionFile:
    """Announce a file. sha256: what its bytes must hash to in the end, when the sender knows.

    A file added after the rights were signed needs them signed again.

    Raises:
        TooLarge: over the limit of a file, or of the contributor's quota. Invalid. NotReady: already in review.
    """
    sha256 = sha256.lower()
    if size_bytes < 0 or (sha256 and not _SHA256.fullmatch(sha256)):
        raise Invalid(_("The announced size or checksum makes no sense."))
    if size_bytes > settings.UPLOAD_FILE_MAX_BYTES:
        raise TooLarge(
            _("The file is larger than the limit of %(limit_mib)s MiB. Split it.")
            % {"limit_mib": settings.UPLOAD_FILE_MAX_BYTES // 1024**2},
            limit_bytes=settings.UPLOAD_FILE_MAX_BYTES,
        )
    submission = states.locked(submission.pk)
    if submission.status not in states.BEFORE_REVIEW:
        raise NotReady(_("This submission takes no more files. Start a new one."))
    if submission.files.filter(dropped_at=None).count() >= FILES_MAX:
        raise TooLarge(_("A submission holds at most %(limit)s files.") % {"limit": FILES_MAX})
    _require_quota(submission.contributor_id, size_bytes)
    file = SubmissionFile.objects.create(
        submission=submission,
        name=clean_name(name),
        size_bytes=size_bytes,
        declared_sha256=sha256,
        expires_at=timezone.now() + KEPT_FOR,
    )
    if submission.sent_at is not None:
        submission.sent_at, submission.rights_signed_at, submission.rights_statement_sha256 = None, None, ""
        submission.save(update_fields=["sent_at", "rights_signed_at", "rights_statement_sha256"])
    states.advance(submission)
    return file


def receive_chunk(
    file: SubmissionFile, *, offset_bytes: int, stream: Readable, checksum: tuple[str, bytes] | None = None
) -> int:
    """Keep the next bytes of a file; returns the new offset. What a broken connection delivered is kept.

    checksum: (algorithm of hashlib, digest) of exactly these bytes; with one, a part that is damaged counts nothing.

    Raises:
        Conflict: the file does not stand at offset_bytes, or its last byte has come and the whole is not what was
            announced. TooLarge: more bytes than announced. Expired, NotReady, ChecksumMismatch.
    """
    file = SubmissionFile.objects.get(pk=file.pk)
    _require_receiving(file, offset_bytes)
    key = f"incoming/{file.pk}/{uuid.uuid4().hex}"
    arriving = _Arriving(stream, limit_bytes=file.size_bytes - offset_bytes, algorithm=checksum[0] if checksum else "")
    storage.put(key, arriving)
    try:
        if arriving.too_much:
            raise TooLarge(_("More bytes arrived than the file was announced to have."))
        if checksum and arriving.digest() != checksum[1]:
            raise ChecksumMismatch
        file = _count_part(file, key=key, offset_bytes=offset_bytes, arrived_bytes=arriving.count_bytes)
    except BaseException:
        storage.delete(key)
        raise
    if not arriving.count_bytes:
        storage.delete(key)
    if file.received_bytes == file.size_bytes:
        finish_file(file)
    return file.received_bytes


def receive_file(
    submission: Submission, *, name: str, stream: Readable, size_bytes: int, sha256: str = ""
) -> SubmissionFile:
    """Take a whole file at once, as a plain form sends it. Raises as add_file and receive_chunk do."""
    file = add_file(submission, name=name, size_bytes=size_bytes, sha256=sha256)
    receive_chunk(file, offset_bytes=0, stream=stream)
    file.refresh_from_db()
    return file


def finish_file(file: SubmissionFile) -> SubmissionFile:
    """Make one original of a file whose last byte has come, and ring for its checks. Repeating changes nothing.

    Raises:
        Conflict: the bytes are not those announced at the beginning. The file has failed, the others go on.
    """
    file.refresh_from_db()
    if file.status != Status.UPLOADING or file.received_bytes < file.size_bytes:
        return file
    parts = list(file.parts)
    key = storage.new_key("originals")
    arriving = _Arriving(_Joined(parts), limit_bytes=file.size_bytes, algorithm="sha256")
    try:
        storage.put(key, arriving)
    except FileNotFoundError:  # another request has just finished this file and removed its parts
        file.refresh_from_db()
        if file.status == Status.UPLOADING:
            raise
        return file
    sha256 = arriving.digest().hex()
    as_announced = file.declared_sha256 in ("", sha256)
    with transaction.atomic():
        submission = states.locked(file.submission_id)
        file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=file.pk)
        if file.status != Status.UPLOADING:
            storage.delete(key)
            return file
        file.sha256, file.parts, file.expires_at = sha256, [], None
        if as_announced:
            file.status, file.storage_key = Status.WAITING, key
            transaction.on_commit(lambda: tasks.check_file.delay(str(file.pk)), robust=True)
        else:
            file.status, file.error_code = Status.FAILED, "bytes_changed"
        file.save()
        states.advance(submission)
        transaction.on_commit(lambda: storage.delete_all(parts if as_announced else [*parts, key]))
    if not as_announced:
        raise Conflict(_("These are not the bytes that were announced. The file was put aside; send it again."))
    return file


def expire_uploads() -> int:
    """Give up uploads nobody went on with. Returns how many. Repeating changes nothing."""
    late = SubmissionFile.objects.filter(status=Status.UPLOADING, dropped_at=None, expires_at__lt=timezone.now())
    expired = 0
    for pk, submission_id in late.values_list("pk", "submission_id"):
        with transaction.atomic():
            submission = states.locked(submission_id)
            file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=pk)
            if file.status != Status.UPLOADING or (file.expires_at and file.expires_at > timezone.now()):
                continue
            transaction.on_commit(partial(storage.delete_all, file.parts))
            file.parts, file.status, file.error_code = [], Status.FAILED, "expired"
            file.save(update_fields=["parts", "status", "error_code"])
            states.advance(submission)
            expired += 1
    return expired


def _require_quota(contributor_id: int, size_bytes: int) -> None:
    # the person's row is the lock: two announcements at once cannot both take the last megabyte
    User.objects.select_for_update(no_key=True).get(pk=contributor_id)
    kept = SubmissionFile.objects.filter(submission__contributor_id=contributor_id, dropped_at=None)
    used = kept.exclude(status=Status.FAILED).aggregate(total=Sum("size_bytes"))["total"] or 0
    if used + size_bytes > settings.UPLOAD_USER_QUOTA_BYTES:
        raise TooLarge(
            _("Your quota of %(limit_mib)s MiB would be exceeded. Drop files you no longer need.")
            % {"limit_mib": settings.UPLOAD_USER_QUOTA_BYTES // 1024**2},
            limit_bytes=settings.UPLOAD_USER_QUOTA_BYTES,
        )


def _require_receiving(file: SubmissionFile, offset_bytes: int) -> None:
    if file.error_code == "expired" or file.dropped_at or (file.expires_at and file.expires_at < timezone.now()):
        raise Expired
    if file.status != Status.UPLOADING or offset_bytes != file.received_bytes:
        raise Conflict(offset_bytes=file.received_bytes)
    if len(file.parts) >= PARTS_MAX:
        raise TooLarge(_("The file came in too many small parts. Send it again in larger ones."))


def _count_part(file: SubmissionFile, *, key: str, offset_bytes: int, arrived_bytes: int) -> SubmissionFile:
    with transaction.atomic():
        # mutation: without select_for_update two parts for one offset both count (test_uploads: race)
        file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=file.pk)
        _require_receiving(file, offset_bytes)
        if arrived_bytes:
            file.parts = [*file.parts, key]
            file.received_bytes += arrived_bytes
            file.expires_at = timezone.now() + KEPT_FOR
            file.save(update_fields=["parts", "received_bytes", "expires_at"])
    return file


class _Arriving:
    """A stream that counts and hashes what passes, stops one byte above its limit, and ends where a connection breaks."""

    def __init__(self, stream: Readable, *, limit_bytes: int, algorithm: str):
        self._stream, self._limit = stream, limit_bytes
        self._hash = hashlib.new(algorithm) if algorithm else None
        self.count_bytes = 0
        self.too_much = False

    def read(self, size: int = -1, /) -> bytes:
        if self.too_much:
            return b""
        try:
            chunk = self._stream.read(min(_READ_BYTES, self._limit - self.count_bytes + 1))
        except FileNotFoundError:
            raise  # ours, not the sender's
        except OSError:  # the sender has gone; Django's UnreadablePostError is one of these
            return b""
        self.count_bytes += len(chunk)
        self.too_much = self.count_bytes > self._limit
        if self._hash:
            self._hash.update(chunk)
        return chunk

    def digest(self) -> bytes:
        return self._hash.digest() if self._hash else b""


class _Joined:
    """The parts of a file, one after the other, as one stream."""

    def __init__(self, keys: list[str]):
        self._chunks = self._read_all(keys)

    def read(self, size: int = -1, /) -> bytes:
        return next(self._chunks, b"")

    @staticmethod
    def _read_all(keys: list[str]) -> Iterator[bytes]:
        for key in keys:
            part: BinaryIO
            with closing(storage.open_file(key)) as part:
                while chunk := part.read(_READ_BYTES):
                    yield chunk
