"""Frozen versions: what is in them, who leads, what they hash to, and that nothing of them changes."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.db import DatabaseError, connection, transaction

from datanets import exports, records, reviews, roots, storage, submissions, verify, versions
from datanets.errors import NotAllowed, NotReady
from datanets.models import Record, Version, VersionFollower
from tests.datanets import hostile
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table, waiting

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def decisions_settle_at_once(settings):
    settings.REVIEW_UNDO_S = 0


def published(rows, *, name="Tumours", by="alice"):
    datanet = make_datanet(name)
    approve_all(send(datanet, table(rows), by=by))
    return datanet, versions.freeze(datanet, by=person("erin"))


def test_a_version_holds_the_approved_records_and_hashes_them():
    datanet, version = published(measured(5))

    held = versions.records_of(version)
    assert (version.number, version.record_count, version.leader_count, version.added_count) == (1, 5, 5, 5)
    assert [record.id for record in held] == sorted(record.id for record in held)
    assert {record.approver_id for record in held} == {person("carol").pk}
    assert all(record.is_leader and record.leader_id == record.id and "radius" in record.body for record in held)
    assert version.root == roots.version_root([record.identity for record in held], hashlib.sha256(b"").hexdigest())
    manifest = json.loads(storage.get(version.manifest_key))
    assert manifest["root"] == version.root
    assert manifest["added"] == sorted(record.identity for record in held)
    assert verify.failures() == []


def test_the_root_changes_with_a_single_record():
    identities = [hashlib.sha256(bytes([n])).hexdigest() for n in range(7)]
    leaders = hashlib.sha256(b"").hexdigest()
    root = roots.version_root(identities, leaders)
    assert roots.version_root(reversed(identities), leaders) == root
    assert roots.version_root(identities[:-1], leaders) != root
    assert roots.version_root([*identities[:-1], hashlib.sha256(b"other").hexdigest()], leaders) != root
    assert roots.version_root(identities, roots.leader_map_hash({identities[1]: identities[0]})) != root


def test_merkle_roots_are_those_of_rfc_6962():
    assert roots.merkle_root([]).hex() == hashlib.sha256(b"").hexdigest()
    # the vectors of the certificate-transparency reference implementation
    leaves = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
    assert roots.merkle_root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert roots.merkle_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_freezing_again_without_a_change_is_refused():
    datanet, _version = published(measured(2))
    with pytest.raises(NotReady):
        versions.freeze(datanet, by=person("erin"))


def test_only_the_owner_freezes():
    datanet = make_datanet()
    approve_all(send(datanet, table(measured(2))))
    with pytest.raises(NotAllowed):
        versions.freeze(datanet, by=person("carol"))


def test_a_decision_that_can_still_be_undone_is_not_frozen(settings):
    settings.REVIEW_UNDO_S = 600
    datanet = make_datanet()
    submission = send(datanet, table(measured(2)))
    act = reviews.decide(waiting(submission), curator=person("carol"), decision="approve")
    with pytest.raises(NotReady):
        versions.freeze(datanet, by=person("erin"))

    settings.REVIEW_UNDO_S = 0
    versions.freeze(datanet, by=person("erin"))
    settings.REVIEW_UNDO_S = 600
    with pytest.raises(NotReady):
        reviews.undo(act, by=person("carol"))


def test_a_version_and_its_leader_map_are_immutable():
    rows = measured(3)
    datanet, version = published([*rows, rows[0]])
    for act in (
        lambda: Version.objects.filter(pk=version.pk).update(note="other"),
        lambda: Version.objects.filter(pk=version.pk).update(statistics={}),  # all its rows are there
        lambda: Version.objects.filter(pk=version.pk).update(note="", record_count=2),
        lambda: Version.objects.filter(pk=version.pk).delete(),
        lambda: VersionFollower.objects.update(leader=Record.objects.order_by("id")[1]),
        lambda: VersionFollower.objects.all().delete(),
        lambda: Record.objects.filter(datanet=datanet).update(identity="0" * 64),
        lambda: Record.objects.filter(datanet=datanet).update(added_in=7),
        lambda: Record.objects.filter(datanet=datanet).delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            act()


def test_copies_follow_the_earliest_approved_record():
    rows = measured(4)
    datanet = make_datanet()
    approve_all(send(datanet, table(rows), by="alice"))
    approve_all(send(datanet, table(rows[:2]), by="bob"))

    version = versions.freeze(datanet, by=person("erin"))

    first, second = Record.objects.filter(contributor=person("alice")).order_by("id")[:2]
    copy_one, copy_two = Record.objects.filter(contributor=person("bob")).order_by("id")
    assert versions.leader_map(version) == {copy_one.pk: first.pk, copy_two.pk: second.pk}
    assert (version.record_count, version.leader_count) == (6, 4)
    assert versions.merged_leaders([version]) == versions.leader_map(version)
    assert verify.failures() == []


def test_when_a_leader_is_withdrawn_the_next_copy_leads_in_the_next_version_only():
    rows = measured(3)
    datanet = make_datanet()
    approve_all(send(datanet, table(rows), by="alice"))
    approve_all(send(datanet, table(rows[:1]), by="bob"))
    old = versions.freeze(datanet, by=person("erin"))
    leader = Record.objects.filter(contributor=person("alice")).order_by("id").first()
    copy = Record.objects.get(contributor=person("bob"))

    records.withdraw(leader, by=person("alice"))
    new = versions.freeze(datanet, by=person("erin"))

    assert versions.leader_map(old) == {copy.pk: leader.pk}
    assert versions.leader_map(new) == {}
    assert records.excluded([old.pk]) == {leader.pk}
    assert records.excluded([new.pk]) == set()
    assert (new.record_count, new.removed_count) == (3, 1)
    assert [version.number for version in records.versions_with(leader)] == [1]
    assert verify.failures() == []


def test_a_record_taken_from_another_datanet_follows_it_there():
    rows = measured(3)
    _first, original = published(rows, name="First")
    other = make_datanet("Second")
    approve_all(send(other, table([rows[0], *measured(2, start=50)]), by="bob"))

    version = versions.freeze(other, by=person("erin"))

    [stolen] = [record for record in versions.records_of(version) if not record.is_leader]
    leader = versions.records_of(original)[0]
    assert (stolen.contributor_id, stolen.leader_id) == (person("bob").pk, leader.id)
    assert versions.merged_leaders([original, version]) == {stolen.id: leader.id}


def test_statistics_are_those_of_the_exported_rows():
    rows = [*measured(41), ("12.5", "19", "benign")]
    datanet, version = published(rows)

    exported = pq.read_table(storage.open_file(exports.write(version, fmt="parquet"))).to_pydict()

    assert version.statistics["rows"] == 42
    radius, texture, diagnosis = version.statistics["columns"]
    for column, name in ((radius, "radius"), (texture, "texture")):
        # pandas' describe: std with ddof=1, quartiles by linear interpolation
        values = np.array(exported[name])
        assert column["count"] == 42
        assert math.isclose(column["mean"], values.mean(), rel_tol=1e-12)
        assert math.isclose(column["std"], values.std(ddof=1), rel_tol=1e-12)
        told = [column[key] for key in ("min", "q25", "q50", "q75", "max")]
        assert told == list(np.percentile(values, [0, 25, 50, 75, 100]))
        assert column["distinct"] == len(set(exported[name]))
        assert sum(column["histogram"]["counts"]) == 42
    assert (diagnosis["top"], diagnosis["freq"]) == ("benign", exported["diagnosis"].count("benign"))
    assert (diagnosis["count"], diagnosis["missing"], diagnosis["distinct"]) == (42, 0, 2)


def test_a_csv_export_holds_no_formula():
    datanet = make_datanet("Notes", kind="text")
    text = "=HYPERLINK(1) is how a formula begins, and this record has one at its beginning."
    content = (json.dumps({"title": "-1", "text": text}) + "\n").encode()
    approve_all(send(datanet, content, name="a.jsonl"))
    version = versions.freeze(datanet, by=person("erin"))

    exported = storage.get(exports.write(version, fmt="csv")).decode()
    assert "'=HYPERLINK" in exported
    assert ",'-1," in exported
    [row] = [json.loads(line) for line in storage.get(exports.write(version, fmt="jsonl")).splitlines()]
    assert row["text"].startswith("=HYPERLINK")


def test_a_withdrawn_record_leaves_later_exports_and_its_erasure_leaves_the_roots(django_capture_on_commit_callbacks):
    datanet, version = published(measured(4))
    record = Record.objects.filter(datanet=datanet).order_by("id").first()
    with pytest.raises(NotReady):
        records.erase(record)

    records.withdraw(record, by=person("alice"))
    with django_capture_on_commit_callbacks(execute=True):
        records.erase(record)

    assert pq.read_table(storage.open_file(exports.write(version, fmt="parquet"))).num_rows == 3
    record.refresh_from_db()
    assert (records.content_of(record), record.content_hmac, record.bands, bytes(record.signature)) == (
        None,
        "",
        [],
        b"",
    )
    assert verify.failures() == []
    [erased] = [held for held in versions.records_of(version) if held.id == record.pk]
    assert erased.body is None


def test_statistics_are_made_again_without_what_was_erased_and_nothing_else_of_the_version_changes():
    datanet, first = published([*measured(3), ("404.25", "17", "benign")])
    approve_all(send(datanet, table(measured(2, start=20)), by="bob"))
    second = versions.freeze(datanet, by=person("erin"), note="With Bob")
    mine = Record.objects.get(datanet=datanet, body__body__radius=404.25)
    records.withdraw(mine, by=person("alice"))
    third = versions.freeze(datanet, by=person("erin"))

    records.erase(mine)

    assert [Version.objects.get(pk=one.pk).statistics for one in (first, second)] == [{}, {}]
    assert versions.describe_again() == 2
    assert versions.describe_again() == 0
    for version, rows in ((first, 3), (second, 5), (third, 5)):
        told = Version.objects.get(pk=version.pk)
        assert (told.statistics["rows"], told.statistics["columns"][0]["max"] < 404) == (rows, True)
        assert (told.root, told.record_count, told.note) == (version.root, version.record_count, version.note)
    for change in ({"note": "Without Bob"}, {"record_count": 3}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Version.objects.filter(pk=second.pk).update(**change)


def test_an_export_is_written_once_and_deleted_when_a_record_of_it_is_withdrawn(django_capture_on_commit_callbacks):
    datanet, version = published(measured(4))
    key = exports.write(version, fmt="csv")
    storage.put(key, b"as it was")
    assert storage.get(exports.write(version, fmt="csv")) == b"as it was"
    exports.write(version, fmt="parquet")

    with django_capture_on_commit_callbacks(execute=True):
        records.withdraw(Record.objects.filter(datanet=datanet).earliest("id"), by=person("alice"))

    assert list(storage.keys_in(f"versions/{version.pk}/exports")) == []
    assert len(storage.get(exports.write(version, fmt="csv")).splitlines()) == 4


def test_an_export_during_which_a_record_is_withdrawn_is_written_again(monkeypatch):
    datanet, version = published(measured(4))
    record = Record.objects.filter(datanet=datanet).earliest("id")
    write_csv = exports._WRITERS["csv"]

    def write_slowly(*given):
        write_csv(*given)
        records.withdraw(record, by=person("alice"))

    monkeypatch.setitem(exports._WRITERS, "csv", write_slowly)
    key = exports.write(version, fmt="csv")

    assert record.identity.encode() not in storage.get(key)
    assert list(storage.keys_in(f"versions/{version.pk}/exports")) == [key]


def test_pictures_are_exported_in_batches_of_a_bounded_size(monkeypatch):
    monkeypatch.setattr(exports, "BATCH_BYTES", 1)
    datanet = make_datanet("Pictures", kind="image")
    pictures = {f"{n}.png": hostile.png(12, 12 + n) for n in range(3)}
    approve_all(send(datanet, hostile.zipped(pictures), name="all.zip"))
    version = versions.freeze(datanet, by=person("erin"))

    exported = pq.ParquetFile(storage.open_file(exports.write(version, fmt="parquet")))

    assert [exported.metadata.num_row_groups, exported.metadata.num_rows] == [3, 3]


def test_a_copy_of_an_erased_leader_is_still_a_copy():
    rows = measured(2)
    datanet = make_datanet()
    first = send(datanet, table(rows), by="alice")
    second = send(datanet, table(rows), by="bob")
    submissions.withdraw(first, by=person("alice"))

    third = send(datanet, table(rows), by="dan")

    leaders = set(Record.objects.filter(submission=first).values_list("id", flat=True))
    for submission in (second, third):
        assert set(Record.objects.filter(submission=submission).values_list("copy_of_id", flat=True)) == leaders


def test_verification_notices_what_a_superuser_changed():
    rows = measured(4)
    datanet, version = published([*rows, rows[0]])
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE datanets_record DISABLE TRIGGER record_facts_stay")
        cursor.execute("UPDATE datanets_record SET identity = %s WHERE position = 3", ["f" * 64])
        cursor.execute("ALTER TABLE datanets_record ENABLE TRIGGER record_facts_stay")
    assert [failure.invariant for failure in verify.failures()] == ["D1"]
