"""The two ends of the gateway's benchmark, put together: bench/load.py counts what bench/upstream.py answers."""

from __future__ import annotations

import orjson

from bench import load, upstream
from tests import asynchronous


def put(model: str, *, clients: int = 2, seconds: float = 0.0, stream: bool = False) -> load.Load:
    """A load on an upstream of its own; with no seconds each client makes one call."""

    async def act() -> load.Load:
        server = await upstream.serve(0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            requests = [load.request(model, key="none", stream=stream)]
            return await load.put(port, requests, clients=clients, seconds=seconds)

    return asynchronous.run(act())


def test_a_load_counts_whole_answers_and_streams_that_come_to_their_end():
    for model, stream in (("fast", False), ("slow", False), ("fast", True)):
        made = put(model, clients=3, stream=stream)

        assert made.succeeded == 3 == len(made.latencies_s)
        assert not made.failed


def test_a_load_counts_what_is_refused_or_breaks_off_as_failed():
    assert put("unknown").failed == {404: 2}
    assert put("breaks", stream=True).failed == {200: 2}


def test_what_the_upstream_says_that_it_used_is_what_it_sends():
    whole = orjson.loads(upstream._WHOLE.partition(b"\r\n\r\n")[2])

    assert len(whole["choices"][0]["message"]["content"].split()) == whole["usage"]["completion_tokens"]
    assert len(upstream._PIECES) == whole["usage"]["completion_tokens"]
