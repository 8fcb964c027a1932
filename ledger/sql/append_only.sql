-- Append-only. The application's role lacks the privilege; everyone else, the owner included, meets these triggers.

CREATE FUNCTION ledger_forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'OL012', MESSAGE = format('%s on %s is forbidden', TG_OP, TG_TABLE_NAME),
    DETAIL = jsonb_build_object('table', TG_TABLE_NAME)::text;
END $$;

-- A secret is needed until its leaf exists; afterwards it may be deleted, never changed.
CREATE FUNCTION ledger_forbid_early_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM ledger_leaf l WHERE l.entry_id = OLD.entry_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'OL012', MESSAGE = 'an opening is needed until its leaf exists',
      DETAIL = jsonb_build_object('table', TG_TABLE_NAME)::text;
  END IF;
  RETURN OLD;
END $$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['account', 'journal', 'entry', 'fact', 'leaf', 'node', 'checkpoint', 'cosignature'] LOOP
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION ledger_forbid()',
                   'ledger_' || name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['spend', 'position', 'hold', 'lot', 'cursor'] LOOP
    EXECUTE format('CREATE TRIGGER is_kept BEFORE DELETE ON %I FOR EACH ROW EXECUTE FUNCTION ledger_forbid()',
                   'ledger_' || name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['account', 'journal', 'entry', 'fact', 'leaf', 'node', 'checkpoint', 'cosignature', 'spend',
                              'position', 'hold', 'lot', 'cursor', 'opening'] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION ledger_forbid()', 'ledger_' || name);
  END LOOP;
END $$;
CREATE TRIGGER no_change BEFORE UPDATE ON ledger_opening FOR EACH ROW EXECUTE FUNCTION ledger_forbid();
CREATE TRIGGER late_erasure BEFORE DELETE ON ledger_opening FOR EACH ROW EXECUTE FUNCTION ledger_forbid_early_erasure();

-- Nobody may call the functions until `manage.py setup` grants the public ones.
DO $$
DECLARE
  signature regprocedure;
BEGIN
  FOR signature IN SELECT p.oid::regprocedure FROM pg_proc p
                   WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'ledger_') LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
  END LOOP;
END $$;

-- reverse:
DO $$
DECLARE
  t record;
BEGIN
  FOR t IN SELECT tgname, tgrelid::regclass AS on_table FROM pg_trigger
           WHERE tgfoid IN ('ledger_forbid'::regproc, 'ledger_forbid_early_erasure'::regproc) LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.on_table);
  END LOOP;
END $$;
DROP FUNCTION ledger_forbid_early_erasure();
DROP FUNCTION ledger_forbid();
