from django.db import migrations

COMPOSITE_KEY = """
-- A review repeats its record's contributor, and this key keeps it true: the check `nobody_reviews_their_own_record`
-- then holds for whoever writes the row, whatever they claim.
ALTER TABLE datanets_review
    ADD CONSTRAINT review_names_the_true_contributor
    FOREIGN KEY (record_id, contributor_id) REFERENCES datanets_record (id, contributor_id);
"""

DROP_COMPOSITE_KEY = "ALTER TABLE datanets_review DROP CONSTRAINT review_names_the_true_contributor;"

KEY_OF_REPORTS = """
-- The same for reports: nobody decides on one of their own record by naming somebody else as its contributor.
ALTER TABLE datanets_report
    ADD CONSTRAINT report_names_the_true_contributor
    FOREIGN KEY (record_id, contributor_id) REFERENCES datanets_record (id, contributor_id);
"""

DROP_KEY_OF_REPORTS = "ALTER TABLE datanets_report DROP CONSTRAINT report_names_the_true_contributor;"

IMMUTABLE = """
CREATE FUNCTION datanets_versions_are_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a frozen version is never changed (% on %)', TG_OP, TG_TABLE_NAME USING ERRCODE = 'DN001';
END
$$;
-- But for what is not part of it: the note, which may be emptied, and statistics that quote rows erased since.
CREATE FUNCTION datanets_version_may_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - '{note,statistics}'::text[] <> to_jsonb(OLD) - '{note,statistics}'::text[]
        OR NEW.note NOT IN (OLD.note, '')
        OR NEW.statistics <> OLD.statistics AND NOT EXISTS (
            SELECT FROM datanets_record r LEFT JOIN datanets_recordbody b ON b.record_id = r.id
            WHERE r.datanet_id = OLD.datanet_id AND r.added_in <= OLD.number AND b.record_id IS NULL
              AND (r.removed_in IS NULL OR r.removed_in > OLD.number))
    THEN
        RAISE EXCEPTION 'a frozen version is never changed (% on %)', TG_OP, TG_TABLE_NAME USING ERRCODE = 'DN001';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER version_is_immutable BEFORE UPDATE ON datanets_version
    FOR EACH ROW EXECUTE FUNCTION datanets_version_may_forget();
CREATE TRIGGER version_is_kept BEFORE DELETE ON datanets_version
    FOR EACH ROW EXECUTE FUNCTION datanets_versions_are_immutable();
CREATE TRIGGER leader_map_is_immutable BEFORE UPDATE OR DELETE ON datanets_versionfollower
    FOR EACH ROW EXECUTE FUNCTION datanets_versions_are_immutable();

-- What a version counts on: a record's contributor, identity and leader, and the versions it was in.
CREATE FUNCTION datanets_record_facts_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.added_in IS NOT NULL THEN
            RAISE EXCEPTION 'record % is in a version and is never deleted', OLD.id USING ERRCODE = 'DN001';
        END IF;
        RETURN OLD;
    END IF;
    IF NEW.identity <> OLD.identity OR NEW.contributor_id <> OLD.contributor_id OR NEW.datanet_id <> OLD.datanet_id
        OR NEW.copy_of_id IS DISTINCT FROM OLD.copy_of_id
        OR (OLD.added_in IS NOT NULL AND NEW.added_in IS DISTINCT FROM OLD.added_in)
        OR (OLD.removed_in IS NOT NULL AND NEW.removed_in IS DISTINCT FROM OLD.removed_in)
        OR (OLD.added_in IS NOT NULL AND NEW.decided_by_id IS DISTINCT FROM OLD.decided_by_id)
    THEN
        RAISE EXCEPTION 'identity, contributor, leader and versions of record % stay', OLD.id USING ERRCODE = 'DN001';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER record_facts_stay BEFORE UPDATE OR DELETE ON datanets_record
    FOR EACH ROW EXECUTE FUNCTION datanets_record_facts_stay();
"""

RULES_STAY = """
CREATE FUNCTION datanets_rule_changes_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of rules is only added to (% on %)', TG_OP, TG_TABLE_NAME USING ERRCODE = 'DN001';
END
$$;
CREATE TRIGGER rule_history_is_append_only BEFORE UPDATE OR DELETE ON datanets_rulechange
    FOR EACH ROW EXECUTE FUNCTION datanets_rule_changes_stay();
"""

DROP_RULES_STAY = """
DROP TRIGGER rule_history_is_append_only ON datanets_rulechange;
DROP FUNCTION datanets_rule_changes_stay();
"""

DROP_IMMUTABLE = """
DROP TRIGGER record_facts_stay ON datanets_record;
DROP FUNCTION datanets_record_facts_stay();
DROP TRIGGER leader_map_is_immutable ON datanets_versionfollower;
DROP TRIGGER version_is_kept ON datanets_version;
DROP TRIGGER version_is_immutable ON datanets_version;
DROP FUNCTION datanets_version_may_forget();
DROP FUNCTION datanets_versions_are_immutable();
"""


class Migration(migrations.Migration):
    dependencies = [("datanets", "0001_initial")]

    operations = [
        migrations.RunSQL(COMPOSITE_KEY, DROP_COMPOSITE_KEY),
        migrations.RunSQL(KEY_OF_REPORTS, DROP_KEY_OF_REPORTS),
        migrations.RunSQL(IMMUTABLE, DROP_IMMUTABLE),
        migrations.RunSQL(RULES_STAY, DROP_RULES_STAY),
    ]
