-- Facts about rows that need a function, and how the tables lie on disk.

-- Whether no number stands twice. For the few legs of a charge looking is cheaper than a query.
CREATE FUNCTION ledger_all_differ(numbers bigint[]) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  IF cardinality(numbers) > 8 THEN
    RETURN (SELECT count(DISTINCT n) = cardinality(numbers) FROM unnest(numbers) n);
  END IF;
  FOR place IN 2 .. cardinality(numbers) LOOP
    IF numbers[place] = ANY (numbers[:place - 1]) THEN RETURN false; END IF;
  END LOOP;
  RETURN true;
END $$;

-- A posting: one payer first, at least one receiver, no account twice, and a sum of zero. A CHECK, so that not even the
-- owner of the table can insert an unbalanced row.
CREATE FUNCTION ledger_legs_balance(accounts bigint[], amounts bigint[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  total numeric := 0;
  amount bigint;
BEGIN
  IF array_ndims(accounts) IS DISTINCT FROM 1 OR array_ndims(amounts) IS DISTINCT FROM 1
     OR cardinality(accounts) < 2 OR cardinality(accounts) <> cardinality(amounts)
     OR array_position(accounts, NULL) IS NOT NULL OR array_position(amounts, NULL) IS NOT NULL
     OR array_lower(accounts, 1) <> 1 OR array_lower(amounts, 1) <> 1 OR amounts[1] >= 0 THEN
    RETURN false;
  END IF;
  FOREACH amount IN ARRAY amounts[2:] LOOP
    IF amount <= 0 THEN RETURN false; END IF;
    total := total + amount;
  END LOOP;
  RETURN total = -amounts[1] AND ledger_all_differ(accounts);
END $$;

ALTER TABLE ledger_journal
  ADD CONSTRAINT ledger_posting_balances CHECK (ledger_legs_balance(accounts, amounts)),
  ADD CONSTRAINT ledger_kind_is_known CHECK (kind IN (
    'deposit', 'withdrawal_in_run', 'withdrawal_confirmed', 'withdrawal_returned', 'call_charged', 'access_charged',
    'training_charged', 'settlement', 'vesting', 'refund', 'adjustment', 'unattributed_released', 'promotion_funded',
    'promotion_returned')),
  ADD CONSTRAINT ledger_posting_has_reference CHECK (reference <> '');

ALTER TABLE ledger_opening ADD CONSTRAINT ledger_secret_is_32_bytes CHECK (octet_length(secret) = 32);
ALTER TABLE ledger_leaf ADD CONSTRAINT ledger_leaf_hash_is_sha256 CHECK (octet_length(hash) = 32);
ALTER TABLE ledger_node ADD CONSTRAINT ledger_node_hash_is_sha256 CHECK (octet_length(hash) = 32);

-- Room on each page for the next versions of a row, so that updates stay on it and touch no index.
ALTER TABLE ledger_spend SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger_position SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger_hold SET (fillfactor = 60);

INSERT INTO ledger_cursor (name, xid, posting)
VALUES ('fold', '0', '00000000-0000-0000-0000-000000000000'), ('log', '0', '00000000-0000-0000-0000-000000000000');

-- reverse:
DELETE FROM ledger_cursor;
ALTER TABLE ledger_node DROP CONSTRAINT ledger_node_hash_is_sha256;
ALTER TABLE ledger_leaf DROP CONSTRAINT ledger_leaf_hash_is_sha256;
ALTER TABLE ledger_opening DROP CONSTRAINT ledger_secret_is_32_bytes;
ALTER TABLE ledger_journal DROP CONSTRAINT ledger_posting_has_reference, DROP CONSTRAINT ledger_kind_is_known,
  DROP CONSTRAINT ledger_posting_balances;
DROP FUNCTION ledger_legs_balance(bigint[], bigint[]);
DROP FUNCTION ledger_all_differ(bigint[]);
