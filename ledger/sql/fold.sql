-- The fold: credits of committed postings, in the one order (xid, id), into statements and positions.

-- Public, for the sequencer. Returns how many postings it folded.
-- Only what is below the oldest running transaction is read: a writer that took its id early and commits late is still
-- running then, so its posting is not skipped. Whoever runs this twice waits at the cursor.
CREATE FUNCTION ledger_fold(at_most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  c ledger_cursor;
  folded bigint;
  legs bigint;
  counted bigint;
  last_xid xid8;
  last_id uuid;
BEGIN
  -- A lock takes a transaction id, and those are finite: an idle round takes none.
  IF NOT EXISTS (SELECT FROM ledger_cursor k, ledger_journal j WHERE k.name = 'fold' AND (j.xid, j.id) > (k.xid, k.posting)) THEN
    RETURN 0;
  END IF;
  SELECT * INTO c FROM ledger_cursor WHERE name = 'fold' FOR UPDATE;
  WITH batch AS MATERIALIZED (
    SELECT c.next_index - 1 + row_number() OVER (ORDER BY j.xid, j.id) AS seq, j.*
    FROM (SELECT * FROM ledger_journal
          WHERE (xid, id) > (c.xid, c.posting) AND xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY xid, id LIMIT at_most) j
  ), leg AS (
    SELECT b.seq, b.id, u.account_id, u.amount
    FROM batch b, unnest(b.accounts, b.amounts) AS u(account_id, amount)
  ), entered AS (
    INSERT INTO ledger_entry AS e (account_id, seq, posting_id, amount_nano, balance_after_nano)
    SELECT l.account_id, l.seq, l.id, l.amount,
      p.credited_nano - p.debited_nano + sum(l.amount) OVER (PARTITION BY l.account_id ORDER BY l.seq)
    FROM leg l JOIN ledger_position p ON p.account_id = l.account_id
    RETURNING e.account_id, e.amount_nano
  ), added AS (
    SELECT account_id, count(*) AS n, coalesce(sum(amount_nano) FILTER (WHERE amount_nano > 0), 0)::bigint AS credited,
      coalesce(-sum(amount_nano) FILTER (WHERE amount_nano < 0), 0)::bigint AS debited
    FROM entered GROUP BY account_id
  ), positioned AS (
    UPDATE ledger_position p
    SET credited_nano = p.credited_nano + a.credited, debited_nano = p.debited_nano + a.debited
    FROM added a WHERE p.account_id = a.account_id RETURNING a.n
  ), lots AS (
    INSERT INTO ledger_lot (id, posting_id, account_id, amount_nano, due_at, held_at, held_until, hold_reason, held_by)
    SELECT gen_random_uuid(), b.id, a.id, u.amount, b.at + make_interval(secs => b.vest_after_s),
      h.asked_at, h.held_until, coalesce(h.hold_reason, ''), coalesce(h.held_by, '')
    FROM batch b CROSS JOIN unnest(b.accounts, b.amounts) AS u(account_id, amount)
    JOIN ledger_account a ON a.id = u.account_id
    LEFT JOIN ledger_heldahead h ON h.posting_id = b.id AND h.account = a.code
    WHERE b.vest_after_s IS NOT NULL AND u.amount > 0 AND a.code LIKE 'pending:%'
  )
  SELECT (SELECT count(*) FROM batch), (SELECT sum(cardinality(accounts)) FROM batch), (SELECT sum(n) FROM positioned),
    (SELECT xid FROM batch ORDER BY seq DESC LIMIT 1), (SELECT id FROM batch ORDER BY seq DESC LIMIT 1)
  INTO folded, legs, counted, last_xid, last_id;
  IF folded = 0 THEN
    RETURN 0;
  END IF;
  IF legs IS DISTINCT FROM counted THEN
    PERFORM ledger_refuse('OL014', 'the fold lost a leg', jsonb_build_object('legs', legs, 'counted', counted));
  END IF;
  UPDATE ledger_cursor SET next_index = next_index + folded, xid = last_xid, posting = last_id,
    moved_at = clock_timestamp() WHERE name = 'fold';
  RETURN folded;
END $$;

-- reverse:
DROP FUNCTION ledger_fold(int);
