-- When a record ended: those that did so long ago are archived.
ALTER TABLE deletions ADD COLUMN ended_at bigint;
UPDATE deletions d SET ended_at = (SELECT max(j.ended_at) FROM jobs j WHERE j.id BETWEEN d.id * 8 AND d.id * 8 + 7)
    WHERE NOT live;
ALTER TABLE deletions ADD CONSTRAINT ends CHECK (live = (ended_at IS NULL));
CREATE INDEX deletions_ended ON deletions (ended_at, id) WHERE NOT live;

-- What stays of a record that was archived. Append-only.
CREATE TABLE stubs (
    deletion_id bigint   PRIMARY KEY,
    resource    text COLLATE "C" NOT NULL REFERENCES resources (id),
    status      smallint NOT NULL CHECK (status BETWEEN 2 AND 4),
    ended_at    bigint   NOT NULL,
    events      bigint   NOT NULL CHECK (events >= 1),
    head        bytea    NOT NULL CHECK (length(head) = 32),
    archived_at bigint   NOT NULL CHECK (archived_at > ended_at),
    file        text     NOT NULL,
    sha256      bytea    NOT NULL CHECK (length(sha256) = 32),
    key_id      text     NOT NULL,
    signature   text     NOT NULL
);
CREATE INDEX stubs_by_resource ON stubs (resource, deletion_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stubs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- These look into other tables. Where those are found is fixed, with temporary tables last: whoever may make one must
-- not be able to put it in the place of a real one.
DO $make$
BEGIN
    EXECUTE format($text$
        CREATE FUNCTION stub_fits() RETURNS trigger LANGUAGE plpgsql SET search_path = %1$I, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM ledger WHERE review IS NOT NULL) THEN
                RAISE EXCEPTION 'nothing is archived under review' USING ERRCODE = 'restrict_violation';
            END IF;
            IF NOT EXISTS (SELECT 1 FROM deletions d WHERE d.id = NEW.deletion_id AND NOT d.live
                    AND d.resource = NEW.resource AND d.status = NEW.status AND d.ended_at = NEW.ended_at
                    AND d.audit_seq = NEW.events AND d.audit_head = NEW.head)
                OR EXISTS (SELECT 1 FROM jobs j WHERE j.id BETWEEN NEW.deletion_id * 8 AND NEW.deletion_id * 8 + 7
                    AND j.ended_at IS NULL) THEN
                RAISE EXCEPTION 'a stub is of a record that is over, and says how it ended'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            -- What was rewritten since can then be told, whatever becomes of the file.
            IF NOT EXISTS (SELECT 1 FROM attested a
                    WHERE a.chain = 'd-' || NEW.deletion_id AND a.seq = NEW.events) THEN
                RAISE EXCEPTION 'a record is archived once a signed checkpoint holds the end of its chain'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END
        $$;
        CREATE FUNCTION only_archived() RETURNS trigger LANGUAGE plpgsql SET search_path = %1$I, pg_temp AS $$
        DECLARE
            whose bigint;
        BEGIN
            CASE TG_TABLE_NAME
                WHEN 'deletions' THEN whose := OLD.id;
                WHEN 'manifests' THEN whose := OLD.job_id / 8;
                ELSE whose := OLD.deletion_id;
            END CASE;
            IF NOT EXISTS (SELECT 1 FROM stubs s WHERE s.deletion_id = whose) THEN
                RAISE EXCEPTION '%% goes only once d-%% is archived', TG_TABLE_NAME, whose
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN OLD;
        END
        $$;
        -- With the rights of the tables' owner: whoever archives may remove a record, and none of its parts.
        CREATE FUNCTION go_whole() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = %1$I, pg_temp AS $$
        BEGIN
            DELETE FROM holds WHERE deletion_id = OLD.id;
            DELETE FROM waivers WHERE deletion_id = OLD.id;
            DELETE FROM targets WHERE deletion_id = OLD.id;
            DELETE FROM manifests WHERE job_id BETWEEN OLD.id * 8 AND OLD.id * 8 + 7;
            DELETE FROM jobs WHERE id BETWEEN OLD.id * 8 AND OLD.id * 8 + 7;
            DELETE FROM records WHERE deletion_id = OLD.id;
            DELETE FROM audit WHERE deletion_id = OLD.id;
            RETURN OLD;
        END
        $$;
    $text$, current_schema());
END
$make$;

CREATE TRIGGER stub_fits BEFORE INSERT ON stubs FOR EACH ROW EXECUTE FUNCTION stub_fits();

-- A record goes whole, and only once its stub is there. Holds go by themselves, too: when they are released. Triggers
-- of one event fire in the order of their names.
CREATE TRIGGER a_only_archived BEFORE DELETE ON deletions FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER b_go_whole BEFORE DELETE ON deletions FOR EACH ROW EXECUTE FUNCTION go_whole();
DROP TRIGGER append_only ON audit;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER only_archived BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER only_archived BEFORE DELETE ON records FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER only_archived BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER only_archived BEFORE DELETE ON waivers FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER only_archived BEFORE DELETE ON targets FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER only_archived BEFORE DELETE ON manifests FOR EACH ROW EXECUTE FUNCTION only_archived();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON deletions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON records FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON waivers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON targets FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON manifests FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
