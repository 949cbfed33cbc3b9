-- The job table on PostgreSQL. Timestamps are microseconds since 1970. Ids and names compare by bytes, as in Rust.

-- What this ledger is: one row.
CREATE TABLE ledger (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    ledger     text    NOT NULL,
    epoch      integer NOT NULL CHECK (epoch >= 1),
    day        text    NOT NULL,
    revision   bigint  NOT NULL DEFAULT 0,               -- grows with every pause
    created    bigint  NOT NULL,
    pause_seq  bigint  NOT NULL DEFAULT 0,               -- head of the chain of pauses
    pause_head bytea   NOT NULL CHECK (length(pause_head) = 32)
);

-- One number of the ledger's fences, by the thousand: a batch takes one block, so that its numbers are contiguous.
CREATE SEQUENCE fence INCREMENT BY 1024 START WITH 1;
CREATE SEQUENCE deletion_id;

CREATE TABLE resources (
    id         text COLLATE "C" PRIMARY KEY,
    kind       text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    presence   smallint NOT NULL CHECK (presence BETWEEN 0 AND 2),   -- registered, tombstone, recycled
    protected  boolean  NOT NULL,
    body       text     NOT NULL,
    audit_seq  bigint   NOT NULL,
    audit_head bytea    NOT NULL CHECK (length(audit_head) = 32)
) WITH (fillfactor = 80);
CREATE INDEX resources_by_kind ON resources (kind, id);
CREATE INDEX resources_by_scope ON resources (scope, id);

-- Plans are kept by what they say: a record's own copy never changes.
CREATE TABLE plans (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    body   text  NOT NULL
);

-- Small and hot: written at every decision. What is large and never changes is in records.
CREATE TABLE deletions (
    id         bigint   PRIMARY KEY,
    resource   text COLLATE "C" NOT NULL REFERENCES resources (id),
    plan       bytea    NOT NULL REFERENCES plans (digest),
    kind       text COLLATE "C" NOT NULL,
    scope      text COLLATE "C" NOT NULL,
    live       boolean  NOT NULL,
    status     smallint NOT NULL CHECK (status BETWEEN 0 AND 4),
    audit_seq  bigint   NOT NULL,
    audit_head bytea    NOT NULL CHECK (length(audit_head) = 32),
    CHECK (live = (status IN (0, 1)))                    -- live, restoring; cancelled, recycled, rescued
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX one_live_record ON deletions (resource) WHERE live;
CREATE INDEX deletions_by_resource ON deletions (resource, id);
CREATE INDEX deletions_by_scope ON deletions (scope, id);
CREATE INDEX deletions_by_kind ON deletions (kind, id);
CREATE INDEX deletions_by_status ON deletions (status, id);

CREATE TABLE records (
    deletion_id bigint PRIMARY KEY REFERENCES deletions (id),
    body        text   NOT NULL
);

-- One row per job. A column that a step changes is in no index and in no predicate of one, so that going from step to
-- step stays within the page (a heap-only update); half of each page is left free for that.
CREATE TABLE jobs (
    id           bigint   PRIMARY KEY,                   -- deletion * 8 + slot
    deletion_id  bigint   NOT NULL CHECK (deletion_id = id / 8),
    resource     text COLLATE "C" NOT NULL,
    -- 0 scheduled 1 held 2 ready 3 running 4 waiting 5 cancelling 6 parked 7 done 8 cancelled 9 rescued
    state        smallint NOT NULL CHECK (state BETWEEN 0 AND 9),
    locks        boolean  NOT NULL,
    queued       boolean  NOT NULL,
    held         boolean  NOT NULL,
    wants        text COLLATE "C",
    rank         smallint NOT NULL CHECK (rank BETWEEN 0 AND 2),
    due_at       bigint,
    cursor       smallint NOT NULL CHECK (cursor >= 0),
    phase        smallint NOT NULL CHECK (phase BETWEEN 0 AND 2),
    touched      boolean  NOT NULL,
    attempts     smallint NOT NULL CHECK (attempts >= 0),
    unstarted    smallint NOT NULL CHECK (unstarted >= 0),
    quiet_after  bigint   NOT NULL,
    ended_at     bigint,
    fence_epoch  integer,
    fence_number bigint,
    deadline     bigint,
    wake_at      bigint,
    started      boolean  NOT NULL,
    performer    bigint,
    out_at       text COLLATE "C",
    reason       text,
    CONSTRAINT state_locks CHECK (locks = (state BETWEEN 2 AND 6)),
    CONSTRAINT state_held CHECK (held = (state = 1)),
    CONSTRAINT state_queued CHECK (
        queued = ((state = 0 AND due_at IS NOT NULL) OR (state = 2 AND reason IS NULL))),
    CONSTRAINT queued_in_a_line CHECK ((wants IS NOT NULL) = queued),
    CONSTRAINT state_due CHECK (due_at IS NOT NULL OR state NOT IN (1, 2)),
    CONSTRAINT state_order CHECK (
        (state IN (3, 5)) = (fence_number IS NOT NULL) AND (state IN (3, 5)) = (fence_epoch IS NOT NULL)
        AND (state IN (3, 5)) = (deadline IS NOT NULL) AND (state IN (3, 5)) = (out_at IS NOT NULL)
        AND (state IN (3, 5) OR (performer IS NULL AND NOT started))),
    CONSTRAINT state_wakes CHECK (wake_at IS NOT NULL OR state NOT IN (3, 4, 5)),
    CONSTRAINT state_reason CHECK (reason IS NOT NULL OR state NOT IN (1, 4, 6)),
    CONSTRAINT state_ended CHECK ((ended_at IS NOT NULL) = (state BETWEEN 7 AND 9))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
-- The lock: a job's state is the lock on its resource. Also how orders out, leases and back-offs are found: they are
-- few, because credit bounds them.
CREATE UNIQUE INDEX the_lock ON jobs (resource) WHERE locks;
-- In line or due, per instance.
CREATE INDEX the_queue ON jobs (wants, rank, due_at, id) WHERE queued;
CREATE INDEX jobs_held ON jobs (id) WHERE held;

CREATE TABLE holds (
    deletion_id bigint NOT NULL REFERENCES deletions (id),
    id          bigint NOT NULL,
    body        text   NOT NULL,
    PRIMARY KEY (deletion_id, id)
);

CREATE TABLE waivers (
    deletion_id bigint NOT NULL REFERENCES deletions (id),
    number      bigint GENERATED ALWAYS AS IDENTITY,     -- in the order they were given
    body        text   NOT NULL,
    PRIMARY KEY (deletion_id, number)
);

CREATE TABLE targets (
    deletion_id bigint NOT NULL REFERENCES deletions (id),
    instance    text COLLATE "C" NOT NULL,
    body        text   NOT NULL,
    PRIMARY KEY (deletion_id, instance)
);

-- What a step must know to be undone exactly: the first one written stays.
CREATE TABLE manifests (
    job_id bigint   NOT NULL,                            -- deletion * 8 + the stage's slot
    step   smallint NOT NULL,
    body   text     NOT NULL,
    PRIMARY KEY (job_id, step)
);

CREATE TABLE pauses (
    id     bigint  PRIMARY KEY,
    body   text    NOT NULL,
    lifted boolean NOT NULL DEFAULT false
);
CREATE INDEX pauses_in_force ON pauses (id) WHERE NOT lifted;

CREATE TABLE instances (
    instance  text COLLATE "C" PRIMARY KEY,
    pulsed_at bigint NOT NULL
) WITH (fillfactor = 50);

-- Every decision, one event.
CREATE TABLE audit (
    deletion_id bigint NOT NULL,
    seq         bigint NOT NULL,
    body        text   NOT NULL,
    hash        bytea  NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (deletion_id, seq)
);

-- The chains of pauses and of resources.
CREATE TABLE ledger_audit (
    chain text COLLATE "C" NOT NULL,                     -- 'pauses' or a resource
    seq   bigint NOT NULL,
    body  text   NOT NULL,
    hash  bytea  NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (chain, seq)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_changes BEFORE UPDATE ON records
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_changes BEFORE UPDATE ON plans
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER first_one_stays BEFORE UPDATE ON manifests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- All that the scheduler sees: what is in line, or becomes due at due_at. Whoever reads it asks line by line with a
-- bound on due_at, which the queue index answers without touching what is not due.
CREATE VIEW due_jobs AS SELECT id, wants, rank, due_at FROM jobs WHERE queued;
