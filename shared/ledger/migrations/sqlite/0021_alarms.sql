-- What a person has to know of now. Ended ones are kept for a month.
CREATE TABLE alarms (
    id        INTEGER PRIMARY KEY,
    key       TEXT    NOT NULL,                   -- what makes it the same one
    owner     TEXT    NOT NULL,                   -- the process that says it of itself; '': seen in this file
    raised_at INTEGER NOT NULL,
    seen_at   INTEGER NOT NULL,                   -- when its owner said so last
    ended_at  INTEGER,
    body      TEXT    NOT NULL,
    seen_by   TEXT                                -- who has acknowledged it, when, and why
) STRICT;
CREATE UNIQUE INDEX alarms_open ON alarms (key) WHERE ended_at IS NULL;
CREATE INDEX alarms_ended ON alarms (ended_at, id) WHERE ended_at IS NOT NULL;

-- What was told of what by which route. Who tells it has it until lease_until.
CREATE TABLE tellings (
    what        TEXT    NOT NULL,                 -- 'alarm/17', 'digest/2026-12-01'
    route       TEXT    NOT NULL,
    tries       INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    tried_at    INTEGER NOT NULL,
    lease_until INTEGER,
    phase       TEXT,
    told_at     INTEGER,
    error       TEXT,
    PRIMARY KEY (what, route),
    CHECK ((phase IS NULL) = (told_at IS NULL))
) STRICT, WITHOUT ROWID;

-- When somebody began to look for alarms last, and whose findings were noted last: one row.
CREATE TABLE alarm_rounds (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    begun_at INTEGER NOT NULL,
    noted_at INTEGER NOT NULL
) STRICT;
INSERT INTO alarm_rounds (one, begun_at, noted_at) VALUES (1, 0, 0);

-- Digests of the last weeks, by their day.
CREATE TABLE digests (
    day     TEXT    NOT NULL PRIMARY KEY,         -- '2026-12-01'
    made_at INTEGER NOT NULL,
    body    TEXT    NOT NULL
) STRICT;

-- Records that may be overdue: those of credentials, and those that say by when they must be gone. Some others that only
-- look so are sorted out when they are read. A record never changes, so this costs nothing but its making.
CREATE INDEX records_watched ON records (deletion_id)
    WHERE instr(body, '"gone_by":"') > 0 OR instr(body, '"criticality":"credential"') > 0;
