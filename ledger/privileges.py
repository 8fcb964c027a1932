"""What the application's database role may do to the books: read them, and call the functions that keep them.

It cannot insert, change or delete a row of any ledger table, so a mistake or an intruder in the web process meets the
same rules as everyone else. `manage.py setup` calls `apply` as the owner, after every migration.
"""

from __future__ import annotations

from django.db import connection

#: The functions anybody who works with the books calls.
FOR_EVERYONE = (
    *("ledger_post", "ledger_hold", "ledger_extend", "ledger_draw", "ledger_close", "ledger_fence"),
    *("ledger_hold_lot", "ledger_release_lot", "ledger_record", "ledger_erase"),
    *("ledger_enqueue", "ledger_outbox_done", "ledger_outbox_failed"),
)
#: The functions of the sequencer's steps. Whoever may call them can append a leaf of their own making, or keep a head
#: that nobody signed: verifiers and `verify` would see it, the database would not. While the sequencer runs as the
#: application's role, so can the application; a role of its own (`sequencer_role`) keeps them from the rest.
FOR_THE_SEQUENCER = (
    *("ledger_fold", "ledger_vest", "ledger_expire", "ledger_ring"),
    *("ledger_next_entries", "ledger_append", "ledger_sign", "ledger_cosign"),
)


def apply(role: str, *, sequencer_role: str | None = None) -> bool:
    """Give a role what it needs and take the rest away. Repeats are harmless.

    Args:
        role: The application's role.
        sequencer_role: The sequencer's, if it has one of its own; None: it runs as `role`.

    Returns:
        False if there was nothing to do: the role does not exist, or owns the tables (then only triggers protect them).
    """
    applied = _grant(role, FOR_EVERYONE if sequencer_role else FOR_EVERYONE + FOR_THE_SEQUENCER)
    if sequencer_role:
        _grant(sequencer_role, FOR_EVERYONE + FOR_THE_SEQUENCER)
    return applied


def _grant(role: str, functions: tuple[str, ...]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s AND rolname <> current_user", [role])
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(
            """SELECT (SELECT array_agg(oid::regclass::text) FROM pg_class WHERE relkind = 'r'
                         AND relnamespace = 'public'::regnamespace AND starts_with(relname, 'ledger_')),
                      (SELECT array_agg(oid::regprocedure::text) FROM pg_proc
                       WHERE pronamespace = 'public'::regnamespace AND starts_with(proname, 'ledger_')),
                      (SELECT array_agg(oid::regprocedure::text) FROM pg_proc
                       WHERE pronamespace = 'public'::regnamespace AND proname = ANY (%s)),
                      quote_ident(%s)""",
            [list(functions), role],
        )
        tables, every_function, granted, grantee = cursor.fetchone()
        # Every name below comes from the catalogue, quoted by it.
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {grantee}")
        cursor.execute(f"REVOKE ALL ON {', '.join(tables)} FROM {grantee}")
        cursor.execute(f"GRANT SELECT ON {', '.join(tables)} TO {grantee}")
        cursor.execute(f"REVOKE ALL ON FUNCTION {', '.join(every_function)} FROM PUBLIC, {grantee}")
        cursor.execute(f"GRANT EXECUTE ON FUNCTION {', '.join(granted)} TO {grantee}")
    return True
