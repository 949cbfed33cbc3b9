-- What proves that a purge is complete: drawn up and signed once it is over. Append-only; it leaves with its record.
CREATE TABLE receipts (
    deletion_id INTEGER PRIMARY KEY,
    seq         INTEGER NOT NULL,                -- the event of the record's chain that it rests on
    head        BLOB    NOT NULL CHECK (length(head) = 32),
    body        TEXT    NOT NULL,
    key_id      TEXT    NOT NULL,
    signature   TEXT    NOT NULL
) STRICT;

CREATE TRIGGER receipts_never_change BEFORE UPDATE ON receipts
    BEGIN SELECT RAISE(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER receipts_go_archived BEFORE DELETE ON receipts
    WHEN NOT EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'a record goes only once it is archived'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER receipts_are_not_replaced BEFORE INSERT ON receipts
    WHEN EXISTS (SELECT 1 FROM receipts WHERE deletion_id = NEW.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER receipts_are_of_what_is_purged BEFORE INSERT ON receipts
    WHEN NOT EXISTS (SELECT 1 FROM jobs WHERE id = NEW.deletion_id * 8 + 3 AND state = 7)
      OR NOT EXISTS (SELECT 1 FROM audit
            WHERE deletion_id = NEW.deletion_id AND seq = NEW.seq AND hash = NEW.head)
    BEGIN SELECT RAISE(ABORT, 'a receipt is of a record whose purge is over, and rests on its chain'); END;

-- What was purged is archived with its receipt.
CREATE TRIGGER stubs_have_their_receipt BEFORE INSERT ON stubs
    WHEN EXISTS (SELECT 1 FROM jobs WHERE id = NEW.deletion_id * 8 + 3 AND state = 7)
     AND NOT EXISTS (SELECT 1 FROM receipts WHERE deletion_id = NEW.deletion_id)
    BEGIN SELECT RAISE(ABORT, 'what was purged is archived with its receipt'); END;
CREATE TRIGGER receipts_go_with_the_record BEFORE DELETE ON deletions
    WHEN EXISTS (SELECT 1 FROM stubs WHERE deletion_id = OLD.id)
    BEGIN DELETE FROM receipts WHERE deletion_id = OLD.id; END;
