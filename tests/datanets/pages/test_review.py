"""The pages of a curator: queue, decision, undo, bulk, appeals, guidelines."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from datanets import reviews, services
from datanets.models import Claim, Record, Review
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table, waiting

pytestmark = pytest.mark.django_db


@pytest.fixture
def carol(client):
    user = person("carol")
    client.force_login(user)
    return user


def desk(client, submission, query: str = "") -> str:
    answer = client.get(reverse("review_submission", args=[submission.pk]) + query)
    assert answer.status_code == 200
    return answer.content.decode()


def decide(client, submission, **told):
    return client.post(reverse("review_submission", args=[submission.pk]), told)


def test_only_curators_see_the_queue(client):
    make_datanet()
    client.force_login(person("alice"))
    assert client.get(reverse("review")).status_code == 403
    assert client.get(reverse("review_appeals")).status_code == 403


def test_a_curator_of_another_datanet_does_not_see_a_submission(client, carol):
    submission = send(make_datanet(), table(measured(2)))
    services.remove_curator(submission.datanet, user=carol, by=person("erin"))
    assert client.get(reverse("review_submission", args=[submission.pk])).status_code == 404


def test_nobody_gets_their_own_submission_to_review(client, carol):
    submission = send(make_datanet(), table(measured(2)), by="carol")
    answer = client.get(reverse("review_submission", args=[submission.pk]))
    assert answer.status_code == 403


def test_the_queue_names_no_datanet_that_its_reader_does_not_curate(client, carol):
    make_datanet()
    secret = services.create_datanet(
        owner=person("bob"),
        name="Secret merger",
        purpose="Tests",
        kind="text",
        licence="CC0-1.0",
        rights_statement="Mine.",
        access="closed",
    )
    for where in (
        reverse("review"),
        reverse("review_submission", args=[send(make_datanet("Two"), table(measured(1))).pk]),
    ):
        assert "Secret merger" not in client.get(f"{where}?datanet={secret.pk}").content.decode()
    client.force_login(person("bob"))
    assert "Secret merger" in client.get(f"{reverse('review')}?datanet={secret.pk}").content.decode()


def test_an_empty_queue_says_so(client, carol):
    make_datanet()
    assert "Nothing waits here" in client.get(reverse("review")).content.decode()


def test_all_records_of_a_submission_are_approved_at_once_and_undone(client, carol):
    submission = send(make_datanet(), table(measured(3)))

    decide(client, submission, decision="approve_all")
    assert set(Record.objects.values_list("status", flat=True)) == {"approved"}
    told = client.get(reverse("review")).content.decode()
    assert "You approved 3 records" in told

    client.post(reverse("review_act_undo", args=[Review.objects.first().act]))
    assert set(Record.objects.values_list("status", flat=True)) == {"waiting"}
    assert "You approved" not in client.get(reverse("review")).content.decode()


def test_undo_is_not_offered_when_it_is_too_late(client, carol, settings):
    submission = send(make_datanet(), table(measured(2)))
    decide(client, submission, decision="approve_all")
    Review.objects.update(decided_at=timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S + 1))

    assert "It can be undone" not in client.get(reverse("review")).content.decode()
    answer = client.post(reverse("review_act_undo", args=[Review.objects.first().act]))
    assert answer.status_code == 409 and "too late" in answer.content.decode()


def test_only_the_ticked_records_are_approved_and_the_others_wait(client, carol):
    submission = send(make_datanet(), table(measured(3)))
    first, second, third = waiting(submission)

    decide(client, submission, decision="approve", record=[first.pk, third.pk])

    assert [Record.objects.get(pk=each.pk).status for each in (first, second, third)] == [
        "approved",
        "waiting",
        "approved",
    ]


def test_a_rejection_needs_a_reason_and_keeps_the_note(client, carol):
    submission = send(make_datanet(), table(measured(2)))
    record = waiting(submission)[0]

    refused = decide(client, submission, decision="reject", record=record.pk, note="Unlike the others")
    assert refused.status_code == 422
    assert "Choose a reason" in refused.content.decode() and "Unlike the others" in refused.content.decode()

    decide(
        client,
        submission,
        decision="reject",
        record=record.pk,
        reason="low_quality",
        note="Unlike the others",
        quote="10",
    )
    vote = Review.objects.get()
    assert (vote.reason, vote.note, vote.evidence) == ("low_quality", "Unlike the others", {"quote": "10"})


def test_asking_for_changes_needs_a_note(client, carol):
    submission = send(make_datanet(), table(measured(2)))
    shown = waiting(submission)[1].pk
    assert decide(client, submission, decision="changes", shown=shown).status_code == 422
    decide(client, submission, decision="changes", shown=shown, note="Use centimetres")
    assert Review.objects.get().record_id == shown


def test_a_decision_about_nothing_is_refused(client, carol):
    submission = send(make_datanet(), table(measured(2)))
    elsewhere = waiting(send(make_datanet("Others"), table(measured(2, start=30))))[0]
    for told in ({"decision": "approve"}, {"decision": "approve", "record": elsewhere.pk}):
        assert decide(client, submission, **told).status_code == 422
    assert not Review.objects.exists()


def test_the_votes_of_others_are_hidden_until_you_vote(client, carol):
    datanet = make_datanet(approvals_needed=2)
    services.add_curator(datanet, user=person("frank"), by=person("erin"))
    submission = send(datanet, table(measured(2)))
    reviews.decide(waiting(submission), curator=person("frank"), decision="approve", note="Looks right to me")
    assert "Looks right to me" not in desk(client, submission) and "frank" not in desk(client, submission)

    decide(client, submission, decision="approve_all")

    assert "Looks right to me" in desk(client, submission, "?tab=all")


def test_a_claimed_submission_is_shown_as_taken_and_takes_no_decision(client, carol):
    datanet = make_datanet()
    services.add_curator(datanet, user=person("frank"), by=person("erin"))
    submission = send(datanet, table(measured(2)))
    reviews.claim(submission, curator=person("frank"))

    told = desk(client, submission)
    assert "frank works on this submission now" in told and "Approve 2 records" not in told
    assert decide(client, submission, decision="approve_all").status_code == 409


def test_a_curator_claims_a_submission_and_gives_it_back(client, carol):
    submission = send(make_datanet(), table(measured(2)))
    client.post(reverse("review_claim", args=[submission.pk]), {"act": "claim"})
    assert Claim.objects.get().curator == carol
    client.post(reverse("review_claim", args=[submission.pk]), {"act": "release"})
    assert not Claim.objects.exists()


def test_a_bulk_approval_reports_each_submission(client, carol):
    datanet = make_datanet()
    clean = send(datanet, table(measured(3)))
    flagged = send(datanet, table(measured(3)), by="bob")

    answer = client.post(reverse("review_bulk"), {"submission": [clean.pk, flagged.pk]}, follow=True)

    told = answer.content.decode()
    assert "What the bulk approval did" in told and "A check flagged some of its records" in told
    assert Record.objects.filter(submission=clean, status="approved").count() == 3
    assert Record.objects.filter(submission=flagged, status="waiting").count() == 3


def test_flagged_records_come_first_with_evidence_and_the_earlier_record(client, carol):
    datanet = make_datanet()
    send(datanet, table(measured(2)))
    copied = send(datanet, table([*measured(1), *measured(2, start=40)]), by="bob")

    told = desk(client, copied)

    assert 'aria-current="page">Records to look at' in told
    assert "The same as an earlier record" in told and "The earlier record it is like" in told


def test_an_appeal_is_answered_blind_by_another_curator(client):
    datanet = make_datanet()
    services.add_curator(datanet, user=person("frank"), by=person("erin"))
    submission = send(datanet, table(measured(2)))
    record = waiting(submission)[0]
    reviews.decide([record], curator=person("frank"), decision="reject", reason="wrong_label", note="It is benign")
    appeal = reviews.appeal(record, by=person("alice"), text="The laboratory said so")

    client.force_login(person("frank"))
    assert "No appeal waits for you" in client.get(reverse("review_appeals")).content.decode()
    client.force_login(person("carol"))
    told = client.get(reverse("review_appeals")).content.decode()
    assert "The laboratory said so" in told and "It is benign" in told and "frank" not in told
    client.post(reverse("review_appeal", args=[appeal.pk]), {"answer": "overturn", "note": "Confirmed"})

    record.refresh_from_db()
    assert (record.status, record.decided_by) == ("approved", person("carol"))


def test_the_picture_of_a_record_is_served_as_a_picture_to_who_may_read_it(client, carol):
    noise = io.BytesIO()
    Image.effect_noise((320, 200), 80).convert("RGB").save(noise, "PNG")
    submission = send(make_datanet(kind="image"), noise.getvalue(), name="noise.png")

    [shown] = client.get(reverse("review_submission", args=[submission.pk])).context["readings"]
    client.logout()
    answer = client.get(shown.picture_url)

    assert answer.status_code == 200 and answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff" and answer["Cache-Control"].startswith("private")
    assert answer["Content-Disposition"].startswith("inline")
    assert Image.open(io.BytesIO(b"".join(answer.streaming_content))).size == (256, 160)
    assert client.get(shown.picture_url[:-3]).status_code == 404


def test_guidelines_are_markdown_without_scripts(client):
    datanet = make_datanet(
        guidelines="# What we want\n\n[here](javascript:alert(1)) **rows**\n\n<script>alert(2)</script>"
    )
    told = client.get(reverse("review_guidelines", args=["erin", datanet.slug])).content.decode()
    assert "<h2>What we want</h2>" in told and "<strong>rows</strong>" in told
    assert 'href="javascript:' not in told and "<script>alert" not in told


def test_guidelines_of_a_closed_datanet_are_its_members_alone(client):
    datanet = make_datanet(access="closed")
    assert client.get(reverse("review_guidelines", args=["erin", datanet.slug])).status_code == 404


@pytest.mark.parametrize("count", [1, 12])
def test_the_queue_costs_the_same_however_long_it_is(client, carol, django_assert_max_num_queries, count):
    datanet = make_datanet()
    for number in range(count):
        send(datanet, table(measured(3, start=20 * number)))
    approve_all(send(datanet, table(measured(3, start=900))))
    client.get(reverse("home"))  # the first page of a session asks more
    with django_assert_max_num_queries(15):
        answer = client.get(reverse("review"))
    assert len(answer.context["queue"]) == count
