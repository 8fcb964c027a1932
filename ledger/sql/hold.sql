-- Holds: set aside, draw any number of times, close. A call's hold is drawn once, a gateway's lease thousands of times.

-- Lock the spend row of an account and return what is available, with every credit folded so far.
CREATE FUNCTION ledger_available(account bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  available bigint;
BEGIN
  UPDATE ledger_spend s SET granted_nano = greatest(s.granted_nano, a.base_nano + p.credited_nano)
  FROM ledger_position p JOIN ledger_account a ON a.id = p.account_id
  WHERE s.account_id = account AND p.account_id = account
  RETURNING s.granted_nano - s.debited_nano - s.held_nano INTO available;
  RETURN available;
END $$;

-- Public. Returns what was set aside: `amount`, or what there is if that is `at_least` or more. A repeat returns the same.
CREATE FUNCTION ledger_hold(hold_id uuid, account text, amount bigint, at_least bigint, expires_in_s int, owner text,
                            generation bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  h ledger_hold;
  account_number bigint;
  granted bigint;
BEGIN
  IF amount <= 0 OR at_least <= 0 OR at_least > amount OR amount > 1000000000000000000 OR expires_in_s <= 0 THEN
    PERFORM ledger_refuse('OL006', 'a hold is 0 < at_least <= amount, for 1 s or more', jsonb_build_object('hold', hold_id));
  END IF;
  IF account LIKE 'pending:%' THEN  -- or what is held could not vest, and everything due with it
    PERFORM ledger_refuse('OL013', 'a pending account pays from its lots only', jsonb_build_object('account', account));
  END IF;
  SELECT a.id INTO account_number FROM ledger_account a WHERE a.code = account;
  IF NOT FOUND THEN
    PERFORM ledger_open(ARRAY[account]);
    SELECT a.id INTO account_number FROM ledger_account a WHERE a.code = account;
  END IF;
  -- The common case is one update: enough, and nothing to pull.
  UPDATE ledger_spend s SET held_nano = s.held_nano + amount
  WHERE s.account_id = account_number AND s.debited_nano + s.held_nano + amount <= s.granted_nano;
  IF FOUND THEN
    granted := amount;
  ELSE
    granted := least(amount, ledger_available(account_number));
    IF granted >= at_least THEN
      UPDATE ledger_spend s SET held_nano = s.held_nano + granted WHERE s.account_id = account_number;
    ELSE
      granted := 0;
    END IF;
  END IF;
  IF granted > 0 THEN
    INSERT INTO ledger_hold AS n (id, account_id, requested_nano, at_least_nano, amount_nano, owner, generation, expires_at)
    VALUES (hold_id, account_number, amount, at_least, granted, owner, generation,
            clock_timestamp() + make_interval(secs => expires_in_s))
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
      RETURN granted;
    END IF;
    UPDATE ledger_spend s SET held_nano = s.held_nano - granted WHERE s.account_id = account_number;
  END IF;
  -- A repeat (looked for last: it is the rare case), or not enough.
  SELECT * INTO h FROM ledger_hold x WHERE x.id = hold_id;
  IF NOT FOUND THEN
    PERFORM ledger_refuse('OL001', format('%s has less than %s nano-OPEN available', account, at_least),
                          jsonb_build_object('account', account, 'amount_nano', at_least));
  END IF;
  IF (h.account_id, h.requested_nano, h.at_least_nano) IS DISTINCT FROM (account_number, amount, at_least) THEN
    PERFORM ledger_refuse('OL002', 'this hold id was used for something else', jsonb_build_object('hold', hold_id));
  END IF;
  RETURN h.amount_nano;
END $$;

-- Public. Raise a hold to `amount` in all (null: leave it) and let it live `expires_in_s` from now (null: leave it).
CREATE FUNCTION ledger_extend(hold_id uuid, amount bigint, expires_in_s int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  h ledger_hold;
  more bigint;
BEGIN
  SELECT * INTO h FROM ledger_hold x WHERE x.id = hold_id FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ledger_refuse('OL007', 'no such hold', jsonb_build_object('hold', hold_id));
  ELSIF h.closed_at IS NOT NULL THEN
    PERFORM ledger_refuse('OL008', 'the hold is closed', jsonb_build_object('hold', hold_id, 'ending', h.ending));
  END IF;
  more := coalesce(amount, h.amount_nano) - h.amount_nano;
  IF more < 0 OR expires_in_s <= 0 THEN
    PERFORM ledger_refuse('OL006', 'a hold is only ever extended', jsonb_build_object('hold', hold_id));
  END IF;
  UPDATE ledger_hold x SET amount_nano = x.amount_nano + more,
    expires_at = coalesce(clock_timestamp() + make_interval(secs => expires_in_s), x.expires_at)
  WHERE x.id = hold_id;
  IF more > 0 THEN
    IF ledger_available(h.account_id) < more THEN
      PERFORM ledger_refuse('OL001', 'less is available than the hold is to grow by', jsonb_build_object(
        'hold', hold_id, 'amount_nano', more, 'account', (SELECT code FROM ledger_account WHERE id = h.account_id)));
    END IF;
    UPDATE ledger_spend s SET held_nano = s.held_nano + more WHERE s.account_id = h.account_id;
  END IF;
  RETURN h.amount_nano + more;
END $$;

-- End holds: what was not drawn is available again. Returns how much that was. `closed_at IS NULL`, tested by the UPDATE
-- that takes the lock, makes an end happen once; RETURNING reads what a draw before us left.
CREATE FUNCTION ledger_end_holds(hold_ids uuid[], how text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  released bigint := 0;
  r record;
BEGIN
  FOR r IN WITH ended AS (
             UPDATE ledger_hold h SET closed_at = clock_timestamp(), ending = how
             WHERE h.id = ANY (hold_ids) AND h.closed_at IS NULL RETURNING h.account_id, h.amount_nano - h.drawn_nano AS rest)
           SELECT account_id, sum(rest)::bigint AS rest FROM ended GROUP BY account_id ORDER BY account_id LOOP
    UPDATE ledger_spend s SET held_nano = s.held_nano - r.rest WHERE s.account_id = r.account_id;
    released := released + r.rest;
  END LOOP;
  RETURN released;
END $$;

-- Public. Post from holds, all or none: what a posting moves was set aside before, so only the hold is tested. A batch as
-- of ledger_post, each posting with "hold_id" and "close"; to close also releases the rest of the hold. Returns the ids that
-- were new; a repeat draws nothing.
CREATE FUNCTION ledger_draw(batch jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  draws jsonb := batch->'postings';
  ids uuid[];
  holds uuid[];
  payers bigint[];
  amounts bigint[];
  closing uuid[];
  r record;
BEGIN
  IF jsonb_array_length(draws) = 1 THEN
    r := ledger_book_plain(batch, (draws->0->>'hold_id')::uuid);
    IF r.payer IS NOT NULL THEN
      ids := ARRAY[(draws->0->>'id')::uuid];
      holds := ARRAY[(draws->0->>'hold_id')::uuid];
      payers := ARRAY[r.payer];
      amounts := ARRAY[r.amount];
    END IF;
  END IF;
  IF ids IS NULL THEN
    r := ledger_book(batch, 'draw');
    ids := r.ids;
    holds := r.holds;
    payers := r.payers;
    amounts := r.amounts;
  END IF;
  SELECT array_agg(DISTINCT (x->>'hold_id')::uuid) INTO closing
  FROM jsonb_array_elements(draws) x WHERE (x->>'close')::boolean;

  PERFORM FROM ledger_hold h WHERE h.id = ANY (holds) OR h.id = ANY (closing) ORDER BY h.id FOR UPDATE;
  FOR r IN SELECT d.hold_id, d.payers, d.amount, h.account_id, h.closed_at, h.ending, h.amount_nano - h.drawn_nano AS rest
           FROM (SELECT hold_id, array_agg(DISTINCT payer) AS payers, sum(amount) AS amount
                 FROM unnest(holds, payers, amounts) AS t(hold_id, payer, amount) GROUP BY hold_id) d
           LEFT JOIN ledger_hold h ON h.id = d.hold_id ORDER BY d.hold_id LOOP
    IF r.account_id IS NULL THEN
      PERFORM ledger_refuse('OL007', 'no such hold', jsonb_build_object('hold', r.hold_id));
    ELSIF r.closed_at IS NOT NULL THEN
      PERFORM ledger_refuse('OL008', 'the hold is closed', jsonb_build_object('hold', r.hold_id, 'ending', r.ending));
    ELSIF r.payers <> ARRAY[r.account_id] THEN
      PERFORM ledger_refuse('OL010', 'the payer is not the account of the hold', jsonb_build_object('hold', r.hold_id));
    ELSIF r.amount > r.rest THEN
      PERFORM ledger_refuse('OL009', format('the hold has %s nano-OPEN left, not %s', r.rest, r.amount),
                            jsonb_build_object('hold', r.hold_id, 'left_nano', r.rest));
    END IF;
    UPDATE ledger_hold h SET drawn_nano = h.drawn_nano + r.amount::bigint WHERE h.id = r.hold_id;
  END LOOP;
  FOR r IN SELECT payer, sum(amount)::bigint AS amount FROM unnest(payers, amounts) AS t(payer, amount)
           GROUP BY payer ORDER BY payer LOOP
    UPDATE ledger_spend s SET held_nano = s.held_nano - r.amount, debited_nano = s.debited_nano + r.amount
    WHERE s.account_id = r.payer;
  END LOOP;
  IF closing IS NOT NULL THEN
    PERFORM ledger_end_holds(closing, 'closed');
  END IF;
  RETURN QUERY SELECT unnest(ids);
END $$;

-- Public. Release what was not drawn; 0 if it was closed before.
CREATE FUNCTION ledger_close(hold_id uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM ledger_hold h WHERE h.id = hold_id) THEN
    PERFORM ledger_refuse('OL007', 'no such hold', jsonb_build_object('hold', hold_id));
  END IF;
  RETURN ledger_end_holds(ARRAY[hold_id], 'closed');
END $$;

-- Public. Close the holds of earlier lives of a process; it can no longer draw on them. Returns how many.
CREATE FUNCTION ledger_fence(owner text, below_generation bigint) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  found_ids uuid[];
BEGIN
  SELECT array_agg(l.id) INTO found_ids
  FROM (SELECT h.id FROM ledger_hold h
        WHERE h.owner = ledger_fence.owner AND h.generation < below_generation AND h.closed_at IS NULL
        ORDER BY h.id FOR UPDATE) l;
  PERFORM ledger_end_holds(found_ids, 'fenced');
  RETURN coalesce(cardinality(found_ids), 0);
END $$;

-- Public. Close what is past its time by the server's clock. A hold being drawn right now is left for the next round.
CREATE FUNCTION ledger_expire(at_most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  found_ids uuid[];
BEGIN
  SELECT array_agg(l.id) INTO found_ids
  FROM (SELECT h.id FROM ledger_hold h WHERE h.closed_at IS NULL AND h.expires_at <= clock_timestamp()
        ORDER BY h.id LIMIT at_most FOR UPDATE SKIP LOCKED) l;
  PERFORM ledger_end_holds(found_ids, 'expired');
  RETURN coalesce(cardinality(found_ids), 0);
END $$;

-- reverse:
DROP FUNCTION ledger_expire(int);
DROP FUNCTION ledger_fence(text, bigint);
DROP FUNCTION ledger_close(uuid);
DROP FUNCTION ledger_draw(jsonb);
DROP FUNCTION ledger_end_holds(uuid[], text);
DROP FUNCTION ledger_extend(uuid, bigint, int);
DROP FUNCTION ledger_hold(uuid, text, bigint, bigint, int, text, bigint);
DROP FUNCTION ledger_available(bigint);
