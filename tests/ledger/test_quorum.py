"""Witnesses that die and come back: calls go on, receipts wait, everybody is told, and nobody has to repair anything."""

from __future__ import annotations

import json
import logging
import signal
from contextlib import closing

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from ledger import keys, receipts, sequencer, verify
from ledger import services as ledger
from ledger.witness import load_key
from tests.ledger.builders import ALICE, DAN, payment
from tests.ledger.test_witness import Running


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Two witnesses as processes, one by each of its commands; `start(number)` starts one of them, on its port of before."""
    running: dict[int, Running] = {}
    ports = [0, 0]
    # Which keys manage.py takes when it is told none: those of the site.
    site = {
        "LOG_KEY_FILE": settings.LOG_KEY_FILE,
        "STATE_DIR": str(tmp_path),
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/x",
    }

    def start(number: int) -> None:
        more = [
            {"log_vkey": keys.log_vkey()},
            {"log_vkey": "", "command": ("manage.py", "witness"), "environment": site},
        ][number]
        made = running[number] = Running(tmp_path / f"w{number}", name=f"w{number}.test", port=ports[number], **more)
        assert made.port, made.process.stderr.read()
        ports[number] = made.port

    def kill(number: int) -> None:
        running.pop(number).stop(signal.SIGKILL)

    for number in range(2):
        start(number)
    vkeys = [load_key(tmp_path / f"w{number}", f"w{number}.test").verifier.encode() for number in range(2)]
    told = [{"url": f"http://127.0.0.1:{port}", "vkey": vkey} for port, vkey in zip(ports, vkeys, strict=True)]
    monkeypatch.setattr(settings, "WITNESSES", told)
    monkeypatch.setattr(settings, "WITNESS_QUORUM", 2)
    monkeypatch.setattr(sequencer, "WITNESS_PAUSE_S", 0)  # one that was away is asked again at once
    yield start, kill
    for made in running.values():
        made.stop()


def explorer() -> str:
    return Client().get("/en/ledger/").content.decode()


def test_without_a_quorum_calls_go_on_and_receipts_wait_until_the_witnesses_are_back(books, processes, caplog):
    start, kill = processes
    books.deposit(DAN, 100)
    books.log()
    assert ledger.head().cosigned_by == ["w0.test", "w1.test"]

    # When both witnesses die
    kill(0)
    kill(1)
    paid = payment(DAN, ALICE, 10)
    ledger.post_many([paid])
    books.log()

    # Then what was paid is paid, its receipt waits, and after a minute it is said to whoever looks
    assert ledger.balance_nano(DAN) == 90
    waiting = Client().get(f"/r/{paid.id}.json")
    assert (waiting.status_code, waiting["Retry-After"], waiting.json()) == (202, "1", {"status": "sequenced"})
    assert "Witnesses are missing." not in explorer()
    with closing(books.connect("DATABASE_SUPERUSER_URL")) as session, session, session.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE ledger_checkpoint SET signed_at = signed_at - interval '61 s'")
    assert "Witnesses are missing." in explorer()
    with caplog.at_level(logging.ERROR):
        assert sequencer.report_late() == ["unwitnessed_s"]
    assert "unwitnessed is late" in caplog.text

    # When one is back, then it is not enough
    start(0)
    books.log()
    assert ledger.head().size == 1
    assert Client().get(f"/r/{paid.id}.json").status_code == 202

    # When the other one is too, then nothing else has to be done
    start(1)
    books.log()
    proved = Client().get(f"/r/{paid.id}.json")
    assert proved.status_code == 200
    steps = receipts.verify_receipt(proved.content, ledger.log_vkey(), ledger.witness_vkeys(), 2)
    assert [step for step in steps if not step.ok] == []
    assert "Witnesses are missing." not in explorer()
    assert sequencer.report_late() == []
    assert verify.failures() == verify.check_cosignatures(ledger.witness_vkeys()) == []
    assert json.loads(proved.content)["proof"].count("w1.test") == 1


def test_the_command_prints_the_key_that_it_would_serve_with(tmp_path, capsys):
    call_command("witness", state=tmp_path / "w", name="w.test", print_vkey=True)
    assert capsys.readouterr().out.strip() == load_key(tmp_path / "w", "w.test").verifier.encode()
    with pytest.raises(CommandError, match="--port and --log-vkey are needed"):
        call_command("witness", state=tmp_path / "w", name="w.test", log_vkey=[" "])
