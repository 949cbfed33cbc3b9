-- What subsystems were asked of resources that have no record, and what they said: kept for an hour, and of no weight for
-- any decision. `id` is the number of the first of `looks` orders, which are numbered one after another.
CREATE TABLE surveys (
    id        bigint PRIMARY KEY,
    resource  text NOT NULL,
    begun_at  bigint NOT NULL,
    answer_by bigint NOT NULL,
    sent_at   bigint NOT NULL,
    looks     bigint NOT NULL,
    open      boolean NOT NULL,
    body      text NOT NULL
);
CREATE UNIQUE INDEX one_open_survey ON surveys (resource) WHERE open;
CREATE INDEX surveys_by_age ON surveys (begun_at);
