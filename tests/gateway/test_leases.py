"""Leases of processes, against the real books, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from ledger import chart
from ledger import services as ledger
from marketplace.gateway.database import DatabaseThread
from marketplace.gateway.errors import ApiError
from marketplace.gateway.leases import Leases
from tests import asynchronous
from tests.gateway.conftest import application_url

DAN = chart.wallet(4)


@contextlib.contextmanager
def connections(books, count: int = 1) -> Iterator[list[DatabaseThread]]:
    """One for each process."""
    threads = [DatabaseThread("leases", application_url(books)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()


def processes(threads: list[DatabaseThread]) -> list[Leases]:
    return [Leases(thread, owner=f"gateway:{number}", generation=1) for number, thread in enumerate(threads)]


async def held(thread: DatabaseThread) -> int:
    """What all processes have set aside."""

    def act(cursor) -> int:
        cursor.execute("SELECT held_nano FROM gateway_balances WHERE account = %s", [DAN])
        return cursor.fetchone()[0]

    return await thread.run(act)


def test_what_a_call_gives_back_before_a_lease_is_raised_is_enough_for_who_waits(books):
    books.deposit(DAN, 100)

    async def two_calls(leases: Leases) -> int:
        first = await leases.reserve(DAN, 100)
        # Nothing is left for the second. Before the lease is raised the first has ended for nothing.
        second = asyncio.ensure_future(leases.reserve(DAN, 90))
        await asyncio.sleep(0)
        leases.release(first, drawn_nano=0)
        reserved_nano = (await second).amount_nano
        leases.release(second.result(), drawn_nano=0)
        await leases.close_all()
        return reserved_nano

    with connections(books) as threads:
        assert asynchronous.run(two_calls(*processes(threads))) == 90
    assert ledger.balance(DAN).available_nano == 100
    assert ledger.open_holds(DAN) == []


def test_a_process_leaves_others_what_their_calls_may_need_and_what_it_took_goes_back(books):
    # Given a wallet for eight calls
    books.deposit(DAN, 800)

    async def calls(threads) -> int:
        first, second = processes(threads)
        # When one process answers a call, then another one can answer five at once
        running = [(first, await first.reserve(DAN, 100))]
        taken_nano = await held(threads[0])
        running += [(second, one) for one in await asyncio.gather(*(second.reserve(DAN, 100) for _ in range(5)))]
        # And once no call runs all of it is back, though neither process has ended
        for leases, reservation in running:
            leases.release(reservation, drawn_nano=0)
        async with asyncio.timeout(20):
            while await held(threads[0]):
                await asyncio.sleep(0.01)
        return taken_nano

    with connections(books, 2) as threads:
        assert asynchronous.run(calls(threads)) == 100 + 700 // 4


def test_a_lease_that_is_too_small_for_a_call_is_there_for_other_processes(books):
    books.deposit(DAN, 10_000)

    async def calls(threads) -> int:
        first, second = processes(threads)
        # Given a process with a lease that it does not use, and another one that needs all the rest
        first.release(await first.reserve(DAN, 100), drawn_nano=0)
        idle_nano = await held(threads[0])
        assert idle_nano == 400
        rest = await second.reserve(DAN, 10_000 - idle_nano)

        # When a call needs more than the lease has, then it is refused, and the lease goes back
        with pytest.raises(ApiError) as refused:
            await first.reserve(DAN, idle_nano + 1)
        assert refused.value.status == 402
        async with asyncio.timeout(20):
            while await held(threads[0]) > rest.amount_nano:
                await asyncio.sleep(0.01)
        second.release(rest, drawn_nano=0)
        whole = await second.reserve(DAN, 10_000)
        second.release(whole, drawn_nano=0)
        await second.close_all()
        return await held(threads[0])

    with connections(books, 2) as threads:
        assert asynchronous.run(calls(threads)) == 0
