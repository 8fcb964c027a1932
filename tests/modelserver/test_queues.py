"""Lanes and turns, without a model."""

from __future__ import annotations

import asyncio
import threading

import pytest

from modelserver.queues import Busy, Lane, PaidFirst, Stopped
from tests import asynchronous


def test_a_lane_serves_in_the_order_of_arrival_and_refuses_beyond_its_places():
    async def story():
        lane, served, release = Lane(running=1, waiting=2), [], asyncio.Event()

        async def caller(name):
            async with lane.place():
                served.append(name)
                await release.wait()

        callers = [asyncio.ensure_future(caller(name)) for name in ("Alice", "Bob", "Dan")]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await caller("Erin")
        release.set()
        await asyncio.gather(*callers)
        return served, refused.value.retry_after_s, lane.held

    served, retry_after_s, held = asynchronous.run(story())
    assert served == ["Alice", "Bob", "Dan"]
    assert retry_after_s >= 1
    assert held == 0


def test_a_caller_who_stops_waiting_frees_the_place():
    async def story():
        lane = Lane(running=1, waiting=1)
        async with lane.place():
            waiting = asyncio.ensure_future(lane.place().__aenter__())
            await asyncio.sleep(0)
            assert lane.held == 2
            waiting.cancel()
            await asyncio.wait([waiting])
            assert lane.held == 1
        async with lane.place():
            return lane.held

    assert asynchronous.run(story()) == 1


def test_between_two_steps_a_caller_lets_those_go_first_who_wait():
    async def story():
        lane, steps = Lane(running=1, waiting=2), []

        async def caller(name, count):
            async with lane.place() as turn:
                for step in range(count):
                    if step:
                        await turn.let_others()
                    steps.append(name)
                    await asyncio.sleep(0)

        await asyncio.gather(caller("long", 3), caller("short", 1))
        return steps, lane.held

    assert asynchronous.run(story()) == (["long", "short", "long", "long"], 0)


def test_a_caller_who_gives_up_while_others_go_first_takes_no_turn_from_them():
    async def story():
        lane, release = Lane(running=1, waiting=2), asyncio.Event()

        async def first():
            async with lane.place() as turn:
                await asyncio.sleep(0)
                await turn.let_others()

        async def other():
            async with lane.place():
                await release.wait()

        gives_up, runs = asyncio.ensure_future(first()), asyncio.ensure_future(other())
        await asyncio.sleep(0.01)
        gives_up.cancel()
        await asyncio.wait([gives_up])
        waits = asyncio.ensure_future(other())
        await asyncio.sleep(0.01)
        both = lane.held
        assert not waits.done()
        release.set()
        await asyncio.gather(runs, waits)
        return both, lane.held

    assert asynchronous.run(story()) == (2, 0)


def test_background_work_takes_its_turn_only_without_paid_calls():
    priority, stepped = PaidFirst(), threading.Event()

    def background():
        priority.wait_turn(threading.Event())
        stepped.set()

    with priority.paid(), priority.paid():
        thread = threading.Thread(target=background)
        thread.start()
        assert not stepped.wait(0.1)
    assert stepped.wait(5)
    thread.join()


def test_background_work_that_nobody_waits_for_ends():
    priority, stop = PaidFirst(), threading.Event()
    with priority.paid():
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(Stopped):
            priority.wait_turn(stop)
