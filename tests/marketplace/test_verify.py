"""A world with every kind of row: verify names each edit behind the services' back, and the log says what its page says.

The edits run as the superuser, without triggers, in transactions that are rolled back. Each returns the row that the
failure must name.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings

from attribution import bundles
from attribution import verify as attribution_verify
from attribution.models import Epoch, RecordEpoch, Trace
from datanets import reviews, storage
from datanets import verify as datanets_verify
from datanets.models import Record
from ledger import commitments, database
from ledger.models import Leaf, Opening
from marketplace import (
    access,
    adjustments,
    holds,
    keys,
    payouts,
    promotion,
    publishing,
    refunds,
    sharing,
    testmoney,
    wallets,
)
from marketplace import verify as shop_verify
from marketplace.models import Call, PayoutRun
from tests.books import Books
from tests.datanets.cast import send, table
from tests.marketplace.pages.world import call, settle
from tests.shop import OPEN, fund, measured, measured_card, nothing_is_wrong, person, published, trained

CALL = "(SELECT id FROM marketplace_call WHERE id IN (SELECT charge_id FROM attribution_trace) ORDER BY id LIMIT 1)"
LINE = "(SELECT id FROM attribution_line WHERE role = 'data' AND source = 'call' AND payee_id > 0 ORDER BY id LIMIT 1)"
EPOCH = "(SELECT id FROM attribution_epoch ORDER BY number LIMIT 1)"
FOLLOWER = "(SELECT record_id FROM datanets_versionfollower ORDER BY record_id DESC LIMIT 1)"
VERSION = "(SELECT id FROM datanets_version LIMIT 1)"
LEADER = "(SELECT leader_id FROM datanets_versionfollower ORDER BY leader_id LIMIT 1)"


HELD = "(SELECT lot_id FROM marketplace_lothold LIMIT 1)"
REFUNDED = "(SELECT call_id FROM marketplace_refund WHERE {} ORDER BY call_id LIMIT 1)".format
# Refunds of settled lines, by who earned of another's charge.
OUT_OF_LINES = "kind = 'refund' AND takes_from IN (SELECT id FROM attribution_plannedposting)"


def one_of(table: str, condition: str = "true") -> str:
    """A condition that one row of the table meets."""
    return f"id = (SELECT id FROM {table} WHERE {condition} ORDER BY id LIMIT 1)"


# What is edited: the invariant that must notice, a part of the sentence, the statement.
EDITS: dict[ModuleType, dict[str, tuple[str, str, str]]] = {
    shop_verify: {
        "a held lot is let go by hand": (
            *("I12", "is to be held until"),
            f"UPDATE ledger_lot SET held_at = NULL, held_until = NULL WHERE id = {HELD} RETURNING id",
        ),
        "a held lot is let go sooner": (
            *("I12", "is to be held until"),
            f"UPDATE ledger_lot SET held_until = now() + interval '1 minute' WHERE id = {HELD} RETURNING id",
        ),
        "a lot is held for nobody": (
            *("I12", "and nobody holds it"),
            "UPDATE ledger_lot SET held_at = now(), held_by = 'admin' WHERE "
            + one_of("ledger_lot", "held_at IS NULL AND vested_at IS NULL")
            + " RETURNING id",
        ),
        "a call costs more than it was charged": (
            *("I4", "and was charged"),
            f"UPDATE marketplace_call SET cost_nano = cost_nano + 1, data_nano = data_nano + 1 WHERE id = {CALL} RETURNING id",
        ),
        "an answer costs nothing": (
            *("I4", "its price list says"),
            f"""UPDATE marketplace_call SET cost_nano = 0, data_nano = 0, curation_nano = 0, developer_nano = 0,
                platform_nano = 0, owner_nano = 0 WHERE id = {CALL} RETURNING id""",
        ),
        "an answer has more tokens": (
            *("I4", "its price list says"),
            f"""UPDATE marketplace_pricelist SET price_in_nano = 1;
                UPDATE marketplace_call SET prompt_tokens = 0 WHERE id <> {CALL};
                UPDATE marketplace_call SET prompt_tokens = 9 WHERE id = {CALL} RETURNING id""",
        ),
        "a call is gone": ("I4", "belongs to no call", f"DELETE FROM marketplace_call WHERE id = {CALL} RETURNING id"),
        "a call shows other parts": (
            *("I7", "the parts of call"),
            f"""UPDATE marketplace_call SET data_nano = data_nano - 1, platform_nano = platform_nano + 1
                WHERE id = {CALL} RETURNING id""",
        ),
        "a call shows less for its developer": (
            *("I7", "the parts of call"),
            f"""ALTER TABLE marketplace_call DROP CONSTRAINT call_parts_add_up_to_its_cost;
                UPDATE marketplace_call SET developer_nano = developer_nano - 1 WHERE id = {CALL} RETURNING id""",
        ),
        "a pass was cheaper": (
            *("I4", "the pass behind charge"),
            "UPDATE marketplace_access SET price_nano = price_nano - 1 RETURNING posting_id",
        ),
        "a pass is gone": ("I4", "the pass behind charge", "DELETE FROM marketplace_access RETURNING posting_id"),
        "a pass was not charged": (
            *("I4", "the pass behind charge"),
            "DELETE FROM ledger_journal WHERE kind = 'access_charged' RETURNING id",
        ),
        "a training fee was higher": (
            *("I4", "the fee of training run"),
            "UPDATE marketplace_trainingrun SET fee_nano = fee_nano + 1 RETURNING id",
        ),
        "a charged run failed": (
            *("I4", "the fee of training run"),
            "UPDATE marketplace_trainingrun SET status = 'failed' RETURNING id",
        ),
        "a charged run is gone": (
            *("I4", "the training charge"),
            "DELETE FROM marketplace_trainingrun RETURNING posting_id",
        ),
        **{
            f"the trace of a charge is gone ({source})": (
                *("I6", f"the {source} charge"),
                f"DELETE FROM attribution_trace WHERE {one}source = '{source}' RETURNING charge_id",
            )
            for source, one in (("call", f"charge_id = {CALL} AND "), ("access", ""), ("training", ""))
        },
        "a model of a Datanet says that no data shaped it": (
            *("I6", "of a model that no Datanet shaped"),
            """UPDATE marketplace_modelversion SET training_run_id = NULL;
               SELECT min(id::text) FROM ledger_journal WHERE kind IN ('call_charged', 'access_charged')""",
        ),
        "a model that sold a pass says that no data shaped it": (
            *("I6", "of a model that no Datanet shaped"),
            """UPDATE marketplace_modelversion SET training_run_id = NULL; DELETE FROM marketplace_call;
               SELECT min(id::text) FROM ledger_journal WHERE kind = 'access_charged'""",
        ),
        "an outbox row is done and nothing was traced": (
            *("I6", "the call charge"),
            """UPDATE ledger_outbox SET done_at = now() WHERE done_at IS NULL
               AND topic = 'attribution.tasks.trace_charge' RETURNING split_part(reference, ':', 2)""",
        ),
        "a refund was smaller": (
            *("I4", "was refunded"),
            f"UPDATE marketplace_refund SET amount_nano = amount_nano - 1 WHERE call_id = {REFUNDED('true')} RETURNING call_id",
        ),
        "a refund nobody asked for": (
            *("I4", "was refunded"),
            f"DELETE FROM marketplace_refund WHERE call_id = {REFUNDED('true')} RETURNING call_id",
        ),
        "a refund went to somebody else": (
            *("I4", "was refunded"),
            """UPDATE ledger_journal SET accounts[2] = (SELECT id FROM ledger_account WHERE code = 'world') WHERE """
            + one_of("ledger_journal", "kind = 'refund'")
            + " RETURNING split_part(reference, ':', 2)",
        ),
        "the platform kept its part of a refund": (
            *("I4", "its charge had given it"),
            "DELETE FROM ledger_journal WHERE "
            + one_of(
                "ledger_journal",
                "kind = 'refund' AND accounts[1] = (SELECT id FROM ledger_account WHERE code = 'platform:fees')",
            )
            + " RETURNING split_part(reference, ':', 2)",
        ),
        "a refund says that it was settled": (
            *("I6", "disagree on whether"),
            f"UPDATE marketplace_refund SET was_settled = true WHERE call_id = {REFUNDED('NOT was_settled')} RETURNING call_id",
        ),
        "the log says that another gave a refund": (
            *("I9", "the public log says that"),
            """UPDATE ledger_opening SET split = jsonb_set(split, '{0,payee}', '"pending:1"')
               WHERE entry_id = (SELECT min(entry_id::text)::uuid FROM ledger_opening WHERE type = 'refund.made')
               RETURNING public ->> 'reverses'""",
        ),
        "a pass is paid back in no book": (
            *("I4", "the refund of pass"),
            """INSERT INTO marketplace_passrefund (access_id, amount_nano, posting_id, made_at)
               SELECT id, 1, gen_random_uuid(), now() FROM marketplace_access WHERE price_nano > 0 RETURNING access_id""",
        ),
        "a developer paid back in no book": (
            *("I4", "paid 1 nano back for call"),
            f"""INSERT INTO marketplace_payback (call_id, amount_nano, reason, posting_id, made_at)
                SELECT id, 1, 'x', gen_random_uuid(), now() FROM marketplace_call WHERE id = {CALL} RETURNING call_id""",
        ),
        "an epoch released what it did not leave": (
            *("I6", "were there to release"),
            f"""INSERT INTO marketplace_unattributedrelease (epoch_id, model_id, amount_nano, parts, posting_id, released_at)
                SELECT id, model_id, 1, '[]', gen_random_uuid(), now() FROM attribution_epoch WHERE id = {EPOCH}
                RETURNING epoch_id""",
        ),
        "a payment is confirmed by hand": (
            *("I5", "payout run"),
            "UPDATE marketplace_withdrawal SET status = 'confirmed' WHERE status = 'sent' RETURNING run_id",
        ),
        "a key has spent what no call of it cost": (
            *("I5", "of its limit (day) as used"),
            """INSERT INTO marketplace_keyuse (key_id, kind, starts_on, most, used, leased)
               SELECT id, 'day', now(), 10, 7, 0 FROM marketplace_apikey ORDER BY id LIMIT 1 RETURNING key_id""",
        ),
        "a free call says that its buyer paid": (
            *("I4", "is charged to wallet:"),
            "UPDATE marketplace_call SET free = false WHERE free RETURNING id",
        ),
        "a paid call says that its developer paid": (
            *("I4", "is charged to promotion:"),
            f"UPDATE marketplace_call SET free = true WHERE id = {CALL} RETURNING id",
        ),
        "a developer called for nothing": (
            *("I4", "is free for the developer"),
            """UPDATE marketplace_call c SET buyer_id = m.owner_id FROM marketplace_listedmodel m
               WHERE m.id = c.model_id AND c.free RETURNING c.id""",
        ),
        "a free call is counted for nobody": (
            *("I4", "do not fit"),
            "DELETE FROM marketplace_freecall RETURNING call_id",
        ),
        "a used free call has no call": (
            *("I4", "do not fit"),
            """INSERT INTO marketplace_freecall (call_id, buyer_id, model_id, day, number, is_used, process, taken_at)
               SELECT gen_random_uuid(), buyer_id, model_id, day, number + 1, true, '', now() FROM marketplace_freecall
               RETURNING call_id""",
        ),
        "a test call cost more": (
            *("I4", "nano of test:"),
            "UPDATE marketplace_testcall SET cost_nano = cost_nano + 1, data_nano = data_nano + 1 RETURNING id",
        ),
        "a test call has more tokens": (
            *("I4", "its price list says"),
            """UPDATE marketplace_pricelist SET price_in_nano = 1; UPDATE marketplace_call SET prompt_tokens = 0;
               UPDATE marketplace_testcall SET prompt_tokens = 9 RETURNING id""",
        ),
        "a test call is gone": ("I4", "nano of test:", "DELETE FROM marketplace_testcall RETURNING id"),
        "a test call was made by somebody else": (
            *("I4", "nano of test:"),
            "UPDATE marketplace_testcall SET buyer_id = buyer_id + 1 RETURNING id",
        ),
        "a test call was made with a real key": (
            *("I4", "its key is for tests: False"),
            """UPDATE marketplace_testcall SET key_id = (SELECT id FROM marketplace_apikey WHERE NOT is_test ORDER BY id LIMIT 1)
               RETURNING id""",
        ),
        "test money was granted for nothing": (
            *("I4", "nano of test money"),
            "DELETE FROM marketplace_testgrant RETURNING posting_id",
        ),
        "more test money was granted": (
            *("I4", "nano of test money"),
            "UPDATE marketplace_testgrant SET amount_nano = amount_nano + 1 RETURNING posting_id",
        ),
        "a wallet transfer was bigger": (
            *("I4", "the wallet transfer"),
            "UPDATE marketplace_wallettransfer SET amount_nano = amount_nano + 1 RETURNING posting_id",
        ),
        "a wallet transfer is gone": (
            *("I4", "the wallet transfer"),
            "DELETE FROM marketplace_wallettransfer RETURNING posting_id",
        ),
        "a wallet transfer was somebody else's": (
            *("I4", "the wallet transfer"),
            "UPDATE marketplace_wallettransfer SET user_id = user_id + 1 RETURNING posting_id",
        ),
        "a shared wallet lost its owner": (
            *("I4", "has 0 owners"),
            "UPDATE marketplace_walletmember SET role = 'spender' RETURNING wallet_id",
        ),
        "the maker of a key may only look": (
            *("I4", "may not spend from that wallet"),
            """UPDATE marketplace_walletmember SET role = 'viewer';
               SELECT id FROM marketplace_apikey WHERE made_by_id <> owner_id""",
        ),
        "an adjustment is bigger": (
            *("I4", "the adjustment behind"),
            "UPDATE marketplace_adjustment SET amount_nano = amount_nano + 1 RETURNING posting_id",
        ),
        "an adjustment went to somebody else": (
            *("I4", "the adjustment behind"),
            "UPDATE marketplace_adjustment SET payee_id = proposed_by_id RETURNING posting_id",
        ),
        "an adjustment was never approved": (
            *("I4", "the adjustment behind"),
            """UPDATE marketplace_adjustment SET status = 'waiting', decided_by_id = NULL, decided_at = NULL
               RETURNING posting_id""",
        ),
        "a promotion transfer is bigger": (
            *("I4", "the promotion transfer"),
            "UPDATE marketplace_promotiontransfer SET amount_nano = amount_nano + 1 RETURNING posting_id",
        ),
        "a promotion transfer went the other way": (
            *("I4", "the promotion transfer"),
            "UPDATE marketplace_promotiontransfer SET direction = 'take_back' RETURNING posting_id",
        ),
        "a promotion transfer is gone": (
            *("I4", "the promotion transfer"),
            "DELETE FROM marketplace_promotiontransfer RETURNING posting_id",
        ),
    },
    attribution_verify: {
        "a line is bigger": (
            *("I6", "the lines of charge"),
            f"UPDATE attribution_line SET amount_nano = amount_nano + 1 WHERE id = {LINE} RETURNING source_id",
        ),
        "a line has another role": (
            *("I6", "the data lines of charge"),
            f"UPDATE attribution_line SET role = 'curation' WHERE id = {LINE} RETURNING source_id",
        ),
        "a curator was paid more than the part of a call that was attributed": (
            *("I6", "paid curators"),
            """UPDATE attribution_line SET amount_nano = amount_nano + 1
               WHERE id = (SELECT min(id) FROM attribution_line WHERE source = 'call' AND role = 'curation' AND payee_id IS NOT NULL)
               RETURNING source_id""",
        ),
        "accuracies of an epoch were others": (
            *("I6", "the accuracies of epoch"),
            f"UPDATE attribution_epoch SET accuracy_sha256 = repeat('0', 64) WHERE id = {EPOCH} RETURNING id",
        ),
        "an epoch took in more": (
            *("I6", "took in"),
            f"""UPDATE attribution_epoch SET pool_nano = pool_nano + 1, paid_nano = paid_nano + 1
                WHERE id = {EPOCH} RETURNING id""",
        ),
        "an epoch says that it paid less": (
            *("I6", "says it paid"),
            f"""UPDATE attribution_epoch SET unattributed_nano = unattributed_nano + 1, paid_nano = paid_nano - 1
                WHERE id = {EPOCH} RETURNING id""",
        ),
        "a plan moves more": (
            *("I6", "the postings of epoch"),
            """UPDATE attribution_plannedposting SET moves = jsonb_set(moves, '{0,2}', '1') WHERE """
            + one_of("attribution_plannedposting")
            + " RETURNING epoch_id",
        ),
        "a plan pays somebody else": (
            *("I6", "by its plan"),
            """UPDATE attribution_plannedposting SET moves = jsonb_set(moves, '{0,1}', '"wallet:1"') WHERE """
            + one_of("attribution_plannedposting")
            + " RETURNING id",
        ),
        "a settlement nobody planned": (
            *("I6", "by its plan"),
            "DELETE FROM attribution_plannedposting WHERE " + one_of("attribution_plannedposting") + " RETURNING id",
        ),
        "a settlement is gone from the books": (
            *("I6", "the charges that wait"),
            "DELETE FROM ledger_journal WHERE "
            + one_of("ledger_journal", "kind = 'settlement'")
            + " RETURNING (SELECT code FROM ledger_account a WHERE a.id = accounts[1])",
        ),
        "a charge is settled and its money waits": (
            *("I6", "the charges that wait"),
            """UPDATE attribution_epoch e SET charge_ids = charge_ids || jsonb_build_array(c.id) FROM marketplace_call c
               WHERE e.number = 1 AND c.id NOT IN (SELECT charge_id FROM attribution_trace)
               RETURNING 'pool:' || c.model_id || ':calls:curation'""",
        ),
        "a payee kept their line of a refund": (
            *("I6", "it had received"),
            "DELETE FROM ledger_journal WHERE "
            + one_of("ledger_journal", OUT_OF_LINES)
            + " RETURNING split_part(reference, ':', 2)",
        ),
        "a pool kept its part of a refund": (
            *("I6", "it had received"),
            """DELETE FROM ledger_journal WHERE """
            + one_of(
                "ledger_journal",
                "kind = 'refund' AND accounts[1] IN (SELECT id FROM ledger_account WHERE starts_with(code, 'pool:'))",
            )
            + " RETURNING split_part(reference, ':', 2)",
        ),
        "a refund took from a lot of something else": (
            *("I6", "that its settlement did not make"),
            "UPDATE ledger_journal SET takes_from = gen_random_uuid() WHERE "
            + one_of("ledger_journal", OUT_OF_LINES)
            + " RETURNING split_part(reference, ':', 2)",
        ),
        "a call that was given back is paid": (
            *("I6", "and yet has lines"),
            f"UPDATE attribution_line SET source_id = {REFUNDED('NOT was_settled')} WHERE id = {LINE} RETURNING source_id",
        ),
        "a charge is in no epoch": (
            *("I6", "is in 0 epochs"),
            f"""WITH before AS (SELECT charge_ids ->> 0 AS first FROM attribution_epoch WHERE id = {EPOCH})
                UPDATE attribution_epoch SET charge_ids = charge_ids - 0 FROM before WHERE id = {EPOCH}
                RETURNING before.first""",
        ),
        "a trace has other parts": (
            *("I6", "the trace of charge"),
            f"""UPDATE attribution_trace SET data_nano = data_nano - 1, curation_nano = curation_nano + 1
                WHERE charge_id = {CALL} RETURNING charge_id""",
        ),
        "a trace is of another model": (
            *("I6", "the trace of charge"),
            f"UPDATE attribution_trace SET model_id = gen_random_uuid() WHERE charge_id = {CALL} RETURNING charge_id",
        ),
        "an epoch waits to be posted": (
            *("I6", "is planned since"),
            f"""UPDATE attribution_epoch SET status = 'planned', planned_at = now() - interval '61 minutes'
                WHERE id = {EPOCH} RETURNING id""",
        ),
        "an epoch is never planned": (
            *("I6", "is not planned"),
            f"""UPDATE attribution_epoch SET status = 'closed', closed_at = now() - interval '27 hours'
                WHERE id = {EPOCH} RETURNING id""",
        ),
        "an epoch says that its card was below a floor": (
            *("I6", "by the score card"),
            f"""UPDATE attribution_epoch SET cards = (
                    SELECT jsonb_object_agg(key, value || '{{"below": ["lds_half"]}}') FROM jsonb_each(cards))
                WHERE id = {EPOCH} RETURNING id""",
        ),
        "a card says that it was below a floor": (
            *("I6", "says something else"),
            f"""UPDATE attribution_scorecard SET below = '["lds_half"]' WHERE model_id = (
                    SELECT model_id FROM attribution_epoch WHERE id = {EPOCH}) RETURNING (SELECT min(id::text) FROM attribution_epoch)""",
        ),
        "an epoch has another root": (
            *("I6", "the public log says something else"),
            f"UPDATE attribution_epoch SET lines_root = repeat('0', 64) WHERE id = {EPOCH} RETURNING id",
        ),
        "the log does not say who is paid equally in an epoch": (
            *("I6", "the public log says something else"),
            f"UPDATE ledger_leaf SET body = body - 'equally' WHERE entry_id = {EPOCH} RETURNING entry_id",
        ),
        "the log has nothing of an epoch": (
            *("I6", "or nothing"),
            f"DELETE FROM ledger_fact WHERE id = {EPOCH} RETURNING id",
        ),
        "the lines of an epoch are others than its root says": (
            *("I6", "do not hash to its root"),
            f"UPDATE attribution_line SET payee_id = payee_id + 1000 WHERE id = {LINE} RETURNING epoch_id",
        ),
        "a line has another payee than the receipt": (
            *("I6", "the receipt of charge"),
            f"UPDATE attribution_line SET payee_id = payee_id + 1000 WHERE id = {LINE} RETURNING source_id",
        ),
        "a receipt is kept with another payee": (
            *("I6", "the receipt of charge"),
            """UPDATE ledger_opening SET split = jsonb_set(split, '{0,payee}', '"pending:1"')
               WHERE entry_id = (SELECT min(entry_id::text)::uuid FROM ledger_opening WHERE type = 'call.attributed')
               RETURNING public ->> 'charge'""",
        ),
        "an attribution was never published": (
            *("I6", "the receipt of charge"),
            f"""DELETE FROM ledger_opening WHERE public ->> 'charge' = {CALL}::text;
                DELETE FROM ledger_fact WHERE reference = 'attributed:' || {CALL} RETURNING substr(reference, 12)""",
        ),
        "a record's line is bigger": (
            *("I6", "kept records"),
            f"""UPDATE attribution_recordline SET amount_nano = amount_nano + 1
                WHERE id = (SELECT min(id) FROM attribution_recordline WHERE source_id = {CALL}) RETURNING source_id""",
        ),
        "a record's line is gone": (
            *("I6", "kept records"),
            "DELETE FROM attribution_recordline WHERE " + one_of("attribution_recordline") + " RETURNING source_id",
        ),
        "all lines of a charge's records are gone": (
            *("I6", "kept records"),
            f"DELETE FROM attribution_recordline WHERE source_id = {CALL} RETURNING source_id",
        ),
        "a record earned less in an epoch": (
            *("I6", "of its calls"),
            "UPDATE attribution_recordepoch SET amount_nano = amount_nano - 1 WHERE "
            + one_of("attribution_recordepoch", "amount_nano > 0")
            + " RETURNING epoch_id",
        ),
        "a record gave back less": (
            *("I6", "of refunded calls back"),
            "UPDATE attribution_recordepoch SET given_back_nano = given_back_nano - 1 WHERE "
            + one_of("attribution_recordepoch", "given_back_nano > 0")
            + " RETURNING epoch_id",
        ),
        "a record earned less of the fees": (
            *("I6", "of its fees"),
            "UPDATE attribution_recordfee SET amount_nano = amount_nano - 1 WHERE "
            + one_of("attribution_recordfee")
            + " RETURNING epoch_id",
        ),
        "an epoch is missing": (
            *("I6", "leave a gap"),
            "UPDATE attribution_epoch SET number = 9 WHERE number = (SELECT max(number) FROM attribution_epoch) RETURNING id",
        ),
        "a copy is paid for a call": (
            *("I10", "is a follower in version"),
            f"""UPDATE attribution_recordline SET record_id = {FOLLOWER} WHERE """
            + one_of("attribution_recordline", f"source_id = {CALL}")
            + " RETURNING record_id",
        ),
        "a copy earns in an epoch": (
            *("I10", "is a follower in model version"),
            f"UPDATE attribution_recordepoch SET record_id = {FOLLOWER} WHERE "
            + one_of("attribution_recordepoch", "amount_nano > 0")
            + " RETURNING record_id",
        ),
        "a copy earns fees": (
            *("I10", "had fees"),
            f"UPDATE attribution_recordfee SET record_id = {FOLLOWER} WHERE "
            + one_of("attribution_recordfee")
            + " RETURNING record_id",
        ),
        "a record was withdrawn before it was paid": (
            *("I11", "was withdrawn, and yet paid"),
            f"""UPDATE datanets_record SET withdrawn_at = '2020-01-01' WHERE id =
                (SELECT record_id FROM attribution_recordline WHERE source_id = {CALL} AND amount_nano > 0 LIMIT 1)
                RETURNING id""",
        ),
    },
    datanets_verify: {
        "a version has another leader map": (
            *("D1", "the leader map hashes to"),
            f"UPDATE datanets_version SET leader_map_sha256 = repeat('0', 64) WHERE id = {VERSION} RETURNING id",
        ),
        "a version has another root": (
            *("D1", "the records hash to"),
            f"UPDATE datanets_version SET root = repeat('0', 64) WHERE id = {VERSION} RETURNING id",
        ),
        "a record has another identity": (
            *("D1", "the records hash to"),
            f"UPDATE datanets_record SET identity = repeat('0', 64) WHERE id = {LEADER} RETURNING {VERSION}",
        ),
        "a version counts more records": (
            *("D2", "records are in it"),
            f"UPDATE datanets_version SET record_count = record_count + 1 WHERE id = {VERSION} RETURNING id",
        ),
        "a version counts more leaders": (
            *("D2", "records lead"),
            f"UPDATE datanets_version SET leader_count = leader_count + 1 WHERE id = {VERSION} RETURNING id",
        ),
        "a stranger follows": (
            *("I10", "is not in it"),
            f"""UPDATE datanets_versionfollower SET record_id = (SELECT max(id) FROM datanets_record)
                WHERE record_id = {FOLLOWER} RETURNING version_id""",
        ),
        "a record follows a later one": (
            *("I10", "the later record"),
            f"""UPDATE datanets_versionfollower SET record_id = leader_id, leader_id = record_id
                WHERE record_id = {FOLLOWER} RETURNING version_id""",
        ),
        "a follower leads": (
            *("I10", "which follows another"),
            f"""UPDATE datanets_versionfollower SET leader_id =
                (SELECT min(record_id) FROM datanets_versionfollower) WHERE record_id = {FOLLOWER} RETURNING version_id""",
        ),
        "a copy of a copy": (
            *("I10", "which is a copy itself"),
            f"""UPDATE datanets_record SET copy_of_id = (SELECT min(record_id) FROM datanets_versionfollower)
                WHERE id = {FOLLOWER} RETURNING id""",
        ),
        "a version is missing": (
            *("D3", "follows version 0"),
            f"UPDATE datanets_version SET number = 2 WHERE id = {VERSION} RETURNING datanet_id",
        ),
        "a record came with a version that does not exist": (
            *("D3", "which does not exist"),
            f"UPDATE datanets_record SET added_in = 9 WHERE id = {LEADER} RETURNING id",
        ),
        "a record left before it came": (
            *("D3", "before it came"),
            f"UPDATE datanets_record SET removed_in = added_in WHERE id = {LEADER} RETURNING id",
        ),
        "a rejected record is in the newest version": (
            *("D3", "is in the newest version and rejected"),
            f"UPDATE datanets_record SET status = 'rejected', reject_reason = 'spam' WHERE id = {LEADER} RETURNING id",
        ),
        "a contributor approved their own record": (
            *("D4", "its own contributor"),
            f"""ALTER TABLE datanets_record DROP CONSTRAINT approver_is_not_the_contributor;
                UPDATE datanets_record SET decided_by_id = contributor_id WHERE id = {LEADER} RETURNING id""",
        ),
        "a vote is about somebody else's record": (
            *("D4", "another contributor"),
            f"UPDATE datanets_review SET contributor_id = contributor_id + 1 WHERE record_id = {LEADER} RETURNING id",
        ),
        "an approval has no vote": (
            *("D4", "without a standing vote"),
            f"UPDATE datanets_review SET undone_at = now() WHERE record_id = {LEADER} RETURNING record_id",
        ),
        "a decided submission has a record waiting": (
            *("D5", "while records of it wait"),
            f"""UPDATE datanets_record SET status = 'waiting', decided_by_id = NULL, decided_at = NULL
                WHERE id = {LEADER} RETURNING submission_id""",
        ),
    },
}


@pytest.fixture(scope="module")
def world(books_of_module) -> Iterator[Books]:
    """Fees, a pass, calls, three epochs, a withdrawn record, a payout run half done, and a free call that is not settled.

    And two refunds: of a call before its epoch was planned, of another after its settlement.
    """
    books, erin, frank, dan = (
        books_of_module,
        *(person(name, is_staff=name != "dan") for name in ("erin", "frank", "dan")),
    )
    with override_settings(REVIEW_UNDO_S=0, CHALLENGE_WINDOW_S=7 * 86400, SCORE_CARD_WAIT_S=0):
        frozen = published({"alice": measured(12), "bob": [*measured(4), *measured(10, start=12)]}, fee_open=10)
        refused = send(frozen.datanet, table(measured(1, start=90)))
        rejected = list(Record.objects.filter(submission=refused))
        reviews.decide(rejected, curator=person("carol"), decision="reject", reason="spam")
        for buyer in (person("devi"), dan):
            fund(books, buyer, 100)
        sold = {"access_mode": "pass", "pass_price_nano": 2 * OPEN, "pass_days": 7, "free_calls_per_day": 1}
        version = trained(books, frozen, **sold)
        assert measured_card(version).status == "done"
        promotion.fund(person("devi"), amount_nano=OPEN, reference="free calls")
        devi = person("devi")
        adjustment = adjustments.propose(payer=devi, payee=None, amount_nano=OPEN, reason="Booked twice.", by=erin)
        adjustments.approve(adjustment, by=frank)
        access.buy_pass(version.model, buyer=dan)
        for number in range(2):
            call(version, dan, radius=12.0 + number)
            refunded = Call.objects.get(pk=call(version, dan, radius=18.0 + number))
            books.fold()
            if number:
                refunds.give_back(refunded, by=version.model.owner, reason="The answer was cut.")
            settle(books, epochs_later=2 * number + 1)
            if not number:
                refunds.give_back(refunded, by=version.model.owner, reason="The answer was cut.")
        testmoney.top_up(dan)
        lab = sharing.create(name="Lab", by=dan)
        sharing.transfer(lab, by=dan, amount_nano=OPEN, reference="in")
        keys.create(owner=lab.account, made_by=dan, name="Lab")
        books.fold()
        call(version, dan, is_test=True)
        publishing.withdraw_record(Record.objects.filter(contributor=person("alice")).last(), by=person("alice"))
        for user in (erin, dan):
            fund(books, user, 5)
            wallets.set_destination(user, kind="bank", details="DE89 3704 0044 0532 0130 00")
            wallets.request_withdrawal(user, amount_nano=OPEN)
        run = payouts.create_run(by=erin)
        books.fold()
        for admin in (erin, frank):
            payouts.approve_run(run, by=admin)
        run = payouts.mark_sent(PayoutRun.objects.get(pk=run.pk), by=erin)
        payouts.confirm_item(run.withdrawals.first(), by=frank)
        call(version, dan, radius=15.0, free=True)
        books.fold()
        books.log()
        [(lot_id,)] = database.rows("SELECT id FROM ledger_lot WHERE vested_at IS NULL ORDER BY due_at, id LIMIT 1")
        holds.hold(lot_id, by=erin, reason="The papers are missing.")
        assert nothing_is_wrong()
        yield books


@contextmanager
def editing() -> Iterator[None]:
    """Be the superuser, without triggers, until everything is taken back."""
    superuser = urlsplit(os.environ["DATABASE_SUPERUSER_URL"])
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(USER=superuser.username, PASSWORD=superuser.password)
    try:
        with transaction.atomic():
            database.rows("SET LOCAL session_replication_role = replica")
            yield
            transaction.set_rollback(True)
    finally:
        connection.close()
        connection.settings_dict.update(USER=before["USER"], PASSWORD=before["PASSWORD"])


@pytest.mark.parametrize(
    ("module", "edit"),
    [pytest.param(module, edit, id=f"{module.__package__}: {edit}") for module in EDITS for edit in EDITS[module]],
)
def test_verify_names_the_row_that_was_edited(world, module, edit):
    invariant, sentence, statement = EDITS[module][edit]
    with editing():
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = str(cursor.fetchone()[0])
        found = module.failures()

    named = [one.row for one in found if one.invariant == invariant and sentence in one.sentence]
    assert any(name == row or name.endswith(f":{row}") for name in named), found
    assert invariant in module.INVARIANTS


def test_a_call_is_replayed_to_the_nano(world, capsys):
    (settled,) = database.rows(f"SELECT {CALL}")[0]
    call_command("replay", str(settled))
    assert "Scores and lines are what is stored." in capsys.readouterr().out

    for edit in ("a record's line is bigger", "a line is bigger"):
        with editing():
            database.rows(EDITS[attribution_verify][edit][2])
            with pytest.raises(CommandError, match="1 differences; the receipt is authoritative"):
                call_command("replay", str(settled))
    with editing():
        database.rows("UPDATE marketplace_callcontent SET sealed_key = NULL")
        call_command("replay", str(settled))
        assert "Content expired, stored lines stand" in capsys.readouterr().out
    waiting = Call.objects.exclude(pk__in=Trace.objects.values("charge_id")).get()
    with pytest.raises(CommandError, match="not settled yet"):
        call_command("replay", str(waiting.pk))


def test_every_epoch_is_replayed_to_the_nano_refunds_and_fees_included(world, capsys):
    epochs = list(Epoch.objects.order_by("number"))
    for epoch in epochs:
        call_command("replay", str(epoch.pk))
        assert "Scores and lines are what is stored." in capsys.readouterr().out

    called = RecordEpoch.objects.filter(amount_nano__gt=0).latest("epoch__number").epoch
    fees = epochs[0]
    for epoch, edit, differ in [
        (called, "UPDATE attribution_recordepoch SET net = net + 1 WHERE id = (SELECT max(id) FROM {})", 1),
        (called, "UPDATE attribution_recordepoch SET phi = phi - 1 WHERE id = (SELECT max(id) FROM {})", 1),
        (called, "UPDATE attribution_recordline SET score = score + 1000 WHERE id = (SELECT max(id) FROM {})", 1),
        (called, "UPDATE attribution_line SET amount_nano = amount_nano + 1 WHERE id = (SELECT max(id) FROM {})", 1),
        (fees, "UPDATE attribution_recordfee SET equal_nano = 0 WHERE id = (SELECT max(id) FROM {})", 1),
    ]:
        table = edit.split()[1]
        with editing():
            database.rows(edit.format(f"{table} WHERE epoch_id = '{epoch.pk}'") + " RETURNING id")
            with pytest.raises(CommandError, match=f"{differ} differences"):
                call_command("replay", str(epoch.pk))


def test_a_call_is_replayed_with_net_factors_out_of_its_running_sums(world, capsys):
    (settled,) = database.rows(f"SELECT {CALL}")[0]
    with editing():
        # Given stored factors that are not what the stored sums give
        database.rows("UPDATE attribution_recordepoch SET phi = phi / 2 WHERE phi > 0 RETURNING id")
        with pytest.raises(CommandError, match="differences"):
            call_command("replay", str(settled))
    assert "phi" in capsys.readouterr().err


def test_a_score_may_be_one_unit_off_and_what_is_erased_stands(world, capsys):
    (settled,) = database.rows(f"SELECT {CALL}")[0]
    with editing():
        database.rows(
            f"""UPDATE attribution_recordline SET score = score + 1 WHERE id = (
                SELECT min(id) FROM attribution_recordline WHERE source_id = {CALL}) RETURNING id"""
        )
        call_command("replay", str(settled))
        assert "1 scores are one unit off, as allowed" in capsys.readouterr().out
    with editing():
        database.rows(
            f"UPDATE attribution_trace SET context = '{{}}', forgotten_at = now() WHERE charge_id = {CALL} RETURNING 1"
        )
        epoch_id = database.rows(f"SELECT epoch_id FROM attribution_line WHERE source_id = {CALL}")[0][0]
        call_command("replay", str(epoch_id))
        assert "Content expired, stored lines stand: 1 charges." in capsys.readouterr().out


def test_files_that_were_changed_are_named_and_nothing_is_computed_from_them(world, client, capsys):
    # Given a settled call whose model's file has one byte more
    (settled,) = database.rows(f"SELECT {CALL}")[0]
    sha256 = Trace.objects.get(charge_id=settled).artifact_id
    key = f"artifacts/{sha256}/serving.json"
    good = storage.get(key)
    storage.put(key, io.BytesIO(good + b" "))
    bundles.load.cache_clear()
    try:
        with pytest.raises(CommandError, match=f"artifact {sha256} do not have the hash"):
            call_command("replay", str(settled))
        client.force_login(person("dan"))
        refused = client.get(f"/api/v1/calls/{settled}/attribution/")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "artifact_damaged")

        # When it is made again out of the sealed version, the hash is the same, and the files are back
        call_command("rebuild", "devi/check", "--restore")
        assert f"{sha256} is what is stored" in capsys.readouterr().out
        assert storage.get(key) == good
    finally:
        storage.put(key, io.BytesIO(good))
        bundles.load.cache_clear()
    call_command("replay", str(settled))


def test_a_model_that_cannot_be_rebuilt_to_its_hash_is_an_error(world):
    with editing():
        database.rows("UPDATE datanets_recordbody SET body = jsonb_set(body, '{radius}', '1') RETURNING 1")
        with pytest.raises(CommandError, match="but its version names"):
            call_command("rebuild", "devi/check")
    with pytest.raises(CommandError, match="no model"):
        call_command("rebuild", "devi/nothing")


def test_what_was_erased_is_not_missed(world):
    with editing():
        database.rows("DELETE FROM ledger_opening")
        assert attribution_verify.failures() == []


# --- The log and docs/receipt.md

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "receipt.md").read_text(encoding="utf-8")
VECTORS = {
    vector["inputs"]["type"]: vector["inputs"]
    for vector in map(json.loads, re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL))
}
#: A key is rotated by hand.
NOT_MADE = {"key.rotated"}
PARTS = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"[0-9a-f]{64}", "<hash>"),
    (r"@v\d+", "@v<n>"),
    (r"^(buyer|developer)$", "<payer>"),
    (r"\d+", "<n>"),
]


def shape(value: object) -> object:
    """A value without what differs from row to row; a list is as its items are."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    if isinstance(value, int):
        return int
    for pattern, name in PARTS:
        value = re.sub(pattern, name, str(value))
    return value


def test_the_log_says_what_its_page_says(world):
    openings = {opening.entry_id: opening for opening in Opening.objects.exclude(type=None)}
    said = [(leaf, openings[leaf.entry_id]) for leaf in Leaf.objects.all() if leaf.entry_id in openings]
    paths = {"model", "datanet", "versions", "licence", "kind"}  # names that people chose

    assert {leaf.type for leaf, _ in said} == set(commitments.ENTRY_TYPES) - NOT_MADE - {"posting.made"}
    for leaf, opening in said:
        told = VECTORS[leaf.type]
        public = told["public"]
        if (
            leaf.type == commitments.EPOCH_SETTLED
        ):  # no model here is below a floor: tests/attribution/test_cards.py has one
            public = public | {"equally": []}
        for fields, page in ((opening.public, public), (opening.private, told["private"])):
            assert {name: shape(one) for name, one in fields.items() if name not in paths} == {
                name: shape(one) for name, one in page.items() if name not in paths
            }, leaf.type


def test_the_log_knows_the_roles_of_its_page(world):
    at_charge, at_settlement = re.search(
        r"Roles: (.*?) when a charge is made;\s(.*?) when it is attributed", PAGE, re.DOTALL
    ).groups()
    listed = {True: set(re.findall(r"`([a-z-]+)`", at_settlement)), False: set(re.findall(r"`([a-z-]+)`", at_charge))}
    made = {True: set(), False: set()}
    for opening in Opening.objects.exclude(split=None):
        for line in opening.split:
            if opening.type == commitments.REFUND_MADE:  # who gives back is who had received, at either time
                assert line["role"] in listed[True] | listed[False]
            else:
                made[opening.type == commitments.CALL_ATTRIBUTED].add(line["role"])
            of_page = {shape(one["payee"]) for one in VECTORS[opening.type]["split"]}
            assert shape(line["payee"]) in of_page, (opening.type, line)

    assert made[True] <= listed[True]
    assert made[False] <= listed[False]
    assert made[False] >= {"platform", "developer", "data-pool", "curation-pool"}
    assert made[True] >= {"contributor", "curator"}
