"""The pages of a contributor: start, upload, correct, send, and what became of it."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.models import Consent
from datanets import checking, findings, reviews, submissions, uploads
from datanets.models import BrokenRow, Record, Submission
from marketplace import people
from tests.datanets.cast import make_datanet, measured, person, send, table, upload, waiting

pytestmark = pytest.mark.django_db

TWO_BROKEN = [*measured(3), ("wide", "17.5", "benign"), *measured(2, start=10), ("12.1", "16.2", "unknown")]


@pytest.fixture
def alice(client):
    user = person("alice")
    client.force_login(user)
    return user


def begin(alice, **fields) -> Submission:
    people.give_consent(alice, "contributor")
    return submissions.start(datanet=make_datanet(**fields), contributor=alice)


def page(client, submission: Submission) -> str:
    answer = client.get(reverse("submission", args=[submission.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_visitor_is_asked_to_sign_in(client):
    assert client.get(reverse("contribute")).status_code == 302


def test_somebody_without_submissions_is_told_how_to_start(client, alice):
    told = client.get(reverse("contribute")).content.decode()
    assert "You have not sent anything yet" in told


def test_the_contributor_agreement_is_asked_once_and_logged_with_its_version(client, alice):
    datanet = make_datanet()
    new = reverse("contribute_new") + f"?datanet={datanet.path}"
    assert "contributor agreement" in client.get(new).content.decode()

    refused = client.post(new, {"datanet": datanet.pk})
    assert refused.status_code == 422
    assert not Submission.objects.exists()

    started = client.post(new, {"datanet": datanet.pk, "agree": "on"})
    assert started.status_code == 302
    consent = Consent.objects.get(user=alice)
    assert (consent.document, consent.version) == ("contributor", people.document_text("contributor")[0])
    assert "agree" not in client.get(new).context["form"].fields


def test_a_closed_datanet_is_not_offered_to_a_stranger(client, alice):
    closed = make_datanet(access="closed")
    assert client.get(reverse("contribute_new") + f"?datanet={closed.path}").status_code == 404
    assert client.post(reverse("contribute_new"), {"datanet": closed.pk, "agree": "on"}).status_code == 422


def test_somebody_elses_submission_does_not_exist(client, alice):
    theirs = send(make_datanet(), table(measured(3)), by="bob")
    row_url = reverse("submission_row", args=[theirs.pk, 1])
    assert client.get(reverse("submission", args=[theirs.pk])).status_code == 404
    assert client.get(reverse("submission_live", args=[theirs.pk])).status_code == 404
    for url in (
        row_url,
        reverse("submission_describe", args=[theirs.pk]),
        reverse("submission_withdraw", args=[theirs.pk]),
    ):
        assert client.post(url).status_code == 404
    assert client.post(reverse("record_appeal", args=[waiting(theirs)[0].pk]), {"text": "x"}).status_code == 404


def test_a_plain_form_uploads_files_and_one_bad_file_never_cancels_the_others(client, alice, settings):
    submission = begin(alice)
    settings.UPLOAD_FILE_MAX_BYTES = 1000
    good = SimpleUploadedFile("good.csv", table(measured(2)))
    large = SimpleUploadedFile("large.csv", b"x" * 1001)

    answer = client.post(reverse("submission_upload", args=[submission.pk]), {"files": [large, good]}, follow=True)

    told = answer.content.decode()
    assert "large.csv" in told and "larger than the limit" in told
    assert [file.name for file in submission.files.all()] == ["good.csv"]


def test_a_broken_row_is_shown_with_its_line_and_column_and_corrected_in_place(client, alice):
    submission = begin(alice)
    upload(submission, table(TWO_BROKEN))
    first, second = BrokenRow.objects.order_by("line")
    told = page(client, submission)
    assert "Line 5, column radius" in told and "must be a number" in told
    assert "Line 8, column diagnosis" in told

    values = {f"row-{first.pk}-0": "13.25", f"row-{first.pk}-1": "17.5", f"row-{first.pk}-2": "benign"}
    client.post(reverse("submission_row", args=[submission.pk, first.pk]), values | {"act": "fix"})
    client.post(reverse("submission_row", args=[submission.pk, second.pk]), {"act": "drop"})

    assert Record.objects.get(position=5).body.body["radius"] == 13.25
    assert "Rows that need you" not in page(client, submission)


def test_a_wrong_correction_is_answered_with_the_new_reason_and_what_was_typed(client, alice):
    submission = begin(alice)
    upload(submission, table(TWO_BROKEN))
    row = BrokenRow.objects.order_by("line").first()
    values = {f"row-{row.pk}-0": "-3", f"row-{row.pk}-1": "17.5", f"row-{row.pk}-2": "benign"}

    answer = client.post(
        reverse("submission_row", args=[submission.pk, row.pk]), values | {"act": "fix"}, HTTP_HX_REQUEST="true"
    )

    assert answer.status_code == 422
    assert 'value="-3"' in answer.content.decode() and "must be between" in answer.content.decode()


def test_checks_are_polled_while_they_run_and_not_afterwards(client, alice):
    submission = begin(alice)
    upload(submission, table(measured(4)), check=False)
    assert "every 2s" in page(client, submission)

    checking.check_file(submission.files.get().pk)

    answer = client.get(reverse("submission_live", args=[submission.pk]) + "?seen=other").content.decode()
    assert "every 2s" not in answer and "Format and schema" in answer
    assert 'id="steps" hx-swap-oob' in answer


def test_a_copy_stands_beside_the_record_that_was_first(client, alice):
    datanet = make_datanet()
    send(datanet, table(measured(3)), by="bob")
    people.give_consent(alice, "contributor")
    submission = submissions.start(datanet=datanet, contributor=alice)
    upload(submission, table(measured(3)))

    told = page(client, submission)

    assert "Copies of earlier records" in told
    assert "You may not read it" in told, "Bob's waiting record is nobody else's to read"


def test_sending_needs_the_rights_statement_signed(client, alice):
    submission = begin(alice)
    upload(submission, table(measured(3)))
    url = reverse("submission_describe", args=[submission.pk])
    described = {"title": "Tumours of May", "description": "", "source_url": ""}

    refused = client.post(url, described | {"act": "send"})
    assert refused.status_code == 422 and "Sign the rights statement" in refused.content.decode()

    client.post(url, described | {"act": "send", "rights": "on"})
    submission.refresh_from_db()
    assert (submission.status, submission.title) == ("in_review", "Tumours of May")
    told = page(client, submission)
    assert "What happened" in told and "In review" in told


def test_a_source_that_is_no_address_is_refused_and_the_words_are_kept(client, alice):
    submission = begin(alice)
    url = reverse("submission_describe", args=[submission.pk])
    answer = client.post(url, {"title": "May", "description": "By hand", "source_url": "nowhere", "act": "save"})
    assert answer.status_code == 422 and "By hand" in answer.content.decode()


def test_a_rejected_record_shows_its_reason_and_takes_one_appeal(client, alice):
    submission = send(make_datanet(), table(measured(3)))
    record = waiting(submission)[0]
    reviews.decide([record], curator=person("carol"), decision="reject", reason="wrong_label", note="Look again")

    told = page(client, submission)
    assert "Wrong label" in told and "Look again" in told and "carol" not in told

    client.post(reverse("record_appeal", args=[record.pk]), {"text": "It is right."})
    assert record.appeals.get().text == "It is right."
    assert "Send the appeal" not in page(client, submission)


def test_a_decided_submission_can_be_sent_again_as_a_revision(client, alice):
    submission = send(make_datanet(), table(measured(3)))
    reviews.decide(waiting(submission), curator=person("carol"), decision="reject", reason="low_quality")

    answer = client.post(reverse("submission_revise", args=[submission.pk]))

    revision = Submission.objects.get(revision_of=submission)
    assert answer.url == reverse("submission", args=[revision.pk])


def test_a_withdrawn_submission_is_erased_and_says_so(client, alice):
    submission = send(make_datanet(), table(measured(3)))
    client.post(reverse("submission_withdraw", args=[submission.pk]))
    submission.refresh_from_db()
    assert submission.status == "withdrawn"
    assert "Withdrawn" in page(client, submission)


def test_what_a_stranger_wrote_is_escaped_and_hidden_characters_are_written_out(client, alice):
    datanet = make_datanet(kind="text")
    people.give_consent(alice, "contributor")
    words = "An honest sentence about wrens and their nests, written by hand. " * 3
    submission = send(datanet, f"{words} <script>alert(1)</script>\u202e {words}".encode(), name="a.txt")
    reviews.decide(waiting(submission), curator=person("carol"), decision="reject", reason="spam")

    told = page(client, submission)

    assert "<script>alert" not in told and "&lt;script&gt;" in told
    assert "U+202E" in told and "\u202e" not in told


@pytest.mark.parametrize("count", [1, 12])
def test_the_list_costs_the_same_however_long_it_is(client, alice, django_assert_max_num_queries, count):
    datanet = make_datanet()
    for number in range(count):
        send(datanet, table(measured(1, start=20 * number)))
    with django_assert_max_num_queries(15):
        answer = client.get(reverse("contribute"))
    assert len(answer.context["rows"]) == count


def test_a_form_with_too_many_files_is_told_how_many_it_may_hold(client, alice, settings):
    submission = begin(alice)
    assert settings.DATA_UPLOAD_MAX_NUMBER_FILES == uploads.FILES_MAX
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 2
    files = [SimpleUploadedFile(f"{n}.csv", b"a\n") for n in range(3)]

    answer = client.post(reverse("submission_upload", args=[submission.pk]), {"files": files})

    assert answer.status_code == 413
    assert "at most 2 files at once" in answer.content.decode()


def test_rows_are_offered_for_correction_once_their_file_is_checked(client, alice, monkeypatch):
    submission = begin(alice)
    with monkeypatch.context() as patch:  # the worker dies before its first check
        patch.delattr(findings, "run_checks")
        with pytest.raises(AttributeError):
            upload(submission, table(TWO_BROKEN))
    assert "Rows that need you" not in page(client, submission)

    checking.check_file(submission.files.get().pk)
    assert "Rows that need you" in page(client, submission)


def test_the_first_records_of_a_checked_file_are_shown_as_they_were_read(client, alice):
    schema = {
        "columns": [
            {"name": "weight", "type": "number"},
            {"name": "note", "type": "text"},
            {"name": "species", "type": "category", "values": ["wren", "robin"]},
        ],
        "label": "species",
    }
    submission = begin(alice, schema=schema)
    rows = [(f"{n}.25", "write to anna.berg@example.org" if n == 1 else f"seen on day {n}", "wren") for n in range(12)]
    file = upload(submission, table(rows, header="weight,note,species"), check=False)
    assert "As it was read" not in page(client, submission)

    checking.check_file(file.pk)
    html = page(client, submission)

    assert "The first 10 records of rows.csv" in html
    first = html.partition('id="first"')[2].partition('id="describe-title"')[0]
    assert "9.25" in first
    assert "10.25" not in first
    assert '<mark class="flag" title="email">anna.berg@example.org</mark>' in first
    assert first.count('<span class="badge warn">Personal data</span>') == 1
