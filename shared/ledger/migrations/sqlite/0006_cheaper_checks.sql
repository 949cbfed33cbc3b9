-- A list of more than two values in a CHECK is a temporary table, made for every row that is written: a range says the
-- same and costs nothing. A CHECK cannot be altered, so the table is made anew.
CREATE TABLE jobs_anew (
    id           INTEGER PRIMARY KEY,             -- deletion * 8 + slot
    deletion_id  INTEGER NOT NULL REFERENCES deletions (id) CHECK (deletion_id = id / 8),
    resource     TEXT    NOT NULL,
    state        INTEGER NOT NULL CHECK (state BETWEEN 0 AND 9),
    locks        INTEGER NOT NULL CHECK (locks = (state BETWEEN 2 AND 6)),
    queued       INTEGER NOT NULL CHECK (queued IN (0, 1)),
    held         INTEGER NOT NULL CHECK (held = (state = 1)),
    wants        TEXT,
    rank         INTEGER NOT NULL CHECK (rank BETWEEN 0 AND 2),
    due_at       INTEGER,
    cursor       INTEGER NOT NULL CHECK (cursor >= 0),
    phase        INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 2),
    touched      INTEGER NOT NULL CHECK (touched IN (0, 1)),
    attempts     INTEGER NOT NULL CHECK (attempts >= 0),
    unstarted    INTEGER NOT NULL CHECK (unstarted >= 0),
    quiet_after  INTEGER NOT NULL,
    ended_at     INTEGER,
    fence_epoch  INTEGER,
    fence_number INTEGER,
    deadline     INTEGER,
    wake_at      INTEGER,
    started      INTEGER NOT NULL CHECK (started IN (0, 1)),
    performer    INTEGER,
    out_at       TEXT,
    reason       TEXT,
    CHECK (queued = 0 OR (due_at IS NOT NULL AND state IN (0, 2) AND reason IS NULL)),
    CHECK ((wants IS NOT NULL) = queued),
    CHECK (state != 0 OR queued = (due_at IS NOT NULL)),
    CHECK (state != 1 OR (due_at IS NOT NULL AND reason IS NOT NULL)),
    CHECK (state != 2 OR (due_at IS NOT NULL AND queued = (reason IS NULL))),
    CHECK ((fence_number IS NOT NULL) = (state IN (3, 5))),
    CHECK ((fence_epoch IS NOT NULL) = (state IN (3, 5))),
    CHECK ((deadline IS NOT NULL) = (state IN (3, 5))),
    CHECK ((out_at IS NOT NULL) = (state IN (3, 5))),
    CHECK (state NOT BETWEEN 3 AND 5 OR wake_at IS NOT NULL),
    CHECK (state NOT IN (4, 6) OR reason IS NOT NULL),
    CHECK ((ended_at IS NOT NULL) = (state BETWEEN 7 AND 9))
) STRICT;
INSERT INTO jobs_anew SELECT * FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_anew RENAME TO jobs;
-- The lock: a job's state is the lock on its resource.
CREATE UNIQUE INDEX the_lock ON jobs (resource) WHERE locks;
-- In line or due, per instance; nothing that changes from step to step is in any index.
CREATE INDEX the_queue ON jobs (wants, rank, due_at, id) WHERE queued;
CREATE INDEX jobs_held ON jobs (id) WHERE held;
