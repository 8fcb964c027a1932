"""What the database roles of the application and of the sequencer may do to the books: read them, and call functions.

Neither can insert, change or delete a row of any ledger table, so a mistake or an intruder in the web process meets the
same rules as everyone else. `manage.py setup` calls `apply` as the owner, after every migration.
"""

from __future__ import annotations

from django.db import connection

#: What web, gateway and workers call.
FOR_THE_APPLICATION = (
    *("ledger_post", "ledger_hold", "ledger_extend", "ledger_draw", "ledger_close"),
    *("ledger_hold_lot", "ledger_hold_ahead", "ledger_release_lot", "ledger_forget_reasons"),
    *("ledger_record", "ledger_erase"),
    *("ledger_enqueue", "ledger_outbox_done", "ledger_outbox_failed"),
)
#: What the sequencer's steps call: its own functions, then what it needs to release the holds of the dead (fence) and to
#: settle epochs. Whoever may call its own can append a leaf of their making, or keep a head that nobody signed: verifiers
#: and `verify` would see it, the database would not. So nobody else may.
FOR_THE_SEQUENCER = (
    *("ledger_fold", "ledger_vest", "ledger_expire", "ledger_ring"),
    *("ledger_next_entries", "ledger_append", "ledger_sign", "ledger_cosign"),
    *("ledger_fence", "ledger_post", "ledger_record", "ledger_enqueue"),
)


def apply(role: str, *, sequencer_role: str) -> None:
    """Give each role what it needs and take the rest away. Repeats are harmless.

    A role that does not exist, or that owns the tables (then only triggers protect them), is left alone.

    Args:
        role: The application's role.
        sequencer_role: The sequencer's; `role` again where both share one.
    """
    if sequencer_role == role:
        _grant(role, FOR_THE_APPLICATION + FOR_THE_SEQUENCER)
    else:
        _grant(role, FOR_THE_APPLICATION)
        _grant(sequencer_role, FOR_THE_SEQUENCER)


def _grant(role: str, functions: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s AND rolname <> current_user", [role])
        if not cursor.fetchone()[0]:
            return
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
