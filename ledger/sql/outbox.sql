-- The outbox: work that must follow a commit, rung until its consumer says it is done.

-- Public. Returns how many rows were new; (topic, reference) is taken for ever.
CREATE FUNCTION ledger_enqueue(items jsonb) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  queued int;
BEGIN
  INSERT INTO ledger_outbox (topic, reference, payload)
  SELECT i->>'topic', i->>'reference', i->'payload' FROM jsonb_array_elements(items) i
  ON CONFLICT (topic, reference) DO NOTHING;
  GET DIAGNOSTICS queued = ROW_COUNT;
  RETURN queued;
END $$;

-- Public, for the relay: take what is due and set the next time. The bell is rung after this commits: a relay that dies
-- in between rings it again, and an open transaction never waits for a broker.
CREATE FUNCTION ledger_ring(at_most int) RETURNS TABLE (topic text, reference text)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE ledger_outbox o SET rung = o.rung + 1, due_at = clock_timestamp() + make_interval(secs =>
    (ARRAY[5, 30, 120, 600, 1800])[least(o.rung + 1, 5)])
  FROM (SELECT id FROM ledger_outbox WHERE done_at IS NULL AND due_at <= clock_timestamp()
        ORDER BY due_at LIMIT at_most FOR UPDATE SKIP LOCKED) due
  WHERE o.id = due.id
  RETURNING o.topic::text, o.reference::text
$$;

-- Public. Called by the consumer in the transaction of its effect. What it needed is forgotten: a payload may hold the
-- sealed content of a call, which must end with its key. False: unknown, or done before. The test of done_at is written
-- so that the index of what is due cannot serve: the planner thinks it nearly empty, and in a burst it holds every row.
CREATE FUNCTION ledger_outbox_done(of_topic text, of_reference text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  UPDATE ledger_outbox SET done_at = clock_timestamp(), payload = '{}'
  WHERE topic = of_topic AND reference = of_reference AND coalesce(done_at, 'infinity') = 'infinity';
  RETURN FOUND;
END $$;

-- Public. Count a failure; the row stays due by its back-off. Returns the failures so far, 0 if unknown or done.
CREATE FUNCTION ledger_outbox_failed(of_topic text, of_reference text, reason text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  counted int;
BEGIN
  UPDATE ledger_outbox o SET failures = o.failures + 1, last_failure = left(reason, 1000)
  WHERE o.topic = of_topic AND o.reference = of_reference AND coalesce(o.done_at, 'infinity') = 'infinity'
  RETURNING o.failures INTO counted;
  RETURN coalesce(counted, 0);
END $$;

-- reverse:
DROP FUNCTION ledger_outbox_failed(text, text, text);
DROP FUNCTION ledger_outbox_done(text, text);
DROP FUNCTION ledger_ring(int);
DROP FUNCTION ledger_enqueue(jsonb);
