"""Curators decide; nobody decides on their own or related work, not even in SQL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from datanets import appeals, reviews, services, submissions, verify
from datanets.errors import Invalid, NotAllowed, NotReady, SelfReview
from datanets.models import Record, Review, Submission
from datanets.votes import Outcome, Vote, outcome
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table, waiting

pytestmark = pytest.mark.django_db


def test_an_approved_record_names_its_curator_and_date():
    submission = send(make_datanet(), table(measured(3)))

    approve_all(submission)

    for record in Record.objects.filter(submission=submission):
        assert (record.status, record.decided_by, record.decided_at is not None) == ("approved", person("carol"), True)
    submission.refresh_from_db()
    assert (submission.status, submission.status_params["approved"]) == ("decided", 3)


def test_part_of_a_submission_can_be_approved():
    submission = send(make_datanet(), table(measured(3)))
    first, second, third = waiting(submission)

    reviews.decide([first, third], curator=person("carol"), decision="approve")
    submission.refresh_from_db()
    assert (submission.status, submission.status_params["waiting"]) == ("in_review", 1)
    reviews.decide([second], curator=person("carol"), decision="reject", reason="wrong_label", note="It is malignant.")

    submission.refresh_from_db()
    second.refresh_from_db()
    assert submission.status == "decided"
    assert (second.status, second.reject_reason) == ("rejected", "wrong_label")


def test_a_rejection_needs_a_reason():
    submission = send(make_datanet(), table(measured(1)))
    with pytest.raises(Invalid):
        reviews.decide(waiting(submission), curator=person("carol"), decision="reject")


def test_nobody_reviews_their_own_record():
    datanet = make_datanet()
    services.add_curator(datanet, user=person("alice"), by=person("erin"))
    submission = send(datanet, table(measured(2)), by="alice")

    with pytest.raises(SelfReview):
        reviews.decide(waiting(submission), curator=person("alice"), decision="approve")

    assert Review.objects.count() == 0
    assert not reviews.queue(person("alice")).exists()


def test_the_database_refuses_a_self_review_whatever_the_row_claims():
    submission = send(make_datanet(), table(measured(1)), by="alice")
    [record] = waiting(submission)
    alice, bob = person("alice"), person("bob")
    insert = """
        INSERT INTO datanets_review (id, record_id, contributor_id, curator_id, decision, reason, note, evidence, act, decided_at)
        VALUES (gen_random_uuid(), %s, %s, %s, 'approve', '', '', '{}', gen_random_uuid(), now())"""

    for claimed in (alice, bob):  # the truth, and a lie about who contributed
        with pytest.raises(IntegrityError) as refusal, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(insert, [record.pk, claimed.pk, alice.pk])
        assert "nobody_reviews_their_own_record" in str(refusal.value) or "true_contributor" in str(refusal.value)
    with pytest.raises(IntegrityError, match="approver_is_not_the_contributor"), transaction.atomic():
        Record.objects.filter(pk=record.pk).update(status="approved", decided_by=alice, decided_at=timezone.now())


def test_a_colleague_of_the_contributor_may_not_review():
    datanet = make_datanet()
    alice, carol = person("alice"), person("carol")
    alice.organisation, carol.organisation = "Mercy Hospital", "mercy hospital "
    alice.save()
    carol.save()
    submission = send(datanet, table(measured(1)))

    with pytest.raises(SelfReview):
        reviews.decide(waiting(submission), curator=carol, decision="approve")
    assert not reviews.queue(carol).exists()


def test_who_is_no_curator_may_not_review():
    submission = send(make_datanet(), table(measured(1)))
    with pytest.raises(NotAllowed):
        reviews.decide(waiting(submission), curator=person("dan"), decision="approve")


def test_the_queue_shows_flagged_submissions_first_then_the_oldest():
    datanet = make_datanet()
    rows = measured(60)
    old = send(datanet, table(rows[:20]))
    young = send(datanet, table(rows[20:40]), by="bob")
    copied = send(datanet, table([*rows[40:], rows[0]]), by="bob")

    shown = list(reviews.queue(person("carol")))

    assert shown == [copied, old, young]
    assert (shown[0].flagged_count, shown[0].waiting_count, shown[1].flagged_count) == (1, 21, 0)


def test_a_claim_keeps_others_out_for_half_an_hour():
    datanet = make_datanet()
    services.add_curator(datanet, user=person("dan"), by=person("erin"))
    submission = send(datanet, table(measured(1)))
    claim = reviews.claim(submission, curator=person("carol"))

    with pytest.raises(NotReady):
        reviews.claim(submission, curator=person("dan"))
    with pytest.raises(NotReady):
        reviews.decide(waiting(submission), curator=person("dan"), decision="approve")
    assert [row.claimed_by_id for row in reviews.queue(person("dan"))] == [person("carol").pk]

    claim.until = timezone.now() - timedelta(seconds=1)
    claim.save()
    reviews.decide(waiting(submission), curator=person("dan"), decision="approve")


def test_two_approvals_are_needed_where_the_datanet_says_so_and_votes_are_blind():
    datanet = make_datanet(approvals_needed=2)
    services.add_curator(datanet, user=person("dan"), by=person("erin"))
    [record] = waiting(send(datanet, table(measured(1))))
    carol, dan = person("carol"), person("dan")

    reviews.decide([record], curator=carol, decision="approve")
    record.refresh_from_db()
    assert record.status == "waiting"
    assert not reviews.votes_of(record, viewer=dan).exists()
    assert reviews.votes_of(record, viewer=carol).count() == 1
    assert not reviews.queue(carol).exists()
    with pytest.raises(NotReady):
        reviews.decide([record], curator=carol, decision="approve")

    reviews.decide([record], curator=dan, decision="approve")
    record.refresh_from_db()
    assert (record.status, record.decided_by) == ("approved", carol)


def test_a_disagreement_is_settled_by_a_further_curator():
    datanet = make_datanet(approvals_needed=2)
    services.add_curator(datanet, user=person("dan"), by=person("erin"))
    [record] = waiting(send(datanet, table(measured(1))))
    reviews.decide([record], curator=person("carol"), decision="approve")
    reviews.decide([record], curator=person("dan"), decision="reject", reason="off_topic")

    record.refresh_from_db()
    assert record.status == "waiting"
    assert list(reviews.queue(person("erin"), state="disputed")) == [record.submission]
    reviews.decide([record], curator=person("erin"), decision="reject", reason="low_quality")

    record.refresh_from_db()
    assert (record.status, record.reject_reason, record.decided_by) == ("rejected", "off_topic", person("dan"))


def test_votes_decide_when_enough_agree_or_after_a_disagreement():
    yes, no = Vote(1, "approve"), Vote(2, "reject")
    assert outcome([], needed=1) == Outcome()
    assert outcome([yes], needed=2) == Outcome()
    assert outcome([yes, Vote(3, "approve")], needed=2) == Outcome("approve", yes)
    assert outcome([yes, no], needed=2) == Outcome(disputed=True)
    assert outcome([yes, no, Vote(3, "approve")], needed=3) == Outcome("approve", yes)


def test_an_act_is_undone_as_a_whole_within_its_time(settings):
    settings.REVIEW_UNDO_S = 600
    submission = send(make_datanet(), table(measured(3)))
    act = reviews.decide(waiting(submission), curator=person("carol"), decision="approve")

    assert reviews.undo(act, by=person("carol")) == 3
    assert reviews.undo(act, by=person("carol")) == 0

    submission.refresh_from_db()
    assert submission.status == "in_review"
    assert len(waiting(submission)) == 3
    reviews.decide(waiting(submission), curator=person("carol"), decision="reject", reason="spam")


def test_an_act_is_not_undone_too_late_or_by_another(settings):
    settings.REVIEW_UNDO_S = 600
    submission = send(make_datanet(), table(measured(1)))
    act = reviews.decide(waiting(submission), curator=person("carol"), decision="approve")
    with pytest.raises(NotAllowed):
        reviews.undo(act, by=person("erin"))
    Review.objects.update(decided_at=timezone.now() - timedelta(seconds=601))
    with pytest.raises(NotReady):
        reviews.undo(act, by=person("carol"))


def test_bulk_approval_takes_only_what_no_check_flagged_and_says_why_not():
    datanet = make_datanet()
    rows = measured(40)
    clean = send(datanet, table(rows[:20]))
    flagged = send(datanet, table([*rows[20:], rows[0]]), by="bob")
    own = send(datanet, table(measured(20, start=100)), by="carol")

    result = reviews.approve_clean([clean, flagged, own], curator=person("carol"))

    assert result.done == [clean]
    assert [submission for submission, _why in result.skipped] == [flagged, own]
    assert "flagged" in result.skipped[0][1]
    assert Record.objects.filter(status="approved").count() == 20


def test_an_appeal_is_answered_by_a_curator_who_has_not_voted():
    datanet = make_datanet()
    [record] = waiting(send(datanet, table(measured(1))))
    reviews.decide([record], curator=person("carol"), decision="reject", reason="low_quality")
    with pytest.raises(NotAllowed):
        reviews.appeal(record, by=person("bob"), text="Mine!")
    appeal = reviews.appeal(record, by=person("alice"), text="It was measured twice.")
    with pytest.raises(NotReady):
        reviews.appeal(record, by=person("alice"), text="Again")

    assert not appeals.open_appeals(person("carol")).exists()
    with pytest.raises(NotAllowed):
        reviews.decide_appeal(appeal, curator=person("carol"), overturn=False)
    assert list(appeals.open_appeals(person("erin"))) == [appeal]
    reviews.decide_appeal(appeal, curator=person("erin"), overturn=True, note="Right.")

    record.refresh_from_db()
    assert (record.status, record.decided_by) == ("approved", person("erin"))
    assert Submission.objects.get().status_params == {"approved": 1, "rejected": 0, "waiting": 0}


def test_a_decision_stands_once_the_contributor_took_the_submission_back():
    carol = person("carol")
    submission = send(make_datanet(), table(measured(2)))
    first, second = waiting(submission)
    act = reviews.decide([first], curator=carol, decision="reject", reason="off_topic")
    submissions.withdraw(submission, by=person("alice"))

    with pytest.raises(NotReady):
        reviews.undo(act, by=carol)

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status) == ("rejected", "withdrawn")
    assert verify.failures() == []
    Record.objects.filter(pk=first.pk).update(status="waiting", decided_by=None, decided_at=None, reject_reason="")
    assert [failure.invariant for failure in verify.failures()] == ["D5"]
