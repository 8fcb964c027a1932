"""Rights of the application's database role on everything but the books (ledger.privileges has those)."""

from __future__ import annotations

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2 import sql

#: What the gateway reads and calls besides tables (marketplace/sql/).
GATEWAY_VIEWS = (
    *("gateway_models", "gateway_prices", "gateway_keys", "gateway_accesses"),
    *("gateway_withdrawn", "gateway_passages", "gateway_calls", "gateway_spent", "gateway_balances"),
)
#: Only added to; a trigger refuses everybody else (marketplace/sql/immutable.sql).
IMMUTABLE = ("marketplace_pricelist", "marketplace_splitrule", "marketplace_auditevent")
GATEWAY_FUNCTIONS = (
    "capture_calls(jsonb)",
    "gateway_lives(text)",
    "gateway_free_key(bigint, text, uuid)",
    "gateway_take_key(bigint, text, bytea, uuid, text, int)",
)


def apply(connection: BaseDatabaseWrapper, *, role: str) -> None:
    """Let `role` read and write every table except those of the ledger. The owner's own role needs no grant."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %s)", [role])
        current, exists = cursor.fetchone()
        if not exists or current == role:
            return
        name = sql.Identifier(role)
        ledger_tables = {model._meta.db_table for model in apps.get_app_config("ledger").get_models()}
        tables = [t for t in connection.introspection.table_names(cursor) if t not in ledger_tables]
        cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for table in tables:
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
