-- Appending an event made a journal of its own: for a trigger that says ABORT, or a foreign key beside a trigger, SQLite
-- keeps a copy of each page that the statement touches, so that it can take back that statement alone. Nobody needs
-- that: an event that cannot be appended fails its transaction, and the triggers now say so themselves. That the event's
-- deletion is there is seen by the writer, which moves its head in the same transaction. A foreign key cannot be
-- dropped, so the table is made anew; its triggers go with it.
CREATE TABLE audit_anew (
    number      INTEGER PRIMARY KEY,
    deletion_id INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_anew SELECT number, deletion_id, seq, body, hash FROM audit ORDER BY number;
DROP TABLE audit;
ALTER TABLE audit_anew RENAME TO audit;
CREATE UNIQUE INDEX audit_chain ON audit (deletion_id, seq);
CREATE TRIGGER audit_keeps_events BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ROLLBACK, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_loses_no_event BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ROLLBACK, 'the audit trail is append-only'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER audit_replaces_no_event BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE deletion_id = NEW.deletion_id AND seq = NEW.seq)
      OR EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)
    BEGIN SELECT RAISE(ROLLBACK, 'the audit trail is append-only'); END;
