"""What must be true of calls, passes, payout runs and training runs, by SQL. Imports nothing of the code it verifies."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction


@dataclass(frozen=True)
class Failure:
    """The first row of its kind that breaks an invariant."""

    invariant: str
    row: str
    sentence: str


# The amounts of every charge, per role of its targets, straight from the journal; what refunds of calls moved; calls and test
# calls; and what the charges of refunded calls had moved. Each query below may read them.
CHARGES = """
WITH charge AS (
    SELECT j.id, j.kind, -sum(u.amount) FILTER (WHERE u.amount < 0) AS charged,
           coalesce(sum(u.amount) FILTER (WHERE a.code LIKE 'pool:%:data'), 0) AS data,
           coalesce(sum(u.amount) FILTER (WHERE a.code LIKE 'pool:%:curation'), 0) AS curation,
           coalesce(sum(u.amount) FILTER (WHERE a.code = 'platform:fees'), 0) AS platform,
           coalesce(sum(u.amount) FILTER (WHERE a.code LIKE 'pending:%'), 0) AS people
    FROM ledger_journal j, unnest(j.accounts, j.amounts) AS u(account_id, amount)
    JOIN ledger_account a ON a.id = u.account_id
    WHERE j.kind IN ('call_charged', 'access_charged', 'training_charged') GROUP BY j.id
), refunded AS (
    SELECT split_part(j.reference, ':', 2)::uuid AS id, j.takes_from, s.code AS source, t.code AS target, u.amount
    FROM ledger_journal j JOIN ledger_account s ON s.id = j.accounts[1],
         unnest(j.accounts[2:], j.amounts[2:]) AS u(account_id, amount) JOIN ledger_account t ON t.id = u.account_id
    WHERE j.kind = 'refund' AND starts_with(j.reference, 'refund:')
), every_call AS (
    SELECT id, key_id, buyer_id, status, price_list_id, prompt_tokens, answer_tokens, cost_nano, free, false AS is_test
    FROM marketplace_call
    UNION ALL SELECT id, key_id, buyer_id, status, price_list_id, prompt_tokens, answer_tokens, cost_nano, false, true
    FROM marketplace_testcall
), paid AS (
    SELECT j.id, s.code AS payer, t.code AS target, u.amount
    FROM ledger_journal j JOIN ledger_account s ON s.id = j.accounts[1],
         unnest(j.accounts[2:], j.amounts[2:]) AS u(account_id, amount) JOIN ledger_account t ON t.id = u.account_id
    WHERE j.kind = 'call_charged' AND j.id IN (SELECT id FROM refunded)
)
"""

INVARIANTS = ("I4", "I5", "I6", "I7", "I9", "I12")

CHECKS = (
    (
        "I4",
        "call {0} cost {1} nano and was charged {2}",
        """
        SELECT c.id, c.cost_nano, coalesce(j.charged, 0) FROM marketplace_call c
        LEFT JOIN charge j ON j.id = c.id AND j.kind = 'call_charged'
        WHERE c.cost_nano <> coalesce(j.charged, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "charge {0} of {1} nano belongs to no call",
        """
        SELECT j.id, j.charged FROM charge j
        LEFT JOIN marketplace_call c ON c.id = j.id
        WHERE j.kind = 'call_charged' AND c.id IS NULL ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "call {0} is charged to {1}, but paid by {2}",
        """
        SELECT id, payer, paid FROM (
            SELECT c.id, a.code AS paid,
                   CASE WHEN c.free THEN 'promotion:' || m.owner_id ELSE 'wallet:' || c.buyer_id END AS payer
            FROM marketplace_call c JOIN marketplace_listedmodel m ON m.id = c.model_id
            JOIN ledger_journal j ON j.id = c.id AND j.kind = 'call_charged'
            JOIN ledger_account a ON a.id = j.accounts[1]) said
        WHERE payer <> paid ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "call {0} is free for the developer of its model",
        """
        SELECT c.id FROM marketplace_call c JOIN marketplace_listedmodel m ON m.id = c.model_id
        WHERE c.free AND c.buyer_id = m.owner_id ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "call {0} and the free call that its buyer had of the model do not fit",
        """
        SELECT coalesce(c.id, f.call_id) FROM (SELECT * FROM marketplace_call WHERE free) c
        FULL JOIN (SELECT * FROM marketplace_freecall WHERE is_used) f ON f.call_id = c.id
        WHERE (c.buyer_id, c.model_id) IS DISTINCT FROM (f.buyer_id, f.model_id) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the promotion transfer behind posting {0} says {1} nano, the journal {2}",
        """
        SELECT coalesce(t.posting_id, j.id), coalesce(t.amount_nano, 0), coalesce(j.amount, 0)
        FROM (SELECT posting_id, amount_nano, CASE direction
                  WHEN 'fund' THEN format('promotion_funded wallet:%s promotion:%s', user_id, user_id)
                  ELSE format('promotion_returned promotion:%s wallet:%s', user_id, user_id) END AS what
              FROM marketplace_promotiontransfer) t
        FULL JOIN (SELECT j.id, -j.amounts[1] AS amount, format('%s %s %s', j.kind, a.code, b.code) AS what
                   FROM ledger_journal j JOIN ledger_account a ON a.id = j.accounts[1]
                   JOIN ledger_account b ON b.id = j.accounts[2]
                   WHERE j.kind IN ('promotion_funded', 'promotion_returned')) j ON j.id = t.posting_id
        WHERE t.amount_nano IS DISTINCT FROM j.amount OR t.what IS DISTINCT FROM j.what ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Those of theft disputes and noise cases are attribution's to check.
        "I4",
        "the adjustment behind posting {0}, that two admins approved, says {1} nano, the journal {2}",
        """
        SELECT coalesce(a.posting_id, j.id), coalesce(a.amount_nano, 0), coalesce(j.amount, 0)
        FROM (SELECT posting_id, amount_nano, format('%s %s', coalesce('wallet:' || payer_id, 'platform:fees'),
                                                     coalesce('wallet:' || payee_id, 'platform:fees')) AS what
              FROM marketplace_adjustment WHERE status = 'posted') a
        FULL JOIN (SELECT j.id, -j.amounts[1] AS amount, format('%s %s', s.code, t.code) AS what
                   FROM ledger_journal j JOIN ledger_account s ON s.id = j.accounts[1]
                   JOIN ledger_account t ON t.id = j.accounts[2]
                   WHERE j.kind = 'adjustment' AND NOT starts_with(j.reference, 'theft:')
                     AND NOT starts_with(j.reference, 'noise:')) j ON j.id = a.posting_id
        WHERE a.amount_nano IS DISTINCT FROM j.amount OR a.what IS DISTINCT FROM j.what ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the wallet transfer behind posting {0} says {1} nano, the journal {2}",
        """
        SELECT coalesce(t.posting_id, j.id), coalesce(t.amount_nano, 0), coalesce(j.amount, 0)
        FROM (SELECT t.posting_id, t.amount_nano, format('wallet:%s wallet:%s', t.user_id, w.account_id) AS what
              FROM marketplace_wallettransfer t JOIN marketplace_sharedwallet w ON w.id = t.wallet_id) t
        FULL JOIN (SELECT j.id, -j.amounts[1] AS amount, format('%s %s', a.code, b.code) AS what
                   FROM ledger_journal j JOIN ledger_account a ON a.id = j.accounts[1]
                   JOIN ledger_account b ON b.id = j.accounts[2]
                   WHERE j.kind = 'wallet_funded') j ON j.id = t.posting_id
        WHERE t.amount_nano IS DISTINCT FROM j.amount OR t.what IS DISTINCT FROM j.what ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "shared wallet {0} has {1} owners",
        """
        SELECT w.id, count(m.id) FROM marketplace_sharedwallet w
        LEFT JOIN marketplace_walletmember m ON m.wallet_id = w.id AND m.role = 'owner'
        WHERE w.closed_at IS NULL GROUP BY w.id HAVING count(m.id) = 0 ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "key {0} of account {1} stands, and its maker {2} may not spend from that wallet",
        """
        SELECT k.id, k.owner_id, k.made_by_id FROM marketplace_apikey k
        WHERE k.revoked_at IS NULL AND k.made_by_id <> k.owner_id AND NOT EXISTS (
          SELECT FROM marketplace_sharedwallet w JOIN marketplace_walletmember m ON m.wallet_id = w.id
          WHERE w.account_id = k.owner_id AND m.user_id = k.made_by_id AND m.role IN ('owner', 'spender'))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "call {0} cost {1} nano, its price list says {2}",
        """
        SELECT id, cost_nano, listed FROM (
            SELECT c.id, c.cost_nano, CASE WHEN c.status IN ('succeeded', 'left') THEN p.price_call_nano
                   + p.price_in_nano * c.prompt_tokens + p.price_out_nano * c.answer_tokens
                   WHEN c.status = 'abstained' THEN p.price_abstain_nano ELSE 0 END AS listed
            FROM every_call c JOIN marketplace_pricelist p ON p.id = c.price_list_id) priced
        WHERE cost_nano <> listed ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the pass behind charge {0} cost {1} nano and was charged {2}",
        """
        SELECT coalesce(a.posting_id, j.id), coalesce(a.price_nano, 0), coalesce(j.charged, 0)
        FROM (SELECT posting_id, price_nano FROM marketplace_access WHERE price_nano > 0) a
        FULL JOIN (SELECT id, charged FROM charge WHERE kind = 'access_charged') j ON j.id = a.posting_id
        WHERE a.price_nano IS DISTINCT FROM j.charged ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "test call {0} cost {1} nano of test:{2}; the books moved {3} of {4}",
        """
        SELECT coalesce(c.id, j.id), coalesce(c.cost_nano, 0), c.buyer_id, coalesce(j.amount, 0), j.payer
        FROM (SELECT * FROM every_call WHERE is_test AND cost_nano > 0) c
        FULL JOIN (SELECT j.id, a.code AS payer, -j.amounts[1] AS amount FROM ledger_journal j
                   JOIN ledger_account a ON a.id = j.accounts[1] WHERE j.kind = 'test_charged') j ON j.id = c.id
        WHERE (c.cost_nano, 'test:' || c.buyer_id) IS DISTINCT FROM (j.amount, j.payer) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "call {0} is a test call: {1}; its key is for tests: {2}",
        """
        SELECT c.id, c.is_test, k.is_test FROM every_call c JOIN marketplace_apikey k ON k.id = c.key_id
        WHERE c.is_test <> k.is_test ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "posting {0} granted {1} nano of test money to {2}, the grant says {3} to test:{4}",
        """
        SELECT coalesce(j.id, g.posting_id), coalesce(j.amount, 0), j.payee, coalesce(g.amount_nano, 0), g.user_id
        FROM marketplace_testgrant g
        FULL JOIN (SELECT j.id, a.code AS payee, -j.amounts[1] AS amount FROM ledger_journal j
                   JOIN ledger_account a ON a.id = j.accounts[2] WHERE j.kind = 'test_granted') j ON j.id = g.posting_id
        WHERE (g.amount_nano, 'test:' || g.user_id) IS DISTINCT FROM (j.amount, j.payee) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I7",
        "the parts of call {0} on its page differ from the books (data {1}, books {2})",
        """
        SELECT c.id, c.data_nano, j.data FROM marketplace_call c
        JOIN charge j ON j.id = c.id AND j.kind = 'call_charged'
        WHERE (c.data_nano, c.curation_nano, c.platform_nano, c.developer_nano + c.owner_nano)
              <> (j.data, j.curation, j.platform, j.people) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "charge {0} of a model that no Datanet shaped put {1} nano into pools",
        """
        SELECT j.id, j.data + j.curation FROM charge j
        JOIN (SELECT id, version_id FROM marketplace_call
              UNION ALL SELECT l.entry_id, (l.body ->> 'version_id')::uuid FROM ledger_leaf l
              WHERE l.type = 'access.charged') c ON c.id = j.id
        JOIN marketplace_modelversion v ON v.id = c.version_id AND v.training_run_id IS NULL
        WHERE j.data + j.curation > 0 ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the {1} charge {0} has neither a trace nor an open outbox row",
        """
        SELECT id, source FROM (
            SELECT id, split_part(kind, '_', 1) AS source FROM charge WHERE data + curation > 0) j
        WHERE NOT EXISTS (SELECT FROM attribution_trace t WHERE t.charge_id = j.id)
          AND NOT EXISTS (SELECT FROM ledger_outbox o WHERE o.topic = 'attribution.tasks.trace_charge'
                          AND o.reference = source || ':' || j.id AND o.done_at IS NULL)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I5",
        "payout run {0} holds {1} nano, its unfinished items are {2}",
        """
        SELECT r.id, coalesce(b.balance, 0), coalesce(w.total, 0) FROM marketplace_payoutrun r
        LEFT JOIN (SELECT run_id, sum(amount_nano) AS total FROM marketplace_withdrawal
                   WHERE status IN ('in_run', 'approved', 'sent') GROUP BY 1) w ON w.run_id = r.id
        LEFT JOIN (SELECT a.code, sum(u.amount) AS balance
                   FROM ledger_journal j, unnest(j.accounts, j.amounts) AS u(account_id, amount)
                   JOIN ledger_account a ON a.id = u.account_id
                   WHERE a.code LIKE 'withdrawals:%' GROUP BY 1) b ON b.code = 'withdrawals:' || r.id
        WHERE coalesce(b.balance, 0) <> coalesce(w.total, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Of a key and those that replaced it; free calls count for no cap. What runs is leased, and never used.
        "I5",
        "key {0} counts {2} of its limit ({1}) as used and {3} as leased; its calls cost {4}, its leases have {5}",
        """
        SELECT u.key_id, u.kind, u.used + coalesce(l.used, 0), u.leased, coalesce(c.cost, 0), coalesce(l.granted, 0)
        FROM (SELECT key_id, kind, CASE kind WHEN 'at_once' THEN kind ELSE 'spend' END AS use,
                     sum(used) AS used, sum(leased) AS leased FROM marketplace_keyuse GROUP BY 1, 2) u
        LEFT JOIN (SELECT key_id, use, sum(used) AS used, sum(granted) AS granted FROM marketplace_keylease
                   GROUP BY 1, 2) l USING (key_id, use)
        LEFT JOIN (SELECT coalesce(k.limits_of_id, k.id) AS key_id, 'spend' AS use, sum(c.cost_nano) AS cost
                   FROM every_call c JOIN marketplace_apikey k ON k.id = c.key_id
                   WHERE NOT c.free GROUP BY 1) c USING (key_id, use)
        WHERE (u.used + coalesce(l.used, 0), u.leased) <> (coalesce(c.cost, 0), coalesce(l.granted, 0))
        ORDER BY 1, 2 LIMIT 1
        """,
    ),
    (
        "I4",
        "the fee of training run {0}, {1} nano, was charged as {2}, which does not fit its end",
        """
        SELECT t.id, t.fee_nano, coalesce(j.charged, 0) FROM marketplace_trainingrun t
        LEFT JOIN charge j ON j.id = t.posting_id AND j.kind = 'training_charged'
        WHERE (t.status = 'done' AND t.fee_nano <> coalesce(j.charged, 0))
           OR (t.status <> 'done' AND coalesce(j.charged, 0) <> 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the training charge {0} of {1} nano belongs to no run",
        """
        SELECT j.id, j.charged FROM charge j LEFT JOIN marketplace_trainingrun t ON t.posting_id = j.id
        WHERE j.kind = 'training_charged' AND t.id IS NULL ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Whole, once, and to whoever paid.
        "I4",
        "call {0} was refunded {1} nano to {2}, its refund says {3}; it was charged {4} to {5}",
        """
        SELECT coalesce(l.id, r.call_id), coalesce(l.total, 0), l.target, coalesce(r.amount_nano, 0), c.charged, p.payer
        FROM (SELECT id, min(target) AS target, count(DISTINCT target) AS targets, sum(amount) AS total
              FROM refunded GROUP BY 1) l
        FULL JOIN (SELECT call_id, amount_nano FROM marketplace_refund WHERE status = 'made') r ON r.call_id = l.id
        LEFT JOIN charge c ON c.id = l.id LEFT JOIN (SELECT DISTINCT id, payer FROM paid) p ON p.id = l.id
        WHERE (l.total, l.targets, l.total, l.target) IS DISTINCT FROM (r.amount_nano, 1, c.charged, p.payer)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Pools and settled lines are attribution's to check.
        "I4",
        "{1} gave back {2} nano of call {0}, its charge had given it {3}",
        """
        SELECT id, target, coalesce(r.amount, 0), coalesce(p.amount, 0)
        FROM (SELECT id, source AS target, sum(amount) AS amount FROM refunded
              WHERE source = 'platform:fees' OR takes_from = id GROUP BY 1, 2) r
        FULL JOIN (SELECT id, target, amount FROM paid WHERE NOT starts_with(target, 'pool:')) p USING (id, target)
        WHERE r.amount IS DISTINCT FROM p.amount ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the refund of call {0} and the settlement of its charge disagree on whether it was settled",
        """
        SELECT r.call_id FROM marketplace_refund r FULL JOIN attribution_reversal v ON v.charge_id = r.call_id
        WHERE (r.status = 'made', r.was_settled) IS DISTINCT FROM (v.charge_id IS NOT NULL, v.was_settled)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the refund of pass {0} is {1} nano of a price of {2}, and the books moved {3}",
        """
        SELECT coalesce(r.access_id, j.access_id), coalesce(r.amount_nano, 0), coalesce(a.price_nano, 0),
               coalesce(j.amount, 0)
        FROM marketplace_passrefund r FULL JOIN (
            SELECT id, split_part(reference, ':', 2)::uuid AS access_id, -amounts[1] AS amount FROM ledger_journal
            WHERE kind = 'refund' AND starts_with(reference, 'access:')) j ON j.id = r.posting_id
        LEFT JOIN marketplace_access a ON a.id = r.access_id
        WHERE (r.access_id, r.amount_nano) IS DISTINCT FROM (j.access_id, j.amount) OR r.amount_nano > a.price_nano
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I4",
        "the developer paid {2} nano back for call {0}, which cost {1}; the books moved {3} to {4}",
        """
        SELECT coalesce(p.call_id, j.call_id), coalesce(c.cost_nano, 0), coalesce(p.amount_nano, 0),
               coalesce(j.amount, 0), j.target
        FROM marketplace_payback p FULL JOIN (
            SELECT j.id, split_part(j.reference, ':', 2)::uuid AS call_id, -j.amounts[1] AS amount, t.code AS target
            FROM ledger_journal j JOIN ledger_account t ON t.id = j.accounts[2]
            WHERE j.kind = 'refund' AND starts_with(j.reference, 'payback:')) j ON j.id = p.posting_id
        LEFT JOIN marketplace_call c ON c.id = p.call_id
        LEFT JOIN (SELECT j.id, a.code FROM ledger_journal j JOIN ledger_account a ON a.id = j.accounts[1]) paid
          ON paid.id = p.call_id
        WHERE (p.call_id, p.amount_nano, p.amount_nano, paid.code)
              IS DISTINCT FROM (j.call_id, j.amount, c.cost_nano, j.target)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "epoch {0} released {1} nano of what it left unattributed, the books {2}; {3} were there to release",
        """
        SELECT e.id, coalesce(r.amount_nano, 0), coalesce(j.amount, 0), coalesce(l.amount, 0)
        FROM attribution_epoch e LEFT JOIN marketplace_unattributedrelease r ON r.epoch_id = e.id
        LEFT JOIN (SELECT split_part(reference, ':', 2)::uuid AS epoch_id, -amounts[1] AS amount FROM ledger_journal
                   WHERE kind = 'unattributed_released') j ON j.epoch_id = e.id
        LEFT JOIN (SELECT l.epoch_id, sum(l.amount_nano) AS amount FROM attribution_line l
                   WHERE l.payee_id IS NULL AND l.source_id NOT IN (SELECT id FROM refunded) GROUP BY 1) l
          ON l.epoch_id = e.id
        WHERE coalesce(r.amount_nano, 0) <> coalesce(j.amount, 0)
           OR (r.epoch_id IS NOT NULL AND r.amount_nano <> coalesce(l.amount, 0))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # What was erased cannot be compared any more; that the entry exists can.
        "I9",
        "the public log says that {1} gave back {2} nano of call {0}, the books say {3}",
        """
        SELECT id, source, coalesce(s.amount, 0), coalesce(r.amount, 0)
        FROM (SELECT id, source, sum(amount) AS amount FROM refunded GROUP BY 1, 2) r
        FULL JOIN (SELECT (o.public ->> 'reverses')::uuid AS id, l ->> 'payee' AS source,
                          sum((l ->> 'amount')::bigint) AS amount
                   FROM ledger_opening o, jsonb_array_elements(o.split) AS l WHERE o.type = 'refund.made' GROUP BY 1, 2) s
          USING (id, source)
        WHERE s.amount IS DISTINCT FROM r.amount
          AND (NOT EXISTS (SELECT FROM ledger_fact f WHERE f.reference = 'refund:' || id)
               OR EXISTS (SELECT FROM ledger_opening o WHERE o.type = 'refund.made' AND o.public ->> 'reverses' = id::text))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # What is held twice is held until the later end; one without an end is for ever.
        "I12",
        "lot {0} is to be held until {1}; in the books it is held until {2}, vested at {3}",
        """
        SELECT l.id, coalesce(h.until::text, 'somebody lets it go'),
               CASE WHEN l.held_at IS NULL THEN 'never' ELSE coalesce(l.held_until::text, 'somebody lets it go') END,
               coalesce(l.vested_at::text, 'no time')
        FROM marketplace_lothold h JOIN ledger_lot l ON l.id = h.lot_id
        WHERE h.released_at IS NULL AND coalesce(h.until, 'infinity') > now()
          AND (l.held_at IS NULL OR l.vested_at IS NOT NULL
               OR coalesce(l.held_until, 'infinity') < coalesce(h.until, 'infinity'))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # A lot that a theft dispute or a noise case froze from its first moment has no row of its own.
        "I12",
        "lot {0} is held by {1}, and nobody holds it",
        """
        SELECT l.id, l.held_by FROM ledger_lot l
        WHERE l.held_at IS NOT NULL AND l.vested_at IS NULL AND coalesce(l.held_until, 'infinity') > now()
          AND NOT EXISTS (SELECT FROM marketplace_lothold h WHERE h.lot_id = l.id AND h.released_at IS NULL)
          AND (l.held_by <> 'theft'
               OR NOT EXISTS (SELECT FROM datanets_theftdispute t WHERE t.status IN ('open', 'upheld')))
          AND (l.held_by <> 'noise'
               OR NOT EXISTS (SELECT FROM attribution_noisecase n WHERE n.ended_at IS NULL OR n.status = 'returned'))
        ORDER BY 1 LIMIT 1
        """,
    ),
)


def failures() -> list[Failure]:
    """Run every check; each that fails names its first wrong row. An empty list means all is well."""
    found = []
    for invariant, sentence, query in CHECKS:
        with transaction.atomic(), connection.cursor() as cursor:
            # As in attribution.verify: what each check joins is large, whatever the planner guesses.
            cursor.execute("SET LOCAL enable_nestloop = off")
            cursor.execute(CHARGES + query)
            row = cursor.fetchone()
        if row is not None:
            found.append(Failure(invariant=invariant, row=str(row[0]), sentence=sentence.format(*row)))
    return found
