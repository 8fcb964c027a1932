"""`manage.py setup` and the sequencer: nothing is sold on a database that forgets, or that is an old copy."""

from __future__ import annotations

import os
import re
from contextlib import closing
from io import StringIO

import psycopg2
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from ledger import locks, sequencer
from ledger import services as ledger
from ledger.publication import Publication
from marketplace.management.commands.setup import grant_rights, refuse_a_forgetful_server, refuse_an_old_copy
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
    told = StringIO()
    with pytest.raises(CommandError):
        call_command("verify", stderr=told)
    assert re.search("I9 head 1: .* has cosigned a head of size 2 that is not ours", told.getvalue())


def test_a_site_on_an_old_copy_does_not_start_while_the_witnesses_are_away(books, settings, caplog):
    settings.WITNESSES, settings.WITNESS_QUORUM = [], 0
    books.deposit(DAN, 100)
    books.log()
    before = ledger.head()
    ledger.post_many([payment(DAN, ALICE, 1)])
    books.log()
    Publication(settings.LOG_DIR).step()
    refuse_an_old_copy()

    # Given an older copy, and nobody who could tell but the files that everybody has read
    forget_after(books, before.size)
    settings.WITNESSES = [{"url": "http://127.0.0.1:1", "vkey": ledger.log_vkey()}]
    settings.WITNESS_QUORUM = 1

    with pytest.raises(
        CommandError, match=r"shows a head of size 2 that is not in these books.*Restore the newest copy"
    ):
        refuse_an_old_copy()
    with pytest.raises(ledger.BehindWitness):
        call_command("sequencer", "--once")
    assert "0 of 1 witnesses answered, 1 are needed" in caplog.text

    # Grown beyond it, it is another history
    ledger.post_many([payment(DAN, ALICE, 2), payment(DAN, ALICE, 3)])
    sequencer.log()
    sequencer.sign_and_witness()
    with pytest.raises(CommandError, match="is not in these books"):
        refuse_an_old_copy()


def test_a_site_on_a_server_that_forgets_commits_does_not_start(db):
    """The tests' own server is one: it may lose everything."""
    with pytest.raises(CommandError, match="fsync, full_page_writes, synchronous_commit is off"):
        refuse_a_forgetful_server()


def test_the_sequencer_sees_nothing_of_people_their_data_and_their_calls(books):
    with closing(books.connect("DATABASE_SEQUENCER_URL")) as session, session.cursor() as cursor:
        cursor.execute(
            """SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace
               AND NOT starts_with(relname, 'ledger_')
               AND has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"""
        )
        assert {name for (name,) in cursor.fetchall()} == {
            *("attribution_cut", "attribution_epoch", "attribution_plannedposting", "attribution_line"),
            "attribution_scorecard",  # figures of models, which an epoch freezes
        }


def test_a_site_of_one_role_gets_its_sequencer_a_role_at_a_later_setup(books, settings):
    def may_fold() -> list[bool]:
        with books.connect() as owner, owner.cursor() as cursor:
            roles = [settings.APP_DB_ROLE, "openledger_sequencer"]
            cursor.execute(
                "SELECT has_function_privilege(role, 'ledger_fold(int)', 'EXECUTE') FROM unnest(%s) AS role", [roles]
            )
            return [allowed for (allowed,) in cursor.fetchall()]

    # Given a site whose sequencer shares the application's role, by which all of its work can be done
    own = settings.SEQUENCER_DB_ROLE
    settings.SEQUENCER_DB_ROLE = settings.APP_DB_ROLE
    grant_rights()
    books.deposit(DAN, 100)
    assert books.round()["logged"] == 1

    # When the sequencer has one of its own, then the application may not do it any more
    settings.SEQUENCER_DB_ROLE = own
    grant_rights()
    assert may_fold() == [False, True]

    # And a role that nobody made is asked for
    settings.SEQUENCER_DB_ROLE = "openledger_nobody"
    with pytest.raises(CommandError, match=r"no role openledger_nobody\. Create it as deploy/initdb/10-roles\.sh"):
        grant_rights()


def test_who_waits_for_the_sequencer_does_not_judge_its_log(restored):
    """A head that a running sequencer moves meanwhile looks like an old copy to whoever asks beside it."""
    base = os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[0]
    running = psycopg2.connect(f"{base}/{connection.settings_dict['NAME']}")
    running.cursor().execute("SELECT pg_advisory_lock(hashtextextended('openledger sequencer', 0))")
    try:
        refuse_an_old_copy()
        call_command("sequencer", "--once")
        with locks.only_one("sequencer") as mine:
            assert not mine
    finally:
        running.close()
