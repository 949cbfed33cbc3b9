-- Overrides: one stage of one deletion may pass one belt. Few at a time; kept to be read afterwards.
CREATE TABLE one_shots (
    id         INTEGER PRIMARY KEY,
    good_until INTEGER NOT NULL,
    ended      INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)),   -- taken back, or of a stage that is over
    body       TEXT NOT NULL
) STRICT;
CREATE INDEX one_shots_good ON one_shots (id) WHERE NOT ended;
