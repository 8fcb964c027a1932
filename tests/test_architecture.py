"""What ARCHITECTURE.md promises and import-linter cannot see."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

from ledger import chart
from ledger import services as ledger
from tests.ledger.builders import DAN, hold, payment
from tests.mutations import REMOVALS

ROOT = Path(__file__).resolve().parent.parent
# What each app may name in its SQL: itself, and what is below it.
BELOW = {
    "accounts": set(),
    "ledger": {"accounts"},
    "datanets": {"accounts"},
    "attribution": {"ledger", "datanets", "accounts"},
    "marketplace": {"attribution", "ledger", "datanets", "accounts"},
}
SQL = sorted(ROOT.glob("*/sql/*.sql"))


@pytest.mark.parametrize("path", SQL, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_sql_reads_and_calls_downwards_and_writes_its_own_tables_only(path):
    app = path.parts[-3]
    text = re.sub(r"--.*", "", path.read_text())
    named = set(re.findall(rf"\b({'|'.join(BELOW)})_\w+", text))
    assert named <= {app} | BELOW[app]
    written = re.findall(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE)\s+(?:ONLY\s+)?([a-z]\w*_\w+)", text)
    assert {table for table in written if table.split("_")[0] in BELOW.keys() - {app}} == set()


def test_there_is_sql_to_look_at():
    assert {path.parts[-3] for path in SQL} == {"ledger", "marketplace"}


@pytest.mark.parametrize("module", settings.VERIFY_MODULES)
def test_a_verify_module_imports_nothing_of_the_code_it_verifies(module):
    app = module.split(".")[0]
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(filter(None, [app if node.level else "", node.module]))
            imported |= {package} if package.count(".") else {f"{package}.{alias.name}" for alias in node.names}
    ours = {name for name in imported if name.split(".")[0] in BELOW}
    assert ours <= {f"{app}.models"}


def test_money_whose_time_has_come_moves_without_celery_and_its_queue(books):
    # Given a payment that has waited long enough, a hold nobody closed, work to ring for - and neither queue nor worker
    books.deposit(DAN, 100)
    ledger.post_many([payment(DAN, chart.pending(1), 30, vest_after_s=0)])
    hold(DAN, 50)
    with closing(books.connect("DATABASE_SUPERUSER_URL")) as session, session:
        session.cursor().execute("UPDATE ledger_hold SET expires_at = clock_timestamp()")
    ledger.enqueue(topic="tests.nobody", reference="test:1", payload={})
    environment = {
        **os.environ,
        "DATABASE_URL": books.url("DATABASE_APP_URL"),
        "DATABASE_SEQUENCER_URL": books.url("DATABASE_SEQUENCER_URL"),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "WITNESS_QUORUM": "0",
    }

    # When the sequencer works
    for _round in range(2):
        command = [sys.executable, "manage.py", "sequencer", "--once"]
        assert subprocess.run(command, cwd=ROOT, env=environment).returncode == 0

    # Then the payment is in its wallet, the hold is released, and the ring has not been forgotten
    assert ledger.balance_nano(chart.wallet(1)) == 30
    assert ledger.open_holds(DAN) == []
    assert [row.reference for row in ledger.pending_outbox("tests.nobody")] == ["test:1"]


def test_each_named_safeguard_stands_where_its_removal_looks_for_it():
    # `tests/mutations.py` says so, too, but takes a quarter of an hour.
    moved = [one.name for one in REMOVALS if (ROOT / one.file).read_text(encoding="utf-8").count(one.text) != 1]

    assert moved == []
