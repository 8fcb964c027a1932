"""A test that cannot fail proves nothing: take a safeguard away, and see the test that is there for it fail.

    python3 dev.py test -n 2 tests/mutations.py                  every removal; its name keeps it out of the usual run
    python3 dev.py test -n 0 tests/mutations.py -k two_admins    one removal

Each removal is a text that stands exactly once in a file. It is applied to a copy of the repository (with what is not
committed yet), and the named tests run there in a process of their own. They must pass without the removal, and with it
each must fail in its body: a test that cannot start shows nothing. docs/mutations.md tells how to add one.

Long, because it is a list; what applies it comes after the list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import psycopg2
import pytest

from tests.nursery import Nursery

ROOT = Path(__file__).resolve().parent.parent
RUN_S_MAX = 420  # of one process; a removal may make a test wait for its own time-outs


class Removal(NamedTuple):
    """A safeguard and the tests that notice when it is gone.

    Attributes:
        text: What is taken away; stands exactly once in `file`.
        instead: What stands there afterwards.
        tests: Node ids. Each must fail; one without its parameters must fail for at least one of them.
        why: What could happen without the safeguard.
    """

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]
    why: str

    @property
    def changes_tables(self) -> bool:
        return self.file.endswith(".sql") or "/migrations/" in self.file


# Runs in the copy: migrates a database, and leaves the statements that did it and the names of what it imported.
_MIGRATE = """
import json, sys
import django, pytest, pytest_django.plugin
django.setup()
import marketplace.urls
from django.db import connection
from django.test.utils import setup_databases

statements = []
def keep(execute, sql, params, many, context):
    assert not many
    statements.append(sql if params is None else context["cursor"].mogrify(sql, params).decode())
    return execute(sql, params, many, context)

with connection.execute_wrapper(keep):
    setup_databases(0, False, aliases={"default"})
json.dump(statements, open(sys.argv[1] + "/statements", "w"))
json.dump([*sys.modules], open(sys.argv[1] + "/modules", "w"))
"""


REMOVALS = [
    # --- Ledger
    Removal(
        "payload_that_finished_work_forgets",
        "ledger/sql/outbox.sql",
        "done_at = clock_timestamp(), payload = '{}'",
        "done_at = clock_timestamp()",
        ("tests/ledger/test_sequencer.py::test_what_finished_work_needed_is_forgotten",),
        "the sealed content of a call, and its key, would outlive the call's own term and an erasure",
    ),
    Removal(
        "last_owner_of_a_wallet",
        "marketplace/sharing.py",
        "    SharedWallet.objects.select_for_update().get(pk=member.wallet_id)\n    member =",
        "    member =",
        ("tests/marketplace/test_sharing.py::test_the_last_owner_stays_even_if_two_leave_at_once",),
        "two owners who leave at once would leave money that nobody can take out",
    ),
    Removal(
        "keys_end_with_a_membership",
        "marketplace/sharing.py",
        "    _check_another_owner(member)\n    _revoke_keys(member)\n",
        "    _check_another_owner(member)\n",
        ("tests/marketplace/test_sharing.py::test_who_is_removed_or_only_looks_loses_their_keys_and_no_others",),
        "who was removed would go on spending from the wallet",
    ),
    Removal(
        "keys_of_spenders_only",
        "marketplace/sql/catalogue.sql",
        "m.role IN ('owner', 'spender')",
        "true",
        ("tests/marketplace/test_sharing.py::test_the_key_of_a_viewer_would_not_work",),
        "a key that was forgotten when its maker became a viewer would spend",
    ),
    Removal(
        "only_spenders_make_keys",
        "marketplace/keys.py",
        "    roles.require_spender(owner, made_by)\n",
        "",
        ("tests/marketplace/test_sharing.py::test_who_is_removed_or_only_looks_loses_their_keys_and_no_others",),
        "anybody could make a key on anybody's wallet",
    ),
    Removal(
        "invitations_to_proved_addresses",
        "marketplace/sharing.py",
        "EmailAddress.objects.filter(user=person, verified=True)",
        "EmailAddress.objects.filter(user=person)",
        ("tests/marketplace/test_sharing.py::test_an_invitation_is_for_who_has_the_handle_or_has_proved_the_address",),
        "who only claims an address could join the wallet of those who invited it",
    ),
    Removal(
        "proposed_rule_waits_for_its_lock",
        "marketplace/proposals.py",
        ".filter(not_before__lte=timezone.now())",
        "",
        ("tests/marketplace/test_rules.py::test_a_proposed_rule_holds_with_the_first_price_list_after_its_lock",),
        "contributors would hear of another split rule when it already pays them",
    ),
    Removal(
        "test_money_apart",
        "ledger/sql/checks.sql",
        "\n     OR (0 < ANY (accounts) AND 0 > ANY (accounts))",
        "",
        ("tests/gateway/test_test_keys.py::test_no_posting_moves_test_money_into_the_real_books_or_out_of_them",),
        "free test money could be moved into a wallet and withdrawn",
    ),
    Removal(
        "numbers_of_test_accounts",
        "ledger/sql/chart.sql",
        "CHECK (ledger_is_test(code) = (id < 0))",
        "CHECK (true)",
        ("tests/gateway/test_test_keys.py::test_no_posting_moves_test_money_into_the_real_books_or_out_of_them",),
        "a test account of another number would escape the check of the journal",
    ),
    Removal(
        "told_to_end_before_serving",
        "marketplace/gateway/__main__.py",
        'lambda *_: setattr(server, "should_exit", True)',
        "lambda *_: None",
        ("tests/gateway/test_workers.py::test_who_is_told_to_end_before_it_serves_does_not_go_on",),
        "A worker whose supervisor dies while it starts would live on and keep the port from the next one.",
    ),
    Removal(
        "test_answers_are_no_real_ones",
        "marketplace/gateway/charging.py",
        'return f"test\\n{self.idempotency_key}" if self.is_test else self.idempotency_key',
        "return self.idempotency_key",
        ("tests/gateway/test_test_keys.py::test_a_test_answer_is_never_replayed_to_a_real_call",),
        "a real call would get the stand-in of a test with the same Idempotency-Key",
    ),
    Removal(
        "free_calls_are_not_for_tests",
        "marketplace/gateway/freecalls.py",
        "if call.is_test or not worst_nano",
        "if not worst_nano",
        ("tests/gateway/test_test_keys.py::test_free_calls_of_a_developer_are_not_for_tests",),
        "a developer's promotion wallet would pay for tests",
    ),
    Removal(
        "test_keys_are_slow",
        "marketplace/keys.py",
        "if per_minute > TEST_REQUESTS_PER_MINUTE_MAX:",
        "if False:",
        ("tests/gateway/test_test_keys.py::test_a_test_key_meets_the_errors_of_a_real_one",),
        "tests, which nobody pays, could fill the journal and the log",
    ),
    Removal(
        "what_a_database_error_quotes",
        "marketplace/logs.py",
        '_QUOTED.sub("(what it quotes is left out)", super().format(record))',
        "super().format(record)",
        (
            "tests/marketplace/test_logs.py::test_a_line_about_a_refused_row_names_the_rule_and_quotes_nothing",
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "the log of the site would keep what an erased person wrote, in the detail of a refused row",
    ),
    Removal(
        "lines_of_a_worker",
        "marketplace/settings.py",
        "CELERY_WORKER_HIJACK_ROOT_LOGGER = False",
        "CELERY_WORKER_HIJACK_ROOT_LOGGER = True",
        ("tests/marketplace/test_logs.py::test_a_worker_writes_the_lines_of_the_site",),
        "a worker's log would quote the row of a database error",
    ),
    Removal(
        "statements_in_the_log_of_the_database",
        "devstack/services.py",
        '"log_min_error_statement": "panic", ',
        "",
        (
            "tests/devstack/test_services.py::test_an_older_site_gets_the_sequencers_role_at_its_next_start_and_keeps_its_data",
        ),
        "PostgreSQL's log would keep the values of every statement that it refused",
    ),
    Removal(
        "words_that_an_erasure_empties",
        "datanets/erasure.py",
        "    _erase_words(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "notes, appeals, reports and requests of an erased person would stay",
    ),
    Removal(
        "calls_that_an_erasure_forgets",
        "marketplace/erasure.py",
        "    _forget_calls(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "questions and answers of an erased person could still be opened with the site's key",
    ),
    Removal(
        "openings_that_an_erasure_forgets",
        "marketplace/erasure.py",
        "    forget_openings(user)\n    _forget_inputs(user)",
        "    _forget_inputs(user)",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "what an erased person's log entries commit to could still be read",
    ),
    Removal(
        "words_about_calls_that_an_erasure_empties",
        "marketplace/erasure.py",
        "    disputes.forget_words_about(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "what others wrote about an erased person's calls would stay",
    ),
    Removal(
        "words_about_earnings_that_an_erasure_empties",
        "marketplace/erasure.py",
        "    holds.forget_words_about(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "why an admin held an erased person's earnings would stay",
    ),
    Removal(
        "words_of_a_hold_that_the_books_forget",
        "marketplace/holds.py",
        "    ledger.forget_reasons(chart.pending(user.pk))\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "the books would keep what an admin wrote about an erased person",
    ),
    Removal(
        "numbers_of_calls_that_an_erasure_forgets",
        "marketplace/erasure.py",
        "    _forget_inputs(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "the row that an erased person asked about could be read from its trace",
    ),
    Removal(
        "quotes_that_an_erasure_forgets",
        "marketplace/erasure.py",
        "    _forget_quotes(user)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "texts of an erased person could be opened in the answers of others",
    ),
    Removal(
        "inputs_kept_while_a_call_may_be_given_back",
        "marketplace/erasure.py",
        " if not refunds.can_be_refunded(call)]",
        "]",
        ("tests/marketplace/test_erasure.py::test_what_a_call_was_about_is_kept_as_long_as_it_may_be_given_back",),
        "a refund after an erasure could not take the call's scores out of the sums that others are paid by",
    ),
    Removal(
        "forgotten_trace_has_no_context",
        "attribution/migrations/0001_initial.py",
        "models.Q(('forgotten_at__isnull', True), ('context', {}), _connector='OR')",
        "models.Q(('forgotten_at__isnull', True), ('forgotten_at__isnull', False), _connector='OR')",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "a trace could say that it is forgotten and keep what it was about",
    ),
    Removal(
        "statistics_that_an_erasure_drops",
        "datanets/registration.py",
        "        versions.forget_statistics(records)\n",
        "",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
            "tests/datanets/test_versions.py::test_statistics_are_made_again_without_what_was_erased_and_nothing_else_of_the_version_changes",
        ),
        "a version's statistics would go on quoting rows that were erased",
    ),
    Removal(
        "version_whose_note_is_only_emptied",
        "datanets/migrations/0002_reviews_are_true_and_versions_immutable.py",
        "        OR NEW.note NOT IN (OLD.note, '')\n",
        "",
        (
            "tests/datanets/test_versions.py::test_a_version_and_its_leader_map_are_immutable",
            "tests/datanets/test_versions.py::test_statistics_are_made_again_without_what_was_erased_and_nothing_else_of_the_version_changes",
        ),
        "what a frozen version was said to be could be rewritten",
    ),
    Removal(
        "closed_datanet_without_a_public_name",
        "marketplace/lognames.py",
        "datanets = Datanet.objects.visible_to(viewer).filter(pk__in=ids)",
        "datanets = Datanet.objects.filter(pk__in=ids)",
        ("tests/ledger/test_views.py::test_the_name_of_a_closed_datanet_is_said_to_its_members_only",),
        "the explorer would tell everybody what closed Datanets are called",
    ),
    Removal(
        "audit_log_without_words",
        "marketplace/promotion.py",
        "transfer=str(transfer.pk))",
        "transfer=reference)",
        (
            "tests/marketplace/test_erasure.py::test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure",
        ),
        "what a person wrote would stand for ever in a log that is only added to",
    ),
    Removal(
        "page_that_begins_after_the_last_one",
        "ledger/balances.py",
        "found = found.filter(seq__lt=after)",
        "found = found.filter(seq__lte=after)",
        (
            "tests/marketplace/pages/test_wallet.py"
            "::test_a_statement_says_the_same_on_screen_in_its_files_and_in_the_api",
        ),
        "the last movement of a page would stand on the next one again, and a statement would not add up",
    ),
    Removal(
        "admins_read_only_what_is_nobodys",
        "marketplace/views/admin_accounts.py",
        ' or code.partition(":")[0] in chart.OF_PERSONS',
        "",
        (
            "tests/marketplace/pages/test_admin.py"
            "::test_an_admin_reads_no_persons_statement_here_and_none_that_cannot_be",
        ),
        "every admin could read what each person earned and paid, movement by movement",
    ),
    Removal(
        "epochs_that_begin_after_the_last_one",
        "ledger/settled.py",
        "found = found.filter(index__lt=after)",
        "found = found.filter(index__lte=after)",
        ("tests/ledger/test_views.py::test_all_settled_epochs_and_all_models_can_be_read_page_by_page",),
        "the last epoch of a page would stand on the next one again",
    ),
    Removal(
        "row_lock_of_the_wallet",
        "ledger/sql/post.sql",
        """\
      WHERE s.account_id = r.payer AND s.debited_nano + s.held_nano + r.amount <= s.granted_nano;
""",
        """\
      WHERE s.account_id = r.payer
        AND EXISTS (SELECT FROM ledger_spend t WHERE t.account_id = r.payer
                    AND t.debited_nano + t.held_nano + r.amount <= t.granted_nano);
""",
        ("tests/ledger/test_guard_locks.py::test_who_waited_for_a_wallet_is_judged_by_what_is_left_in_it",),
        "The test of the balance would happen before the lock: many payers at once would all pass it.",
    ),
    Removal(
        "test_of_the_balance",
        "ledger/sql/post.sql",
        "\n    AND s.debited_nano + s.held_nano + amount <= greatest(s.granted_nano, a.base_nano + p.credited_nano);",
        ";",
        ("tests/ledger/test_postings.py::test_nobody_spends_more_than_they_have",),
        "Only the last constraint would stand between a wallet and an overdraft, and nobody would be told the reason.",
    ),
    Removal(
        "credit_is_a_total",
        "ledger/sql/post.sql",
        "  SET granted_nano = greatest(s.granted_nano, a.base_nano + p.credited_nano), debited_nano",
        "  SET granted_nano = s.granted_nano + a.base_nano + p.credited_nano, debited_nano",
        ("tests/ledger/test_postings.py::test_a_credit_is_granted_once_however_often_it_is_pulled",),
        "Every pull would grant all earlier credits again.",
    ),
    Removal(
        "posting_id_is_used_once",
        "ledger/sql/post.sql",
        """\
        ON CONFLICT (id) DO NOTHING
        RETURNING j.id, j.accounts[1] AS payer, -j.amounts[1] AS amount, j.takes_from, j.hold_id, j.payload
""",
        "        RETURNING j.id, j.accounts[1] AS payer, -j.amounts[1] AS amount, j.takes_from, j.hold_id, j.payload\n",
        ("tests/ledger/test_postings.py::test_a_repeated_posting_does_nothing",),
        "A repeat after a lost answer would be an error, and callers would make up a new id.",
    ),
    Removal(
        "plain_posting_id_is_used_once",
        "ledger/sql/post.sql",
        """\
  ON CONFLICT DO NOTHING
  RETURNING j.accounts[1], -j.amounts[1] INTO payer, amount;
""",
        "  RETURNING j.accounts[1], -j.amounts[1] INTO payer, amount;\n",
        ("tests/ledger/test_postings.py::test_a_repeated_posting_does_nothing",),
        "A repeat after a lost answer would be an error, and callers would make up a new id.",
    ),
    Removal(
        "amounts_are_whole",
        "ledger/sql/post.sql",
        " AND said !~ '[2-9][0-9]{18}|[0-9]{20}'",
        "",
        ("tests/ledger/test_postings.py::test_the_database_refuses_by_itself_what_python_would_not_send",),
        "A caller that passes by Python would get an error of the server's, which nobody knows how to answer.",
    ),
    Removal(
        "plain_posting_into_pending",
        "ledger/sql/post.sql",
        """\
    AND (said_accounts LIKE '%, "pending:%') = (p->>'vest_after_s' IS NOT NULL)
""",
        "",
        ("tests/ledger/test_postings.py::test_a_posting_alone_is_booked_or_refused_as_it_is_beside_another",),
        "Money would lie in a pending account without a lot, and never vest.",
    ),
    Removal(
        "plain_posting_from_pending",
        "ledger/sql/post.sql",
        """said_accounts NOT LIKE '["pending:%' AND """,
        "",
        ("tests/ledger/test_postings.py::test_the_database_refuses_by_itself_what_python_would_not_send",),
        "A pending account would pay from no lot, and its lots would no longer add up to its balance.",
    ),
    Removal(
        "plain_posting_with_legs",
        "ledger/sql/post.sql",
        " AND p->>'legs' IS NULL\n",
        "\n",
        ("tests/ledger/test_postings.py::test_legs_are_the_accounts_in_their_order_or_name_their_places",),
        "Who is named first would pay, whoever was said to.",
    ),
    Removal(
        "reused_id_is_refused",
        "ledger/sql/post.sql",
        "IF coalesce(cardinality(ids), 0) <> said THEN",
        "IF false THEN",
        ("tests/ledger/test_postings.py::test_an_id_cannot_be_used_for_something_else",),
        "Another payment under a used id would be lost in silence.",
    ),
    Removal(
        "row_lock_of_the_hold",
        "ledger/sql/hold.sql",
        "OR h.id = ANY (closing) ORDER BY h.id FOR UPDATE;",
        "OR h.id = ANY (closing) ORDER BY h.id;",
        ("tests/ledger/test_guard_locks.py::test_who_waited_for_a_hold_is_judged_by_what_is_left_of_it",),
        "Two draws at once would both read the whole rest of a lease.",
    ),
    Removal(
        "draw_above_the_hold",
        "ledger/sql/hold.sql",
        "ELSIF r.amount > r.rest THEN",
        "ELSIF false THEN",
        ("tests/ledger/test_holds.py::test_nothing_is_drawn_above_the_hold",),
        "A process could draw more than was set aside for it.",
    ),
    Removal(
        "hold_ends_once",
        "ledger/sql/hold.sql",
        "WHERE h.id = ANY (hold_ids) AND h.closed_at IS NULL RETURNING",
        "WHERE h.id = ANY (hold_ids) RETURNING",
        ("tests/ledger/test_holds.py::test_a_lease_is_drawn_many_times_and_the_rest_released",),
        "Closing twice would give the rest back twice.",
    ),
    Removal(
        "fold_watermark",
        "ledger/sql/fold.sql",
        " AND xid < pg_snapshot_xmin(pg_current_snapshot())",
        "",
        ("tests/ledger/test_races.py::test_a_late_committer_is_not_skipped_by_the_fold",),
        "A posting that took its number early and committed late would never be credited.",
    ),
    Removal(
        "lock_of_the_fold_cursor",
        "ledger/sql/fold.sql",
        "WHERE name = 'fold' FOR UPDATE;",
        "WHERE name = 'fold';",
        ("tests/ledger/test_guard_locks.py::test_two_folds_at_once_take_turns",),
        "Two sequencers would fold the same postings.",
    ),
    Removal(
        "order_of_a_batch",
        "ledger/sql/post.sql",
        "        ORDER BY s.id, s.n\n",
        "",
        ("tests/ledger/test_guard_locks.py::test_batches_with_the_same_ids_in_another_order_wait_for_each_other",),
        "Two repeats of a batch could each book what the other wants next: PostgreSQL would end one of them.",
    ),
    Removal(
        "order_of_payers_in_a_batch",
        "ledger/sql/post.sql",
        "  PERFORM FROM ledger_spend s WHERE s.account_id = ANY (payers) ORDER BY s.account_id FOR UPDATE;\n",
        "",
        (
            "tests/ledger/test_guard_locks.py"
            "::test_batches_of_payers_that_others_pay_from_one_by_one_do_not_deadlock[posted]",
        ),
        "Who has to pull would lock their row after richer ones, whatever their ids, and meet others crosswise.",
    ),
    Removal(
        "row_lock_of_what_is_available",
        "ledger/sql/hold.sql",
        """\
  UPDATE ledger_spend s SET granted_nano = greatest(s.granted_nano, a.base_nano + p.credited_nano)
  FROM ledger_position p JOIN ledger_account a ON a.id = p.account_id
  WHERE s.account_id = account AND p.account_id = account
  RETURNING s.granted_nano - s.debited_nano - s.held_nano INTO available;
""",
        """\
  SELECT greatest(s.granted_nano, a.base_nano + p.credited_nano) - s.debited_nano - s.held_nano INTO available
  FROM ledger_spend s, ledger_position p JOIN ledger_account a ON a.id = p.account_id
  WHERE s.account_id = account AND p.account_id = account;
""",
        ("tests/ledger/test_guard_locks.py::test_a_lease_that_takes_what_there_is_waits_for_one_being_taken",),
        "Two leases at once would both be promised the same money.",
    ),
    Removal(
        "order_of_payers_in_draws",
        "ledger/sql/hold.sql",
        "GROUP BY payer ORDER BY payer LOOP",
        "GROUP BY payer ORDER BY payer DESC LOOP",
        (
            "tests/ledger/test_guard_locks.py"
            "::test_batches_of_payers_that_others_pay_from_one_by_one_do_not_deadlock[drawn]",
        ),
        "Gateways that draw for the same payers would meet each other, or a posting, crosswise.",
    ),
    Removal(
        "row_lock_of_a_hold_that_grows",
        "ledger/sql/hold.sql",
        "SELECT * INTO h FROM ledger_hold x WHERE x.id = hold_id FOR UPDATE;",
        "SELECT * INTO h FROM ledger_hold x WHERE x.id = hold_id;",
        ("tests/ledger/test_guard_locks.py::test_who_raises_a_hold_twice_at_once_raises_it_once",),
        "A repeat that meets the first try would set the difference aside twice.",
    ),
    Removal(
        "log_watermark_of_postings",
        "ledger/sql/log.sql",
        " AND j.xid < pg_snapshot_xmin(pg_current_snapshot())",
        "",
        ("tests/ledger/test_races.py::test_a_late_committer_is_not_skipped_by_the_fold",),
        "A posting that took its number early and committed late would never be in the log.",
    ),
    Removal(
        "log_watermark_of_facts",
        "ledger/sql/log.sql",
        " AND f.xid < pg_snapshot_xmin(pg_current_snapshot())",
        "",
        ("tests/ledger/test_races.py::test_a_late_committer_is_not_skipped_by_the_fold",),
        "What took its number before a fact and committed after it would never be in the log.",
    ),
    Removal(
        "lock_of_the_log_cursor",
        "ledger/sql/log.sql",
        "WHERE name = 'log' FOR UPDATE;\n  -- A plain posting has nothing",
        "WHERE name = 'log';\n  -- A plain posting has nothing",
        ("tests/ledger/test_guard_locks.py::test_two_that_log_at_once_take_turns",),
        "Two sequencers would make the same leaves, and one of them fail.",
    ),
    Removal(
        "lock_of_a_new_head",
        "ledger/sql/log.sql",
        "  PERFORM FROM ledger_cursor WHERE name = 'log' FOR UPDATE;\n",
        "",
        ("tests/ledger/test_guard_locks.py::test_two_that_sign_at_once_keep_one_head",),
        "Two sequencers would both find no head of a size, and only its key would stand between them.",
    ),
    Removal(
        "row_lock_of_lots_that_vest",
        "ledger/sql/lots.sql",
        "LIMIT at_most FOR UPDATE SKIP LOCKED) l;",
        "LIMIT at_most) l;",
        ("tests/ledger/test_guard_locks.py::test_a_lot_that_is_being_taken_from_is_left_for_the_next_round",),
        "A lot would vest as it was before a refund that is being made, or wait for it with all others.",
    ),
    Removal(
        "order_of_accounts_being_opened",
        "ledger/sql/chart.sql",
        "unnest(codes) AS code) c ORDER BY code\n",
        "unnest(codes) AS code) c ORDER BY code DESC\n",
        ("tests/ledger/test_guard_locks.py::test_accounts_that_others_open_one_by_one_are_opened_once",),
        "Two that pay the same new accounts would each have opened what the other wants next.",
    ),
    Removal(
        "accounts_are_opened_once",
        "ledger/sql/chart.sql",
        "    ON CONFLICT (code) DO NOTHING RETURNING id\n",
        "    RETURNING id\n",
        ("tests/ledger/test_guard_locks.py::test_accounts_that_others_open_one_by_one_are_opened_once",),
        "Of two that pay a new account at once, one would get an error.",
    ),
    Removal(
        "row_lock_of_bells",
        "ledger/sql/outbox.sql",
        "LIMIT at_most FOR UPDATE SKIP LOCKED) due",
        "LIMIT at_most) due",
        ("tests/ledger/test_guard_locks.py::test_two_relays_at_once_take_different_bells",),
        "Two relays would ring the same bells, one after the other.",
    ),
    Removal(
        "lock_of_a_row_that_is_done",
        "ledger/outbox.py",
        "            if mine:\n                tried += 1\n                _try(",
        "            if True:\n                tried += 1\n                _try(",
        ("tests/ledger/test_outbox.py::test_two_workers_with_the_same_bell_share_its_rows",),
        "Two workers with one bell would both do the work of each row, one after the other.",
    ),
    Removal(
        "a_row_that_fails_fails_alone",
        "ledger/outbox.py",
        "    except Exception as problem:  # whatever it is, the rows behind it",
        "    except ZeroDivisionError as problem:  # whatever it is, the rows behind it",
        ("tests/ledger/test_outbox.py::test_a_row_that_always_fails_keeps_no_other_waiting",),
        "One row that no worker can do would keep those behind it in every bell from being done.",
    ),
    Removal(
        "journal_is_append_only",
        "ledger/sql/append_only.sql",
        "ARRAY['account', 'journal', 'entry', 'fact', 'leaf', 'node', 'checkpoint', 'cosignature'] LOOP",
        "ARRAY['account', 'entry', 'fact', 'leaf', 'node', 'checkpoint', 'cosignature'] LOOP",
        ("tests/ledger/test_append_only.py::test_not_even_the_owner_changes_what_is_only_added_to[journal]",),
        "The owner of the tables could rewrite the journal.",
    ),
    Removal(
        "posting_balances",
        "ledger/sql/checks.sql",
        "  ADD CONSTRAINT ledger_posting_balances CHECK (ledger_legs_balance(accounts, amounts)),\n",
        "",
        ("tests/ledger/test_append_only.py::test_not_even_the_owner_inserts_an_unbalanced_posting",),
        "A row could make or lose money.",
    ),
    # --- Datanets
    Removal(
        "planted_records_in_no_version",
        "datanets/migrations/0003_gold.py",
        "models.Q(('is_gold', False), ('added_in__isnull', True), _connector='OR')",
        "models.Q(('id__gt', 0))",
        ("tests/datanets/test_gold.py::test_the_table_refuses_a_planted_record_in_a_version_and_fingerprints_of_it",),
        "a record that nobody gave would be trained on and paid, once some code forgets to leave it out",
    ),
    Removal(
        "planted_records_lead_nobody",
        "datanets/registration.py",
        'content_hmac="" if gold else each.content_hmac',
        "content_hmac=each.content_hmac",
        ("tests/datanets/test_gold.py::test_who_really_sends_what_was_planted_before_leads",),
        "an owner could plant what somebody is about to send, and it would earn nothing as a copy",
    ),
    Removal(
        "no_self_review",
        "datanets/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('curator', models.F('contributor')), _negated=True), name='nobody_reviews_their_own_record'),\n",
        "",
        ("tests/datanets/test_reviews.py::test_the_database_refuses_a_self_review_whatever_the_row_claims",),
        "A row that comes past the service could approve the curator's own record.",
    ),
    Removal(
        "review_names_the_true_contributor",
        "datanets/migrations/0002_reviews_are_true_and_versions_immutable.py",
        "        migrations.RunSQL(COMPOSITE_KEY, DROP_COMPOSITE_KEY),\n",
        "",
        ("tests/datanets/test_reviews.py::test_the_database_refuses_a_self_review_whatever_the_row_claims",),
        "A self-review could name somebody else as the contributor.",
    ),
    Removal(
        "no_party_decides_its_report",
        "datanets/migrations/0001_initial.py",
        """\
                    models.CheckConstraint(condition=models.Q(('decided_by__isnull', True), models.Q(('decided_by', models.F('reporter')), _negated=True), _connector='OR'), name='nobody_decides_a_report_they_filed'),
                    models.CheckConstraint(condition=models.Q(('decided_by__isnull', True), models.Q(('decided_by', models.F('contributor')), _negated=True), _connector='OR'), name='nobody_decides_a_report_of_their_record'),
""",
        "",
        ("tests/datanets/test_reports.py::test_the_database_refuses_a_decision_by_a_party_to_the_report",),
        "A curator could dismiss a report of their own record, or take down what they reported themselves.",
    ),
    Removal(
        "report_names_the_true_contributor",
        "datanets/migrations/0002_reviews_are_true_and_versions_immutable.py",
        "        migrations.RunSQL(KEY_OF_REPORTS, DROP_KEY_OF_REPORTS),\n",
        "",
        (
            "tests/datanets/test_reports.py::"
            "test_the_database_refuses_a_report_that_names_another_contributor_than_its_record",
        ),
        "A report of the curator's own record could name somebody else as its contributor.",
    ),
    Removal(
        "one_open_report_per_person",
        "datanets/migrations/0001_initial.py",
        """\
                    models.UniqueConstraint(condition=models.Q(('status', 'open')), fields=('record', 'reporter'), name='person_has_one_open_report_of_a_record'),
""",
        "",
        ("tests/datanets/test_reports.py::test_one_person_reports_a_record_once_until_it_is_decided",),
        "A click sent twice would give the curators the same report twice.",
    ),
    Removal(
        "reports_of_the_day_are_counted_alone",
        "datanets/reports.py",
        "    User.objects.select_for_update(no_key=True).get(pk=by.pk)\n",
        "",
        ("tests/datanets/test_guard_locks.py::test_reports_sent_at_once_share_one_limit_of_the_day",),
        "Reports sent at once would all pass the limit of the day.",
    ),
    Removal(
        "who_reported_does_not_decide",
        "datanets/reports.py",
        "    if curator.pk == report.reporter_id or curator.pk in reporters.values():\n",
        "    if curator.pk == report.reporter_id:\n",
        ("tests/datanets/test_reports.py::test_nobody_decides_on_a_report_of_their_own_record_or_one_they_filed",),
        "A curator could uphold their own report by deciding on somebody else's of the same record.",
    ),
    Removal(
        "a_curator_withdraws_upheld_records_only",
        "datanets/records.py",
        "        record.reports.filter(status=Report.Status.UPHELD, decided_by=by).exists()\n",
        "        services.can_curate(by, submission.datanet)\n",
        ("tests/datanets/test_reports.py::test_a_curator_withdraws_no_record_without_a_report_that_was_upheld",),
        "Any curator could take down any record, for no stated reason.",
    ),
    Removal(
        "rule_history_is_append_only",
        "datanets/migrations/0002_reviews_are_true_and_versions_immutable.py",
        "        migrations.RunSQL(RULES_STAY, DROP_RULES_STAY),\n",
        "",
        ("tests/marketplace/pages/test_rule_history.py::test_the_history_of_rules_is_only_added_to",),
        "The owner of the database could rewrite which rules records were contributed under.",
    ),
    Removal(
        "model_terms_are_immutable",
        "marketplace/sql/immutable.sql",
        """\
CREATE TRIGGER model_terms_are_immutable BEFORE UPDATE OR DELETE ON marketplace_modelterms
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
""",
        "",
        ("tests/marketplace/test_immutable.py::test_what_was_agreed_or_remembered_is_never_changed",),
        "The rule history of a model could be rewritten.",
    ),
    Removal(
        "version_is_immutable",
        "datanets/migrations/0002_reviews_are_true_and_versions_immutable.py",
        """\
CREATE TRIGGER version_is_immutable BEFORE UPDATE ON datanets_version
    FOR EACH ROW EXECUTE FUNCTION datanets_version_may_forget();
""",
        "",
        ("tests/datanets/test_versions.py::test_a_version_and_its_leader_map_are_immutable",),
        "What models were trained on could be changed afterwards.",
    ),
    Removal(
        "part_of_a_file_counts_once",
        "datanets/uploads.py",
        "        file = SubmissionFile.objects.select_for_update(no_key=True).get(pk=file.pk)\n"
        "        _require_receiving(file, offset_bytes)\n",
        "        file = SubmissionFile.objects.get(pk=file.pk)\n        _require_receiving(file, offset_bytes)\n",
        ("tests/datanets/test_uploads.py::test_of_two_parts_for_one_offset_exactly_one_counts",),
        "Two parts sent for one offset would both count, and the file would be broken.",
    ),
    Removal(
        "lock_of_the_quota",
        "datanets/uploads.py",
        "    User.objects.select_for_update(no_key=True).get(pk=contributor_id)\n",
        "",
        ("tests/datanets/test_guard_locks.py::test_two_files_announced_behind_one_lock_share_one_quota",),
        "Two files announced at once would both take the last of the quota.",
    ),
    Removal(
        "rows_wait_for_the_checks",
        "datanets/submissions.py",
        """\
        _require_checked(file)
        if event["type"] == "problem":
""",
        """\
        if event["type"] == "problem":
""",
        ("tests/datanets/test_submissions.py::test_a_row_is_not_corrected_while_its_file_is_being_checked",),
        "A row corrected while its file is checked would enter review without having been searched for personal data.",
    ),
    Removal(
        "only_checked_records_go_to_review",
        "datanets/checking.py",
        "        unchecked.filter(pk__in=checked).update(status=Record.Status.WAITING)\n",
        "        unchecked.update(status=Record.Status.WAITING)\n",
        (
            "tests/datanets/test_submissions.py"
            "::test_a_record_that_joins_its_file_during_the_checks_is_checked_before_it_is_reviewed",
        ),
        "A record that came after the checks began would enter review as clean.",
    ),
    Removal(
        "no_undo_after_the_submission_was_withdrawn",
        "datanets/reviews.py",
        "    withdrawn = any(each.status == Submission.Status.WITHDRAWN for each in locked_submissions.values())\n",
        "    withdrawn = False\n",
        ("tests/datanets/test_reviews.py::test_a_decision_stands_once_the_contributor_took_the_submission_back",),
        "A record of a withdrawn submission would wait for a decision that nobody can make.",
    ),
    Removal(
        "exports_hold_nothing_withdrawn_meanwhile",
        "datanets/exports.py",
        "    if _withdrawn_count(version) != withdrawn:",
        "    if False:",
        ("tests/datanets/test_versions.py::test_an_export_during_which_a_record_is_withdrawn_is_written_again",),
        "A record withdrawn while an export is written would stay in the file for everybody who downloads it.",
    ),
    Removal(
        "bodies_are_refused_by_their_length",
        "marketplace/bodylimit.py",
        "        if _announced_bytes(request) > limit:\n",
        "        if False:\n",
        (
            "tests/marketplace/test_bodylimit.py"
            "::test_a_body_that_is_announced_too_large_is_refused_before_a_byte_of_it_is_sent",
        ),
        "Anybody could fill the disk: the CSRF check stores a whole body before a view says that it is too large.",
    ),
    Removal(
        "lock_of_registration",
        "datanets/registration.py",
        "        _lock_registration(datanet.kind)\n",
        "",
        (
            "tests/datanets/test_registration.py"
            "::test_two_uploads_of_one_file_at_the_same_moment_make_one_leader_of_each_record",
        ),
        "Whoever copies a record fast enough would lead a second time and be paid.",
    ),
    Removal(
        "file_is_checked_alone",
        "datanets/checking.py",
        "file = _begin(file_id) if alone else None",
        "file = _begin(file_id)",
        ("tests/datanets/test_guard_locks.py::test_a_file_that_another_worker_checks_is_left_alone",),
        "A file rung for twice would be read and checked twice.",
    ),
    Removal(
        "sandbox_hook",
        "datanets/sandbox_child.py",
        "    sys.addaudithook(watch)\n",
        "",
        (
            "tests/datanets/test_sandbox.py::test_the_audit_hook_alone_refuses_every_escape[subprocess]",
            "tests/datanets/test_sandbox.py::test_the_audit_hook_alone_refuses_every_escape[read_passwords]",
        ),
        "On a machine whose kernel lacks Landlock and seccomp nothing would hold a parser that was taken over.",
    ),
    Removal(
        "sandbox_hook_is_installed",
        "datanets/sandbox_child.py",
        'active["audit_hook"] = refuse_escapes(folder=folder, input_path=input_path)',
        'active["audit_hook"] = False',
        ("tests/datanets/test_sandbox.py::test_the_protections_of_this_machine_are_told",),
        "The hook would exist and nobody would call it.",
    ),
    Removal(
        "sandbox_ends_with_its_worker",
        "datanets/sandbox_child.py",
        "prctl(1, signal.SIGKILL, 0, 0, 0)",
        "prctl(1, 0, 0, 0, 0)",
        ("tests/datanets/test_sandbox.py::test_a_child_ends_with_the_worker_that_would_have_ended_it",),
        "After kill -9 of a site its sandboxes would go on reading for as long as their limits let them.",
    ),
    # --- Gateway
    Removal(
        "idempotency_insert",
        "marketplace/sql/capture.sql",
        """\
  INSERT INTO marketplace_idempotency AS i (owner_id, key, body_sha256, call_id, status, process, created_at)
  VALUES (of_owner, of_key, body, new_call, 'running', by_process, clock_timestamp())
  ON CONFLICT (owner_id, key) DO UPDATE
    SET body_sha256 = excluded.body_sha256, call_id = excluded.call_id, status = 'running',
      process = excluded.process, created_at = excluded.created_at
    WHERE i.created_at < clock_timestamp() - make_interval(secs => kept_s)
      OR (i.status = 'running' AND NOT gateway_lives(i.process))
  RETURNING i.* INTO found_row;
  IF FOUND THEN
""",
        "  IF true THEN\n",
        ("tests/gateway/test_idempotency.py::test_a_repeated_request_gets_the_stored_answer_and_is_charged_once",),
        "Nothing would remember that a key was used.",
    ),
    Removal(
        "idempotency_key_is_kept",
        "marketplace/sql/capture.sql",
        """\
    WHERE i.created_at < clock_timestamp() - make_interval(secs => kept_s)
      OR (i.status = 'running' AND NOT gateway_lives(i.process))
""",
        "",
        ("tests/gateway/test_idempotency.py::test_a_repeated_request_gets_the_stored_answer_and_is_charged_once",),
        "Every repeat would take the key over and be charged again.",
    ),
    Removal(
        "lock_of_the_idempotency_key",
        "marketplace/sql/capture.sql",
        "  ORDER BY i.owner_id, i.key FOR UPDATE OF i;\n",
        "  ORDER BY i.owner_id, i.key;\n",
        (
            "tests/gateway/test_capture.py"
            "::test_a_key_that_is_taken_over_while_its_call_is_stored_is_charged_to_one_of_them",
        ),
        "A key taken over between the look and the end of the statement would be charged by both processes.",
    ),
    Removal(
        "call_is_stored_once",
        "marketplace/sql/capture.sql",
        "IS NOT TRUE\n    ORDER BY r.id\n    ON CONFLICT (id) DO NOTHING\n",
        "IS NOT TRUE\n    ORDER BY r.id\n",
        ("tests/gateway/test_capture.py::test_a_call_that_is_sent_twice_is_charged_once",),
        "A statement that is sent again, because the connection broke, would lose the calls beside it.",
    ),
    Removal(
        "dropped_call_is_finished",
        "marketplace/gateway/streaming.py",
        "    finishes = bool(call.idempotency_key)\n",
        "    finishes = False\n",
        ("tests/gateway/test_idempotency.py::test_who_drops_a_call_and_asks_again_gets_its_answer_and_pays_once",),
        "Whoever loses a connection and asks again would pay for half an answer nobody can have.",
    ),
    Removal(
        "artifact_has_its_hash",
        "attribution/bundles.py",
        "    if content_hash(files) != sha256:\n",
        "    if False:\n",
        ("tests/gateway/test_swapping.py::test_a_model_whose_files_were_changed_is_refused_and_others_go_on",),
        "A model whose files were changed would answer, under a receipt that names what was trained.",
    ),
    Removal(
        "large_models_leave_the_loop",
        "marketplace/gateway/engines.py",
        '    if bundle.artifact.engine == "linear":\n'
        '        return int(arrays["theta"].size) <= config.INLINE_MULTIPLICATIONS_MAX\n',
        '    if bundle.artifact.engine == "linear":\n        return True\n',
        ("tests/gateway/test_loop.py::test_only_few_numbers_are_multiplied_on_the_loop",),
        "While a large model answers, nobody else would be heard.",
    ),
    Removal(
        "one_call_tries_a_server_that_failed",
        "marketplace/gateway/breaker.py",
        "            self.state = State.HALF_OPEN\n",
        "",
        ("tests/gateway/test_breaker.py::test_after_its_time_one_call_tries_and_the_others_wait_for_what_it_meets",),
        "All buyers at once would wait for a server that is still down, each to its time-out.",
    ),
    Removal(
        "full_queue_keeps_nobody_out",
        "marketplace/gateway/upstreams.py",
        "at_fault=not upstream.bundled",
        "at_fault=True",
        ("tests/gateway/test_upstreams.py::test_many_at_once_and_refused_requests_keep_nobody_out",),
        "Where many wait for the bundled model, nobody would be let to it any more.",
    ),
    Removal(
        "lock_of_the_fallbacks",
        "marketplace/listings.py",
        "    _lock(model)\n    before =",
        "    before =",
        ("tests/marketplace/test_access.py::test_two_savings_of_the_fallbacks_at_once_leave_one_whole_list",),
        "A developer who saves twice would meet an error, or a list that is neither of the two.",
    ),
    Removal(
        "fallback_has_a_place_of_its_own",
        "marketplace/migrations/0001_initial.py",
        "models.UniqueConstraint(fields=('model', 'place'), name='fallback_has_a_place_of_its_own'), ",
        "",
        ("tests/marketplace/test_access.py::test_the_database_keeps_one_fallback_at_each_of_few_places",),
        "Two fallbacks at one place would be asked in an order that nobody chose.",
    ),
    Removal(
        "fallbacks_are_few",
        "marketplace/migrations/0001_initial.py",
        "models.CheckConstraint(condition=models.Q(('place__gte', 1), ('place__lte', 3), models.Q(('url', ''), "
        "_negated=True)), name='fallbacks_are_few')",
        "",
        ("tests/marketplace/test_access.py::test_the_database_keeps_one_fallback_at_each_of_few_places",),
        "A call would ask one server after the other until its time is over.",
    ),
    Removal(
        "living_gateway_keeps_its_leases",
        "marketplace/reaping.py",
        " WHERE NOT gateway_lives(name)",
        "",
        ("tests/gateway/test_reaping.py::test_only_what_a_dead_gateway_holds_is_released",),
        "Every lease would be closed under the process that uses it.",
    ),
    Removal(
        "dead_gateway_frees_its_part_of_a_cap",
        "marketplace/reaping.py",
        "            _end_key_leases_of(name)\n",
        "",
        ("tests/gateway/test_limits.py::test_a_killed_gateway_leaves_room_for_exactly_what_was_not_spent",),
        "What a killed process had set aside would be missing from a key's cap until its lease expires.",
    ),
    Removal(
        "lock_of_a_limit",
        "marketplace/sql/limits.sql",
        "  WHERE u.key_id = of_key ORDER BY u.kind FOR UPDATE OF u;\n",
        "  WHERE u.key_id = of_key ORDER BY u.kind;\n",
        ("tests/gateway/test_limits.py::test_of_two_processes_that_meet_at_the_end_of_a_limit_one_is_told_so",),
        "Two processes that meet at the end of a cap would both see room, and one of them would fail.",
    ),
    Removal(
        "lock_of_a_rate",
        "marketplace/sql/limits.sql",
        """\
  SELECT * INTO r FROM marketplace_keyrate x WHERE x.key_id = of_key AND x.kind = of_kind FOR UPDATE;
  IF NOT FOUND THEN
""",
        """\
  SELECT * INTO r FROM marketplace_keyrate x WHERE x.key_id = of_key AND x.kind = of_kind;
  IF NOT FOUND THEN
""",
        ("tests/gateway/test_limits.py::test_of_two_processes_that_meet_at_the_end_of_a_limit_one_is_told_so",),
        "Two processes that meet would both take the last requests of a minute.",
    ),
    Removal(
        "no_lease_gives_more_than_it_has",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('used__gte', 0), ('granted__gte', models.F('used'))), name='no_lease_gives_more_than_it_has'),\n",
        "",
        (
            "tests/gateway/test_limits.py::test_the_database_refuses_limits_that_cannot_be[a lease gives more than it has]",
        ),
        "A mistake in the gateway would spend more of a cap than it leased.",
    ),
    Removal(
        "key_runs_calls_at_once",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('calls_at_once__range', (1, 1000))), name='key_runs_calls_at_once'),\n",
        "",
        ("tests/gateway/test_limits.py::test_the_database_refuses_limits_that_cannot_be[no call may run]",),
        "A key could be without a limit of calls at once, or with none at all.",
    ),
    Removal(
        "limit_is_counted_once",
        "marketplace/migrations/0001_initial.py",
        "                    models.UniqueConstraint(fields=('key', 'kind', 'starts_on'), name='limit_is_counted_once'),\n",
        "",
        ("tests/gateway/test_limits.py::test_the_database_refuses_limits_that_cannot_be[a limit is counted twice]",),
        "Two processes that meet at a key's first call of a day would count on two rows.",
    ),
    Removal(
        "rate_is_counted_once",
        "marketplace/migrations/0001_initial.py",
        "                    models.UniqueConstraint(fields=('key', 'kind'), name='rate_is_counted_once'),\n",
        "",
        ("tests/gateway/test_limits.py::test_the_database_refuses_limits_that_cannot_be[a rate is counted twice]",),
        "Two processes that meet at a key's first call would each have a minute's limit.",
    ),
    Removal(
        "answer_is_for_the_pages_of_its_key",
        "marketplace/gateway/replies.py",
        "        if self._origin in origins:\n",
        "        if self._origin:\n",
        ("tests/gateway/test_limits.py::test_a_page_calls_with_a_key_that_lists_its_origin_and_with_no_other",),
        "Any page could read what a key that it found answers.",
    ),
    Removal(
        "call_is_counted_for_its_cap",
        "marketplace/sql/capture.sql",
        "    PERFORM gateway_count_spending(calls);\n",
        "",
        ("tests/gateway/test_limits.py::test_a_killed_gateway_leaves_room_for_exactly_what_was_not_spent",),
        "A lease that ends would give back what was spent: a key could spend its cap again and again.",
    ),
    Removal(
        "call_is_counted_once_for_its_cap",
        "marketplace/sql/capture.sql",
        "      'calls', capture_only(calls, 'id', fresh),\n",
        "      'calls', calls,\n",
        ("tests/gateway/test_capture.py::test_a_call_that_is_sent_twice_counts_once_for_its_keys_cap",),
        "A statement that is sent again, because the connection broke, would spend the cap twice.",
    ),
    Removal(
        "cap_has_room",
        "marketplace/sql/limits.sql",
        "  IF room < lacking THEN\n",
        "  IF false THEN\n",
        (
            "tests/gateway/test_limits.py"
            "::test_sixty_four_calls_on_a_key_with_room_for_ten_make_exactly_ten_on_two_processes",
        ),
        "Where the cap ends the books would refuse, and the caller would be told that we failed.",
    ),
    Removal(
        "no_key_uses_more_than_its_limit",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('used__gte', 0), ('leased__gte', 0), ('most__gte', django.db.models.expressions.CombinedExpression(models.F('used'), '+', models.F('leased')))), name='no_key_uses_more_than_its_limit'),\n",
        "",
        (
            "tests/gateway/test_capture.py::test_a_call_whose_lease_of_the_cap_is_gone_counts_all_the_same_or_is_refused",
        ),
        "A process that was thought dead would spend beside its heirs what they have of the cap.",
    ),
    Removal(
        "lease_of_a_limit_is_decremented",
        "marketplace/gateway/allowances.py",
        "        lease.free -= amount\n",
        "",
        ("tests/gateway/test_limits.py::test_a_key_runs_as_many_calls_at_once_as_it_says_over_two_processes",),
        "One key would run as many calls at once as it likes.",
    ),
    Removal(
        "tokens_are_reserved",
        "marketplace/gateway/limits.py",
        "key.tokens_per_minute, worst_tokens)",
        "key.tokens_per_minute, 0)",
        ("tests/gateway/test_limits.py::test_tokens_of_running_calls_count_before_they_are_spent",),
        "Calls that run at once would all pass: none of them has used a token yet.",
    ),
    Removal(
        "rate_is_one_for_all_processes",
        "marketplace/sql/limits.sql",
        "    remaining := remaining - taken;\n",
        "",
        ("tests/gateway/test_limits.py::test_requests_a_minute_are_one_limit_over_two_processes",),
        "Each process would give a key its whole limit, again and again.",
    ),
    Removal(
        "replaced_key_shares_its_limits",
        "marketplace/sql/catalogue.sql",
        "coalesce(k.limits_of_id, k.id) AS limits_id",
        "k.id AS limits_id",
        (
            "tests/gateway/test_limits.py"
            "::test_a_replaced_key_works_until_its_end_and_shares_its_limits_with_the_new_one",
        ),
        "Replacing a key would be a way around its caps.",
    ),
    Removal(
        "key_has_known_scopes",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('scopes__contained_by', ['call', 'read']), models.Q(('scopes', []), _negated=True)), name='key_has_known_scopes'),\n",
        "",
        ("tests/marketplace/test_access.py::test_the_database_refuses_a_key_for_nothing_known",),
        "A misspelt scope would make a key that can do nothing, and nobody would know why.",
    ),
    Removal(
        "answer_waits_for_its_charge",
        "marketplace/gateway/capture.py",
        "            self._send([waiting.row for waiting in batch], give_up_at=batch[0].give_up_at)\n",
        "            _answer(batch, None)\n"
        "            self._send([waiting.row for waiting in batch], give_up_at=batch[0].give_up_at)\n",
        ("tests/gateway/test_capture.py::test_a_call_that_nothing_covers_is_refused_whole",),
        "The last byte would leave before the call is durable; a crash in between makes it free.",
    ),
    Removal(
        "lease_is_decremented",
        "marketplace/gateway/leases.py",
        "                lease.free_nano -= amount_nano\n",
        "",
        ("tests/gateway/test_money.py::test_no_call_reaches_the_model_for_which_the_money_is_promised_to_another",),
        "All calls at once would reserve the same money: the books refuse what is too much, but the model has worked.",
    ),
    Removal(
        "free_call_is_given_once",
        "marketplace/sql/capture.sql",
        "    ON CONFLICT (buyer_id, model_id, day, number) DO NOTHING;\n    IF FOUND THEN\n",
        "    ON CONFLICT (call_id) DO NOTHING;\n    IF FOUND THEN\n",
        ("tests/gateway/test_free_calls.py::test_of_two_that_meet_at_the_last_free_call_one_has_it",),
        "Of two processes that take the last free call, one would get an error in place of a paid answer.",
    ),
    Removal(
        "number_of_a_free_call_is_unique",
        "marketplace/migrations/0001_initial.py",
        "models.UniqueConstraint(fields=('buyer', 'model', 'day', 'number'), name='free_call_is_given_once'), ",
        "",
        ("tests/gateway/test_free_calls.py::test_the_database_gives_no_free_call_twice",),
        "A developer would pay more calls than were promised, as soon as two processes meet.",
    ),
    Removal(
        "free_call_still_has_its_number",
        "marketplace/sql/capture.sql",
        "      AND NOT EXISTS (SELECT FROM marketplace_freecall f WHERE f.call_id = c.id AND f.is_used)\n",
        "      AND false\n",
        ("tests/gateway/test_capture.py::test_a_free_call_that_is_taken_over_while_it_is_stored_is_free_once",),
        "A process that was thought dead would store its free call beside that of its heir.",
    ),
    Removal(
        "used_free_call_is_not_given_again",
        "marketplace/sql/capture.sql",
        "                       AND NOT o.is_used AND (o.taken_at",
        "                       AND (o.taken_at",
        ("tests/gateway/test_free_calls.py::test_what_a_dead_process_took_is_given_once_more_and_what_was_used_never",),
        "After a restart of the gateway every buyer would have all free calls of the day again.",
    ),
    Removal(
        "developers_pay_for_their_own_calls",
        "marketplace/gateway/freecalls.py",
        " and version.owner_id != buyer_id\n",
        "\n",
        ("tests/gateway/test_free_calls.py::test_developers_pay_for_their_own_calls",),
        "A developer's promotion wallet would pay the developer's own use.",
    ),
    Removal(
        "key_stands_in_a_request_once",
        "marketplace/gateway/protocol.py",
        "            if names.count(name) > 1:\n",
        "            if False:\n",
        ("tests/gateway/test_bad_input.py::test_what_two_readers_could_understand_differently_is_refused[two keys]",),
        "A proxy in front could check one key, and this process charge another.",
    ),
    Removal(
        "requests_that_wait_on_a_connection_are_bounded",
        "marketplace/gateway/protocol.py",
        "        if len(self.pipeline) >= config.PIPELINED_MAX:",
        "        if False:",
        ("tests/gateway/test_bad_input.py::test_requests_that_wait_on_one_connection_are_bounded",),
        "One connection would fill the memory, and keep all others waiting while its requests are read.",
    ),
    Removal(
        "nesting_is_bounded",
        "marketplace/gateway/replies.py",
        "    if brackets > config.JSON_DEPTH_MAX and _is_deep(body):\n",
        "    if False:\n",
        ("tests/gateway/test_bad_input.py::test_a_body_that_cannot_be_used_is_refused[nested deeply]",),
        "What can be read but not written again would end as 500, after money was set aside for it.",
    ),
    Removal(
        "log_quotes_no_error",
        "marketplace/gateway/logs.py",
        "        found.append(type(error).__name__)\n",
        "        found.append(repr(error))\n",
        ("tests/gateway/test_operations.py::test_of_an_error_the_log_tells_the_place_and_not_the_words",),
        "An error quotes the value it stumbled over: a part of somebody's prompt.",
    ),
    Removal(
        "ligature_that_is_spelled_out",
        "modelserver/embeddings.py",
        '_GROWS = {0xFDFA: unicodedata.normalize("NFKC", "\\ufdfa")}',
        "_GROWS: dict[int, str] = {}",
        ("tests/modelserver/test_embeddings.py::test_a_text_of_the_one_character_that_becomes_eighteen_does_no_harm",),
        "any buyer or contributor could write beyond the memory of the models process, and end it.",
    ),
    Removal(
        "content_that_is_not_attributed_yet_is_kept",
        "marketplace/housekeeping.py",
        "due.filter(~Exists(charged) | Exists(traced)).update(",
        "due.update(",
        (
            "tests/gateway/test_content_days.py::test_with_no_days_a_prompt_is_kept_until_it_is_attributed_and_then_is_nowhere",
        ),
        "with no days of content, or with a backlog, an answer would be gone before whoever lost it could ask again",
    ),
    # --- Attribution
    Removal(
        "net_negative_earns_nothing",
        "attribution/netting.py",
        "BILLION * max(n, 0) // p if",
        "BILLION if",
        ("tests/attribution/test_netting.py::test_a_label_flipper_pays_with_one_call_for_what_it_gained_in_another",),
        "A poisoned record would keep what it earned where it happened to help.",
    ),
    Removal(
        "gated_record_earns_nothing",
        "attribution/netting.py",
        " and not gated else 0",
        " else 0",
        ("tests/attribution/test_netting.py::test_a_gated_record_earns_nothing_and_its_sums_go_on",),
        "Records that held-out rows speak against would be paid.",
    ),
    Removal(
        "trace_reason_is_known",
        "attribution/migrations/0003_curator_accuracy.py",
        "('reason__in', ['', ",
        "('reason__in', ['', 'no_such_code', ",
        ("tests/attribution/test_reasons.py::test_no_code_without_a_sentence_can_be_stored",),
        "Somebody who was paid nothing would read a code instead of the reason.",
    ),
    Removal(
        "equal_shares_are_named",
        "attribution/planning.py",
        "is_equal = behind.pays_equally or trace.method in methods.EQUAL",
        "is_equal = behind.pays_equally",
        ("tests/attribution/test_fees.py::test_equal_shares_are_announced_wherever_they_pay",),
        "A record's page would call an equal split a measurement.",
    ),
    Removal(
        "damaged_artifact_holds_a_plan_up",
        "attribution/settlement.py",
        "    except (bundles.Damaged, FileNotFoundError) as problem:\n",
        "    except FileNotFoundError as problem:\n",
        (
            "tests/attribution/test_guard_settlement.py::"
            "test_an_epoch_whose_artifact_is_damaged_waits_until_its_files_are_back",
        ),
        "The doorbell would end in an error, and nobody would read why an epoch is not paid.",
    ),
    Removal(
        "replay_computes_net_factors",
        "attribution/replay.py",
        "        if (row.phi, row.gated) != (factor, bool(is_gated[place])):\n",
        "        if False:\n",
        ("tests/marketplace/test_verify.py::test_a_call_is_replayed_with_net_factors_out_of_its_running_sums",),
        "A replay would believe the factors that it is there to check.",
    ),
    Removal(
        "epoch_freezes_its_cards",
        "attribution/settlement.py",
        "            cards=cards.in_force(model_id),\n",
        "",
        ("tests/attribution/test_cards.py::test_an_epoch_pays_by_the_card_of_its_close_whatever_is_measured_later",),
        "A model whose scores predict too little would go on paying by them.",
    ),
    Removal(
        "a_block_in_a_crowd_of_noise_is_asked_for_itself",
        "attribution/noise/judgement.py",
        "        return acquitted | self._not_useless(usual, sizes, of, suspects=set(suspects) - acquitted)\n",
        "        return acquitted\n",
        (
            "tests/attribution/test_noise.py::"
            "test_honest_rows_that_a_model_finds_hard_are_asked_for_themselves_in_a_crowd_of_garbage",
        ),
        "An honest person whose records are unusual would be convicted with the crowd in which they came.",
    ),
    Removal(
        "noise_of_equal_labels_is_not_paid",
        "attribution/fitting.py",
        "        if _classes(targets, pool.weights) < 2:\n",
        '        if task == "classification" and _classes(targets, pool.weights) < 2:\n',
        ("tests/attribution/test_fitting.py::test_labels_that_are_one_and_the_same_number_are_refused",),
        "Rounding noise would be paid as influence.",
    ),
    Removal(
        "questions_are_bounded",
        "attribution/features.py",
        "    if not low - reach <= number <= high + reach:\n",
        "    if False:\n",
        (
            "tests/attribution/test_fitting.py::"
            "test_a_question_very_far_from_all_records_is_refused_and_names_the_column",
        ),
        "A call would be charged whose answer nobody can be paid for.",
    ),
    Removal(
        "shards_of_an_epoch_pay_equally",
        "attribution/sharding.py",
        "pays_equally=row.epoch.pays_equally(row.model_version_id)",
        "pays_equally=False",
        ("tests/attribution/test_sharding.py::test_what_is_paid_equally_is_the_same_for_any_number_of_shards",),
        "Whether a card below a floor counts would depend on how many calls an epoch has.",
    ),
    Removal(
        "shards_carry_over",
        "attribution/netting.py",
        "        self.high = self.high + other.high + (sums >> LIMB_BITS)\n",
        "        self.high = self.high + other.high\n",
        ("tests/attribution/test_netting.py::test_an_epoch_in_any_number_of_shards_is_the_same_to_the_nano",),
        "How many workers were free would decide who is paid.",
    ),
    Removal(
        "shard_is_done_before_it_counts",
        "attribution/sharding.py",
        "        if missing := sum(row.result is None for row in rows):\n",
        "        if missing := 0:\n",
        ("tests/attribution/test_sharding.py::test_an_epoch_waits_for_its_shards_and_is_planned_once",),
        "An epoch would be planned without the calls of a worker that is not done.",
    ),
    Removal(
        "follower_weighs_nothing",
        "attribution/fitting.py",
        "[0.0 if row.id in leader_of else 1.0 for row in self.rows]",
        "[1.0 for row in self.rows]",
        (
            "tests/attribution/test_guard_settlement.py::test_copies_of_earlier_records_earn_nothing",
            "tests/attribution/test_copies.py::"
            "test_a_model_of_two_datanets_pays_as_if_the_copies_in_one_of_the_other_were_not_there",
        ),
        "Copying somebody's records would pay.",
    ),
    Removal(
        "follower_is_not_searched",
        "attribution/engines/spans.py",
        "[(place, features[place]) for place in leaders.tolist()]",
        "list(enumerate(features))",
        ("tests/attribution/test_spans.py::test_a_follower_is_not_indexed_and_scores_zero",),
        "The copy of a record would change what an answer's words are worth, and take what its leader does not contain.",
    ),
    Removal(
        "span_goes_to_the_earliest",
        "attribution/engines/span_index.py",
        "places = places.min(keepdims=True)",
        "places = places.max(keepdims=True)",
        ("tests/attribution/test_spans.py::test_a_span_goes_to_the_earliest_leader_that_contains_it",),
        "Who repeats an earlier record in a later one would take what it earns.",
    ),
    Removal(
        "own_words_pay_nobody",
        "attribution/spans.py",
        '"causal_millionths": spans.causal_fraction_of(answer)',
        '"causal_millionths": 1_000_000',
        ("tests/gateway/test_spans.py::test_who_wrote_what_a_connected_model_repeats_is_paid_for_it",),
        "Six common words would earn what a page of the model's own words is paid.",
    ),
    Removal(
        "withdrawn_record_is_not_repeated",
        "attribution/spans.py",
        '"excluded_records": excluded',
        '"excluded_records": set()',
        (
            "tests/gateway/test_spans.py"
            "::test_a_record_that_was_withdrawn_before_the_call_is_paid_nothing_and_its_copy_takes_no_place",
        ),
        "A withdrawn record would keep what it says from the other record that says it.",
    ),
    Removal(
        "buyer_sees_records_as_elsewhere",
        "marketplace/views/explore_playground.py",
        "{pk: _text_of(known[pk]) for pk in seen}",
        "{pk: _text_of(known[pk]) for pk in known}",
        (
            "tests/gateway/test_spans.py"
            "::test_a_record_that_was_withdrawn_before_the_call_is_paid_nothing_and_its_copy_takes_no_place",
        ),
        "Six words would open a withdrawn record, or one outside of every preview, to who can make a model say them.",
    ),
    Removal(
        "repeated_author_can_be_forgotten",
        "attribution/forgetting.py",
        'QUOTING = ("retrieval", "connected")',
        'QUOTING = ("retrieval",)',
        ("tests/gateway/test_spans.py::test_who_wrote_what_a_connected_model_repeats_is_paid_for_it",),
        "The words of an erased person would stay readable in answers that repeat them.",
    ),
    Removal(
        "epoch_is_closed_once",
        "attribution/settlement.py",
        "    if not created:\n        return 0\n",
        "",
        ("tests/attribution/test_guard_settlement.py::test_two_sequencers_close_an_epoch_once",),
        "Two sequencers would make the same epochs.",
    ),
    Removal(
        "epoch_is_planned_once",
        "attribution/settlement.py",
        "            if epoch.status != Epoch.Status.CLOSED:\n                return epoch\n",
        "",
        ("tests/attribution/test_guard_settlement.py::test_two_workers_plan_an_epoch_once",),
        "A doorbell that rings twice would plan a second set of postings.",
    ),
    Removal(
        "epoch_is_posted_once",
        "attribution/settlement.py",
        "    if epoch.status != Epoch.Status.PLANNED:\n        return False\n",
        "",
        ("tests/attribution/test_guard_settlement.py::test_two_sequencers_post_an_epoch_once",),
        "Only the ids of the postings would stand between an epoch and its second payment.",
    ),
    # --- Marketplace
    Removal(
        "promotion_reference_counts_once",
        "marketplace/migrations/0001_initial.py",
        "models.UniqueConstraint(fields=('user', 'reference'), name='promotion_reference_counts_once'), ",
        "",
        ("tests/marketplace/test_promotion.py::test_two_requests_with_one_reference_that_meet_move_once",),
        "A second click would move the amount again.",
    ),
    Removal(
        "two_admins_approve_a_run",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('second_approver__isnull', True), models.Q(('first_approver__isnull', False), models.Q(('first_approver', models.F('second_approver')), _negated=True)), _connector='OR'), name='payout_run_has_two_different_approvers'),\n",
        "",
        ("tests/marketplace/test_wallets.py::test_a_payout_run_needs_two_different_admins",),
        "One admin could give both approvals past the service.",
    ),
    Removal(
        "the_same_admin_counts_once",
        "marketplace/payouts.py",
        " or run.first_approver_id == by.pk:",
        ":",
        ("tests/marketplace/test_wallets.py::test_a_payout_run_needs_two_different_admins",),
        "A second click of the same admin would be taken for the second approval.",
    ),
    Removal(
        "a_run_needs_a_zero",
        "marketplace/payouts.py",
        "    _check_zero(run)  # outside",
        "    # outside",
        ("tests/marketplace/pages/test_admin.py::test_one_nano_too_much_is_shown_refused_and_named",),
        "Money could leave while the books and the lines disagree.",
    ),
    Removal(
        "payout_acts_want_a_fresh_proof",
        "marketplace/views/admin_payouts.py",
        "@reauthentication_required\n@require_POST\ndef admin_payout_act(",
        "@require_POST\ndef admin_payout_act(",
        (
            "tests/accounts/test_second_factor.py::test_payout_runs_adjustments_and_a_new_secret_ask_for_the_password_again",
        ),
        "Who finds an admin's desk open could approve and send money.",
    ),
    Removal(
        "export_of_bank_details_wants_a_fresh_proof",
        "marketplace/views/admin_payouts.py",
        "@reauthentication_required\n@require_safe\ndef admin_payout_export(",
        "@require_safe\ndef admin_payout_export(",
        (
            "tests/accounts/test_second_factor.py::test_payout_runs_adjustments_and_a_new_secret_ask_for_the_password_again",
        ),
        "Who finds an admin's desk open could take everybody's bank details.",
    ),
    Removal(
        "new_terms_are_asked_for",
        "marketplace/people.py",
        "    return bool(agreed) and settings.TERMS_VERSION not in agreed",
        "    return False",
        ("tests/accounts/test_new_terms.py::test_a_new_version_asks_before_the_next_page_and_goes_on_there",),
        "People would be held to terms that they were never shown.",
    ),
    Removal(
        "earnings_of_a_record_are_not_public",
        "marketplace/earnings.py",
        "    return datanets.can_curate(user, record.datanet) if curates is None else curates",
        "    return True",
        (
            "tests/marketplace/pages/test_explore.py"
            "::test_what_a_record_earned_and_in_how_many_calls_is_no_strangers_business",
        ),
        "Anybody could compare the amounts before and after an epoch and learn which records a call used.",
    ),
    Removal(
        "the_playgrounds_key_is_for_one_model",
        "marketplace/playground.py",
        "        models=[model],\n",
        "",
        (
            "tests/marketplace/pages/test_explore.py"
            "::test_the_playground_key_is_made_once_per_session_for_one_model_and_a_few_hours",
        ),
        "A key that is made without a fresh proof would open every model.",
    ),
    Removal(
        "row_lock_of_a_sale",
        "marketplace/access.py",
        'ListedModel.objects.select_for_update(of=("self",)).select_related(',
        "ListedModel.objects.select_related(",
        (
            "tests/marketplace/test_guard_locks.py"
            "::test_two_clicks_on_buy_that_meet_before_either_is_stored_sell_one_pass",
        ),
        "A double click would buy two passes.",
    ),
    Removal(
        "price_list_is_immutable",
        "marketplace/sql/immutable.sql",
        """\
CREATE TRIGGER price_list_is_immutable BEFORE UPDATE OR DELETE ON marketplace_pricelist
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
""",
        "",
        ("tests/marketplace/test_immutable.py::test_what_was_agreed_or_remembered_is_never_changed",),
        "Whoever reaches the database could lower a price that receipts name by its hash.",
    ),
    Removal(
        "split_rule_is_immutable",
        "marketplace/sql/immutable.sql",
        """\
CREATE TRIGGER split_rule_is_immutable BEFORE UPDATE OR DELETE ON marketplace_splitrule
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
""",
        "",
        ("tests/marketplace/test_immutable.py::test_what_was_agreed_or_remembered_is_never_changed",),
        "Whoever reaches the database could change who is paid, under the hash of the old rule.",
    ),
    Removal(
        "audit_log_is_append_only",
        "marketplace/sql/immutable.sql",
        """\
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON marketplace_auditevent
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
""",
        "",
        ("tests/marketplace/test_immutable.py::test_what_was_agreed_or_remembered_is_never_changed",),
        "Whoever did something could make the site forget it.",
    ),
    Removal(
        "row_lock_of_a_training",
        "marketplace/training.py",
        'ListedModel.objects.select_for_update(of=("self",)).select_related("owner").get(pk=model.pk)',
        'ListedModel.objects.select_related("owner").get(pk=model.pk)',
        ("tests/marketplace/test_guard_locks.py::test_two_clicks_on_train_hold_one_fee",),
        "A double click would hold and charge two fees.",
    ),
    Removal(
        "outside_reference_is_unique",
        "marketplace/migrations/0001_initial.py",
        "('external_reference', models.CharField(max_length=120, unique=True)),",
        "('external_reference', models.CharField(max_length=120)),",
        ("tests/marketplace/test_guard_locks.py::test_one_payment_recorded_by_two_admins_at_once_counts_once",),
        "One bank transfer recorded by two admins would be credited twice.",
    ),
    Removal(
        "an_old_copy_does_not_start",
        "marketplace/management/commands/setup.py",
        "                    sequencer.check_not_behind_witness()\n",
        "                    pass\n",
        ("tests/marketplace/test_setup.py::test_a_site_on_an_old_copy_does_not_start",),
        "Web and gateway would sell on a database that was restored from before the last witnessed head.",
    ),
    Removal(
        "a_lease_is_not_raised_by_less_than_nothing",
        "marketplace/gateway/leases.py",
        "        if missing_nano <= 0:\n            return  # a call that ended meanwhile gave back enough\n",
        "",
        ("tests/gateway/test_leases.py::test_what_a_call_gives_back_before_a_lease_is_raised_is_enough_for_who_waits",),
        "A call whose money had just come back would be refused with 500 by the books.",
    ),
    Removal(
        "a_call_costs_no_more_than_was_reserved",
        "marketplace/gateway/streaming.py",
        "    return min(prompt, prepared.prompt_tokens), min(completion, prepared.max_tokens)\n",
        "    return prompt, completion\n",
        ("tests/gateway/test_streams.py::test_no_call_costs_more_than_was_reserved_whatever_its_model_says_it_used",),
        "A model's server that says too much would be paid more than its buyer's lease holds, or than the wallet has.",
    ),
    Removal(
        "a_lease_of_a_limit_is_not_cut_by_what_came_back",
        "marketplace/gateway/allowances.py",
        "        if lacking <= 0:\n            return  # a call that ended meanwhile gave back enough\n",
        "",
        (
            "tests/gateway/test_limits.py"
            "::test_what_calls_give_back_while_more_is_asked_for_is_not_given_to_other_processes_as_well",
        ),
        "Room that a process has given to calls would go back to the database, and be given to others' calls as well.",
    ),
    Removal(
        "a_lease_leaves_others_what_their_calls_need",
        "marketplace/gateway/leases.py",
        "min(wanted_nano - least_nano, left_nano // 4)",
        "wanted_nano - least_nano",
        (
            "tests/gateway/test_leases.py::test_a_process_leaves_others_what_their_calls_may_need_and_what_it_took_goes_back",
        ),
        "Callers of one process would be told that the wallet is empty, while another one holds its rest for half a minute.",
    ),
    Removal(
        "a_lease_that_is_too_small_goes_back",
        "marketplace/gateway/leases.py",
        "                    lease.scarce = True\n                    if not lease.running:\n"
        "                        self._begin_close(lease)\n",
        "                    pass\n",
        ("tests/gateway/test_leases.py::test_a_lease_that_is_too_small_for_a_call_is_there_for_other_processes",),
        "Two processes with half of a call each would refuse it, until one of them has heard of no call for half a minute.",
    ),
    Removal(
        "an_old_copy_that_went_on_is_refused",
        "ledger/sequencer.py",
        "if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY:",
        "if False:",
        ("tests/ledger/test_log.py::test_an_old_copy_that_went_on_beyond_the_witnessed_head_is_refused_too",),
        "A restored or rewritten log that is longer than what the witness saw would go on under another history.",
    ),
    Removal(
        "what_was_published_is_remembered",
        "ledger/publication.py",
        "if not is_kept or log.root(before.size) != before.root:",
        "if False:",
        ("tests/marketplace/test_setup.py::test_a_site_on_an_old_copy_does_not_start_while_the_witnesses_are_away",),
        "With its witnesses away a site would sell on an old copy, though its own files show the newer head.",
    ),
    Removal(
        "setup_leaves_the_log_to_a_running_sequencer",
        "marketplace/management/commands/setup.py",
        "        if mine:\n",
        "        if True:\n",
        ("tests/marketplace/test_setup.py::test_who_waits_for_the_sequencer_does_not_judge_its_log",),
        "A head that is signed meanwhile would look like an old copy.",
    ),
    Removal(
        "a_refused_plan_stops_no_other",
        "attribution/settlement.py",
        "    except ledger.LedgerError:\n",
        "    except ledger.Unbalanced:\n",
        (
            "tests/attribution/test_guard_settlement.py"
            "::test_a_plan_that_the_books_refuse_keeps_no_other_from_being_posted",
        ),
        "One epoch that cannot be posted would end every settlement.",
    ),
    Removal(
        "the_bank_file_holds_what_is_still_to_be_paid",
        "marketplace/payouts.py",
        "filter(status__in=[Withdrawal.Status.APPROVED, Withdrawal.Status.SENT])",
        "all()",
        ("tests/marketplace/test_wallets.py::test_a_confirmed_item_leaves_the_books_and_a_returned_one_comes_back",),
        "A second file would pay what arrived, or came back, again.",
    ),
    Removal(
        "another_admin_approves_a_deposit",
        "marketplace/migrations/0001_initial.py",
        ", models.CheckConstraint(condition=models.Q(('approved_by__isnull', True), models.Q(('approved_by', "
        "models.F('recorded_by')), _negated=True), _connector='OR'), name='deposit_is_approved_by_another')",
        "",
        ("tests/marketplace/test_wallets.py::test_the_database_refuses_a_deposit_approved_by_its_recorder",),
        "Whoever records a large deposit could approve it too.",
    ),
    Removal(
        "another_admin_approves_an_adjustment",
        "marketplace/migrations/0001_initial.py",
        ", models.CheckConstraint(condition=models.Q(models.Q(('status', 'posted'), _negated=True), models.Q(('decided_by', "
        "models.F('proposed_by')), _negated=True), _connector='OR'), name='adjustment_is_approved_by_another')",
        "",
        ("tests/marketplace/test_adjustments.py::test_the_database_refuses_an_adjustment_that_is_not_of_two_admins",),
        "Whoever proposes to move somebody's money could move it.",
    ),
    Removal(
        "proposer_of_an_adjustment",
        "marketplace/adjustments.py",
        "    if adjustment.proposed_by_id == by.pk:\n",
        "    if False:\n",
        ("tests/marketplace/test_adjustments.py::test_money_moves_by_hand_once_another_admin_approved_it",),
        "One admin could try to be both; only the constraint would be left.",
    ),
    Removal(
        "own_money_is_others_to_adjust",
        "marketplace/adjustments.py",
        "    if by.pk in (adjustment.payer_id, adjustment.payee_id):\n",
        "    if False:\n",
        ("tests/marketplace/test_adjustments.py::test_no_admin_decides_about_their_own_money",),
        "An admin could ask a colleague for a nod, and take the platform's money.",
    ),
    Removal(
        "row_lock_of_an_adjustment",
        "marketplace/adjustments.py",
        'Adjustment.objects.select_for_update(of=("self",)).select',
        "Adjustment.objects.select",
        ("tests/marketplace/test_adjustments.py::test_an_approval_and_a_refusal_that_meet_do_not_both_count",),
        "What one admin refused would have moved, and say that it did not.",
    ),
    # --- Starting a site
    Removal(
        "only_the_sequencer_may_log",
        "ledger/privileges.py",
        "        _grant(role, FOR_THE_APPLICATION)\n",
        "        _grant(role, FOR_THE_APPLICATION + FOR_THE_SEQUENCER)\n",
        ("tests/ledger/test_append_only.py::test_the_application_can_neither_order_nor_log_nor_sign",),
        "Whoever takes over the web could append leaves of their own making, and keep heads that nobody signed.",
    ),
    Removal(
        "the_sequencers_address_is_kept_from_others",
        "devstack/processes.py",
        "if name not in CLOSELY_HELD or name in self.receives",
        "if name",
        ("tests/devstack/test_services.py::test_only_the_sequencer_is_told_the_address_of_its_role",),
        "Web, gateway and workers would find the passwords of roles with more rights in their environment.",
    ),
    Removal(
        "initdb_works_beside_its_place",
        "devstack/services.py",
        'unfinished = self.data.with_name(self.data.name + ".part")',
        "unfinished = self.data",
        ("tests/devstack/test_services.py::test_a_killed_initdb_leaves_nothing_that_looks_like_a_database",),
        "A first start that is interrupted would leave a state folder in which no later one works.",
    ),
    Removal(
        "lock_of_a_port",
        "devstack/children.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        ("tests/devstack/test_services.py::test_two_sites_that_start_at_the_same_moment_choose_different_ports",),
        "Two first starts would both choose port 8000, and one would take the other's pages for its own.",
    ),
    Removal(
        "sequencer_waits_for_no_result",
        "ledger/outbox.py",
        'retry_policy={"max_retries": 0}, ignore_result=True',
        'retry_policy={"max_retries": 0}',
        ("tests/test_architecture.py::test_money_whose_time_has_come_moves_without_celery_and_its_queue",),
        "While Redis is away the sequencer would end at the first thing to ring for, and all money would stand still.",
    ),
    Removal(
        "old_key_is_kept_until_it_is_not_needed",
        "ledger/keys.py",
        "if len(settings.WITNESSES) - len(ignorant) < settings.WITNESS_QUORUM:",
        "if False:",
        ("tests/ledger/test_rotation.py::test_a_log_changes_its_key_and_nobody_loses_sight_of_it",),
        "No witness would sign a head any more: receipts would wait until somebody notices.",
    ),
    Removal(
        "new_key_is_announced_first",
        "ledger/keys.py",
        "if leaf is None or log.head().size <= leaf:",
        "if False:",
        ("tests/ledger/test_rotation.py::test_a_log_changes_its_key_and_nobody_loses_sight_of_it",),
        "Whoever pins the old key could not tell the log's new key from an intruder's.",
    ),
    Removal(
        "wrong_line_by_a_former_key",
        "ledger/receipts.py",
        "for vkey in present or [log_vkey]:",
        "for vkey in present[:1] or [log_vkey]:",
        ("tests/ledger/test_verify_receipt.py::test_server_and_browser_judge_the_keys_of_a_changed_log_alike",),
        "A changed receipt would be called verified.",
    ),
    Removal(
        "files_of_the_log_give_its_root",
        "ledger/publication.py",
        "if merkle.root(head.size, hash_at) != head.root:",
        "if False:",
        ("tests/ledger/test_tiles.py::test_missing_files_come_back_and_wrong_ones_are_told_and_kept",),
        "Mirrors would copy a head together with tiles that do not give its root.",
    ),
    Removal(
        "published_head_is_extended",
        "ledger/publication.py",
        "if before.size > head.size or merkle.root(before.size, hash_at) != before.root:",
        "if False:",
        ("tests/ledger/test_tiles.py::test_an_old_copy_of_the_books_does_not_take_back_what_was_published",),
        "A restored backup would publish a smaller head, or another history, over the one that mirrors have.",
    ),
    Removal(
        "published_entry_gives_its_hash",
        "ledger/publication.py",
        "if [merkle.leaf_hash(entry) for entry in entries] != hashes:",
        "if False:",
        ("tests/ledger/test_tiles.py::test_missing_files_come_back_and_wrong_ones_are_told_and_kept",),
        "An entry that was changed in the books would be published under the hash of another one.",
    ),
    Removal(
        "files_of_the_log_are_not_overwritten",
        "ledger/management/commands/tiles.py",
        "if wrong and not rewrite:",
        "if wrong and (rewrite := True) is None:",
        ("tests/ledger/test_tiles.py::test_missing_files_come_back_and_wrong_ones_are_told_and_kept",),
        "The only trace of what the log said before would be replaced by what it says now.",
    ),
    Removal(
        "only_witnessed_heads_are_published",
        "ledger/publication.py",
        "        head = log.head()\n        if head.size == self._told:",
        "        head = log.head(quorum=False)\n        if head.size == self._told:",
        ("tests/ledger/test_tiles.py::test_only_what_enough_witnesses_have_seen_is_published",),
        "The files would show a head that no witness has seen, which may be one of two.",
    ),
    Removal(
        "names_of_the_logs_files",
        "ledger/proofs.py",
        "not tiles.NAME.fullmatch(name) or not path.is_file()",
        "not path.is_file()",
        ("tests/ledger/test_tiles.py::test_the_files_are_served_to_be_kept_for_ever_and_the_head_to_be_asked_for",),
        "An address with dots could read any file of the web process.",
    ),
    # --- Demo
    Removal(
        "demo_decides_on_its_own_only",
        "demo/loader.py",
        "own = Submission.objects.filter(pk__in=sent)",
        "own = Submission.objects.all()",
        ("tests/demo/test_loading.py::test_what_people_send_neither_stops_the_demo_nor_is_decided_by_it",),
        "A robot would approve in a person's name what strangers send, and any unfinished upload would stop the next start.",
    ),
    Removal(
        "one_chain_loads_the_demo",
        "demo/tasks.py",
        "pg_try_advisory_lock(hashtextextended('demo', 0))",
        "hashtextextended('demo', 0) IS NOT NULL",
        ("tests/demo/test_loading.py::test_two_chains_that_load_the_demo_become_one",),
        "Every interrupted start would leave one more chain of tasks, each sending and calling what the others did.",
    ),
    Removal(
        "a_token_ends_by_itself",
        "marketplace/tokens.py",
        ", expires_at__gt=now",
        "",
        ("tests/marketplace/pages/test_settings.py::test_a_token_ends_by_itself_and_says_when_it_was_used",),
        "A token that somebody lost years ago would still act for them.",
    ),
    # --- Noise cases
    Removal(
        "the_approver_of_a_record_decides_no_noise_case",
        "attribution/noise_cases.py",
        "    require_decider(case, by)\n",
        "",
        ("tests/marketplace/pages/test_noise.py::test_a_case_by_pages_and_by_program",),
        "Contributors would clear their own garbage.",
    ),
    Removal(
        "decisions_of_noise_cases_wait_for_plans",
        "marketplace/noise_cases.py",
        "    reversals.lock_every()\n    _check_is_folded(case.contributor_id)\n",
        "    _check_is_folded(case.contributor_id)\n",
        (
            "tests/marketplace/test_noise_cases.py::"
            "test_a_case_that_is_cleared_lets_everything_go_also_what_a_plan_holds_ahead",
        ),
        "A lot that a plan holds ahead would stay held for ever.",
    ),
    # --- Theft disputes
    Removal(
        "row_lock_of_a_decided_theft_dispute",
        "datanets/thefts.py",
        'TheftDispute.objects.select_for_update(of=("self",), no_key=True)\n    dispute',
        "TheftDispute.objects.all()\n    dispute",
        ("tests/marketplace/test_thefts.py::test_two_who_uphold_a_dispute_at_once_are_the_first_and_the_second",),
        "Two who uphold at once would both be the first, and one of them would be forgotten.",
    ),
    Removal(
        "theft_disputes_of_a_person_are_counted_alone",
        "datanets/thefts.py",
        "    User.objects.select_for_update(no_key=True).get(pk=by.pk)\n",
        "",
        ("tests/datanets/test_guard_locks.py::test_theft_disputes_opened_at_once_share_one_limit_and_one_record",),
        "Somebody could hold up any number of people's earnings at once.",
    ),
    Removal(
        "row_lock_of_a_disputed_record",
        "datanets/thefts.py",
        "    locked = Record.objects.select_for_update(no_key=True).filter",
        "    locked = Record.objects.filter",
        ("tests/datanets/test_guard_locks.py::test_theft_disputes_opened_at_once_share_one_limit_and_one_record",),
        "Of two who dispute a record at once, one would be told of a conflict instead of the other dispute.",
    ),
    Removal(
        "no_party_decides_a_theft_dispute",
        "datanets/thefts.py",
        "    require_decider(dispute, by)\n",
        "",
        ("tests/datanets/test_thefts.py::test_who_decides_is_no_party_and_the_second_is_another_one",),
        "Somebody could give themselves another person's earnings.",
    ),
    Removal(
        "opening_a_theft_dispute_waits_for_plans",
        "marketplace/thefts.py",
        "    reversals.lock_every()\n    try:\n        disputed.check_is_folded(dispute.contributor_id)\n    except",
        "    try:\n        disputed.check_is_folded(dispute.contributor_id)\n    except",
        ("tests/marketplace/test_thefts.py::test_a_dispute_that_meets_a_plan_under_way_holds_what_that_plan_pays",),
        "A plan that had looked for disputes a moment before would make a lot that nobody holds.",
    ),
    Removal(
        "decisions_of_theft_disputes_wait_for_plans",
        "marketplace/thefts.py",
        "    reversals.lock_every()\n    try:\n        disputed.check_is_folded(dispute.contributor_id)\n        moved",
        "    try:\n        disputed.check_is_folded(dispute.contributor_id)\n        moved",
        (
            "tests/marketplace/test_thefts.py::"
            "test_a_decision_that_meets_a_plan_under_way_waits_for_its_posting_and_moves_that_too",
        ),
        "A plan would pay the contributor once more for records that were just given to their author.",
    ),
    Removal(
        "plans_look_again_for_records_that_were_given_to_authors",
        "attribution/settlement.py",
        "if (reversals.before_plan(epoch), thefts.authors()) == (given_back, authors):",
        "if reversals.before_plan(epoch) == given_back:",
        (
            "tests/marketplace/test_thefts.py::"
            "test_a_decision_that_meets_a_plan_under_way_waits_for_its_posting_and_moves_that_too",
        ),
        "A plan that did its sums before a decision would pay the contributor after it.",
    ),
    Removal(
        "theft_disputes_wait_for_postings",
        "attribution/settlement.py",
        "    reversals.lock_beside_others()\n",
        "",
        (
            "tests/marketplace/test_thefts.py::test_a_dispute_that_meets_a_posting_under_way_waits_until_its_lots_are_there",
        ),
        "A lot could be made, and vest, between a dispute's look at lots and its end.",
    ),
    Removal(
        "plans_hold_disputed_lots_ahead",
        "attribution/settlement.py",
        "    frozen.hold_what_is_planned(epoch)\n",
        "",
        ("tests/marketplace/test_thefts.py::test_what_comes_in_while_a_dispute_runs_is_held_from_its_first_moment",),
        "Where the window is short, disputed earnings would be paid out before anybody holds them.",
    ),
    Removal(
        "the_fold_holds_lots_from_their_first_moment",
        "ledger/sql/fold.sql",
        "h.asked_at, h.held_until,",
        "NULL::timestamptz, h.held_until,",
        ("tests/marketplace/test_thefts.py::test_what_comes_in_while_a_dispute_runs_is_held_from_its_first_moment",),
        "A lot that was asked to be held would vest at once.",
    ),
    Removal(
        "a_theft_dispute_begins_when_its_lots_are_held",
        "marketplace/thefts.py",
        "    dispute.opened_at = thefts.clock()\n",
        "",
        (
            "tests/marketplace/test_thefts.py::test_what_vests_while_a_dispute_is_being_opened_is_held_or_paid_out_and_never_both",
        ),
        "What vested while a dispute was being opened would seem to have been disputed.",
    ),
    Removal(
        "refunds_take_the_part_of_a_given_record_from_its_author",
        "attribution/reversals.py",
        "(gone[line.payee_id] if is_data and line.payee_id else 0)",
        "0",
        ("tests/marketplace/test_thefts.py::test_a_refund_takes_the_part_of_a_disputed_record_from_whoever_has_it",),
        "A contributor would give back what had gone to the author, and the buyer would get it twice.",
    ),
    # --- Refunds
    Removal(
        "row_lock_of_a_refunded_call",
        "marketplace/refunds.py",
        'Call.objects.select_for_update(of=("self",)).select_related',
        "Call.objects.select_related",
        (
            "tests/marketplace/test_refunds.py::test_two_refunds_of_a_call_that_meet_give_it_back_once",
            "tests/marketplace/test_disputes.py::test_an_answer_that_meets_the_end_of_its_time_counts_or_the_refund_does",
        ),
        "Two refunds, or a refund and a dispute's end, would both find the call as it was before.",
    ),
    Removal(
        "plans_lock_the_settlement_of_the_model",
        "attribution/settlement.py",
        "            reversals.lock(epoch.model_id)\n",
        "",
        (
            "tests/marketplace/test_refunds.py::test_a_plan_that_meets_a_refund_under_way_leaves_the_call_out",
            "tests/marketplace/test_refunds.py::test_a_refund_that_meets_a_plan_under_way_waits_for_its_posting",
        ),
        "A plan would pay what the pools are giving back.",
    ),
    Removal(
        "refunds_lock_the_settlement_of_the_model",
        "attribution/reversals.py",
        "    lock(model_id)\n    epoch = _epoch_of(charge.id, model_id)\n",
        "    epoch = _epoch_of(charge.id, model_id)\n",
        (
            "tests/marketplace/test_refunds.py::test_a_plan_that_meets_a_refund_under_way_leaves_the_call_out",
            "tests/marketplace/test_refunds.py::test_a_refund_that_meets_a_plan_under_way_waits_for_its_posting",
        ),
        "The pools would give back what a plan is about to pay.",
    ),
    Removal(
        "refunded_calls_are_left_out_of_the_plan",
        "attribution/reversals.py",
        "    left_out = mine.filter(was_settled=False, charge_id__in=epoch.charge_ids)\n",
        "    left_out = mine.none()\n",
        ("tests/marketplace/test_refunds.py::test_a_call_that_was_given_back_before_the_plan_pays_nobody",),
        "People would be paid for a call that nobody paid for.",
    ),
    Removal(
        "refunded_calls_leave_the_running_sums",
        "attribution/settlement.py",
        "            taken_out=taken_out,\n",
        "",
        (
            "tests/marketplace/test_refunds.py::"
            "test_the_running_sums_lose_a_call_that_was_given_back_after_its_settlement",
        ),
        "A developer and a buyer who are one could move other people's net factors for nothing.",
    ),
    Removal(
        "window_of_a_refund",
        "marketplace/refunds.py",
        "    _check_window(call)\n    return make(refund, grounds=Refund.Grounds.DEVELOPER, by=by)\n",
        "    return make(refund, grounds=Refund.Grounds.DEVELOPER, by=by)\n",
        ("tests/marketplace/test_refunds.py::test_after_its_window_a_call_is_not_refunded",),
        "What people may already have spent would be asked back.",
    ),
    Removal(
        "lots_that_vested_are_not_taken_from",
        "ledger/sql/post.sql",
        " AND vested_at IS NULL AND taken_nano + amount <= amount_nano;",
        " AND taken_nano + amount <= amount_nano;",
        ("tests/marketplace/test_refunds.py::test_what_vests_while_it_is_refunded_is_not_refunded_from_a_wallet",),
        "A refund would be paid by other earnings of the same person.",
    ),
    Removal(
        "second_admin_of_a_refund",
        "marketplace/refunds.py",
        "    if refund.first_admin_id == by.pk:\n        return refund\n",
        "",
        ("tests/marketplace/test_refunds.py::test_two_admins_refund_and_one_of_them_twice_counts_once",),
        "One admin could try to be both; only the constraint would be left.",
    ),
    Removal(
        "every_reason_of_a_held_lot",
        "marketplace/holds.py",
        '    standing = list(_standing(lot_id).filter(theft=None, noise=None).order_by("placed_at"))\n',
        "    standing = []\n",
        ("tests/marketplace/test_disputes.py::test_a_lot_that_is_held_twice_is_let_go_with_the_last_reason",),
        "The end of a dispute would let go what an admin holds.",
    ),
    Removal(
        "released_unattributed_money_locks_the_settlement",
        "marketplace/releasing.py",
        "    reversals.lock(epoch.model_id)\n",
        "",
        ("tests/marketplace/test_releasing.py::test_two_that_come_at_once_release_it_once",),
        "A refund and a release would both take the same unattributed money.",
    ),
    Removal(
        "passes_once_a_retirement_is_announced",
        "marketplace/access.py",
        "    if model.retire_from is not None:\n",
        "    if False:\n",
        ("tests/marketplace/test_retiring.py::test_once_announced_no_pass_is_sold_and_nothing_is_trained",),
        "Passes would be sold for which no money to pay back is held.",
    ),
    Removal(
        "content_security_policy",
        "marketplace/settings.py",
        '    "csp.middleware.CSPMiddleware",\n',
        "",
        ("tests/marketplace/test_security_headers.py::test_every_answer_says_what_a_browser_must_refuse",),
        "A script that got into a page would run.",
    ),
    # --- Webhooks and notices
    Removal(
        "news_goes_to_an_endpoint_once",
        "marketplace/migrations/0001_initial.py",
        """\
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.UniqueConstraint(fields=('endpoint', 'notice'), name='news_goes_to_an_endpoint_once'),
        ),
""",
        "",
        (
            "tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[news go to an endpoint twice]",
        ),
        "A receiver would be told the same twice, as two deliveries with attempts of their own.",
    ),
    Removal(
        "webhook_delivery_is_where_it_says",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(models.Q(('ended_at', None), ('status', 'waiting')), models.Q(('status__in', ['delivered', 'failed']), ('ended_at__isnull', False)), _connector='OR'), name='webhook_delivery_is_where_it_says'),\n",
        "",
        (
            "tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[what waits has ended]",
        ),
        "What has ended could wait, and be sent for ever.",
    ),
    Removal(
        "old_webhook_secret_has_an_end",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(models.Q(('old_secret_token', ''), ('old_secret_until', None)), models.Q(models.Q(('old_secret_token', ''), _negated=True), ('old_secret_until__isnull', False)), _connector='OR'), name='old_webhook_secret_has_an_end'),\n",
        "",
        (
            "tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[an old secret has no end]",
        ),
        "A secret that was replaced because it leaked would sign for ever.",
    ),
    Removal(
        "webhook_that_gave_up_is_paused",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('gave_up', False), ('paused_at__isnull', False), _connector='OR'), name='webhook_that_gave_up_is_paused'),\n",
        "",
        ("tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[who gave up goes on]",),
        "A page would say that an endpoint is paused which is sent to.",
    ),
    Removal(
        "webhook_attempt_has_an_answer_or_an_error",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(models.Q(('error', ''), ('status_code__isnull', False)), models.Q(('status_code', None), models.Q(('error', ''), _negated=True)), _connector='OR'), name='webhook_attempt_has_an_answer_or_an_error'),\n",
        "",
        (
            "tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[an attempt ended in no way]",
        ),
        "The log would show an attempt of which nobody knows how it ended.",
    ),
    Removal(
        "webhook_attempt_is_logged_once",
        "marketplace/migrations/0001_initial.py",
        """\
        migrations.AddConstraint(
            model_name='webhookattempt',
            constraint=models.UniqueConstraint(fields=('delivery', 'number'), name='webhook_attempt_is_logged_once'),
        ),
""",
        "",
        (
            "tests/marketplace/test_webhooks.py::test_the_database_refuses_webhooks_that_cannot_be[an attempt is logged twice]",
        ),
        "The log would tell of sendings that there were not.",
    ),
    Removal(
        "watched_balance_is_positive",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('low_nano', None), ('low_nano__gt', 0), _connector='OR'), name='watched_balance_is_positive'),\n",
        "",
        ("tests/gateway/test_notices.py::test_the_database_refuses_thresholds_that_cannot_be[a threshold is nothing]",),
        "Somebody would wait to be told of a balance that there cannot be.",
    ),
    Removal(
        "low_balance_is_told_of_a_threshold",
        "marketplace/migrations/0001_initial.py",
        "                    models.CheckConstraint(condition=models.Q(('told_low', False), ('low_nano__isnull', False), _connector='OR'), name='low_balance_is_told_of_a_threshold'),\n",
        "",
        (
            "tests/gateway/test_notices.py::test_the_database_refuses_thresholds_that_cannot_be[a low balance is told without a threshold]",
        ),
        "A threshold that is set later would count as told already.",
    ),
    Removal(
        "claim_of_a_webhook_delivery",
        "marketplace/delivering.py",
        " FOR UPDATE SKIP LOCKED) d",
        ") d",
        ("tests/marketplace/test_webhooks.py::test_two_workers_never_claim_the_same",),
        "Two workers would send the same at the same time, and wait for each other.",
    ),
    Removal(
        "claim_that_lasts",
        "marketplace/delivering.py",
        "        delivery.due_at = now + timedelta(seconds=CLAIM_S)\n",
        "",
        ("tests/marketplace/test_webhooks.py::test_a_worker_killed_between_sending_and_marking_sends_the_same_again",),
        "What one worker sends would be given to the next one at once.",
    ),
    Removal(
        "one_round_of_webhooks",
        "marketplace/delivering.py",
        "        is_only = cursor.fetchone()[0]\n",
        "        is_only = True\n",
        ("tests/marketplace/test_webhooks.py::test_only_one_round_of_sending_runs_at_a_time",),
        "Endpoints that hang would keep every worker from other work.",
    ),
    Removal(
        "deadline_of_a_post",
        "marketplace/outbound.py",
        "        timer.start()\n",
        "",
        ("tests/marketplace/test_webhooks.py::test_a_receiver_that_drips_or_says_nothing_is_hung_up_on",),
        "A receiver that drips would hold a thread of the worker for as long as it likes.",
    ),
    Removal(
        "address_of_a_webhook_at_each_sending",
        "marketplace/delivering.py",
        "outbound.resolve(sending.url, allow=settings.WEBHOOK_ALLOW)",
        "outbound.resolve(sending.url, allow=[sending.url.split('/')[2]])",
        ("tests/marketplace/test_webhooks.py::test_an_address_that_leads_inside_later_is_not_reached_either",),
        "An address that leads inside after it was registered would be reached.",
    ),
    Removal(
        "lock_of_a_watched_wallet",
        "marketplace/watching.py",
        "WalletWatch.objects.select_for_update().get(user_id=user_id)",
        "WalletWatch.objects.get(user_id=user_id)",
        (
            "tests/gateway/test_notices.py::test_a_wallet_that_runs_low_and_then_empty_is_told_each_once_until_money_comes",
        ),
        "Two that look at once would both tell of the same low balance.",
    ),
    Removal(
        "caps_wait_for_captures",
        "marketplace/keys.py",
        '        cursor.execute("SELECT gateway_stop_captures(%s)", [first_id])\n',
        '        cursor.execute("SELECT %s", [first_id])\n',
        ("tests/gateway/test_limits.py::test_caps_change_between_two_captures",),
        "A call that is stored while its key gets a cap would be counted by nobody.",
    ),
    Removal(
        "captures_wait_for_caps",
        "marketplace/sql/capture.sql",
        "  PERFORM pg_advisory_xact_lock_shared(20, k.lock) FROM (\n    SELECT DISTINCT hashtext(x->>'key_id') & 63 AS lock FROM jsonb_array_elements(calls) x ORDER BY 1) k;\n",
        "",
        ("tests/gateway/test_limits.py::test_caps_change_between_two_captures",),
        "A call that is stored while its key gets a cap would be counted by nobody.",
    ),
    Removal(
        "unleased_calls_count",
        "marketplace/sql/capture.sql",
        "  PERFORM gateway_count_unleased(calls);\n",
        "",
        ("tests/gateway/test_limits.py::test_a_call_that_began_before_its_key_had_a_cap_counts_when_it_ends",),
        "What ran while its key got a cap would be missing from it.",
    ),
    Removal(
        "new_caps_count_the_past",
        "marketplace/keys.py",
        '            cursor.execute("SELECT gateway_recount_key(%s)", [first_id])\n',
        '            cursor.execute("SELECT %s", [first_id])\n',
        ("tests/gateway/test_limits.py::test_a_cap_that_a_key_did_not_have_counts_what_it_spent_before",),
        "A new cap would forget what was spent in its period before.",
    ),
    Removal(
        "changed_limits_end_leases",
        "marketplace/gateway/app.py",
        "                loop.call_soon_threadsafe(self._limits.forget, payload)\n",
        "                pass\n",
        ("tests/gateway/test_limits.py::test_a_lower_cap_stops_what_gateways_had_leased_and_loses_nothing",),
        "A cap that was lowered would go on letting calls through until the gateways' leases end.",
    ),
    Removal(
        "changed_limits_change_counters",
        "marketplace/sql/limits.sql",
        "    AND u.most <> greatest(c.most, u.used + u.leased);\n",
        "    AND false;\n",
        ("tests/gateway/test_limits.py::test_a_lower_cap_stops_what_gateways_had_leased_and_loses_nothing",),
        "A cap that was changed would go on as it was when it was first counted.",
    ),
    # --- Operator models
    Removal(
        "charges_of_no_data_are_in_no_epoch",
        "attribution/settlement.py",
        '        if not _is_of_no_data(row.public["version_id"]):\n',
        "        if True:\n",
        (
            "tests/gateway/test_embeddings.py"
            "::test_its_owner_manages_it_but_gives_data_no_part_and_trains_it_on_nothing",
        ),
        "Epochs of a model that no Datanet shaped would wait a day for traces that nobody makes.",
    ),
]

# --- Applying them

# CI has an hour. Each commit begins at another removal; what a slow machine has no time left for is skipped, and counted.
_FIRST = int(os.environ.get("REMOVALS_FIRST") or 0) % len(REMOVALS)
_UNTIL = float(os.environ.get("REMOVALS_UNTIL") or "inf")  # seconds since 1970
_IN_TURN = [*REMOVALS[_FIRST:], *REMOVALS[:_FIRST]]


@pytest.mark.parametrize("removal", _IN_TURN, ids=[removal.name for removal in _IN_TURN])
def test_without(removal: Removal, request: pytest.FixtureRequest) -> None:
    if time.time() > _UNTIL:
        pytest.skip("no time was left")
    bench: Bench = request.getfixturevalue("bench")
    for test in removal.tests:
        assert bench.intact(test) == {"passed"}, f"{test} does not pass without any removal: see intact.log"

    with bench.without(removal):
        database = bench.migrate_without(removal) if removal.changes_tables else "prepared"
        outcomes = bench.run(removal.tests, name=removal.name, database=database)

    for test in removal.tests:
        found = _of(outcomes, test)
        assert "failed" in found, f"{test} is {sorted(found)} without {removal.name}. {removal.why} See {bench.log}"


def test_there_are_enough_removals_and_each_has_a_name_of_its_own() -> None:
    assert len(REMOVALS) >= 12
    assert len({removal.name for removal in REMOVALS}) == len(REMOVALS)


class Bench:
    """A copy of the repository, and databases that its tests can start from."""

    def __init__(self, folder: Path, shared: Path) -> None:
        """shared: where the workers of one run tell each other what passes on the unchanged copy."""
        self.copy, self.log, self._folder, self._shared = folder / "copy", folder / "intact.log", folder, shared
        self._intact: dict[str, str] = {}
        self._statements: list[str] = []
        self._nursery: Nursery | None = None
        _copy_repository(self.copy)

    def prepare(self) -> None:
        """Migrate a database for the removals that change no table, and have the libraries imported."""
        command = [sys.executable, "-c", _MIGRATE, str(self._folder)]
        with self.log.open("wb") as log:
            code = subprocess.call(command, cwd=self.copy, env=self._environment(None), stdout=log, stderr=log)
        assert code == 0, f"the migrations do not run: {self.log}"
        _administer("ALTER DATABASE test_openledger RENAME TO prepared", _FOR_DJANGO.format("prepared"))
        self._statements = json.loads((self._folder / "statements").read_text())
        ours = {path.name for path in self.copy.iterdir()}
        modules = json.loads((self._folder / "modules").read_text())
        self._nursery = Nursery([name for name in modules if name.partition(".")[0] not in ours], ours=ROOT)

    def migrate_without(self, removal: Removal) -> str | None:
        """Make a database by the statements that made the first one, but for the removal. Returns its name.

        Where the removal is one constraint of a migration, that is dropped. Django's migrations would take ten times as
        long. None: the text is neither a constraint nor in one of the statements, so they have to run.
        """
        for name in ("removed", "test_removed"):
            _administer(f"DROP DATABASE IF EXISTS {name}")
        named = re.findall(r"name='(\w+)'", removal.text)
        if len(named) == 1 and not removal.instead and (dropped := self._drop(named[0])):
            _administer("CREATE DATABASE removed TEMPLATE prepared")
            _administer(dropped, database="removed")
            _administer(_FOR_DJANGO.format("removed"))
            return "removed"
        if sum(statement.count(removal.text) for statement in self._statements) != 1:
            return None
        _administer("CREATE DATABASE removed")
        changed = [statement.replace(removal.text, removal.instead) for statement in self._statements]
        _administer(*filter(str.strip, changed), database="removed")
        _administer(_FOR_DJANGO.format("removed"))
        return "removed"

    def _drop(self, name: str) -> str:
        """How a constraint, or an index which is one, is taken from a database; empty if there is none of this name."""
        url = os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[0] + "/prepared"
        session = psycopg2.connect(url)
        with session.cursor() as cursor:
            constraint = "SELECT conrelid::regclass::text FROM pg_constraint WHERE conname = %s"
            cursor.execute(constraint, [name])
            table = cursor.fetchone()
            cursor.execute("SELECT FROM pg_indexes WHERE indexname = %s", [name])
            is_index = cursor.rowcount == 1
        session.close()
        if table:
            return f"ALTER TABLE {table[0]} DROP CONSTRAINT {name}"
        return f"DROP INDEX {name}" if is_index else ""

    def stop(self) -> None:
        if self._nursery is not None:
            self._nursery.stop()

    def run_intact(self, tests: Sequence[str], *, worker: int, workers: int) -> None:
        """Run the tests on the unchanged copy. Of several workers each runs a part, and waits for what the others say."""
        files = sorted({test.partition("::")[0] for test in tests})
        part = [test for test in tests if files.index(test.partition("::")[0]) % workers == worker]
        said = self._shared / f"intact-{worker}.json"
        said.with_suffix(".new").write_text(json.dumps(self.run(part, name="intact", database="prepared")))
        said.with_suffix(".new").rename(said)
        for number in range(workers):
            said, give_up_at = self._shared / f"intact-{number}.json", time.monotonic() + RUN_S_MAX
            while not said.exists() and time.monotonic() < give_up_at:
                time.sleep(0.2)
            self._intact |= json.loads(said.read_text())

    def intact(self, test: str) -> set[str]:
        """The outcomes of a test on the unchanged copy."""
        return _of(self._intact, test)

    @contextmanager
    def without(self, removal: Removal) -> Iterator[None]:
        """The copy while a safeguard is missing."""
        path = self.copy / removal.file
        before, kept = path.read_text(), path.with_name(path.name + ".kept")
        times = before.count(removal.text)
        assert times == 1, f"{removal.name}: its text stands {times} times in {removal.file}, not once. Update it."
        path.rename(kept)  # with its time, by which Python knows what it compiled
        path.write_text(before.replace(removal.text, removal.instead))
        try:
            yield
        finally:
            kept.replace(path)

    def run(self, tests: Sequence[str], *, name: str, database: str | None) -> dict[str, str]:
        """Run tests in the copy. Returns the outcome of each: passed, failed, error (it did not start) or skipped.

        Args:
            name: Of the log, which stays for who wants to see how a test failed.
            database: Where to start. None: make one by the copy's own migrations.
        """
        assert self._nursery is not None
        self.log, junit = self._folder / f"{name}.log", self._folder / f"{name}.xml"
        options = ["-q", "-p", "pytest_django.plugin", "-p", "no:cacheprovider", f"--junitxml={junit}"]
        try:
            code = self._nursery.run(
                [*options, *(["--reuse-db"] if database else []), *tests],
                folder=self.copy,
                environment=self._environment(database),
                log=self.log,
                timeout_s=RUN_S_MAX,
            )
        except TimeoutError:
            pytest.fail(f"the tests did not end in {RUN_S_MAX} s: {self.log}")
        assert code in (0, 1), f"pytest ended with {code}, so it ran no test to its end: {self.log}"
        return dict(_read_outcomes(junit))

    def _environment(self, database: str | None) -> dict[str, str]:
        """Ours without what pytest put there: the servers are shared, the code is the copy's."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        if database:
            environment["DATABASE_URL"] = environment["DATABASE_OWNER_URL"].rsplit("/", 1)[0] + f"/{database}"
        # Without the plugins nobody asks for, a process starts two seconds sooner.
        fast = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "RACE_GIVE_UP_S": "12"}
        return environment | fast | {"PYTHONPATH": str(self.copy)}


@pytest.fixture(scope="module")
def bench(request, tmp_path_factory) -> Iterator[Bench]:
    if "DATABASE_SUPERUSER_URL" not in os.environ:
        pytest.fail("There are no servers. Run this with: python3 dev.py test -n 0 tests/mutations.py")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    items = [item for item in request.session.items if hasattr(item, "callspec")]
    if len(items) < 2 * workers:  # not every worker gets one
        worker, workers = 0, 1
    folder = tmp_path_factory.mktemp("mutations")
    made = Bench(folder, shared=folder if workers == 1 else tmp_path_factory.getbasetemp().parent)
    try:
        made.prepare()
        tests = {test for item in items for test in item.callspec.params["removal"].tests}
        made.run_intact(sorted(tests), worker=worker, workers=workers)
        yield made
    finally:
        made.stop()


def _copy_repository(copy: Path) -> None:
    """Copy what git knows or would add, as it stands now."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # what was deleted and not committed is still listed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


# `books` copies the database of the address, pytest-django's own `db` takes that with `test_` before it.
_FOR_DJANGO = "CREATE DATABASE test_{0} TEMPLATE {0}"


def _administer(*statements: str, database: str = "") -> None:
    url = os.environ["DATABASE_OWNER_URL"]
    session = psycopg2.connect(url.rsplit("/", 1)[0] + f"/{database}" if database else url)
    session.autocommit = True
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    session.close()


def _read_outcomes(junit: Path) -> Iterator[tuple[str, str]]:
    for case in ElementTree.parse(junit).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = next((said for tag, said in _OUTCOMES.items() if tag in kinds), "passed")
        yield f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}", outcome


# In this order: a test that failed may also stumble while it cleans up.
_OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}


def _of(outcomes: dict[str, str], test: str) -> set[str]:
    return {outcome for node, outcome in outcomes.items() if node == test or node.startswith(f"{test}[")}
