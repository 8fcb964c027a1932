-- Facts about rows that need a function, and how the tables lie on disk.

-- PostgreSQL reads the text of each CHECK again for each INSERT, so there are two, and what is long stands in functions.

-- A posting: one payer first, at least one receiver, no account twice, a sum of zero, and test money (accounts of negative
-- numbers) never with the other. A CHECK, so that not even the owner of the table can insert an unbalanced row.
CREATE FUNCTION ledger_legs_balance(accounts bigint[], amounts bigint[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF array_ndims(accounts) IS DISTINCT FROM 1 OR array_ndims(amounts) IS DISTINCT FROM 1
     OR cardinality(accounts) < 2 OR cardinality(accounts) <> cardinality(amounts)
     OR array_position(accounts, NULL) IS NOT NULL OR array_position(amounts, NULL) IS NOT NULL
     OR array_lower(accounts, 1) <> 1 OR array_lower(amounts, 1) <> 1 OR amounts[1] >= 0 OR 0 >= ANY (amounts[2:])
     OR (0 < ANY (accounts) AND 0 > ANY (accounts)) THEN
    RETURN false;
  END IF;
  IF cardinality(accounts) <= 6 THEN  -- a charge: its few legs are looked at faster than a query starts
    RETURN amounts[1] + amounts[2] + coalesce(amounts[3], 0) + coalesce(amounts[4], 0) + coalesce(amounts[5], 0)
        + coalesce(amounts[6], 0) = 0
      AND accounts[1] <> ALL (accounts[2:]) AND accounts[2] <> ALL (accounts[3:]) AND accounts[3] <> ALL (accounts[4:])
      AND accounts[4] <> ALL (accounts[5:]) AND accounts[5] <> ALL (accounts[6:]);
  END IF;
  RETURN (SELECT sum(amount::numeric) = 0 FROM unnest(amounts) amount)
    AND (SELECT count(DISTINCT account) = cardinality(accounts) FROM unnest(accounts) account);
END $$;

-- And it says why: a known kind, a reference, and a time to vest that is not in the past.
CREATE FUNCTION ledger_posting_says_why(kind text, reference text, vest_after_s int) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN reference <> '' AND coalesce(vest_after_s, 0) >= 0 AND kind IN (
    'deposit', 'withdrawal_in_run', 'withdrawal_confirmed', 'withdrawal_returned', 'call_charged', 'access_charged',
    'training_charged', 'settlement', 'vesting', 'refund', 'adjustment', 'unattributed_released', 'promotion_funded',
    'promotion_returned', 'wallet_funded', 'test_granted', 'test_charged');
END $$;

ALTER TABLE ledger_journal
  ADD CONSTRAINT ledger_posting_balances CHECK (ledger_legs_balance(accounts, amounts)),
  ADD CONSTRAINT ledger_posting_says_why CHECK (ledger_posting_says_why(kind, reference, vest_after_s));

-- What a posting is for, in 16 bytes: a kind has a reference once. A digest, because the texts would take four times the
-- room. In front stands the first half of the UUIDv7 that the reference names, which is its time, so that what happens
-- together lies together: an index that grows at its end stays dense, and the pages it writes to stay in memory.
-- (One expression of cheap functions: it is computed twice for each posting, and a pattern alone takes as long as all of it.)
CREATE FUNCTION ledger_reference_key(kind text, reference text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN CASE WHEN reference LIKE '%:________-____-7%'
                AND pg_input_is_valid(substr(reference, strpos(reference, ':') + 1, 36), 'uuid')
    THEN (substr(reference, strpos(reference, ':') + 1, 18) || substr(md5(kind || ' ' || reference), 17))::uuid
    ELSE md5(kind || ' ' || reference)::uuid END;
END $$;
CREATE UNIQUE INDEX ledger_reference_once ON ledger_journal (ledger_reference_key(kind, reference));

ALTER TABLE ledger_opening ADD CONSTRAINT ledger_secret_is_32_bytes CHECK (octet_length(secret) = 32);
ALTER TABLE ledger_leaf ADD CONSTRAINT ledger_leaf_hash_is_sha256 CHECK (octet_length(hash) = 32);
ALTER TABLE ledger_node ADD CONSTRAINT ledger_node_hash_is_sha256 CHECK (octet_length(hash) = 32);

-- Room on each page for the next versions of a row, so that updates stay on it and touch no index.
ALTER TABLE ledger_spend SET (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger_position SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE ledger_hold SET (fillfactor = 60);

-- Their keys only grow: no room is left on a page for one between two others.
ALTER INDEX ledger_entry_pkey SET (fillfactor = 100);
ALTER INDEX ledger_leaf_pkey SET (fillfactor = 100);

INSERT INTO ledger_cursor (name, xid, posting)
VALUES ('fold', '0', '00000000-0000-0000-0000-000000000000'), ('log', '0', '00000000-0000-0000-0000-000000000000');

-- reverse:
DELETE FROM ledger_cursor;
ALTER TABLE ledger_node DROP CONSTRAINT ledger_node_hash_is_sha256;
ALTER TABLE ledger_leaf DROP CONSTRAINT ledger_leaf_hash_is_sha256;
ALTER TABLE ledger_opening DROP CONSTRAINT ledger_secret_is_32_bytes;
ALTER TABLE ledger_journal DROP CONSTRAINT ledger_posting_says_why, DROP CONSTRAINT ledger_posting_balances;
DROP INDEX ledger_reference_once;
DROP FUNCTION ledger_reference_key(text, text);
DROP FUNCTION ledger_posting_says_why(text, text, int);
DROP FUNCTION ledger_legs_balance(bigint[], bigint[]);
