"""A new key for the log: whoever pins the old one can follow, and what it signed stays true."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client

from ledger import keys, notes, verify
from ledger import services as ledger
from marketplace import receipts as shop
from tests.ledger.builders import ALICE, DAN, payment, witnesses


@pytest.fixture
def log_keys(tmp_path, monkeypatch):
    """Keys of this test's own."""
    monkeypatch.setattr(settings, "LOG_KEY_FILE", str(tmp_path / "log.key"))
    monkeypatch.setattr(settings, "LOG_VKEY_FILE", str(tmp_path / "log.vkey"))
    keys.make_log_key()


def proved(books, *, folder) -> str:
    """The file of a receipt made now."""
    posting = payment(DAN, ALICE, 1)
    ledger.post_many([posting])
    books.log()
    file = folder / f"{posting.id}.json"
    file.write_text(json.dumps(ledger.receipt(posting.id, with_openings=True).body))
    return str(file)


def offline(file: str, *more: str, log_vkey: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "verify_receipt.py", "receipt", file, "--log", log_vkey]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False)


def test_a_log_changes_its_key_and_nobody_loses_sight_of_it(books, log_keys, tmp_path, monkeypatch):
    books.deposit(DAN, 100)
    old = keys.log_vkey()
    monkeypatch.setattr(settings, "WITNESS_QUORUM", 2)
    with witnesses(tmp_path, count=2) as told:
        monkeypatch.setattr(settings, "WITNESSES", told)
        quorum = ["--witness", *ledger.witness_vkeys(), "--quorum", "2"]
        before = proved(books, folder=tmp_path)
        assert offline(before, *quorum, log_vkey=old).returncode == 0
        with pytest.raises(keys.RotationUnfinished, match="one key only"):
            keys.retire()

        # When a key is added, and by mistake once more
        announced = keys.rotate()
        new = keys.log_vkey()
        assert (announced["old"], announced["new"], keys.rotate()) == (old, new, announced)
        with pytest.raises(CommandError, match="no witnessed head covers the announcement"):
            call_command("keys", "retire")

        # Then every head carries both signatures, and witnesses that know one of them go on
        meanwhile = proved(books, folder=tmp_path)
        for vkey in (old, new):
            assert offline(meanwhile, *quorum, log_vkey=vkey).returncode == 0
        (entry,) = ledger.entries(0, 99, types=["key.rotated"])
        assert entry.public == announced and notes.is_rotation_signed(entry.public)

        # And whoever pins the old key reads the new one in a receipt that the old one signed
        told_so = tmp_path / "rotated.json"
        told_so.write_text(json.dumps(ledger.receipt(entry.id, with_openings=False).body))
        assert f"the key of the log is now {new}" in offline(str(told_so), *quorum, log_vkey=old).stdout
        forged = told_so.read_text().replace(announced["new_signature"], announced["old_signature"])
        (tmp_path / "forged.json").write_text(forged)
        assert offline(str(tmp_path / "forged.json"), log_vkey=old).returncode == 1

        # And the old key is kept while the witnesses know no other
        with pytest.raises(keys.RotationUnfinished, match="start these witnesses with both keys first"):
            keys.retire()
    with witnesses(tmp_path, count=2) as told:  # started again, with both keys
        monkeypatch.setattr(settings, "WITNESSES", told)
        call_command("keys", "retire")
        after = proved(books, folder=tmp_path)

    # Then each receipt verifies by the keys of its time, and the file says which one is meant
    assert offline(after, *quorum, log_vkey=new).returncode == 0
    refused = offline(after, *quorum, log_vkey=old)
    assert refused.returncode == 1
    assert f"the key {old.split('+')[1]} did not sign this; if the log has another key by now" in refused.stderr
    assert offline(before, *quorum, log_vkey=old).returncode == 0
    assert offline(before, *quorum, log_vkey=new).returncode == 1
    for file, text in [(before, "by a key it has changed since"), (meanwhile, "signature of"), (after, "signature of")]:
        with open(file, "rb") as receipt:
            steps = shop.check(receipt.read())
        assert shop.is_verified(steps)
        assert text in next(step["text"] for step in steps if step["key"] == "log_signature")
    assert (verify.failures(), verify.check_signatures(keys.log_vkeys())) == ([], [])
    assert verify.check_signatures([old]) != []

    # And the site shows both keys, and signs with one
    assert [key.verifier.encode() for key in keys.signing_keys()] == [new]
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    page = Client().get("/en/ledger/").content.decode()
    assert new in page and old in page
    head = Client().get("/api/v1/ledger/").json()
    assert (head["log_vkey"], head["former_log_vkeys"]) == (new, [old])


def test_a_change_of_keys_that_died_half_way_is_finished_by_repeating_it(books, log_keys, tmp_path):
    books.deposit(DAN, 100)
    old = keys.log_vkey()

    with pytest.raises(RuntimeError), transaction.atomic():
        keys.rotate()
        raise RuntimeError("the machine goes down: the files are written, the entry is not")
    (tmp_path / "log.vkey").write_text(f"{old}\n")
    announced = keys.rotate()

    assert keys.log_vkeys() == [announced["new"], old]
    books.log()
    assert len(list(ledger.entries(0, 99, types=["key.rotated"]))) == 1
    assert verify.check_signatures([old]) == verify.check_signatures([announced["new"]]) == []
