-- Jobs that may begin their stage, as far as budgets go. Rows of what has begun mean nothing any more, and are removed.
CREATE TABLE admissions (
    job        INTEGER PRIMARY KEY,               -- deletion * 8 + slot
    bucket     INTEGER,                           -- where it is counted; NULL: approved, beside the budget
    good_until INTEGER NOT NULL
) STRICT;
CREATE INDEX admissions_by_age ON admissions (good_until);

-- How many were admitted, by the part of a day that begins at `bucket`.
CREATE TABLE admitted (
    kind   TEXT    NOT NULL,
    slot   INTEGER NOT NULL,
    scope  TEXT    NOT NULL,
    bucket INTEGER NOT NULL,
    count  INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (kind, slot, scope, bucket)
) STRICT, WITHOUT ROWID;

-- More than a budget lets begin: held as a whole, and never torn apart. `body` says why, and how it ended.
CREATE TABLE batches (
    id        INTEGER PRIMARY KEY,
    kind      TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    slot      INTEGER NOT NULL,
    frozen_at INTEGER NOT NULL,
    waits     INTEGER NOT NULL CHECK (waits IN (0, 1)),
    body      TEXT    NOT NULL
) STRICT;
CREATE INDEX batches_waiting ON batches (id) WHERE waits;

-- Who is in a batch that waits: members leave, and nobody joins.
CREATE TABLE batch_members (
    job   INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES batches (id)
) STRICT;
CREATE INDEX members_by_batch ON batch_members (batch, job);
