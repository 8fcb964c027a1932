-- The public log: facts in, leaves and heads out. Postings and facts share one order, (xid, id), and one cursor.

-- Public. Record facts, all or none. Returns the ids that were new.
CREATE FUNCTION ledger_record(facts jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  ids uuid[];
  reused uuid;
BEGIN
  WITH said AS (
    SELECT DISTINCT ON ((f->>'id')::uuid) (f->>'id')::uuid AS id, f->>'reference' AS reference, f->'entry' AS entry,
      ledger_payload(f->>'reference', f->'entry') AS payload
    FROM jsonb_array_elements(facts) WITH ORDINALITY t(f, n) ORDER BY (f->>'id')::uuid, n
  ), recorded AS (
    INSERT INTO ledger_fact (id, reference, payload) SELECT id, reference, payload FROM said ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
  ), opened AS (
    INSERT INTO ledger_opening (entry_id, secret, type, public, private, split)
    SELECT s.id, ledger_new_secret(), s.entry->>'type', s.entry->'public', s.entry->'private',
      nullif(s.entry->'split', 'null')
    FROM recorded r JOIN said s ON s.id = r.id
  )
  SELECT array_agg(id) INTO ids FROM recorded;
  IF coalesce(cardinality(ids), 0) <> jsonb_array_length(facts) THEN
    SELECT k.id INTO reused FROM jsonb_array_elements(facts) f JOIN ledger_fact k ON k.id = (f->>'id')::uuid
    WHERE k.payload <> ledger_payload(f->>'reference', f->'entry') LIMIT 1;
    IF FOUND THEN
      PERFORM ledger_refuse('OL002', 'this fact id was used for something else', jsonb_build_object('fact', reused));
    END IF;
  END IF;
  RETURN QUERY SELECT unnest(ids);
END $$;

-- The next postings and facts without a leaf, in their order. Only below the oldest running transaction (see ledger_fold).
CREATE FUNCTION ledger_unlogged(after_xid xid8, after_id uuid, at_most int)
RETURNS TABLE (xid xid8, id uuid, at timestamptz, kind text, reference text, accounts bigint[], amounts bigint[],
               is_plain boolean)
LANGUAGE sql STABLE AS $$
  SELECT * FROM (
    (SELECT j.xid, j.id, j.at, j.kind::text, j.reference::text, j.accounts, j.amounts, j.payload IS NULL
     FROM ledger_journal j
     WHERE (j.xid, j.id) > (after_xid, after_id) AND j.xid < pg_snapshot_xmin(pg_current_snapshot())
     ORDER BY j.xid, j.id LIMIT at_most)
    UNION ALL
    (SELECT f.xid, f.id, f.at, NULL, f.reference::text, NULL, NULL, false FROM ledger_fact f
     WHERE (f.xid, f.id) > (after_xid, after_id) AND f.xid < pg_snapshot_xmin(pg_current_snapshot())
     ORDER BY f.xid, f.id LIMIT at_most)) u
  ORDER BY 1, 2 LIMIT at_most
$$;

-- Public, for the sequencer: lock the log's cursor and read what comes next, with what each entry commits to.
CREATE FUNCTION ledger_next_entries(at_most int)
RETURNS TABLE (index bigint, id uuid, at timestamptz, reference text, secret bytea, type text, public jsonb, private jsonb,
               split jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  c ledger_cursor;
  seed bytea := ledger_new_secret();
BEGIN
  SELECT * INTO c FROM ledger_cursor WHERE name = 'log';
  IF NOT EXISTS (SELECT FROM ledger_unlogged(c.xid, c.posting, 1)) THEN
    RETURN;  -- an idle round takes no lock, so no transaction id
  END IF;
  SELECT * INTO c FROM ledger_cursor WHERE name = 'log' FOR UPDATE;
  -- A plain posting has nothing to keep but the secret its leaf needs now.
  INSERT INTO ledger_opening (entry_id, secret)
  SELECT u.id, sha256(seed || uuid_send(u.id)) FROM ledger_unlogged(c.xid, c.posting, at_most) u WHERE u.is_plain
  ON CONFLICT (entry_id) DO NOTHING;
  RETURN QUERY
  SELECT c.next_index - 1 + row_number() OVER (ORDER BY u.xid, u.id), u.id, u.at, u.reference, o.secret,
    coalesce(o.type, 'posting.made')::text,
    CASE WHEN o.type IS NULL THEN jsonb_build_object('kind', u.kind) ELSE coalesce(o.public, '{}') END,
    CASE WHEN o.type IS NULL THEN ledger_plain(u.reference, u.accounts, u.amounts) ELSE coalesce(o.private, '{}') END, o.split
  FROM ledger_unlogged(c.xid, c.posting, at_most) u JOIN ledger_opening o ON o.entry_id = u.id;
END $$;

-- What a plain posting commits to: its reference and moves, amounts as decimal strings.
CREATE FUNCTION ledger_plain(reference text, accounts bigint[], amounts bigint[]) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('posting', jsonb_build_object('reference', reference, 'moves',
    jsonb_agg(jsonb_build_object('source', s.code, 'target', t.code, 'amount', u.amount::text) ORDER BY u.n)))
  FROM unnest(accounts, amounts) WITH ORDINALITY AS u(account, amount, n)
  JOIN ledger_account t ON t.id = u.account JOIN ledger_account s ON s.id = accounts[1]
  WHERE u.n > 1
$$;

-- Eight bytes by which a leaf knows what its posting was for. (A fact has no kind.)
CREATE FUNCTION ledger_reference_digest(kind text, reference text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ('x' || left(md5(coalesce(kind, '') || ' ' || reference), 16))::bit(64)::bigint
$$;

-- Public, for the sequencer: store leaves and kept nodes, and move the cursor. The ids must be exactly those that come
-- next, so neither a second sequencer nor a mistaken one can skip, repeat or invent an entry.
CREATE FUNCTION ledger_append(first_index bigint, ids uuid[], types text[], bodies jsonb[], hashes bytea[],
                              node_levels int[], node_indexes bigint[], node_hashes bytea[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  c ledger_cursor;
  expected uuid[];
  digests bigint[];
  last_xid xid8;
BEGIN
  SELECT * INTO c FROM ledger_cursor WHERE name = 'log' FOR UPDATE;
  SELECT array_agg(u.id ORDER BY u.xid, u.id),
    array_agg(ledger_reference_digest(u.kind, u.reference) ORDER BY u.xid, u.id), max(u.xid)
  INTO expected, digests, last_xid FROM ledger_unlogged(c.xid, c.posting, cardinality(ids)) u;
  IF c.next_index <> first_index OR expected IS DISTINCT FROM ids THEN
    PERFORM ledger_refuse('OL014', 'these are not the next entries of the log', jsonb_build_object('index', first_index));
  END IF;
  INSERT INTO ledger_leaf (index, reference_digest, entry_id, type, body, hash)
  SELECT first_index + n - 1, digest, id, type, body, hash
  FROM unnest(digests, ids, types, bodies, hashes) WITH ORDINALITY AS t(digest, id, type, body, hash, n);
  INSERT INTO ledger_node (level, index, hash)
  SELECT level, index, hash FROM unnest(node_levels, node_indexes, node_hashes) AS t(level, index, hash);
  UPDATE ledger_cursor SET next_index = next_index + cardinality(ids), xid = last_xid, posting = ids[cardinality(ids)],
    moved_at = clock_timestamp() WHERE name = 'log';
  RETURN cardinality(ids);
END $$;

-- Public, for the sequencer: keep a signed head, before anybody is shown it.
CREATE FUNCTION ledger_sign(new_size bigint, new_root bytea, new_note text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM FROM ledger_cursor WHERE name = 'log' FOR UPDATE;
  IF new_size <= coalesce((SELECT max(size) FROM ledger_checkpoint), 0)
     OR new_size > (SELECT next_index FROM ledger_cursor WHERE name = 'log') THEN
    PERFORM ledger_refuse('OL014', 'a head is larger than the last and no larger than the log',
                          jsonb_build_object('size', new_size));
  END IF;
  INSERT INTO ledger_checkpoint (size, root, note) VALUES (new_size, new_root, new_note);
END $$;

-- Public, for the sequencer: keep a witness's line under a head.
CREATE FUNCTION ledger_cosign(of_size bigint, by_witness text, signature_line text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  INSERT INTO ledger_cosignature (size, witness, line) VALUES (of_size, by_witness, signature_line)
  ON CONFLICT (size, witness) DO NOTHING
$$;

-- Public. Forget what entries commit to; what stays public is hashes with salts nobody has. Only entries with a leaf.
CREATE FUNCTION ledger_erase(entries uuid[]) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  erased int;
BEGIN
  DELETE FROM ledger_opening o USING ledger_leaf l WHERE o.entry_id = ANY (entries) AND l.entry_id = o.entry_id;
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END $$;

-- reverse:
DROP FUNCTION ledger_erase(uuid[]);
DROP FUNCTION ledger_cosign(bigint, text, text);
DROP FUNCTION ledger_sign(bigint, bytea, text);
DROP FUNCTION ledger_append(bigint, uuid[], text[], jsonb[], bytea[], int[], bigint[], bytea[]);
DROP FUNCTION ledger_reference_digest(text, text);
DROP FUNCTION ledger_plain(text, bigint[], bigint[]);
DROP FUNCTION ledger_next_entries(int);
DROP FUNCTION ledger_unlogged(xid8, uuid, int);
DROP FUNCTION ledger_record(jsonb);
