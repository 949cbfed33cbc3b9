-- The job table on SQLite. Timestamps are microseconds since 1970; booleans are 0 and 1.

-- What this ledger is: one row.
CREATE TABLE ledger (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    ledger         TEXT    NOT NULL,
    epoch          INTEGER NOT NULL CHECK (epoch >= 1),
    day            TEXT    NOT NULL,
    revision       INTEGER NOT NULL DEFAULT 0,   -- grows with every pause
    last_fence     INTEGER NOT NULL DEFAULT 0,
    last_deletion  INTEGER NOT NULL DEFAULT 0,
    last_pause     INTEGER NOT NULL DEFAULT 0,
    pause_seq      INTEGER NOT NULL DEFAULT 0,   -- head of the chain of pauses
    pause_head     BLOB    NOT NULL CHECK (length(pause_head) = 32)
) STRICT;

CREATE TABLE resources (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    kind       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    presence   INTEGER NOT NULL CHECK (presence BETWEEN 0 AND 2),
    protected  INTEGER NOT NULL CHECK (protected IN (0, 1)),
    body       TEXT    NOT NULL,
    audit_seq  INTEGER NOT NULL,
    audit_head BLOB    NOT NULL CHECK (length(audit_head) = 32)
) STRICT;
CREATE INDEX resources_by_kind ON resources (kind, id);
CREATE INDEX resources_by_scope ON resources (scope, id);

-- Plans are kept by what they say: a record's own copy never changes.
CREATE TABLE plans (
    number INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    body   TEXT NOT NULL
) STRICT;

-- Small and hot: written at every decision. What never changes is in records.
CREATE TABLE deletions (
    id         INTEGER PRIMARY KEY,
    resource   TEXT    NOT NULL REFERENCES resources (id),
    plan       INTEGER NOT NULL REFERENCES plans (number),
    live       INTEGER NOT NULL CHECK (live = (status IN (0, 1))),
    status     INTEGER NOT NULL CHECK (status BETWEEN 0 AND 4),
    audit_seq  INTEGER NOT NULL,
    audit_head BLOB    NOT NULL CHECK (length(audit_head) = 32)
) STRICT;
CREATE UNIQUE INDEX one_live_record ON deletions (resource) WHERE live;
CREATE INDEX deletions_by_resource ON deletions (resource, id);

CREATE TABLE records (
    deletion_id INTEGER PRIMARY KEY REFERENCES deletions (id),
    kind        TEXT NOT NULL,
    scope       TEXT NOT NULL,
    body        TEXT NOT NULL
) STRICT;
CREATE INDEX records_by_kind ON records (kind, deletion_id);
CREATE INDEX records_by_scope ON records (scope, deletion_id);

-- states: 0 scheduled 1 held 2 ready 3 running 4 waiting 5 cancelling 6 parked 7 done 8 cancelled 9 rescued
CREATE TABLE jobs (
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
    CHECK (state NOT IN (3, 4, 5) OR wake_at IS NOT NULL),
    CHECK (state NOT IN (4, 6) OR reason IS NOT NULL),
    CHECK ((ended_at IS NOT NULL) = (state IN (7, 8, 9)))
) STRICT;
-- The lock: a job's state is the lock on its resource.
CREATE UNIQUE INDEX the_lock ON jobs (resource) WHERE locks;
-- In line or due, per instance; nothing that changes from step to step is in any index.
CREATE INDEX the_queue ON jobs (wants, rank, due_at, id) WHERE queued;
CREATE INDEX jobs_held ON jobs (wake_at, id) WHERE held;

CREATE TABLE holds (
    deletion_id INTEGER NOT NULL REFERENCES deletions (id),
    id          INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    PRIMARY KEY (deletion_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE waivers (
    deletion_id INTEGER NOT NULL REFERENCES deletions (id),
    number      INTEGER NOT NULL,                 -- in the order they were given
    body        TEXT    NOT NULL,
    PRIMARY KEY (deletion_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE targets (
    deletion_id INTEGER NOT NULL REFERENCES deletions (id),
    instance    TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    PRIMARY KEY (deletion_id, instance)
) STRICT;

-- What a step must know to be undone exactly: the first one written stays.
CREATE TABLE manifests (
    job_id INTEGER NOT NULL,                      -- deletion * 8 + the stage's slot
    step   INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (job_id, step)
) STRICT;

CREATE TABLE pauses (
    id   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE instances (
    instance  TEXT    PRIMARY KEY,
    pulsed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every decision, one event. The number is only the order of writing; a chain is (deletion_id, seq).
CREATE TABLE audit (
    number      INTEGER PRIMARY KEY,
    deletion_id INTEGER NOT NULL REFERENCES deletions (id),
    seq         INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE UNIQUE INDEX audit_chain ON audit (deletion_id, seq);

-- The chains of pauses and of resources.
CREATE TABLE ledger_audit (
    number INTEGER PRIMARY KEY,
    chain  TEXT    NOT NULL,                      -- 'pauses' or a resource
    seq    INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32),
    UNIQUE (chain, seq)
) STRICT;

CREATE TRIGGER audit_keeps_events BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_loses_no_event BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER audit_replaces_no_event BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE deletion_id = NEW.deletion_id AND seq = NEW.seq)
      OR EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER ledger_audit_replaces_no_event BEFORE INSERT ON ledger_audit
    WHEN EXISTS (SELECT 1 FROM ledger_audit WHERE chain = NEW.chain AND seq = NEW.seq)
      OR EXISTS (SELECT 1 FROM ledger_audit WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER ledger_audit_keeps_events BEFORE UPDATE ON ledger_audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER ledger_audit_loses_no_event BEFORE DELETE ON ledger_audit
    BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER records_never_change BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'a record never changes'); END;
CREATE TRIGGER plans_never_change BEFORE UPDATE ON plans
    BEGIN SELECT RAISE(ABORT, 'a plan that a record holds never changes'); END;
