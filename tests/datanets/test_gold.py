"""Planted records: a curator cannot tell them from others, and they are in nothing that is kept or paid."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from datanets import checking, gold, goldresults, records, reviews, verify, versions
from datanets.errors import Invalid, NotAllowed, NotReady
from datanets.models import GoldItem, Record, Review, Submission
from tests.datanets.cast import make_datanet, measured, person, send, table, waiting

pytestmark = pytest.mark.django_db


def stocked(datanet, rows, *, decision: str = "approve", reason: str = "") -> GoldItem:
    return gold.add_file(
        datanet, by=datanet.owner, name="rows.csv", content=table(rows), decision=decision, reason=reason
    )


def checked(submission):
    """The worker's part."""
    checking.check_file(submission.files.get().pk)
    submission.refresh_from_db()
    return submission


def planted(datanet, rows, **fields):
    return checked(gold.plant(stocked(datanet, rows, **fields)))


def decide(submission, decision: str = "approve", *, by: str = "carol"):
    reason = "low_quality" if decision == "reject" else ""
    return reviews.decide(waiting(submission), curator=person(by), decision=decision, reason=reason)


def final() -> int:
    return gold.reveal_final(timezone.now() + timedelta(hours=1))


# --- No leak


def shown_to_carol(submission) -> dict[str, tuple[int, int, str]]:
    """What she gets of a submission, by page: status, number of queries, and the text without what differs by chance."""
    client = Client()
    client.force_login(person("carol"))
    client.get("/en/review/accuracy/")  # the first page of a session asks more
    pk, handle = submission.pk, submission.contributor.username
    record = submission.records.get()
    pages = [
        "/en/review/",
        *(f"/en/review/{pk}/?tab={tab}" for tab in ("look", "all", "checks", "provenance")),
        f"/en/records/{record.pk}/",
        f"/en/people/{handle}/",
        "/en/datanets/erin/tumours/submissions/",
        "/api/v1/reviews/queue/",
        f"/api/v1/reviews/submissions/{pk}/",
        f"/api/v1/reviews/submissions/{pk}/records/",
        f"/api/v1/records/{record.pk}/",
    ]
    found = {}
    for page in pages:
        cache.clear()
        with CaptureQueriesContext(connection) as asked:
            answer = client.get(page)
        text = answer.content.decode() + str(sorted(name for name in answer.headers if name != "Content-Length"))
        for own in (str(pk), record.identity, submission.files.get().sha256, handle):
            text = text.replace(own, "·")
        text = re.sub(r'<span class="av[^>]*>.*?</span>', "·", text)  # initials, and a colour by the name
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "·", text)
        text = re.sub(r"csrfmiddlewaretoken[^>]*>|nonce=\S+", "·", text)
        text = re.sub(r"[0-9a-f]{6,}|[\d.,:+-]+", "·", text)  # numbers, dates and hashes of the row
        found[re.sub(r"[0-9a-f-]{36}|\d+|(?<=people/)[^/]+", "·", page)] = (answer.status_code, len(asked), text)
    return found


def alone_in_the_queue(make, decision: str | None) -> dict:
    """What Carol sees while nothing else waits: all of it is taken back afterwards."""
    with transaction.atomic():
        submission = make()
        if decision:
            decide(submission, decision)
        found = shown_to_carol(submission)
        transaction.set_rollback(True)
    return found


@pytest.mark.parametrize("decision", [None, "approve", "reject"])
def test_a_planted_record_looks_to_a_curator_like_any_other_until_their_decision_is_final(decision):
    datanet = make_datanet()
    send(datanet, table(measured(4, start=50)), by="alice")
    decide(datanet.submissions.get())
    Submission.objects.update(created_at=timezone.now() - timedelta(hours=1))
    item = stocked(datanet, measured(1, start=6))
    person("newcomer")

    real = alone_in_the_queue(lambda: send(datanet, table(measured(1, start=6)), by="newcomer"), decision)
    fake = alone_in_the_queue(lambda: checked(gold.plant(item)), decision)

    assert real.keys() == fake.keys()
    for page, (status, queries, text) in real.items():
        assert (page, fake[page][0], fake[page][1]) == (page, status, queries)
        assert fake[page][2] == text, page


@pytest.mark.parametrize("rows", [measured(1, start=50), [("10.0000001", "15.0", "benign")]])
def test_a_planted_copy_is_flagged_as_any_copy_is(rows):
    datanet = make_datanet()
    send(datanet, table([*rows, *measured(2, start=70)]), by="alice")
    decide(datanet.submissions.get())

    real = send(datanet, table(rows), by="bob").records.get()
    fake = planted(datanet, rows, decision="reject", reason="copy").records.get()

    findings = [
        [(each.check_name, each.severity, each.code) for each in record.check_results.order_by("check_name")]
        for record in (real, fake)
    ]
    assert findings[0] == findings[1]
    assert (real.flags, real.quality, real.copy_of_id) == (fake.flags, fake.quality, fake.copy_of_id)


def test_nobody_but_the_owner_learns_that_items_are_planted():
    datanet = make_datanet()
    item = stocked(datanet, measured(1))
    for name, status in {"erin": 200, "carol": 404, "alice": 404}.items():
        client = Client()
        client.force_login(person(name))
        assert client.get("/en/datanets/erin/tumours/gold/").status_code == status
        assert client.get("/api/v1/datanets/erin/tumours/gold/").status_code == status
        assert ("Planted records" in client.get("/en/datanets/erin/tumours/").content.decode()) == (status == 200)
    for act in (
        lambda: gold.retire(item, by=person("carol")),
        lambda: gold.set_share(datanet, by=person("carol"), percent=1),
    ):
        with pytest.raises(NotAllowed):
            act()


# --- Never in a version, never a leader


def test_a_planted_record_is_in_no_version():
    datanet = make_datanet()
    send(datanet, table(measured(2, start=50)), by="alice")
    decide(datanet.submissions.get())
    decide(planted(datanet, measured(1)))
    Record.objects.update(decided_at=timezone.now() - timedelta(hours=1))

    version = versions.freeze(datanet, by=datanet.owner)

    assert version.record_count == 2
    assert {one.contributor_id for one in versions.records_of(version)} == {person("alice").pk}
    assert verify.failures() == []


def test_the_table_refuses_a_planted_record_in_a_version_and_fingerprints_of_it():
    record = planted(make_datanet(), measured(1)).records.get()
    for refusal, fields in {
        "gold_is_in_no_version": {"added_in": 1},
        "gold_is_found_by_no_search_for_copies": {"content_hmac": "a"},
        "was planted is written once": {"is_gold": False},
    }.items():
        with pytest.raises(DatabaseError, match=refusal), transaction.atomic():
            Record.objects.filter(pk=record.pk).update(**fields)


def test_who_really_sends_what_was_planted_before_leads():
    datanet = make_datanet()
    decide(planted(datanet, measured(1)))

    record = send(datanet, table(measured(1)), by="alice").records.get()

    assert (record.copy_of, record.flags) == (None, [])


# --- A decision, and what follows


def test_a_decision_is_told_when_it_is_final_and_can_be_undone_before():
    datanet = make_datanet()
    submission = planted(datanet, measured(1), decision="reject", reason="wrong_label")
    item = GoldItem.objects.get()

    act = decide(submission)
    assert gold.reveal_final() == 0
    reviews.undo(act, by=person("carol"))
    assert final() == 0  # nothing is decided
    decide(submission)
    with pytest.raises(NotReady):
        reviews.decide(submission.records.all(), curator=person("carol"), decision="approve")
    assert list(goldresults.revealed_to(person("carol"))) == []

    assert (final(), final()) == (1, 0)
    assert submission.records.get().status == "withdrawn"  # out of the preview, too
    [vote] = goldresults.revealed_to(person("carol"))
    assert (vote.decision, vote.right_decision, vote.right_reason) == ("approve", "reject", "wrong_label")
    [told] = goldresults.of_items([item])[item.pk]
    assert (told.curator, told.is_right) == ("carol", False)


def test_one_planted_submission_is_one_observation_however_many_records_it_has():
    datanet = make_datanet()
    submission = planted(datanet, measured(3))
    first, *rest = waiting(submission)
    reviews.decide(rest, curator=person("carol"), decision="approve")
    reviews.decide([first], curator=person("carol"), decision="reject", reason="spam")
    gold.reveal_final(timezone.now() + timedelta(hours=1))
    GoldItem.objects.update(revealed_at=timezone.now())

    [carol] = goldresults.of_curator(person("carol"))
    assert carol.counts == (0, 1, 0, 0)
    assert {one.curator.username: one.counts.measured for one in goldresults.of_datanet(datanet)} == {
        "carol": 1,
        "erin": 0,
    }

    gold.retire(GoldItem.objects.get(), by=datanet.owner)
    assert goldresults.of_curator(person("carol"))[0].counts.measured == 0


def test_the_owner_is_not_measured_by_what_they_planted():
    datanet = make_datanet()
    decide(planted(datanet, measured(1)), by="erin")
    final()
    GoldItem.objects.update(revealed_at=timezone.now())
    assert {one.counts.measured for one in goldresults.of_datanet(datanet)} == {0}


# --- The stock


def test_as_many_are_planted_as_the_share_allows():
    datanet = make_datanet()
    for number in range(3):
        stocked(datanet, measured(1, start=number))
    assert gold.plant_due() == 0  # no share is stated
    gold.set_share(datanet, by=datanet.owner, percent=10)
    assert gold.plant_due() == 0  # and nothing real was sent

    send(datanet, table(measured(1, start=50)), by="alice")

    assert [gold.plant_due() for _ in range(3)] == [1, 0, 0]
    with pytest.raises(Invalid):
        gold.set_share(datanet, by=datanet.owner, percent=11)


def test_a_rejected_record_is_planted_to_be_rejected_again_and_goes_with_its_source():
    datanet = make_datanet()
    source = send(datanet, table(measured(1)), by="alice").records.get()
    with pytest.raises(NotReady):
        gold.add_record(source, by=datanet.owner)
    decide(source.submission, "reject")
    source.refresh_from_db()

    item = gold.add_record(source, by=datanet.owner)
    with pytest.raises(NotReady):
        gold.add_record(source, by=datanet.owner)
    record = checked(gold.plant(item)).records.get()

    assert (item.decision, item.reason) == ("reject", "low_quality")
    assert (record.copy_of, record.body.body) == (None, source.body.body)

    records.withdraw(source, by=person("alice"))
    item.refresh_from_db()
    record.refresh_from_db()
    assert (item.state, item.storage_key, item.file_name, record.status) == ("retired", "", "", "withdrawn")
    assert records.content_of(record) is None


def test_an_approved_record_is_planted_to_be_rejected_as_a_copy():
    datanet = make_datanet()
    source = send(datanet, table(measured(1)), by="alice").records.get()
    decide(source.submission)
    source.refresh_from_db()

    item = gold.add_record(source, by=datanet.owner)

    assert (item.decision, item.reason) == ("reject", Review.Reason.COPY)
    assert checked(gold.plant(item)).records.get().copy_of == source


def test_a_file_that_is_not_all_records_is_not_put_in_stock():
    datanet = make_datanet()
    for content in (b"", b"radius,texture,diagnosis\nwide,2,benign\n", table(measured(201))):
        with pytest.raises(Invalid):
            gold.add_file(datanet, by=datanet.owner, name="rows.csv", content=content, decision="approve")
    with pytest.raises(Invalid):
        stocked(datanet, measured(1), decision="reject")
    assert not GoldItem.objects.exists()
