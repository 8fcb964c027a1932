-- Posting: append to the journal, then debit the payers. Credits wait for the fold, so nobody queues on a payee.
-- Lock order of every function here: journal, holds, lots, spend rows; each kind sorted by its id.

-- A digest of the reference and the entry a caller gave, for telling a repeat from a reuse of the id: the rest of a posting
-- stands in its row, what an entry says may be erased. Null if it gave none. jsonb prints keys in one order, so this is
-- stable. (STABLE, as what it calls is: only then PostgreSQL inlines it.)
CREATE FUNCTION ledger_payload(reference text, entry jsonb) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN entry <> 'null' THEN sha256(convert_to(jsonb_build_array(reference, entry->'type', entry->'public',
    entry->'private', entry->'split')::text, 'UTF8')) END
$$;

-- The amounts of a posting: what the payer pays, negative, then what each payee gets. Null unless they are whole and near
-- enough to the supply for a BIGINT; that none is 0 and all add up to 0 is the journal's own CHECK. (Two short patterns:
-- one long one costs as much as three index look-ups.)
CREATE FUNCTION ledger_amounts(said text) RETURNS bigint[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN said ~ '^\{-[0-9]+(, ?[0-9]+)+\}$' AND said !~ '[2-9][0-9]{18}|[0-9]{20}' THEN said::bigint[] END
$$;

-- The numbers of the accounts of a batch, in its order; null for who has none. An index look-up each, not a join, whatever
-- the planner believes of how many there are.
CREATE FUNCTION ledger_numbers(batch jsonb) RETURNS bigint[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT ARRAY(SELECT (SELECT a.id FROM ledger_account a WHERE a.code = u.code)
               FROM (SELECT jsonb_array_elements_text(batch->'accounts') AS code) u)
$$;

-- 32 bytes nobody can guess: two random UUIDs are 244 random bits. (pgcrypto is not everywhere.) The secrets of a batch
-- are hashes of one seed, which is kept nowhere, with each entry's id: randomness costs more than all the rest of a row.
CREATE FUNCTION ledger_new_secret() RETURNS bytea LANGUAGE sql VOLATILE AS $$
  SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;

-- The common batch: one posting, a new one, between accounts that all exist. As few and as short statements as can be,
-- because what a statement and its expressions cost to start is most of what a posting costs. Nulls: it is none, nothing
-- was written, and `ledger_book` decides what it is.
CREATE FUNCTION ledger_book_plain(batch jsonb, from_hold uuid, OUT payer bigint, OUT amount bigint) LANGUAGE plpgsql AS $$
DECLARE
  p jsonb := batch->'postings'->0;
  numbers bigint[] := ledger_numbers(batch);
  said_accounts text := batch->>'accounts';  -- once: to write an array of JSON as text takes as long as a look-up
  nano bigint[] := ledger_amounts(p->>'amounts');
BEGIN
  INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, hold_id, payload)
  SELECT (p->>'id')::uuid, p->>'kind', p->>'reference', numbers, nano,
    (p->>'vest_after_s')::int, from_hold, ledger_payload(p->>'reference', p->'entry')
  WHERE array_position(numbers, NULL) IS NULL AND nano IS NOT NULL AND p->>'legs' IS NULL
    AND said_accounts NOT LIKE '["pending:%' AND p->>'takes_from' IS NULL AND p->>'kind' <> 'vesting'
    AND (said_accounts LIKE '%, "pending:%') = (p->>'vest_after_s' IS NOT NULL)
  ON CONFLICT DO NOTHING
  RETURNING j.accounts[1], -j.amounts[1] INTO payer, amount;
  IF payer IS NOT NULL AND p->>'entry' IS NOT NULL THEN
    INSERT INTO ledger_opening (entry_id, secret, type, public, private, split)
    VALUES ((p->>'id')::uuid, ledger_new_secret(), p->'entry'->>'type', p->'entry'->'public', p->'entry'->'private',
            nullif(p->'entry'->'split', 'null'));
  END IF;
END $$;

-- Append to journal and openings, all or none. (Where the caller gave no entry, the log makes the opening.) Returns what
-- is new, one place per posting; a repeat is silent, a reused id raises OL002, a taken reference OL003. `door` says who
-- calls: post, draw (each posting then names its hold) or vest.
CREATE FUNCTION ledger_book(batch jsonb, door text, OUT ids uuid[], OUT payers bigint[], OUT amounts bigint[],
                            OUT lots uuid[], OUT holds uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  postings jsonb := batch->'postings';
  codes text[] := ARRAY(SELECT jsonb_array_elements_text(batch->'accounts'));
  every_leg int[] := ARRAY(SELECT generate_series(1, cardinality(codes)));
  pending int[] := ARRAY(SELECT u.n FROM unnest(codes) WITH ORDINALITY AS u(code, n) WHERE u.code LIKE 'pending:%');
  numbers bigint[] := ledger_numbers(batch);
  said int;
  refused uuid;
  is_taken boolean := false;
  broken text;
  seed bytea := ledger_new_secret();
BEGIN
  IF array_position(numbers, NULL) IS NOT NULL THEN  -- who has no account yet gets one first
    PERFORM ledger_open(ARRAY(SELECT u.code FROM unnest(codes, numbers) AS u(code, number) WHERE u.number IS NULL));
    numbers := ledger_numbers(batch);
  END IF;
  LOOP
    BEGIN
      WITH said AS MATERIALIZED (
        SELECT s.*, ledger_amounts(s.amounts) AS nano, ARRAY(SELECT numbers[leg] FROM unnest(s.places) leg) AS accounts,
          s.places[1] = ANY (pending) AS from_pending, s.places[2:] && pending AS into_pending
        FROM (
          SELECT r.*, coalesce(r.legs::int[], every_leg) AS places
          FROM ROWS FROM (jsonb_to_recordset(postings) AS (id uuid, kind text, reference text, legs text, amounts text,
            vest_after_s int, takes_from uuid, hold_id uuid, entry jsonb)) WITH ORDINALITY
            AS r(id, kind, reference, legs, amounts, vest_after_s, takes_from, hold_id, entry, n)) s
      ), booked AS (
        INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, takes_from, hold_id, payload)
        SELECT s.id, s.kind, s.reference, s.accounts, s.nano, s.vest_after_s, s.takes_from,
          CASE door WHEN 'draw' THEN s.hold_id END, ledger_payload(s.reference, s.entry)
        FROM said s
        WHERE CASE
            WHEN s.nano IS NULL
              THEN ledger_refuse('OL006', 'amounts are whole nano-OPEN: what is paid, negative, then what each receives',
                                 jsonb_build_object('posting', s.id))
            WHEN s.into_pending <> (s.vest_after_s IS NOT NULL)
              THEN ledger_refuse('OL006', 'vest_after_s is for moves into pending accounts, and those need it',
                                 jsonb_build_object('posting', s.id))
            WHEN (door = 'vest') <> (s.kind = 'vesting')
              THEN ledger_refuse('OL013', 'only the ledger vests', jsonb_build_object('posting', s.id))
            WHEN (s.from_pending AND door <> 'vest') <> (s.takes_from IS NOT NULL)
              THEN ledger_refuse('OL013', 'takes_from names the lot a pending account pays from',
                                 jsonb_build_object('posting', s.id))
            END IS NULL
        ORDER BY s.id, s.n
        ON CONFLICT (id) DO NOTHING
        RETURNING j.id, j.accounts[1] AS payer, -j.amounts[1] AS amount, j.takes_from, j.hold_id, j.payload
      ), opened AS (
        INSERT INTO ledger_opening (entry_id, secret, type, public, private, split)
        SELECT DISTINCT ON (b.id) b.id, sha256(seed || uuid_send(b.id)), s.entry->>'type', s.entry->'public',
          s.entry->'private', nullif(s.entry->'split', 'null')
        FROM booked b JOIN said s ON s.id = b.id WHERE b.payload IS NOT NULL ORDER BY b.id, s.n
      )
      SELECT array_agg(b.id), array_agg(b.payer), array_agg(b.amount), array_agg(b.takes_from), array_agg(b.hold_id),
        (SELECT count(*) FROM said)
      INTO ids, payers, amounts, lots, holds, said FROM booked b;
      EXIT;
    EXCEPTION WHEN unique_violation THEN
      GET STACKED DIAGNOSTICS broken = CONSTRAINT_NAME;
      IF broken <> 'ledger_reference_once' THEN
        RAISE;
      ELSIF is_taken THEN
        SELECT s.id INTO refused FROM jsonb_to_recordset(postings) AS s(id uuid, kind text, reference text)
        JOIN ledger_journal j ON ledger_reference_key(j.kind, j.reference) = ledger_reference_key(s.kind, s.reference)
        WHERE j.id <> s.id LIMIT 1;
        PERFORM ledger_refuse('OL003', 'a posting of this kind with this reference exists under another id',
                              jsonb_build_object('posting', refused));
      END IF;
      -- Or somebody has posted just the same at this moment: PostgreSQL may meet the reference before the id. By now it is
      -- committed, and the next look finds it.
      is_taken := true;
    END;
  END LOOP;

  IF coalesce(cardinality(ids), 0) <> said THEN
    SELECT j.id INTO refused
    FROM jsonb_to_recordset(postings) AS s(id uuid, kind text, reference text, legs text, amounts text,
      vest_after_s int, takes_from uuid, entry jsonb) JOIN ledger_journal j ON j.id = s.id
    WHERE (j.kind, j.reference, j.accounts, j.amounts, j.vest_after_s, j.takes_from, j.payload)
      IS DISTINCT FROM (s.kind, s.reference, ARRAY(SELECT numbers[leg] FROM unnest(coalesce(s.legs::int[], every_leg)) leg),
        ledger_amounts(s.amounts), s.vest_after_s, s.takes_from, ledger_payload(s.reference, s.entry))
    LIMIT 1;
    IF FOUND THEN
      PERFORM ledger_refuse('OL002', 'this posting id was used for something else',
                            jsonb_build_object('posting', refused));
    END IF;
  END IF;
END $$;

-- Debit one payer who has not enough by what was last granted, or raise. The UPDATE is the lock; its WHERE is the test;
-- nothing is read before. `granted` is set to a total, never added to: two pulls cannot grant twice.
CREATE FUNCTION ledger_debit(payer bigint, amount bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  payer_code text;
BEGIN
  UPDATE ledger_spend s
  SET granted_nano = greatest(s.granted_nano, a.base_nano + p.credited_nano), debited_nano = s.debited_nano + amount
  FROM ledger_position p JOIN ledger_account a ON a.id = p.account_id
  WHERE s.account_id = payer AND p.account_id = payer
    AND s.debited_nano + s.held_nano + amount <= greatest(s.granted_nano, a.base_nano + p.credited_nano);
  IF FOUND THEN
    RETURN;
  END IF;
  SELECT code INTO payer_code FROM ledger_account WHERE id = payer;
  PERFORM ledger_refuse(CASE WHEN payer_code IN ('world', 'testworld') THEN 'OL011' ELSE 'OL001' END,
    format('%s has less than %s nano-OPEN available', payer_code, amount),
    jsonb_build_object('account', payer_code, 'amount_nano', amount));
END $$;

-- Debit many payers, or raise. Their rows are locked in the order of their ids; who has not enough pulls, one by one.
CREATE FUNCTION ledger_debit_many(payers bigint[], amounts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  -- A statement of its own: joined to what it locks, it makes the planner go through all payers for each payer.
  PERFORM FROM ledger_spend s WHERE s.account_id = ANY (payers) ORDER BY s.account_id FOR UPDATE;
  FOR r IN
    WITH due AS (
      SELECT payer, sum(amount)::bigint AS amount FROM unnest(payers, amounts) AS t(payer, amount) GROUP BY payer
    ), debited AS (
      UPDATE ledger_spend s SET debited_nano = s.debited_nano + d.amount
      FROM due d WHERE s.account_id = d.payer AND s.debited_nano + s.held_nano + d.amount <= s.granted_nano
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

-- Public. Post all, or none. The batch: {"accounts": [codes, each once], "postings": [...]}, so that a thousand postings say
-- and look up their accounts once. Each posting: {"id", "kind", "reference", "legs": place in "accounts" of the payer, then
-- of each payee, the first is 1; left out where they are all accounts in their order, "amounts": what the payer pays,
-- negative, then what each payee gets, "entry", "vest_after_s", "takes_from"}, null or left out where there is none. Legs
-- and amounts are arrays as text, "{-5,5}": PostgreSQL reads them faster than JSON's. Returns the ids that were new.
CREATE FUNCTION ledger_post(batch jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  r record;
  lot record;
BEGIN
  IF jsonb_array_length(batch->'postings') = 1 THEN
    r := ledger_book_plain(batch, NULL);
    IF r.payer IS NOT NULL THEN
      UPDATE ledger_spend s SET debited_nano = s.debited_nano + r.amount
      WHERE s.account_id = r.payer AND s.debited_nano + s.held_nano + r.amount <= s.granted_nano;
      IF NOT FOUND THEN
        PERFORM ledger_debit(r.payer, r.amount);
      END IF;
      RETURN NEXT (batch->'postings'->0->>'id')::uuid;
      RETURN;
    END IF;
  END IF;
  r := ledger_book(batch, 'post');
  FOR lot IN SELECT t.lot, t.payer, sum(t.amount)::bigint AS amount
             FROM unnest(r.lots, r.payers, r.amounts) AS t(lot, payer, amount)
             WHERE t.lot IS NOT NULL GROUP BY t.lot, t.payer ORDER BY t.lot, t.payer LOOP
    PERFORM ledger_take(lot.lot, lot.payer, lot.amount);
  END LOOP;
  PERFORM ledger_debit_many(r.payers, r.amounts);
  RETURN QUERY SELECT unnest(r.ids);
END $$;

-- reverse:
DROP FUNCTION ledger_post(jsonb);
DROP FUNCTION ledger_take(uuid, bigint, bigint);
DROP FUNCTION ledger_debit_many(bigint[], bigint[]);
DROP FUNCTION ledger_debit(bigint, bigint);
DROP FUNCTION ledger_book(jsonb, text);
DROP FUNCTION ledger_book_plain(jsonb, uuid);
DROP FUNCTION ledger_new_secret();
DROP FUNCTION ledger_numbers(jsonb);
DROP FUNCTION ledger_amounts(text);
DROP FUNCTION ledger_payload(text, jsonb);
