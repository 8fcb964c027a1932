"""Leases of one process, against the real books, without HTTP."""

from __future__ import annotations

import asyncio
import os

from ledger import chart
from ledger import services as ledger
from marketplace.gateway.database import DatabaseThread
from marketplace.gateway.leases import Leases
from tests import asynchronous

DAN = chart.wallet(4)


def test_what_a_call_gives_back_before_a_lease_is_raised_is_enough_for_who_waits(books):
    books.deposit(DAN, 100)
    thread = DatabaseThread("leases", os.environ["DATABASE_APP_URL"].rsplit("/", 1)[0] + f"/{books.name}")
    thread.start()

    async def two_calls() -> int:
        leases = Leases(thread, owner="gateway:test", generation=1)
        first = await leases.reserve(DAN, 60)
        # The second needs more than the 40 that are left. Before the lease is raised the first has ended for nothing.
        second = asyncio.ensure_future(leases.reserve(DAN, 90))
        await asyncio.sleep(0)
        leases.release(first, drawn_nano=0)
        reserved_nano = (await second).amount_nano
        leases.release(second.result(), drawn_nano=0)
        await leases.close_all()
        return reserved_nano

    try:
        assert asynchronous.run(two_calls()) == 90
    finally:
        thread.stop()
    assert ledger.balance(DAN).available_nano == 100
    assert ledger.open_holds(DAN) == []
