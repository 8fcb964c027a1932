-- An operator model (engine embedding) was shaped by no Datanet: nothing of its charges goes to data, curators or the owners of
-- Datanets, and no training run binds it. Rules are immutable, and no model becomes or ceases to be one, so it stays true.

CREATE FUNCTION marketplace_operator_model() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.engine <> OLD.engine AND 'embedding' IN (NEW.engine, OLD.engine) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'operator_model_stays_one',
      MESSAGE = format('model %s cannot change its engine from %s to %s', NEW.id, OLD.engine, NEW.engine);
  END IF;
  IF NEW.engine = 'embedding' AND EXISTS (SELECT FROM marketplace_splitrule r WHERE r.id = NEW.split_rule_id
                                          AND r.data_bp + r.curation_bp + r.owner_bp > 0) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'operator_model_pays_no_data',
      MESSAGE = format('no Datanet shaped model %s, and its rule has a part for one', NEW.id);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER operator_model_pays_no_data BEFORE INSERT OR UPDATE OF engine, split_rule_id ON marketplace_listedmodel
  FOR EACH ROW EXECUTE FUNCTION marketplace_operator_model();

CREATE FUNCTION marketplace_operator_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM marketplace_listedmodel m WHERE m.id = NEW.model_id AND m.engine = 'embedding') THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'operator_model_binds_no_version',
      MESSAGE = format('no training run binds the operator model %s', NEW.model_id);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER operator_model_binds_no_version BEFORE INSERT OR UPDATE OF model_id ON marketplace_trainingrun
  FOR EACH ROW EXECUTE FUNCTION marketplace_operator_run();

CREATE FUNCTION marketplace_operator_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.training_run_id IS NULL) <> EXISTS (SELECT FROM marketplace_listedmodel m
                                              WHERE m.id = NEW.model_id AND m.engine = 'embedding') THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'only_operator_versions_have_no_run',
      MESSAGE = format('version %s of model %s has no training run, or should have none', NEW.number, NEW.model_id);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER only_operator_versions_have_no_run BEFORE INSERT OR UPDATE OF model_id, training_run_id
  ON marketplace_modelversion FOR EACH ROW EXECUTE FUNCTION marketplace_operator_version();

-- reverse:
DROP TRIGGER only_operator_versions_have_no_run ON marketplace_modelversion;
DROP TRIGGER operator_model_binds_no_version ON marketplace_trainingrun;
DROP TRIGGER operator_model_pays_no_data ON marketplace_listedmodel;
DROP FUNCTION marketplace_operator_version(), marketplace_operator_run(), marketplace_operator_model();
