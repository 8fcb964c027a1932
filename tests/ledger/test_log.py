"""The public log: from a posting or a fact to a receipt that a stranger can check."""

from __future__ import annotations

import json

import pytest
from django.conf import settings

from ledger import chart, keys, log, notes, receipts, sequencer, strict, verify
from ledger import services as ledger
from tests.ledger.builders import ALICE, DAN, charge_entry, payment, witnesses


def rule(name: str) -> ledger.Entry:
    return ledger.Entry("rule.adopted", {"rule": name, "parts": [5, 55, 35, 5]})


def test_a_charge_is_waiting_then_sequenced_then_proved(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    made = ledger.Posting(
        id=ledger.new_id(),
        kind=ledger.Kind.ACCESS_CHARGED,
        reference="access:1",
        moves=[ledger.Move(DAN, ALICE, 12), ledger.Move(DAN, chart.FEES, 12)],
        entry=charge_entry(24),
    )
    ledger.post_many([made])
    with witnesses(tmp_path) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        monkeypatch.setattr(settings, "WITNESS_QUORUM", 2)

        assert ledger.receipt(made.id, with_openings=True) == ledger.Receipt("waiting", None)
        assert sequencer.log() == 2
        assert ledger.receipt(made.id, with_openings=True) == ledger.Receipt("sequenced", None)
        assert sequencer.sign_and_witness() == 3
        proved = ledger.receipt(made.id, with_openings=True)

        assert proved.status == "proved"
        steps = receipts.verify_receipt(json.dumps(proved.body), ledger.log_vkey(), ledger.witness_vkeys(), 2)
        assert [step for step in steps if not step.ok] == []
        assert proved.body["openings"]["price"]["value"] == "24"
        assert "openings" not in ledger.receipt(made.id, with_openings=False).body
        assert verify.check_cosignatures(ledger.witness_vkeys()) == []
        (name, _own), (_other, key), *_more = (vkey.split("+", 1) for vkey in ledger.witness_vkeys())
        assert [one.invariant for one in verify.check_cosignatures([f"{name}+{key}"])] == ["I9"]
        assert ledger.head().cosigned_by == ["witness0.example", "witness1.example", "witness2.example"]
    assert ledger.receipt(ledger.new_id(), with_openings=True) is None
    assert verify.failures() == verify.check_signatures([ledger.log_vkey()]) == []


def test_receipts_stay_provable_as_the_log_grows(books, monkeypatch, tmp_path):
    books.deposit(DAN, 1000)
    made = []
    with witnesses(tmp_path) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        monkeypatch.setattr(settings, "WITNESS_QUORUM", 2)
        for size in (1, 2, 5, 13):
            made += [payment(DAN, ALICE, 1) for _ in range(size)]
            ledger.post_many(made[-size:])
            books.log()
        for posting in made:
            body = ledger.receipt(posting.id, with_openings=True).body
            steps = receipts.verify_receipt(json.dumps(body), ledger.log_vkey(), ledger.witness_vkeys(), 2)
            assert all(step.ok for step in steps)
    assert ledger.head().size == ledger.log_size() == 22
    assert verify.failures() == []


def test_one_dead_witness_of_three_does_not_matter_two_do(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    sequencer.log()
    dead = {"url": "http://127.0.0.1:1", "vkey": _other_vkey("dead")}
    with witnesses(tmp_path, count=2) as told:
        monkeypatch.setattr(settings, "WITNESS_QUORUM", 2)
        monkeypatch.setattr(settings, "WITNESSES", [told[0], dead])
        assert sequencer.sign_and_witness() == 1
        assert ledger.head() == ledger.Head(0, ledger.head().root, "", "", [])
        assert sequencer.lag()["unwitnessed_s"] > 0
        monkeypatch.setattr(settings, "WITNESSES", [*told, dead])
        assert sequencer.sign_and_witness() == 1, "the one that has not cosigned yet"
        assert ledger.head().size == 1
        assert sequencer.lag()["unwitnessed_s"] == 0


def test_a_line_that_is_not_of_the_pinned_witness_does_not_count(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    sequencer.log()
    with witnesses(tmp_path, count=1) as told:
        monkeypatch.setattr(settings, "WITNESSES", [{**told[0], "vkey": _other_vkey("witness0.example")}])
        assert sequencer.sign_and_witness() == 0


def test_the_site_refuses_to_start_behind_the_witnessed_head(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    with witnesses(tmp_path, count=1) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        sequencer.check_not_behind_witness()
        books.log()
        sequencer.check_not_behind_witness()
        before = ledger.head()
        ledger.post_many([payment(DAN, ALICE, 1)])
        books.log()
        sequencer.check_not_behind_witness()
        # The database comes back from an older copy: the last leaf and head are gone, the witness remembers.
        forget_after(books, before.size)

        with pytest.raises(ledger.BehindWitness):
            sequencer.check_not_behind_witness()
        ledger.post_many([payment(DAN, ALICE, 2)])
        sequencer.log()
        with pytest.raises(ledger.BehindWitness):
            sequencer.sign_and_witness()


def test_a_database_restored_from_before_the_first_head_is_refused_too(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    with witnesses(tmp_path, count=1) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        books.log()
        forget_after(books, 0)
        with pytest.raises(ledger.BehindWitness):
            sequencer.check_not_behind_witness()


def test_an_old_copy_that_went_on_beyond_the_witnessed_head_is_refused_too(books, monkeypatch, tmp_path):
    books.deposit(DAN, 100)
    with witnesses(tmp_path, count=1) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        books.log()
        before = ledger.head()
        ledger.post_many([payment(DAN, ALICE, 1)])
        books.log()
        # Restored from before that posting, it grew longer than the head that the witness saw while nobody asked.
        forget_after(books, before.size)
        ledger.post_many([payment(DAN, ALICE, 2), payment(DAN, ALICE, 3)])
        sequencer.log()
        assert ledger.log_size() == before.size + 2

        with pytest.raises(ledger.BehindWitness, match="of size 2 that this log of size 3 does not extend"):
            sequencer.sign_and_witness()
        with pytest.raises(ledger.BehindWitness, match="that this log of size 3 does not extend"):
            sequencer.check_not_behind_witness()


def test_a_fact_is_recorded_once(books):
    id = ledger.new_id()

    assert ledger.record_fact(id=id, reference="rule:1", entry=rule("a"))
    assert not ledger.record_fact(id=id, reference="rule:1", entry=rule("a"))
    with pytest.raises(ledger.PayloadMismatch):
        ledger.record_fact(id=id, reference="rule:1", entry=rule("b"))
    with pytest.raises(ledger.PayloadMismatch):
        ledger.record_fact(id=id, reference="rule:2", entry=rule("a"))

    assert ledger.leaf_of(id) is None
    assert ledger.entry_of(id).public["rule"] == "a"
    books.log()
    assert ledger.leaf_of(id) == 0
    assert verify.failures() == []


def test_an_entry_the_log_could_not_publish_is_refused_at_once(books):
    with pytest.raises(strict.Malformed):
        ledger.record_fact(id=ledger.new_id(), reference="x", entry=ledger.Entry("no.such", {}))
    books.deposit(DAN, 100)
    wrong = ledger.Entry(**{**charge_entry(24).__dict__, "private": {"buyer": "user:4", "price": "23"}})
    with pytest.raises(strict.Malformed):
        ledger.post_many([payment(DAN, ALICE, 24, entry=wrong)])
    assert ledger.balance_nano(DAN) == 100


def test_a_malformed_entry_of_a_posting_does_not_stop_the_log(books):
    books.deposit(DAN, 100)
    made = payment(DAN, ALICE, 24)
    said = made.said() | {"entry": {"type": "call.charged", "public": {"odd": 1.5}, "private": {}, "split": None}}
    from ledger import database
    from ledger.legs import batch

    database.rows("SELECT ledger_post(%s)", database.as_json(batch([said])))

    assert books.log() == 2
    assert ledger.entry_of(made.id).type == "posting.made"
    assert (
        ledger.receipt(made.id, with_openings=True).body["openings"]["posting"]["value"]["moves"][0]["amount"] == "24"
    )
    assert verify.failures() == []


def test_entries_are_read_by_range_type_and_clear_fields(books):
    ids = [ledger.new_id() for _ in range(5)]
    for number, id in enumerate(ids):
        ledger.record_fact(id=id, reference=f"rule:{number}", entry=rule("ab"[number % 2]))
    books.deposit(DAN, 100)
    books.log()

    assert [row.id for row in ledger.entries(0, 99, types=["rule.adopted"])] == ids
    assert [row.index for row in ledger.entries(1, 4)] == [1, 2, 3]
    found = list(ledger.entries(0, 99, public_filter={"rule": "b"}))
    assert [(row.id, row.public) for row in found] == [
        (ids[1], {"rule": "b", "parts": [5, 55, 35, 5]}),
        (ids[3], {"rule": "b", "parts": [5, 55, 35, 5]}),
    ]
    assert next(ledger.entries(5, 6)).public == {"kind": "deposit"}


def test_what_the_public_may_read_names_no_account_and_no_amount(books):
    books.deposit(chart.wallet(987654321), 123456789)
    books.log()

    (row,) = ledger.entries(0, 1)
    (leaf,) = log.Leaf.objects.values_list("body", flat=True)

    assert row.public == {"kind": "deposit"}
    assert "987654321" not in json.dumps(leaf)
    assert "123456789" not in json.dumps(leaf)


def test_erasing_a_secret_leaves_every_receipt_provable(books):
    books.deposit(DAN, 100)
    made = payment(DAN, ALICE, 24)
    ledger.post_many([made])
    books.log()
    before = ledger.receipt(made.id, with_openings=False)

    assert ledger.erase_openings([made.id]) == 1

    assert ledger.receipt(made.id, with_openings=True) == before
    assert all(step.ok for step in receipts.verify_receipt(json.dumps(before.body), ledger.log_vkey(), [], 0))
    assert verify.failures() == []


def test_the_log_key_is_made_once_and_read_by_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LOG_KEY_FILE", str(tmp_path / "log.key"))

    assert keys.make_log_key()
    first = keys.log_vkey()
    assert not keys.make_log_key()

    assert keys.log_vkey() == first == keys.signing_keys()[0].verifier.encode()
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "log.key").chmod(0o644)
    with pytest.raises(keys.ImproperlyConfigured):
        keys.signing_keys()


def _other_vkey(name: str) -> str:
    return notes.new_signing_key(name, notes.WITNESS_KEY).verifier.encode()


def forget_after(books, size: int) -> None:
    """Make the database what it was when the log had `size` leaves, as a restore does."""
    with books.connect("DATABASE_SUPERUSER_URL") as session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # no triggers
        cursor.execute("DELETE FROM ledger_cosignature WHERE size > %s", [size])
        cursor.execute("DELETE FROM ledger_checkpoint WHERE size > %s", [size])
        cursor.execute(
            "DELETE FROM ledger_journal WHERE id IN (SELECT entry_id FROM ledger_leaf WHERE index >= %s)", [size]
        )
        cursor.execute("DELETE FROM ledger_leaf WHERE index >= %s", [size])
        cursor.execute("DELETE FROM ledger_node WHERE (index + 1) << level > %s", [size])
        cursor.execute("UPDATE ledger_cursor SET next_index = %s WHERE name = 'log'", [size])
