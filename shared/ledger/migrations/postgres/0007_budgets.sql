-- Jobs that may begin their stage, as far as budgets go. Rows of what has begun mean nothing any more, and are removed.
CREATE TABLE admissions (
    job        bigint PRIMARY KEY,                       -- deletion * 8 + slot
    bucket     bigint,                                   -- where it is counted; NULL: approved, beside the budget
    good_until bigint NOT NULL
);
CREATE INDEX admissions_by_age ON admissions (good_until);

-- How many were admitted, by the part of a day that begins at `bucket`.
CREATE TABLE admitted (
    kind   text COLLATE "C" NOT NULL,
    slot   smallint NOT NULL,
    scope  text COLLATE "C" NOT NULL,
    bucket bigint NOT NULL,
    count  bigint NOT NULL CHECK (count >= 0),
    PRIMARY KEY (kind, slot, scope, bucket)
);

-- More than a budget lets begin: held as a whole, and never torn apart. `body` says why, and how it ended.
CREATE TABLE batches (
    id        bigint PRIMARY KEY,
    kind      text COLLATE "C" NOT NULL,
    scope     text COLLATE "C" NOT NULL,
    slot      smallint NOT NULL,
    frozen_at bigint NOT NULL,
    waits     boolean NOT NULL,
    body      text NOT NULL
);
CREATE INDEX batches_waiting ON batches (id) WHERE waits;

-- Who is in a batch that waits: members leave, and nobody joins.
CREATE TABLE batch_members (
    job   bigint PRIMARY KEY,
    batch bigint NOT NULL REFERENCES batches (id)
);
CREATE INDEX members_by_batch ON batch_members (batch, job);
