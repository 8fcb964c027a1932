-- Posting: append to the journal, then debit the payers. Credits wait for the fold, so nobody queues on a payee.
-- Lock order of every function here: journal, holds, lots, spend rows; each kind sorted by its id.

-- What the caller said, for telling a repeat from a reuse of the id. jsonb prints keys in one order, so this is stable.
-- STABLE, as what it calls is: only then it is inlined.
CREATE FUNCTION ledger_payload(posting jsonb) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT sha256(convert_to(jsonb_build_array(posting->'kind', posting->'reference', posting->'moves',
    coalesce(posting->'entry', 'null'), coalesce(posting->'vest_after_s', 'null'),
    coalesce(posting->'takes_from', 'null'))::text, 'UTF8'))
$$;

-- 32 bytes nobody can guess: two random UUIDs are 244 random bits. (pgcrypto is not everywhere.) The secrets of a batch
-- are hashes of one seed, which is kept nowhere, with each entry's id: randomness costs more than all the rest of a row.
CREATE FUNCTION ledger_new_secret() RETURNS bytea LANGUAGE sql VOLATILE AS $$
  SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;

-- The common posting: a new one, of whole amounts, from one account to others that all exist. One statement writes it at a
-- fraction of the cost of the general way. Nulls: it is none, nothing was written, and `ledger_book` decides what it is.
-- Without a hold the payer's available money pays, in the same statement if there is enough (`is_paid`).
CREATE FUNCTION ledger_book_plain(p jsonb, from_hold uuid, OUT payer bigint, OUT amount bigint, OUT is_paid boolean)
LANGUAGE plpgsql AS $$
BEGIN
  WITH legs AS (
    -- A subquery per move, not a join: whatever the planner believes, this is an index look-up each, in the order given.
    SELECT array_agg(account) AS payees, array_agg(nano) AS amounts, sum(nano)::bigint AS total,
      count(account) = count(*) AND count(nano) = count(*) AND bool_and(is_from_payer)
        AND bool_or(is_into_pending) = (p->>'vest_after_s' IS NOT NULL) AS is_plain
    FROM (SELECT (SELECT a.id FROM ledger_account a WHERE a.code = m->>1) AS account,
            CASE WHEN jsonb_typeof(m->2) = 'number' AND m->>2 ~ '^[0-9]{1,17}$' THEN (m->>2)::bigint END AS nano,
            m->0 = p->'moves'->0->0 AND m->1 <> m->0 AS is_from_payer, m->>1 LIKE 'pending:%' AS is_into_pending
          FROM jsonb_array_elements(p->'moves') m WHERE m->2 <> '0') leg
  ), booked AS (
    INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, hold_id, payload)
    SELECT (p->>'id')::uuid, p->>'kind', p->>'reference', a.id || l.payees, -l.total || l.amounts,
      (p->>'vest_after_s')::int, from_hold, ledger_payload(p)
    FROM legs l, ledger_account a
    WHERE l.is_plain AND a.code = p->'moves'->0->>0 AND a.code NOT LIKE 'pending:%'
      AND p->>'takes_from' IS NULL AND p->>'kind' <> 'vesting' AND cardinality(l.payees) <= 5
      AND l.payees[1] <> ALL (l.payees[2:]) AND l.payees[2] <> ALL (l.payees[3:]) AND l.payees[3] <> ALL (l.payees[4:])
      AND l.payees[4] <> ALL (l.payees[5:])
    ON CONFLICT (id) DO NOTHING
    RETURNING j.id, j.accounts[1] AS payer, -j.amounts[1] AS amount
  ), opened AS (
    INSERT INTO ledger_opening (entry_id, secret, type, public, private, split)
    SELECT b.id, ledger_new_secret(), p->'entry'->>'type', p->'entry'->'public', p->'entry'->'private',
      nullif(p->'entry'->'split', 'null')
    FROM booked b
  ), spent AS (
    UPDATE ledger_spend s SET debited_nano = s.debited_nano + b.amount
    FROM booked b
    WHERE from_hold IS NULL AND s.account_id = b.payer AND s.debited_nano + s.held_nano + b.amount <= s.granted_nano
    RETURNING true AS is_paid
  )
  SELECT b.payer, b.amount, s.is_paid INTO payer, amount, is_paid FROM booked b LEFT JOIN spent s ON true;
END $$;

-- Append to journal and openings. Returns the new postings only; a repeat is silent, a reused id raises OL002.
-- `door` says who calls: post, draw (each posting then names its hold) or vest.
CREATE FUNCTION ledger_book(postings jsonb, door text)
RETURNS TABLE (posting_id uuid, payer bigint, amount bigint, takes_from uuid, hold_id uuid)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  unopened text[];
  booked int;
  reused uuid;
  seed bytea := ledger_new_secret();
BEGIN
  SELECT array_agg(code) INTO unopened
  FROM (SELECT DISTINCT m->>side AS code
        FROM jsonb_array_elements(postings) p, jsonb_array_elements(p->'moves') m, (VALUES (0), (1)) s(side)) said
  WHERE (SELECT a.id FROM ledger_account a WHERE a.code = said.code) IS NULL;
  IF unopened IS NOT NULL THEN
    PERFORM ledger_open(unopened);
  END IF;

  RETURN QUERY
  WITH said AS (
    SELECT DISTINCT ON ((p->>'id')::uuid) (p->>'id')::uuid AS id, p->>'kind' AS kind, p->>'reference' AS reference,
      p->'moves' AS moves, nullif(p->'entry', 'null') AS entry, (p->>'vest_after_s')::int AS vest_after_s,
      (p->>'takes_from')::uuid AS takes_from, CASE door WHEN 'draw' THEN (p->>'hold_id')::uuid END AS hold_id,
      ledger_payload(p) AS payload
    FROM jsonb_array_elements(postings) WITH ORDINALITY t(p, n) ORDER BY (p->>'id')::uuid, n
  ), moved AS (
    SELECT s.id, m->>0 AS source, m->>1 AS target, min(n) AS n,
      sum(CASE WHEN jsonb_typeof(m->2) <> 'number' OR (m->>2)::numeric < 0 OR (m->>2)::numeric % 1 <> 0
               THEN ledger_refuse('OL006', 'an amount is a whole number of nano-OPEN, 0 or more',
                                  jsonb_build_object('posting', s.id, 'amount', m->2))
               ELSE (m->>2)::numeric END) AS amount
    FROM said s, jsonb_array_elements(s.moves) WITH ORDINALITY x(m, n)
    GROUP BY s.id, m->>0, m->>1
  ), legs AS (
    SELECT m.id, min(a.id) AS payer, min(m.source) AS source, sum(m.amount) AS amount,
      array_agg(b.id ORDER BY m.n) AS payees, array_agg(least(m.amount, 1000000000000000001)::bigint ORDER BY m.n) AS amounts,
      CASE WHEN count(DISTINCT m.source) > 1 OR bool_or(m.source = m.target) THEN
        ledger_refuse('OL005', 'the moves of a posting share one payer, who is not a payee',
                      jsonb_build_object('posting', m.id)) END AS unbalanced,
      bool_or(m.target LIKE 'pending:%') AS into_pending
    FROM moved m JOIN ledger_account a ON a.code = m.source JOIN ledger_account b ON b.code = m.target
    WHERE m.amount > 0
    GROUP BY m.id
  ), whole AS (
    SELECT s.*, l.payer, l.payees, l.amounts,
      CASE WHEN l.amount IS NULL OR l.amount > 1000000000000000000 OR l.unbalanced IS NOT NULL
             THEN ledger_refuse('OL006', 'nothing to move, or more than the supply', jsonb_build_object('posting', s.id))
           WHEN l.into_pending <> (s.vest_after_s IS NOT NULL)
             THEN ledger_refuse('OL006', 'vest_after_s is for moves into pending accounts, and those need it',
                                jsonb_build_object('posting', s.id))
           WHEN (door = 'vest') <> (s.kind = 'vesting')
             THEN ledger_refuse('OL013', 'only the ledger vests', jsonb_build_object('posting', s.id))
           WHEN (l.source LIKE 'pending:%' AND door <> 'vest') <> (s.takes_from IS NOT NULL)
             THEN ledger_refuse('OL013', 'takes_from names the lot a pending account pays from',
                                jsonb_build_object('posting', s.id))
           ELSE l.amount END::bigint AS amount
    FROM said s LEFT JOIN legs l ON l.id = s.id
  ), booked AS (
    INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, takes_from, hold_id,
      payload)
    SELECT w.id, w.kind, w.reference, w.payer || w.payees, (-w.amount) || w.amounts, w.vest_after_s, w.takes_from,
      w.hold_id, w.payload
    FROM whole w ORDER BY w.id
    ON CONFLICT (id) DO NOTHING
    RETURNING j.id, j.accounts[1] AS payer, -j.amounts[1] AS amount, j.takes_from, j.hold_id
  ), opened AS (
    INSERT INTO ledger_opening (entry_id, secret, type, public, private, split)
    SELECT b.id, sha256(seed || uuid_send(b.id)), s.entry->>'type', s.entry->'public', s.entry->'private',
      nullif(s.entry->'split', 'null')
    FROM booked b JOIN said s ON s.id = b.id
  )
  SELECT b.id, b.payer, b.amount, b.takes_from, b.hold_id FROM booked b;

  GET DIAGNOSTICS booked = ROW_COUNT;
  IF booked <> jsonb_array_length(postings) THEN
    SELECT j.id INTO reused
    FROM jsonb_array_elements(postings) p JOIN ledger_journal j ON j.id = (p->>'id')::uuid
    WHERE j.payload <> ledger_payload(p) LIMIT 1;
    IF FOUND THEN
      PERFORM ledger_refuse('OL002', 'this posting id was used for something else',
                            jsonb_build_object('posting', reused));
    END IF;
  END IF;
END $$;

-- Debit one payer, or raise. The UPDATE is the lock; its WHERE is the test; nothing is read before.
CREATE FUNCTION ledger_debit(payer bigint, amount bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  payer_code text;
BEGIN
  UPDATE ledger_spend s SET debited_nano = s.debited_nano + amount
  WHERE s.account_id = payer AND s.debited_nano + s.held_nano + amount <= s.granted_nano;
  IF FOUND THEN
    RETURN;
  END IF;
  -- Pull what was credited since. `granted` is set to a total, never added to: two pulls cannot grant twice.
  UPDATE ledger_spend s
  SET granted_nano = greatest(s.granted_nano, a.base_nano + p.credited_nano), debited_nano = s.debited_nano + amount
  FROM ledger_position p JOIN ledger_account a ON a.id = p.account_id
  WHERE s.account_id = payer AND p.account_id = payer
    AND s.debited_nano + s.held_nano + amount <= greatest(s.granted_nano, a.base_nano + p.credited_nano);
  IF FOUND THEN
    RETURN;
  END IF;
  SELECT code INTO payer_code FROM ledger_account WHERE id = payer;
  PERFORM ledger_refuse(CASE payer_code WHEN 'world' THEN 'OL011' ELSE 'OL001' END,
    format('%s has less than %s nano-OPEN available', payer_code, amount),
    jsonb_build_object('account', payer_code, 'amount_nano', amount));
END $$;

-- Debit many payers, or raise. Their rows are locked in the order of their ids; who has not enough pulls, one by one.
CREATE FUNCTION ledger_debit_many(payers bigint[], amounts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  FOR r IN
    WITH due AS (
      SELECT payer, sum(amount)::bigint AS amount FROM unnest(payers, amounts) AS t(payer, amount) GROUP BY payer
    ), locked AS (
      SELECT s.account_id FROM ledger_spend s WHERE s.account_id = ANY (payers) ORDER BY s.account_id FOR UPDATE
    ), debited AS (
      UPDATE ledger_spend s SET debited_nano = s.debited_nano + d.amount
      FROM locked l JOIN due d ON d.payer = l.account_id
      WHERE s.account_id = l.account_id AND s.debited_nano + s.held_nano + d.amount <= s.granted_nano
      RETURNING s.account_id
    )
    SELECT d.payer, d.amount FROM due d WHERE d.payer NOT IN (SELECT account_id FROM debited) ORDER BY d.payer
  LOOP
    PERFORM ledger_debit(r.payer, r.amount);
  END LOOP;
END $$;

-- Give back from a lot that has not vested.
CREATE FUNCTION ledger_take(lot_posting uuid, owner bigint, amount bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE ledger_lot SET taken_nano = taken_nano + amount
  WHERE posting_id = lot_posting AND account_id = owner AND vested_at IS NULL AND taken_nano + amount <= amount_nano;
  IF NOT FOUND THEN
    PERFORM ledger_refuse('OL013', 'the lot is unknown, vested, or has less left',
      jsonb_build_object('posting', lot_posting, 'amount_nano', amount,
                         'account', (SELECT code FROM ledger_account WHERE id = owner)));
  END IF;
END $$;

-- Public. Post all, or none. Returns the ids that were new.
CREATE FUNCTION ledger_post(postings jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  ids uuid[];
  payers bigint[];
  amounts bigint[];
  lots uuid[];
  r record;
BEGIN
  IF jsonb_array_length(postings) = 1 THEN
    r := ledger_book_plain(postings->0, NULL);
    IF r.payer IS NOT NULL THEN
      IF r.is_paid IS NULL THEN
        PERFORM ledger_debit(r.payer, r.amount);
      END IF;
      RETURN NEXT (postings->0->>'id')::uuid;
      RETURN;
    END IF;
  END IF;
  SELECT array_agg(b.posting_id), array_agg(b.payer), array_agg(b.amount), array_agg(b.takes_from)
  INTO ids, payers, amounts, lots FROM ledger_book(postings, 'post') b;
  IF cardinality(ids) = 1 THEN
    IF lots[1] IS NOT NULL THEN
      PERFORM ledger_take(lots[1], payers[1], amounts[1]);
    END IF;
    PERFORM ledger_debit(payers[1], amounts[1]);
  ELSE
    FOR r IN SELECT lot, payer, sum(amount)::bigint AS amount FROM unnest(lots, payers, amounts) AS t(lot, payer, amount)
             WHERE lot IS NOT NULL GROUP BY lot, payer ORDER BY lot, payer LOOP
      PERFORM ledger_take(r.lot, r.payer, r.amount);
    END LOOP;
    PERFORM ledger_debit_many(payers, amounts);
  END IF;
  RETURN QUERY SELECT unnest(ids);
END $$;

-- reverse:
DROP FUNCTION ledger_post(jsonb);
DROP FUNCTION ledger_take(uuid, bigint, bigint);
DROP FUNCTION ledger_debit_many(bigint[], bigint[]);
DROP FUNCTION ledger_debit(bigint, bigint);
DROP FUNCTION ledger_book(jsonb, text);
DROP FUNCTION ledger_book_plain(jsonb, uuid);
DROP FUNCTION ledger_new_secret();
DROP FUNCTION ledger_payload(jsonb);
