-- The chart of accounts, as the database enforces it. The pattern repeats ledger/chart.py; a test compares the two.

CREATE FUNCTION ledger_refuse(state text, message text, detail jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = detail::text;
END $$;

CREATE FUNCTION ledger_is_account(code text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT code ~ ('^(world|testworld|platform:fees'
    '|(wallet|promotion|pending|test):[1-9][0-9]{0,17}'
    '|pool:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}:(calls|access|training):(data|curation)'
    '|(unattributed|bounty|withdrawals):[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$')
$$;

-- Only what is outside may pay before it was paid: the supply, and not one nano more.
CREATE FUNCTION ledger_base_of(code text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN code IN ('world', 'testworld') THEN 1000000000000000000 ELSE 0 END
$$;

-- Test money has accounts of its own. Their numbers are negative, so that the journal can tell without looking them up
-- whether a posting would mix the two (`ledger_legs_balance`).
CREATE FUNCTION ledger_is_test(code text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT starts_with(code, 'test')
$$;

ALTER TABLE ledger_account
  ADD CONSTRAINT ledger_account_is_in_chart CHECK (ledger_is_account(code)),
  ADD CONSTRAINT ledger_account_base CHECK (base_nano = ledger_base_of(code)),
  ADD CONSTRAINT ledger_test_accounts_are_apart CHECK (ledger_is_test(code) = (id < 0));

-- Open the accounts that do not exist. Sorted, so that two sessions opening the same ones wait, not deadlock.
CREATE FUNCTION ledger_open(codes text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  typo text;
BEGIN
  SELECT code INTO typo FROM unnest(codes) code WHERE code IS NULL OR NOT ledger_is_account(code) LIMIT 1;
  IF FOUND THEN
    PERFORM ledger_refuse('OL004', 'no such account in the chart', jsonb_build_object('account', typo));
  END IF;
  WITH opened AS (
    INSERT INTO ledger_account (id, code, base_nano)
    SELECT nextval(pg_get_serial_sequence('ledger_account', 'id')) * CASE WHEN ledger_is_test(code) THEN -1 ELSE 1 END,
      code, ledger_base_of(code)
    FROM (SELECT DISTINCT unnest(codes) AS code) c ORDER BY code
    ON CONFLICT (code) DO NOTHING RETURNING id
  ), positioned AS (
    INSERT INTO ledger_position (account_id) SELECT id FROM opened
  )
  INSERT INTO ledger_spend (account_id) SELECT id FROM opened;
END $$;

-- reverse:
ALTER TABLE ledger_account DROP CONSTRAINT ledger_test_accounts_are_apart, DROP CONSTRAINT ledger_account_base,
  DROP CONSTRAINT ledger_account_is_in_chart;
DROP FUNCTION ledger_open(text[]);
DROP FUNCTION ledger_is_test(text);
DROP FUNCTION ledger_base_of(text);
DROP FUNCTION ledger_is_account(text);
DROP FUNCTION ledger_refuse(text, text, jsonb);
