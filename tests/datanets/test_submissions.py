"""From an upload to records: broken rows, broken files, signing, dropping, withdrawing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from datanets import checking, checks, findings, registration, storage, submissions
from datanets.errors import NotAllowed, NotReady
from datanets.models import BrokenRow, CheckResult, Record, RecordBody
from datanets.registration import Draft
from tests.datanets.cast import make_datanet, measured, person, send, table, upload

pytestmark = pytest.mark.django_db

TWO_BROKEN = [*measured(3), ("wide", "17.5", "benign"), *measured(2, start=10), ("12.1", "16.2", "unknown")]


def test_two_broken_rows_are_listed_with_their_lines_and_the_others_go_on():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)

    file = upload(submission, table(TWO_BROKEN))

    broken = BrokenRow.objects.filter(file=file).order_by("line")
    assert [(row.line, row.column, row.code) for row in broken] == [
        (5, "radius", "schema.number"),
        (8, "diagnosis", "schema.category"),
    ]
    assert (file.status, file.records_ok, file.rows_broken) == ("needs_author", 5, 2)
    submission.refresh_from_db()
    assert (submission.status, submission.status_code) == ("needs_author", "broken")
    assert submission.status_params == {"rows": 2, "files": 0}


def test_a_corrected_row_becomes_a_record_at_its_line():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(TWO_BROKEN))
    first, second = BrokenRow.objects.filter(file=file).order_by("line")

    record = submissions.fix_row(first, by=alice, values=first.values | {"radius": "13.25"})
    submissions.drop_row(second, by=alice)
    checking.check_file(file.pk)

    record.refresh_from_db()
    assert (record.position, record.status, record.body.body["radius"]) == (5, "waiting", 13.25)
    submission.refresh_from_db()
    assert (submission.status, submission.status_code) == ("needs_author", "not_sent")
    sent = submissions.sign_and_send(submission, by=alice)
    assert sent.status == "in_review"
    assert sent.rights_statement_sha256


def test_a_wrong_correction_stays_broken_with_its_new_reason():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(TWO_BROKEN))
    row = BrokenRow.objects.filter(file=file).order_by("line").first()

    again = submissions.fix_row(row, by=alice, values=row.values | {"radius": "-3"})

    assert isinstance(again, BrokenRow)
    assert again.code == "schema.range"
    assert Record.objects.filter(file=file).count() == 5


def test_fixing_the_same_row_twice_makes_one_record():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(TWO_BROKEN))
    row = BrokenRow.objects.filter(file=file).order_by("line").first()
    values = row.values | {"radius": "13.25"}

    one = submissions.fix_row(row, by=alice, values=values)
    other = submissions.fix_row(row, by=alice, values=values)

    assert one.pk == other.pk
    assert Record.objects.filter(file=file).count() == 6


def test_a_file_of_the_wrong_type_fails_and_the_others_are_kept():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    good = upload(submission, table(measured(4)))

    bad = upload(submission, b"%PDF-1.4 something", name="scan.pdf")

    assert (bad.status, bad.error_code, bad.error_params["outcome"]) == ("failed", "type.extension", "type")
    submission.refresh_from_db()
    assert submission.status_params == {"rows": 0, "files": 1}
    submissions.drop_file(bad, by=alice)
    assert submissions.sign_and_send(submission, by=alice).status == "in_review"
    assert Record.objects.filter(file=good, status="waiting").count() == 4


def test_checks_leave_their_findings_and_mark_the_records_they_flag():
    rows = measured(30)
    submission = send(make_datanet(), table([*rows, rows[0]]))

    copy = Record.objects.get(submission=submission, position=32)
    assert copy.flags == ["exact_copies"]
    assert copy.quality < 100
    clean = Record.objects.get(submission=submission, position=10)
    assert (clean.flags, clean.quality) == ([], 100)
    names = set(CheckResult.objects.filter(submission=submission, record=None).values_list("check_name", flat=True))
    assert {"file_format", "exact_copies", "near_copies"} <= names


def test_a_submission_sent_while_its_file_waits_for_the_worker_goes_on_by_itself():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(measured(3)), check=False)

    assert submissions.sign_and_send(submission, by=alice).status == "checking"
    checking.check_file(file.pk)

    submission.refresh_from_db()
    assert submission.status == "in_review"


def test_a_file_added_after_signing_needs_the_rights_signed_again():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(measured(3)), check=False)
    submissions.sign_and_send(submission, by=alice)

    upload(submission, table(measured(3, start=50)), name="more.csv")
    checking.check_file(file.pk)

    submission.refresh_from_db()
    assert (submission.status, submission.status_code) == ("needs_author", "not_sent")
    assert submission.rights_signed_at is None


def test_a_submission_is_not_sent_without_a_file():
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    with pytest.raises(NotReady):
        submissions.sign_and_send(submission, by=alice)


def test_only_its_contributor_signs_describes_or_drops():
    alice, bob = person("alice"), person("bob")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    file = upload(submission, table(measured(3)))
    for act in (
        lambda: submissions.sign_and_send(submission, by=bob),
        lambda: submissions.describe(submission, by=bob, title="Mine"),
        lambda: submissions.drop_file(file, by=bob),
        lambda: submissions.withdraw(submission, by=bob),
    ):
        with pytest.raises(NotAllowed):
            act()


def test_withdrawing_a_submission_erases_what_is_not_decided(django_capture_on_commit_callbacks):
    alice = person("alice")
    submission = send(make_datanet(), table(measured(3)))
    key = submission.files.get().storage_key
    assert storage.size_bytes(key) > 0

    with django_capture_on_commit_callbacks(execute=True):
        submissions.withdraw(submission, by=alice)

    submission.refresh_from_db()
    assert submission.status == "withdrawn"
    assert not RecordBody.objects.filter(record__submission=submission).exists()
    assert set(Record.objects.filter(submission=submission).values_list("status", "content_hmac")) == {
        ("withdrawn", "")
    }
    with pytest.raises(FileNotFoundError):
        storage.size_bytes(key)


def test_text_rows_and_documents_become_records():
    datanet = make_datanet("Licences", kind="text")
    content = b'{"title": "One", "text": "You may copy and distribute verbatim copies of this licence."}\n'
    submission = send(datanet, content, name="licences.jsonl")
    upload_two = send(
        datanet, b"# Heading\n\nA document of its own, long enough to be read as English text.", name="a.md"
    )

    assert Record.objects.get(submission=submission).title == "One"
    assert Record.objects.get(submission=upload_two).title == "Heading"


def test_a_row_is_not_corrected_while_its_file_is_being_checked(monkeypatch):
    alice = person("alice")
    submission = submissions.start(datanet=make_datanet(), contributor=alice)
    with monkeypatch.context() as patch:  # the worker dies before its first check
        patch.delattr(findings, "run_checks")
        with pytest.raises(AttributeError):
            upload(submission, table(TWO_BROKEN))
    file = submission.files.get()
    first, second = BrokenRow.objects.filter(file=file).order_by("line")
    values = first.values | {"radius": "13.25"}
    assert file.status == "checking"

    with pytest.raises(NotReady):
        submissions.fix_row(first, by=alice, values=values)
    with pytest.raises(NotReady):
        submissions.drop_row(second, by=alice)
    assert not BrokenRow.objects.awaiting_author().exists()
    assert Record.objects.filter(file=file).count() == 5

    checking.check_file(file.pk)
    assert BrokenRow.objects.awaiting_author().count() == 2
    record = submissions.fix_row(first, by=alice, values=values)
    submissions.drop_row(second, by=alice)
    submissions.drop_row(second, by=alice)
    assert submissions.fix_row(first, by=alice, values=values).pk == record.pk


def test_a_record_that_joins_its_file_during_the_checks_is_checked_before_it_is_reviewed(monkeypatch):
    alice = person("alice")
    datanet = make_datanet()
    submission = submissions.start(datanet=datanet, contributor=alice)

    def register_one_more(_records, _context):
        file = submission.files.get()
        registration.register(
            file, [Draft(99, "", {"radius": 1.5, "texture": 2.5, "diagnosis": None})], datanet=datanet
        )
        return []

    late = SimpleNamespace(NAME="late", VERSION="1", run=register_one_more)
    with monkeypatch.context() as patch:
        patch.setitem(checks.CHECKS_FOR, "tabular", [*checks.CHECKS_FOR["tabular"], late])
        file = upload(submission, table(measured(30)))

    joined = Record.objects.get(file=file, position=99)
    assert (file.status, joined.status, joined.quality) == ("waiting", "checking", None)
    assert Record.objects.filter(file=file, status="waiting").count() == 30

    checking.check_file(file.pk)

    file.refresh_from_db()
    joined.refresh_from_db()
    assert (file.status, joined.status, joined.flags) == ("ready", "waiting", ["label_sanity"])
