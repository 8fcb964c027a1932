"""Datanets, their people, and who may read what."""

from __future__ import annotations

import pytest

from datanets import exports, records, services, submissions
from datanets.errors import Invalid, NotAllowed, NotReady
from datanets.models import Datanet, Membership, Record
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table, waiting

pytestmark = pytest.mark.django_db


def test_the_owner_of_a_new_datanet_is_its_first_member():
    datanet = make_datanet()
    assert datanet.path == "erin/tumours"
    assert set(datanet.memberships.values_list("user__username", "role")) == {("erin", "owner"), ("carol", "curator")}


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "audio"},
        {"licence": "All-Rights-Reserved"},
        {"purpose": " "},
        {"approvals_needed": 4},
        {"schema": {"columns": []}},
        {"schema": {"columns": [{"name": "a", "type": "date"}]}},
        {"schema": {"columns": [{"name": "a"}, {"name": "A"}]}},
        {"schema": {"columns": [{"name": "a"}], "label": "b"}},
        {"schema": {"columns": [{"name": "a", "type": "text"}], "label": "a", "label_type": "number"}},
        {"schema": {"columns": [{"name": "a", "type": "number", "min": 2, "max": 1}]}},
        {"slug": "Not A Slug"},
    ],
)
def test_a_datanet_that_does_not_hold_together_is_refused(fields):
    with pytest.raises(Invalid):
        make_datanet(**fields)
    assert not Datanet.objects.exists()


def test_an_address_is_taken_once_per_owner():
    make_datanet("Tumours")
    with pytest.raises(Invalid):
        make_datanet("Tumours")


def test_only_the_owner_names_and_removes_curators():
    datanet = make_datanet()
    with pytest.raises(NotAllowed):
        services.add_curator(datanet, user=person("dan"), by=person("carol"))
    services.remove_curator(datanet, user=person("carol"), by=person("erin"))
    assert not services.can_curate(person("carol"), datanet)


def test_a_closed_datanet_is_seen_and_fed_by_its_members_only():
    datanet = make_datanet(access="closed")
    dan = person("dan")
    assert not Datanet.objects.visible_to(dan).exists()
    assert not services.can_read(dan, datanet)
    with pytest.raises(NotAllowed):
        submissions.start(datanet=datanet, contributor=dan)

    with pytest.raises(NotAllowed):
        services.add_reader(datanet, user=dan, by=person("carol"))
    services.add_reader(datanet, user=dan, by=person("erin"))

    assert Datanet.objects.visible_to(dan).exists()
    assert services.can_read(dan, datanet)
    submissions.start(datanet=datanet, contributor=dan)

    with pytest.raises(NotAllowed):
        services.remove_reader(datanet, user=dan, by=dan)
    for _ in range(2):
        services.remove_reader(datanet, user=dan, by=person("erin"))
    assert not Datanet.objects.visible_to(dan).exists()


def test_access_on_request_is_granted_by_the_owner():
    datanet = make_datanet(access="on_request")
    dan = person("dan")
    request = services.request_access(datanet, user=dan, purpose="To train a classifier.")
    assert services.request_access(datanet, user=dan, purpose="Again") == request
    with pytest.raises(NotAllowed):
        services.answer_access_request(request, by=person("carol"), grant=True, answer="")

    services.answer_access_request(request, by=person("erin"), grant=True, answer="Welcome.")

    assert services.can_read(dan, datanet)
    with pytest.raises(NotReady):
        services.answer_access_request(request, by=person("erin"), grant=False, answer="No.")


def test_sending_data_does_not_open_an_on_request_datanet():
    datanet = make_datanet(access="on_request")
    send(datanet, table(measured(1)), by="bob")
    assert Membership.objects.filter(user=person("bob"), role="contributor").exists()
    assert not services.can_read(person("bob"), datanet)
    assert not exports.may_export(person("bob"), datanet)


def test_readers_see_the_preview_and_curators_everything():
    datanet = make_datanet(preview_rows=2)
    approve_all(send(datanet, table(measured(5))))
    assert records.preview(datanet, viewer=person("carol")).count() == 5
    assert records.preview(datanet, viewer=person("dan")).count() == 2
    first, *_others, last = Record.objects.order_by("id")
    assert records.can_see(person("dan"), first)
    assert not records.can_see(person("dan"), last)
    assert records.can_see(person("alice"), last)
    assert records.can_see(None, first)


def test_nobody_but_its_contributor_sees_what_is_withdrawn():
    datanet = make_datanet()
    approve_all(send(datanet, table(measured(2))))
    record = Record.objects.order_by("id").first()
    with pytest.raises(NotAllowed):
        records.withdraw(record, by=person("bob"))

    record = records.withdraw(record, by=person("alice"))

    assert not records.can_see(person("carol"), record)
    assert records.can_see(person("alice"), record)
    assert records.preview(datanet, viewer=person("carol")).count() == 1


def test_many_records_are_seen_by_whom_each_of_them_is_seen(django_assert_max_num_queries):
    for start, name, access in ((0, "Open to all", "open"), (10, "Closed to most", "on_request")):
        approve_all(send(make_datanet(name, access=access, preview_rows=2), table(measured(4, start=start))))
    services.add_reader(Datanet.objects.get(access="on_request"), user=person("frank"), by=person("erin"))
    person("ada", is_staff=True)
    records.withdraw(Record.objects.order_by("id").first(), by=person("alice"))
    found = list(Record.objects.select_related("datanet"))

    for viewer in (None, *(person(name) for name in ("alice", "bob", "carol", "dan", "erin", "frank", "ada"))):
        each = {
            record.pk
            for record in found
            if record.contributor == viewer
            or (record.status != "withdrawn" and services.can_curate(viewer, record.datanet))
            or records.preview(record.datanet, viewer=viewer).filter(pk=record.pk).exists()
        }
        with django_assert_max_num_queries(1):
            assert records.seen_by(viewer, found) == each
        assert {record.pk for record in found if records.can_see(viewer, record)} == each


def test_a_waiting_record_that_is_withdrawn_no_longer_holds_its_submission_open():
    submission = send(make_datanet(), table(measured(2)))
    first, second = waiting(submission)
    approve_all(submission)
    submission = send(submission.datanet, table(measured(1, start=9)), by="bob")
    [only] = waiting(submission)
    records.withdraw(only, by=person("bob"))
    submission.refresh_from_db()
    assert submission.status == "decided"


def test_a_search_finds_words_as_they_stand_and_pages_by_key():
    datanet = make_datanet("Notes", kind="text")
    content = b"".join(
        b'{"text": "note %d about %s, long enough"}\n' % (n, b"wrens" if n % 2 else b"owls") for n in range(7)
    )
    approve_all(send(datanet, content, name="notes.jsonl"))
    found = records.search(records.preview(datanet, viewer=person("dan")), "Wrens", pool=datanet)

    first, cursor = records.page(found, limit=2)
    second, end = records.page(found, after=cursor, limit=2)

    assert [records.content_of(record)["text"][:6] for record in first + second] == ["note 1", "note 3", "note 5"]
    assert end is None
