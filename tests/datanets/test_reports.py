"""Somebody says that a record should not be there: who is told what, and who may decide."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from datanets import records, reports, reviews, services, verify, versions
from datanets.errors import Invalid, NotAllowed, NotReady, SelfReview, TooMany
from datanets.models import Datanet, Record, Report
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _undo(settings):
    settings.REVIEW_UNDO_S = 0


def approved(count: int = 1, *, datanet: Datanet | None = None) -> list[Record]:
    """Records of Alice's that Carol approved."""
    submission = send(datanet or make_datanet(), table(measured(count)))
    approve_all(submission)
    return list(Record.objects.filter(submission=submission).order_by("id"))


def reported(record: Record, *, by: str = "dan", **told) -> Report:
    return reports.report(record, by=person(by), **{"reason": "rights", "text": "This is from my own book."} | told)


def test_a_report_waits_for_the_curators_and_a_dismissal_keeps_the_record():
    [record] = approved()

    report = reported(record)

    assert list(reports.open_reports(person("carol"))) == [report]
    assert reviews.counts(person("carol"), states=())["reports"] == 1
    assert not reports.open_reports(person("frank")).exists()
    decided = reports.decide(report, curator=person("carol"), withdraw=False, note="It is in the public domain.")
    record.refresh_from_db()
    assert (decided.status, decided.decided_by, decided.note) == (
        "dismissed",
        person("carol"),
        "It is in the public domain.",
    )
    assert record.status == "approved"
    assert not reports.open_reports(person("erin")).exists()
    with pytest.raises(NotReady):
        reports.decide(report, curator=person("erin"), withdraw=True, note="No.")
    assert reported(record).status == "open"  # a dismissed one may be followed by another, with better reasons


def test_an_upheld_report_withdraws_the_record_from_the_next_version_and_no_frozen_one():
    first, second = approved(2)
    before = versions.freeze(first.datanet, by=person("erin"))
    mine, theirs = reported(first), reported(first, by="bob", reason="personal_data")

    reports.decide(mine, curator=person("carol"), withdraw=True, note="It is.")

    first.refresh_from_db()
    assert (first.status, first.withdrawn_by) == ("withdrawn", person("carol"))
    # Every report of it is settled by the same decision
    assert {(each.status, each.note) for each in Report.objects.all()} == {("upheld", "It is.")}
    with pytest.raises(NotReady):
        reports.decide(theirs, curator=person("erin"), withdraw=False, note="No.")
    assert first in Record.objects.in_version(before)
    after = versions.freeze(Datanet.objects.get(pk=first.datanet_id), by=person("erin"))
    assert list(Record.objects.in_version(after)) == [second]
    assert verify.failures() == []


def test_a_curator_withdraws_no_record_without_a_report_that_was_upheld():
    first, second = approved(2)
    reports.decide(reported(first), curator=person("carol"), withdraw=False, note="It is fine.")

    for record in (first, second):
        with pytest.raises(NotAllowed):
            records.withdraw(record, by=person("carol"))


def test_reports_lapse_when_the_record_is_withdrawn_without_them():
    [record] = approved()
    report = reported(record)

    records.withdraw(record, by=person("alice"))

    report.refresh_from_db()
    assert (report.status, report.decided_by, report.closed_at is not None) == ("lapsed", None, True)
    assert not reports.open_reports(person("carol")).exists()
    assert verify.failures() == []


def test_what_a_report_quotes_is_erased_with_the_record():
    [record] = approved()
    report = reported(record, text="It says that Ann Smith has cancer.")
    records.withdraw(record, by=person("alice"))

    records.erase(record)

    report.refresh_from_db()
    assert report.text == ""


def test_a_report_needs_a_reason_a_text_and_an_approved_record_of_somebody_else():
    [record] = approved()
    waiting = Record.objects.get(submission=send(record.datanet, table(measured(1, start=50))))

    for wrong in ({"reason": "dislike"}, {"text": "  "}):
        with pytest.raises(Invalid):
            reported(record, **wrong)
    with pytest.raises(NotAllowed):
        reported(record, by="alice")
    with pytest.raises(NotReady):
        reported(waiting)
    with pytest.raises(Invalid):
        reports.decide(reported(record), curator=person("carol"), withdraw=False, note=" ")
    assert Report.objects.get().status == "open"


def test_one_person_reports_a_record_once_until_it_is_decided():
    [record] = approved()
    reported(record)

    with pytest.raises(NotReady):
        reported(record)
    with pytest.raises(IntegrityError, match="person_has_one_open_report_of_a_record"), transaction.atomic():
        Report.objects.create(
            record=record, contributor=record.contributor, reporter=person("dan"), reason="other", text="x"
        )


def test_one_person_reports_so_many_records_a_day(settings):
    settings.REPORTS_PER_DAY_MAX = 2
    first, second, third = approved(3)
    reported(first)
    reported(second)

    with pytest.raises(TooMany) as refusal:
        reported(third)

    assert "2" in str(refusal.value)
    reported(third, by="bob")
    Report.objects.filter(record=first).update(created_at=timezone.now() - timedelta(days=1))
    reported(third)


def test_nobody_decides_on_a_report_of_their_own_record_or_one_they_filed():
    datanet = make_datanet()
    services.add_curator(datanet, user=person("alice"), by=person("erin"))
    [record] = approved(datanet=datanet)
    mine, theirs = reported(record, by="carol"), reported(record, by="dan")

    with pytest.raises(SelfReview):
        reports.decide(theirs, curator=person("alice"), withdraw=False, note="It is fine.")
    for report in (mine, theirs):  # nor does Carol uphold her own by deciding on Dan's
        with pytest.raises(NotAllowed):
            reports.decide(report, curator=person("carol"), withdraw=True, note="I said so.")
    with pytest.raises(NotAllowed):
        reports.decide(theirs, curator=person("dan"), withdraw=True, note="I said so.")
    for party in ("alice", "carol"):
        assert not reports.open_reports(person(party)).exists()
    assert set(reports.open_reports(person("erin"))) == {mine, theirs}
    assert set(reports.deciders_of(theirs)) == {person("carol"), person("erin")}


def test_a_colleague_of_the_contributor_decides_on_no_report_of_their_record():
    [record] = approved()
    alice, carol = person("alice"), person("carol")
    alice.organisation, carol.organisation = "Mercy Hospital", "mercy hospital "
    alice.save()
    carol.save()

    with pytest.raises(SelfReview):
        reports.decide(report := reported(record), curator=carol, withdraw=False, note="It is fine.")
    assert not reports.open_reports(carol).exists()
    assert reports.deciders_of(report) == [person("erin")]


@pytest.mark.parametrize(
    ("party", "constraint"),
    [("dan", "nobody_decides_a_report_they_filed"), ("alice", "nobody_decides_a_report_of_their_record")],
)
def test_the_database_refuses_a_decision_by_a_party_to_the_report(party, constraint):
    [record] = approved()
    report = reported(record)

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Report.objects.filter(pk=report.pk).update(
            status="dismissed", decided_by=person(party), closed_at=timezone.now(), note="No."
        )


def test_the_database_refuses_a_report_that_names_another_contributor_than_its_record():
    [record] = approved()

    with pytest.raises(IntegrityError, match="report_names_the_true_contributor"), transaction.atomic():
        Report.objects.create(
            record=record, contributor=person("bob"), reporter=person("dan"), reason="other", text="x"
        )
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(IntegrityError, match="nobody_reports_their_own_record"), transaction.atomic():
        Report.objects.create(
            record=record, contributor=person("alice"), reporter=person("alice"), reason="other", text="x"
        )


def test_a_closed_report_says_who_when_and_why():
    [record] = approved()
    report = reported(record)

    for missing in ({"note": ""}, {"decided_by": None}, {"closed_at": None}):
        whole = {"status": "upheld", "decided_by": person("carol"), "closed_at": timezone.now(), "note": "It is."}
        with pytest.raises(IntegrityError, match="report_decision_has_author"), transaction.atomic():
            Report.objects.filter(pk=report.pk).update(**whole | missing)
