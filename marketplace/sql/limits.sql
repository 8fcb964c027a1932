-- What a key may use, counted for all gateways together. A process leases a part of a limit and gives it to calls from
-- memory, as it does with money: the counter of the limit is locked once for many calls. Locks are taken in this order:
-- leases, then counters by kind.

-- The limits of a key for one use ('spend', 'at_once'), and the period that each of them counts on a day.
CREATE FUNCTION gateway_limits_of(of_key uuid, of_use text, on_day date)
RETURNS TABLE (kind text, starts_on date, most bigint)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
  SELECT v.kind, v.starts_on, v.most FROM marketplace_apikey k, LATERAL (VALUES
    ('spend', 'day', on_day, k.spend_cap_day_nano),
    ('spend', 'month', date_trunc('month', on_day)::date, k.spend_cap_month_nano),
    ('spend', 'total', '1970-01-01', k.spend_cap_nano),
    ('at_once', 'at_once', '1970-01-01', k.calls_at_once)) AS v(use, kind, starts_on, most)
  WHERE k.id = of_key AND v.use = of_use AND v.most IS NOT NULL
$$;

-- Make the counters of these limits where there are none, and lock them. A limit may have changed since: what is used and
-- leased beyond a lower one stands, and leaves no room.
CREATE FUNCTION gateway_lock_limits(of_key uuid, of_use text, on_day date) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO marketplace_keyuse (key_id, kind, starts_on, most, used, leased)
  SELECT of_key, c.kind, c.starts_on, c.most, 0, 0 FROM gateway_limits_of(of_key, of_use, on_day) c
  WHERE NOT EXISTS (SELECT FROM marketplace_keyuse u
                    WHERE u.key_id = of_key AND u.kind = c.kind AND u.starts_on = c.starts_on)
  ORDER BY c.kind
  ON CONFLICT (key_id, kind, starts_on) DO NOTHING;
  PERFORM FROM marketplace_keyuse u JOIN gateway_limits_of(of_key, of_use, on_day) c USING (kind, starts_on)
  WHERE u.key_id = of_key ORDER BY u.kind FOR UPDATE OF u;
  UPDATE marketplace_keyuse u SET most = greatest(c.most, u.used + u.leased)
  FROM gateway_limits_of(of_key, of_use, on_day) c
  WHERE u.key_id = of_key AND u.kind = c.kind AND u.starts_on = c.starts_on
    AND u.most <> greatest(c.most, u.used + u.leased);
END $$;

-- Count what calls used or gateways leased. The counters' constraint refuses what is too much.
CREATE FUNCTION gateway_count_use(of_key uuid, of_use text, on_day date, more_used bigint, more_leased bigint) RETURNS void
LANGUAGE sql SET search_path = public, pg_temp AS $$
  UPDATE marketplace_keyuse u SET used = u.used + more_used, leased = u.leased + more_leased
  FROM gateway_limits_of(of_key, of_use, on_day) c
  WHERE u.key_id = of_key AND u.kind = c.kind AND u.starts_on = c.starts_on
$$;

-- End a lease: what it did not use may be leased again. Ending it twice changes nothing.
CREATE FUNCTION gateway_end_key_lease(of_lease uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  l marketplace_keylease;
BEGIN
  DELETE FROM marketplace_keylease x WHERE x.id = of_lease RETURNING x.* INTO l;
  IF FOUND THEN
    PERFORM gateway_lock_limits(l.key_id, l.use, l.day);
    PERFORM gateway_count_use(l.key_id, l.use, l.day, l.used, -l.granted);
  END IF;
END $$;

-- Lease from a key's limits what a call lacks, and up to `extra` calls' worth (`each`) more: at most a quarter of what is
-- left, so that no process has what another one's callers are refused. `known` is what the lease had been granted as
-- far as its process knows; repeating the request grants nothing more.
-- Returns what is granted now (null: the lease has ended, take another), for how long calls of it count for its day, and
-- which limit is short if nothing was added.
CREATE FUNCTION gateway_lease_key(of_lease uuid, of_key uuid, of_use text, by_process text, known bigint, lacking bigint,
  each bigint, extra int, lives_s int, OUT granted bigint, OUT day_left_s double precision, OUT short_of text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  today date;
  ended uuid;
  l marketplace_keylease;
  room bigint;
BEGIN
  FOR ended IN SELECT x.id FROM marketplace_keylease x
    WHERE x.key_id = of_key AND x.use = of_use AND x.expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED
  LOOP
    PERFORM gateway_end_key_lease(ended);
  END LOOP;
  SELECT * INTO l FROM marketplace_keylease x WHERE x.id = of_lease FOR UPDATE;
  today := (clock_timestamp() AT TIME ZONE 'UTC')::date;
  IF (known > 0 AND l.id IS NULL) OR (of_use = 'spend' AND l.day <> today) THEN
    RETURN;
  END IF;
  granted := coalesce(l.granted, 0);
  day_left_s := CASE of_use WHEN 'spend' THEN
    extract(epoch FROM (today + 1)::timestamp AT TIME ZONE 'UTC' - clock_timestamp()) ELSE 'infinity' END;
  IF granted > known THEN
    RETURN;
  END IF;
  PERFORM gateway_lock_limits(of_key, of_use, today);
  SELECT c.kind, u.most - u.used - u.leased INTO short_of, room
  FROM marketplace_keyuse u JOIN gateway_limits_of(of_key, of_use, today) c USING (kind, starts_on)
  WHERE u.key_id = of_key ORDER BY 2, 1 LIMIT 1;
  IF room < lacking THEN
    RETURN;
  END IF;
  short_of := NULL;
  lacking := lacking + each * least(extra, (room - lacking) / 4 / each);
  PERFORM gateway_count_use(of_key, of_use, today, 0, lacking);
  INSERT INTO marketplace_keylease AS x (id, key_id, use, process, day, granted, used, expires_at)
  VALUES (of_lease, of_key, of_use, by_process, today, lacking, 0, clock_timestamp() + make_interval(secs => lives_s))
  ON CONFLICT (id) DO UPDATE SET granted = x.granted + excluded.granted, expires_at = excluded.expires_at
  RETURNING x.granted INTO granted;
END $$;

-- Let leases live on. Returns those that have not ended.
CREATE FUNCTION gateway_keep_key_leases(leases uuid[], lives_s int) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  UPDATE marketplace_keylease x SET expires_at = clock_timestamp() + make_interval(secs => lives_s)
  WHERE x.id IN (SELECT i.id FROM marketplace_keylease i WHERE i.id = ANY (leases) ORDER BY i.id FOR UPDATE)
  RETURNING x.id
$$;

-- Whose processes have leases: the reaper looks which of them are dead.
CREATE FUNCTION gateway_key_lease_holders() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT DISTINCT x.process::text FROM marketplace_keylease x
$$;

-- End all leases of a process.
CREATE FUNCTION gateway_end_key_leases_of(of_process text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM gateway_end_key_lease(x.id)
  FROM (SELECT i.id FROM marketplace_keylease i WHERE i.process = of_process ORDER BY i.id) x;
END $$;

-- Count what new calls spend of their keys' caps, in the transaction of the charge: from their lease, or, if that has
-- ended (its process was thought dead), from the day's counters. Called by capture_calls only.
CREATE FUNCTION gateway_count_spending(calls jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  counted uuid[];
  late record;
  today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
  PERFORM FROM marketplace_keylease l
  WHERE l.id IN (SELECT (x->>'cap_id')::uuid FROM jsonb_array_elements(calls) x) ORDER BY l.id FOR UPDATE;
  WITH spent AS (  -- a call may stand in a batch twice
    SELECT n.lease_id, sum(n.nano)::bigint AS nano
    FROM (SELECT DISTINCT (x->>'id')::uuid AS call_id, (x->>'cap_id')::uuid AS lease_id,
            (x->>'cost_nano')::bigint AS nano
          FROM jsonb_array_elements(calls) x WHERE x ? 'cap_id') n
    GROUP BY 1
  ), drawn AS (
    UPDATE marketplace_keylease l SET used = l.used + s.nano FROM spent s WHERE l.id = s.lease_id RETURNING l.id
  )
  SELECT coalesce(array_agg(id), '{}') INTO counted FROM drawn;
  FOR late IN
    SELECT coalesce(k.limits_of_id, k.id) AS key_id, sum(c.cost_nano)::bigint AS nano
    FROM (SELECT id, key_id, cost_nano FROM marketplace_call
          UNION ALL SELECT id, key_id, cost_nano FROM marketplace_testcall) c JOIN marketplace_apikey k ON k.id = c.key_id
    WHERE c.id IN (SELECT (x->>'id')::uuid FROM jsonb_array_elements(calls) x
                   WHERE x ? 'cap_id' AND (x->>'cap_id')::uuid <> ALL (counted))
    GROUP BY 1 ORDER BY 1
  LOOP
    PERFORM gateway_lock_limits(late.key_id, 'spend', today);
    PERFORM gateway_count_use(late.key_id, 'spend', today, late.nano, 0);
  END LOOP;
EXCEPTION WHEN check_violation THEN
  RAISE EXCEPTION USING ERRCODE = 'GW003', MESSAGE = 'the key has reached its spend cap';
END $$;

-- Wait for the captures of a key's calls, and let none begin before this transaction ends: caps are changed between two.
-- Captures share a lock of every key that they store calls of; there are 64, so that no batch takes thousands.
CREATE FUNCTION gateway_stop_captures(of_key uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT pg_advisory_xact_lock(20, b.lock) FROM (
    SELECT DISTINCT hashtext(k.id::text) & 63 AS lock FROM marketplace_apikey k
    WHERE coalesce(k.limits_of_id, k.id) = of_key ORDER BY 1) b
$$;

-- Make the counters fit caps that are new or gone. A new one counts all that the key's calls have cost, and what is leased;
-- called between gateway_stop_captures and the commit. Of a call, its end says on which day it counts.
CREATE FUNCTION gateway_recount_key(of_key uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
  PERFORM FROM marketplace_keylease l WHERE l.key_id = of_key AND l.use = 'spend' ORDER BY l.id FOR UPDATE;
  PERFORM FROM marketplace_keyuse u WHERE u.key_id = of_key ORDER BY u.kind, u.starts_on FOR UPDATE;
  DELETE FROM marketplace_keyuse u
  WHERE u.key_id = of_key AND u.kind IN ('day', 'month', 'total')
    AND u.kind NOT IN (SELECT c.kind FROM gateway_limits_of(of_key, 'spend', today) c);
  INSERT INTO marketplace_keyuse (key_id, kind, starts_on, most, used, leased)
  SELECT of_key, p.kind, p.starts_on, sum(p.used) + sum(p.leased), sum(p.used), sum(p.leased)
  FROM (
    SELECT c.kind, CASE c.kind WHEN 'day' THEN s.day WHEN 'month' THEN date_trunc('month', s.day)::date
                   ELSE c.starts_on END AS starts_on, s.used, s.leased
    FROM gateway_limits_of(of_key, 'spend', today) c, (
      SELECT (x.finished_at AT TIME ZONE 'UTC')::date AS day, x.cost_nano AS used, 0 AS leased
      FROM (SELECT key_id, finished_at, cost_nano FROM marketplace_call WHERE NOT free
            UNION ALL SELECT key_id, finished_at, cost_nano FROM marketplace_testcall) x
      JOIN marketplace_apikey k ON k.id = x.key_id
      WHERE coalesce(k.limits_of_id, k.id) = of_key
      UNION ALL
      SELECT l.day, -l.used, l.granted FROM marketplace_keylease l WHERE l.key_id = of_key AND l.use = 'spend') s
    WHERE NOT EXISTS (SELECT FROM marketplace_keyuse u WHERE u.key_id = of_key AND u.kind = c.kind)) p
  GROUP BY p.kind, p.starts_on;
  PERFORM gateway_lock_limits(of_key, 'spend', today);
END $$;

-- Count the calls that began before their key had a cap, and so have no lease. They are over: the cap may be, too.
CREATE FUNCTION gateway_count_unleased(calls jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  late record;
  today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
BEGIN
  FOR late IN
    SELECT coalesce(k.limits_of_id, k.id) AS key_id, sum(c.cost_nano)::bigint AS nano
    FROM (SELECT DISTINCT r.* FROM jsonb_to_recordset(calls)  -- a call may stand in a batch twice
            AS r(id uuid, key_id uuid, cost_nano bigint, free_call boolean, cap_id uuid)
          WHERE r.cap_id IS NULL AND r.free_call IS NOT TRUE AND r.cost_nano > 0) c
    JOIN marketplace_apikey k ON k.id = c.key_id
    WHERE coalesce(k.spend_cap_nano, k.spend_cap_day_nano, k.spend_cap_month_nano) IS NOT NULL
    GROUP BY 1 ORDER BY 1
  LOOP
    PERFORM gateway_lock_limits(late.key_id, 'spend', today);
    UPDATE marketplace_keyuse u SET used = u.used + late.nano, most = greatest(u.most, u.used + u.leased + late.nano)
    FROM gateway_limits_of(late.key_id, 'spend', today) c
    WHERE u.key_id = late.key_id AND u.kind = c.kind AND u.starts_on = c.starts_on;
  END LOOP;
END $$;

-- Take requests or tokens from what a key has left of them this minute, `need` at least and `more` if there is plenty,
-- after giving back what was taken and not used. A call larger than the whole limit waits for a full minute's worth.
-- Returns what was taken (0: too little is left, for `wait_s`) and what is left. A lost row costs a minute's limit at
-- most, so nobody waits for the disk.
CREATE FUNCTION gateway_take_rate(of_key uuid, of_kind text, per_minute int, given_back double precision,
  need double precision, more double precision, OUT taken double precision, OUT remaining double precision,
  OUT wait_s double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  r marketplace_keyrate;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO r FROM marketplace_keyrate x WHERE x.key_id = of_key AND x.kind = of_kind FOR UPDATE;
  IF NOT FOUND THEN
    INSERT INTO marketplace_keyrate (key_id, kind, "left", at) VALUES (of_key, of_kind, per_minute, clock_timestamp())
    ON CONFLICT (key_id, kind) DO NOTHING;
    SELECT * INTO r FROM marketplace_keyrate x WHERE x.key_id = of_key AND x.kind = of_kind FOR UPDATE;
  END IF;
  remaining := least(per_minute, r.left + given_back
    + greatest(0, extract(epoch FROM clock_timestamp() - r.at)) * per_minute / 60.0);
  taken := 0;
  wait_s := greatest(0, (least(need, per_minute) - remaining) * 60.0 / per_minute);
  IF wait_s = 0 THEN
    taken := greatest(need, least(more, remaining / 4));
    remaining := remaining - taken;
  END IF;
  UPDATE marketplace_keyrate x SET "left" = remaining, at = clock_timestamp() WHERE x.id = r.id;
END $$;

REVOKE ALL ON FUNCTION gateway_limits_of(uuid, text, date), gateway_lock_limits(uuid, text, date),
  gateway_count_use(uuid, text, date, bigint, bigint), gateway_end_key_lease(uuid),
  gateway_lease_key(uuid, uuid, text, text, bigint, bigint, bigint, int, int), gateway_keep_key_leases(uuid[], int),
  gateway_key_lease_holders(), gateway_end_key_leases_of(text), gateway_count_spending(jsonb),
  gateway_stop_captures(uuid), gateway_recount_key(uuid), gateway_count_unleased(jsonb),
  gateway_take_rate(uuid, text, int, double precision, double precision, double precision) FROM PUBLIC;

-- Updates stay on their page.
ALTER TABLE marketplace_keyuse SET (fillfactor = 60);
ALTER TABLE marketplace_keylease SET (fillfactor = 60);
ALTER TABLE marketplace_keyrate SET (fillfactor = 60);

-- reverse:
DROP FUNCTION gateway_take_rate(uuid, text, int, double precision, double precision, double precision);
DROP FUNCTION gateway_count_unleased(jsonb);
DROP FUNCTION gateway_recount_key(uuid);
DROP FUNCTION gateway_stop_captures(uuid);
DROP FUNCTION gateway_count_spending(jsonb);
DROP FUNCTION gateway_end_key_leases_of(text);
DROP FUNCTION gateway_key_lease_holders();
DROP FUNCTION gateway_keep_key_leases(uuid[], int);
DROP FUNCTION gateway_lease_key(uuid, uuid, text, text, bigint, bigint, bigint, int, int);
DROP FUNCTION gateway_end_key_lease(uuid);
DROP FUNCTION gateway_count_use(uuid, text, date, bigint, bigint);
DROP FUNCTION gateway_lock_limits(uuid, text, date);
DROP FUNCTION gateway_limits_of(uuid, text, date);
