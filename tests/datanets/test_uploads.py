"""Bytes arrive in parts, break off, go on, race, exceed their limits."""

from __future__ import annotations

import hashlib
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from datanets import storage, submissions, uploads
from datanets.errors import ChecksumMismatch, Conflict, Expired, Invalid, NotReady, TooLarge
from datanets.models import SubmissionFile
from tests.books import at_once
from tests.datanets.cast import make_datanet, measured, person, table, upload
from tests.datanets.races import race

CONTENT = table(measured(200))


def started():
    return submissions.start(datanet=make_datanet(), contributor=person("alice"))


def announced(content: bytes = CONTENT, **fields) -> SubmissionFile:
    return uploads.add_file(started(), name="rows.csv", size_bytes=len(content), **fields)


def send_part(file: SubmissionFile, content: bytes, *, at: int, **fields) -> int:
    return uploads.receive_chunk(file, offset_bytes=at, stream=io.BytesIO(content), **fields)


class Breaking(io.BytesIO):
    """A connection that breaks after its last byte, as Django's UnreadablePostError does."""

    def read(self, size: int = -1, /) -> bytes:
        chunk = super().read(size)
        if not chunk:
            raise OSError("the sender has gone")
        return chunk


@pytest.mark.django_db
def test_an_interrupted_upload_goes_on_where_it_stopped_and_becomes_one_original():
    file = announced(sha256=hashlib.sha256(CONTENT).hexdigest())

    assert uploads.receive_chunk(file, offset_bytes=0, stream=Breaking(CONTENT[:1000])) == 1000
    assert send_part(file, CONTENT[1000:3000], at=1000) == 3000
    assert send_part(file, CONTENT[3000:], at=3000) == len(CONTENT)

    file.refresh_from_db()
    assert (file.status, file.sha256, file.parts) == ("waiting", hashlib.sha256(CONTENT).hexdigest(), [])
    assert storage.get(file.storage_key) == CONTENT


@pytest.mark.django_db
def test_a_part_for_another_offset_is_refused_with_the_right_one():
    file = announced()
    send_part(file, CONTENT[:100], at=0)
    for offset in (0, 99, 101):
        with pytest.raises(Conflict) as refusal:
            send_part(file, CONTENT[100:], at=offset)
        assert refusal.value.params == {"offset_bytes": 100}
    file.refresh_from_db()
    assert (file.received_bytes, len(file.parts)) == (100, 1)


@pytest.mark.django_db
def test_a_resume_whose_bytes_changed_is_put_aside_and_the_other_files_go_on():
    submission = started()
    good = upload(submission, CONTENT)
    file = uploads.add_file(
        submission, name="b.csv", size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    send_part(file, CONTENT[:1000], at=0)
    changed = CONTENT[1000:].replace(b"benign", b"secret", 1)

    with pytest.raises(Conflict):
        send_part(file, changed, at=1000)

    file.refresh_from_db()
    good.refresh_from_db()
    assert (file.status, file.error_code, file.storage_key) == ("failed", "bytes_changed", "")
    assert good.status == "ready"


@pytest.mark.django_db
def test_more_bytes_than_announced_count_for_nothing():
    file = announced(CONTENT[:50])
    with pytest.raises(TooLarge):
        send_part(file, CONTENT[:51], at=0)
    file.refresh_from_db()
    assert (file.received_bytes, file.parts) == (0, [])


@pytest.mark.django_db
def test_an_oversized_file_is_refused_before_a_byte_of_it_is_read(settings):
    settings.UPLOAD_FILE_MAX_BYTES = 1000
    with pytest.raises(TooLarge):
        uploads.add_file(started(), name="rows.csv", size_bytes=1001)


@pytest.mark.django_db
def test_a_person_has_a_quota_over_all_their_files(settings):
    settings.UPLOAD_USER_QUOTA_BYTES = 1000
    submission = started()
    first = uploads.add_file(submission, name="a.csv", size_bytes=600)
    with pytest.raises(TooLarge):
        uploads.add_file(submission, name="b.csv", size_bytes=401)
    submissions.drop_file(first, by=person("alice"))
    uploads.add_file(submission, name="b.csv", size_bytes=401)


@pytest.mark.django_db
def test_a_damaged_part_counts_for_nothing():
    file = announced()
    digest = hashlib.sha256(CONTENT[:100]).digest()
    with pytest.raises(ChecksumMismatch):
        send_part(file, b"x" * 100, at=0, checksum=("sha256", digest))
    assert send_part(file, CONTENT[:100], at=0, checksum=("sha256", digest)) == 100


@pytest.mark.django_db
def test_an_announcement_that_makes_no_sense_is_refused():
    submission = started()
    for fields in ({"size_bytes": -1}, {"size_bytes": 1, "sha256": "beef"}):
        with pytest.raises(Invalid):
            uploads.add_file(submission, name="a.csv", **fields)


@pytest.mark.django_db
def test_a_hostile_name_is_only_ever_shown():
    file = uploads.add_file(started(), name="../../etc/pass\u202ewd\x00.csv", size_bytes=1)
    assert file.name == "passwd.csv"


@pytest.mark.django_db
def test_an_upload_left_alone_expires_and_its_bytes_are_deleted(django_capture_on_commit_callbacks):
    file = announced()
    send_part(file, CONTENT[:100], at=0)
    file.refresh_from_db()
    [part] = file.parts
    SubmissionFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Expired):
        send_part(file, CONTENT[100:], at=100)

    with django_capture_on_commit_callbacks(execute=True):
        assert uploads.expire_uploads() == 1
    assert uploads.expire_uploads() == 0

    file.refresh_from_db()
    assert (file.status, file.error_code) == ("failed", "expired")
    with pytest.raises(FileNotFoundError):
        storage.get(part)


@pytest.mark.django_db
def test_a_server_that_died_after_the_last_byte_finishes_the_file_when_asked_again(monkeypatch):
    file = announced()
    with monkeypatch.context() as patch:  # the process dies here
        patch.setattr(uploads, "finish_file", lambda file: file)
        send_part(file, CONTENT, at=0)
    file.refresh_from_db()
    assert (file.status, file.received_bytes) == ("uploading", len(CONTENT))

    uploads.finish_file(file)
    uploads.finish_file(file)

    file.refresh_from_db()
    assert file.status == "waiting"
    assert storage.get(file.storage_key) == CONTENT


@pytest.mark.django_db
def test_a_submission_in_review_takes_no_more_files():
    submission = started()
    upload(submission, CONTENT)
    submission = submissions.sign_and_send(submission, by=person("alice"))
    with pytest.raises(NotReady):
        uploads.add_file(submission, name="late.csv", size_bytes=5)


def test_of_two_parts_for_one_offset_exactly_one_counts(books):
    """Fails without select_for_update in uploads._count_part (tests/mutations.py): both parts are counted."""
    file = announced()

    answers = race(
        books,
        lambda: send_part(file, b"a" * 500, at=0),
        lambda: send_part(file, b"b" * 500, at=0),
        behind="SELECT 1 FROM datanets_submissionfile FOR UPDATE",
    )

    file.refresh_from_db()
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "int"]
    assert (file.received_bytes, len(file.parts)) == (500, 1)


def test_two_files_announced_at_once_share_one_quota(books, settings):
    """Fails without the lock of the person's row in uploads._require_quota (tests/mutations.py)."""
    settings.UPLOAD_USER_QUOTA_BYTES = 1000
    datanet = make_datanet()
    ours = [submissions.start(datanet=datanet, contributor=person("alice")) for _ in range(4)]

    answers = at_once(*(lambda s=s: uploads.add_file(s, name="a.csv", size_bytes=600) for s in ours))

    assert sorted(type(answer).__name__ for answer in answers) == ["SubmissionFile", *["TooLarge"] * 3]
