-- The fold: credits of committed postings, in the one order (xid, id), into statements and positions.

-- Public, for the sequencer. Returns how many postings it folded.
-- Only what is below the oldest running transaction is read: a writer that took its id early and commits late is still
-- running then, so its posting is not skipped. Whoever runs this twice waits at the cursor.
-- Accounts and positions are looked up one by one, never joined: where a payout has just opened 100,000 accounts, the
-- planner still believes in a handful and goes through the whole batch for each of them.
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
    SELECT b.seq, b.id, u.account_id, u.amount,
      CASE row_number() OVER (PARTITION BY u.account_id ORDER BY b.seq)
        WHEN 1 THEN (SELECT p.credited_nano - p.debited_nano FROM ledger_position p WHERE p.account_id = u.account_id)
        ELSE 0 END AS before
    FROM batch b, unnest(b.accounts, b.amounts) AS u(account_id, amount)
  ), entered AS (
    INSERT INTO ledger_entry AS e (account_id, seq, posting_id, amount_nano, balance_after_nano)
    SELECT l.account_id, l.seq, l.id, l.amount,
      sum(l.before + l.amount) OVER (PARTITION BY l.account_id ORDER BY l.seq)
    FROM leg l
    RETURNING e.account_id, e.amount_nano
  ), added AS (
    SELECT account_id, count(*) AS n, coalesce(sum(amount_nano) FILTER (WHERE amount_nano > 0), 0)::bigint AS credited,
      coalesce(-sum(amount_nano) FILTER (WHERE amount_nano < 0), 0)::bigint AS debited
    FROM entered GROUP BY account_id
  ), positioned AS (
    INSERT INTO ledger_position AS p (account_id, credited_nano, debited_nano)
    SELECT account_id, credited, debited FROM added
    ON CONFLICT (account_id) DO UPDATE
    SET credited_nano = p.credited_nano + excluded.credited_nano, debited_nano = p.debited_nano + excluded.debited_nano
  ), lots AS (
    INSERT INTO ledger_lot (id, posting_id, account_id, amount_nano, due_at, held_at, held_until, hold_reason, held_by)
    SELECT gen_random_uuid(), l.id, l.account_id, l.amount, l.at + make_interval(secs => l.vest_after_s),
      h.asked_at, h.held_until, coalesce(h.hold_reason, ''), coalesce(h.held_by, '')
    FROM (
      SELECT b.id, b.at, b.vest_after_s, u.account_id, u.amount,
        (SELECT a.code FROM ledger_account a WHERE a.id = u.account_id) AS code
      FROM batch b CROSS JOIN unnest(b.accounts, b.amounts) AS u(account_id, amount)
      WHERE b.vest_after_s IS NOT NULL AND u.amount > 0
    ) l LEFT JOIN LATERAL (
      SELECT * FROM ledger_heldahead h WHERE h.posting_id = l.id AND h.account = l.code LIMIT 1
    ) h ON true
    WHERE l.code LIKE 'pending:%'
  )
  SELECT (SELECT count(*) FROM batch), (SELECT sum(cardinality(accounts)) FROM batch), (SELECT sum(n) FROM added),
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
