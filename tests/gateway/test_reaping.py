"""What a dead gateway holds is released by the sequencer; what a living one holds is left alone."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager

from django.conf import settings

from ledger import chart
from ledger import services as ledger
from marketplace.reaping import Reaper
from tests.books import as_role

WALLET = chart.wallet(1)


def hold_of(owner: str):
    id = ledger.new_id()
    ledger.hold(id=id, account=WALLET, amount_nano=10, expires_in_s=60, owner=owner)
    return id


@contextmanager
def alive(books, name: str):
    """A connection that says, as long as this lasts, that a gateway of this name lives."""
    with closing(books.connect()) as session:
        session.autocommit = True
        session.cursor().execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", [name])
        yield
        # Of a closed connection the server hears later than the next statement of another.
        session.cursor().execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", [name])


def open_ids() -> set:
    return {hold.id for hold in ledger.open_holds(WALLET)}


def test_only_what_a_dead_gateway_holds_is_released(books):
    books.deposit(WALLET, 100)
    dead, living, others = hold_of("gateway:dead"), hold_of("gateway:alive"), hold_of("")

    with alive(books, "gateway:alive"), as_role(settings.SEQUENCER_DB_ROLE):
        assert Reaper(grace_s=1000).reap() == 0
        assert Reaper(grace_s=0).reap() == 1

    assert open_ids() == {living, others}
    assert ledger.balance(WALLET).held_nano == 20
    assert ledger.close(dead) == 0


def test_a_gateway_that_had_lost_its_connection_starts_its_grace_anew(books):
    books.deposit(WALLET, 100)
    hold_of("gateway:flickers")
    reaper = Reaper(grace_s=0.2, every_s=0)
    assert reaper.reap() == 0

    with alive(books, "gateway:flickers"):
        time.sleep(0.3)
        assert reaper.reap() == 0
    assert reaper.reap() == 0
    time.sleep(0.3)

    assert reaper.reap() == 1
    assert open_ids() == set()
