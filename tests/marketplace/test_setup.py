"""`manage.py setup` and the sequencer: nothing is sold on a database that forgets, or that is an old copy."""

from __future__ import annotations

import os

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ledger import sequencer
from ledger import services as ledger
from marketplace.management.commands.setup import refuse_a_forgetful_server, refuse_an_old_copy
from tests.ledger.builders import ALICE, DAN, payment, witnesses
from tests.ledger.test_log import forget_after


@pytest.fixture
def restored(books, settings, tmp_path):
    """The witness has seen a head that this database, an older copy, does not have."""
    books.deposit(DAN, 100)
    with witnesses(tmp_path, count=1) as settings.WITNESSES:
        books.log()
        before = ledger.head()
        refuse_an_old_copy()
        ledger.post_many([payment(DAN, ALICE, 1)])
        books.log()
        forget_after(books, before.size)
        yield books


def test_a_site_on_an_old_copy_does_not_start(restored):
    with pytest.raises(CommandError, match=r"The site does not start.*Restore the newest copy"):
        refuse_an_old_copy()
    with pytest.raises(ledger.BehindWitness):
        call_command("sequencer", "--once")


def test_a_site_on_a_server_that_forgets_commits_does_not_start(db):
    """The tests' own server is one: it may lose everything."""
    with pytest.raises(CommandError, match="fsync, full_page_writes, synchronous_commit is off"):
        refuse_a_forgetful_server()


def test_who_waits_for_the_sequencer_does_not_judge_its_log(restored):
    """A head that a running sequencer moves meanwhile looks like an old copy to whoever asks beside it."""
    base = os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[0]
    running = psycopg2.connect(f"{base}/{connection.settings_dict['NAME']}")
    running.cursor().execute("SELECT pg_advisory_lock(hashtextextended('openledger sequencer', 0))")
    try:
        refuse_an_old_copy()
        call_command("sequencer", "--once")
        with sequencer.only_one("sequencer") as mine:
            assert not mine
    finally:
        running.close()
