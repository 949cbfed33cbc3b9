-- When a record ended: those that did so long ago are archived.
ALTER TABLE deletions ADD COLUMN ended_at INTEGER;
UPDATE deletions SET ended_at = (SELECT max(j.ended_at) FROM jobs AS j WHERE j.id >= deletions.id * 8
    AND j.id < deletions.id * 8 + 8) WHERE NOT live;
CREATE INDEX deletions_ended ON deletions (ended_at, id) WHERE NOT live;
-- Whoever removes a record has its jobs looked for by the reference.
CREATE INDEX jobs_of_deletion ON jobs (deletion_id);

-- What stays of a record that was archived. Append-only.
CREATE TABLE stubs (
    deletion_id INTEGER PRIMARY KEY,
    resource    TEXT    NOT NULL REFERENCES resources (id),
    status      INTEGER NOT NULL CHECK (status BETWEEN 2 AND 4),
    ended_at    INTEGER NOT NULL,
    events      INTEGER NOT NULL CHECK (events >= 1),
    head        BLOB    NOT NULL CHECK (length(head) = 32),
    archived_at INTEGER NOT NULL CHECK (archived_at > ended_at),
    file        TEXT    NOT NULL,
    sha256      BLOB    NOT NULL CHECK (length(sha256) = 32),
    key_id      TEXT    NOT NULL,
    signature   TEXT    NOT NULL
) STRICT;
CREATE INDEX stubs_by_resource ON stubs (resource, deletion_id);

CREATE TRIGGER stubs_never_change BEFORE UPDATE ON stubs
    BEGIN SELECT RAISE(ABORT, 'stubs are append-only'); END;
CREATE TRIGGER stubs_are_kept BEFORE DELETE ON stubs
    BEGIN SELECT RAISE(ABORT, 'stubs are append-only'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER stubs_are_not_replaced BEFORE INSERT ON stubs
    WHEN EXISTS (SELECT 1 FROM stubs WHERE deletion_id = NEW.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'stubs are append-only'); END;
CREATE TRIGGER stubs_are_of_what_is_over BEFORE INSERT ON stubs
    WHEN NOT EXISTS (SELECT 1 FROM deletions AS d WHERE d.id = NEW.deletion_id AND NOT d.live
            AND d.resource = NEW.resource AND d.status = NEW.status AND d.ended_at = NEW.ended_at
            AND d.audit_seq = NEW.events AND d.audit_head = NEW.head)
      OR EXISTS (SELECT 1 FROM jobs WHERE deletion_id = NEW.deletion_id AND ended_at IS NULL)
    BEGIN SELECT RAISE(ABORT, 'a stub is of a record that is over, and says how it ended'); END;
-- What was rewritten since can then be told, whatever becomes of the file.
CREATE TRIGGER stubs_are_of_what_is_signed BEFORE INSERT ON stubs
    WHEN NOT EXISTS (SELECT 1 FROM attested WHERE chain = 'd-' || NEW.deletion_id AND seq = NEW.events)
    BEGIN SELECT RAISE(ABORT, 'a record is archived once a signed checkpoint holds the end of its chain'); END;
CREATE TRIGGER no_stubs_under_review BEFORE INSERT ON stubs
    WHEN EXISTS (SELECT 1 FROM ledger WHERE review IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'nothing is archived under review'); END;

-- A record goes whole, and only once its stub is there. Holds go by themselves, too: when they are released.
CREATE TRIGGER deletions_go_archived BEFORE DELETE ON deletions
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
CREATE TRIGGER deletions_go_whole BEFORE DELETE ON deletions
    WHEN EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.id)
    BEGIN
        DELETE FROM holds WHERE deletion_id = OLD.id;
        DELETE FROM waivers WHERE deletion_id = OLD.id;
        DELETE FROM targets WHERE deletion_id = OLD.id;
        DELETE FROM manifests WHERE job_id >= OLD.id * 8 AND job_id < OLD.id * 8 + 8;
        DELETE FROM jobs WHERE id >= OLD.id * 8 AND id < OLD.id * 8 + 8;
        DELETE FROM records WHERE deletion_id = OLD.id;
        DELETE FROM audit WHERE deletion_id = OLD.id;
    END;
DROP TRIGGER audit_loses_no_event;
CREATE TRIGGER audit_loses_no_event BEFORE DELETE ON audit
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only: this record is not archived'); END;
CREATE TRIGGER records_go_archived BEFORE DELETE ON records
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
CREATE TRIGGER jobs_go_archived BEFORE DELETE ON jobs
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
CREATE TRIGGER waivers_go_archived BEFORE DELETE ON waivers
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
CREATE TRIGGER targets_go_archived BEFORE DELETE ON targets
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
CREATE TRIGGER manifests_go_archived BEFORE DELETE ON manifests
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.job_id / 8)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
