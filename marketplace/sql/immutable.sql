-- What was agreed or remembered stays as it was written: receipts name price lists and rules by their hashes. The
-- application's role lacks the privilege (marketplace/privileges.py); everyone else, a superuser included, meets these.

CREATE FUNCTION marketplace_forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'MP001', MESSAGE = format('%s on %s is forbidden', TG_OP, TG_TABLE_NAME);
END $$;

CREATE TRIGGER price_list_is_immutable BEFORE UPDATE OR DELETE ON marketplace_pricelist
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
CREATE TRIGGER split_rule_is_immutable BEFORE UPDATE OR DELETE ON marketplace_splitrule
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
CREATE TRIGGER model_terms_are_immutable BEFORE UPDATE OR DELETE ON marketplace_modelterms
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON marketplace_auditevent
  FOR EACH ROW EXECUTE FUNCTION marketplace_forbid();

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['pricelist', 'splitrule', 'modelterms', 'auditevent'] LOOP
    EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION marketplace_forbid()',
                   'marketplace_' || name);
  END LOOP;
END $$;

-- reverse:
DO $$
DECLARE
  t record;
BEGIN
  FOR t IN SELECT tgname, tgrelid::regclass AS on_table FROM pg_trigger WHERE tgfoid = 'marketplace_forbid'::regproc LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.on_table);
  END LOOP;
END $$;
DROP FUNCTION marketplace_forbid();
