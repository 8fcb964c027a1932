"""Rights of the application's and the sequencer's database roles on everything but the books (ledger.privileges)."""

from __future__ import annotations

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg2 import sql

#: What the gateway reads and calls besides tables (marketplace/sql/).
GATEWAY_VIEWS = (
    *("gateway_models", "gateway_prices", "gateway_keys", "gateway_accesses"),
    *("gateway_withdrawn", "gateway_passages", "gateway_sources", "gateway_calls", "gateway_balances"),
    *("gateway_free_calls", "gateway_wallet_owners"),
)
#: Only added to; a trigger refuses everybody else (marketplace/sql/immutable.sql, the second migration of datanets).
IMMUTABLE = (
    *("marketplace_pricelist", "marketplace_splitrule", "marketplace_modelterms", "marketplace_auditevent"),
    "datanets_rulechange",
)
GATEWAY_FUNCTIONS = (
    "capture_calls(jsonb)",
    "gateway_lives(text)",
    "gateway_free_key(bigint, text, uuid)",
    "gateway_take_key(bigint, text, bytea, uuid, text, int)",
    "gateway_take_free_call(bigint, uuid, int, uuid, text, int)",
    "gateway_lease_key(uuid, uuid, text, text, bigint, bigint, bigint, int, int)",
    "gateway_keep_key_leases(uuid[], int)",
    "gateway_end_key_lease(uuid)",
    "gateway_stop_captures(uuid)",
    "gateway_recount_key(uuid)",
    "gateway_take_rate(uuid, text, int, double precision, double precision, double precision)",
)
#: The sequencer closes epochs, posts their plans, asks which gateways live, and ends the leases of the others. It sees
#: nothing of people or their data.
SEQUENCER_TABLES = {
    "attribution_cut": "SELECT, INSERT",
    "attribution_epoch": "SELECT, INSERT, UPDATE",
    "attribution_plannedposting": "SELECT, UPDATE",
    "attribution_line": "SELECT",
    "attribution_scorecard": "SELECT",
}
SEQUENCER_FUNCTIONS = ("gateway_lives(text)", "gateway_key_lease_holders()", "gateway_end_key_leases_of(text)")


def apply(connection: BaseDatabaseWrapper, *, role: str) -> None:
    """Let `role` read and write every table except those of the ledger. The owner's own role needs no grant."""
    with connection.cursor() as cursor:
        if not _is_another_role(cursor, role):
            return
        name = sql.Identifier(role)
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for table in _tables(connection, cursor):
            cursor.execute(
                sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(sql.Identifier(table), name)
            )
        for table in IMMUTABLE:
            cursor.execute(sql.SQL("REVOKE UPDATE, DELETE ON {} FROM {}").format(sql.Identifier(table), name))
        cursor.execute(sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
        for view in GATEWAY_VIEWS:
            cursor.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(view), name))
        for signature in GATEWAY_FUNCTIONS:
            cursor.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(signature), name))


def apply_to_sequencer(connection: BaseDatabaseWrapper, *, role: str) -> None:
    """Let `role`, which the sequencer does not share, do what the sequencer does, and nothing else."""
    with connection.cursor() as cursor:
        if not _is_another_role(cursor, role):
            return
        name = sql.Identifier(role)
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for table in _tables(connection, cursor):
            cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(table), name))
        for table, rights in SEQUENCER_TABLES.items():
            cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.Identifier(table), name))
        for signature in SEQUENCER_FUNCTIONS:
            cursor.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(signature), name))


def _is_another_role(cursor: CursorWrapper, role: str) -> bool:
    """Whether it exists and is not ours: who owns the tables needs no grant."""
    cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s AND rolname <> current_user", [role])
    return bool(cursor.fetchone()[0])


def _tables(connection: BaseDatabaseWrapper, cursor: CursorWrapper) -> list[str]:
    """Every table except those of the ledger."""
    ledger_tables = {model._meta.db_table for model in apps.get_app_config("ledger").get_models()}
    return [table for table in connection.introspection.table_names(cursor) if table not in ledger_tables]
