"""When a target is left alone, and when it is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.gateway.breaker import Breaker, Health, State

FAILURES_MAX, OPEN_S = 3, 10.0


def breaker() -> Breaker:
    return Breaker(FAILURES_MAX, OPEN_S)


def opened(now: float = 0.0) -> Breaker:
    found = breaker()
    for _ in range(FAILURES_MAX):
        found.failed(found.turn, now)
    return found


def test_it_opens_at_the_last_of_the_failures_in_a_row():
    found = breaker()
    for _ in range(FAILURES_MAX - 1):
        found.failed(found.enter(0.0), 0.0)
    assert found.state is State.CLOSED
    found.succeeded(found.enter(0.0))
    for _ in range(FAILURES_MAX - 1):
        found.failed(found.enter(0.0), 0.0)
    assert found.enter(0.0) is not None

    found.failed(found.enter(0.0), 0.0)

    assert found.enter(OPEN_S - 0.01) is None


def test_after_its_time_one_call_tries_and_the_others_wait_for_what_it_meets():
    found = opened()
    probe = found.enter(OPEN_S)
    assert (found.enter(OPEN_S), found.state) == (None, State.HALF_OPEN)

    found.failed(probe, OPEN_S)
    assert found.enter(2 * OPEN_S - 0.01) is None
    found.succeeded(found.enter(2 * OPEN_S))

    assert found.state is State.CLOSED
    assert found.failures == 0


def test_the_first_byte_of_the_probe_lets_the_others_in_until_the_next_failure():
    found = opened()
    probe = found.enter(OPEN_S)

    found.answered(probe)
    assert found.enter(OPEN_S) is not None
    found.failed(probe, OPEN_S)

    assert found.state is State.OPEN


def test_a_probe_that_says_nothing_leaves_its_place_to_the_next_call():
    found = opened()

    found.undecided(found.enter(OPEN_S))

    assert found.enter(OPEN_S) is not None
    assert found.enter(OPEN_S) is None


@pytest.mark.parametrize("report", ["succeeded", "undecided", "answered"])
def test_what_a_call_from_before_has_to_say_is_old_news(report):
    found = breaker()
    old = found.enter(0.0)
    for _ in range(FAILURES_MAX):
        found.failed(old, 0.0)

    getattr(found, report)(old)
    found.failed(old, 9.0)

    assert (found.state, found.open_until) == (State.OPEN, OPEN_S)


ACTS = st.lists(
    st.one_of(
        st.just(("enter", 0)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["answered", "succeeded", "failed", "undecided"]), st.integers(0, 20)),
    ),
    max_size=80,
)


@given(ACTS)
def test_in_any_order_of_calls_and_reports_nobody_enters_while_it_is_open_and_one_while_it_is_tried(acts):
    found, now, running = breaker(), 0.0, []
    probe = None
    for act, number in acts:
        before = found.state, found.open_until
        if act == "wait":
            now += number
        elif act == "enter":
            turn = found.enter(now)
            if before[0] is State.OPEN and now < before[1]:
                assert turn is None
            if before[0] is State.HALF_OPEN:
                assert turn is None, "a second probe"
            if before[0] is State.CLOSED or (before[0] is State.OPEN and now >= before[1]):
                assert turn is not None
            if before[0] is State.OPEN and turn is not None:
                probe = turn
            running += [] if turn is None else [turn]
        elif running:
            turn = running[number % len(running)]
            if act == "failed":
                found.failed(turn, now)
            else:
                getattr(found, act)(turn)
            if act != "answered":
                running.remove(turn)
            if before[0] is State.HALF_OPEN and turn != probe:
                assert found.state is State.HALF_OPEN, "somebody else decided for the probe"
        assert found.failures < FAILURES_MAX or found.state is not State.CLOSED
        # While it is being tried, who tries has not ended: it can never stay shut for good.
        assert found.state is not State.HALF_OPEN or probe in running


@given(st.lists(st.booleans(), max_size=40))
def test_without_as_many_failures_in_a_row_every_call_enters(ends):
    found, in_a_row = breaker(), 0
    for fails in ends:
        turn = found.enter(0.0)
        assert (turn is None) == (in_a_row >= FAILURES_MAX)
        if turn is None:
            return
        in_a_row = in_a_row + 1 if fails else 0
        if fails:
            found.failed(turn, 0.0)
        else:
            found.succeeded(turn)


def test_targets_have_breakers_of_their_own_and_the_first_that_may_be_asked_again_tells_the_wait():
    now = [100.0]
    health = Health(failures_max=1, open_s=OPEN_S, clock=lambda: now[0])
    assert health.enter("a").failed()
    now[0] += 4
    assert health.enter("a") is None
    assert health.enter("b").failed()

    assert health.wait_s(["a", "b"]) == 6
    now[0] += 6
    assert health.enter("a").is_probe
    assert health.wait_s(["a", "b"]) == 1
