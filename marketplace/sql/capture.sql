-- The paid path's writes. What must be true together is one statement: the call, its charge, its content, its outbox row.

-- The calls of a batch that have an Idempotency-Key answer it. Called by capture_calls only.
CREATE FUNCTION capture_answers_keys(calls jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  lost uuid;
BEGIN
  -- A key that another process took over (we were thought dead) is charged there, not here. Locked before it is looked
  -- at: a take-over that commits after the look would charge the call twice.
  PERFORM FROM marketplace_idempotency i JOIN jsonb_array_elements(calls) x
    ON i.owner_id = (x->>'buyer_id')::bigint AND i.key = x->>'idempotency_key'
  ORDER BY i.owner_id, i.key FOR UPDATE OF i;
  SELECT (x->>'id')::uuid INTO lost FROM jsonb_array_elements(calls) x
  WHERE x ? 'idempotency_key' AND x->>'status' IN ('succeeded', 'left', 'abstained')
    AND NOT EXISTS (SELECT FROM marketplace_idempotency i
                    WHERE i.owner_id = (x->>'buyer_id')::bigint AND i.key = x->>'idempotency_key'
                      AND i.call_id = (x->>'id')::uuid)
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'GW001', MESSAGE = 'another process has taken this idempotency key',
      DETAIL = jsonb_build_object('call', lost)::text;
  END IF;
  -- What was charged answers its key for good; only what cost nothing frees it.
  UPDATE marketplace_idempotency i SET status = 'done'
  FROM jsonb_array_elements(calls) x
  WHERE i.owner_id = (x->>'buyer_id')::bigint AND i.key = x->>'idempotency_key'
    AND i.call_id = (x->>'id')::uuid AND x->>'status' IN ('succeeded', 'left', 'abstained');
  DELETE FROM marketplace_idempotency i USING jsonb_array_elements(calls) x
  WHERE i.owner_id = (x->>'buyer_id')::bigint AND i.key = x->>'idempotency_key'
    AND i.call_id = (x->>'id')::uuid AND i.status = 'running' AND x->>'status' = 'failed';
END $$;

-- Of a batch's list, what is of these calls.
CREATE FUNCTION capture_only(list jsonb, call_key text, of_calls uuid[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
  SELECT coalesce(jsonb_agg(x), '[]') FROM jsonb_array_elements(list) x WHERE (x->>call_key)::uuid = ANY (of_calls)
$$;

-- Store a batch of finished calls: {"calls": [columns, and where there is one "free_call", "cap_id", "idempotency_key"],
-- "draws": a batch for ledger_draw, "posts": one for ledger_post, "contents": [], "outbox": []}, by table, so that each is read
-- once; see marketplace/gateway/capture.py. Repeating a call changes nothing. All or none: the caller then sends the calls
-- of a refused batch one by one. Returns the ids that were new.
CREATE FUNCTION capture_calls(batch jsonb) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  calls jsonb := batch->'calls';
  fresh uuid[];
  lost uuid;
BEGIN
  -- Before anything is locked: who changes the caps of one of these keys has done so, or waits.
  PERFORM pg_advisory_xact_lock_shared(20, k.lock) FROM (
    SELECT DISTINCT hashtext(x->>'key_id') & 63 AS lock FROM jsonb_array_elements(calls) x ORDER BY 1) k;
  WITH said AS (
    SELECT r.*, r.free_call IS TRUE AND r.status IN ('succeeded', 'left', 'abstained') AS free
    FROM jsonb_to_recordset(calls) AS r(id uuid, buyer_id bigint, key_id uuid, model_id uuid, version_id uuid,
      price_list_id uuid, split_rule_id uuid, endpoint text, status text, error_code text, streamed boolean,
      free_call boolean, is_test boolean, prompt_tokens int, answer_tokens int, cost_nano bigint, data_nano bigint,
      curation_nano bigint, developer_nano bigint, platform_nano bigint, owner_nano bigint, started_at timestamptz)
  ), booked AS (
    INSERT INTO marketplace_call AS c (id, buyer_id, key_id, model_id, version_id, price_list_id, split_rule_id,
      endpoint, status, error_code, streamed, free, prompt_tokens, answer_tokens, cost_nano, data_nano, curation_nano,
      developer_nano, platform_nano, owner_nano, started_at, finished_at)
    SELECT r.id, r.buyer_id, r.key_id, r.model_id, r.version_id, r.price_list_id, r.split_rule_id, r.endpoint, r.status,
      r.error_code, r.streamed, r.free, r.prompt_tokens, r.answer_tokens, r.cost_nano, r.data_nano, r.curation_nano,
      r.developer_nano, r.platform_nano, r.owner_nano, r.started_at, clock_timestamp()
    FROM said r WHERE r.is_test IS NOT TRUE
    ORDER BY r.id
    ON CONFLICT (id) DO NOTHING
    RETURNING c.id
  ), tested AS (
    INSERT INTO marketplace_testcall AS c (id, buyer_id, key_id, model_id, version_id, price_list_id, split_rule_id,
      endpoint, status, error_code, streamed, prompt_tokens, answer_tokens, cost_nano, data_nano, curation_nano,
      developer_nano, platform_nano, owner_nano, started_at, finished_at)
    SELECT r.id, r.buyer_id, r.key_id, r.model_id, r.version_id, r.price_list_id, r.split_rule_id, r.endpoint, r.status,
      r.error_code, r.streamed, r.prompt_tokens, r.answer_tokens, r.cost_nano, r.data_nano, r.curation_nano,
      r.developer_nano, r.platform_nano, r.owner_nano, r.started_at, clock_timestamp()
    FROM said r WHERE r.is_test
    ORDER BY r.id
    ON CONFLICT (id) DO NOTHING
    RETURNING c.id
  )
  SELECT coalesce(array_agg(id), '{}') INTO fresh FROM (SELECT id FROM booked UNION ALL SELECT id FROM tested) f;

  IF cardinality(fresh) < jsonb_array_length(calls) THEN  -- what was stored before is done
    batch := jsonb_build_object(
      'calls', capture_only(calls, 'id', fresh),
      'draws', batch->'draws' || jsonb_build_object('postings', capture_only(batch->'draws'->'postings', 'id', fresh)),
      'posts', batch->'posts' || jsonb_build_object('postings', capture_only(batch->'posts'->'postings', 'id', fresh)),
      'contents', capture_only(batch->'contents', 'call_id', fresh),
      'outbox', capture_only(batch->'outbox', 'call_id', fresh));
    calls := batch->'calls';
  END IF;

  -- A call that took a free number uses it, or gives it back. If the number was given to another call (we were thought
  -- dead) this one is not stored: the update waits for whoever takes it over, and then finds it gone.
  IF calls @? '$[*].free_call' THEN
    UPDATE marketplace_freecall f SET is_used = true FROM marketplace_call c
    WHERE c.id = f.call_id AND c.id = ANY (fresh) AND c.free;
    SELECT c.id INTO lost FROM marketplace_call c
    WHERE c.id = ANY (fresh) AND c.free
      AND NOT EXISTS (SELECT FROM marketplace_freecall f WHERE f.call_id = c.id AND f.is_used)
    LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'GW002', MESSAGE = 'another call was given this free one',
        DETAIL = jsonb_build_object('call', lost)::text;
    END IF;
    DELETE FROM marketplace_freecall f WHERE f.call_id = ANY (fresh) AND NOT f.is_used;
  END IF;

  IF calls @? '$[*].cap_id' THEN
    PERFORM gateway_count_spending(calls);
  END IF;
  PERFORM gateway_count_unleased(calls);

  -- Money: a call is charged in the statement that inserts it, from its lease, or by its payer if the lease is gone.
  IF batch->'draws'->'postings' <> '[]' THEN
    PERFORM ledger_draw(batch->'draws');
  END IF;
  IF batch->'posts'->'postings' <> '[]' THEN
    PERFORM ledger_post(batch->'posts');
  END IF;

  INSERT INTO marketplace_callcontent (call_id, sealed, sealed_key, expires_at)
  SELECT x.call_id, decode(x.sealed, 'base64'), decode(x.sealed_key, 'base64'),
    clock_timestamp() + make_interval(secs => x.kept_s)
  FROM jsonb_to_recordset(batch->'contents') AS x(call_id uuid, sealed text, sealed_key text, kept_s int)
  ON CONFLICT (call_id) DO NOTHING;

  IF calls @? '$[*].idempotency_key' THEN
    PERFORM capture_answers_keys(calls);
  END IF;
  IF batch->'outbox' <> '[]' THEN
    PERFORM ledger_enqueue(batch->'outbox');
  END IF;

  -- Once a minute is enough to tell which keys are used.
  UPDATE marketplace_apikey k SET last_used_at = clock_timestamp()
  WHERE k.id IN (SELECT (x->>'key_id')::uuid FROM jsonb_array_elements(calls) x)
    AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute');
  RETURN QUERY SELECT unnest(fresh);
END $$;

-- Whether a gateway process lives: it holds an advisory lock on its name, which Postgres drops when it dies.
CREATE FUNCTION gateway_lives(process text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT EXISTS (SELECT FROM pg_locks l
                 WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                   AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(process, 0))
$$;

-- Take an Idempotency-Key for a call, before any work. Returns 'mine', 'running', 'done' (with the call that answers)
-- or 'mismatch'. A key whose process is dead, or that is older than `kept_s`, is free.
CREATE FUNCTION gateway_take_key(of_owner bigint, of_key text, body bytea, new_call uuid, by_process text, kept_s int)
RETURNS TABLE (outcome text, answered_by uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  found_row marketplace_idempotency;
BEGIN
  INSERT INTO marketplace_idempotency AS i (owner_id, key, body_sha256, call_id, status, process, created_at)
  VALUES (of_owner, of_key, body, new_call, 'running', by_process, clock_timestamp())
  ON CONFLICT (owner_id, key) DO UPDATE
    SET body_sha256 = excluded.body_sha256, call_id = excluded.call_id, status = 'running',
      process = excluded.process, created_at = excluded.created_at
    WHERE i.created_at < clock_timestamp() - make_interval(secs => kept_s)
      OR (i.status = 'running' AND NOT gateway_lives(i.process))
  RETURNING i.* INTO found_row;
  IF FOUND THEN
    RETURN QUERY SELECT 'mine', new_call;
    RETURN;
  END IF;
  SELECT * INTO found_row FROM marketplace_idempotency i WHERE i.owner_id = of_owner AND i.key = of_key;
  IF NOT FOUND THEN  -- it was freed this moment
    RETURN QUERY SELECT 'running', new_call;
  ELSIF found_row.call_id = new_call THEN  -- our own request, repeated after a lost connection
    RETURN QUERY SELECT 'mine', new_call;
  ELSIF found_row.body_sha256 <> body THEN
    RETURN QUERY SELECT 'mismatch', found_row.call_id;
  ELSE
    RETURN QUERY SELECT found_row.status::text, found_row.call_id;
  END IF;
END $$;

-- Give a key back: the call was refused, or failed.
CREATE FUNCTION gateway_free_key(of_owner bigint, of_key text, of_call uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  DELETE FROM marketplace_idempotency i
  WHERE i.owner_id = of_owner AND i.key = of_key AND i.call_id = of_call AND i.status = 'running'
$$;

-- Take one of the free calls that a buyer has of a model today, for a call that has not run yet. Returns whether there
-- was one. What a dead process took, or what was abandoned long ago, is given again. Repeating it changes nothing.
CREATE FUNCTION gateway_take_free_call(of_buyer bigint, of_model uuid, at_most int, new_call uuid, by_process text,
                                       abandoned_s int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
  next_number int;
BEGIN
  IF EXISTS (SELECT FROM marketplace_freecall f WHERE f.call_id = new_call) THEN
    RETURN true;  -- our own request, repeated after a lost connection
  END IF;
  LOOP
    SELECT n INTO next_number FROM generate_series(1, at_most) n
    WHERE n NOT IN (SELECT f.number FROM marketplace_freecall f
                    WHERE f.buyer_id = of_buyer AND f.model_id = of_model AND f.day = today)
    ORDER BY n LIMIT 1;
    EXIT WHEN NOT FOUND;
    INSERT INTO marketplace_freecall (call_id, buyer_id, model_id, day, number, is_used, process, taken_at)
    VALUES (new_call, of_buyer, of_model, today, next_number, false, by_process, clock_timestamp())
    ON CONFLICT (buyer_id, model_id, day, number) DO NOTHING;
    IF FOUND THEN
      RETURN true;
    END IF;  -- another process has just taken this number: look again
  END LOOP;
  UPDATE marketplace_freecall f SET call_id = new_call, process = by_process, taken_at = clock_timestamp()
  WHERE f.call_id = (SELECT o.call_id FROM marketplace_freecall o
                     WHERE o.buyer_id = of_buyer AND o.model_id = of_model AND o.day = today AND o.number <= at_most
                       AND NOT o.is_used AND (o.taken_at < clock_timestamp() - make_interval(secs => abandoned_s)
                                              OR NOT gateway_lives(o.process))
                     ORDER BY o.number LIMIT 1 FOR UPDATE SKIP LOCKED);
  RETURN FOUND;
END $$;

REVOKE ALL ON FUNCTION capture_calls(jsonb), capture_answers_keys(jsonb), capture_only(jsonb, text, uuid[]), gateway_lives(text), gateway_free_key(bigint, text, uuid),
  gateway_take_free_call(bigint, uuid, int, uuid, text, int),
  gateway_take_key(bigint, text, bytea, uuid, text, int) FROM PUBLIC;

-- reverse:
DROP FUNCTION gateway_take_free_call(bigint, uuid, int, uuid, text, int);
DROP FUNCTION gateway_free_key(bigint, text, uuid);
DROP FUNCTION gateway_take_key(bigint, text, bytea, uuid, text, int);
DROP FUNCTION gateway_lives(text);
DROP FUNCTION capture_calls(jsonb);
DROP FUNCTION capture_only(jsonb, text, uuid[]);
DROP FUNCTION capture_answers_keys(jsonb);
