"""Every list costs at most fifteen queries, and as many with a thousand rows as with ten."""

from __future__ import annotations

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.api.test_page_authorisation import session_of

MOST = 15
NEW_ID = "gen_random_uuid()"
# Who looks at which list.
PAGES = {
    "home": (None, "/en/"),
    "datanets": ("alice", "/en/datanets/"),
    "datanet": ("carol", "/en/datanets/erin/tumours/"),
    "rules of a Datanet": ("carol", "/en/datanets/erin/tumours/rules/"),
    "search": ("alice", "/en/search/?q=tumours"),
    "models": ("dan", "/en/models/"),
    "model": ("dan", "/en/models/devi/check/"),
    "rules of a model": ("dan", "/en/models/devi/check/rules/"),
    "people": ("dan", "/en/people/alice/"),
    "owner": ("dan", "/en/people/devi/"),
    "submissions": ("alice", "/en/contribute/"),
    "review queue": ("carol", "/en/review/"),
    "appeals": ("frank", "/en/review/appeals/"),
    "reported records": ("carol", "/en/review/reports/"),
    "theft disputes": ("carol", "/en/thefts/"),
    "my models": ("devi", "/en/build/models/"),
    "keys": ("dan", "/en/build/keys/"),
    "usage": ("dan", "/en/build/usage/"),
    "inbox": ("alice", "/en/inbox/"),
    "earnings": ("alice", "/en/earnings/"),
    "earnings by Datanet": ("alice", "/en/earnings/?by=datanet"),
    "wallet": ("alice", "/en/wallet/"),
    "refunds": ("dan", "/en/build/refunds/"),
    "refunds to decide": ("ada", "/en/admin-desk/refunds/"),
    "pending": ("alice", "/en/wallet/pending/"),
    "explorer": ("alice", "/en/ledger/"),
    "checkpoint": ("alice", "/en/ledger/checkpoints/{size}/"),
    "payout runs": ("ada", "/en/admin-desk/payouts/"),
    "payout run": ("ada", "/en/admin-desk/payouts/{draft_run}/"),
    "deposits": ("ada", "/en/admin-desk/deposits/"),
    "audit": ("ada", "/en/admin-desk/audit/"),
}


def test_every_list_costs_the_same_few_queries_for_ten_rows_as_for_a_thousand(world):
    """Rows are made by SQL here, not through the services: twenty tables of a thousand rows in seconds."""
    for name in {name for name, _address in PAGES.values() if name}:
        session = session_of(name)  # outlives what is rolled back below
        # The first page of a session looks at more than the others: which terms its person agreed to.
        Client(headers={"cookie": f"{settings.SESSION_COOKIE_NAME}={session}"}).get("/en/docs/api/")
    with transaction.atomic():
        _more(world.ids, 9, "few")
        few = {name: _queries(world, *page) for name, page in PAGES.items()}
        _more(world.ids, 990, "many")
        many = {name: _queries(world, *page) for name, page in PAGES.items()}
        transaction.set_rollback(True)

    assert {name: count for name, count in many.items() if count > MOST} == {}
    assert {name: (count, many[name]) for name, count in few.items() if count != many[name]} == {}


def _queries(world, name: str | None, address: str) -> int:
    client = Client()
    if name:
        client.cookies[settings.SESSION_COOKIE_NAME] = session_of(name)
    cache.clear()  # what is kept for a minute must be cheap to make, too
    with CaptureQueriesContext(connection) as asked:
        answer = client.get(address.format(**world.ids))
    assert answer.status_code == 200, (address, answer.status_code)
    return len(asked)


def _more(ids: dict, count: int, mark: str) -> None:
    """That many more rows like the world's own, in each table that a list reads."""
    slug = f"'{mark}-' || n"
    user = "(SELECT id FROM accounts_user WHERE username = '{}')".format
    _copies("datanets_datanet", f"slug = '{ids['slug']}'", count, id=NEW_ID, slug=slug)
    _copies("marketplace_listedmodel", f"slug = '{ids['model_slug']}'", count, id=NEW_ID, slug=slug)
    _copies("datanets_submission", f"id = '{ids['in_review']}'", count, id=NEW_ID, title=slug)
    _copies(
        "datanets_record",
        f"id = {ids['record_in_review']}",
        count,
        submission_id=f"(SELECT id FROM datanets_submission WHERE title = {slug})",
        identity="encode(sha256(gen_random_uuid()::text::bytea), 'hex')",
        content_hmac="''",
        position="nextval('many')",
    )
    _copies(
        "datanets_record",
        f"datanet_id = (SELECT id FROM datanets_datanet WHERE slug = '{ids['slug']}') AND status = 'approved'",
        count,
        identity="encode(sha256(gen_random_uuid()::text::bytea), 'hex')",
        content_hmac="''",
        position="nextval('many')",
    )
    newest = f"contributor_id = {user('alice')} AND status = 'approved' ORDER BY id DESC OFFSET n - 1 LIMIT 1"
    of_new_record = f"(SELECT id FROM datanets_record WHERE {newest})"
    _copies("datanets_report", f"id = '{ids['report_id']}'", count, id=NEW_ID, record_id=of_new_record)
    _copies("datanets_theftdispute", f"id = '{ids['theft_id']}'", count, id=NEW_ID)
    _copies("datanets_rulechange", "true", count, after="""'"Name it"'""")
    _copies("marketplace_modelterms", f"model_id = '{ids['model_id']}'", count)
    _copies("marketplace_pricelist", f"model_id = '{ids['model_id']}'", count, id=NEW_ID)
    _copies("marketplace_call", f"id = '{ids['call_id']}'", count, id=NEW_ID)
    _copies(
        "marketplace_apikey",
        f"id = '{ids['key_id']}'",
        count,
        id=NEW_ID,
        prefix=slug,
        sha256=f"sha256(({slug})::bytea)",
    )
    _copies("marketplace_notification", f"user_id = {user('alice')}", count, id=NEW_ID)
    numbers = {"few": 1000, "many": 2000}[mark]
    run = f"id = '{ids['draft_run']}'"
    _copies("marketplace_payoutrun", run, count, id=NEW_ID, number=f"{numbers} + n")
    items = dict.fromkeys(("id", "in_run_posting_id", "end_posting_id", "hold_id"), NEW_ID)
    _copies("marketplace_withdrawal", f"run_{run}", count, **items)
    of_new_run = f"(SELECT id FROM marketplace_payoutrun WHERE number = {numbers} + n)"
    _copies("marketplace_withdrawal", f"run_{run}", count, **items, run_id=of_new_run)
    _copies(
        "marketplace_deposit",
        f"id = '{ids['deposit_id']}'",
        count,
        id=NEW_ID,
        external_reference=slug,
        posting_id=NEW_ID,
    )
    _copies("marketplace_auditevent", "true", count)


def _copies(table: str, which: str, count: int, **changed: str) -> None:
    """Copies of one row; `changed`: columns that must differ, as SQL over the number n of the copy."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE IF NOT EXISTS many START 1000")
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s "
            "AND is_identity = 'NO' AND is_generated = 'NEVER'",
            [table],
        )
        columns = [name for (name,) in cursor.fetchall()]
        taken = ", ".join(changed.get(name, f't."{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {taken} "
            f"FROM (SELECT * FROM {table} WHERE {which} ORDER BY 1 LIMIT 1) t, generate_series(1, {count}) n"
        )
        assert cursor.rowcount == count, table
