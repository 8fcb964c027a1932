"""Sending, reviewing and publishing data by program: the same rules as on the pages."""

from __future__ import annotations

import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from datanets import checking, reviews
from datanets.models import Record
from marketplace import people
from tests.api.world import client_of, program_of
from tests.datanets import hostile
from tests.datanets.cast import make_datanet, measured, person, send, table, waiting

V1 = "/api/v1"


@pytest.fixture(autouse=True)
def _undo(settings):
    settings.REVIEW_UNDO_S = 0


def said(answer, status: int = 200):
    assert answer.status_code == status, answer.content[:500]
    return answer.json() if answer.content else None


def agreed(name: str):
    people.give_consent(person(name), "contributor")
    return program_of(person(name))


def test_a_datanet_is_made_filled_reviewed_and_published_by_program(books):
    # Given Erin's Datanet, with Carol as its curator
    erin, carol, alice = program_of(person("erin")), program_of(person("carol")), program_of(person("alice"))
    schema = {
        "columns": [
            {"name": "radius", "type": "number", "required": True, "min": 0},
            {"name": "diagnosis", "type": "category", "required": True, "values": ["benign", "malignant"]},
        ],
        "label": "diagnosis",
    }
    given = {"name": "Tumours", "purpose": "Tests", "kind": "tabular", "licence": "CC-BY-4.0", "schema": schema}
    made = said(
        erin.post(f"{V1}/datanets/", given | {"rights_statement": "I may.", "training_fee_nano": "7"}, format="json"),
        201,
    )
    assert (made["path"], made["training_fee_nano"], made["training_fee_open"]) == ("erin/tumours", "7", "0.000000007")
    said(erin.post(f"{V1}/datanets/erin/tumours/curators/", {"handle": "carol"}, format="json"), 201)

    # When Alice agrees, sends two rows of which one is broken, and corrects it
    version = said(alice.get(f"{V1}/consents/"))[1]["version"]
    said(alice.post(f"{V1}/submissions/", {"datanet": "erin/tumours"}, format="json"), 403)
    said(alice.post(f"{V1}/consents/", {"document": "contributor", "version": version}, format="json"), 201)
    submission = said(alice.post(f"{V1}/submissions/", {"datanet": "erin/tumours"}, format="json"), 201)
    here = f"{V1}/submissions/{submission['id']}"
    content = table([("10.5", "benign"), ("wide", "malignant")], header="radius,diagnosis")
    file = said(
        alice.post(f"{here}/files/", {"file": SimpleUploadedFile("rows.csv", content)}, format="multipart"), 201
    )
    checking.check_file(file["id"])
    [row] = said(alice.get(f"{here}/rows/"))["results"]
    assert row["column"] == "radius"
    fixed = said(
        alice.post(f"{here}/rows/{row['id']}/", {"values": {"radius": "11.5", "diagnosis": "malignant"}}, format="json")
    )
    assert fixed["record"]
    checking.check_file(file["id"])
    said(alice.patch(here + "/", {"title": "Two rows"}, format="json"))
    sent = said(alice.post(f"{here}/send/", {"sign_rights": True}, format="json"))
    assert (sent["status"], sent["title"], sent["records"]) == ("in_review", "Two rows", {"waiting": 2})

    # And Carol rejects one, takes it back, and approves both
    reviewing = f"{V1}/reviews/submissions/{submission['id']}"
    assert [row["id"] for row in said(carol.get(f"{V1}/reviews/queue/"))] == [submission["id"]]
    ids = [row["id"] for row in said(carol.get(f"{reviewing}/records/"))["results"]]
    said(carol.post(f"{reviewing}/claim/"))
    refused = carol.post(f"{reviewing}/decisions/", {"records": ids, "decision": "reject"}, format="json")
    assert said(refused, 422)["error"]["code"] == "invalid_value"
    approved = carol.post(f"{reviewing}/decisions/", {"records": ids, "decision": "approve"}, format="json")
    assert said(approved, 201)["records"] == 2

    # Then Erin publishes a version that everybody can read
    published = said(erin.post(f"{V1}/datanets/erin/tumours/versions/", {"note": "First"}, format="json"), 201)
    assert (published["version"], published["records"]) == ("v1", 2)
    preview = said(client_of(None).get(f"{V1}/datanets/erin/tumours/records/?limit=1"))
    assert preview["results"][0]["body"] == {"radius": 10.5, "diagnosis": "benign"}
    assert said(client_of(None).get(preview["next"]))["results"][0]["contributor"] == "alice"
    read = said(erin.get(f"{V1}/datanets/erin/tumours/versions/1/"))
    export = erin.get(read["exports"]["csv"])
    assert b"".join(export.streaming_content).count(b"\n") == 3


def test_a_decision_is_undone_by_who_made_it(books, settings):
    settings.REVIEW_UNDO_S = 600
    datanet = make_datanet()
    submission = send(datanet, table(measured(2)))
    carol = program_of(person("carol"))
    act = said(
        carol.post(
            f"{V1}/reviews/submissions/{submission.pk}/decisions/",
            {"records": [record.pk for record in waiting(submission)], "decision": "approve"},
            format="json",
        ),
        201,
    )["act"]

    said(program_of(person("erin")).delete(f"{V1}/reviews/decisions/{act}/"), 404)
    assert said(carol.delete(f"{V1}/reviews/decisions/{act}/")) == {"votes": 2}
    assert len(waiting(submission)) == 2


def test_nobody_reviews_their_own_records(books):
    datanet = make_datanet()
    submission = send(datanet, table(measured(2)), by="erin")

    answer = program_of(person("erin")).get(f"{V1}/reviews/submissions/{submission.pk}/")

    assert said(answer, 403)["error"]["code"] == "self_review"


def test_votes_stay_hidden_until_one_has_voted(books):
    datanet = make_datanet(approvals_needed=2)
    submission = send(datanet, table(measured(1)))
    [record] = waiting(submission)
    address = f"{V1}/reviews/submissions/{submission.pk}"
    vote = {"records": [record.pk], "decision": "reject", "reason": "off_topic"}
    said(program_of(person("carol")).post(f"{address}/decisions/", vote, format="json"), 201)

    [seen] = said(program_of(person("erin")).get(f"{address}/records/"))["results"]
    assert seen["votes"] == []
    said(program_of(person("erin")).post(f"{address}/decisions/", vote | {"decision": "approve"}, format="json"), 201)
    [seen] = said(program_of(person("erin")).get(f"{address}/records/"))["results"]
    assert [vote["curator"] for vote in seen["votes"]] == ["carol", "erin"]


def test_a_curator_gets_the_pictures_and_the_evidence_that_the_page_shows(books, client):
    datanet = make_datanet("Pictures", kind="image")
    pictures = {"a.png": hostile.png(40, 30), "b.png": hostile.png(40, 30)}
    submission = send(datanet, hostile.zipped(pictures), name="all.zip")

    seen = said(program_of(person("carol")).get(f"{V1}/reviews/submissions/{submission.pk}/records/"))["results"]

    for record in seen:
        assert client.get(record["media_url"])["Content-Type"] == "image/png"
    copy, original = sorted(seen, key=lambda record: -record["id"])
    [finding] = [each for each in copy["findings"] if each["check_name"] == "exact_copies"]
    assert (finding["number"], finding["evidence"]) == (1, {"leader": original["id"]})

    reviews.decide(waiting(submission), curator=person("carol"), decision="approve")
    shown = said(client.get(f"{V1}/datanets/{datanet.path}/records/"))["results"]
    assert all(client.get(record["media_url"]).status_code == 200 for record in shown)
    table_of_numbers = send(make_datanet(), table(measured(1)))
    [plain] = said(program_of(person("carol")).get(f"{V1}/reviews/submissions/{table_of_numbers.pk}/records/"))[
        "results"
    ]
    assert plain["media_url"] is None


def test_bulk_approval_tells_what_became_of_each(books):
    datanet = make_datanet()
    clean = send(datanet, table(measured(2)))
    done = send(datanet, table(measured(2, start=50)), by="bob", name="more.csv")
    Record.objects.filter(submission=done).update(flags=["label_sanity"])

    answer = program_of(person("carol")).post(
        f"{V1}/reviews/approve-clean/", {"submissions": [str(clean.pk), str(done.pk)]}, format="json"
    )

    assert said(answer)["done"] == [str(clean.pk)]
    assert [row["submission"] for row in answer.json()["skipped"]] == [str(done.pk)]


def test_records_of_another_submission_cannot_be_decided_through_this_one(books):
    datanet = make_datanet()
    mine, other = send(datanet, table(measured(2))), send(datanet, table(measured(2, start=9)), by="bob")

    answer = program_of(person("carol")).post(
        f"{V1}/reviews/submissions/{mine.pk}/decisions/",
        {"records": [waiting(other)[0].pk], "decision": "approve"},
        format="json",
    )

    said(answer, 404)


def test_a_closed_datanet_does_not_exist_for_strangers(books):
    make_datanet("Secret", access="closed")

    for client in (client_of(None), program_of(person("zoe"))):
        assert said(client.get(f"{V1}/datanets/"))["results"] == []
        said(client.get(f"{V1}/datanets/erin/secret/"), 404)
        said(client.get(f"{V1}/datanets/erin/secret/records/"), 404)


def test_an_owner_changes_the_rules_but_not_what_records_were_contributed_under(books):
    make_datanet("Open")
    here, erin = f"{V1}/datanets/erin/open", program_of(person("erin"))

    changed = said(erin.patch(f"{here}/", {"purpose": "Better", "access": "closed"}, format="json"))

    assert (changed["purpose"], changed["access"], changed["name"]) == ("Better", "closed", "Open")
    said(erin.patch(f"{here}/", {"licence": "CC0-1.0"}, format="json"), 400)
    said(client_of(None).get(f"{here}/"), 404)


def test_an_on_request_datanet_is_seen_but_not_read_until_its_owner_agrees(books):
    make_datanet("Asked", access="on_request")
    here, zoe, erin = f"{V1}/datanets/erin/asked", program_of(person("zoe")), program_of(person("erin"))
    said(zoe.get(f"{here}/"))
    said(zoe.get(f"{here}/records/"), 403)

    asked = said(zoe.post(f"{here}/access-requests/", {"purpose": "Research"}, format="json"), 201)
    said(zoe.post(f"{here}/access-requests/{asked['id']}/answer/", {"grant": True}, format="json"), 403)
    assert [row["who"] for row in said(erin.get(f"{here}/access-requests/"))["results"]] == ["zoe"]
    said(erin.post(f"{here}/access-requests/{asked['id']}/answer/", {"grant": True}, format="json"))

    said(zoe.get(f"{here}/records/"))


def test_a_file_whose_bytes_are_not_those_announced_is_put_aside(books):
    datanet = make_datanet()
    alice = agreed("alice")
    submission = said(alice.post(f"{V1}/submissions/", {"datanet": datanet.path}, format="json"), 201)

    answer = alice.post(
        f"{V1}/submissions/{submission['id']}/files/",
        {"file": io.BytesIO(b"radius\n1\n"), "sha256": "0" * 64},
        format="multipart",
    )

    assert said(answer, 409)["error"]["code"] == "conflict"


def test_values_that_cannot_be_stored_are_refused(world):
    alice = program_of(world.person("alice"))
    here = f"{V1}/submissions/{world.ids['submission_id']}/rows/{world.ids['row_id']}/"

    for values in ({"radius": "\0"}, {"radius": "x" * 200_000}, ["radius"], "radius", None):
        said(alice.post(here, {"values": values}, format="json"), 400)


def test_a_record_is_reported_and_withdrawn_by_program_without_naming_who_reported(books, settings):
    settings.REPORTS_PER_DAY_MAX = 1
    datanet = make_datanet()
    submission = send(datanet, table(measured(2)))
    reviews.decide(waiting(submission), curator=person("carol"), decision="approve")
    first, second = submission.records.order_by("id")
    dan, carol = program_of(person("dan")), program_of(person("carol"))
    told = {"reason": "rights", "text": "It is from my book."}

    filed = said(dan.post(f"{V1}/records/{first.pk}/report/", told, format="json"), 201)
    refused = said(dan.post(f"{V1}/records/{second.pk}/report/", told, format="json"), 429)
    said(dan.post(f"{V1}/records/{second.pk}/report/", told | {"reason": "dislike"}, format="json"), 400)
    listed = said(carol.get(f"{V1}/reviews/reports/"))
    address = f"{V1}/reviews/reports/{filed['id']}/"
    said(carol.post(address, {"answer": "withdraw"}, format="json"), 400)
    decided = said(carol.post(address, {"answer": "withdraw", "note": "It is."}, format="json"))

    assert refused["error"]["code"] == "too_many"
    assert [row["text"] for row in listed["results"]] == ["It is from my book."]
    assert "dan" not in str(listed)
    assert (decided["status"], decided["record"]) == ("upheld", first.pk)
    assert said(dan.get(f"{V1}/records/{first.pk}/"))["status"] == "withdrawn"
    said(carol.post(address, {"answer": "withdraw", "note": "It is."}, format="json"), 404)


def test_an_owner_answers_the_questions_of_the_card_by_program(books):
    datanet = make_datanet()
    erin = program_of(person("erin"))
    address = f"{V1}/datanets/{datanet.path}/"

    changed = said(erin.patch(address, {"answers": {"uses": "Teaching."}}, format="json"))
    said(erin.patch(address, {"answers": {"price": "None."}}, format="json"), 400)

    assert changed["answers"] == {"uses": "Teaching."}
