-- What a person has to know of now. Ended ones are kept for a month.
CREATE TABLE alarms (
    id        bigint PRIMARY KEY,
    key       text COLLATE "C" NOT NULL,                 -- what makes it the same one
    owner     text COLLATE "C" NOT NULL,                 -- the process that says it of itself; '': seen in this database
    raised_at bigint NOT NULL,
    seen_at   bigint NOT NULL,                           -- when its owner said so last
    ended_at  bigint,
    body      text   NOT NULL,
    seen_by   text                                       -- who has acknowledged it, when, and why
);
CREATE UNIQUE INDEX alarms_open ON alarms (key) WHERE ended_at IS NULL;
CREATE INDEX alarms_ended ON alarms (ended_at, id) WHERE ended_at IS NOT NULL;

-- What was told of what by which route. Who tells it has it until lease_until.
CREATE TABLE tellings (
    what        text COLLATE "C" NOT NULL,               -- 'alarm/17', 'digest/2026-12-01'
    route       text COLLATE "C" NOT NULL,
    tries       bigint NOT NULL,
    failures    integer NOT NULL,
    tried_at    bigint NOT NULL,
    lease_until bigint,
    phase       text,
    told_at     bigint,
    error       text,
    PRIMARY KEY (what, route),
    CHECK ((phase IS NULL) = (told_at IS NULL))
);

-- When somebody began to look for alarms last, and whose findings were noted last: one row.
CREATE TABLE alarm_rounds (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    begun_at bigint NOT NULL,
    noted_at bigint NOT NULL
);
INSERT INTO alarm_rounds (begun_at, noted_at) VALUES (0, 0);

-- Digests of the last weeks, by their day.
CREATE TABLE digests (
    day     text COLLATE "C" PRIMARY KEY,                -- '2026-12-01'
    made_at bigint NOT NULL,
    body    text   NOT NULL
);

-- Records that may be overdue: those of credentials, and those that say by when they must be gone. Some others that only
-- look so are sorted out when they are read. A record never changes, so this costs nothing but its making.
CREATE INDEX records_watched ON records (deletion_id)
    WHERE strpos(body, '"gone_by":"') > 0 OR strpos(body, '"criticality":"credential"') > 0;
