-- What was signed of the audit chains; the same is kept outside the file. Append-only.
CREATE TABLE signed_checkpoints (
    number    INTEGER PRIMARY KEY CHECK (number >= 1),
    body      TEXT    NOT NULL,
    key_id    TEXT    NOT NULL,
    signature TEXT    NOT NULL
) STRICT;
CREATE TRIGGER signed_checkpoints_never_change BEFORE UPDATE ON signed_checkpoints
    BEGIN SELECT RAISE(ABORT, 'signed checkpoints are append-only'); END;
CREATE TRIGGER signed_checkpoints_are_kept BEFORE DELETE ON signed_checkpoints
    BEGIN SELECT RAISE(ABORT, 'signed checkpoints are append-only'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER signed_checkpoints_are_not_replaced BEFORE INSERT ON signed_checkpoints
    WHEN EXISTS (SELECT 1 FROM signed_checkpoints WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'signed checkpoints are append-only'); END;

-- How far each chain stands in them: what has grown since is found by comparing with its head. Only a hint for whoever
-- signs next; what was signed stands in the bodies.
CREATE TABLE attested (
    chain TEXT    NOT NULL PRIMARY KEY,           -- 'pauses', a resource, or 'd-' and the number of a deletion
    seq   INTEGER NOT NULL CHECK (seq >= 1)
) STRICT, WITHOUT ROWID;
