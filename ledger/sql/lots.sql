-- Lots: what a pending account is made of. Open lots of an account always add up to its balance.

-- Public, for the sequencer. Move what is due and not on hold from pending to wallet: one posting per person and round,
-- in the transaction that marks the lots. A lot being taken from right now is left for the next round.
CREATE FUNCTION ledger_vest(at_most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  due uuid[];
  batch jsonb;
  r record;
BEGIN
  SELECT array_agg(l.id) INTO due
  FROM (SELECT id FROM ledger_lot
        WHERE vested_at IS NULL AND taken_nano < amount_nano AND due_at <= clock_timestamp()
          AND (held_at IS NULL OR held_until <= clock_timestamp())
        ORDER BY due_at, id LIMIT at_most FOR UPDATE SKIP LOCKED) l;
  IF due IS NULL THEN
    RETURN 0;
  END IF;
  WITH person AS (
    SELECT account_id, gen_random_uuid() AS vesting_id, sum(amount_nano - taken_nano) AS amount
    FROM ledger_lot WHERE id = ANY (due) GROUP BY account_id
  ), marked AS (
    UPDATE ledger_lot l SET vested_at = clock_timestamp(), vesting_id = p.vesting_id
    FROM person p WHERE l.id = ANY (due) AND l.account_id = p.account_id
  ), numbered AS (
    SELECT p.*, a.code, row_number() OVER () AS n, count(*) OVER () AS persons
    FROM person p JOIN ledger_account a ON a.id = p.account_id
  )
  SELECT jsonb_build_object(
    'accounts', jsonb_agg(n.code ORDER BY n.n) || jsonb_agg(replace(n.code, 'pending:', 'wallet:') ORDER BY n.n),
    'postings', jsonb_agg(jsonb_build_object('id', n.vesting_id, 'kind', 'vesting', 'reference', 'vesting:' || n.vesting_id,
      'legs', format('{%s,%s}', n.n, n.persons + n.n), 'amounts', format('{%s,%s}', -n.amount, n.amount))))
  INTO batch FROM numbered n;
  r := ledger_book(batch, 'vest');
  PERFORM ledger_debit_many(r.payers, r.amounts);
  RETURN cardinality(due);
END $$;

-- Public. Keep a lot from vesting, with a reason; `until` null means until released. False: it vested before.
CREATE FUNCTION ledger_hold_lot(lot uuid, reason text, held_by text, until timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_variable
BEGIN
  UPDATE ledger_lot l SET held_at = coalesce(l.held_at, clock_timestamp()), held_until = until, hold_reason = reason,
    held_by = held_by
  WHERE l.id = lot AND l.vested_at IS NULL;
  RETURN FOUND;
END $$;

-- Public. Let a lot vest when it is due. False: it was not on hold.
CREATE FUNCTION ledger_release_lot(lot uuid, released_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  UPDATE ledger_lot l SET held_at = NULL, held_until = NULL, held_by = released_by
  WHERE l.id = lot AND l.held_at IS NOT NULL AND l.vested_at IS NULL;
  RETURN FOUND;
END $$;

-- Public. Forget the words with which lots of an account were held, where nothing is left to hold. Returns how many.
CREATE FUNCTION ledger_forget_reasons(of_account text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  forgotten int;
BEGIN
  UPDATE ledger_lot l SET hold_reason = '' FROM ledger_account a
  WHERE a.code = of_account AND l.account_id = a.id AND l.hold_reason <> ''
    AND (l.vested_at IS NOT NULL OR l.taken_nano = l.amount_nano);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END $$;

-- Public. Have the lot of a posting that is not folded yet held from its first moment; without `held_by`: no more.
CREATE FUNCTION ledger_hold_ahead(posting uuid, account text, reason text, held_by text, until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  DELETE FROM ledger_heldahead h WHERE h.posting_id = $1 AND h.account = $2;
  IF $4 <> '' THEN
    INSERT INTO ledger_heldahead (id, posting_id, account, hold_reason, held_by, held_until, asked_at)
    VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, clock_timestamp());
  END IF;
END $$;

-- reverse:
DROP FUNCTION ledger_hold_ahead(uuid, text, text, text, timestamptz);
DROP FUNCTION ledger_forget_reasons(text);
DROP FUNCTION ledger_release_lot(uuid, text);
DROP FUNCTION ledger_hold_lot(uuid, text, text, timestamptz);
DROP FUNCTION ledger_vest(int);
