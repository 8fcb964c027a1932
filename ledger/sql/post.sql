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
  SELECT CASE WHEN said ~ '^\[-[0-9]+(, [0-9]+)+\]$' AND said !~ '[2-9][0-9]{18}|[0-9]{20}'
              THEN ('{' || substr(said, 2, length(said) - 2) || '}')::bigint[] END
$$;

-- 32 bytes nobody can guess: two random UUIDs are 244 random bits. (pgcrypto is not everywhere.) The secrets of a batch
-- are hashes of one seed, which is kept nowhere, with each entry's id: randomness costs more than all the rest of a row.
CREATE FUNCTION ledger_new_secret() RETURNS bytea LANGUAGE sql VOLATILE AS $$
  SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;

-- The common posting: a new one, between accounts that all exist. As few and as short statements as can be, because
-- what a statement and its expressions cost to start is most of what a posting costs. Nulls: it is none, nothing was
-- written, and `ledger_book` decides what it is.
CREATE FUNCTION ledger_book_plain(p jsonb, from_hold uuid, OUT payer bigint, OUT amount bigint) LANGUAGE plpgsql AS $$
DECLARE
  numbers bigint[] := ARRAY(SELECT (SELECT a.id FROM ledger_account a WHERE a.code = u.code)
                            FROM (SELECT jsonb_array_elements_text(p->'accounts') AS code) u);
  -- As text once: to write an array of JSON takes as long as a look-up.
  said_accounts text := p->>'accounts';
  said_amounts text := p->>'amounts';
  nano bigint[] := ledger_amounts(said_amounts);
BEGIN
  INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, hold_id, payload)
  SELECT (p->>'id')::uuid, p->>'kind', p->>'reference', numbers, nano,
    (p->>'vest_after_s')::int, from_hold, ledger_payload(p->>'reference', p->'entry')
  WHERE array_position(numbers, NULL) IS NULL AND nano IS NOT NULL
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
CREATE FUNCTION ledger_book(postings jsonb, door text, OUT ids uuid[], OUT payers bigint[], OUT amounts bigint[],
                            OUT lots uuid[], OUT holds uuid[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  said int;
  unopened text[];
  refused uuid;
  are_open boolean := false;
  is_taken boolean := false;
  broken text;
  seed bytea := ledger_new_secret();
BEGIN
  LOOP
    BEGIN
      WITH said AS MATERIALIZED (
        SELECT s.*, ledger_amounts(s.amounts) AS nano,
          -- An index look-up each, not a join, whatever the planner believes of how many there are.
          ARRAY(SELECT (SELECT a.id FROM ledger_account a WHERE a.code = u.code)
                FROM (SELECT unnest(s.accounts) AS code) u) AS numbers,
          s.accounts[1] LIKE 'pending:%' AS from_pending,
          array_to_string(s.accounts, ',') LIKE '%,pending:%' AS into_pending  -- no code has a comma
        FROM ROWS FROM (jsonb_to_recordset(postings) AS (id uuid, kind text, reference text, accounts text[], amounts text,
          vest_after_s int, takes_from uuid, hold_id uuid, entry jsonb)) WITH ORDINALITY
          AS s(id, kind, reference, accounts, amounts, vest_after_s, takes_from, hold_id, entry, n)
      ), booked AS (
        INSERT INTO ledger_journal AS j (id, kind, reference, accounts, amounts, vest_after_s, takes_from, hold_id, payload)
        SELECT s.id, s.kind, s.reference, s.numbers, s.nano, s.vest_after_s, s.takes_from,
          CASE door WHEN 'draw' THEN s.hold_id END, ledger_payload(s.reference, s.entry)
        FROM said s
        -- Who has no account yet gets one first; then this is said again. What is still unknown then fails the CHECK.
        WHERE (are_open OR NOT EXISTS (SELECT FROM said u WHERE array_position(u.numbers, NULL) IS NOT NULL))
          AND CASE
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
        (SELECT count(*) FROM said),
        (SELECT array_agg(u.code) FROM said s, unnest(s.accounts, s.numbers) AS u(code, number)
         WHERE array_position(s.numbers, NULL) IS NOT NULL AND u.number IS NULL)
      INTO ids, payers, amounts, lots, holds, said, unopened FROM booked b;
      EXIT WHEN unopened IS NULL;
      PERFORM ledger_open(unopened);
      are_open := true;
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
    FROM jsonb_to_recordset(postings) AS s(id uuid, kind text, reference text, accounts text[], amounts text,
      vest_after_s int, takes_from uuid, entry jsonb) JOIN ledger_journal j ON j.id = s.id
    WHERE (j.kind, j.reference, j.accounts, j.amounts, j.vest_after_s, j.takes_from, j.payload)
      IS DISTINCT FROM (s.kind, s.reference,
        ARRAY(SELECT (SELECT a.id FROM ledger_account a WHERE a.code = u.code)
              FROM (SELECT unnest(s.accounts) AS code) u),
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

-- Public. Post all, or none. Each: {"id", "kind", "reference", "accounts": [code of the payer, codes of payees],
-- "amounts": [what the payer pays, negative; what each payee gets], "entry", "vest_after_s", "takes_from"}, null or left out
-- where there is none. Returns the ids that were new.
CREATE FUNCTION ledger_post(postings jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  r record;
  lot record;
BEGIN
  IF jsonb_array_length(postings) = 1 THEN
    r := ledger_book_plain(postings->0, NULL);
    IF r.payer IS NOT NULL THEN
      UPDATE ledger_spend s SET debited_nano = s.debited_nano + r.amount
      WHERE s.account_id = r.payer AND s.debited_nano + s.held_nano + r.amount <= s.granted_nano;
      IF NOT FOUND THEN
        PERFORM ledger_debit(r.payer, r.amount);
      END IF;
      RETURN NEXT (postings->0->>'id')::uuid;
      RETURN;
    END IF;
  END IF;
  r := ledger_book(postings, 'post');
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
DROP FUNCTION ledger_amounts(text);
DROP FUNCTION ledger_payload(text, jsonb);
