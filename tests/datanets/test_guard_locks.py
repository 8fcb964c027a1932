"""Locks of the data side, each shown without luck."""

from __future__ import annotations

import hashlib

from datanets import checking, reports, submissions, thefts, uploads
from datanets.models import Record
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table, upload
from tests.datanets.races import race


def test_two_files_announced_behind_one_lock_share_one_quota(books, settings):
    """Fails without the lock of the person's row in uploads._require_quota: both count before either is stored."""
    settings.UPLOAD_USER_QUOTA_BYTES = 1000
    datanet = make_datanet()
    ours = [submissions.start(datanet=datanet, contributor=person("alice")) for _ in range(2)]
    announce = [lambda one=one: uploads.add_file(one, name="a.csv", size_bytes=600) for one in ours]

    answers = race(books, *announce, behind="LOCK TABLE datanets_submissionfile IN SHARE MODE")

    assert sorted(type(answer).__name__ for answer in answers) == ["SubmissionFile", "TooLarge"]


def test_reports_sent_at_once_share_one_limit_of_the_day(books, settings):
    """Fails without the lock of the person's row in reports.report: both count before either is stored."""
    settings.REPORTS_PER_DAY_MAX = 1
    submission = send(make_datanet(), table(measured(2)))
    approve_all(submission)
    dan = person("dan")
    acts = [
        lambda one=one: reports.report(one, by=dan, reason="other", text="Look.") for one in submission.records.all()
    ]

    answers = race(books, *acts, behind="LOCK TABLE datanets_report IN SHARE MODE")

    assert sorted(type(answer).__name__ for answer in answers) == ["Report", "TooMany"]


def test_theft_disputes_opened_at_once_share_one_limit_and_one_record(books, settings):
    """Fails without the locks of the person's row and of the records: both look before either is stored."""
    settings.THEFT_DISPUTES_RUNNING_MAX = 1
    submission = send(make_datanet(), table(measured(3)))
    approve_all(submission)
    first, second, third = submission.records.order_by("id")
    said = {"statement": "It is mine.", "evidence": "My paper."}

    def at_once(*claims):
        known = [(record, person(name)) for record, name in claims]
        acts = [lambda one=one, by=by: thefts.open_dispute([one], by=by, **said) for one, by in known]
        answers = race(books, *acts, behind="LOCK TABLE datanets_theftdispute IN SHARE MODE")
        return sorted(type(answer).__name__ for answer in answers)

    assert at_once((first, "dan"), (second, "dan")) == ["TheftDispute", "TooMany"]
    assert at_once((third, "frank"), (third, "grace")) == ["NotReady", "TheftDispute"]


def test_a_file_that_another_worker_checks_is_left_alone(books):
    """Fails without `if alone` in checking.check_file: the file is read a second time."""
    submission = submissions.start(datanet=make_datanet(), contributor=person("alice"))
    file = upload(submission, table(measured(3)), check=False)
    name = hashlib.sha256(f"datanets.check:{file.pk}".encode()).digest()[:8]
    number = int.from_bytes(name, "big", signed=True)
    worker = books.connect()
    worker.cursor().execute("SELECT pg_advisory_lock(%s)", [number])

    checking.check_file(file.pk)

    file.refresh_from_db()
    assert (file.status, Record.objects.count()) == ("waiting", 0)
    worker.cursor().execute("SELECT pg_advisory_unlock(%s)", [number])
    worker.close()
    checking.check_file(file.pk)
    file.refresh_from_db()
    assert (file.status, Record.objects.count()) == ("ready", 3)
