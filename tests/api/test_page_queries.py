"""Every list, and every page of one thing, costs at most fifteen queries, and as many with a thousand rows as with ten."""

from __future__ import annotations

from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.api.test_page_authorisation import session_of

MOST = 15
NEW_ID = "gen_random_uuid()"
# Who looks at which page.
PAGES = {
    "home": (None, "/en/"),
    "datanets": ("alice", "/en/datanets/"),
    "datanet": ("carol", "/en/datanets/erin/tumours/"),
    "datanet for a stranger": ("zoe", "/en/datanets/erin/tumours/"),
    "datanet on request": ("zoe", "/en/datanets/erin/{on_request}/"),
    "datanet on request for a reader": ("bob", "/en/datanets/erin/{on_request}/"),
    "rules of a Datanet": ("carol", "/en/datanets/erin/tumours/rules/"),
    "search": ("alice", "/en/search/?q=tumours"),
    "models": ("dan", "/en/models/"),
    "model": ("dan", "/en/models/devi/check/"),
    "model with passes": ("dan", "/en/models/devi/passes/"),
    "rules of a model": ("dan", "/en/models/devi/check/rules/"),
    "split rule": (None, "/en/rules/{sha256}/"),
    "what if": (
        "alice",
        "/en/models/devi/check/what-if/?rule-data=40&rule-curation=5&rule-developer=50&rule-platform=5&rule-owner=0",
    ),
    "people": ("dan", "/en/people/alice/"),
    "owner": ("dan", "/en/people/devi/"),
    "submissions": ("alice", "/en/contribute/"),
    "draft": ("alice", "/en/contribute/{submission_id}/"),
    "submission in review": ("alice", "/en/contribute/{in_review}/"),
    "rejected submission": ("alice", "/en/contribute/{rejected_submission}/"),
    "planted records": ("erin", "/en/datanets/erin/tumours/gold/"),
    "accuracy of a curator": ("carol", "/en/review/accuracy/"),
    "review queue": ("carol", "/en/review/"),
    "review of all records": ("carol", "/en/review/{in_review}/?tab=all"),
    "review of records to look at": ("carol", "/en/review/{in_review}/?tab=look"),
    "review of checks": ("carol", "/en/review/{in_review}/?tab=checks"),
    "review of provenance": ("carol", "/en/review/{in_review}/?tab=provenance"),
    "appeals": ("frank", "/en/review/appeals/"),
    "reported records": ("carol", "/en/review/reports/"),
    "theft disputes": ("carol", "/en/thefts/"),
    "noise cases": ("erin", "/en/noise/"),
    "noise case": ("erin", "/en/noise/{case_id}/"),
    "my models": ("devi", "/en/build/models/"),
    "my model": ("devi", "/en/build/models/{model_id}/"),
    "keys": ("dan", "/en/build/keys/"),
    "usage": ("dan", "/en/build/usage/"),
    "usage of a shared wallet": ("dan", "/en/build/usage/?wallet={wallet_id}"),
    "inbox": ("alice", "/en/inbox/"),
    "webhooks": ("dan", "/en/settings/webhooks/"),
    "webhook": ("dan", "/en/settings/webhooks/{webhook_id}/"),
    "earnings": ("alice", "/en/earnings/"),
    "earnings by Datanet": ("alice", "/en/earnings/?by=datanet"),
    "earnings, what changed": ("alice", "/en/earnings/changes/"),
    "payment": ("alice", "/en/earnings/payments/{epoch_id}/data/"),
    "record in an epoch": ("alice", "/en/earnings/payments/{epoch_id}/records/{record_id}/"),
    "why of a line": ("alice", "/en/earnings/lines/{line_id}/"),
    "wallet": ("alice", "/en/wallet/"),
    "wallets": ("dan", "/en/wallets/"),
    "shared wallet": ("dan", "/en/wallets/{wallet_id}/"),
    "members of a wallet": ("dan", "/en/wallets/{wallet_id}/members/"),
    "test money": ("dan", "/en/build/tests/"),
    "refunds": ("dan", "/en/build/refunds/"),
    "refunds to decide": ("ada", "/en/admin-desk/refunds/"),
    "pending": ("alice", "/en/wallet/pending/"),
    "explorer": ("alice", "/en/ledger/"),
    "settled epochs": ("alice", "/en/ledger/epochs/"),
    "totals of models": ("alice", "/en/ledger/totals/"),
    "checkpoint": ("alice", "/en/ledger/checkpoints/{size}/"),
    "payout runs": ("ada", "/en/admin-desk/payouts/"),
    "payout run": ("ada", "/en/admin-desk/payouts/{draft_run}/"),
    "deposits": ("ada", "/en/admin-desk/deposits/"),
    "accounts of nobody": ("ada", "/en/admin-desk/accounts/"),
    "statement of the platform": ("ada", "/en/admin-desk/accounts/platform:fees/"),
    "adjustments": ("ada", "/en/admin-desk/adjustments/"),
    "audit": ("ada", "/en/admin-desk/audit/"),
    "receipt": ("dan", "/r/{receipt_id}"),
    "receipt of a disputed call": ("dan", "/r/{disputed}"),
    "receipt for a developer": ("devi", "/r/{receipt_id}"),
    "receipt for a payee": ("alice", "/r/{receipt_id}"),
    "receipt for everybody": (None, "/r/{receipt_id}"),
    "receipt of an epoch": ("alice", "/r/{epoch_id}"),
    "why of a call": ("dan", "/en/calls/{call_id}/why/"),
    "record": ("alice", "/en/records/{record_id}/"),
    "record for a curator": ("carol", "/en/records/{record_id}/"),
    "record for a stranger": ("dan", "/en/records/{record_id}/"),
    "rejected record": ("carol", "/en/records/{rejected_id}/"),
    "my data": ("alice", "/en/settings/data/export.json"),
    "exceptions": ("ada", "/en/admin-desk/exceptions/"),
    "revenue": ("ada", "/en/admin-desk/revenue/"),
    "revenue of a period": ("ada", "/en/admin-desk/revenue/?since=2020-01-01&until=2099-12-31"),
}


def test_every_list_costs_the_same_few_queries_for_ten_rows_as_for_a_thousand(world):
    """Rows are made by SQL here, not through the services: twenty tables of a thousand rows in seconds."""
    for name in {name for name, _address in PAGES.values() if name}:
        session = session_of(name)  # outlives what is rolled back below
        # The first page of a session looks at more than the others: which terms its person agreed to.
        Client(headers={"cookie": f"{settings.SESSION_COOKIE_NAME}={session}"}).get("/en/docs/api/")
    with transaction.atomic():
        # A query that stands still is named, and does not take the whole run with it.
        connection.cursor().execute("SET LOCAL statement_timeout = '60s'")
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
    _copies("datanets_golditem", f"id = '{ids['gold_id']}'", count, id=NEW_ID)
    _copies("datanets_theftdispute", f"id = '{ids['theft_id']}'", count, id=NEW_ID)
    _copies("attribution_noisecase", f"id = '{ids['case_id']}'", count, id=NEW_ID)
    _copies("attribution_noiserecord", f"case_id = '{ids['case_id']}'", count, record_id=of_new_record, model_id=NEW_ID)
    _copies("datanets_rulechange", "true", count, after="""'"Name it"'""")
    _copies("marketplace_modelterms", f"model_id = '{ids['model_id']}'", count)
    _copies("marketplace_pricelist", f"model_id = '{ids['model_id']}'", count, id=NEW_ID)
    new_call = f"md5({slug})::uuid"
    _copies("marketplace_call", f"id = '{ids['call_id']}'", count, id=new_call)
    _copies(
        "marketplace_apikey",
        f"id = '{ids['key_id']}'",
        count,
        id=NEW_ID,
        prefix=f"'open_sk_{mark}' || n",
        sha256=f"sha256(({slug})::bytea)",
    )
    _copies("marketplace_notification", f"user_id = {user('alice')}", count, id=NEW_ID, event_id=NEW_ID)
    newest = f"(SELECT id FROM marketplace_notification WHERE user_id = {user('alice')} ORDER BY id DESC OFFSET n - 1 LIMIT 1)"
    _copies("marketplace_webhookdelivery", f"id = '{ids['delivery_id']}'", count, id=NEW_ID, notice_id=newest)
    _copies("marketplace_webhookendpoint", f"id = '{ids['webhook_id']}'", count, id=NEW_ID)
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
    _copies("marketplace_adjustment", f"id = '{ids['adjustment_id']}'", count, id=NEW_ID, posting_id=NEW_ID)
    _copies("marketplace_auditevent", "true", count)
    # Payees of the settled call; and of one record: versions that hold it, copies, reports, findings, epochs and calls.
    _copies("accounts_user", "username = 'bob'", count, username=slug, email=f"{slug} || '@open.test'")
    of_call, of_record = f"source_id = '{ids['call_id']}'", f"record_id = {ids['record_id']}"
    of_new_payee = f"(SELECT id FROM accounts_user WHERE username = {slug})"
    _copies("attribution_line", f"{of_call} AND role = 'data' AND payee_id IS NOT NULL", count, payee_id=of_new_payee)
    of_pool = f"datanet_id = (SELECT id FROM datanets_datanet WHERE slug = '{ids['slug']}')"
    _copies("datanets_version", of_pool, count, id=NEW_ID, number=f"{numbers} + n")
    _copies(
        "datanets_record",
        f"id = {ids['record_in_review']}",
        count,
        copy_of_id=str(ids["record_id"]),
        identity="encode(sha256(gen_random_uuid()::text::bytea), 'hex')",
        content_hmac="''",
        position="nextval('many')",
    )
    _copies("datanets_report", f"id = '{ids['report_id']}'", count, id=NEW_ID, status="'lapsed'", closed_at="now()")
    _copies("datanets_checkresult", "true", count, record_id=str(ids["record_id"]))
    _copies("attribution_recordline", of_record, count, source_id=NEW_ID)
    _copies("attribution_recordepoch", of_record, count, model_version_id=NEW_ID)
    # What the desk looks at: refunds of the new calls, and training that failed.
    made = {"status": "'made'", "grounds": "'error'", "made_at": "now()", "was_settled": "true"}
    _copies("marketplace_refund", f"call_id = '{ids['asked_back']}'", count, id=NEW_ID, call_id=new_call, **made)
    _copies("marketplace_dispute", f"id = '{ids['dispute_id']}'", count, id=NEW_ID, call_id=new_call)
    ids_of_run = dict.fromkeys(("id", "posting_id"), NEW_ID)
    _copies("marketplace_trainingrun", "true", count, **ids_of_run, hold_id="NULL", status="'failed'")
    # One submission: more files, broken rows, findings, copies of another record, rejections.
    draft, in_review = (f"submission_id = '{ids[name]}'" for name in ("submission_id", "in_review"))
    _copies("datanets_submissionfile", draft, count, id=NEW_ID)
    _copies("datanets_brokenrow", f"id = {ids['row_id']}", count)
    _copies("datanets_checkresult", f"{in_review} AND record_id IS NULL", count)
    new = {"identity": "encode(sha256(gen_random_uuid()::text::bytea), 'hex')", "content_hmac": "''"}
    copied = {"copy_of_id": str(ids["record_id"]), "copy_distance": "0.1"}
    for which in (draft, in_review):
        _copies("datanets_record", which, count, **new, **copied, position="nextval('many')")
    _copies("datanets_record", f"id = {ids['rejected_id']}", count, **new, position="nextval('many')")
    # Nobody else sees these rows, autovacuum neither, so the planner has to be told of them here.
    connection.cursor().execute("ANALYZE")


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
