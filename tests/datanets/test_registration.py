"""Who was first: copies inside a file, between people, between Datanets, and between two uploads at the same moment."""

from __future__ import annotations

import hashlib
import io

import pytest
from django.db import IntegrityError, connection, transaction
from PIL import Image

from datanets import checking, findings, storage, submissions
from datanets.models import CheckResult, Record, RecordBody
from tests.datanets.cast import make_datanet, measured, person, send, table, upload
from tests.datanets.races import race


@pytest.mark.django_db
def test_an_exact_copy_follows_the_first_and_its_check_names_it():
    rows = measured(30)
    datanet = make_datanet()
    first = send(datanet, table(rows))
    second = send(datanet, table(rows[:3]), by="bob")

    leaders = list(Record.objects.filter(submission=first).order_by("id"))
    copies = list(Record.objects.filter(submission=second).order_by("id"))
    assert [copy.copy_of_id for copy in copies] == [leader.pk for leader in leaders[:3]]
    assert {copy.copy_distance for copy in copies} == {0.0}
    finding = CheckResult.objects.get(record=copies[0], check_name="exact_copies")
    assert (finding.code, finding.evidence["leader"]) == ("exact_copies.copy_here", leaders[0].pk)


@pytest.mark.django_db
def test_a_copy_from_another_datanet_is_known_from_there():
    rows = measured(2)
    send(make_datanet("One"), table(rows))
    stolen = send(make_datanet("Two"), table(rows), by="bob")
    codes = CheckResult.objects.filter(submission=stolen, record__isnull=False, check_name="exact_copies")
    assert set(codes.values_list("code", flat=True)) == {"exact_copies.copy_site"}


@pytest.mark.django_db
def test_a_near_copy_of_a_text_follows_its_leader():
    datanet = make_datanet("Texts", kind="text")
    text = " ".join(f"word{n * 7919 % 1000}" for n in range(300))
    first = send(datanet, text.encode(), name="a.txt")
    near = send(datanet, (text + " and a few words more at the end").encode(), name="b.txt", by="bob")

    leader, copy = Record.objects.get(submission=first), Record.objects.get(submission=near)
    assert copy.copy_of == leader
    assert 0 < copy.copy_distance < 0.45
    assert copy.flags == ["near_copies"]


@pytest.mark.django_db
def test_the_identity_is_a_salted_commitment_to_the_canonical_bytes():
    from datanets.kinds import KINDS

    record = Record.objects.get(submission=send(make_datanet(), table(measured(1))))
    body = RecordBody.objects.get(record=record)
    canonical = KINDS["tabular"].canonical(body.body)
    assert record.identity == hashlib.sha256(b"open-record/1" + bytes(body.salt) + canonical).hexdigest()
    assert len(bytes(body.salt)) == 32


@pytest.mark.django_db
def test_a_record_cannot_be_stored_as_the_copy_of_a_later_one():
    first, second = Record.objects.filter(submission=send(make_datanet(), table(measured(2)))).order_by("id")
    with pytest.raises(IntegrityError, match="record_copies_an_earlier_one"), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("ALTER TABLE datanets_record DISABLE TRIGGER USER")
        Record.objects.filter(pk=first.pk).update(copy_of=second)


@pytest.mark.django_db
def test_pictures_are_stored_anew_with_a_thumbnail_where_they_are_large():
    out = io.BytesIO()
    Image.effect_noise((600, 400), 80).save(out, "PNG")
    submission = send(make_datanet("Pictures", kind="image"), out.getvalue(), name="noise.png")

    body = RecordBody.objects.get(record__submission=submission)
    assert Image.open(storage.open_file(body.media_key)).size == (600, 400)
    assert max(Image.open(storage.open_file(body.thumb_key)).size) == 256


def test_two_uploads_of_one_file_at_the_same_moment_make_one_leader_of_each_record(books):
    """Fails without _lock_registration in registration.register (tests/mutations.py): both become leaders."""
    datanet = make_datanet()
    content = table(measured(20))
    files = []
    for name in ("alice", "bob"):
        submission = submissions.start(datanet=datanet, contributor=person(name))
        files.append(upload(submission, content, check=False))

    checks = [lambda file=file: checking.check_file(file.pk) for file in files]
    # readers pass this lock, writers wait: both have looked for leaders, if they may, before either becomes one
    assert race(books, *checks, behind="LOCK TABLE datanets_record IN SHARE MODE") == [None, None]

    records = Record.objects.order_by("id")
    leaders = {record.content_hmac: record.pk for record in records if record.copy_of_id is None}
    assert (records.count(), records.filter(copy_of=None).count(), len(leaders)) == (40, 20, 20)
    for record in records.exclude(copy_of=None):
        assert record.copy_of_id == leaders[record.content_hmac] < record.pk


class Killed(BaseException):
    """What a worker sees of kill -9: nothing below it runs."""


@pytest.mark.parametrize("dies_in", ["second batch", "checks"])
def test_a_check_that_was_killed_goes_on_and_leaves_one_result(books, monkeypatch, dies_in):
    datanet = make_datanet()
    submission = submissions.start(datanet=datanet, contributor=person("alice"))
    file = upload(submission, table([*measured(25), ("wide", "1", "benign")]), check=False)
    monkeypatch.setattr(checking, "BATCH_ROWS", 10)
    with monkeypatch.context() as patch:
        if dies_in == "checks":
            patch.setattr(findings, "_mark", _dying(findings._mark, after=0))
        else:
            patch.setattr(checking.registration, "register", _dying(checking.registration.register, after=1))
        with pytest.raises(Killed):
            checking.check_file(file.pk)
    file.refresh_from_db()
    assert file.status == "checking"
    before = set(Record.objects.values_list("identity", flat=True))
    assert len(before) == (10 if dies_in == "second batch" else 25)

    checking.check_file(file.pk)
    checking.check_file(file.pk)

    file.refresh_from_db()
    assert (file.status, file.records_ok, file.rows_broken) == ("needs_author", 25, 1)
    assert before <= set(Record.objects.values_list("identity", flat=True))
    assert Record.objects.filter(status="waiting").count() == 25
    per_check = CheckResult.objects.filter(record=None).values_list("check_name", flat=True)
    assert len(per_check) == len(set(per_check))
    assert file.broken_rows.count() == 1


def _dying(function, *, after: int):
    calls = []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) > after:
            raise Killed
        return function(*args, **kwargs)

    return call


def test_a_file_rung_for_twice_at_once_is_checked_once(books):
    """Fails without _only_one in checking.check_file (tests/mutations.py): the second reads the same rows."""
    submission = submissions.start(datanet=make_datanet(), contributor=person("alice"))
    file = upload(submission, table(measured(50)), check=False)

    checks = [lambda: checking.check_file(file.pk)] * 2
    assert race(books, *checks, behind="LOCK TABLE datanets_record IN SHARE MODE", wait_s=2, at_least=1) == [None, None]

    file.refresh_from_db()
    assert (file.status, Record.objects.count(), RecordBody.objects.count()) == ("ready", 50, 50)
