-- What subsystems were asked of resources that have no record, and what they said: kept for an hour, and of no weight for
-- any decision. `id` is the number of the first of `looks` orders, which are numbered one after another.
CREATE TABLE surveys (
    id        INTEGER PRIMARY KEY,
    resource  TEXT    NOT NULL,
    begun_at  INTEGER NOT NULL,
    answer_by INTEGER NOT NULL,
    sent_at   INTEGER NOT NULL,
    looks     INTEGER NOT NULL,
    open      INTEGER NOT NULL CHECK (open IN (0, 1)),
    body      TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_open_survey ON surveys (resource) WHERE open;
CREATE INDEX surveys_by_age ON surveys (begun_at);
